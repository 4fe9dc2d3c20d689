"""Epochs over sparse rows that are too many to be made dense at once: some steps of an epoch at a time are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.interop.sklearn.epochs import Pace
from chainrule.interop.sklearn.network import Network

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Source:
    """Rows that are made dense some at a time.

    Attributes:
        count: how many there are.
        dense: those of these numbers, as `Rows.give` takes them.
        outputs: for the rows that are held out, by the weights of now.
    """

    count: int
    dense: Callable[[Array], dict[str, Array | None]]
    outputs: Callable[[], Array]


class Windows:
    """Some epochs, as `Block` has them, each in windows of as many rows as the network has room for."""

    def __init__(self, network: Network, orders: Array, rates: Sequence[float], batch: int, source: Source) -> None:
        self.network, self.orders, self.rates, self.batch, self.source = network, orders, rates, batch, source
        self.epochs, self.rows = orders.shape
        self.outputs, self.done = source.outputs, 0

    @property
    def left(self) -> int:
        """Epochs still to come."""
        return int(self.epochs - self.done)

    def run(self, epochs: int, pace: Pace) -> Array:
        """The next epochs; the loss of each, its batches weighted by their rows."""
        found = [self._epoch(self.done + i, pace) for i in range(epochs)]
        self.done += epochs
        return np.asarray(found)

    def _epoch(self, number: int, pace: Pace) -> float:
        order, size = self.orders[number], self.network.plan.capacity
        windows = [order[start : start + size] for start in range(0, self.rows, size)]
        return sum(self._window(window, self.rates[number], pace) for window in windows) / int(self.rows)

    def _window(self, rows: Array, rate: float, pace: Pace) -> float:
        """Its steps; the sum of their losses, each times its rows."""
        self.network.rows.give(**self.source.dense(rows))
        whole = len(rows) // self.batch
        parts = np.split(np.arange(len(rows)), [whole * self.batch])
        return sum(
            self._steps(part.reshape(count, -1), rate, pace)
            for part, count in zip(parts, (whole, 1), strict=True)
            if len(part)
        )

    def _steps(self, index: Array, rate: float, pace: Pace) -> float:
        loop = self.network.begin(index, np.full(len(index), rate))
        pace.advance(loop, len(index))
        return float(loop.end().numpy().astype(np.float64).sum() * index.shape[1])
