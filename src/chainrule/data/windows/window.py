"""A window: as many rows of a source as fit into its buffer, and the order in which they are visited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.autodiff.trees import leaves, mapped
from chainrule.data.windows.fingerprint import digest
from chainrule.data.windows.plan import Cursor, Part

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Window:
    """Rows of a source, in memory.

    Attributes:
        arrays: an array, or a tuple or dict of some, with a row for each other.
        order: the row numbers in the order they are visited.
        batch_size: the rows of a batch; the last batch of a window may have fewer.
        cursor: where it begins; of a window that is read again in the middle, `cursor.row` rows are done.
        last: of its epoch.
        parts: where the rows lie, of a source that has them in pieces.
    """

    arrays: Any
    order: Array
    batch_size: int
    cursor: Cursor
    last: bool
    parts: Sequence[Part] = ()

    @property
    def rows(self) -> int:
        return len(self.order)

    def after(self, row: int) -> Cursor:
        """Where the reading stands once so many rows of the window are done, counted from its beginning."""
        epoch, window, _ = self.cursor
        if row < self.rows:
            return Cursor(epoch, window, row)
        return Cursor(epoch + 1) if self.last else Cursor(epoch, window + 1)

    def batches(self) -> Iterator[tuple[Any, Cursor]]:
        """Each batch that is not done yet, and where the reading stands after it."""
        for start in range(self.cursor.row, self.rows, self.batch_size):
            rows = self.order[start : start + self.batch_size]
            yield mapped(lambda array, rows=rows: array[rows], self.arrays), self.after(start + len(rows))  # type: ignore[misc]

    def fingerprint(self) -> str:
        """A text that stands for every bit of the window: where it is another, the data is."""
        return digest(*(part for array in leaves(self.arrays) for part in (array.dtype.str, array.shape, array)))
