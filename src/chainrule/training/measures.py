"""From what steps measured to the numbers of the history: the loss, and each metric, of all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from chainrule.tensor import Tensor
from chainrule.training.exact import is_exact, is_ranked, statistics_of
from chainrule.training.metrics import Metric
from chainrule.training.objective import measured as of_batch

Array = np.ndarray[Any, Any]
Mean = Callable[[int], Any]
Kept = Callable[[], tuple[Array, Array]]
Way = Callable[[Mean, Kept], float]


def measured(
    metrics: Mapping[str, Metric], loss: Tensor, output: Any, target: Any, mass: Tensor | None
) -> list[Tensor]:
    """What a step measures: the loss, and what metrics are made of.

    Where rows do not enter the loss alike, also the loss times what it divides by, and that (`mass`): a batch in which
    nothing counts has no loss, and none in that of all rows.
    """
    found = [loss, *(of_batch(statistics_of(m), output, target) for m in metrics.values() if not is_ranked(m))]
    if mass is not None:
        mass = mass.to(loss.dtype)
        found += [(loss * mass).where(mass > 0, 0.0), mass]
    return found


class Measures:
    """The measures of a training, or of a pass over rows.

    Args:
        metrics: by name.
        ranked: also those that need all outputs at once.
    """

    def __init__(self, metrics: Mapping[str, Metric], ranked: bool) -> None:
        self.summed = ["loss", *(name for name, metric in metrics.items() if not is_ranked(metric))]
        self.names = ["loss", *metrics] if ranked else self.summed
        self._widths: list[int] = []
        self._places: list[int | slice] = []
        self._by_mass = False  # did the steps give what the loss divides by? (See `measured`.)
        self._ways = {name: self._way(name, metrics.get(name)) for name in self.names}

    def _way(self, name: str, metric: Any) -> Way:
        """How a measure follows from the means of what a step gave, or from all outputs and targets."""
        if name == "loss":
            return lambda mean, rows: float(_quotient(mean(-2), mean(-1)) if self._by_mass else mean(0))
        if is_ranked(metric):
            return lambda mean, rows: float(metric.ranked(*rows()))
        at = self.summed.index(name)
        if is_exact(metric):
            return lambda mean, rows: float(metric.result(_listed(mean(at))))
        return lambda mean, rows: float(mean(at))

    def value(self, name: str, widths: Sequence[int], mean: Mean, rows: Kept) -> float:
        """One measure.

        Args:
            widths: of how many numbers each of what a step gave is.
            mean: over all rows, of what a step gave under this number.
            rows: outputs and targets of all.
        """
        self._learn(widths)
        return self._ways[name](mean, rows)

    def named(self, means: Array, widths: Sequence[int], rows: Kept | None = None) -> dict[str, float]:
        """All of them, of the means (K,) of what each step gave, of so many numbers each."""
        self._learn(widths)
        places = self._places
        return {name: way(lambda i: means[places[i]], rows or no_rows) for name, way in self._ways.items()}

    def _learn(self, widths: Sequence[int]) -> None:
        if widths != self._widths:
            ends = list(accumulate(widths, initial=0))
            self._widths, self._by_mass = list(widths), len(widths) > len(self.summed)
            self._places = [a if b - a == 1 else slice(a, b) for a, b in pairwise(ends)]


def _quotient(above: Any, below: Any) -> Any:
    return above / below if below else np.nan


def _listed(found: Any) -> Array:
    array: Array = found if isinstance(found, np.ndarray) and found.ndim else np.array([found])
    return array


def no_rows() -> tuple[Array, Array]:
    """Where no outputs are kept."""
    raise RuntimeError("a measure of all outputs, where none are kept; this is a bug in chainrule")
