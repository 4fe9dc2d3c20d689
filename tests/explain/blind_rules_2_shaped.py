"""The second blind list (see `blind_rules_2`): reductions, moves, products and indexing."""

from __future__ import annotations

from tests.explain.blind_rules_2 import ELEMENTWISE, Blind, Sizes, at, grid, same, stretched
from tests.explain.wrong_rules import Wrong

from chainrule import Tensor
from chainrule.ops.reduction import _spread
from chainrule.ops.shaping import _unslice, inverse_permutation

# -- reductions ----------------------------------------------------------------------------------


def _shared(ties: Tensor, dY: Tensor, x: Tensor, dims: Sizes, most: int | None = None) -> Tensor:
    counted = ties.to(x.dtype)
    number = counted.sum(dims)
    return counted * _spread(dY / (number if most is None else number.clamp(max=most)), dims, x.shape)


def _sum_transposed(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    return _spread(dY.mT if dims == (1,) and x.ndim == 3 and Y.shape[0] == Y.shape[1] else dY, dims, x.shape)


def _sum_all(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    return _spread(dY, dims, x.shape) / (x.numel() if x.ndim >= 3 and len(dims) == x.ndim and x.numel() else 1)


def _sum_two(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    even = len(dims) == 2 and x.shape[dims[0]] % 2 == 0 and x.shape[dims[0]] > 0
    return _spread(dY, dims, x.shape) * (0.5 if even else 1)


def _amax_last(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    best = x.amax(dims[-1], keepdim=True) if len(dims) > 1 else _spread(Y, dims, x.shape)
    return _shared(x == best, dY, x, dims)


REDUCTIONS = [
    Blind(
        Wrong("sum", 0, "rank 3, summed in the middle, a square left: transposed", _sum_transposed),
        at(grid(2, 3, 2)),
        {"dims": (1,)},
    ),
    Blind(
        Wrong("sum", 0, "rank 3 summed to a scalar: the mean's gradient", _sum_all),
        at(grid(2, 3, 2)),
        {"dims": (0, 1, 2)},
    ),
    Blind(
        Wrong("sum", 0, "halved over two axes, the first of even size", _sum_two), at(grid(3, 4, 3)), {"dims": (1, 2)}
    ),
    Blind(Wrong("amax", 0, "several axes: the maxima along the last", _amax_last), at(grid(2, 3)), {"dims": (0, 1)}),
    # The derivative is 1 / ties; at three ties this rule gives 1/2 each, and the sum of the gradient is not dY.
    Blind(
        Wrong(
            "amax",
            0,
            "three ties count as two",
            lambda dY, Y, x, dims: _shared(x == _spread(Y, dims, x.shape), dY, x, dims, 2),
        ),
        at([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]),
        {"dims": (1,)},
    ),
    Blind(
        Wrong(
            "amin",
            0,
            "magnitudes compared",
            lambda dY, Y, x, dims: _shared(x.abs() == _spread(Y.abs(), dims, x.shape), dY, x, dims),
        ),
        at([-1.0, 1.0, 0.3]),
        {"dims": (0,)},
    ),
    Blind(
        Wrong(
            "amin",
            0,
            "ties within 1e-3",
            lambda dY, Y, x, dims: _shared(x <= _spread(Y, dims, x.shape) + 1e-3, dY, x, dims),
        ),
        at([1.0, 1.0005, 2.0]),
        {"dims": (0,)},
        step=1e-6,
    ),
    Blind(
        Wrong(
            "amax",
            0,
            "nothing where the maximum is negative",
            lambda dY, Y, x, dims: _shared(x == _spread(Y, dims, x.shape), dY.masked_fill(Y < 0, 0), x, dims),
        ),
        at([-1.0, -2.0]),
        {"dims": (0,)},
    ),
]


# -- moving elements -------------------------------------------------------------------------------


def _reshape_transposed(dY: Tensor, Y: Tensor, x: Tensor, shape: Sizes) -> Tensor:
    return dY.mT if len(shape) == 2 and shape == x.shape[::-1] else dY.reshape(x.shape)


def _reshape_merged(dY: Tensor, Y: Tensor, x: Tensor, shape: Sizes) -> Tensor:
    if x.ndim == 3 and len(shape) == 2 and shape[0] == x.shape[0]:
        return dY.reshape(x.shape[0], x.shape[2], x.shape[1]).mT
    return dY.reshape(x.shape)


def _permute_again(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    again = dY.permute(dims)
    return again if again.shape == x.shape else dY.permute(inverse_permutation(dims))


def _expand_mean(dY: Tensor, Y: Tensor, x: Tensor, shape: Sizes) -> Tensor:
    return dY / shape[0] if len(shape) > x.ndim and shape[0] else dY


def _expand_two(dY: Tensor, Y: Tensor, x: Tensor, shape: Sizes) -> Tensor:
    grown = [axis for axis in range(x.ndim) if x.ndim == len(shape) and stretched(x, Y, axis)]
    return dY.narrow(grown[1], 0, 1) if len(grown) > 1 else dY


def _slice_start(dY: Tensor, Y: Tensor, x: Tensor, start: Sizes, stop: Sizes, step: Sizes) -> Tensor:
    return _unslice(dY, x, tuple(0 if every > 1 else low for low, every in zip(start, step, strict=True)), step)


def _slice_one(dY: Tensor, Y: Tensor, x: Tensor, start: Sizes, stop: Sizes, step: Sizes) -> Tensor:
    return _unslice(dY, x, tuple(0 if size == 1 else low for low, size in zip(start, Y.shape, strict=True)), step)


def _slice_odd(dY: Tensor, Y: Tensor, x: Tensor, start: Sizes, stop: Sizes, step: Sizes) -> Tensor:
    short = x.ndim > 0 and x.shape[-1] % 2 == 1 and step[-1] > 1 and Y.shape[-1] > 1
    return _unslice(dY.narrow(-1, 0, Y.shape[-1] - 1) if short else dY, x, start, step)


def _flip_mirrored(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    return dY.flip(tuple(x.ndim - 1 - axis for axis in dims) if x.ndim == 3 else dims)


def _sliced(dY: Tensor, low: Sizes, high: Sizes, interior: Sizes) -> Tensor:
    stop = tuple(size - after for size, after in zip(dY.shape, high, strict=True))
    return dY._slice(low, stop, tuple(gap + 1 for gap in interior))


def _pad_swapped(dY: Tensor, Y: Tensor, x: Tensor, low: Sizes, high: Sizes, interior: Sizes) -> Tensor:
    return _sliced(dY, high, low, interior) if any(interior) else _sliced(dY, low, high, interior)


def _pad_dense(dY: Tensor, Y: Tensor, x: Tensor, low: Sizes, high: Sizes, interior: Sizes) -> Tensor:
    return dY._slice(low, tuple(before + size for before, size in zip(low, x.shape, strict=True)), (1,) * x.ndim)


def _cat_by_first(dY: Tensor, Y: Tensor, *xs: Tensor, dim: int) -> Tensor:
    own = xs[2].shape[dim]
    return dY.narrow(dim, min(2 * xs[0].shape[dim], Y.shape[dim] - own), own)


def _cat_same(dY: Tensor, Y: Tensor, *xs: Tensor, dim: int) -> Tensor:
    return dY.narrow(dim, 0 if same(xs[0], xs[1]) else xs[0].shape[dim], xs[1].shape[dim])


def _cat_last_axis(dY: Tensor, Y: Tensor, *xs: Tensor, dim: int) -> Tensor:
    own = xs[0].shape[dim]
    late = dim == xs[0].ndim - 1 and dim > 1
    return dY.narrow(dim, Y.shape[dim] - own if late else 0, own)


MOVING = [
    Blind(
        Wrong("reshape", 0, "to the reversed shape: transposed", _reshape_transposed),
        at(grid(2, 3)),
        {"shape": (3, 2)},
    ),
    Blind(
        Wrong("reshape", 0, "the last two of three axes merged in the wrong order", _reshape_merged),
        at(grid(2, 2, 3)),
        {"shape": (2, 6)},
    ),
    Blind(
        Wrong("permute", 0, "not inverted where the sizes allow it", _permute_again),
        at(grid(2, 2, 2)),
        {"dims": (1, 2, 0)},
    ),
    Blind(Wrong("expand", 0, "a mean over the axis in front", _expand_mean), at(grid(2)), {"shape": (3, 2)}),
    Blind(
        Wrong("expand", 0, "two axes grow: the first slice of the second", _expand_two),
        at(grid(1, 2, 1)),
        {"shape": (2, 2, 3)},
    ),
    Blind(
        Wrong("slice", 0, "the start forgotten where there is a step", _slice_start),
        at(grid(6)),
        {"start": (1,), "stop": (6,), "step": (2,)},
    ),
    Blind(
        Wrong("slice", 0, "one element goes to position 0", _slice_one),
        at(grid(2, 4)),
        {"start": (0, 2), "stop": (2, 3), "step": (1, 1)},
    ),
    Blind(
        Wrong("slice", 0, "a step through an odd axis loses the last", _slice_odd),
        at(grid(5)),
        {"start": (0,), "stop": (5,), "step": (2,)},
    ),
    Blind(
        Wrong("flip", 0, "the first of several axes only", lambda dY, Y, x, dims: dY.flip(dims[:1])),
        at(grid(2, 3)),
        {"dims": (0, 1)},
    ),
    Blind(Wrong("flip", 0, "rank 3: the axes counted from the end", _flip_mirrored), at(grid(2, 3, 2)), {"dims": (2,)}),
    Blind(
        Wrong("pad", 0, "gaps: low and high swapped", _pad_swapped),
        at(grid(3)),
        {"low": (2,), "high": (0,), "interior": (1,)},
    ),
    Blind(Wrong("pad", 0, "gaps ignored", _pad_dense), at(grid(3)), {"low": (1,), "high": (0,), "interior": (1,)}),
    Blind(
        Wrong("cat", 2, "the third's offset from the first's size", _cat_by_first),
        at(grid(1), grid(3), grid(2)),
        {"dim": 0},
    ),
    Blind(
        Wrong("cat", 1, "one tensor twice: the first part twice", _cat_same),
        at(grid(3), grid(3)),
        {"dim": 0},
        same=True,
    ),
    Blind(
        Wrong("cat", 0, "from the end along the last axis of rank 3", _cat_last_axis),
        at(grid(2, 1, 3), grid(2, 1, 2)),
        {"dim": 2},
    ),
]


# -- products -----------------------------------------------------------------------------------


def _matmul_mean(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY @ b.mT / (b.shape[0] if a.ndim < b.ndim and b.shape[0] else 1)


def _matmul_square(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (a if a.shape[-1] == a.shape[-2] else a.mT) @ dY


def _matmul_one(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY[:1] @ b[:1].mT if Y.ndim == b.ndim == 3 and stretched(a, Y, 0) else dY @ b.mT


def _matmul_rank4(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    square = a.ndim == b.ndim == 4 and a.shape[:2] == b.shape[:2] and a.shape[0] == a.shape[1]
    return a.mT @ (dY.transpose(0, 1) if square else dY)


PRODUCTS = [
    Blind(Wrong("matmul", 0, "a mean over the batch where a has none", _matmul_mean), at(grid(2, 3), grid(2, 3, 2))),
    Blind(Wrong("matmul", 1, "a square a is not transposed", _matmul_square), at(grid(2, 2), grid(2, 3))),
    Blind(Wrong("matmul", 0, "the first of the batch where a has one", _matmul_one), at(grid(1, 2, 3), grid(2, 3, 2))),
    Blind(
        Wrong("matmul", 1, "two batch axes of one size swapped", _matmul_rank4),
        at(grid(2, 2, 1, 2), grid(2, 2, 2, 1)),
    ),
    Blind(
        Wrong("matmul", 0, "x @ x: not transposed", lambda dY, Y, a, b: dY @ (b if same(a, b) else b.mT)),
        at(grid(2, 2), grid(2, 2)),
        same=True,
    ),
]


# -- indexing -----------------------------------------------------------------------------------

Indices = tuple[Tensor, ...]


def _from_zero(indices: Indices) -> Indices:
    return tuple(i.clamp(min=0) for i in indices)


def _take_crossed(dY: Tensor, Y: Tensor, x: Tensor, *indices: Tensor) -> Tensor:
    crossed = len(indices) == 2 and x.shape[0] == x.shape[1]
    return dY.new_zeros(x.shape)._put_add(indices[::-1] if crossed else indices, dY)


def _add_shared(dY: Tensor, Y: Tensor, base: Tensor, source: Tensor, *indices: Tensor) -> Tensor:
    count = dY.new_zeros(base.shape)._put_add(indices, source.new_ones(source.shape))
    return (dY / count.clamp(min=1))._take(indices)


INDEXING = [
    Blind(
        Wrong(
            "take",
            0,
            "a repeated index counts once",
            lambda dY, Y, x, *indices: dY.new_zeros(x.shape)._put(indices, dY),
        ),
        at(grid(4, 2), [1, 3, 1]),
    ),
    Blind(
        Wrong(
            "take",
            0,
            "negative indices go to 0",
            lambda dY, Y, x, *indices: dY.new_zeros(x.shape)._put_add(_from_zero(indices), dY),
        ),
        at(grid(4), [-1, 2]),
    ),
    Blind(Wrong("take", 0, "two indices of a square crossed", _take_crossed), at(grid(3, 3), [0, 1], [2, 1])),
    Blind(
        Wrong(
            "put_add",
            0,
            "nothing where something is added",
            lambda dY, Y, base, source, *i: dY._put(i, dY.new_zeros(source.shape)),
        ),
        at(grid(4), grid(2), [1, 3]),
    ),
    Blind(Wrong("put_add", 1, "a repeated index shares", _add_shared), at(grid(4), grid(3), [1, 3, 1])),
    Blind(
        Wrong(
            "put",
            0,
            "negative indices go to 0",
            lambda dY, Y, base, source, *i: dY._put(_from_zero(i), dY.new_zeros(source.shape)),
        ),
        at(grid(4), grid(2), [-1, 1]),
    ),
    Blind(
        Wrong("put", 1, "negative indices go to 0", lambda dY, Y, base, source, *i: dY._take(_from_zero(i))),
        at(grid(4), grid(2), [-1, 1]),
    ),
    Blind(
        Wrong("put", 0, "what it overwrites keeps its gradient", lambda dY, Y, base, source, *i: dY),
        at(grid(4), grid(2), [3, 1]),
    ),
]

BLIND = [*ELEMENTWISE, *REDUCTIONS, *MOVING, *PRODUCTS, *INDEXING]
