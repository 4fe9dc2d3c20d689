"""The compiled steps of training and evaluation: rows are gathered by number inside the native loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from chainrule import dtypes
from chainrule.compiler.compile import compile
from chainrule.compiler.loop import Loop
from chainrule.compiler.trace import note
from chainrule.compiler.watch import Watched
from chainrule.graph import leaf
from chainrule.nn import Module
from chainrule.nn.utils import clip_grad_norm_
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.tensor.core import wrap
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training import state
from chainrule.training.fingerprint import fingerprint

Array = np.ndarray[Any, Any]
Function = Callable[[Tensor, Tensor], Tensor]

SECONDS = 0.075  # how long a native call should last: Python has the floor in between
GROWTH = 4  # how much longer than the last call the next may be, so that one estimate cannot go far wrong


class Feed:
    """The rows that a compiled step gathers from; other rows of the same types may take their place."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = tensor(x), tensor(y)

    def take(self, x: Array, y: Array) -> bool:
        """Gather from these rows from now on, if shapes and dtypes are the same."""
        pairs = ((self.x, x), (self.y, y))
        if any(t.shape != a.shape or t.dtype.numpy != a.dtype for t, a in pairs):
            return False
        for handle, array in pairs:
            handle.copy_(tensor(array))
        return True


class Measured(NamedTuple):
    """What some steps measured: float64 (steps, measures), and a fingerprint of the weights before each step.

    A program that does not record has no fingerprints.
    """

    values: Array
    prints: Array | None

    def first(self, count: int) -> Measured:
        """Those of the first `count` steps."""
        return Measured(self.values[:count], None if self.prints is None else self.prints[:count])


class Program:
    """A compiled step over row numbers, run many at a time."""

    def __init__(self, feed: Feed, step: Callable[[Tensor], Any], records: bool = False) -> None:
        self.feed, self.records = feed, records
        self._step = compile(step)
        self._ahead: threading.Thread | None = None
        self.chunk = 1  # how many steps Python should wait for at once

    def begin(self, index: Array) -> UnderWay:
        """Steps that their caller moves on, one for each row of `index`: row numbers (steps, batch), kept as they are."""
        return UnderWay(self._step.begin(wrap(leaf(index, dtypes.int64))), self.records)

    def run(self, index: Array) -> Measured:
        """One step for each row of `index`, in one native call."""
        steps = self.begin(index)
        steps.advance(len(index))
        return steps.measured()

    def watch(self, index: Array) -> Watched:
        """One step as `run` takes it, for row numbers (batch,), and every value on the way."""
        if self._ahead is not None:
            self._ahead.join()
        return self._step.watch(tensor(index))

    def prepare_watch(self) -> None:
        """Begin to compile what `watch` needs; a replay, which runs natively meanwhile, hides that."""
        if self._ahead is None:
            self._ahead = threading.Thread(target=self._step.prepare_watch, daemon=True)
            self._ahead.start()

    def took(self, steps: int, seconds: float) -> None:
        """So long some steps took: `chunk` is made to last about `SECONDS`."""
        wanted = max(1, min(GROWTH * steps, int(steps * SECONDS / max(seconds, 1e-9))))
        # Fewer than it was told for tell what a call costs beside its steps: no reason to go down.
        self.chunk = wanted if steps >= self.chunk or seconds > SECONDS else max(self.chunk, wanted)


class UnderWay:
    """Steps under way."""

    def __init__(self, loop: Loop, records: bool) -> None:
        self._loop, self._records = loop, records
        self.stands = loop.stands
        # Another thread may look at the weights while a training runs; what it holds then moves with them.
        self.advance = partial(loop.advance, shared=True)

    def measured(self) -> Measured:
        """What they measured, once all are done."""
        columns = self._loop.end()
        prints = columns.pop(0)._node.value if self._records else None
        return Measured(np.stack([column._node.value.astype(np.float64) for column in columns], axis=1), prints)


class Passes:
    """Passes over all rows of an evaluation program, each made when its turn comes between steps of a training."""

    def __init__(self, program: Program, rows: int, batch_size: int, passes: int = 1) -> None:
        self.program, self.rows, self.passes = program, rows, passes
        self.parts = [
            (program.begin(np.tile(part, (passes, 1))), *part.shape)
            for part in batches(np.arange(rows), batch_size)
            if len(part)
        ]

    def stands(self) -> bool:
        """As `UnderWay.stands`."""
        return all(steps.stands() for steps, _, _ in self.parts)

    def once(self) -> None:
        """The next pass, in native calls that leave Python the floor in between."""
        for steps, count, _ in self.parts:
            done = 0
            while done < count:
                began, some = time.perf_counter(), min(count - done, self.program.chunk)
                steps.advance(some)
                self.program.took(some, time.perf_counter() - began)
                done += some

    def measures(self) -> Array:
        """The measures of each pass over all rows, each batch weighted by its rows: (passes, measures)."""
        each = ((s.measured().values.reshape(self.passes, count, -1), size) for s, count, size in self.parts)
        return np.asarray(sum(values.sum(axis=1) * size for values, size in each) / self.rows)


def training_program(
    model: Module, loss: Function, optimizer: Optimizer, metrics: Mapping[str, Function], x: Array, y: Array,
    records: bool = False, max_norm: float | None = None,
) -> Program:  # fmt: skip
    """Gather, forward, loss, backward, update; gradients are forgotten at the end, so none is written out.

    With `records`, the step also gives a fingerprint of the weights it began with.
    """
    feed = Feed(x, y)

    def step(index: Tensor) -> list[Tensor]:
        # First of all results, so that the weights are still in the cache when the forward pass reads them.
        prints = [fingerprint(state.weights(model, optimizer))] if records else []
        inputs, target = feed.x[index], feed.y[index]
        output = model(inputs)
        value = loss(output, target)
        value.backward()
        if max_norm is not None:
            clip_grad_norm_(state.optimized(optimizer), max_norm)
        note("input", inputs)
        note("target", target)
        note("output", output)
        note("loss", value)
        for mark in prints:
            note("print", mark)
        for name, parameter in model.named_parameters():
            if parameter._grad is not None:  # not `grad`: the trace need not know that somebody looked
                note(("gradient", name), parameter._grad)
        optimizer.step()
        optimizer.zero_grad()
        with no_grad():
            measures = [value.detach(), *(metric(output.detach(), target) for metric in metrics.values())]
        return [*prints, *measures]

    optimizer.zero_grad()  # gradients left over from before fit are not of these data
    return Program(feed, step, records)


def evaluation_program(model: Module, loss: Function, metrics: Mapping[str, Function], x: Array, y: Array) -> Program:
    """Gather, forward, loss and metrics."""
    feed = Feed(x, y)

    def step(index: Tensor) -> list[Tensor]:
        with no_grad():
            output, target = model(feed.x[index]), feed.y[index]
            return [loss(output, target), *(metric(output, target) for metric in metrics.values())]

    return Program(feed, step)


def batches(order: Array, size: int) -> tuple[Array, Array]:
    """The whole batches (n, size), and what is left over as one batch (1, rest), or without rows (0, 0)."""
    whole = len(order) // size
    rest = order[whole * size :]
    return order[: whole * size].reshape(whole, size), rest[None] if len(rest) else np.empty((0, 0), order.dtype)


def evaluate(program: Program, rows: int, batch_size: int) -> Array:
    """The measures over all rows."""
    passes = Passes(program, rows, batch_size)
    passes.once()
    measures: Array = passes.measures()[0]
    return measures
