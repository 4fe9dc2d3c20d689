"""Arrow's tables and Parquet files (pyarrow reads them): which columns hold numbers, and their rows as arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.windows.columns import Column, Columns
from chainrule.data.windows.fingerprint import digest
from chainrule.data.windows.pieces import even_pieces
from chainrule.data.windows.plan import Part
from chainrule.data.windows.reading import check_unchanged, digest_of, stamp
from chainrule.errors import DataError

Array = np.ndarray[Any, Any]
READ = 1 << 16  # bytes of a column that are read at a time where a row group is not read whole
Choose = Callable[[Mapping[str, "Column | str"]], Columns]


def pyarrow(who: str) -> Any:
    """The module; an error that says how to get it where it is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{who}: Parquet and Arrow are read by pyarrow, which is not installed. pip install 'chainrule[data]'"
        ) from None
    return pa


def columns_of(schema: Any) -> dict[str, Column | str]:
    """The columns of an Arrow schema; of one that holds no numbers, its type."""
    names = schema.names
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise DataError(f"source: columns must have names of their own, got {double!r} twice. Rename one.")
    return {field.name: _column(field.name, field.type) for field in schema}


def _column(name: str, kind: Any) -> Column | str:
    width = getattr(kind, "list_size", 0)  # of a list with so many numbers in every row
    inner = kind.value_type if width else kind
    try:
        dtype = np.dtype(inner.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        return str(kind)
    return Column(name, dtype, width) if dtype.kind in "biuf" else str(kind)


def arrays_of(table: Any, columns: Columns) -> dict[str, Array]:
    """The columns of a table, each as an array; what is missing among floats is NaN."""
    return {name: _array(table.column(name), columns.columns[name]) for name in columns.names}


def _array(column: Any, which: Column) -> Array:
    if not which.width:
        found: Array = column.to_numpy()
        if found.dtype.kind == "O":  # booleans some of which are missing
            found = np.array([np.nan if value is None else value for value in found], np.float64)
        return found
    flat = column.combine_chunks()
    if flat.null_count:
        raise DataError(
            f"source: column {which.name!r} must have a list in every row, got {flat.null_count} missing. Drop those rows."
        )
    return flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, which.width)  # type: ignore[no-any-return]


class TableStore:
    """An Arrow table in memory (or mapped from a file): its columns become arrays a window at a time."""

    ahead = fixed = True

    def __init__(self, table: Any, choose: Choose, buffer: int) -> None:
        self.columns = choose(columns_of(table.schema))
        self.table = table.select(self.columns.names)
        self.row_bytes: float | None = self.columns.row_bytes
        self.pieces = even_pieces(table.num_rows, self.columns.row_bytes, buffer)
        self.starts = np.cumsum([0, *self.pieces]).tolist()

    def read(self, parts: Sequence[Part]) -> Any:
        arrays, at = self.columns.empty(sum(part.rows for part in parts)), 0
        for part in parts:
            rows = self.table.slice(self.starts[part.piece] + part.start, part.rows)
            self.columns.fill(arrays, at, arrays_of(rows, self.columns))
            at += part.rows
        return arrays

    def identity(self) -> Sequence[Any]:
        stretches = sorted(set(np.linspace(0, len(self.pieces) - 1, 64).astype(int).tolist())) if self.pieces else []
        read = (arrays_of(self.table.slice(self.starts[i], self.pieces[i]), self.columns) for i in stretches)
        return [str(self.columns), *(part for arrays in read for item in arrays.items() for part in item)]


class DatasetStore:
    """A dataset of pyarrow's: the row groups of its Parquet files, and other files whole, are the pieces."""

    ahead = fixed = True

    def __init__(self, dataset: Any, choose: Choose, who: str) -> None:
        self.dataset, self.who, self.arrow = dataset, who, pyarrow(who)
        self.columns = choose(columns_of(dataset.schema))
        self.row_bytes: float | None = self.columns.row_bytes
        self.fragments = [
            part
            for fragment in dataset.get_fragments()
            for part in (fragment.split_by_row_group() if hasattr(fragment, "split_by_row_group") else [fragment])
        ]
        self.pieces = [
            # What counts the rows of a fragment counts those of the whole file.
            sum(group.num_rows for group in part.row_groups) if hasattr(part, "row_groups") else part.count_rows()
            for part in self.fragments
        ]
        self._lock = threading.Lock()
        self._table: tuple[int, Any] = (-1, None)  # the latest piece, of which the next window may need the rest

    def read(self, parts: Sequence[Part]) -> Any:
        arrays, at = self.columns.empty(sum(part.rows for part in parts)), 0
        with self._lock:
            for part in parts:
                rows = self._whole(part.piece).slice(part.start, part.rows)
                self.columns.fill(arrays, at, arrays_of(rows, self.columns))
                at += part.rows
        return arrays

    def _whole(self, piece: int) -> Any:
        if self._table[0] != piece:
            self._table = (-1, None)
            try:
                found = self.fragments[piece].to_table(schema=self.dataset.schema, columns=self.columns.names)
            except (self.arrow.ArrowException, OSError) as error:
                raise DataError(
                    f"{self.who}: {self.fragments[piece]} cannot be read ({error}). Write it again, or leave it out."
                ) from error
            if found.num_rows != self.pieces[piece]:
                raise DataError(f"{self.who}: {self.fragments[piece]} changed while it was read. Start again.")
            self._table = (piece, found)
        return self._table[1]

    def identity(self) -> Sequence[Any]:
        looked = sorted(set(np.linspace(0, len(self.pieces) - 1, 64).astype(int).tolist())) if self.pieces else []
        with self._lock:
            read = [
                digest(*(p for item in arrays_of(self._whole(i), self.columns).items() for p in item)) for i in looked
            ]
        return [str(self.columns), *read]


def reader_batches(reader: Any, choose: Choose) -> Iterator[Any]:
    """The batches of a reader of pyarrow's, which gives them once."""
    columns = choose(columns_of(reader.schema))
    for batch in reader:
        found = columns.empty(batch.num_rows)
        columns.fill(found, 0, arrays_of(batch, columns))
        if batch.num_rows:
            yield found


class ParquetStore:
    """Parquet files: their row groups are the pieces.

    A row group is read whole where it fits into a window, and otherwise batch by batch, as far as a window needs it.
    """

    ahead = fixed = True

    def __init__(self, files: Sequence[Path], choose: Choose, buffer: int, who: str) -> None:
        self.arrow, self.files, self.buffer, self.who = pyarrow(who), [str(file) for file in files], buffer, who
        self.stamps = [stamp(file, who) for file in self.files]
        self.groups: list[tuple[int, int]] = []  # of each piece, its file and its number there
        self.pieces: list[int] = []
        schema = None
        for number, file in enumerate(self.files):
            found = self._open(file)
            schema = schema or found.schema_arrow
            self._check_schema(file, schema, found.schema_arrow)
            self.groups += [(number, group) for group in range(found.num_row_groups)]
            self.pieces += [found.metadata.row_group(group).num_rows for group in range(found.num_row_groups)]
            found.close()
        self.columns = choose(columns_of(schema))
        self.row_bytes: float | None = self.columns.row_bytes
        self._lock = threading.Lock()  # around what follows: two may read at once
        self._table: tuple[int, Any] = (-1, None)  # the latest piece, of which the next window may need the rest
        self._running: Running | None = None

    def _open(self, file: str, **options: Any) -> Any:
        try:
            return self.arrow.parquet.ParquetFile(file, **options)
        except (self.arrow.ArrowException, OSError) as error:
            raise DataError(
                f"{self.who}: {file} cannot be read as Parquet ({error}). Write it again, or leave it out."
            ) from error

    def _check_schema(self, file: str, first: Any, found: Any) -> None:
        if not found.equals(first):
            odd = next(
                iter({f"{f.name}: {f.type}" for f in found} ^ {f"{f.name}: {f.type}" for f in first}), "their order"
            )
            raise DataError(
                f"{self.who}: {file} must have the columns of {self.files[0]}, got another ({odd}). Write them alike."
            )

    def read(self, parts: Sequence[Part]) -> Any:
        arrays, at = self.columns.empty(sum(part.rows for part in parts)), 0
        with self._lock:
            try:
                for part in parts:
                    for table in self._tables(part):
                        self.columns.fill(arrays, at, arrays_of(table, self.columns))
                        at += table.num_rows
                    self._check(part)  # what was read is what was there from the beginning
            except BaseException:  # whoever goes on reads the file anew
                self._table, self._running = (-1, None), None
                raise
        return arrays

    def _check(self, part: Part) -> None:
        number = self.groups[part.piece][0]
        check_unchanged(self.files[number], self.stamps[number], self.who)

    def where(self, piece: int, row: int) -> str:
        """The file of a row, and its number there."""
        number, _ = self.groups[piece]
        before = sum(rows for rows, (file, _) in zip(self.pieces[:piece], self.groups, strict=False) if file == number)
        return f"row {before + row} of {self.files[number]}"

    def _tables(self, part: Part) -> Iterator[Any]:
        try:
            if self.pieces[part.piece] * self.columns.row_bytes > self.buffer:
                yield from self._in_batches(part)
            else:
                yield self._whole(part.piece).slice(part.start, part.rows)
        except DataError:
            self._check(part)
            raise
        except (self.arrow.ArrowException, OSError) as error:
            self._check(part)
            file = self.files[self.groups[part.piece][0]]
            raise DataError(
                f"{self.who}: {file} cannot be read any further ({error}). Write it again, or leave it out."
            ) from error

    def _whole(self, piece: int) -> Any:
        if self._table[0] != piece:
            self._table = (-1, None)  # before the next is read: two need not fit
            number, group = self.groups[piece]
            with self._open(self.files[number]) as file:
                self._table = (piece, file.read_row_group(group, columns=self.columns.names))
        return self._table[1]

    def _in_batches(self, part: Part) -> Iterator[Any]:
        running = self._running
        if running is None or running.piece != part.piece or running.at > part.start:
            number, group = self.groups[part.piece]
            rows = max(1, int(self.buffer / 8 / max(1.0, self.columns.row_bytes)))
            file = self._open(self.files[number], buffer_size=READ, pre_buffer=False)
            batches = file.iter_batches(rows, row_groups=[group], columns=self.columns.names)
            running = self._running = Running(part.piece, batches, self.arrow)
        running.skip(part.start - running.at)
        yield from running.take(part.rows)
        if running.at == self.pieces[part.piece]:
            self._running = None

    def identity(self) -> Sequence[Any]:
        return [str(self.columns), *(digest_of(file, self.who) for file in self.files)]


class Running:
    """A row group that is read batch by batch."""

    def __init__(self, piece: int, batches: Iterator[Any], arrow: Any) -> None:
        self.piece, self.batches, self.arrow = piece, batches, arrow
        self.at = 0
        self.left: Any = None

    def take(self, rows: int) -> Iterator[Any]:
        """The next so many rows, as tables."""
        while rows > 0:
            if self.left is None or not self.left.num_rows:
                batch = next(self.batches, None)
                if batch is None:
                    raise OSError("a row group has fewer rows than it says")
                self.left = self.arrow.Table.from_batches([batch])
            found = self.left.slice(0, rows)
            self.left = self.left.slice(found.num_rows)
            self.at += found.num_rows
            rows -= found.num_rows
            yield found

    def skip(self, rows: int) -> None:
        for _ in self.take(rows):
            pass
