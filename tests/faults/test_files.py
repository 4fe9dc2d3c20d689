"""Every call to the system that saving and caching make fails once: what stood there stands, or what is new."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.compiler.runtime import native
from chainrule.errors import UnwritableFileError
from chainrule.files.writing import append, write_whole
from chainrule.training import load_file, save_file
from tests.faults.injection import Faults, ended, injected

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="faults are put into the calls of POSIX")

HOW = [("fails", errno.ENOSPC), ("fails", errno.EIO), ("fails afterwards", errno.EIO), ("short", errno.ENOSPC)]
DEADLY = ["dies", "dies afterwards"]
MOST = 200  # calls that no file needs


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def each(
    prepare: Callable[[], None], act: Callable[[], None], check: Callable[[bool | None], None], how: str, code: int
) -> int:
    """Let every call fail in turn; gives how many there were. `check` hears whether it worked (None: nobody knows)."""
    for number in range(MOST):
        prepare()
        faults = Faults(number, how, code)
        worked: bool | None = None
        if how in DEADLY:
            status = ended(act, faults)
            assert status in (0, -9)
            over = status == 0
        else:
            with injected(faults):
                try:
                    act()
                    worked = True
                except UnwritableFileError:
                    worked = False
            over = not faults.happened
        check(worked)
        if over:
            return number
    raise AssertionError("it never ends")


@pytest.mark.parametrize(("how", "code"), [*HOW, *((how, 0) for how in DEADLY)])
@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("old", [b"old" * 1000, None])
def test_a_file_is_the_old_one_or_the_new_one(
    tmp_path: Path, how: str, code: int, durable: bool, old: bytes | None
) -> None:
    path, new = tmp_path / "a", b"new" * 2000

    def prepare() -> None:
        for left in tmp_path.iterdir():
            left.unlink()
        if old is not None:
            path.write_bytes(old)

    def check(worked: bool | None) -> None:
        found = contents(tmp_path)
        assert found.get("a") in (old, new)
        if worked is not None:
            assert worked <= (found.get("a") == new)  # who hears that it worked finds it
            assert set(found) <= {"a"}
        write_whole(tmp_path / "b", b"next")  # the next success leaves nothing of it
        assert set(contents(tmp_path)) <= {"a", "b"}

    assert each(prepare, lambda: write_whole(path, new, durable), check, how, code) > 8


@pytest.mark.parametrize(("how", "code"), HOW)
def test_what_is_appended_is_there_whole_or_not_at_all(tmp_path: Path, how: str, code: int) -> None:
    path = tmp_path / "a"

    def check(worked: bool | None) -> None:
        found = path.read_bytes()
        assert found in (b"old", b"old and new")
        assert worked is None or worked <= (found == b"old and new")

    assert each(lambda: void(path.write_bytes(b"old")), lambda: append(path, b" and new"), check, how, code) >= 3


def void(_: object) -> None:
    """Nothing."""


@pytest.mark.parametrize(("how", "code"), [*HOW, *((how, 0) for how in DEADLY)])
def test_tensors_are_the_old_ones_or_the_new_ones(tmp_path: Path, how: str, code: int) -> None:
    path = tmp_path / "a.safetensors"
    old, new = ({"w": cr.tensor(np.full((50, 7), v)), "v": cr.tensor([v])} for v in (1.0, 2.0))

    def check(worked: bool | None) -> None:
        tensors, meta = load_file(path)
        assert {(float(t.min()), float(t.max())) for t in tensors.values()} == {(meta, meta)}
        assert worked is None or worked <= (meta == 2.0)

    assert each(lambda: save_file(old, path, 1.0), lambda: save_file(new, path, 2.0), check, how, code) > 8


def trainer() -> cr.Trainer:
    cr.manual_seed(0)
    model = cr.nn.Sequential(cr.nn.Linear(4, 8), cr.nn.Dropout(0.2), cr.nn.Linear(8, 2))
    return cr.Trainer(model, F.cross_entropy, cr.optim.Adam(model.parameters(), lr=0.01))


X = np.random.default_rng(0).normal(size=(60, 4)).astype("f")
Y = (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize(("how", "code"), HOW)
def test_a_training_is_the_old_one_or_the_new_one_and_goes_on_to_the_same_bits(
    tmp_path: Path, how: str, code: int
) -> None:
    path, mine = tmp_path / "a", trainer()
    mine.fit(X, Y, epochs=1, batch_size=20, progress=False)
    mine.save(path)
    old = path.read_bytes()
    mine.fit(X, Y, epochs=2, batch_size=20, progress=False, resume=True)
    mine.save(path)
    new, weights = path.read_bytes(), mine.model.state_dict()

    def check(worked: bool | None) -> None:
        assert contents(tmp_path)["a"] in (old, new)
        now = mine.model.state_dict()
        assert all(np.array_equal(now[name].numpy(), weights[name].numpy()) for name in weights)

    assert each(lambda: void(path.write_bytes(old)), lambda: mine.save(path), check, how, code) > 8
    assert old != new


# -- the cache --------------------------------------------------------------------------------------------

TEXT = "define i64 @run(ptr %frame) {\n  ret i64 7\n}\ndefine i64 @call(ptr %frame) {\n  ret i64 7\n}\n"


def seven() -> None:
    code = native.cached("seven", lambda: [native.compiled(TEXT)])
    assert code.run(0) == 7


@pytest.mark.parametrize(("how", "code"), [*HOW, *((how, 0) for how in DEADLY)])
@pytest.mark.parametrize("there", [False, True])
def test_the_cache_fails_in_silence_and_a_program_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, code: int, there: bool
) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "cache"))
    seven()
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()

    def prepare() -> None:
        for left in (tmp_path / "cache").glob("*"):
            left.unlink()
        if there:
            entry.write_bytes(whole)
            entry.chmod(0o600)
        else:
            (tmp_path / "cache").rmdir()

    def check(worked: bool | None) -> None:
        assert worked in (True, None)
        if entry.exists():
            assert entry.read_bytes() == whole
        seven()
        native.cached("another", lambda: [native.compiled(TEXT)])
        left = [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".o"]
        assert left == []

    calls = each(prepare, seven, check, how, code)
    assert calls > (5 if there else 15)


@pytest.mark.parametrize("sync", [0, 1])
def test_the_error_says_which_of_the_two_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: int) -> None:
    calls: list[int] = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == sync + 1:
            raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UnwritableFileError) as caught:
        write_whole(tmp_path / "a", b"new")
    old = (
        f"{tmp_path / 'a'}: this file could not be written (Input/output error); what stood there before still stands."
    )
    new = (
        f"{tmp_path / 'a'}: the new file is there, but the disk does not confirm that it keeps it (Input/output error)."
    )
    assert str(caught.value).startswith((old, new)[sync])
    assert (tmp_path / "a").read_bytes() == (b"old", b"new")[sync]


def test_the_harness_sees_what_a_save_calls(tmp_path: Path) -> None:
    with injected(Faults(-1)) as faults:
        write_whole(tmp_path / "a", b"new")
    expected = [
        "stat",
        "open",
        "stat",
        "open",
        "fstat",
        "dup",
        "write",
        "fsync",
        "close",
        "replace",
        "close",
        "scandir",
        "fsync",
    ]
    assert [name for name in faults.called if name in expected][: len(expected)] == expected
    assert os.path.exists(tmp_path / "a")
