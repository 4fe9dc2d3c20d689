"""A second list of derivative rules written without knowledge of the check that is to find the wrong ones.

`blind_rules` has since been used to improve the check, so its figure is no longer blind. Whoever wrote this list had
read the ops' declarations and no line of the check, of its tests or of the other lists. Each wrong rule comes with a
point where it is wrong; `test_blind_rules_2` compares it there with finite differences of the op's NumPy reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tests.explain.wrong_rules import Wrong

import chainrule as cr
from chainrule import Tensor
from chainrule.dtypes import DType
from chainrule.ops.reduction import _spread
from chainrule.ops.shaping import _unslice, inverse_permutation

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Blind:
    """A wrong rule, and a point where it is wrong: the op's inputs and parameters.

    `same`: the first two inputs are one tensor there. `step`: of the finite difference, relative to the input.
    """

    wrong: Wrong
    inputs: tuple[Array, ...]
    params: dict[str, Any] = field(default_factory=dict)
    same: bool = False
    step: float = 1e-5


def _at(*inputs: Any) -> tuple[Array, ...]:
    return tuple(np.asarray(x, None if np.asarray(x).dtype.kind in "bi" else np.float64) for x in inputs)


def _grid(*shape: int) -> Array:
    """Numbers without ties, of both signs, none near 0."""
    position = np.arange(math.prod(shape), dtype=np.float64)
    return ((position + 0.7) * np.where(position % 3 == 1, -0.3, 0.4)).reshape(shape)


def _stretched(t: Tensor, Y: Tensor, axis: int) -> bool:
    """Is `t` broadcast along an axis that it has?"""
    return t.ndim == Y.ndim > 0 and t.shape[axis] == 1 and Y.shape[axis] > 1


def _same(a: Tensor, b: Tensor) -> bool:
    return a._node is b._node


# -- arithmetic --------------------------------------------------------------------------------


def _add_mean(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY.mean(-1, keepdim=True) if _stretched(a, Y, -1) else dY


def _add_first(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY.reshape(-1)[:1].reshape(()) if b.ndim == 0 and Y.numel() else dY


def _sub_middle(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY[:, :1] if Y.ndim == 3 and _stretched(a, Y, 1) else dY


def _mul_rank3(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    square = Y.ndim == 3 and Y.shape[1] == Y.shape[2] and a.shape == b.shape
    return (dY * a).mT if square else dY * a


def _mul_mean(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (dY * a).mean() if b.ndim == 0 and Y.numel() else dY * a


def _pow_log2(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    log = a.log2() if b.numel() == 1 < a.numel() else a.log()
    return (dY * (Y * log)).masked_fill((a == 0) & (b >= 0), 0)


ARITHMETIC = [
    Blind(
        Wrong("add", 0, "a mean where a is broadcast along the last axis", _add_mean), _at([[1.0], [2.0]], _grid(2, 3))
    ),
    Blind(Wrong("add", 1, "a scalar gets the first element's gradient only", _add_first), _at(_grid(3), 2.0)),
    Blind(
        Wrong(
            "sub", 1, "the sign lost where b has more axes than a", lambda dY, Y, a, b: dY if b.ndim > a.ndim else -dY
        ),
        _at(_grid(3), _grid(2, 3)),
    ),
    Blind(
        Wrong("sub", 0, "rank 3, broadcast in the middle: the first slice only", _sub_middle),
        _at(_grid(2, 1, 3), _grid(2, 2, 3)),
    ),
    Blind(
        Wrong("mul", 0, "a for b where b is 0", lambda dY, Y, a, b: dY * b.where(b != 0, a)),
        _at([2.0, 3.0], [0.0, 1.0]),
    ),
    Blind(
        Wrong("mul", 0, "halved where a equals b", lambda dY, Y, a, b: (dY * b / 2).where(a == b, dY * b)),
        _at([2.0, 3.0], [2.0, 1.0]),
    ),
    Blind(
        Wrong("mul", 1, "transposed for rank 3 with two equal sizes", _mul_rank3),
        _at(_grid(2, 3, 3), _grid(2, 3, 3)[::-1]),
    ),
    Blind(Wrong("mul", 1, "a mean for a scalar b", _mul_mean), _at(_grid(4), 2.0)),
    Blind(
        Wrong("mul", 1, "nothing where both are one tensor", lambda dY, Y, a, b: dY * a * (0 if _same(a, b) else 1)),
        _at(_grid(3), _grid(3)),
        same=True,
    ),
    Blind(
        Wrong("div", 0, "divisors below 1e-3 are clipped", lambda dY, Y, a, b: dY / b.abs().clamp(min=1e-3) * b.sign()),
        _at([2.0, 3.0], [1e-4, 2.0]),
    ),
    Blind(
        Wrong("div", 1, "1e-8 added to the squared divisor", lambda dY, Y, a, b: -dY * a / (b * b + 1e-8)),
        _at([2.0, 3.0], [1e-3, 2.0]),
    ),
    Blind(
        Wrong(
            "div",
            1,
            "sign lost where both are negative",
            lambda dY, Y, a, b: dY * (Y / b) * (-1.0 + 2.0 * ((a < 0) & (b < 0)).to(dY.dtype)),
        ),
        _at([-2.0, 3.0], [-0.5, 2.0]),
    ),
    Blind(
        Wrong("div", 1, "a/a counts as constant", lambda dY, Y, a, b: -dY * (Y / b) * (0 if _same(a, b) else 1)),
        _at(_grid(3), _grid(3)),
        same=True,
    ),
    Blind(Wrong("neg", 0, "the sign lost for a scalar", lambda dY, Y, x: dY if x.ndim == 0 else -dY), _at(2.0)),
    Blind(
        Wrong(
            "pow",
            0,
            "the magnitude of a negative base",
            lambda dY, Y, a, b: (dY * (b * a.abs() ** (b - 1))).where(b != 0, 0),
        ),
        _at([-2.0, 1.5], [2.0, 2.0]),
    ),
    Blind(
        Wrong(
            "pow",
            0,
            "b Y / a, 0 at a = 0: there the first power has slope 1",
            lambda dY, Y, a, b: (dY * (b * Y / a)).masked_fill(a == 0, 0),
        ),
        _at([0.0, 1.5], [1.0, 2.0]),
    ),
    Blind(
        Wrong(
            "pow",
            0,
            "a square's factor 2 missing",
            lambda dY, Y, a, b: (dY * (b.masked_fill(b == 2, 1) * a ** (b - 1))).where(b != 0, 0),
        ),
        _at([1.2, 1.5], [2.0, 3.0]),
    ),
    Blind(
        Wrong("pow", 0, "not a number for 0 to the power 0", lambda dY, Y, a, b: dY * (b * a ** (b - 1))),
        _at([0.0, 1.5], [0.0, 3.0]),
    ),
    Blind(
        Wrong(
            "pow",
            1,
            "0 for negative exponents",
            lambda dY, Y, a, b: (dY * (Y * a.log())).masked_fill((a == 0) | (b < 0), 0),
        ),
        _at([2.0, 1.5], [-1.0, 3.0]),
    ),
    Blind(Wrong("pow", 1, "log2 for one exponent of many bases", _pow_log2), _at([2.0, 1.5], [1.3])),
    Blind(
        Wrong(
            "pow",
            1,
            "not a number for 0 to a power in (0, 1]",
            lambda dY, Y, a, b: (dY * (Y * a.log())).masked_fill((a == 0) & (b > 1), 0),
        ),
        _at([0.0, 1.5], [0.5, 3.0]),
    ),
    Blind(
        Wrong("remainder", 1, "truncated, not floored", lambda dY, Y, a, b: -dY * (a / b).trunc()),
        _at([-5.0, 7.0], [3.0, 2.3]),
    ),
    Blind(
        Wrong("remainder", 0, "the sign of the divisor", lambda dY, Y, a, b: dY * b.sign()),
        _at([5.0, 7.0], [-3.0, 2.3]),
    ),
    # floor(a / b) is constant almost everywhere.
    Blind(Wrong("floor_divide", 0, "straight through", lambda dY, Y, a, b: dY / b), _at([5.5, 7.0], [3.0, 2.3])),
]


# -- functions of one number ---------------------------------------------------------------------


def _exp_float32(dY: Tensor, Y: Tensor, x: Tensor) -> Tensor:
    return dY * (Y - 1) if x.dtype is cr.float32 else dY * Y


def _sin_by_root(dY: Tensor, Y: Tensor, x: Tensor) -> Tensor:
    return dY * (1 - Y * Y).clamp(min=0).sqrt() * (math.pi / 2 - x.abs()).sign()


POINTWISE = [
    Blind(Wrong("abs", 0, "1 at 0", lambda dY, Y, x: dY.where(x >= 0, -dY)), _at([0.0, 2.0])),
    Blind(Wrong("abs", 0, "rounded off near 0", lambda dY, Y, x: dY * x * (x * x + 1e-6).rsqrt()), _at([1e-3, 2.0])),
    Blind(
        Wrong("sign", 0, "straight through inside [-1, 1]", lambda dY, Y, x: dY.masked_fill(x.abs() > 1, 0)),
        _at([0.5, 2.0]),
    ),
    Blind(
        Wrong("floor", 0, "straight through for negative numbers", lambda dY, Y, x: dY.masked_fill(x > 0, 0)),
        _at([-0.5, 2.2]),
    ),
    Blind(
        Wrong("round", 0, "straight through below 1/2", lambda dY, Y, x: dY.masked_fill(x.abs() >= 0.5, 0)),
        _at([0.3, 2.2]),
    ),
    Blind(Wrong("exp", 0, "clipped at 1e4", lambda dY, Y, x: dY * Y.clamp(max=1e4)), _at([11.0, 1.0])),
    Blind(Wrong("exp", 0, "expm1's value in float32", _exp_float32), (np.array([0.5, -1.0], np.float32),), step=1e-2),
    Blind(Wrong("expm1", 0, "1 forgotten beyond 5", lambda dY, Y, x: dY * (Y + 1).where(x < 5, Y)), _at([5.5, 1.0])),
    Blind(Wrong("log", 0, "inputs below 1e-3 are clipped", lambda dY, Y, x: dY / x.clamp(min=1e-3)), _at([1e-4, 1.0])),
    Blind(
        Wrong("log", 0, "quotients below 1e-4 are flushed", lambda dY, Y, x: (dY / x).masked_fill(x > 1e4, 0)),
        _at([3e4, 1.0]),
    ),
    Blind(
        Wrong(
            "log1p",
            0,
            "the first two terms of a series near 0",
            lambda dY, Y, x: dY * (1 - x).where(x.abs() < 0.1, 1 / (1 + x)),
        ),
        _at([0.09, 1.0]),
    ),
    Blind(
        Wrong("sqrt", 0, "roots below 1e-2 are clipped", lambda dY, Y, x: dY / (2 * Y.clamp(min=1e-2))),
        _at([1e-6, 1.0]),
    ),
    Blind(
        Wrong("sqrt", 0, "the root's gradient halved beyond 100", lambda dY, Y, x: dY / (2 * Y.where(x < 100, 2 * Y))),
        _at([400.0, 1.0]),
    ),
    Blind(
        Wrong("rsqrt", 0, "clipped at -100", lambda dY, Y, x: dY * (-0.5 * Y * Y * Y).clamp(min=-100)), _at([0.01, 1.0])
    ),
    Blind(
        Wrong("sin", 0, "the root of 1 - Y ** 2, its sign right in the first period only", _sin_by_root),
        _at([5.5, 1.0]),
    ),
    Blind(Wrong("cos", 0, "2 pi has four digits", lambda dY, Y, x: -dY * x.remainder(6.283).sin()), _at([905.0, 1.0])),
    Blind(
        Wrong("tanh", 0, "0 beyond 3", lambda dY, Y, x: (dY * (1 - Y * Y)).masked_fill(x.abs() > 3, 0)), _at([3.2, 1.0])
    ),
    Blind(
        Wrong("tanh", 0, "1 - x ** 2 near 0", lambda dY, Y, x: dY * (1 - (x * x).where(x.abs() < 0.3, Y * Y))),
        _at([0.28, 1.0]),
    ),
    Blind(
        Wrong("sigmoid", 0, "0 beyond 6", lambda dY, Y, x: (dY * (Y * (1 - Y))).masked_fill(x.abs() >= 6, 0)),
        _at([6.1, 1.0]),
    ),
    Blind(
        Wrong("sigmoid", 0, "Y in the lower tail", lambda dY, Y, x: dY * (Y * (1 - Y)).where(x > -4, Y)),
        _at([-4.1, 1.0]),
    ),
    Blind(
        Wrong(
            "erf",
            0,
            "inputs clipped to [-2, 2]",
            lambda dY, Y, x: dY * (2 / math.sqrt(math.pi)) * (-(x.clamp(-2, 2) ** 2)).exp(),
        ),
        _at([2.5, 1.0]),
    ),
    Blind(
        Wrong("erf", 0, "exp(-x |x|)", lambda dY, Y, x: dY * (2 / math.sqrt(math.pi)) * (-x * x.abs()).exp()),
        _at([-0.4, 1.0]),
    ),
    Blind(Wrong("relu", 0, "1 at 0", lambda dY, Y, x: dY.masked_fill(x < 0, 0)), _at([0.0, 1.0])),
    Blind(Wrong("relu", 0, "0 up to 1e-3", lambda dY, Y, x: dY.masked_fill(Y <= 1e-3, 0)), _at([5e-4, 1.0])),
    Blind(Wrong("relu", 0, "as relu6", lambda dY, Y, x: dY.masked_fill((Y <= 0) | (Y >= 6), 0)), _at([7.0, 1.0])),
]


# -- choosing and casting ----------------------------------------------------------------------------


def _min_first_row(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    beside = a[:1] if _stretched(b, Y, 0) and not _stretched(a, Y, 0) and a.ndim == Y.ndim else a
    return (dY / 2).where(beside == b, dY.masked_fill(b > beside, 0))


def _where_share(dY: Tensor, Y: Tensor, c: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY.where(c, 0) if a.shape == Y.shape else dY * c.to(dY.dtype).mean()


def _cast_whole(dY: Tensor, Y: Tensor, x: Tensor, dtype: DType) -> Tensor | None:
    if not x.dtype.is_floating_point:
        return None
    return dY.long().to(x.dtype) if dtype is cr.float32 and x.dtype is cr.float64 else dY.to(x.dtype)


CHOOSING = [
    Blind(
        Wrong("maximum", 0, "all of a tie", lambda dY, Y, a, b: dY.masked_fill(a < b, 0)), _at([1.0, 2.0], [1.0, 3.0])
    ),
    Blind(
        Wrong("maximum", 1, "nothing of a tie", lambda dY, Y, a, b: dY.masked_fill(b <= a, 0)),
        _at([1.0, 2.0], [1.0, 3.0]),
    ),
    Blind(
        Wrong("minimum", 1, "b broadcast along rows: compared with a's first", _min_first_row),
        _at([[1.0, 5.0], [4.0, 0.0]], [[2.0, 3.0]]),
    ),
    Blind(
        Wrong(
            "minimum",
            0,
            "magnitudes compared",
            lambda dY, Y, a, b: (dY / 2).where(a == b, dY.masked_fill(a.abs() > b.abs(), 0)),
        ),
        _at([-3.0, 2.0], [1.0, 3.0]),
    ),
    Blind(
        Wrong("where", 1, "a broadcast: the share of the true", _where_share),
        _at([True, False, False], 2.0, _grid(3)),
    ),
    Blind(
        Wrong(
            "where", 2, "all of it where the condition always holds", lambda dY, Y, c, a, b: dY.where(~c | c.all(), 0)
        ),
        _at([True, True], _grid(2), _grid(2)),
    ),
    Blind(
        Wrong("cast", 0, "whole numbers from float64 to float32", _cast_whole),
        _at(_grid(3)),
        {"dtype": cr.float32},
        step=1e-2,
    ),
    Blind(Wrong("alias", 0, "0 where the value is 0", lambda dY, Y, x: dY.masked_fill(x == 0, 0)), _at([0.0, 1.0])),
]


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
        _at(_grid(2, 3, 2)),
        {"dims": (1,)},
    ),
    Blind(
        Wrong("sum", 0, "rank 3 summed to a scalar: the mean's gradient", _sum_all),
        _at(_grid(2, 3, 2)),
        {"dims": (0, 1, 2)},
    ),
    Blind(
        Wrong("sum", 0, "halved over two axes, the first of even size", _sum_two), _at(_grid(3, 4, 3)), {"dims": (1, 2)}
    ),
    Blind(Wrong("amax", 0, "several axes: the maxima along the last", _amax_last), _at(_grid(2, 3)), {"dims": (0, 1)}),
    # The declared formula is 1 / ties; at three ties this rule gives 1/2 each, and the sum of the gradient is not dY.
    Blind(
        Wrong(
            "amax",
            0,
            "three ties count as two",
            lambda dY, Y, x, dims: _shared(x == _spread(Y, dims, x.shape), dY, x, dims, 2),
        ),
        _at([[1.0, 1.0, 1.0], [0.0, 1.0, 2.0]]),
        {"dims": (1,)},
    ),
    Blind(
        Wrong(
            "amin",
            0,
            "magnitudes compared",
            lambda dY, Y, x, dims: _shared(x.abs() == _spread(Y.abs(), dims, x.shape), dY, x, dims),
        ),
        _at([-1.0, 1.0, 0.3]),
        {"dims": (0,)},
    ),
    Blind(
        Wrong(
            "amin",
            0,
            "ties within 1e-3",
            lambda dY, Y, x, dims: _shared(x <= _spread(Y, dims, x.shape) + 1e-3, dY, x, dims),
        ),
        _at([1.0, 1.0005, 2.0]),
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
        _at([-1.0, -2.0]),
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
    grown = [axis for axis in range(x.ndim) if x.ndim == len(shape) and _stretched(x, Y, axis)]
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
    return dY.narrow(dim, 0 if _same(xs[0], xs[1]) else xs[0].shape[dim], xs[1].shape[dim])


def _cat_last_axis(dY: Tensor, Y: Tensor, *xs: Tensor, dim: int) -> Tensor:
    own = xs[0].shape[dim]
    late = dim == xs[0].ndim - 1 and dim > 1
    return dY.narrow(dim, Y.shape[dim] - own if late else 0, own)


MOVING = [
    Blind(
        Wrong("reshape", 0, "to the reversed shape: transposed", _reshape_transposed),
        _at(_grid(2, 3)),
        {"shape": (3, 2)},
    ),
    Blind(
        Wrong("reshape", 0, "the last two of three axes merged in the wrong order", _reshape_merged),
        _at(_grid(2, 2, 3)),
        {"shape": (2, 6)},
    ),
    Blind(
        Wrong("permute", 0, "not inverted where the sizes allow it", _permute_again),
        _at(_grid(2, 2, 2)),
        {"dims": (1, 2, 0)},
    ),
    Blind(Wrong("expand", 0, "a mean over the axis in front", _expand_mean), _at(_grid(2)), {"shape": (3, 2)}),
    Blind(
        Wrong("expand", 0, "two axes grow: the first slice of the second", _expand_two),
        _at(_grid(1, 2, 1)),
        {"shape": (2, 2, 3)},
    ),
    Blind(
        Wrong("slice", 0, "the start forgotten where there is a step", _slice_start),
        _at(_grid(6)),
        {"start": (1,), "stop": (6,), "step": (2,)},
    ),
    Blind(
        Wrong("slice", 0, "one element goes to position 0", _slice_one),
        _at(_grid(2, 4)),
        {"start": (0, 2), "stop": (2, 3), "step": (1, 1)},
    ),
    Blind(
        Wrong("slice", 0, "a step through an odd axis loses the last", _slice_odd),
        _at(_grid(5)),
        {"start": (0,), "stop": (5,), "step": (2,)},
    ),
    Blind(
        Wrong("flip", 0, "the first of several axes only", lambda dY, Y, x, dims: dY.flip(dims[:1])),
        _at(_grid(2, 3)),
        {"dims": (0, 1)},
    ),
    Blind(
        Wrong("flip", 0, "rank 3: the axes counted from the end", _flip_mirrored), _at(_grid(2, 3, 2)), {"dims": (2,)}
    ),
    Blind(
        Wrong("pad", 0, "gaps: low and high swapped", _pad_swapped),
        _at(_grid(3)),
        {"low": (2,), "high": (0,), "interior": (1,)},
    ),
    Blind(Wrong("pad", 0, "gaps ignored", _pad_dense), _at(_grid(3)), {"low": (1,), "high": (0,), "interior": (1,)}),
    Blind(
        Wrong("cat", 2, "the third's offset from the first's size", _cat_by_first),
        _at(_grid(1), _grid(3), _grid(2)),
        {"dim": 0},
    ),
    Blind(
        Wrong("cat", 1, "one tensor twice: the first part twice", _cat_same),
        _at(_grid(3), _grid(3)),
        {"dim": 0},
        same=True,
    ),
    Blind(
        Wrong("cat", 0, "from the end along the last axis of rank 3", _cat_last_axis),
        _at(_grid(2, 1, 3), _grid(2, 1, 2)),
        {"dim": 2},
    ),
]


# -- products -----------------------------------------------------------------------------------


def _matmul_mean(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY @ b.mT / (b.shape[0] if a.ndim < b.ndim and b.shape[0] else 1)


def _matmul_square(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (a if a.shape[-1] == a.shape[-2] else a.mT) @ dY


def _matmul_one(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY[:1] @ b[:1].mT if Y.ndim == b.ndim == 3 and _stretched(a, Y, 0) else dY @ b.mT


def _matmul_rank4(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    square = a.ndim == b.ndim == 4 and a.shape[:2] == b.shape[:2] and a.shape[0] == a.shape[1]
    return a.mT @ (dY.transpose(0, 1) if square else dY)


PRODUCTS = [
    Blind(Wrong("matmul", 0, "a mean over the batch where a has none", _matmul_mean), _at(_grid(2, 3), _grid(2, 3, 2))),
    Blind(Wrong("matmul", 1, "a square a is not transposed", _matmul_square), _at(_grid(2, 2), _grid(2, 3))),
    Blind(
        Wrong("matmul", 0, "the first of the batch where a has one", _matmul_one), _at(_grid(1, 2, 3), _grid(2, 3, 2))
    ),
    Blind(
        Wrong("matmul", 1, "two batch axes of one size swapped", _matmul_rank4),
        _at(_grid(2, 2, 1, 2), _grid(2, 2, 2, 1)),
    ),
    Blind(
        Wrong("matmul", 0, "x @ x: not transposed", lambda dY, Y, a, b: dY @ (b if _same(a, b) else b.mT)),
        _at(_grid(2, 2), _grid(2, 2)),
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
        _at(_grid(4, 2), [1, 3, 1]),
    ),
    Blind(
        Wrong(
            "take",
            0,
            "negative indices go to 0",
            lambda dY, Y, x, *indices: dY.new_zeros(x.shape)._put_add(_from_zero(indices), dY),
        ),
        _at(_grid(4), [-1, 2]),
    ),
    Blind(Wrong("take", 0, "two indices of a square crossed", _take_crossed), _at(_grid(3, 3), [0, 1], [2, 1])),
    Blind(
        Wrong(
            "put_add",
            0,
            "nothing where something is added",
            lambda dY, Y, base, source, *i: dY._put(i, dY.new_zeros(source.shape)),
        ),
        _at(_grid(4), _grid(2), [1, 3]),
    ),
    Blind(Wrong("put_add", 1, "a repeated index shares", _add_shared), _at(_grid(4), _grid(3), [1, 3, 1])),
    Blind(
        Wrong(
            "put",
            0,
            "negative indices go to 0",
            lambda dY, Y, base, source, *i: dY._put(_from_zero(i), dY.new_zeros(source.shape)),
        ),
        _at(_grid(4), _grid(2), [-1, 1]),
    ),
    Blind(
        Wrong("put", 1, "negative indices go to 0", lambda dY, Y, base, source, *i: dY._take(_from_zero(i))),
        _at(_grid(4), _grid(2), [-1, 1]),
    ),
    Blind(
        Wrong("put", 0, "what it overwrites keeps its gradient", lambda dY, Y, base, source, *i: dY),
        _at(_grid(4), _grid(2), [3, 1]),
    ),
]

BLIND = [*ARITHMETIC, *POINTWISE, *CHOOSING, *REDUCTIONS, *MOVING, *PRODUCTS, *INDEXING]


# -- right, in other words ---------------------------------------------------------------------------


def _take_by_product(dY: Tensor, Y: Tensor, x: Tensor, *indices: Tensor) -> Tensor:
    if len(indices) > 1 or indices[0].ndim != 1 or x.ndim != 1 or 0 in (*x.shape, *indices[0].shape):
        return dY.new_zeros(x.shape)._put_add(indices, dY)
    hot = indices[0].remainder(x.shape[0]).unsqueeze(1) == cr.arange(x.shape[0])
    return dY @ hot.to(dY.dtype)


def _cat_split(dY: Tensor, Y: Tensor, *xs: Tensor, dim: int) -> Tensor:
    return cr.split(dY, [x.shape[dim] for x in xs], dim)[1]


def _matmul_by_sum(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (dY.unsqueeze(-2) * b.unsqueeze(-3)).sum(-1)


def _amin_negated(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    ties = (-x >= _spread(-Y, dims, x.shape)).to(x.dtype)
    return ties / _spread(ties.sum(dims), dims, x.shape) * _spread(dY, dims, x.shape)


def _flip_each(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    for axis in reversed(dims):
        dY = dY.flip((axis,))
    return dY


def _pad_indexed(dY: Tensor, Y: Tensor, x: Tensor, low: Sizes, high: Sizes, interior: Sizes) -> Tensor:
    for axis, (size, before, gap) in enumerate(zip(x.shape, low, interior, strict=True)):
        dY = dY.index_select(axis, cr.arange(size) * (gap + 1) + before)
    return dY


def _slice_added(dY: Tensor, Y: Tensor, x: Tensor, start: Sizes, stop: Sizes, step: Sizes) -> Tensor:
    for axis, (size, low, every) in enumerate(zip(x.shape, start, step, strict=True)):
        places = cr.arange(dY.shape[axis]) * every + low
        wide = dY.new_zeros((*dY.shape[:axis], size, *dY.shape[axis + 1 :]))
        dY = wide.index_add(axis, places, dY)
    return dY


def _permute_moved(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    return dY.movedim(tuple(range(x.ndim)), dims)


def _keep(indices: Indices, base: Tensor, source: Tensor, dY: Tensor) -> Tensor:
    """1 where nothing was written, else 0."""
    return dY.new_ones(base.shape)._put(indices, dY.new_zeros(source.shape))


RIGHT = [
    Wrong("add", 0, "summed by the rule", lambda dY, Y, a, b: dY.sum_to_size(a.shape)),
    Wrong("sub", 1, "summed, then negated", lambda dY, Y, a, b: 0 - dY.sum_to_size(b.shape)),
    Wrong("mul", 0, "the other way round", lambda dY, Y, a, b: (b * (dY * 3)) / 3),
    Wrong("div", 0, "by the reciprocal", lambda dY, Y, a, b: dY * b.reciprocal()),
    Wrong("div", 1, "from the inputs", lambda dY, Y, a, b: (dY * a) * (-1 / b) / b),
    Wrong("neg", 0, "from 0", lambda dY, Y, x: 0 - dY),
    Wrong("pow", 0, "a ** b / a, but for a = 0", lambda dY, Y, a, b: (dY * b * (Y / a.where(a != 0, 1)).where(a != 0, a ** (b - 1))).masked_fill(b == 0, 0)),
    Wrong("pow", 1, "a sum of logarithms", lambda dY, Y, a, b: dY * Y * (a.where((a != 0) | (b < 0), 1).sqrt().log() * 2)),
    Wrong("remainder", 1, "from the remainder", lambda dY, Y, a, b: dY * ((Y - a) / b).round()),
    Wrong("abs", 0, "three cases", lambda dY, Y, x: dY.where(x > 0, 0) - dY.where(x < 0, 0)),
    Wrong("exp", 0, "from the input", lambda dY, Y, x: x.exp() * dY),
    Wrong("expm1", 0, "from the input", lambda dY, Y, x: dY * x.exp()),
    Wrong("log", 0, "from the output", lambda dY, Y, x: dY * (-Y).exp()),
    Wrong("log1p", 0, "the reciprocal", lambda dY, Y, x: (1 + x).reciprocal() * dY),
    Wrong("sqrt", 0, "by rsqrt", lambda dY, Y, x: dY * x.rsqrt() / 2),
    Wrong("rsqrt", 0, "from input and output", lambda dY, Y, x: dY * Y / (-2 * x)),
    Wrong("sin", 0, "twice the half angle", lambda dY, Y, x: dY * (1 - 2 * (x / 2).sin().square())),
    Wrong("cos", 0, "twice the half angle", lambda dY, Y, x: -2 * dY * (x / 2).sin() * (x / 2).cos()),
    Wrong("tanh", 0, "by sigmoids", lambda dY, Y, x: 4 * dY * (2 * x).sigmoid() * (-2 * x).sigmoid()),
    Wrong("sigmoid", 0, "by its mirror", lambda dY, Y, x: dY * (x.sigmoid() * (-x).sigmoid())),
    Wrong("erf", 0, "an even power of a root", lambda dY, Y, x: dY * (-x * x / 2).exp().square() * 1.1283791670955126),
    Wrong("relu", 0, "a product with the sign", lambda dY, Y, x: dY * Y.sign()),
    Wrong("maximum", 0, "by the sign of the difference", lambda dY, Y, a, b: dY * ((a - b).sign() + 1) / 2),
    Wrong("minimum", 1, "what a leaves", lambda dY, Y, a, b: dY - dY * ((b - a).sign() + 1) / 2),
    Wrong("where", 2, "what a leaves", lambda dY, Y, c, a, b: dY - dY.where(c, 0)),
    Wrong("sum", 0, "added to zeros", lambda dY, Y, x, dims: dY.new_zeros(x.shape) + _spread(dY, dims, x.shape)),
    Wrong("amin", 0, "the maximum of the negative", _amin_negated),
    Wrong("reshape", 0, "over one axis", lambda dY, Y, x, shape: dY.reshape(-1).reshape(x.shape)),
    Wrong("permute", 0, "by movedim", _permute_moved),
    Wrong("expand", 0, "summed by the rule", lambda dY, Y, x, shape: dY.sum_to_size(x.shape)),
    Wrong("slice", 0, "added an axis at a time", _slice_added),
    Wrong("flip", 0, "an axis at a time", _flip_each),
    Wrong("pad", 0, "by indices", _pad_indexed),
    Wrong("cat", 1, "by split", _cat_split),
    Wrong("matmul", 0, "product and sum", _matmul_by_sum),
    Wrong("matmul", 1, "transposed twice", lambda dY, Y, a, b: (dY.mT @ a).mT),
    Wrong("take", 0, "a product with one-hot rows", _take_by_product),
    Wrong("put_add", 1, "from doubled gradients", lambda dY, Y, base, source, *i: (dY + dY)._take(i) / 2),
    Wrong("put", 0, "a product with a mask", lambda dY, Y, base, source, *i: dY * _keep(i, base, source, dY)),
]  # fmt: skip
