"""Is a derivative right? The analytic one beside one made of function values alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule import autodiff, dtypes
from chainrule.errors import GradientError
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import numbers
from chainrule.tensor.creation import tensor
from chainrule.tensor.random import Reread, current_generator

Array = np.ndarray[Any, Any]
DIRECTIONS = 8  # for an input too large to be checked element by element


@dataclass(frozen=True)
class Finding:
    """One derivative, twice: of an element, or along a direction."""

    argument: int
    where: str
    analytic: float
    numeric: float
    scale: float  # the size of the numbers it is made of, which bounds its rounding

    @property
    def error(self) -> float:
        """How far apart the two are, relative to their scale."""
        gap = abs(self.analytic - self.numeric)
        return gap / self.scale if math.isfinite(gap) else math.inf

    def __str__(self) -> str:
        return (
            f"argument {self.argument}, {self.where}: analytic {self.analytic:.10g}, numeric {self.numeric:.10g}, "
            f"relative error {self.error:.2g}"
        )


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradients` found; true if every derivative agrees."""

    findings: list[Finding] = field(repr=False)
    rtol: float

    @property
    def worst(self) -> Finding | None:
        """The finding with the largest error."""
        return max(self.findings, key=lambda finding: finding.error, default=None)

    def __bool__(self) -> bool:
        return self.worst is None or self.worst.error <= self.rtol

    def __str__(self) -> str:
        verdict = "agree" if self else "DISAGREE"
        return f"{len(self.findings)} derivatives {verdict} to {self.rtol:g}; worst: {self.worst or 'none'}"


@takes_keywords("torch")
def check_gradients(
    function: Callable[..., Any],
    *inputs: Tensor,
    eps: float = 1e-3,
    rtol: float = 1e-7,
    elements: int = 64,
    raise_exception: bool = True,
) -> GradientReport:
    """Compare the derivatives of `function` with differences of its values, in float64.

    (f(x + h d) - f(x - h d)) / 2h, at h, h/2 and h/4 with Richardson's extrapolation twice: the error falls with
    h^6, so that a large h, which rounds little, can be used.

    Args:
        function: from tensors to a tensor; an output of several elements is summed with fixed random weights.
        inputs: the point; floating ones are checked (as float64), others are passed on.
        eps: h, relative to the size of each input (at least 1).
        rtol: how far apart analytic and numeric may be, relative to their scale.
        elements: inputs of at most so many elements are checked one by one, larger ones along random directions.
        raise_exception: raise on a disagreement rather than only report it.

    Raises:
        GradientError: naming the argument, the element, both numbers and the relative error.

    A function that draws random numbers draws the same ones each time; afterwards the stream stands where it stood.
    At a kink (relu at 0) the two differ by right: choose another point.

    >>> import chainrule as cr
    >>> x = cr.tensor([0.5, 2.0], dtype=cr.float64)
    >>> bool(cr.check_gradients(lambda x: x.sin() * x, x))
    True
    >>> wrong = cr.custom_vjp(lambda x: x * x, lambda dY, Y, x: dY * x)  # the factor 2 is missing
    >>> bool(cr.check_gradients(wrong, x, raise_exception=False))
    False

    Source: L. F. Richardson, "The approximate arithmetical solution by finite differences", 1911.
    """
    points = [x.to(dtypes.float64).detach().clone() if x.dtype.is_floating_point else x for x in inputs]
    chosen = [i for i, x in enumerate(points) if x.dtype.is_floating_point]
    if not chosen:
        raise GradientError("check_gradients: needs a floating-point input, got none. Convert one with .double().")
    value = _weighted(function)
    arrays = [np.array(numbers(x)) for x in points]

    def at(argument: int, direction: Array, step: float) -> float:
        moved = list(points)
        moved[argument] = tensor(arrays[argument] + step * direction)
        return float(value(*moved).item())

    findings = []
    gradients = autodiff.grad(value, chosen)(*points)
    for argument, gradient in zip(chosen, gradients, strict=True):
        analytic = np.asarray(numbers(gradient), np.float64)
        h = eps * max(1.0, float(np.abs(arrays[argument]).max(initial=0.0)))
        for where, direction in _directions(arrays[argument].shape, elements):
            numeric = _slope(lambda s, i=argument, d=direction: at(i, d, s), h)  # type: ignore[misc]
            exact = float((analytic * direction).sum())
            scale = max(abs(exact), abs(numeric), abs(at(argument, direction, 0.0)), 1e-3)
            findings.append(Finding(argument, where, exact, numeric, scale))
    report = GradientReport(findings, rtol)
    if raise_exception and not report:
        raise GradientError(
            f"check_gradients: the derivative does not match the function's values at {report.worst}. Look for a "
            f"wrong sign, a missing factor or a wrong axis in the rule, or for a kink at this point."
        )
    return report


def _weighted(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """The function as one number: its outputs summed with weights that are all different.

    What it draws is the same at every call: other noise would be another function.
    """
    random = Reread(current_generator())

    def value(*arguments: Tensor) -> Tensor:
        with random.again():
            output: Tensor = function(*arguments)
        weights = np.random.default_rng(0).uniform(0.5, 1.5, output.shape)
        return (output * tensor(weights, dtypes.float64)).sum()

    return value


def _directions(shape: tuple[int, ...], elements: int) -> list[tuple[str, Array]]:
    size = math.prod(shape)
    if size > elements:
        rng = np.random.default_rng(1)
        drawn = [rng.standard_normal(shape) for _ in range(DIRECTIONS)]
        return [(f"random direction {i}", d / np.sqrt((d * d).sum())) for i, d in enumerate(drawn)]
    units = np.eye(size).reshape(size, *shape)
    return [(f"element {list(map(int, np.unravel_index(i, shape)))}", unit) for i, unit in enumerate(units)]


def _slope(f: Callable[[float], float], h: float) -> float:
    """The derivative at 0 from six values."""
    a, b, c = ((f(s) - f(-s)) / (2 * s) for s in (h, h / 2, h / 4))
    first, second = (4 * b - a) / 3, (4 * c - b) / 3
    return (16 * second - first) / 15
