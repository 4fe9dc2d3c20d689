"""Is an elementwise rule right in its tails? Its relative error, number by number, in float32 and in float64.

Where a function saturates its derivative is tiny, and a rule that rebuilds it from the output by a difference
(1 - Y for a Y that is nearly 1) has no right digit left, though its absolute error is that of rounding. So here the
error of each element is held against that element alone:

1. The first derivative against a complex step of the NumPy reference, taken in complex128: Im f(x + ih) / h has no
   difference of nearly equal numbers, so it keeps its digits however small it is. A function that is none of complex
   numbers (a stair, a kink) is made of straight pieces: there float32 must give what float64 gives.
2. The derivative of the rule against differences of that complex step.
3. At infinity the limit: where the derivative settles on its way there, the rule must give what it settles to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from chainrule.explain.verify.application import pulled_back, takes_complex, upstream, value_of
from chainrule.explain.verify.rules import Comparison, RuleCheck
from chainrule.explain.verify.trials import trials
from chainrule.graph import Op
from chainrule.tensor.core import apply
from chainrule.tensor.creation import tensor

Array = np.ndarray[Any, Any]
Inputs = Sequence[Array]

STEPS = (2.0**-100, 2.0**-27)  # of the complex step: where a slope times the first is no normal number, the second
NEIGHBOUR = 2.0**-20  # where a function of real numbers must exist too for its slope to be one
AGAIN_STEP = 2.0**-9  # of the differences of derivatives
_TINY = float(np.finfo(np.float64).tiny)
RTOL = {np.float32: 2.0**-13, np.float64: 2.0**-40}  # a thousand units in the last place: x^2 is rounded before exp
AGAIN_RTOL = 1e-6
LIMIT_RTOL, LIMIT_ATOL = 1e-9, 1e-60

# Where exp, tanh, sigmoid and erf of either dtype end, and on the way there; then all sizes that a float32 has.
_ENDS = [
    0.3,
    1.0,
    2.5,
    4.0,
    5.5,
    7.0,
    8.5,
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
    680.0,
]
_SIZES = [*(10.0 ** np.arange(-30.0, 31.0, 3.0))]
_LINE = np.array([*_ENDS, *_SIZES])
LINE = np.concatenate([_LINE, -_LINE])
_FEW = np.array([1e-12, 1e-4, 0.3, 1.0, 2.5, 7.0, 40.0, 1e4, 1e12])
PAIRS = np.array(
    [(a, b) for a, b in product(np.concatenate([_FEW, -_FEW]), repeat=2) if a != b]
)  # ties have slopes of their own


def check_tails(op: Op) -> Iterator[RuleCheck]:
    """The rule of every argument of an elementwise op, in its tails; nothing for other ops."""
    if op.kind == "elementwise" and op.joint is None:
        for inputs, params in _applications(op):
            for argument, x in enumerate(inputs):
                if x.dtype.kind == "f" and "dtype" not in params:  # a cast is a law's concern
                    yield _checked(op, argument, inputs, params)


def _applications(op: Op) -> list[tuple[Inputs, dict[str, Any]]]:
    found = trials(op)
    if not found:
        return []
    count, params = len(found[0].arrays), found[0].params
    if not _smooth(op, found[0].arrays, params):
        return [(trial.arrays, trial.params) for trial in found]
    return [((LINE,) if count == 1 else (PAIRS[:, 0].copy(), PAIRS[:, 1].copy()), params)]


def _smooth(op: Op, inputs: Inputs, params: dict[str, Any]) -> bool:
    return all(a.dtype.kind == "f" for a in inputs) and takes_complex(op, len(inputs), params)


def _checked(op: Op, argument: int, inputs: Inputs, params: dict[str, Any]) -> RuleCheck:
    tail = Tail(op, argument, params, _smooth(op, inputs, params))
    compared = 0
    try:
        with np.errstate(all="ignore"):
            for count, comparison in tail.compare(inputs):
                compared += count
                if comparison is not None:
                    return RuleCheck(op.name, compared, comparison)
    except Exception as error:  # a rule is user code: whatever it raises is the finding
        return RuleCheck(op.name, compared, None, f"{op.name}, argument {argument}: the rule raised {error!r}")
    return RuleCheck(op.name, compared, None)


class Tail:
    """The derivative of an op by one of its arguments, element by element."""

    def __init__(self, op: Op, argument: int, params: dict[str, Any], smooth: bool) -> None:
        self.op, self.argument, self.params, self.smooth = op, argument, params, smooth

    def compare(self, inputs: Inputs) -> Iterator[tuple[int, Comparison | None]]:
        """(how many numbers were compared, the worst that is wrong) for each kind of comparison."""
        for dtype, rtol in RTOL.items():
            rounded = [a.astype(dtype) if a.dtype.kind == "f" else a for a in inputs]
            exact = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in rounded]
            if self.smooth:
                yield self.against(self.by_rule(rounded), self.by_values(exact), rounded, rtol, "")
            elif dtype is np.float32:
                yield self.against(self.by_rule(rounded), self.by_rule(exact), rounded, rtol, "")
        if self.smooth:
            by_values, doubtful = self.again_by_values(inputs)
            expected = np.where(doubtful, np.nan, by_values)
            yield self.against(self.again_by_rule(inputs), expected, inputs, AGAIN_RTOL, ", differentiated again")
        if self.smooth and len(inputs) == 1:
            yield self._at_infinity()

    # -- derivatives, without the upstream gradient -------------------------------------------------------
    def by_rule(self, inputs: Inputs) -> Array:
        Y = value_of(self.op, inputs, self.params)
        dY = np.sign(upstream(Y.shape)).astype(Y.dtype)
        return pulled_back(self.op, self.argument, inputs, self.params, Y, dY) * self._spread(dY, inputs)

    def _spread(self, dY: Array, inputs: Inputs) -> Array:
        """The upstream signs again, to take them off: only where the input has the output's shape."""
        return dY if dY.shape == inputs[self.argument].shape else np.ones((), dY.dtype)

    def by_values(self, inputs: Inputs) -> Array:
        """By a complex step; NaN where the derivative is no normal number, and where the op has no real values."""
        unit = _unit(inputs[self.argument])
        real = [self._moved(inputs, by * unit) for by in (NEIGHBOUR, -NEIGHBOUR, 0j)]
        there = np.isfinite(real[0] + real[1]) & (real[2].imag == 0)
        found = np.full(there.shape, np.nan)
        for step in STEPS:
            slope = self._moved(inputs, 1j * step * unit).imag
            found = np.where(np.isnan(found) & (np.abs(slope) >= _TINY), slope / (step * unit), found)
        return np.where(there, found, np.nan)

    def _moved(self, inputs: Inputs, by: Array) -> Array:
        moved = [a + by if i == self.argument else a for i, a in enumerate(inputs)]
        return value_of(self.op, moved, self.params)

    def again_by_rule(self, inputs: Inputs) -> Array:
        leaves = [tensor(a, requires_grad=i == self.argument) for i, a in enumerate(inputs)]
        rule: Any = self.op.rule(self.argument)
        zeros = np.zeros_like(inputs[self.argument])
        if rule is None:
            return zeros
        Y = apply(self.op, *leaves, **self.params)
        dX = rule(tensor(np.ones(Y.shape)), Y, *leaves, **self.params)
        if dX.requires_grad:
            dX.sum().backward()
        grad = leaves[self.argument].grad
        return zeros if grad is None else np.asarray(grad._node.value)

    def again_by_values(self, inputs: Inputs) -> tuple[Array, Array]:
        """The slope of the first derivative, and where it is too small beside it, or too curved, to be told."""
        x = inputs[self.argument]
        h = AGAIN_STEP * _unit(x)

        def at(t: float) -> Array:
            return self.by_values([a + t * h if i == self.argument else a for i, a in enumerate(inputs)])

        wide, narrow = ((at(s) - at(-s)) / (2 * s * h) for s in (1.0, 0.5))
        best = (4 * narrow - wide) / 3
        small = np.abs(best) * _unit(x) < 1e-4 * np.abs(at(0.0))
        return best, small | (np.abs(best - narrow) > 1e-4 * np.abs(best))

    # -- comparing ----------------------------------------------------------------------------------------
    def against(
        self, rule: Array, expected: Array, inputs: Inputs, rtol: float, what: str
    ) -> tuple[int, Comparison | None]:
        smallest = np.finfo(rule.dtype).tiny
        Y = value_of(self.op, inputs, self.params)
        large = np.abs(expected) > np.finfo(rule.dtype).max / 8
        known = np.isfinite(expected) & ~large
        if Y.shape == expected.shape:
            known &= np.isfinite(Y)
        gap = np.abs(rule - np.where(known, expected, 0)) - rtol * np.abs(expected) - 2 * smallest
        error = np.where(known & ~(gap <= 0), np.abs(gap) / np.maximum(np.abs(expected), smallest), 0)
        error = np.where(np.isnan(error), np.inf, error)
        if not error.any():
            return int(known.sum()), None
        at = np.unravel_index(int(error.argmax()), error.shape)
        where = f"{rule.dtype}, {_point(inputs, error.shape, at)}{what}"
        sides = (float(expected[at]), float(expected[at]))
        found = Comparison(self.op.name, self.argument, where, float(rule[at]), sides, float(error[at]))
        return int(known.sum()), found

    def _at_infinity(self) -> tuple[int, Comparison | None]:
        ends = np.array([np.inf, -np.inf])
        near, far = (self.by_rule([np.sign(ends) * size]) for size in (1e100, 1e300))
        settled = (np.abs(near - far) <= LIMIT_RTOL * np.abs(far) + LIMIT_ATOL) & ~np.isnan(
            value_of(self.op, [ends], self.params)
        )
        rule = self.by_rule([ends])
        wrong = settled & ~(np.abs(rule - far) <= LIMIT_RTOL * np.abs(far) + LIMIT_ATOL)
        if not wrong.any():
            return int(settled.sum()), None
        at = int(wrong.argmax())
        side = (float(far[at]), float(far[at]))
        return 2, Comparison(self.op.name, self.argument, f"x = {ends[at]}", float(rule[at]), side, np.inf)


def _point(inputs: Inputs, shape: tuple[int, ...], at: Any) -> str:
    names = "x" if len(inputs) == 1 else "abcd"
    return ", ".join(f"{name} = {np.broadcast_to(a, shape)[at]:.9g}" for name, a in zip(names, inputs, strict=False))


def _unit(x: Array) -> Array:
    """By what an element moves: a part of itself, or of 1 where that is less."""
    return np.asarray(np.where(x == 0, 1.0, np.minimum(np.abs(x), 1.0)))
