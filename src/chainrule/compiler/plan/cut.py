"""Cuts: where an axis may be divided among threads."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

ENOUGH = 8  # units that leave several threads about equal work


class Cut(NamedTuple):
    """An axis of `size` in `units`: the first `large` of `rows` elements, the others `less`, the last perhaps otherwise."""

    size: int
    units: int
    rows: int
    large: int
    less: int = 1  # by how many elements the others are shorter

    @classmethod
    def even(cls, size: int, rows: int = 1) -> Cut:
        """Units of `rows`, the last with what is left."""
        units = -(-size // rows)
        return cls(size, units, rows, units)

    def start(self, unit: int) -> int:
        """Where a unit begins, in elements of the axis."""
        if unit >= self.units:
            return self.size  # the last may also be longer
        return min(self.size, unit * self.rows - self.less * max(0, unit - self.large))

    def edges(self, threads: int) -> tuple[int, ...]:
        """Where each thread's part begins; the last is the end."""
        return tuple(self.start(self.units * t // threads) for t in range(threads + 1))

    def largest(self, threads: int) -> float:
        """The largest part, as a share of the whole."""
        return _largest(self, threads)


@lru_cache(maxsize=4096)
def _largest(cut: Cut, threads: int) -> float:
    return max(b - a for a, b in pairwise(cut.edges(threads))) / max(1, cut.size)
