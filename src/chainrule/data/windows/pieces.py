"""A source whose rows can be read from any place: arrays, memory maps, files, datasets with row numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from chainrule.autodiff.trees import leaves, mapped
from chainrule.data.checks import check_batch_size, counter
from chainrule.data.windows.ahead import ReadAhead
from chainrule.data.windows.columns import Columns
from chainrule.data.windows.fingerprint import digest, sampled
from chainrule.data.windows.plan import START, Cursor, EpochWindows, Part
from chainrule.data.windows.source import BUFFER
from chainrule.data.windows.window import Window
from chainrule.errors import DataError
from chainrule.tensor.creation import readable

Array = np.ndarray[Any, Any]
BATCH = 64  # rows, where nobody says
MIXED = 64  # pieces that a window of a memory map is made of, where their size is ours to choose


class Store(Protocol):
    """Where the rows lie.

    Attributes:
        pieces: the rows of each stretch that is read as a whole.
        row_bytes: of a row in memory; None for rows that are in memory already, so that one window is all of them.
        ahead: may another thread read it?
        fixed: does it give the same rows whenever it is asked, as files do, and not as a dataset may that runs code of the
            user's?
    """

    pieces: Sequence[int]
    row_bytes: float | None
    ahead: bool
    fixed: bool

    def read(self, parts: Sequence[Part]) -> Any:
        """The rows of these parts, one part after the other."""

    def identity(self) -> Sequence[Any]:
        """What `digest` makes a fingerprint of."""


class PieceSource:
    """The windows of a store.

    Args:
        buffer: bytes of a window.
        transform: from the arrays of a window to others with as many rows.
        columns: which columns make the arrays, where they have names.
    """

    batch_size: int | None = None

    def __init__(
        self, store: Store, buffer: int = BUFFER, transform: Callable[[Any], Any] | None = None, who: str = "source",
        columns: Columns | None = None,
    ) -> None:  # fmt: skip
        self.store, self.buffer, self.transform, self.who, self.columns = store, buffer, transform, who, columns
        self.rows: int | None = sum(store.pieces)
        if not self.rows:
            raise DataError(f"{who}: there must be at least one row, got none. Check how the data was written.")

    def windows(
        self, start: Cursor = START, seed: int = 0, *, batch_size: int | None = None, shuffle: bool | None = None
    ) -> Iterator[Window]:
        """See `Source`."""
        start, batch = Cursor(*start), check_batch_size(BATCH if batch_size is None else batch_size, self.who)
        counter("epoch", start.epoch)
        plan = EpochWindows(
            self.store.pieces, self._size(batch), counter("seed", seed), start.epoch, shuffle is not False
        )
        self._check_start(start, plan)
        jobs = [partial(self._window, plan, number, start, batch) for number in range(start.window, plan.windows)]
        if self.store.ahead and len(jobs) > 1:
            return ReadAhead(jobs)
        return (job() for job in jobs)

    def cursor_at(self, epoch: int, row: int, batch_size: int = BATCH) -> Cursor:
        """Where the reading stands once so many rows of an epoch are done: for whoever counts steps and not windows."""
        if row >= sum(self.store.pieces):
            return Cursor(epoch + 1)
        return Cursor(epoch, *divmod(row, self._size(check_batch_size(batch_size, self.who))))

    def _size(self, batch: int) -> int:
        """Rows of a window: whole batches, at least one."""
        per_row = self.store.row_bytes
        if per_row is None:
            return max(1, sum(self.store.pieces))
        return max(1, int(self.buffer / max(per_row, 1)) // batch) * batch

    def _check_start(self, start: Cursor, plan: EpochWindows) -> None:
        rows = min(plan.size, plan.rows - start.window * plan.size)
        if start.window < 0 or not 0 <= start.row < max(rows, 1) or start.window >= plan.windows:
            raise DataError(
                f"{self.who}: there is no row {start.row} of window {start.window} in {plan.windows} windows of "
                f"{plan.size} rows. The data, buffer= or batch_size= is not what it was when this place was noted."
            )

    def _window(self, plan: EpochWindows, number: int, start: Cursor, batch: int) -> Window:
        row = start.row if number == start.window else 0
        order = plan.order(number)
        parts = plan.parts(number)
        arrays = self._arrays(parts, len(order))
        return Window(arrays, order, batch, Cursor(start.epoch, number, row), number == plan.windows - 1, parts)

    def where(self, window: Window, row: int) -> str:
        """Where a row of a window lies: its number, counted from 0, or its file and number there."""
        for part in window.parts:
            if row < part.rows:
                named = getattr(self.store, "where", None)
                if named is not None:
                    return str(named(part.piece, part.start + row))
                return f"row {sum(self.store.pieces[: part.piece]) + part.start + row} of the data"
            row -= part.rows
        return f"row {row} of the window"

    def _arrays(self, parts: Sequence[Part], rows: int) -> Any:
        arrays = self.store.read(parts)
        if self.transform is not None:
            arrays = self.transform(arrays)
        for array in leaves(arrays):
            if not isinstance(array, np.ndarray) or array.ndim == 0 or len(array) != rows:
                came = getattr(array, "shape", None) or type(array).__name__
                raise DataError(
                    f"{self.who}: transform must give arrays with as many rows as it got, {rows}, got {came}."
                )
        return arrays

    def whole(self) -> Any | None:
        """All rows, where they are one window and every epoch has the same; else None."""
        rows, per_row = sum(self.store.pieces), self.store.row_bytes
        fits = per_row is None or rows * per_row <= self.buffer
        return self.head(rows) if fits and self.store.fixed and self.transform is None else None

    def head(self, rows: int) -> Any:
        """See `Source`."""
        plan = EpochWindows(self.store.pieces, min(rows, sum(self.store.pieces)), 0, 0, shuffle=False)
        return self._arrays(plan.parts(0), plan.size)

    def fingerprint(self) -> str:
        """See `Source`."""
        return digest(
            self.buffer if self.store.row_bytes is not None else None, list(self.store.pieces), *self.store.identity()
        )


def joined(parts: Sequence[Any]) -> Any:
    """Trees of arrays, one below the other; one alone as it is, without a copy."""
    if len(parts) == 1:
        return parts[0]
    columns = zip(*map(leaves, parts), strict=True)
    together = iter([np.concatenate(column) for column in columns])
    return mapped(lambda _: next(together), parts[0])


class ArrayStore:
    """A tree of arrays: in memory, where all of it is one window; or mapped from files, or read by slices (HDF5, Zarr)."""

    fixed = True

    def __init__(self, arrays: Any, buffer: int, who: str) -> None:
        self.arrays = arrays
        self.rows = same_rows(arrays, who)
        self.ahead = not all(map(in_memory, leaves(arrays)))
        self.row_bytes = sum(map(bytes_a_row, leaves(arrays))) if self.ahead else None
        self.pieces = [self.rows] if self.row_bytes is None else even_pieces(self.rows, self.row_bytes, buffer)
        self.starts = np.cumsum([0, *self.pieces]).tolist()

    def read(self, parts: Sequence[Part]) -> Any:
        return joined([mapped(partial(self._slice, part), self.arrays) for part in parts])

    def _slice(self, part: Part, array: Any) -> Array:
        first = self.starts[part.piece]
        found = array[first + part.start : first + part.stop]
        return found if in_memory(array) else np.array(found)  # read now, and not when the step needs it

    def identity(self) -> Sequence[Any]:
        return [
            text
            for array in leaves(self.arrays)
            for text in (sampled(array) if isinstance(array, np.ndarray) else _shape(array))
        ]


def _shape(array: Any) -> list[Any]:
    """Of what is read by slices: its type, and its first and last rows."""
    ends = (np.asarray(array[:MIXED]), np.asarray(array[max(0, len(array) - MIXED) :]))
    return [str(array.dtype), tuple(array.shape), *ends]


def even_pieces(rows: int, row_bytes: float, buffer: int) -> list[int]:
    """Pieces of one size, many to a window, so that a shuffled window holds rows from many places."""
    size = max(1, int(buffer / MIXED / max(row_bytes, 1)))
    return [min(size, rows - start) for start in range(0, rows, size)]


def in_memory(array: Any) -> bool:
    """False for a memory map, a view of one, and what is no NumPy array."""
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        if array.base is None:
            return True
        array = array.base
    return not isinstance(array, np.memmap) and type(array).__name__ != "mmap" and not hasattr(array, "chunks")


def bytes_a_row(array: Any) -> float:
    shape = tuple(array.shape)
    return float(np.dtype(array.dtype).itemsize * np.prod(shape[1:], dtype=np.int64))


def same_rows(arrays: Any, who: str) -> int:
    """How many rows all arrays have."""
    found = leaves(arrays)
    if not found:
        raise DataError(f"{who}: there must be at least one array, got none. Give the inputs, and mostly targets.")
    shapes: list[tuple[int, ...]] = [tuple(array.shape) for array in found]
    if any(not shape or shape[0] != shapes[0][0] for shape in shapes):
        raise DataError(
            f"{who}: all arrays must have a row for each other, got shapes {' and '.join(map(str, shapes))}. "
            f"Row i of each belongs to example i."
        )
    return shapes[0][0]


class RowStore:
    """A dataset with ``__getitem__`` and ``__len__``: its rows are asked for one by one, and stacked.

    They are read in the thread of whoever asks: the dataset may draw from random generators of the process.
    """

    ahead = fixed = False

    def __init__(self, dataset: Any, buffer: int, who: str) -> None:
        self.dataset, self.who = dataset, who
        rows = len(dataset)
        first = self._rows(range(min(1, rows)))
        self.row_bytes: float | None = sum(map(bytes_a_row, leaves(first))) if rows else 1.0
        self.pieces = even_pieces(rows, self.row_bytes or 1.0, buffer)
        self.starts = np.cumsum([0, *self.pieces]).tolist()

    def read(self, parts: Sequence[Part]) -> Any:
        firsts = [(self.starts[part.piece], part) for part in parts]
        return self._rows([row for first, part in firsts for row in range(first + part.start, first + part.stop)])

    def _rows(self, rows: Sequence[int]) -> Any:
        several = getattr(self.dataset, "__getitems__", None)
        found = several(list(rows)) if several is not None else [self.dataset[row] for row in rows]
        return stacked([plain(row, self.who) for row in found], self.who) if found else ()

    def identity(self) -> Sequence[Any]:
        rows = len(self.dataset)
        ends = sorted({*range(min(rows, 8)), *range(max(0, rows - 8), rows)})
        return [part for array in leaves(self._rows(ends)) for part in (array.dtype.str, array.shape, array)]


def stacked(rows: Sequence[Any], who: str) -> Any:
    """Trees of one row each, as a tree of arrays."""
    try:
        columns = [np.stack(column) for column in zip(*map(leaves, rows), strict=True)]
    except ValueError:
        raise DataError(
            f"{who}: all rows must have the same parts of the same shapes. Pad or cut them to one."
        ) from None
    together = iter(columns)
    return mapped(lambda _: next(together), rows[0])


def plain(tree: Any, who: str) -> Any:
    """A row or batch with its tensors (ours, PyTorch's) as arrays, and its lists of several arrays as tuples."""
    if isinstance(tree, dict):
        return {key: plain(value, who) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)) and any(
        hasattr(item, "dtype") or hasattr(item, "__array__") or isinstance(item, (list, tuple, dict)) for item in tree
    ):
        items = [plain(item, who) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    tree = readable(tree)
    if hasattr(tree, "detach"):
        tree = tree.detach().numpy()
    array = np.asarray(tree)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{who}: rows must hold numbers, got {array.dtype} from {type(tree).__name__}. Leave it out, or number the categories."
        )
    return array
