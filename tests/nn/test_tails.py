"""Activations and losses in their tails: value and gradients against closed forms in 400 digits, in float32 and float64, eager and native.

The error is relative to each number itself: a loss of 1e-20 has its digits as one of 1 has.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest
from mpmath import mpf

import chainrule as cr
import chainrule.nn.functional as F

Array = np.ndarray[Any, Any]
ENDS = [
    0.02,
    0.3,
    0.75,
    1.5,
    3.0,
    5.5,
    8.0,
    9.1,
    10.0,
    12.0,
    15.0,
    17.0,
    20.0,
    26.0,
    37.5,
    40.0,
    80.0,
    87.0,
    88.5,
    104.0,
    350.0,
    690.0,
    1e4,
]
LINE = np.array([*ENDS, *(-x for x in ENDS)])
DTYPES = {"float32": cr.float32, "float64": cr.float64}
Triple = tuple[Any, Any, Any]  # a value, its derivative, and its second derivative, each without a difference


def logistic(x: Any) -> Triple:
    one, other = 1 / (1 + mpmath.exp(-x)), 1 / (1 + mpmath.exp(x))
    return one, one * other, one * other * (other - one)


def soft(x: Any) -> Triple:
    return mpmath.log1p(mpmath.exp(x)), *logistic(x)[:2]


def tanh(x: Any) -> Triple:
    return mpmath.tanh(x), mpmath.sech(x) ** 2, -2 * mpmath.tanh(x) * mpmath.sech(x) ** 2


def erf(x: Any) -> Triple:
    slope = 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x)
    return mpmath.erf(x), slope, -2 * x * slope


def erfc(x: Any) -> Triple:
    return mpmath.erfc(x), -erf(x)[1], -erf(x)[2]


def normal(x: Any) -> Triple:
    density = mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2, density, -x * density


def gated(x: Any, gate: Callable[[Any], Triple]) -> Triple:
    value, slope, again = gate(x)
    return x * value, value + x * slope, 2 * slope + x * again


def by_tanh(x: Any) -> Triple:
    k = mpf("0.044715")
    c = 2 * mpmath.sqrt(2 / mpmath.pi)
    value, slope, again = logistic(c * (x + k * x**3))
    first, second = c * (1 + 3 * k * x**2), c * 6 * k * x
    return value, slope * first, again * first**2 + slope * second


def tanh_of_soft(x: Any) -> Triple:
    (_, slope, again), (value, first, second) = soft(x), tanh(soft(x)[0])
    return value, first * slope, second * slope**2 + first * again


def exponential(a: float, x: Any) -> Triple:
    return (x, mpf(1), mpf(0)) if x > 0 else (a * mpmath.expm1(x), a * mpmath.exp(x), a * mpmath.exp(x))


def celu(a: Any, x: Any) -> Triple:
    return (x, mpf(1), mpf(0)) if x > 0 else (a * mpmath.expm1(x / a), mpmath.exp(x / a), mpmath.exp(x / a) / a)


def softsign(x: Any) -> Triple:
    share = 1 / (1 + abs(x))
    return x * share, share**2, -2 * mpmath.sign(x) * share**3


def tanhshrink(x: Any) -> Triple:
    value, _, again = tanh(x)
    return x - value, value**2, -again


def combined(*terms: tuple[float, Triple]) -> Triple:
    first, second, third = (mpmath.fsum(factor * triple[i] for factor, triple in terms) for i in range(3))
    return first, second, third


def mirrored(triple: Triple) -> Triple:
    """Of -x."""
    return triple[0], -triple[1], triple[2]


def bowl(x: Any) -> Triple:
    return (x * x / 2, x, mpf(1)) if abs(x) <= 2 else (2 * (abs(x) - 1), 2 * mpmath.sign(x), mpf(0))


ALPHA, SCALE = mpf("1.6732632423543772848170429916717"), mpf("1.0507009873554804934193349852946")
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[Any], Triple]]] = {
    "sigmoid": (lambda x: x.sigmoid(), logistic),
    "tanh": (lambda x: x.tanh(), tanh),
    "erf": (lambda x: x.erf(), erf),
    "erfc": (lambda x: x.erfc(), erfc),
    "expm1": (lambda x: x.expm1(), lambda x: (mpmath.expm1(x), mpmath.exp(x), mpmath.exp(x))),
    "elu": (lambda x: F.elu(x, 0.5), lambda x: exponential(0.5, x)),
    "selu": (F.selu, lambda x: combined((SCALE, exponential(ALPHA, x)))),
    "gelu": (F.gelu, lambda x: gated(x, normal)),
    "gelu by tanh": (lambda x: F.gelu(x, "tanh"), lambda x: gated(x, by_tanh)),
    "silu": (F.silu, lambda x: gated(x, logistic)),
    "softsign": (F.softsign, softsign),
    "tanhshrink": (F.tanhshrink, tanhshrink),
    "celu": (lambda x: F.celu(x, 0.5), lambda x: celu(mpf("0.5"), x)),
    "mish": (F.mish, lambda x: gated(x, tanh_of_soft)),
    "softplus": (lambda x: F.softplus(x, threshold=1e9), soft),
    "logsigmoid": (F.logsigmoid, lambda x: combined((-1, mirrored(soft(-x))))),
    "bce of class 1": (lambda x: bce(x, 1.0), lambda x: mirrored(soft(-x))),
    "bce of class 0": (lambda x: bce(x, 0.0), soft),
    "bce weighted": (lambda x: bce(x, 1.0, cr.tensor(3.0, dtype=x.dtype)), lambda x: combined((3, mirrored(soft(-x))))),
    "bce of a share": (lambda x: bce(x, 0.25), lambda x: combined((0.75, soft(x)), (0.25, mirrored(soft(-x))))),
    "huber": (lambda x: F.huber_loss(x, x * 0, "none", 2.0), bowl),
}  # fmt: skip


def bce(x: cr.Tensor, y: float, weight: cr.Tensor | None = None) -> cr.Tensor:
    return F.binary_cross_entropy_with_logits(
        x, cr.full(x.shape, y, dtype=x.dtype), reduction="none", pos_weight=weight
    )


@cache
def truth(name: str, dtype: str) -> list[Array]:
    """The function and its two derivatives, at the numbers of a dtype."""
    with mpmath.workdps(400):
        found = [FUNCTIONS[name][1](mpf(float(x))) for x in LINE.astype(dtype)]
        return [np.array([_rounded(v) for v in column]) for column in zip(*found, strict=True)]


def _rounded(v: Any) -> float:
    return 0.0 if abs(v) < 1e-330 else float(v) if abs(v) < 1e308 else np.inf * float(mpmath.sign(v))


def both(function: Callable[..., Any], x: Array, native: bool) -> list[Array]:
    """Value, gradient and second derivative."""

    def step(t: cr.Tensor) -> Any:
        first = cr.grad(lambda t: function(t).sum())
        return function(t), first(t), cr.grad(lambda t: first(t).sum())(t)

    return [part.numpy() for part in (cr.compile(step) if native else step)(cr.tensor(x))]


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_derivatives_to_their_own_digits(name: str, dtype: str, native: bool) -> None:
    x = LINE.astype(dtype)
    info = np.finfo(dtype)
    for order, found in enumerate(both(FUNCTIONS[name][0], x, native)):
        expected = truth(name, dtype)[order]
        assert found.dtype == x.dtype
        known = np.abs(expected) < info.max
        # Ten thousand units in the last place (x^2 and more is rounded before exp), and none of it by cancellation.
        # Where a derivative of order n passes through 0 its terms do not.
        slack = {0: 0.0, 1: 2.0 if name in CROSSES else 0.0, 2: 2.0}[order]
        near = np.abs(x) < 4
        allowed = 1e4 * info.eps * np.maximum(np.abs(expected), slack * near) + 2 * info.tiny * 1e3
        wrong = known & ~(np.abs(found - np.where(known, expected, 0)) <= allowed)
        assert not wrong.any(), (order, list(zip(x[wrong], found[wrong], expected[wrong], strict=True)))


CROSSES = {"gelu", "gelu by tanh", "silu", "mish", "bce of a share"}  # their derivative is 0 somewhere near 0
