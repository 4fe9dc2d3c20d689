"""A second list of derivative rules written without knowledge of the check that is to find the wrong ones.

`blind_rules` has since been used to improve the check, so its figure is no longer blind. Whoever wrote this list had
read the ops' declarations and no line of the check, of its tests or of the other lists. Each wrong rule comes with a
point where it is wrong; `test_blind_rules_2` compares it there with finite differences of the op's NumPy reference.
Here stand those of elementwise ops; the others are in `blind_rules_2_shaped`, the right ones in `right_rules_2`.
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


def at(*inputs: Any) -> tuple[Array, ...]:
    return tuple(np.asarray(x, None if np.asarray(x).dtype.kind in "bi" else np.float64) for x in inputs)


def grid(*shape: int) -> Array:
    """Numbers without ties, of both signs, none near 0."""
    position = np.arange(math.prod(shape), dtype=np.float64)
    return ((position + 0.7) * np.where(position % 3 == 1, -0.3, 0.4)).reshape(shape)


def stretched(t: Tensor, Y: Tensor, axis: int) -> bool:
    """Is `t` broadcast along an axis that it has?"""
    return t.ndim == Y.ndim > 0 and t.shape[axis] == 1 and Y.shape[axis] > 1


def same(a: Tensor, b: Tensor) -> bool:
    return a._node is b._node


# -- arithmetic --------------------------------------------------------------------------------


def _add_mean(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY.mean(-1, keepdim=True) if stretched(a, Y, -1) else dY


def _add_first(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY.reshape(-1)[:1].reshape(()) if b.ndim == 0 and Y.numel() else dY


def _sub_middle(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY[:, :1] if Y.ndim == 3 and stretched(a, Y, 1) else dY


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
        Wrong("add", 0, "a mean where a is broadcast along the last axis", _add_mean), at([[1.0], [2.0]], grid(2, 3))
    ),
    Blind(Wrong("add", 1, "a scalar gets the first element's gradient only", _add_first), at(grid(3), 2.0)),
    Blind(
        Wrong(
            "sub", 1, "the sign lost where b has more axes than a", lambda dY, Y, a, b: dY if b.ndim > a.ndim else -dY
        ),
        at(grid(3), grid(2, 3)),
    ),
    Blind(
        Wrong("sub", 0, "rank 3, broadcast in the middle: the first slice only", _sub_middle),
        at(grid(2, 1, 3), grid(2, 2, 3)),
    ),
    Blind(
        Wrong("mul", 0, "a for b where b is 0", lambda dY, Y, a, b: dY * b.where(b != 0, a)),
        at([2.0, 3.0], [0.0, 1.0]),
    ),
    Blind(
        Wrong("mul", 0, "halved where a equals b", lambda dY, Y, a, b: (dY * b / 2).where(a == b, dY * b)),
        at([2.0, 3.0], [2.0, 1.0]),
    ),
    Blind(
        Wrong("mul", 1, "transposed for rank 3 with two equal sizes", _mul_rank3),
        at(grid(2, 3, 3), grid(2, 3, 3)[::-1]),
    ),
    Blind(Wrong("mul", 1, "a mean for a scalar b", _mul_mean), at(grid(4), 2.0)),
    Blind(
        Wrong("mul", 1, "nothing where both are one tensor", lambda dY, Y, a, b: dY * a * (0 if same(a, b) else 1)),
        at(grid(3), grid(3)),
        same=True,
    ),
    Blind(
        Wrong("div", 0, "divisors below 1e-3 are clipped", lambda dY, Y, a, b: dY / b.abs().clamp(min=1e-3) * b.sign()),
        at([2.0, 3.0], [1e-4, 2.0]),
    ),
    Blind(
        Wrong("div", 1, "1e-8 added to the squared divisor", lambda dY, Y, a, b: -dY * a / (b * b + 1e-8)),
        at([2.0, 3.0], [1e-3, 2.0]),
    ),
    Blind(
        Wrong(
            "div",
            1,
            "sign lost where both are negative",
            lambda dY, Y, a, b: dY * (Y / b) * (-1.0 + 2.0 * ((a < 0) & (b < 0)).to(dY.dtype)),
        ),
        at([-2.0, 3.0], [-0.5, 2.0]),
    ),
    Blind(
        Wrong("div", 1, "a/a counts as constant", lambda dY, Y, a, b: -dY * (Y / b) * (0 if same(a, b) else 1)),
        at(grid(3), grid(3)),
        same=True,
    ),
    Blind(Wrong("neg", 0, "the sign lost for a scalar", lambda dY, Y, x: dY if x.ndim == 0 else -dY), at(2.0)),
    Blind(
        Wrong(
            "pow",
            0,
            "the magnitude of a negative base",
            lambda dY, Y, a, b: (dY * (b * a.abs() ** (b - 1))).where(b != 0, 0),
        ),
        at([-2.0, 1.5], [2.0, 2.0]),
    ),
    Blind(
        Wrong(
            "pow",
            0,
            "b Y / a, 0 at a = 0: there the first power has slope 1",
            lambda dY, Y, a, b: (dY * (b * Y / a)).masked_fill(a == 0, 0),
        ),
        at([0.0, 1.5], [1.0, 2.0]),
    ),
    Blind(
        Wrong(
            "pow",
            0,
            "a square's factor 2 missing",
            lambda dY, Y, a, b: (dY * (b.masked_fill(b == 2, 1) * a ** (b - 1))).where(b != 0, 0),
        ),
        at([1.2, 1.5], [2.0, 3.0]),
    ),
    Blind(
        Wrong("pow", 0, "not a number for 0 to the power 0", lambda dY, Y, a, b: dY * (b * a ** (b - 1))),
        at([0.0, 1.5], [0.0, 3.0]),
    ),
    Blind(
        Wrong(
            "pow",
            1,
            "0 for negative exponents",
            lambda dY, Y, a, b: (dY * (Y * a.log())).masked_fill((a == 0) | (b < 0), 0),
        ),
        at([2.0, 1.5], [-1.0, 3.0]),
    ),
    Blind(Wrong("pow", 1, "log2 for one exponent of many bases", _pow_log2), at([2.0, 1.5], [1.3])),
    Blind(
        Wrong(
            "pow",
            1,
            "not a number for 0 to a power in (0, 1]",
            lambda dY, Y, a, b: (dY * (Y * a.log())).masked_fill((a == 0) & (b > 1), 0),
        ),
        at([0.0, 1.5], [0.5, 3.0]),
    ),
    Blind(
        Wrong("remainder", 1, "truncated, not floored", lambda dY, Y, a, b: -dY * (a / b).trunc()),
        at([-5.0, 7.0], [3.0, 2.3]),
    ),
    Blind(
        Wrong("remainder", 0, "the sign of the divisor", lambda dY, Y, a, b: dY * b.sign()),
        at([5.0, 7.0], [-3.0, 2.3]),
    ),
    # floor(a / b) is constant almost everywhere.
    Blind(Wrong("floor_divide", 0, "straight through", lambda dY, Y, a, b: dY / b), at([5.5, 7.0], [3.0, 2.3])),
]


# -- functions of one number ---------------------------------------------------------------------


def _exp_float32(dY: Tensor, Y: Tensor, x: Tensor) -> Tensor:
    return dY * (Y - 1) if x.dtype is cr.float32 else dY * Y


def _sin_by_root(dY: Tensor, Y: Tensor, x: Tensor) -> Tensor:
    return dY * (1 - Y * Y).clamp(min=0).sqrt() * (math.pi / 2 - x.abs()).sign()


POINTWISE = [
    Blind(Wrong("abs", 0, "1 at 0", lambda dY, Y, x: dY.where(x >= 0, -dY)), at([0.0, 2.0])),
    Blind(Wrong("abs", 0, "rounded off near 0", lambda dY, Y, x: dY * x * (x * x + 1e-6).rsqrt()), at([1e-3, 2.0])),
    Blind(
        Wrong("sign", 0, "straight through inside [-1, 1]", lambda dY, Y, x: dY.masked_fill(x.abs() > 1, 0)),
        at([0.5, 2.0]),
    ),
    Blind(
        Wrong("floor", 0, "straight through for negative numbers", lambda dY, Y, x: dY.masked_fill(x > 0, 0)),
        at([-0.5, 2.2]),
    ),
    Blind(
        Wrong("round", 0, "straight through below 1/2", lambda dY, Y, x: dY.masked_fill(x.abs() >= 0.5, 0)),
        at([0.3, 2.2]),
    ),
    Blind(Wrong("exp", 0, "clipped at 1e4", lambda dY, Y, x: dY * Y.clamp(max=1e4)), at([11.0, 1.0])),
    Blind(Wrong("exp", 0, "expm1's value in float32", _exp_float32), (np.array([0.5, -1.0], np.float32),), step=1e-2),
    Blind(Wrong("expm1", 0, "1 forgotten beyond 5", lambda dY, Y, x: dY * (Y + 1).where(x < 5, Y)), at([5.5, 1.0])),
    Blind(Wrong("log", 0, "inputs below 1e-3 are clipped", lambda dY, Y, x: dY / x.clamp(min=1e-3)), at([1e-4, 1.0])),
    Blind(
        Wrong("log", 0, "quotients below 1e-4 are flushed", lambda dY, Y, x: (dY / x).masked_fill(x > 1e4, 0)),
        at([3e4, 1.0]),
    ),
    Blind(
        Wrong(
            "log1p",
            0,
            "the first two terms of a series near 0",
            lambda dY, Y, x: dY * (1 - x).where(x.abs() < 0.1, 1 / (1 + x)),
        ),
        at([0.09, 1.0]),
    ),
    Blind(
        Wrong("sqrt", 0, "roots below 1e-2 are clipped", lambda dY, Y, x: dY / (2 * Y.clamp(min=1e-2))),
        at([1e-6, 1.0]),
    ),
    Blind(
        Wrong("sqrt", 0, "the root's gradient halved beyond 100", lambda dY, Y, x: dY / (2 * Y.where(x < 100, 2 * Y))),
        at([400.0, 1.0]),
    ),
    Blind(
        Wrong("rsqrt", 0, "clipped at -100", lambda dY, Y, x: dY * (-0.5 * Y * Y * Y).clamp(min=-100)), at([0.01, 1.0])
    ),
    Blind(
        Wrong("sin", 0, "the root of 1 - Y ** 2, its sign right in the first period only", _sin_by_root),
        at([5.5, 1.0]),
    ),
    Blind(Wrong("cos", 0, "2 pi has four digits", lambda dY, Y, x: -dY * x.remainder(6.283).sin()), at([905.0, 1.0])),
    Blind(
        Wrong("tanh", 0, "0 beyond 3", lambda dY, Y, x: (dY * (1 - Y * Y)).masked_fill(x.abs() > 3, 0)), at([3.2, 1.0])
    ),
    Blind(
        Wrong("tanh", 0, "1 - x ** 2 near 0", lambda dY, Y, x: dY * (1 - (x * x).where(x.abs() < 0.3, Y * Y))),
        at([0.28, 1.0]),
    ),
    Blind(
        Wrong("sigmoid", 0, "0 beyond 6", lambda dY, Y, x: (dY * (Y * (1 - Y))).masked_fill(x.abs() >= 6, 0)),
        at([6.1, 1.0]),
    ),
    Blind(
        Wrong("sigmoid", 0, "Y in the lower tail", lambda dY, Y, x: dY * (Y * (1 - Y)).where(x > -4, Y)),
        at([-4.1, 1.0]),
    ),
    Blind(
        Wrong(
            "erf",
            0,
            "inputs clipped to [-2, 2]",
            lambda dY, Y, x: dY * (2 / math.sqrt(math.pi)) * (-(x.clamp(-2, 2) ** 2)).exp(),
        ),
        at([2.5, 1.0]),
    ),
    Blind(
        Wrong("erf", 0, "exp(-x |x|)", lambda dY, Y, x: dY * (2 / math.sqrt(math.pi)) * (-x * x.abs()).exp()),
        at([-0.4, 1.0]),
    ),
    Blind(Wrong("relu", 0, "1 at 0", lambda dY, Y, x: dY.masked_fill(x < 0, 0)), at([0.0, 1.0])),
    Blind(Wrong("relu", 0, "0 up to 1e-3", lambda dY, Y, x: dY.masked_fill(Y <= 1e-3, 0)), at([5e-4, 1.0])),
    Blind(Wrong("relu", 0, "as relu6", lambda dY, Y, x: dY.masked_fill((Y <= 0) | (Y >= 6), 0)), at([7.0, 1.0])),
]


# -- choosing and casting ----------------------------------------------------------------------------


def _min_first_row(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    beside = a[:1] if stretched(b, Y, 0) and not stretched(a, Y, 0) and a.ndim == Y.ndim else a
    return (dY / 2).where(beside == b, dY.masked_fill(b > beside, 0))


def _where_share(dY: Tensor, Y: Tensor, c: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return dY.where(c, 0) if a.shape == Y.shape else dY * c.to(dY.dtype).mean()


def _cast_whole(dY: Tensor, Y: Tensor, x: Tensor, dtype: DType) -> Tensor | None:
    if not x.dtype.is_floating_point:
        return None
    return dY.long().to(x.dtype) if dtype is cr.float32 and x.dtype is cr.float64 else dY.to(x.dtype)


CHOOSING = [
    Blind(
        Wrong("maximum", 0, "all of a tie", lambda dY, Y, a, b: dY.masked_fill(a < b, 0)), at([1.0, 2.0], [1.0, 3.0])
    ),
    Blind(
        Wrong("maximum", 1, "nothing of a tie", lambda dY, Y, a, b: dY.masked_fill(b <= a, 0)),
        at([1.0, 2.0], [1.0, 3.0]),
    ),
    Blind(
        Wrong("minimum", 1, "b broadcast along rows: compared with a's first", _min_first_row),
        at([[1.0, 5.0], [4.0, 0.0]], [[2.0, 3.0]]),
    ),
    Blind(
        Wrong(
            "minimum",
            0,
            "magnitudes compared",
            lambda dY, Y, a, b: (dY / 2).where(a == b, dY.masked_fill(a.abs() > b.abs(), 0)),
        ),
        at([-3.0, 2.0], [1.0, 3.0]),
    ),
    Blind(
        Wrong("where", 1, "a broadcast: the share of the true", _where_share),
        at([True, False, False], 2.0, grid(3)),
    ),
    Blind(
        Wrong(
            "where", 2, "all of it where the condition always holds", lambda dY, Y, c, a, b: dY.where(~c | c.all(), 0)
        ),
        at([True, True], grid(2), grid(2)),
    ),
    Blind(
        Wrong("cast", 0, "whole numbers from float64 to float32", _cast_whole),
        at(grid(3)),
        {"dtype": cr.float32},
        step=1e-2,
    ),
    Blind(Wrong("alias", 0, "0 where the value is 0", lambda dY, Y, x: dY.masked_fill(x == 0, 0)), at([0.0, 1.0])),
]

ELEMENTWISE = [*ARITHMETIC, *POINTWISE, *CHOOSING]
