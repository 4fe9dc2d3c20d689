"""CSV files as sources: blocks of whole records, types from the first megabyte, and errors that name the row."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("polars", reason="polars is not installed")

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.data import as_source
from chainrule.data.windows.text import blocks_of
from chainrule.errors import DataError
from chainrule.training import Trainer

rng = np.random.default_rng(0)
X = rng.standard_normal((3000, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
SMALL = 20_000


def text(first: int = 0, stop: int = 3000, delimiter: str = ",", header: bool = True, decimal: str = ".") -> str:
    lines = [delimiter.join(["a", "b", "c", "d", "y"])] if header else []
    lines += [
        delimiter.join([*(repr(float(v)).replace(".", decimal) for v in x), str(y)])
        for x, y in zip(X[first:stop], Y[first:stop], strict=True)
    ]
    return "\n".join(lines) + "\n"


def read(source: Any, **options: Any) -> tuple[Any, Any]:
    found = [window.arrays for window in source.windows(batch_size=8, shuffle=False, **options)]
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


def check(source: Any, stop: int = 3000) -> None:
    x, y = read(source)
    np.testing.assert_array_equal(x, X[:stop])
    np.testing.assert_array_equal(y, Y[:stop])
    assert (x.dtype, y.dtype, source.rows) == (np.float32, np.int64, stop)


def test_a_file_and_a_folder_give_their_rows(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "one.csv").write_text(text())
    for number in range(3):
        (tmp_path / "all" / f"{number}.csv").write_text(text(number * 1000, number * 1000 + 1000))
    (tmp_path / "all" / ".hidden.csv").write_text("no")
    for path in (tmp_path / "one.csv", tmp_path / "all"):
        source = as_source(path, target="y", buffer=SMALL)
        check(source)
        windows = list(source.windows(batch_size=8, seed=1))
        assert len(windows) > 2
        y = np.concatenate([w.arrays[1][w.order] for w in windows])
        assert not np.array_equal(y, Y)
        assert np.array_equal(np.sort(y), np.sort(Y))
        again = as_source(path, target="y", buffer=SMALL)
        assert again.fingerprint() == source.fingerprint()
        half = windows[1]
        found = next(iter(again.windows(half.after(0), batch_size=8, seed=1)))
        np.testing.assert_array_equal(found.arrays[0], half.arrays[0])


DRESSES: dict[str, Callable[[], bytes]] = {
    "semicolons and decimal commas": lambda: text(delimiter=";", decimal=",").encode(),
    "tabs": lambda: text(delimiter="\t").encode(),
    "a byte-order mark": lambda: b"\xef\xbb\xbf" + text().encode(),
    "lines of Windows": lambda: text().replace("\n", "\r\n").encode(),
    "empty lines": lambda: (text()[:-1].replace("\n", "\n\n") + "\n\n\n").encode(),
    "empty lines of Windows": lambda: text().replace("\n", "\r\n\r\n").encode(),
    "no line end at the end": lambda: text()[:-1].encode(),
    "another encoding": lambda: text().replace("a,b", "größe,b").encode("cp1252"),
}


@pytest.mark.parametrize("name", DRESSES)
def test_text_in_any_dress(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(DRESSES[name]())
    check(as_source(tmp_path, target="y", buffer=SMALL))


@pytest.mark.parametrize("name", ["", "  ", None, "column_6"])
@pytest.mark.parametrize("count", [1, 2])
def test_separators_at_the_ends_of_lines_make_no_columns(name: str | None, count: int, tmp_path: Path) -> None:
    head, *rows = text().splitlines()
    if name == "column_6":  # the name that the empty field would have
        head, name = head.replace("a", name, 1), ""
    head += "" if name is None else ("," + name) * count
    (tmp_path / "a.csv").write_text("\n".join([head, *(row + "," * count for row in rows)]))
    check(as_source(tmp_path / "a.csv", target="y", buffer=SMALL))
    assert list(cr.data.read_table(tmp_path / "a.csv").columns)[1:] == ["b", "c", "d", "y"]


def test_a_header_longer_than_a_sample(tmp_path: Path) -> None:
    names = [*(f"column_{i:0500}" for i in range(2500)), "y"]
    row = ",".join(map(str, range(2501)))
    (tmp_path / "a.csv").write_text("\n".join([",".join(names), *[row] * 12]))
    x, y = read(as_source(tmp_path / "a.csv", target="y"))
    assert x.tolist() == [[*range(2500)]] * 12 and y.tolist() == [2500] * 12


def test_separators_at_the_ends_of_lines_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text(header=False).replace("\n", ",\n"))
    check(as_source(tmp_path / "a.csv", target="column_5", buffer=SMALL))


def test_a_field_without_a_name_that_is_filled_later_is_named(tmp_path: Path) -> None:
    rows = "1,2,0,\n" * 200_000
    (tmp_path / "a.csv").write_text("a,b,y,\n" + rows + "3,4,1,9\n")
    source = as_source(tmp_path / "a.csv", target="y")
    with pytest.raises(DataError) as told:
        read(source)
    assert str(told.value) == (
        f"as_source: row 200001 of {tmp_path}/a.csv cannot be read (In CSV column #3: CSV conversion error to null: invalid value "
        f"'9'). Rows are counted from 1 after the header; mend it there, or leave the column out with features=[...]."
    )


def test_a_file_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text(header=False))
    check(as_source(tmp_path, target="column_5", buffer=SMALL))


def test_quotes_with_line_ends_and_delimiters_in_them(tmp_path: Path) -> None:
    held = io.StringIO()
    writer = csv.writer(held)
    writer.writerow(["note", "a", "b", "c", "d", "y"])
    notes = ['a "b"', "two\nlines", "one, two", "", "\n\n", '"']
    for row, (x, y) in enumerate(zip(X, Y, strict=True)):
        writer.writerow([notes[row % 6], *map(float, x), y])
    (tmp_path / "a.csv").write_text(held.getvalue())
    for buffer in (SMALL, 200_000):
        check(as_source(tmp_path, target="y", features=["a", "b", "c", "d"], buffer=buffer))


def test_blocks_are_whole_records_however_they_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n1,"x\ny"\n\n2,z\r\n\r\n"3","\n\n\n"\n4,""\n5,"quote "" and\n"')
    whole = path.read_bytes()
    for size in range(1, 40):
        found = list(blocks_of(str(path), 0, 4, size))
        assert b"".join(whole[b.start : b.stop] for b in found) == whole[4:]
        assert [b.row for b in found] == np.cumsum([1, *(b.rows for b in found)])[:-1].tolist()
        for block in found:
            rows = list(csv.reader(io.StringIO(whole[block.start : block.stop].decode(), newline="")))
            assert block.rows == sum(map(bool, rows))
        assert sum(b.rows for b in found) == 5


def test_missing_values_and_kinds_of_columns(tmp_path: Path) -> None:
    body = "".join(f"{i},{'' if i % 3 else i / 2},{'true' if i % 2 else 'false'},NA,{i % 2}\n" for i in range(30))
    (tmp_path / "a.csv").write_text("whole,half,flag,none,y\n" + body)
    x, y = as_source(tmp_path, target="y").head(4)
    expected = [[0, 0, 0, np.nan], [1, np.nan, 1, np.nan], [2, np.nan, 0, np.nan], [3, 1.5, 1, np.nan]]
    np.testing.assert_array_equal(x, np.array(expected, np.float32))
    assert y.tolist() == [0, 1, 0, 1]
    columns = as_source(tmp_path).head(2)
    assert {name: array.dtype.kind for name, array in columns.items()} == {
        "whole": "i", "half": "f", "flag": "b", "none": "f", "y": "i",
    }  # fmt: skip


def test_a_whole_number_that_becomes_another_later(tmp_path: Path) -> None:
    """Features are read as floats whatever the first megabyte holds."""
    rows = 200_000
    body = "".join(f"{i},{i % 2}\n" for i in range(rows)) + "0.5,1\n"
    (tmp_path / "a.csv").write_text("a,y\n" + body)
    x, _ = read(as_source(tmp_path, target="y", buffer=SMALL * 10))
    assert x[-1, 0] == 0.5
    with pytest.raises(DataError, match=rf"row {rows + 1} of .*a\.csv cannot be read .*'0\.5'"):
        read(as_source(tmp_path, target="a", features=["y"], buffer=SMALL * 10))


def test_training_from_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text())

    def fitted(*data: Any) -> Any:
        cr.manual_seed(0)
        trainer = Trainer(nn.Linear(4, 2), F.cross_entropy, "adam", lr=0.01)
        trainer.fit(*data, epochs=2, progress=False)
        return trainer

    found, whole = fitted(tmp_path / "a.csv", "y"), fitted(X, Y)
    np.testing.assert_array_equal(found.predict(X), whole.predict(X))
    assert fitted(as_source(tmp_path, target="y", buffer=SMALL)).history["loss"][-1] < 0.6


# ---------------------------------------------------------------- what is wrong with it

WRONG: dict[str, Callable[[Path], object]] = {
    r"column 'b' must hold numbers, got string, such as 'x' in row 12\.": lambda path: _read(path, 11, "1,x,2,3,0"),
    r"row 30001 of .*a\.csv cannot be read \(.*invalid value 'x'": lambda path: _whole(path, _late().encode()),
    r"row 2001 of .*a\.csv cannot be read \(.*Expected 5 columns, got 6": lambda path: _read(path, 2000, "1,2,2,3,0,7"),
    r"row 2001 of .*a\.csv cannot be read \(.*Expected 5 columns, got 2": lambda path: _read(path, 2000, "1,2"),
    r"column 'y' must be known everywhere, got 1 missing values": lambda path: _read(path, 2000, "1,2,3,4,"),
    r"column 'a' must hold numbers, got string": lambda path: _read(path, 2, "x,2,3,4,1"),
    r"b\.csv must have the columns of .*a\.csv, got 'e' in the place of 'd'": lambda path: _two(path, "a,b,c,e,y\n1,2,3,4,0\n"),
    r"b\.csv must have the columns of .*a\.csv, got 4 instead of 5": lambda path: _two(path, "a,b,c,d\n1,2,3,4\n"),
    r"there is nothing in .*b\.csv": lambda path: _two(path, ""),
    r"must be UTF-8 .* it is written in utf-16": lambda path: _whole(path, text().encode("utf-16")),
    r"it is an Excel workbook|a zip archive": lambda path: _whole(path, b"PK\x03\x04" + b"\0" * 100),
    r"has names of columns and no rows": lambda path: _whole(path, b"a,b,c,d,y\n"),
    r"a\.csv changed while it was read": lambda path: _changed(path),
}  # fmt: skip


def _late() -> str:
    """A word among numbers, behind the first megabyte."""
    return text() + text(header=False) * 9 + "1,x,2,3,0\n" + text(header=False)


def _whole(path: Path, data: bytes) -> object:
    (path / "a.csv").write_bytes(data)
    return read(as_source(path, target="y", buffer=SMALL))


def _read(path: Path, row: int, line: str) -> object:
    lines = text().split("\n")
    lines[row + 1] = line
    return _whole(path, "\n".join(lines).encode())


def _two(path: Path, second: str) -> object:
    (path / "b.csv").write_text(second)
    return _whole(path, text().encode())


def _changed(path: Path) -> object:
    (path / "a.csv").write_text(text())
    source = as_source(path, target="y", buffer=SMALL)
    (path / "a.csv").write_text(text() + "1,2,3,4,0\n")
    return read(source)


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_named(said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        WRONG[said](tmp_path)


def test_two_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text())
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=re.escape("must hold files of one kind, got b.parquet and a.csv")):
        as_source(tmp_path, target="y")


# ---------------------------------------------------------------- files that go away

GONE = "{who}: {file} cannot be read any further ({why}). Bring it back as it was, and go on; or leave it out, and start again."


def _folder(path: Path, kind: str) -> Path:
    if kind == "CSV":
        (path / "a.csv").write_text(text())
        return path / "a.csv"
    pa, written = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({**{name: X[:, i] for i, name in enumerate("abcd")}, "y": Y})
    written.write_table(table, path / "a.parquet", row_group_size=64)
    return path / "a.parquet"


@pytest.mark.parametrize("kind", ["CSV", "Parquet"])
def test_a_file_that_is_deleted_during_fit_is_named(tmp_path: Path, kind: str) -> None:
    file = _folder(tmp_path, kind)
    trainer = Trainer(nn.Linear(4, 2), F.cross_entropy, "adam", lr=0.01)
    source = as_source(tmp_path, target="y", buffer=SMALL, who="fit")
    with pytest.raises(DataError) as error:
        trainer.fit(source, epochs=99, progress=False, callbacks=lambda *_: file.unlink(missing_ok=True))
    assert str(error.value) == GONE.format(who="fit", file=file, why="No such file or directory")
    assert isinstance(error.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize(("code", "why"), [(errno.EIO, "Input/output error"), (errno.EACCES, "Permission denied")])
def test_a_file_that_the_system_refuses_is_named(tmp_path: Path, monkeypatch: Any, code: int, why: str) -> None:
    """Also where only its fingerprint is asked for."""
    file = _folder(tmp_path, "CSV")
    source = as_source(tmp_path, target="y", buffer=SMALL)

    def refused(*_: object, **__: object) -> object:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("builtins.open", refused)
    for asked in (source.fingerprint, lambda: read(source)):
        with pytest.raises(DataError) as error:
            asked()
        assert str(error.value) == GONE.format(who="as_source", file=file, why=why)


def test_a_lazy_frame_whose_file_is_gone(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    file = _folder(tmp_path, "CSV")
    source = as_source(polars.scan_csv(file), target="y", buffer=SMALL)
    file.unlink()
    with pytest.raises(
        DataError, match=r"^as_source: the lazy frame cannot be read any further \(.*a\.csv.*\)\. Bring the"
    ):
        read(source)
