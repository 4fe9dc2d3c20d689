"""Epochs of steps, some bound at a time: Python has the floor only where a stopping rule could bite."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.compiler.frontend.loop import Loop
from chainrule.interop.sklearn.network import Network
from chainrule.tensor.random import Generator, drawing_from
from chainrule.training.steps import GROWTH, SECONDS

Array = np.ndarray[Any, Any]

BLOCK = 32  # epochs bound at once
NUMBERS = 1 << 19  # row numbers bound at once, unless one epoch has more
BATCH = 256  # rows of a step of validation


class Orders:
    """The order of the rows in each epoch: each a permutation of the one before, drawn as scikit-learn draws it."""

    def __init__(self, rows: int, random: np.random.RandomState, shuffle: bool) -> None:
        self.random, self.shuffle = random, shuffle
        self.latest, self.drawn = np.arange(rows), 0
        self._mark()

    def _mark(self) -> None:
        # What is drawn ahead of need is given back; not to the stream of the whole process, which others draw from.
        shared = self.random is np.random.mtrand._rand
        self.before = self.latest, None if shared or not self.shuffle else self.random.get_state()

    def ahead(self, epochs: int) -> Array:
        """The orders of the next epochs, shape (epochs, rows)."""
        self._mark()
        self.drawn = epochs
        return np.stack([self._next() for _ in range(epochs)])

    def used(self, epochs: int) -> None:
        """So many of those that `ahead` gave; the others are to come again."""
        if epochs == self.drawn:
            return
        self.latest, state = self.before
        if state is not None:
            self.random.set_state(state)
            for _ in range(epochs):
                self._next()

    def _next(self) -> Array:
        if self.shuffle:
            places = np.arange(len(self.latest))
            self.random.shuffle(places)
            self.latest = self.latest[places]
        return self.latest


class Block:
    """Some epochs: the whole batches are one native loop, the short last ones another, passes of validation a third."""

    def __init__(self, network: Network, orders: Array, rates: Sequence[float], batch: int) -> None:
        self.network, self.batch = network, batch
        self.epochs, self.rows = orders.shape
        self.whole = self.rows // batch
        self.done = 0
        cut = self.whole * batch
        self.validation = _validation(network)
        each = np.asarray(rates, np.float64)
        for _ in range(2):  # tracing one of them the first time may read the state that another is bound to
            self.loops = [
                network.begin(orders[:, :cut].reshape(-1, batch), np.repeat(each, self.whole)) if self.whole else None,
                network.begin(np.ascontiguousarray(orders[:, cut:]), each) if cut < self.rows else None,
                network.begin_outputs(np.tile(self.validation, (self.epochs, 1))) if len(self.validation) else None,
            ]
            if all(loop is None or loop.stands() for loop in self.loops):
                return

    @property
    def left(self) -> int:
        """Epochs still to come."""
        return int(self.epochs - self.done)

    def run(self, epochs: int, pace: Pace) -> Array:
        """The next epochs; the loss of each, its batches weighted by their rows."""
        whole, rest, validation = self.loops
        if whole is not None and rest is None and validation is None:
            pace.advance(whole, self.whole * epochs)
        for _ in range(epochs if rest is not None or validation is not None else 0):
            if whole is not None:
                pace.advance(whole, self.whole)
            if rest is not None:
                pace.advance(rest, 1)
            if validation is not None:
                pace.advance(validation, len(self.validation))
        self.done += epochs
        return self._losses(epochs)

    def _losses(self, epochs: int) -> Array:
        whole, rest, _ = self.loops
        found = np.zeros(epochs)
        if whole is not None:
            found += self.batch * _latest(whole, epochs, self.whole).astype(np.float64).sum(axis=1)
        if rest is not None:
            found += (self.rows % self.batch) * _latest(rest, epochs, 1)[:, 0]
        losses: Array = found / self.rows
        return losses

    def outputs(self) -> Array:
        """For the rows that are held out, after the latest epoch."""
        each = _latest(self.loops[2], 1, len(self.validation))[0]
        found: Array = each.reshape(-1, each.shape[-1])[: self.network.held_out.count]
        return found


def _latest(loop: Loop | None, epochs: int, steps: int) -> Array:
    """What the latest epochs, of so many steps each, returned: shape (epochs, steps, ...)."""
    if loop is None:
        raise RuntimeError("this block has no such steps; this is a bug in chainrule")
    found: Array = loop.so_far().numpy()[-epochs * steps :]
    return found.reshape(epochs, steps, *found.shape[1:])


def _validation(network: Network) -> Array:
    """The numbers of the rows that are held out, in equal batches; the last repeats a row where it is short."""
    count = network.held_out.count if network.plan.scored else 0
    size = min(BATCH, max(count, 1))
    parts = -(-count // size)
    return np.pad(np.arange(count), (0, parts * size - count)).reshape(parts, size)


class Pace:
    """How many steps a native call takes: Python has the floor, and Ctrl-C its effect, several times a second."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.chunk = generator, 1

    def advance(self, loop: Loop, steps: int) -> None:
        """The next steps, in calls of about `SECONDS`."""
        while steps:
            began, some = time.perf_counter(), min(steps, self.chunk)
            with drawing_from(self.generator):  # a step may need another program than the one before
                loop.advance(some, shared=True)
            steps -= some
            self._took(some, time.perf_counter() - began)

    def _took(self, steps: int, seconds: float) -> None:
        wanted = max(1, min(GROWTH * steps, int(steps * SECONDS / max(seconds, 1e-9))))
        self.chunk = wanted if steps >= self.chunk or seconds > SECONDS else max(self.chunk, wanted)
