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


def measured(
    metrics: Mapping[str, Metric], loss: Tensor, output: Any, target: Any, weight: Tensor | None
) -> list[Tensor]:
    """What a step measures: the loss, what metrics are made of, and where rows weigh, the loss by the weight of the batch."""
    found = [loss, *(of_batch(statistics_of(m), output, target) for m in metrics.values() if not is_ranked(m))]
    if weight is not None:
        mean = weight.to(loss.dtype).mean()
        found += [loss * mean, mean]
    return found


class Measures:
    """The measures of a training, or of a pass over rows.

    Args:
        metrics: by name.
        weighed: the rows weigh in the loss: that of an epoch is by their weights, too.
        ranked: also those that need all outputs at once.
    """

    def __init__(self, metrics: Mapping[str, Metric], weighed: bool, ranked: bool) -> None:
        self.summed = ["loss", *(name for name, metric in metrics.items() if not is_ranked(metric))]
        self.names = ["loss", *metrics] if ranked else self.summed
        self._widths: list[int] = []
        self._places: list[int | slice] = []
        self._ways = {name: self._way(name, metrics.get(name), weighed) for name in self.names}

    def _way(self, name: str, metric: Any, weighed: bool) -> Callable[[Mean, Kept], float]:
        """How a measure follows from the means of what a step gave, or from all outputs and targets."""
        if name == "loss":
            return (lambda mean, rows: float(mean(-2) / mean(-1))) if weighed else (lambda mean, rows: float(mean(0)))
        if is_ranked(metric):
            return lambda mean, rows: float(metric.ranked(*rows()))
        at = self.summed.index(name)
        if is_exact(metric):
            return lambda mean, rows: float(metric.result(_listed(mean(at))))
        return lambda mean, rows: float(mean(at))

    def value(self, name: str, mean: Mean, rows: Kept) -> float:
        """One measure.

        Args:
            mean: over all rows, of what a step gave under this number.
            rows: outputs and targets of all.
        """
        return self._ways[name](mean, rows)

    def named(self, means: Array, widths: Sequence[int], rows: Kept | None = None) -> dict[str, float]:
        """All of them, of the means (K,) of what each step gave, of so many numbers each."""
        if widths != self._widths:
            ends = list(accumulate(widths, initial=0))
            self._widths = list(widths)
            self._places = [a if b - a == 1 else slice(a, b) for a, b in pairwise(ends)]
        places = self._places
        return {name: way(lambda i: means[places[i]], rows or no_rows) for name, way in self._ways.items()}


def _listed(found: Any) -> Array:
    array: Array = found if isinstance(found, np.ndarray) and found.ndim else np.array([found])
    return array


def no_rows() -> tuple[Array, Array]:
    """Where no outputs are kept."""
    raise RuntimeError("a measure of all outputs, where none are kept; this is a bug in chainrule")
