"""Trials of the ops that move, fold or join elements: every kind of shape with every kind of parameter.

A rule that is wrong only for square factors, for an axis of size 1, for a fourth axis or for the rest beyond a whole
block is found where such a shape is tried, so small shapes of every kind are listed once (`SHAPES`) and the parameters
are enumerated for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, permutations, product
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

# No axis, size 1, odd and even, alike and different, beyond a block of 16, up to four axes.
SHAPES: list[Shape] = [
    (), (1,), (5,), (3, 3), (1, 4), (4, 1), (2, 19), (3, 3, 3), (2, 3, 4), (3, 1, 2), (2, 2, 2, 2), (2, 1, 3, 2),
]  # fmt: skip
MANY = 70_000  # more than 16 bits, or the whole numbers of a half float, can count


class Trial(NamedTuple):
    """One application of an op."""

    arrays: tuple[Array, ...]
    params: dict[str, Any]
    one_by_one: bool = False  # elements are moved by themselves too, not only all of them along some directions
    ordinary: bool = False  # no element is at an edge: the laws of every rule (`laws`) are tried here too


class _Numbers:
    """Random numbers, the same ones at each call."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(11)

    def normal(self, shape: Shape) -> Array:
        return np.asarray(self.rng.normal(0, 2, shape))

    def tied(self, shape: Shape) -> Array:
        """Whole numbers that are often equal, often 0."""
        return np.asarray(self.rng.integers(-1, 2, shape), np.float64)

    def nearly_tied(self, shape: Shape) -> Array:
        apart: Array = 1e-7 * self.rng.permutation(int(np.prod(shape))).reshape(shape)
        return np.asarray(self.tied(shape) + apart)


def structured(name: str) -> list[Trial]:
    """The trials of an op that is not elementwise; none for one that is not listed here."""
    return list(_TRIALS[name](_Numbers())) if name in _TRIALS else []


def _subsets(rank: int) -> Iterator[tuple[int, ...]]:
    for count in range(1, rank + 1):
        yield from combinations(range(rank), count)


def _small(shape: Shape) -> bool:
    return len(shape) < 3 and int(np.prod(shape)) <= 12


# -- folding ----------------------------------------------------------------------------------------------


def _sums(of: _Numbers) -> Iterator[Trial]:
    for shape in SHAPES:
        for dims in _subsets(len(shape)):
            yield Trial((of.normal(shape),), {"dims": dims}, ordinary=True)
    yield Trial((of.normal((MANY,)),), {"dims": (0,)})


def _extrema(of: _Numbers) -> Iterator[Trial]:
    for shape in SHAPES:
        for dims in _subsets(len(shape)):
            yield Trial((of.tied(shape),), {"dims": dims}, _small(shape))
            if _small(shape):
                yield Trial((of.normal(shape),), {"dims": dims}, True, ordinary=True)
                yield Trial((of.nearly_tied(shape),), {"dims": dims}, True)
    for sign in (-1, 1):  # the extremum may be 0
        yield Trial((sign * np.abs(of.tied((4, 4))),), {"dims": (1,)}, True)
    yield Trial((np.zeros(MANY),), {"dims": (0,)})


# -- moving -----------------------------------------------------------------------------------------------


def _reshapes(of: _Numbers) -> Iterator[Trial]:
    shapes: list[Shape] = [(16,), (4, 4), (2, 8), (1, 16), (2, 2, 4), (2, 4, 2), (4, 1, 4), (2, 2, 2, 2)]
    for before, after in product(shapes, repeat=2):
        yield Trial((of.normal(before),), {"shape": after}, ordinary=before == (2, 8))
    yield Trial((of.normal(()),), {"shape": (1, 1)})
    yield Trial((of.normal((3, 5)),), {"shape": (5, 3)})


def _permutes(of: _Numbers) -> Iterator[Trial]:
    for shape in SHAPES:
        for dims in permutations(range(len(shape))):
            yield Trial((of.normal(shape),), {"dims": dims}, ordinary=_small(shape))


def _expands(of: _Numbers) -> Iterator[Trial]:
    for shape in SHAPES:
        full = tuple(3 if size == 1 else size for size in shape)
        for grown, front in product(dict.fromkeys((shape, full)), ((), (2,), (2, 3))):
            yield Trial((of.normal(shape),), {"shape": front + grown}, ordinary=_small(shape))
    yield Trial((of.normal((1, 1)),), {"shape": (2, 3)})
    yield Trial((of.normal((1, 3, 1)),), {"shape": (2, 3, 4)})


def _spans(size: int) -> Iterator[tuple[int, int, int]]:
    for start, stop, step in product(range(0, size, 2), range(size, 0, -1), (1, 2, 3)):
        if start < stop:
            yield start, stop, step


def _slices(of: _Numbers) -> Iterator[Trial]:
    for low, high, every in _spans(7):
        yield Trial((of.normal((7,)),), {"start": (low,), "stop": (high,), "step": (every,)}, ordinary=True)
    corners = [((0, 1), (3, 4), (1, 1)), ((1, 0), (3, 4), (1, 3)), ((0, 1), (3, 4), (2, 2)), ((2, 0), (3, 1), (1, 1))]
    for shape in ((4, 4), (3, 4)):
        for start, stop, step in corners:
            yield Trial((of.normal(shape),), {"start": start, "stop": stop, "step": step}, ordinary=True)
    yield Trial((of.normal((3, 3, 3)),), {"start": (0, 1, 1), "stop": (2, 3, 3), "step": (1, 1, 1)})
    yield Trial((of.normal((5, 3, 4)),), {"start": (1, 0, 1), "stop": (5, 3, 4), "step": (3, 2, 1)})


def _flips(of: _Numbers) -> Iterator[Trial]:
    for shape in SHAPES:
        for dims in _subsets(len(shape)):
            yield Trial((of.normal(shape),), {"dims": dims}, ordinary=_small(shape))


def _pads(of: _Numbers) -> Iterator[Trial]:
    for size, before, after, between in product((1, 2, 5), (0, 1, 3), (0, 2), (0, 1, 2)):
        params = {"low": (before,), "high": (after,), "interior": (between,)}
        yield Trial((of.normal((size,)),), params, ordinary=True)
    for low, high, gap in [((1, 0), (0, 2), (0, 0)), ((0, 2), (1, 1), (1, 2)), ((2, 1), (2, 1), (1, 0))]:
        for shape in ((3, 4), (3, 3)):
            yield Trial((of.normal(shape),), {"low": low, "high": high, "interior": gap})


def _unfolds(of: _Numbers) -> Iterator[Trial]:
    for shape, dim in (((7,), 0), ((3, 8), 1), ((6, 2), 0), ((2, 9, 3), 1)):
        for size, step, dilation in product((1, 2, 3), (1, 2, 3), (1, 2)):
            params = {"dim": dim, "size": size, "step": step, "dilation": dilation}
            yield Trial((of.normal(shape),), params, ordinary=True)


# -- joining and multiplying --------------------------------------------------------------------------------


def _cats(of: _Numbers) -> Iterator[Trial]:
    for sizes in ((3,), (2, 2), (3, 1), (1, 3), (2, 1, 3), (1, 3, 2, 4)):
        for shape in ((2,), (2, 3), (3, 3), (2, 3, 2)):
            for dim in range(len(shape)):
                parts = tuple(of.normal((*shape[:dim], size, *shape[dim + 1 :])) for size in sizes)
                yield Trial(parts, {"dim": dim}, ordinary=_small(shape))


def _matmuls(of: _Numbers) -> Iterator[Trial]:
    for m, k, n in product((1, 2, 3), repeat=3):
        yield Trial((of.normal((m, k)), of.normal((k, n))), {}, ordinary=True)
    batches: list[tuple[Shape, Shape]] = [
        ((2,), (2,)), ((2,), ()), ((), (2,)), ((1,), (3,)), ((2, 1), (3,)), ((3, 3), (3, 3)), ((2, 1), (1, 3)),
    ]  # fmt: skip
    for (a, b), (m, k, n) in product(batches, ((3, 4, 2), (3, 3, 3), (2, 1, 3))):
        yield Trial((of.normal((*a, m, k)), of.normal((*b, k, n))), {}, ordinary=True)
    yield Trial((of.normal((5, 33)), of.normal((33, 17))), {})


def _convs(of: _Numbers) -> Iterator[Trial]:
    for size, window, stride, dilation in product((5, 8), (1, 2, 3), (1, 2, 3), (1, 2)):
        params = {"stride": (stride,), "dilation": (dilation,)}
        yield Trial((of.normal((1, 2, size, 3)), of.normal((1, 3, window, 2))), params, ordinary=True)
    images = (2, 3, 6, 7, 2), (2, 2, 3, 2, 5)
    for both in (((1, 1), (1, 1)), ((2, 1), (1, 2)), ((1, 3), (2, 1))):
        yield Trial(tuple(map(of.normal, images)), dict(zip(("stride", "dilation"), both, strict=True)), ordinary=True)


# -- positions --------------------------------------------------------------------------------------------


def _positions(shape: Shape, repeated: bool) -> Iterator[tuple[Array, ...]]:
    """Indices into the first axes of an array, from either end, repeated or each position at most once."""
    rng = np.random.default_rng(5)
    for axes in range(1, len(shape) + 1):
        cells = int(np.prod(shape[:axes]))
        for index_shape in ((1,), (3,), (2, 2), (2, 1)):
            count = int(np.prod(index_shape))
            flat = rng.integers(0, cells, count) if repeated else rng.permutation(cells)[:count]
            if flat.size == count:
                back = rng.random(count) < 0.4  # counted from the end
                found = np.stack(np.unravel_index(flat, shape[:axes]))
                sizes = np.array(shape[:axes])[:, None]
                yield tuple(np.where(back, found - sizes, found).reshape(axes, *index_shape))
    if repeated:
        yield (np.full((6,), -1),)


def _takes(of: _Numbers) -> Iterator[Trial]:
    for shape in ((5,), (4, 3), (3, 3), (2, 3, 4)):
        for indices in _positions(shape, repeated=True):
            yield Trial((of.normal(shape), *indices), {}, ordinary=True)
    yield Trial((of.normal((3, 4)), np.array([[2], [0], [-1]]), np.array([0, 1, 1])), {})  # indices that broadcast


def _puts(repeated: bool) -> Callable[[_Numbers], Iterator[Trial]]:
    def trials(of: _Numbers) -> Iterator[Trial]:
        for shape in ((5,), (4, 3), (3, 3), (2, 3, 4)):
            for indices in _positions(shape, repeated):
                source = of.normal(indices[0].shape + shape[len(indices) :])
                yield Trial((of.normal(shape), source, *indices), {}, ordinary=True)

    return trials


_TRIALS: dict[str, Callable[[_Numbers], Iterator[Trial]]] = {
    "sum": _sums,
    "amax": _extrema,
    "amin": _extrema,
    "reshape": _reshapes,
    "permute": _permutes,
    "expand": _expands,
    "slice": _slices,
    "flip": _flips,
    "pad": _pads,
    "cat": _cats,
    "unfold": _unfolds,
    "matmul": _matmuls,
    "conv": _convs,
    "take": _takes,
    "put_add": _puts(repeated=True),
    # Positions written twice have no gradient of their own for the value that is lost (PyTorch's deviation): none here.
    "put": _puts(repeated=False),
}
