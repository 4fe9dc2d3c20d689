"""Every read that a training on a source makes fails once, or its file is taken away, changed or cut short just then: the steps
before it stand, and it is gone on with to the bit."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.data import as_source
from chainrule.errors import DataError

X = np.random.default_rng(0).normal(size=(150, 4)).astype("f")
Y = (X[:, 0] > 0).astype(int)
SMALL = 1200  # bytes of a window: 48 rows


def broken(path: str) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO), path)


def vanished(path: str) -> None:
    os.remove(path)


def cut(path: str) -> None:
    os.truncate(path, os.path.getsize(path) * 2 // 3)


def changed(path: str) -> None:
    """Other rows, of the same number and types."""
    if path.endswith(".parquet"):
        files = pytest.importorskip("pyarrow.parquet")
        size = files.read_metadata(path).row_group(0).num_rows
        files.write_table(
            files.read_table(path, partitioning=None).take(list(range(75))[::-1]), path, row_group_size=size
        )
    elif path.endswith(".png"):
        pytest.importorskip("PIL.Image").fromarray(np.full((2, 2, 3), 77, np.uint8)).save(path)
    else:
        with open(path, "r+b") as file:
            head, *rows = file.readlines()
            file.seek(len(head))
            file.writelines(rows[::-1])


class Failing:
    """Something befalls a file of a folder just before its n-th read, from 0; -1: never."""

    def __init__(self, folder: Path, at: int, befalls: Callable[[str], None] = broken) -> None:
        self.folder, self.at, self.count, self.befalls = str(folder), at, 0, befalls

    def __call__(self, real: Callable[..., Any], path: object, *given: Any, **more: Any) -> Any:
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self.folder):
            self.count += 1
            if self.count == self.at + 1:
                self.befalls(os.fspath(path))
        return real(*given, **more)


class File:
    """An open file, whose reads are counted."""

    def __init__(self, failing: Failing, path: object, file: Any) -> None:
        self._failing, self._path, self._file = failing, path, file

    def __enter__(self) -> File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._file, name)
        if name == "iter_batches":
            return lambda *given, **more: self._each(found(*given, **more))
        if name not in ("read", "seek", "read_row_group"):
            return found
        return lambda *given, **more: self._failing(found, self._path, *given, **more)

    def _each(self, batches: Iterator[Any]) -> Iterator[Any]:
        with suppress(StopIteration):
            while True:
                yield self._failing(next, self._path, batches)


@contextmanager
def failing(
    folder: Path, at: int, monkeypatch: pytest.MonkeyPatch, befalls: Callable[[str], None] = broken
) -> Iterator[Failing]:
    """Inside the block, opening, reading and asking for the state of files goes through a count."""
    faults = Failing(folder, at, befalls)

    def counted(real: Callable[..., Any], wraps: bool) -> Callable[..., Any]:
        def call(path: Any, *given: Any, **more: Any) -> Any:
            found = faults(real, path, path, *given, **more)
            ours = wraps and isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(str(folder))
            return File(faults, path, found) if ours else found

        return call

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", counted(builtins.open, True))
        patch.setattr(os, "stat", counted(os.stat, False))
        parquet = pytest.importorskip("pyarrow.parquet")
        patch.setattr(parquet, "ParquetFile", counted(parquet.ParquetFile, True))
        yield faults


WRITTEN: set[Path] = set()


def _first(folder: Path) -> bool:
    """Is nothing there yet? Known without asking the system."""
    found = folder not in WRITTEN
    WRITTEN.add(folder)
    return found


def parquet(folder: Path) -> Any:
    pa, files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    if _first(folder):
        table = pa.table({**{f"x{i}": X[:, i] for i in range(4)}, "y": Y})
        for number in range(2):
            files.write_table(table.slice(75 * number, 75), folder / f"{number}.parquet", row_group_size=25)
    return as_source(folder, target="y", buffer=SMALL)


def batches(folder: Path) -> Any:
    """Parquet files, whose row groups are too large for a window."""
    pa, files = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    if _first(folder):
        table = pa.table({**{f"x{i}": X[:, i] for i in range(4)}, "y": Y})
        for number in range(2):
            files.write_table(table.slice(75 * number, 75), folder / f"{number}.parquet")
    return as_source(folder, target="y", buffer=SMALL)


def text(folder: Path) -> Any:
    pytest.importorskip("polars")
    if _first(folder):
        for number in range(2):
            rows = [",".join(map(str, [*x, y])) for x, y in zip(X.tolist(), Y, strict=True)][75 * number :][:75]
            (folder / f"{number}.csv").write_text("\n".join(["a,b,c,d,y", *rows]) + "\n")
    return as_source(folder, target="y", buffer=SMALL)


def images(folder: Path) -> Any:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for row in range(20 if _first(folder) else 0):
        (folder / f"class-{row % 2}").mkdir(exist_ok=True)
        image.fromarray((np.ones((2, 2, 3)) * row * 10).astype(np.uint8)).save(
            folder / f"class-{row % 2}" / f"{row}.png"
        )
    return as_source(folder, buffer=SMALL // 4)


def trainer(inputs: int) -> cr.Trainer:
    cr.manual_seed(0)
    model = cr.nn.Sequential(cr.nn.Flatten(), cr.nn.Linear(inputs, 6), cr.nn.Dropout(0.2), cr.nn.Linear(6, 2))
    return cr.Trainer(model, F.cross_entropy, "adam", lr=0.05)


def fit(made: cr.Trainer, source: Any, **more: Any) -> cr.Trainer:
    made.fit(source, epochs=2, batch_size=4, progress=False, **more)
    return made


def result(made: cr.Trainer) -> tuple[bytes, list[float]]:
    return b"".join(h._node.value.tobytes() for h in made.session.handles()), made.history["loss"]


@pytest.mark.parametrize("make", [parquet, batches, text, images])
def test_every_read_fails_once(make: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = 12 if make is images else 4
    expected = result(fit(trainer(inputs), make(tmp_path)))
    with failing(tmp_path, -1, monkeypatch) as whole:
        assert result(fit(trainer(inputs), make(tmp_path))) == expected
    stopped = 0
    for at in range(0, whole.count, max(1, whole.count // 9)):
        made = trainer(inputs)
        before = made.model[1].weight.detach().numpy().copy()
        with failing(tmp_path, at, monkeypatch), pytest.raises(DataError, match=r"cannot be read"):
            fit(made, make(tmp_path))
        if made.position is None or not made.position.done:
            np.testing.assert_array_equal(made.model[1].weight.detach().numpy(), before)
            assert result(fit(trainer(inputs), make(tmp_path))) == expected
            continue
        stopped += 1
        assert result(fit(made, make(tmp_path), resume=True)) == expected
    assert stopped


@pytest.mark.parametrize("befalls", [vanished, changed, cut])
@pytest.mark.parametrize("make", [parquet, batches, text, images])
def test_what_befalls_a_file_under_way(
    make: Callable[[Path], Any], befalls: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    pytestconfig: pytest.Config,
) -> None:  # fmt: skip
    inputs, source = 12 if make is images else 4, make(tmp_path)
    kept = {path: (path.read_bytes(), path.stat()) for path in tmp_path.rglob("*") if path.is_file()}
    with failing(tmp_path, -1, monkeypatch) as whole:
        expected = result(fit(trainer(inputs), source))
    points = range(whole.count) if pytestconfig.getoption("--hunts") else [whole.count // 3]
    for at in points:
        made, found = trainer(inputs), None
        try:
            with failing(tmp_path, at, monkeypatch, befalls):
                fit(made, source)
        except DataError as error:
            found = str(error)
        for path, (data, state) in kept.items():
            path.write_bytes(data)
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        if found is None:  # it was read before, or is open still
            assert result(made) == expected, at
            continue
        assert str(tmp_path) in found or "the data is not what it was" in found
        begun = made.position is not None and made.position.done
        assert result(fit(made if begun else trainer(inputs), source, resume=bool(begun))) == expected, at
