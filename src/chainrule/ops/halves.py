"""In which order the rows of a batch are added up: each half for itself, and then the two halves.

    total of rows = total of the first half + total of the second      of 128 rows and more
                  = one row after the other                             of fewer: a leaf

The first half has the middle row of an odd number. So the halves of a batch, and theirs in turn, add up as they do
within it: micro-batches that are halves of halves, of at least 64 rows each, give the bits of the whole batch when
their sums are added as the tree has it. Of the number of rows alone; and a long sum's error grows with the leaf's
terms and with the logarithm of how many leaves there are, not with all terms.

What is a sum over the rows of a batch is said by the op: see `contraction.matmul` and `reduction.sum`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

T = TypeVar("T")

# Rows from which on a half is added up for itself: of 64 the joints cost 1 % of a dense step, of 32 some 3 % (batches of 128 to
# 2,048 rows, AVX-512; 0 to 3 % from one network to another).
LEAF = 64


class Leaf(NamedTuple):
    """Rows that are added one after the other, up to `end`.

    Their total is then added to what `joins` halves before them gave, the latest first, and waits in place `slot` of a
    stack until it is asked for in the same way; the last leaf's is the total of all.
    """

    end: int
    joins: int
    slot: int


@lru_cache(maxsize=1024)
def leaves(rows: int, least: int = 0) -> tuple[Leaf, ...]:
    """The leaves of so many rows, in their order; with `least`, the halves of halves of so many rows or a little more.

    >>> leaves(512)[-1]
    Leaf(end=512, joins=3, slot=0)
    >>> [part.end for part in leaves(512, least=200)]
    [256, 512]
    """
    return _stacked(_halves(rows, lambda size, _: size < 2 * max(least, LEAF)))


def parts(rows: int, count: int) -> tuple[Leaf, ...]:
    """So many parts of the rows, a power of two: halves, or halves of halves, ...

    >>> [part.end for part in parts(10, 4)]
    [3, 5, 8, 10]
    """
    return _stacked(_halves(rows, lambda _, depth: 1 << depth == count))


def halved(rows: int) -> bool:
    """Are there so many that they are not simply added in order?"""
    return rows >= 2 * LEAF


def places(parts: Sequence[Leaf]) -> int:
    """How many totals wait at a time, at most; the last of all does not."""
    return max((leaf.slot + 1 for leaf in parts[:-1]), default=0)


def _halves(rows: int, is_leaf: Callable[[int, int], bool], depth: int = 0) -> list[tuple[int, int]]:
    """Rows and joins of each leaf; `is_leaf` is asked of rows and of how often they were halved."""
    if is_leaf(rows, depth):
        return [(rows, 0)]
    *first, (size, joins) = _halves(rows // 2, is_leaf, depth + 1)
    return [*_halves(rows - rows // 2, is_leaf, depth + 1), *first, (size, joins + 1)]


def _stacked(sizes: list[tuple[int, int]]) -> tuple[Leaf, ...]:
    found: list[Leaf] = []
    end = height = 0
    for size, joins in sizes:
        end, height = end + size, height - joins
        found.append(Leaf(end, joins, height))
        height += 1
    return tuple(found)


def total(tree: Sequence[Leaf], part: Callable[[int, int], T], add: Callable[[T, T], T]) -> T:
    """The sum over all rows, of which `part(start, end)` gives that of a leaf."""
    waiting: list[T] = []
    start = 0
    for leaf in tree:
        own = part(start, leaf.end)
        for _ in range(leaf.joins):
            own = add(waiting.pop(), own)
        waiting.append(own)
        start = leaf.end
    return waiting[0]
