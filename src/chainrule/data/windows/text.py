"""CSV files (pyarrow parses them): cut into blocks of whole records, which are parsed when a window needs them."""

from __future__ import annotations

import importlib
import itertools
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.table.sniff import SPACES, Dialect, decoded, records, sniff
from chainrule.data.windows.arrow import Choose, arrays_of, columns_of, pyarrow
from chainrule.data.windows.columns import Column, Columns
from chainrule.data.windows.plan import Part
from chainrule.data.windows.reading import check_unchanged, digest_of, reading, stamp
from chainrule.errors import DataError

Array = np.ndarray[Any, Any]
SAMPLE = 1 << 20  # bytes of the first file that types and names come from
LINES = 10  # that a sample has, unless the file ends before
LONGEST = 1 << 28  # bytes of a sample: what has fewer lines in so many is no table
BLOCK = 1 << 22  # bytes of a block, at most; of a small buffer, a sixteenth of it
QUOTE, NEWLINE, RETURN = b'"\n\r'
_ROW = re.compile(r"Row #(\d+): ?")


@dataclass(frozen=True)
class Block:
    """Records of a file, whole ones.

    Attributes:
        file: its number.
        start, stop: bytes.
        row: the number of its first row, counted from 1 in the file.
        rows: how many it has.
    """

    file: int
    start: int
    stop: int
    row: int
    rows: int


class CsvStore:
    """Text files with the same columns: their blocks are the pieces.

    Columns of numbers are read as float64 where they are features; the others as what they hold in the first megabyte. What is
    missing is NaN.
    """

    ahead = fixed = True

    def __init__(self, files: Sequence[Path], choose: Choose, buffer: int, who: str) -> None:
        self.arrow, self.files, self.who = pyarrow(who), [str(file) for file in files], who
        self.csv = importlib.import_module("pyarrow.csv")
        self.stamps = [stamp(file, who) for file in self.files]
        samples = [_sample(file, who) for file in self.files]
        self.dialect = _dialect(samples[0], self.files[0], who)
        self.names, begins = self._begin(samples)
        rows = samples[0][begins[0] :]
        self.names, self.nameless = _with_nameless(self.names, self._fields(rows), self.dialect.header)
        self.empty: list[str] = []  # columns at the end without name and value, which separators there make
        self.columns, self.types = self._types(rows, choose)
        size = max(1 << 12, min(BLOCK, buffer // 16))
        self.blocks = [block for number, begin in enumerate(begins) for block in self._blocks(number, begin, size)]
        self.pieces = [block.rows for block in self.blocks]
        self.row_bytes: float | None = self.columns.row_bytes
        self._lock = threading.Lock()
        self._table: tuple[int, Any] = (-1, None)  # the latest block, of which the next window may need the rest

    # ---------------------------------------------------------------- what the files hold

    def _begin(self, samples: Sequence[bytes]) -> tuple[list[str], list[int]]:
        """The names of the columns, and the byte at which the rows of each file begin."""
        names: list[str] = []
        begins = []
        for file, sample in zip(self.files, samples, strict=True):
            begin = _after_lines(sample, self.dialect.skip)
            found = self._fields(sample[begin:])
            if not found:
                raise DataError(f"{self.who}: there is nothing in {file}. Write it again, or leave it out.")
            if not self.dialect.header:
                found = [f"column_{i + 1}" for i in range(len(found))]
            elif file is not self.files[0] and names != found:
                odd = next((f"{b!r} in the place of {a!r}" for a, b in zip(names, found, strict=False) if a != b), None)
                raise DataError(
                    f"{self.who}: {file} must have the columns of {self.files[0]}, got "
                    f"{odd or f'{len(found)} instead of {len(names)}'}. Write them alike."
                )
            names = found
            begins.append(_after_records(sample, begin) if self.dialect.header else begin)
        return names, begins

    def _blocks(self, number: int, begin: int, size: int) -> list[Block]:
        with reading(self.files[number], self.who):
            return list(blocks_of(self.files[number], number, begin, size))

    def _fields(self, sample: bytes) -> list[str]:
        """Those of the first record that has anything in it."""
        end = _after_records(sample, 0)
        found = records(sample[:end].decode(self.dialect.encoding), self.dialect.delimiter)
        return [field.strip() for field in found[0]] if found else []

    def _types(self, sample: bytes, choose: Choose) -> tuple[Columns, dict[str, Any]]:
        pa = self.arrow
        ends = record_ends(np.frombuffer(sample, np.uint8))
        whole = sample[: int(ends[-1])] if len(ends) else sample
        if not whole.strip():
            raise DataError(
                f"{self.who}: {self.files[0]} has names of columns and no rows. Write it again, or leave it out."
            )
        table = self._parsed(whole, Block(0, 0, 0, 1, 0), {})
        self.empty = self._empty(table.schema)
        table = table.drop_columns(self.empty)
        kinds = [(f.name, pa.float64() if pa.types.is_null(f.type) else f.type) for f in table.schema]
        known = columns_of(pa.schema(kinds))
        columns = choose({n: _shown(table.column(n), c) if isinstance(c, str) else c for n, c in known.items()})
        number = Column("", np.dtype(np.float64))
        floats = [n for n in columns.features if columns.columns[n].dtype.kind in "iu" and columns.target is not None]
        chosen = {**columns.columns, **{name: replace(number, name=name) for name in floats}}
        types = {**dict(kinds), **dict.fromkeys(floats, pa.float64()), **dict.fromkeys(self.empty, pa.null())}
        return replace(columns, columns=chosen), types

    def _empty(self, schema: Any) -> list[str]:
        """The columns at the end without a name and a value: a value that comes later is an error of its row."""
        named = len(self.names) - self.nameless
        last = max((i for i, field in enumerate(schema, 1) if not self.arrow.types.is_null(field.type)), default=0)
        return self.names[max(named, last) :]

    # ---------------------------------------------------------------- reading

    def read(self, parts: Sequence[Part]) -> Any:
        arrays, at = self.columns.empty(sum(part.rows for part in parts)), 0
        with self._lock:
            for part in parts:
                table = self._whole(part.piece).slice(part.start, part.rows)
                self.columns.fill(arrays, at, arrays_of(table, self.columns))
                at += part.rows
        return arrays

    def where(self, piece: int, row: int) -> str:
        """The file of a row, and its number there, counted from 1 after the header."""
        block = self.blocks[piece]
        return f"row {block.row + row} of {self.files[block.file]}"

    def _whole(self, piece: int) -> Any:
        if self._table[0] != piece:
            block = self.blocks[piece]
            file = self.files[block.file]
            with reading(file, self.who), open(file, "rb") as opened:
                opened.seek(block.start)
                data = opened.read(block.stop - block.start)
            # What was read is what was there from the beginning.
            check_unchanged(file, self.stamps[block.file], self.who)
            if len(data) < block.stop - block.start:
                raise DataError(
                    f"{self.who}: {file} ended at byte {block.start + len(data)}. Read it again, or leave it out."
                )
            table = self._parsed(data, block, self.types)
            if table.num_rows != block.rows:
                raise DataError(
                    f"{self.who}: {file} must have a record in each line from row {block.row} to {block.row + block.rows - 1}, got "
                    f"{table.num_rows} records. Check the quotes there."
                )
            self._table = (piece, table)
        return self._table[1]

    def _parsed(self, data: bytes, block: Block, types: dict[str, Any]) -> Any:
        dialect, csv = self.dialect, self.csv
        encoding = "utf8" if dialect.encoding.startswith("utf-8") else dialect.encoding
        try:
            return csv.read_csv(
                self.arrow.py_buffer(data),
                csv.ReadOptions(
                    use_threads=False, block_size=len(data) + 1, column_names=self.names, encoding=encoding
                ),
                csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True),
                csv.ConvertOptions(
                    column_types=types,
                    include_columns=[*self.columns.names, *self.empty] if types else None,
                    decimal_point=dialect.decimal,
                ),
            )
        except self.arrow.ArrowException as error:
            raise DataError(f"{self.who}: {self._where(str(error), block)}") from error

    def _where(self, said: str, block: Block) -> str:
        """An error of pyarrow's with the row counted in the file."""
        found = _ROW.search(said)
        place = f"row {block.row + int(found[1]) - 1} of " if found else ""
        why = _ROW.sub("", said).split("\n", 1)[0][:300]
        return (
            f"{place}{self.files[block.file]} cannot be read ({why}). Rows are counted from 1 after the header; mend it there, or "
            f"leave the column out with features=[...]."
        )

    def identity(self) -> Sequence[Any]:
        return [str(self.columns), str(self.dialect), *(digest_of(file, self.who) for file in self.files)]


def _shown(column: Any, kind: str) -> str:
    """The kind of a column that holds no numbers, with the first value that is none."""
    for row, value in enumerate(column.to_pylist(), 1):
        if value is not None and not _is_number(str(value)):
            return f"{kind}, such as {str(value)[:40]!r} in row {row}"
    return kind


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _with_nameless(names: list[str], first: list[str], header: bool) -> tuple[list[str], int]:
    """The names, with some for the fields at the end that have none; and how many have none.

    Args:
        first: the fields of the first row: what it has beyond the names is taken as columns where it is empty.
    """
    beyond = first[len(names) :]
    names = names if any(beyond) else names + beyond
    if not header:  # the names are ours
        return names, len(names)
    named = max((i for i, name in enumerate(names, 1) if name), default=0)
    free = (name for i in itertools.count(named + 1) if (name := f"column_{i}") not in names)
    count = len(names) - named
    return names[:named] + list(itertools.islice(free, count)), count


def _sample(file: str, who: str) -> bytes:
    """The first megabyte, or more where lines are so long that it has few."""
    with reading(file, who), open(file, "rb") as opened:
        found = opened.read(SAMPLE)
        while found.count(b"\n") < LINES and len(found) < LONGEST and (more := opened.read(len(found))):
            found += more
    if not found.strip():
        raise DataError(f"{who}: there is nothing in {file}. Write it again, or leave it out.")
    return found


def _dialect(sample: bytes, file: str, who: str) -> Dialect:
    end = sample.rfind(b"\n") + 1 if len(sample) % SAMPLE == 0 else len(sample)  # a character may be cut in two
    text, encoding, _ = decoded(sample[:end] or sample, file)
    found = sniff(text.replace("\r\n", "\n").removeprefix("\ufeff"), encoding)
    if encoding.startswith(("utf-16", "utf-32")) or found.delimiter == SPACES:
        what = f"written in {encoding}" if found.delimiter != SPACES else "of fields with spaces in between"
        raise DataError(
            f"{who}: {file} must be UTF-8 (or of one byte a character) with one delimiter between fields, to be read by "
            f"windows; it is {what}. Write it so, or read it whole with cr.data.read_table."
        )
    return found


def _after_lines(data: bytes, count: int) -> int:
    at = len(b"\xef\xbb\xbf") if data.startswith(b"\xef\xbb\xbf") else 0
    for _ in range(count):
        at = data.index(b"\n", at) + 1
    return at


def _after_records(data: bytes, start: int) -> int:
    """The byte behind the first record that has anything in it."""
    at = start
    for stop in record_ends(np.frombuffer(data, np.uint8)[start:]):
        if data[at : start + int(stop)].strip():
            return start + int(stop)
        at = start + int(stop)
    return len(data)


def record_ends(data: Array) -> Array:
    """The bytes behind the ends of records, of which the first begins with the data."""
    ends = data == NEWLINE
    quotes = data == QUOTE
    if quotes.any():
        ends &= np.cumsum(quotes, dtype=np.int64) % 2 == 0
    return np.flatnonzero(ends) + 1


def blocks_of(file: str, number: int, begin: int, size: int) -> Iterator[Block]:
    """A file in blocks of about so many bytes."""
    start = at = begin  # of the block; of the record that is looked at
    row, amount = 1, size
    with open(file, "rb") as opened:
        while True:
            opened.seek(at)
            data = opened.read(amount)
            ends = record_ends(np.frombuffer(data, np.uint8))
            if not len(ends) and len(data) == amount:  # no record ends in so few bytes
                amount *= 2
                continue
            rows = _filled(data, ends) if len(ends) else int(bool(data.strip()))
            at += int(ends[-1]) if len(ends) else len(data)
            if rows:
                yield Block(number, start, at, row, rows)
                start, row = at, row + rows
            if not len(ends):
                return
            amount = size


def _filled(data: bytes, ends: Array) -> int:
    """How many records have anything in them."""
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts - 1
    empty = sum(1 for i in np.flatnonzero(lengths <= 1) if not lengths[i] or data[starts[i]] == RETURN)
    return len(ends) - empty
