"""Is an op's derivative rule right? One application of the op, its rule beside the slopes of its NumPy reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from chainrule.explain.verify.application import pulled_back, takes_complex, upstream, value_of
from chainrule.explain.verify.slopes import EPS, FLOOR, Slopes, slopes, without_kinks_nearby
from chainrule.graph import Op

Array = np.ndarray[Any, Any]
ONE_BY_ONE = 64  # elements of an input that are moved one at a time; larger inputs move along random directions
DIRECTIONS = 2
LARGE = 1e6  # from here on 1 is little beside an element
LARGEST = 1e300  # a slope beyond is one of numbers that end


@dataclass(frozen=True)
class Comparison:
    """One derivative, by the rule and by values: `error` is how far the rule lies outside of what values allow."""

    op: str
    argument: int
    where: str
    rule: float
    slopes: tuple[float, float]  # on the left and on the right
    error: float  # relative to the size of the derivative

    def __str__(self) -> str:
        left, right = self.slopes
        expected = f"{left:.10g}" if left == right else f"between {left:.10g} and {right:.10g} (a kink)"
        return f"{self.op}, argument {self.argument}, {self.where}: the rule gives {self.rule:.10g}, values give {expected}"


@dataclass(frozen=True)
class RuleCheck:
    """What `check_rule` found for one application of an op."""

    op: str
    compared: int
    worst: Comparison | None  # the largest error, None where all agree
    failure: str = ""  # the rule raised, or gave something that is no gradient

    def __bool__(self) -> bool:
        return self.worst is None and not self.failure

    def __str__(self) -> str:
        if self:
            return f"{self.op}: {self.compared} derivatives agree"
        return self.failure or str(self.worst)


def check_rule(
    op: Op, arrays: Sequence[Array], params: dict[str, Any], exact_ties: bool = False, one_by_one: bool = True,
    arguments: Sequence[int] | None = None,
) -> RuleCheck:  # fmt: skip
    """Compare the derivative rule of one application with the slopes of the op's NumPy reference, in float64.

    Args:
        op: the op.
        arrays: its inputs; floating ones count as float64.
        params: its parameters.
        exact_ties: the inputs stand at kinks exactly or well away from them, so the op's own convention for a
            kink (`Op.at_kink`) is held too. On measured data, where a kink may be near, any slope between
            those on both sides passes.
        one_by_one: small inputs are moved element by element too, not only along some directions.
        arguments: by which of them (None: all).
    """
    inputs = [np.asarray(a, np.float64) if a.dtype.kind == "f" else a for a in arrays]
    chosen = [
        i for i, a in enumerate(inputs) if a.dtype.kind == "f" and a.size and (arguments is None or i in arguments)
    ]
    Y = np.asarray(value_of(op, inputs, params))
    if Y.dtype.kind != "f" or not Y.size:
        return RuleCheck(op.name, 0, None)
    compared, found = 0, []
    for argument in chosen:
        try:
            application = _Application(op, inputs, params, argument, Y)
            results = list(application.compare(op.at_kink if exact_ties else None, one_by_one))
        except Exception as error:  # a rule is user code: whatever it raises is the finding
            return RuleCheck(op.name, compared, None, f"{op.name}, argument {argument}: the rule raised {error!r}")
        compared += sum(count for count, _ in results)
        found += [comparison for _, comparison in results if comparison is not None]
    return RuleCheck(op.name, compared, max(found, key=lambda c: c.error, default=None))


class _Application:
    """One op on one set of inputs, differentiated with respect to one of them."""

    def __init__(self, op: Op, inputs: list[Array], params: dict[str, Any], argument: int, Y: Array) -> None:
        self.op, self.inputs, self.params, self.argument, self.Y = op, inputs, params, argument, Y
        self.dY = upstream(Y.shape)
        self.dX = self._pulled_back(Y)
        # The rule reads a rounded Y: what an ulp of it moves is no fault of the rule's.
        shaken = Y * (1 + EPS * np.sign(upstream(Y.shape)))
        with np.errstate(all="ignore"):
            noise = 8 * np.abs(self._pulled_back(shaken) - self.dX)
            # More than rounding: the rule compares Y with something, and an ulp changed the answer.
            self.noise = np.where(noise <= 1e-10 * (2 + np.abs(self.dX)), noise, 0.0)

    def _pulled_back(self, Y: Array) -> Array:
        return pulled_back(self.op, self.argument, self.inputs, self.params, Y, self.dY).astype(np.float64)

    def compare(self, at_kink: float | None, one_by_one: bool) -> Iterator[tuple[int, Comparison | None]]:
        """(how many derivatives were compared, the worst that disagrees) for each way of moving the input."""
        x = self.inputs[self.argument]
        with np.errstate(all="ignore"):
            if self.op.kind == "elementwise" and x.shape == self.Y.shape:
                yield self._element_by_element(x, at_kink)
            else:
                for where, direction in _directions(x, one_by_one):
                    yield self._along(x, where, direction)

    def _moved(self, direction: Array, t: Any) -> Array:
        inputs = list(self.inputs)
        inputs[self.argument] = inputs[self.argument] + t * direction
        return self.dY * value_of(self.op, inputs, self.params)

    def _slopes(self, direction: Array) -> Slopes:
        line = partial(self._moved, direction)
        return without_kinks_nearby(line, slopes(line))

    def _element_by_element(self, x: Array, at_kink: float | None) -> tuple[int, Comparison | None]:
        """Every element moves by itself, since the op does not mix them, by a part of its unit."""
        unit = _units(x, self.inputs)
        if takes_complex(self.op, len(self.inputs), self.params):  # no stairs, which from afar look like a slope
            unit = np.where(np.abs(x) < LARGE, unit, np.abs(x))
        found, derivative = self._slopes(unit), self.dX * unit
        known, size = _known(found, np.minimum(np.abs(self.dY * self.Y), 1))
        known &= np.isfinite(self.Y) & (size / unit < LARGEST)
        # A slope that is less than the last bit of Y is none that a rule which reads Y could know.
        unseen = EPS * np.abs(self.Y * self.dY)
        error = np.maximum(found.gap(derivative, at_kink) - self.noise * unit - unseen, 0)
        error = np.where(known & (error > 1e-13 * size), error / np.maximum(size, 1e-300), 0)
        if not error.any():
            return int(known.sum()), None
        at = np.unravel_index(int(error.argmax()), error.shape)
        where = f"element {list(map(int, at))}, x = {x[at]:.6g}"
        sides = (float(found.left[at] / unit[at]), float(found.right[at] / unit[at]))
        rule = float(derivative[at] / unit[at])
        return int(known.sum()), Comparison(self.op.name, self.argument, where, rule, sides, float(error[at]))

    def _along(self, x: Array, where: str, direction: Array) -> tuple[int, Comparison | None]:
        """All elements move along one direction; a kink of one output does not hide that of another."""
        found = self._slopes(direction)
        known, size = _known(found, 1.0)
        if not known.all():
            return 0, None
        low, high = float(np.minimum(found.left, found.right).sum()), float(np.maximum(found.left, found.right).sum())
        rule = float((self.dX * direction).sum())
        allowed = float(found.error.sum() + 1e-12 * size.sum() + (self.noise * np.abs(direction)).sum())
        gap = max(low - rule, rule - high) - allowed
        if gap <= 0:
            return 1, None
        error = gap / max(abs(low), abs(high), 1e-300) if math.isfinite(gap) else math.inf
        return 1, Comparison(self.op.name, self.argument, where, rule, (low, high), error)


def _known(found: Slopes, height: Any) -> tuple[Array, Array]:
    """Where values of this height give a slope worth comparing with, and its size."""
    size = np.maximum(np.abs(found.left), np.abs(found.right))
    return np.isfinite(size) & (found.error <= 1e-3 * (size + 1e-6 * height) + 2 * FLOOR), size


def _units(x: Array, inputs: Sequence[Array]) -> Array:
    """By how much an element moves: by a part of itself, or of 1 where that is less (exp would overflow).

    A zero has no size of its own: it moves by a part of what it meets in the other inputs.
    """
    others = [np.where(a == 0, 1.0, np.abs(a)) for a in inputs if a.dtype.kind == "f"]
    least = np.minimum.reduce(np.broadcast_arrays(np.ones(x.shape), *others))
    return np.asarray(np.where(x == 0, least, np.minimum(np.abs(x), 1.0)))


def _directions(x: Array, one_by_one: bool) -> Iterator[tuple[str, Array]]:
    """Each element of a small input by itself; then some directions in which all move."""
    one_by_one = one_by_one and x.size <= ONE_BY_ONE
    if one_by_one:
        for i in range(x.size):
            unit = np.zeros(x.size)
            unit[i] = 1.0
            yield f"element {list(map(int, np.unravel_index(i, x.shape)))}", unit.reshape(x.shape)
    rng = np.random.default_rng(2)
    yield "all elements alike", np.ones(x.shape)
    for number in range(DIRECTIONS):
        direction = rng.standard_normal(x.shape)
        yield f"random direction {number}", np.asarray(direction / math.sqrt(x.size))
