"""A line search: a step length at which a function has fallen enough and its slope has flattened (the strong Wolfe conditions)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from chainrule.tensor import Tensor

ENOUGH = 1e-4  # c1: the function must fall by this share of what its slope promises (Nocedal, Wright, section 3.1)
FLAT = 0.9  # c2: the slope must fall to this share of the first one
NARROW = 1e-9  # brackets that move no parameter by more are not searched


class Point(NamedTuple):
    """What is known at a step length: the function's value, its gradient, and the slope along the direction."""

    length: float
    value: float
    gradient: Tensor
    slope: float


def strong_wolfe(
    at: Callable[[float], Point], start: Point, length: float, largest: float, most: int
) -> tuple[Point, int]:
    """A point that meets the conditions, or the best that was found, and how many points were looked at.

    Args:
        at: computes a point.
        start: the one of length 0.
        length: the first to try.
        largest: the largest element of the direction, which says what length is too short to matter.
        most: how many further points to look at.

    A length at which the value or the slope is NaN counts as too long (in PyTorch it may be taken).

    Source: Nocedal, Wright, "Numerical optimization", 2006, algorithms 3.5 and 3.6, with the safeguards of PyTorch's.
    """
    bracket, looked, met = _bracket(at, start, length, most)
    stuck = False
    low, high = _order(bracket)
    while not met and looked <= most and len(bracket) == 2:
        if not abs(bracket[1].length - bracket[0].length) * largest >= NARROW:
            break
        length, stuck = _inside(cubic(bracket[0], bracket[1]), bracket, stuck)
        new = at(length)
        looked += 1
        if not _fallen(new, start) or new.value >= bracket[low].value:
            bracket[high] = new
            low, high = _order(bracket)
            continue
        met = abs(new.slope) <= -FLAT * start.slope
        if not met and new.slope * (bracket[high].length - bracket[low].length) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = new
    return bracket[low], looked


def _bracket(at: Callable[[float], Point], start: Point, length: float, most: int) -> tuple[list[Point], int, bool]:
    """Two points with one that meets the conditions between them, or such a one itself; how many were looked at; is it one?"""
    before, new, looked = start, at(length), 1
    while looked <= most:
        if not _fallen(new, start) or (looked > 2 and new.value >= before.value):
            return [before, new], looked, False
        if abs(new.slope) <= -FLAT * start.slope:
            return [new], looked, True
        if new.slope >= 0:
            return [before, new], looked, False
        step = new.length - before.length
        length = cubic(before, new, (new.length + 0.01 * step, new.length * 10))
        before, new = new, at(length)
        looked += 1
    return [start, new], looked, False


def _fallen(new: Point, start: Point) -> bool:
    return new.value <= start.value + ENOUGH * new.length * start.slope and not math.isnan(new.slope)


def _order(bracket: list[Point]) -> tuple[int, int]:
    return (1, 0) if bracket[-1].value < bracket[0].value else (0, 1)  # NaN is never the lower one


def _inside(length: float, bracket: list[Point], stuck: bool) -> tuple[float, bool]:
    """Away from the ends of the bracket, where it would not shrink: a second time in a row, or beyond an end, by a tenth."""
    shortest, longest = sorted(point.length for point in bracket)
    margin = 0.1 * (longest - shortest)
    if not min(longest - length, length - shortest) < margin:
        return length, False
    if not (stuck or length >= longest or length <= shortest):
        return length, True
    return (longest - margin if longest - length < length - shortest else shortest + margin), False


def cubic(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic through two points with these slopes is lowest, within the bounds; their middle where it is nowhere.

    Example:
        >>> from chainrule import zeros
        >>> cubic(Point(0.0, 1.0, zeros(1), -2.0), Point(3.0, 4.0, zeros(1), 4.0))  # (x - 1)^2
        1.0
    """
    shortest, longest = bounds or sorted((a.length, b.length))
    first, second = (a, b) if a.length <= b.length else (b, a)
    chord = a.slope + b.slope - 3 * (a.value - b.value) / (a.length - b.length)
    square = chord * chord - a.slope * b.slope
    if not square >= 0:
        return (shortest + longest) / 2
    root = math.sqrt(square)
    below = second.slope - first.slope + 2 * root
    if not below:
        return (shortest + longest) / 2
    lowest = second.length - (second.length - first.length) * ((second.slope + root - chord) / below)
    return min(max(lowest, shortest), longest)
