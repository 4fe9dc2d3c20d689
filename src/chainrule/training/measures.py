"""From what steps measured to the numbers of the history: the loss, and each metric, of all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from chainrule.tensor import Tensor
from chainrule.training.exact import is_exact, is_ranked, statistics_of
from chainrule.training.metrics import Metric
from chainrule.training.objective import measured as of_batch

Array = np.ndarray[Any, Any]


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
    """The measures of a training, or of passes over rows.

    Args:
        metrics: by name.
        ranked: also those that need all outputs at once.
    """

    def __init__(self, metrics: Mapping[str, Metric], ranked: bool) -> None:
        self.summed = ["loss", *(name for name, metric in metrics.items() if not is_ranked(metric))]
        self.names = ["loss", *metrics] if ranked else self.summed
        self._ways = {name: self._way(name, metrics.get(name)) for name in self.names}

    def _way(self, name: str, metric: Any) -> Way:
        """How a measure follows from the means of what a step gave, or from all outputs and targets."""
        if name == "loss":
            return self._losses
        if is_ranked(metric):
            return lambda of: [float(metric.ranked(*of.rows(i))) for i in range(of.count)]
        at = self.summed.index(name)
        if is_exact(metric):
            return lambda of: [float(metric.result(one)) for one in of.mean(at).reshape(of.count, -1)]
        return lambda of: of.mean(at).tolist()

    def _losses(self, of: Averaged) -> list[float]:
        """Of all rows; where batches count by their mass, what is left of those in which nothing does."""
        if len(of.widths) == len(self.summed):
            return of.mean(0).tolist()  # type: ignore[no-any-return]
        mass, nothing = of.mean(-1), np.full(of.count, np.nan)
        return np.divide(of.mean(-2), mass, out=nothing, where=mass != 0).tolist()  # type: ignore[no-any-return]

    def of(self, averaged: Averaged, names: Iterable[str] | None = None) -> dict[str, list[float]]:
        """Each measure, or these, of every epoch or pass."""
        return {name: self._ways[name](averaged) for name in names or self.names}


@dataclass(frozen=True)
class Averaged:
    """What steps gave, over all rows of each of some epochs or passes.

    Attributes:
        count: so many of them.
        widths: of how many numbers each of what a step gave is.
        mean: by its number among these: (count,), or (count, width).
        rows: outputs and targets of all rows of one of them.
    """

    count: int
    widths: Sequence[int]
    mean: Callable[[int], Array]
    rows: Callable[[int], tuple[Array, Array]]

    @classmethod
    def of(
        cls, means: Array, widths: Sequence[int], rows: Callable[[int], tuple[Array, Array]] | None = None
    ) -> Averaged:
        """Of the means of all (count, K)."""
        ends = list(accumulate(widths, initial=0))
        places = [a if b - a == 1 else slice(a, b) for a, b in pairwise(ends)]
        return cls(len(means), widths, lambda at: means[:, places[at]], rows or no_rows)


Way = Callable[[Averaged], list[float]]


def no_rows(number: int) -> tuple[Array, Array]:
    """Where no outputs are kept."""
    raise RuntimeError("a measure of all outputs, where none are kept; this is a bug in chainrule")
