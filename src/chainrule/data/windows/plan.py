"""Which rows a window holds, and in which order they are visited: functions of seed, epoch and sizes alone.

The rows lie in *pieces* that are read as a whole (the row groups of a Parquet file, stretches of a memory map). An epoch
visits the pieces in a shuffled order, cuts that long row of rows into *windows* of one size, and visits the rows of each
window in a shuffled order of its own. With one window, that is the order of `shuffled_indices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.data.batches import shuffled_indices

Array = np.ndarray[Any, Any]
STRIDE = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: seeds of many windows that lie far apart
PIECES = -1  # the number of the stream that orders the pieces; those of windows count from 0


class Cursor(NamedTuple):
    """Where the reading of a source stands: `row` rows of `window`, of those that `epoch` visits, are done.

    Three numbers that a checkpoint can hold; with the seed, they say which row comes next.
    """

    epoch: int = 0
    window: int = 0
    row: int = 0


START = Cursor()  # before the first row of the first epoch


class Part(NamedTuple):
    """Rows `start` to `stop` of a piece."""

    piece: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


class EpochWindows:
    """The windows of an epoch.

    Args:
        pieces: the rows of each.
        size: the rows of a window; the last may have fewer.
    """

    def __init__(self, pieces: Sequence[int], size: int, seed: int, epoch: int, shuffle: bool) -> None:
        self.size, self.seed, self.epoch, self.shuffle = size, seed, epoch, shuffle
        counts = np.asarray(pieces, np.int64)
        self.rows = int(counts.sum())
        mixed = shuffle and self.windows > 1
        self.pieces = shuffled_indices(len(counts), _stream(seed, PIECES), epoch) if mixed else np.arange(len(counts))
        self.ends = np.cumsum(counts[self.pieces])

    @property
    def windows(self) -> int:
        """How many there are."""
        return -(-self.rows // self.size)

    def parts(self, window: int) -> list[Part]:
        """Where the rows of a window lie."""
        start, stop = window * self.size, min((window + 1) * self.size, self.rows)
        found = []
        for place in range(int(np.searchsorted(self.ends, start, side="right")), len(self.ends)):
            first = int(self.ends[place - 1]) if place else 0
            if first >= stop:
                break
            part = Part(int(self.pieces[place]), max(start, first) - first, min(stop, int(self.ends[place])) - first)
            if part.rows:
                found.append(part)
        return found

    def order(self, window: int) -> Array:
        """In which order the rows of a window are visited."""
        rows = min(self.size, self.rows - window * self.size)
        return shuffled_indices(rows, _stream(self.seed, window), self.epoch) if self.shuffle else np.arange(rows)


def _stream(seed: int, number: int) -> int:
    """A seed for each window, and one for the pieces; that of window 0 is the seed itself."""
    return (seed + number * STRIDE) % 2**64
