"""Tables from files: CSV and TSV in any dress, Parquet and Arrow; polars reads, errors speak of lines and fields."""

from __future__ import annotations

import csv
import importlib
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import polars as pl

from chainrule.data.table.sniff import SPACES, Dialect, comma_numbers, counted, decoded, sniff
from chainrule.data.table.table import Table, check_width
from chainrule.data.table.values import Reading
from chainrule.errors import DamagedFileError, DataError
from chainrule.files.reading import opened
from chainrule.names import takes_keywords

Array = np.ndarray[Any, Any]
BINARY = {".parquet": "Parquet", ".pq": "Parquet", ".feather": "Arrow", ".arrow": "Arrow"}
_PARQUET = b"PAR1"
_JSON = (".json", ".ndjson", ".jsonl")
_CHUNK = 1 << 22  # bytes that are looked through at once


@takes_keywords("")
def read_table(
    path: str | os.PathLike[str], *, delimiter: str | None = None, encoding: str | None = None,
    header: bool | None = None, decimal: str | None = None, skip_rows: int = 0,
) -> Table:  # fmt: skip
    """The table in a file: CSV, TSV and other separated text, Parquet, or Arrow (``.feather``, ``.arrow``).

    Of text, every field stays the text it is until a `TablePipeline` says what its column means. What is not given is
    found by looking at the file, and ``table.notes`` says what was found.

    Args:
        path: the file.
        delimiter: between fields, one character; ``" "`` for runs of spaces.
        encoding: as Python names it, such as ``"cp1252"``.
        header: whether the first record has the names of the columns.
        decimal: ``"."`` or ``","``. What is given holds for every column, whatever a pipeline has learned of other rows.
        skip_rows: lines before the header.

    Raises:
        DamagedFileError: it cannot be read.
        DataError: it is no table: rows of different lengths, a quote that is never closed, no text, nothing in it.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "people.csv"
        >>> _ = path.write_text("name;height\\nAda;1,65\\nBob;1,80\\n")
        >>> table = read_table(path)
        >>> table
        <Table: 2 rows, 2 columns: name, height>
        >>> table.notes
        ['the fields are separated by semicolons', 'numbers have a decimal comma, as in 1,65']
    """
    return read_as_learned(path, None, delimiter, encoding, header, decimal, skip_rows)


def read_as_learned(
    path: str | os.PathLike[str], learned: str | None, delimiter: str | None = None, encoding: str | None = None,
    header: bool | None = None, decimal: str | None = None, skip_rows: int = 0,
) -> Table:  # fmt: skip
    """`read_table` of rows for what was learned from others.

    Args:
        learned: the decimal mark that those had, asked only where a file alone does not tell a decimal comma from two fields.
    """
    who = os.fspath(path)
    _check(who, delimiter, decimal, skip_rows)
    with opened(path, "a table") as (file, _):
        data = file.read()
    if data[:4] == _PARQUET or os.path.splitext(who)[1].lower() in BINARY:
        return _binary(data, who, decimal)
    if os.path.splitext(who)[1].lower() in _JSON and data.lstrip()[:1] in (b"[", b"{"):
        raise DataError(
            f"{who}: this is JSON, and no text file of rows. Write it as Parquet or CSV first: "
            f"polars.read_{'json' if who.lower().endswith('.json') else 'ndjson'}(path).write_parquet(...)."
        )
    return read_text(data, who, delimiter, encoding, header, decimal, skip_rows, learned)


def _check(who: str, delimiter: str | None, decimal: str | None, skip_rows: int) -> None:
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise DataError(f"{who}: delimiter must be one character such as ';', got {delimiter!r}. A tab is '\\t'.")
    if decimal not in (None, ".", ","):
        raise DataError(f"{who}: decimal must be '.' or ',', got {decimal!r}.")
    if skip_rows < 0:
        raise DataError(f"{who}: skip_rows must be 0 or more, got {skip_rows}.")


def _binary(data: bytes, who: str, decimal: str | None) -> Table:
    kind = "Parquet" if data[:4] == _PARQUET else BINARY[os.path.splitext(who)[1].lower()]
    try:
        frame = pl.read_parquet(io.BytesIO(data)) if kind == "Parquet" else _arrow(data)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, MemoryError) as error:
        raise DamagedFileError(
            f"{who}: not a readable {kind} file ({_first(error)}). Copy it again, or write it again."
        ) from None
    return Table(frame, decimal=decimal, name=who).checked(who)


def _arrow(data: bytes) -> pl.DataFrame:
    """By pyarrow: polars ends the process where a damaged length asks for more memory than there is."""
    arrow, ipc = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.ipc")
    try:
        table = ipc.open_file(arrow.BufferReader(data)).read_all()
        table.validate(full=True)
        return cast(pl.DataFrame, pl.from_arrow(table))
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from None


def _first(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200]


def read_text(
    data: bytes, who: str, delimiter: str | None = None, encoding: str | None = None, header: bool | None = None,
    decimal: str | None = None, skip_rows: int = 0, learned: str | None = None,
) -> Table:  # fmt: skip
    """The table in the bytes of a text file: see `read_as_learned`."""
    text, encoding, notes = decoded(data, who, encoding)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _without_lines(text.removeprefix("\ufeff"), skip_rows, who)
    if not text.strip():
        raise DataError(f"{who}: there is nothing in it. A table has a line of names and a line for each row.")
    dialect = sniff(text, encoding, delimiter, header, decimal, skip_rows)
    text = _without_lines(text, dialect.skip - skip_rows, who)
    if delimiter is None:
        dialect = _of_one_column(text, who, dialect, decimal, learned)
    rows, odd = _rows(text, who, dialect)
    frame, named = _with_names(rows, who, dialect)
    table = Table(frame, notes=[*notes, *odd, *dialect.notes, *named], name=who)
    table.written = Reading(dialect.decimal, told=decimal is not None)
    return table.checked(who)


def _without_lines(text: str, count: int, who: str) -> str:
    at = 0
    for _ in range(count):
        end = text.find("\n", at)
        if end < 0:
            raise DataError(f"{who}: skip_rows={count} leaves nothing: it has fewer lines. Skip fewer.")
        at = end + 1
    return text[at:]


def _of_one_column(text: str, who: str, dialect: Dialect, told: str | None, learned: str | None) -> Dialect:
    """The dialect of a file with one name over what may be one number with a decimal comma, or two fields.

    Raises:
        DataError: neither the file nor what was told or learned says which.
    """
    found = comma_numbers(text) if dialect.header and dialect.delimiter == "," else []
    if not found or told == ".":
        return dialect
    if told is None and (learned != "," or counted([number.partition(",")[0] for number in found])):
        raise DataError(
            f"{who}: the header has one name, and the rows are like {found[0]!r}, which may be a number with a decimal comma, one "
            f"with its thousands separated, or a row's name and a number. Write the number with a decimal point and nothing else, "
            f"name both columns in the header, or say which (read_table: decimal=',' or delimiter=',')."
        )
    note = f"numbers have a decimal comma, as in {found[0]}"
    if told is None:
        note += ": the header has one name, and numbers had a decimal comma in training"
    return replace(dialect, delimiter=";", decimal=",", notes=(*dialect.notes, note))


def _rows(text: str, who: str, dialect: Dialect) -> tuple[pl.DataFrame, list[str]]:
    """All records as columns of text, the header as the first; and what is to be said of them.

    polars reads what is regular. What it would read in a way of its own (short rows, stray quotes), Python's csv reads.
    """
    data = text.encode("utf-8", "replace")
    fast = _fast(data, who, dialect) if dialect.delimiter != SPACES and len(dialect.delimiter.encode()) == 1 else None
    return (fast, []) if fast is not None else _careful(text, who, dialect)


def _fast(data: bytes, who: str, dialect: Dialect) -> pl.DataFrame | None:
    records = _regular(data, ord(dialect.delimiter))
    if records is None:
        return None
    check_width(records[1], who)
    try:
        frame = pl.read_csv(
            io.BytesIO(data), has_header=False, infer_schema=False, separator=dialect.delimiter, encoding="utf8"
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError):
        return None
    return frame if frame.shape == records else None


def _regular(data: bytes, delimiter: int) -> tuple[int, int] | None:
    """Records and fields of each, where every record has the same number and none is empty; None otherwise."""
    inside, fields, records, width = False, 1, 0, 0
    data = data if data.endswith(b"\n") else data + b"\n"
    for start in range(0, len(data), _CHUNK):
        part = np.frombuffer(data, np.uint8, min(_CHUNK, len(data) - start), start)
        quotes = np.cumsum(part == ord('"'), dtype=np.int64) + inside
        outside = quotes % 2 == 0
        ends = np.flatnonzero((part == ord("\n")) & outside)
        seen = np.cumsum((part == delimiter) & outside, dtype=np.int64)
        inside = bool(quotes[-1] % 2)
        if len(ends):
            counts = np.diff(seen[ends], prepend=1 - fields) + 1
            width = width or int(counts[0])
            if width == 1 or (counts != width).any():  # of one column, an empty line may be a row
                return None
            records, fields = records + len(ends), 1 + int(seen[-1] - seen[ends[-1]])
        else:
            fields += int(seen[-1])
    return None if inside else (records, width)


def _careful(text: str, who: str, dialect: Dialect) -> tuple[pl.DataFrame, list[str]]:
    rows: list[list[str]] = []
    lines: list[int] = []
    blank = 0
    for line, row in _parsed(text, who, dialect):
        if any(row) or len(row) > 1:
            rows.append(row)
            lines.append(line)
        else:
            blank += 1
    notes = [f"{blank} empty line{'s' * (blank > 1)} left out"] if blank else []
    if dialect.header and len(rows) > 1:
        notes += _complete(rows[0], rows[1:])
    width = _width(rows, lines, who, dialect)
    check_width(width, who)
    columns = [[row[i] or None for row in rows] for i in range(width)]
    return pl.DataFrame({f"c{i}": pl.Series(values, dtype=pl.String) for i, values in enumerate(columns)}), notes


def _parsed(text: str, who: str, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Each record, and the line in the file that it begins in."""
    spaces = dialect.delimiter == SPACES
    reader = csv.reader(
        io.StringIO(text.replace("\t", SPACES) if spaces else text, newline=""),
        delimiter=dialect.delimiter,
        skipinitialspace=spaces,
        strict=True,
    )
    begins = dialect.skip + 1
    try:
        for row in reader:
            yield begins, [part for part in row if part] if spaces else row
            begins = dialect.skip + reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{who}: the record that begins in line {begins} cannot be read ({error}): a quote that is opened in it is "
            f"not closed, or closed too early. A field with quotes in it stands between quotes, and has each twice."
        ) from None


def _width(rows: list[list[str]], lines: list[int], who: str, dialect: Dialect) -> int:
    """How many fields a record has."""
    if not rows:
        raise DataError(f"{who}: there is nothing in it. A table has a line of names and a line for each row.")
    width = len(rows[0])
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            first = "the header names" if dialect.header else f"the first row (line {lines[0]}) has"
            raise DataError(
                f"{who}: line {line} has {len(row)} field{'s' * (len(row) != 1)}, {first} {width}. "
                f"{_ragged(row, rows[0], dialect)}"
            )
    return width


def _complete(names: list[str], rows: list[list[str]]) -> list[str]:
    """Give a header that is shorter than all rows what it lacks, and say so.

    Fields at the end that are empty in every row come of separators there and have no name. Else the one name that lacks is
    that of the row names, as R writes them.
    """
    own, width = len(names), len(rows[0])
    if width <= own or any(len(row) != width for row in rows):
        return []
    if not any(part.strip() for row in rows for part in row[own:]):
        names += [""] * (width - own)
    elif width == own + 1:
        names.insert(0, "row_names")
        return [
            f"the header has {own} name{'s' * (own > 1)} and the rows {width} fields: the first is taken as the row's name, and the "
            f"column called 'row_names'"
        ]
    return []


def _ragged(row: list[str], first: list[str], dialect: Dialect) -> str:
    width = len(first)
    if first[0].startswith("#"):
        return "If the first line is a comment, skip the lines before the header (read_table: skip_rows; --skip-rows)."
    if width == 1:
        return "Name the delimiter (--delimiter), or skip the lines before the header (--skip-rows)."
    if len(row) < width:
        return "Give the row all its fields (empty ones too), or remove it."
    return f"Put a field with {dialect.delimiter!r} in it into double quotes, or remove the row."


def _with_names(rows: pl.DataFrame, who: str, dialect: Dialect) -> tuple[pl.DataFrame, list[str]]:
    """The rows under the names of the columns, each once."""
    rows, trailing = _without_trailing(rows)
    if not dialect.header:
        return rows.rename({old: f"column_{i}" for i, old in enumerate(rows.columns, 1)}), trailing
    names, notes = unique_names([str(name or "").strip() for name in rows.row(0)])
    frame = rows.slice(1)
    frame.columns = names
    if not frame.height:
        raise DataError(
            f"{who}: it has the names of {frame.width} column{'s' * (frame.width > 1)}, but no row. Check how it was written."
        )
    return frame, trailing + notes


def _without_trailing(rows: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Without the columns at the end that have neither a name nor a value: what separators at the ends of all lines make."""
    width = rows.width
    while width > 1 and not rows[:, width - 1].str.strip_chars().fill_null("").ne("").any():
        width -= 1
    if width == rows.width:
        return rows, []
    return rows[:, :width], ["every row ends in a separator: the empty field after it is left out"]


def unique_names(names: list[str]) -> tuple[list[str], list[str]]:
    """The names, each once and none empty, and what is to be said of those that were changed.

    Example:
        >>> unique_names(["a", "", "a"])
        (['a', 'column_2', 'a (2)'], ["column 2 has no name: called 'column_2'", "the name 'a' stands over 2 columns: the later ones are called 'a (2)'"])
    """
    taken, found, notes = set(names), [], []
    seen: dict[str, list[str]] = {}
    for number, name in enumerate(names, 1):
        if not name:
            new = _free(f"column_{number}", taken)
            notes.append(f"column {number} has no name: called {new!r}")
        else:
            before = seen.setdefault(name, [])
            new = name if not before else _free(f"{name} ({len(before) + 1})", taken)
            before.append(new)
        taken.add(new)
        found.append(new)
    for name, all_names in seen.items():
        if len(all_names) > 1:
            later = ", ".join(map(repr, all_names[1:6]))
            notes.append(f"the name {name!r} stands over {len(all_names)} columns: the later ones are called {later}")
    return found, notes


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
