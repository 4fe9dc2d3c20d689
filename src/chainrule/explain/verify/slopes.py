"""Slopes of a function of one number from its values alone: what every derivative rule is held against.

Everything here works on arrays: one slope for each element of the output of ``f(t)``, t -> f(t) being the
function along a line. Three ways, the sharpest that applies:

1. Complex step: Im f(ih) / h has no difference of nearly equal numbers, so it is exact to rounding
   (Squire & Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 1998).
2. Differences on each side, with Richardson's extrapolation; where both sides agree, their mean.
3. Where they disagree the function has a kink, and only the interval between them is known.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Line = Callable[[Any], Array]  # t -> f(t), for real t, or complex where the function takes it

EPS = float(np.finfo(np.float64).eps)
STEP = 2.0**-9  # of the differences, a power of two: what is linear comes out exact
NEAR_STEP = 2.0**-30  # of one that asks whether a kink is at 0 or beside it
COMPLEX_STEP = 2.0**-100
FLOOR = 1e-30  # below, a slope is not told from 0
COMPLEX_RTOL = 2e-13


@dataclass(frozen=True)
class Slopes:
    """The slopes at t = 0 on the left and on the right (equal where it is smooth), and their uncertainty."""

    left: Array
    right: Array
    error: Array

    @property
    def kink(self) -> Array:
        """Where the two sides have slopes of their own."""
        return np.asarray(np.abs(self.left - self.right) > 4 * self.error)

    def completed(self, other: Slopes) -> Slopes:
        """These slopes, or those of `other` where these are not finite."""
        here = np.isfinite(self.left + self.right)
        return Slopes(
            np.where(here, self.left, other.left),
            np.where(here, self.right, other.right),
            np.where(here, self.error, other.error),
        )

    def gap(self, derivative: Array, at_kink: float | None) -> Array:
        """How far a derivative lies outside of what the slopes allow; 0 where it agrees.

        `at_kink` says where between the left slope (0) and the right one (1) it must lie at a kink;
        None: anywhere between.
        """
        low, high = np.minimum(self.left, self.right), np.maximum(self.left, self.right)
        if at_kink is not None:
            wanted = self.left + at_kink * (self.right - self.left)
            low, high = np.where(self.kink, wanted, low), np.where(self.kink, wanted, high)
        outside = np.maximum(np.maximum(low - derivative, derivative - high) - self.error, 0.0)
        return np.where(np.isfinite(derivative), outside, np.inf)


def slopes(f: Line, step: float = STEP) -> Slopes:
    """The slopes of `f` at 0 from differences of step `step` on each side, and by a complex step where it is smooth."""
    f = _remembered(f)  # central differences stand at points of the one-sided ones
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        sided = _sided(f, step)
        if not np.isfinite(sided.left + sided.right).all():  # the end of the domain may be nearer than a step
            sided = sided.completed(_sided(f, step * 2.0**-16))
        left, right = sided.left, sided.right
        sharp = _complex_step(f)
        if sharp is None:
            return _central(f, sided, step)
        middle = 0.5 * (left + right)
        near = np.abs(sharp - middle) <= 8 * sided.error + 1e-6 * np.abs(middle)
        telling = ~sided.kink & (np.abs(middle) > 100 * sided.error)  # a zero could pass for a slope lost in rounding
        if not near[telling].all():
            return _central(f, sided, step)  # it takes complex numbers, but is no function of them
        trusted = ~sided.kink & near
        rounding = COMPLEX_RTOL * np.abs(sharp) + FLOOR
        return Slopes(
            np.where(trusted, sharp, left), np.where(trusted, sharp, right), np.where(trusted, rounding, sided.error)
        )


def _remembered(f: Line) -> Line:
    known: dict[Any, Array] = {}

    def value(t: Any) -> Array:
        key = type(t), t
        if key not in known:
            known[key] = f(t)
        return known[key]

    return value


def without_kinks_nearby(f: Line, found: Slopes) -> Slopes:
    """`found`, but where a kink stands beside 0 and not at it, the slopes of a step that ends before it."""
    if not found.kink.any():
        return found
    with np.errstate(all="ignore"):
        near = _sided(f, NEAR_STEP)
        beside = found.kink & ~near.kink & (8 * near.error < np.abs(found.left - found.right))
    return Slopes(
        np.where(beside, near.left, found.left),
        np.where(beside, near.right, found.right),
        np.where(beside, near.error, found.error),
    )


def _sided(f: Line, step: float) -> Slopes:
    left, left_error = _one_sided(f, -step)
    right, right_error = _one_sided(f, step)
    return Slopes(left, right, np.maximum(left_error, right_error))


def _one_sided(f: Line, step: float) -> tuple[Array, Array]:
    """The limit of the slope from one side, from values strictly on that side (f may jump at 0)."""
    points = [f(step * 2.0**-k) for k in range(5)]
    columns = [2.0 ** (k + 1) / step * (points[k] - points[k + 1]) for k in range(4)]  # slopes of neighbouring points
    estimates = [columns]
    for order in range(1, 4):
        last = estimates[-1]
        estimates.append([(2**order * b - a) / (2**order - 1) for a, b in pairwise(last)])
    best, before = estimates[-1][0], estimates[-2][-1]
    # Values are rounded, and so is where they are taken: by an ulp of t, which the slope turns into one of f.
    size = np.maximum.reduce([np.abs(p) for p in [*points, best]])
    return best, np.abs(best - before) + FLOOR + 64 * EPS * size / abs(step * 2.0**-4)


def _central(f: Line, sided: Slopes, step: float) -> Slopes:
    """Smooth places of a function without a complex form: central differences, four orders better."""
    wide, middle, narrow = ((f(s) - f(-s)) / (2 * s) for s in (step, step / 2, step / 4))
    first, second = (4 * middle - wide) / 3, (4 * narrow - middle) / 3
    best = (16 * second - first) / 15
    rounding = 32 * EPS * np.maximum.reduce([np.abs(f(step)), np.abs(f(-step)), np.abs(best)]) / (step / 4)
    error = np.abs(best - second) / 8 + rounding
    smooth = ~sided.kink & (error < sided.error)
    return Slopes(
        np.where(smooth, best, sided.left), np.where(smooth, best, sided.right), np.where(smooth, error, sided.error)
    )


def _complex_step(f: Line) -> Array | None:
    """Im f(ih) / h; None where the function is not one of complex numbers."""
    try:
        at_zero, moved = f(0j), f(1j * COMPLEX_STEP)
    except TypeError:  # NumPy has no complex loop for it
        return None
    if moved.dtype.kind != "c":
        return None
    return np.where(at_zero.imag == 0, moved.imag / COMPLEX_STEP, np.nan)  # not real at 0: on a branch cut
