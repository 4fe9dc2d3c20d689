"""The compiled steps of training and evaluation: rows are gathered by number inside the native loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np

from chainrule import dtypes
from chainrule.autodiff import trees
from chainrule.compiler.compile import compile
from chainrule.compiler.frontend.loop import Loop
from chainrule.compiler.frontend.trace import guard, note
from chainrule.compiler.frontend.watch import Watched
from chainrule.compiler.runtime.copies import Copies
from chainrule.graph import leaf
from chainrule.nn import Module
from chainrule.nn.functional.normalization import cutting_batches
from chainrule.nn.utils import clip_grad_norm_
from chainrule.optim.optimizer import Optimizer, Used, setting
from chainrule.tensor import Tensor
from chainrule.tensor.core import lifted, wrap
from chainrule.tensor.creation import as_tensor, from_numpy, tensor
from chainrule.tensor.functions import cat, no_grad
from chainrule.tensor.random import Generator, Owned, current_generator, drawing_from
from chainrule.training import state
from chainrule.training.exact import is_ranked
from chainrule.training.fingerprint import fingerprint
from chainrule.training.listener import Listener
from chainrule.training.measures import Averaged, Measures, measured
from chainrule.training.metrics import Metric
from chainrule.training.micro_batches import backward_in_parts
from chainrule.training.objective import objective_and_mass
from chainrule.training.several import called

Array = np.ndarray[Any, Any]

SECONDS = 0.075  # how long a native call should last: Python has the floor in between
GROWTH = 4  # how much longer than the last call the next may be, so that one estimate cannot go far wrong


class Feed:
    """The rows that a compiled step gathers from, where they lie; others of the same types may take their place.

    Args:
        x, y: trees of arrays with a row for each other.
        weight: of each row, in a loss; None: they weigh alike.
    """

    def __init__(self, x: Any, y: Any, weight: Array | None = None) -> None:
        self.x, self.y, self.weight = trees.mapped(_where_it_lies, (x, y, weight))
        self.arrays = trees.leaves((x, y, weight))
        self.given = x, y, weight

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.arrays[0])

    def take(self, x: Any, y: Any, weight: Array | None = None) -> bool:
        """Gather from these rows from now on, if trees, shapes and dtypes are the same."""
        same = x is self.given[0] and y is self.given[1] and weight is self.given[2]
        if same and all(map(_needs_no_copy, self.arrays)):
            return True
        held = (self.x, self.y, self.weight)
        arrays, handles = trees.aligned(held, (x, y, weight)), trees.leaves(held)
        if arrays is None:
            return False
        if any(t.shape != a.shape or t.dtype.numpy != a.dtype for t, a in zip(handles, arrays, strict=True)):
            return False
        for handle, array, before in zip(handles, arrays, self.arrays, strict=True):
            if array is not before or not _needs_no_copy(
                array
            ):  # a copy does not see what was written to the array since
                handle._node = _where_it_lies(array)._node
        self.arrays, self.given = arrays, (x, y, weight)
        return True

    def batch(self, index: Tensor) -> tuple[Any, Any, Tensor | None]:
        """x, y and weight of these rows."""
        found: tuple[Any, Any, Tensor | None] = trees.mapped(lambda held: held[index], (self.x, self.y, self.weight))
        return found


def _where_it_lies(array: Array) -> Tensor:
    """A tensor in the memory of the array; of a copy only where it needs one."""
    return from_numpy(array if _needs_no_copy(array) else np.require(array, requirements=["C", "A"]))


def _needs_no_copy(array: Array) -> bool:
    """Is it aligned and in row-major order, so that compiled steps read it where it lies?"""
    return array.flags.c_contiguous and array.flags.aligned


class Measured(NamedTuple):
    """What some steps measured.

    Attributes:
        values: the loss and what the metrics are made of, float64 (steps, measures).
        prints: a fingerprint of the weights before each step; None where the program does not record.
        rates: the rate that each parameter group's update used, float64 (steps, groups).
        collected: outputs and targets of each step, where a metric needs all of them.
    """

    values: Array
    prints: Array | None
    rates: Array
    collected: Sequence[Array] = ()

    def first(self, count: int) -> Measured:
        """Those of the first `count` steps."""
        prints = None if self.prints is None else self.prints[:count]
        return Measured(self.values[:count], prints, self.rates[:count])


class Trained(Protocol):
    """What a step calls, reads and changes: a `Session` is one."""

    model: Module
    loss: Metric
    optimizer: Optimizer
    max_norm: float | None
    random: Owned
    riders: Sequence[Listener]

    @property
    def metrics(self) -> dict[str, Metric]:
        """What it measures, by name."""

    def shape(self) -> tuple[Any, ...]:
        """What a compiled step was made for."""

    def parts(self) -> tuple[Any, ...]:
        """What a step calls."""

    def named(self) -> Mapping[str, Tensor]:
        """The tensors that the training is about, by name."""

    def mode(self, training: bool) -> AbstractContextManager[bool]:
        """Model and loss in training or evaluation mode inside the block."""

    def as_if(self, training: bool) -> AbstractContextManager[None]:
        """The same for a block that only looks whether something is as it was."""


class StepProgram:
    """A compiled step over row numbers, run many at a time.

    Args:
        feed: the rows it gathers from.
        step: gives three lists: a fingerprint where it records, the measures, the rates it used.
        generator: what it draws from; None: from whatever is current.
        session: whose model, loss and metrics it calls.
        records: the first result of a step is a fingerprint.
    """

    def __init__(
        self, feed: Feed, step: Callable[..., Any], generator: Generator | None, session: Trained, records: bool = False
    ) -> None:
        self.feed, self.generator, self.session, self.records = feed, generator, session, records
        self.around: Callable[[], AbstractContextManager[Any]] = nullcontext  # what it is traced in
        self._function = step
        self._step = compile(step)
        self._ahead: threading.Thread | None = None
        self.widths: list[int] = []  # of how many numbers each measure is, once a step was begun
        self._widths: dict[object, list[int]] = {}  # by the compiled program
        self.chunk = 1  # how many steps Python should wait for at once

    def begin(self, index: Array, rates: Array | None = None) -> UnderWay:
        """Steps that their caller moves on, one for each row of `index`: row numbers (steps, batch), kept as they are.

        Args:
            rates: float64 (steps, groups), in place of those of the optimizer's groups.
        """
        given = [wrap(leaf(index, dtypes.int64))]
        if rates is not None:
            given.append(wrap(leaf(rates, dtypes.float64)))
        generator = self.generator or current_generator()
        wraps(self._function, self.session.parts())
        with drawing_from(generator):
            loop = self._step.begin(*given)
        loop.around = self.around
        steps = UnderWay(loop, generator, int(self.records))
        if loop.program not in self._widths:
            self._widths[loop.program] = steps.widths
        self.widths = self._widths[loop.program]
        return steps

    def run(self, index: Array, rates: Array | None = None) -> Measured:
        """One step for each row of `index`, in one native call."""
        steps = self.begin(index, rates)
        steps.advance(len(index))
        return steps.measured()

    def watch(self, index: Array, rates: Array | None = None) -> Watched:
        """One step as `run` takes it, for row numbers (batch,), and every value on the way."""
        if self._ahead is not None:
            self._ahead.join()
        with drawing_from(self.generator or current_generator()):
            return self._step.watch(tensor(index), *(() if rates is None else (tensor(rates),)))

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


def wraps(function: Callable[..., Any], parts: tuple[Any, ...]) -> None:
    """Let a trace of our own function look at what these reach by name, which are the user's, as at its own."""
    vars(function)["__wrapped__"] = parts


class UnderWay:
    """Steps under way.

    Attributes:
        loop: which moves them on, also by turns with others.
    """

    def __init__(self, loop: Loop, generator: Generator, prints: int) -> None:
        self.loop, self._generator, self._prints = loop, generator, prints
        self.stands = loop.stands

    def advance(self, steps: int) -> None:
        """The next steps."""
        with drawing_from(self._generator):  # a step may need another program than the one before
            # Another thread may look at the weights while a training runs; what it holds then moves with them.
            self.loop.advance(steps, shared=True)

    def lasts(self) -> bool:
        """As `Loop.lasts`."""
        with drawing_from(self._generator):
            return self.loop.lasts()

    def stop(self) -> None:
        """No more of them: those that are done are all."""
        self.loop.stop()

    @cached_property
    def widths(self) -> list[int]:
        """Of how many numbers each measure is."""
        prints, measures, *_ = self.loop.described()
        return [int(np.prod(self.loop.peek(i).shape[1:])) for i in range(len(prints), len(prints) + len(measures))]

    def column(self, measure: int) -> Array:
        """A measure of the steps so far, as it came; negative numbers count from the last."""
        return self.loop.peek((measure if measure >= 0 else len(self.widths) + measure) + self._prints)

    @cached_property
    def _ends(self) -> list[int]:
        """Where its four lists end among all results: prints, measures, rates, what is collected."""
        return list(accumulate(len(part) for part in self.loop.described()))

    def collected(self) -> list[Array]:
        """Outputs and targets of the steps so far."""
        return [self.loop.peek(i) for i in range(*self._ends[-2:])]

    def measured(self, since: int = 0) -> Measured:
        """What the steps so far measured, without the first `since` of them."""
        prints, measures, rates, all = self._ends
        found = [self.loop.peek(i)[since:] for i in range(all)]
        return Measured(
            _columns(found[prints:measures]),
            found[0] if prints else None,
            _columns(found[measures:rates]),
            found[rates:],
        )


def _columns(values: Sequence[Array]) -> Array:
    """One column of float64 for each, or as many as it has numbers."""
    if not values:
        return np.empty((0, 0))
    found = np.empty((len(values[0]), sum(math.prod(value.shape[1:]) for value in values)))
    at = 0
    for value in values:
        width = math.prod(value.shape[1:])
        found[:, at : at + width] = value.reshape(len(value), width)  # of no step, too
        at += width
    return found


class Passes:
    """Passes over all rows of an evaluation program, each made when its turn comes between steps of a training."""

    def __init__(self, program: StepProgram, rows: int, batch_size: int, passes: int = 1) -> None:
        self.program, self.rows, self.passes = program, rows, passes
        self._measures = Measures(program.session.metrics, ranked=True)
        self._known: dict[str, list[float]] = {}  # of so many passes of those that were made
        self._known_of = (0, 0)
        self.parts = [
            (program.begin(np.tile(part, (passes, 1))), *part.shape)
            for part in batches(np.arange(rows), batch_size)
            if len(part)
        ]

    def stands(self) -> bool:
        """As `UnderWay.stands`."""
        return all(steps.stands() for steps, _, _ in self.parts)

    def last(self) -> bool:
        """As `Loop.lasts`."""
        with self.program.session.as_if(False):
            return all(steps.lasts() for steps, _, _ in self.parts)

    def once(self) -> None:
        """The next pass, in native calls that leave Python the floor in between."""
        for steps, count, _ in self.parts:
            done = 0
            while done < count:
                began, some = time.perf_counter(), min(count - done, self.program.chunk)
                steps.advance(some)
                self.program.took(some, time.perf_counter() - began)
                done += some

    @property
    def made(self) -> int:
        """So many are over."""
        steps, count, _ = self.parts[0]
        done: int = steps.loop.steps - steps.loop.left
        return int(done // count)

    def turns(self) -> list[tuple[Loop | Copies, int]]:
        """What makes one pass."""
        return [(steps.loop, count) for steps, count, _ in self.parts]

    def stop(self, done: int) -> None:
        """No more passes: those that are done, so many, are all."""
        self.passes = done
        for steps, _, _ in self.parts:
            steps.stop()

    def totals(self) -> tuple[Any, list[list[list[Array]]]]:
        """Of what steps gave, the sums of each pass over all rows; and outputs and targets, by part and pass."""
        found = [(s.measured(), count, size) for s, count, size in self.parts]
        each = ((of.values.reshape(self.passes, count, -1), size) for of, count, size in found)
        # One batch after the other, so that one measure alone comes to the same bits.
        sums = sum(np.add.accumulate(values, axis=1)[:, -1] * size for values, size in each)
        return sums, [[_of_passes(part, self.passes) for part in of.collected] for of, _, _ in found]

    def measures(self) -> dict[str, list[float]]:
        """The measures of each pass over all rows, each batch weighted by its rows."""
        return self.latest(self.passes)

    def latest(self, passes: int = 1, names: Sequence[str] | None = None) -> dict[str, list[float]]:
        """Those of the latest passes, or some of them."""
        if self._known_of != (self.made, passes):  # who judges and who takes down ask for the same
            self._known_of, self._known = (self.made, passes), {}
        wanted = names or self._measures.names
        if missing := [name for name in wanted if name not in self._known]:
            means = Averaged(passes, self.program.widths, partial(self._mean, passes), lambda i: self._rows(passes - i))
            self._known |= self._measures.of(means, missing)
        return {name: self._known[name] for name in wanted}

    def _mean(self, passes: int, measure: int) -> Array:
        total: Any = 0.0
        width = self.program.widths[measure]
        for steps, count, size in self.parts:
            values = steps.column(measure)[-count * passes :]
            # One batch after the other, so that one measure alone comes to the same bits.
            values = values.astype(np.float64).reshape((passes, count) if width == 1 else (passes, count, width))
            total = total + np.add.accumulate(values, axis=1)[:, -1] * size
        found: Array = total / self.rows
        return found

    def _rows(self, back: int) -> tuple[Array, Array]:
        """Outputs and targets of the pass that is so many back; 1: of the latest."""
        kept = []
        for steps, count, _ in self.parts:
            start = -back * count
            kept.append([_joined(part[start : start + count or None]) for part in steps.collected()])
        return together(kept)


def _of_passes(part: Array, passes: int) -> list[Array]:
    """What was collected in each pass: (steps, batch, ...) becomes rows for each."""
    return [_joined(one) for one in part.reshape(passes, -1, *part.shape[1:])] if passes else []


def _joined(part: Array) -> Array:
    return part.reshape(-1, *part.shape[2:])


def together(parts: list[list[Array]]) -> tuple[Array, Array]:
    """Outputs and targets of whole and short batches."""
    outputs, targets = zip(*parts, strict=True)
    return np.concatenate(outputs), np.concatenate(targets)


def training_program(session: Trained, feed: Feed, records: bool = False, micro_batches: int = 1) -> StepProgram:
    """Gather, forward, loss, backward, update, of gradients that the step itself makes: those that a callback left are
    forgotten at its beginning, as ``zero_grad()`` does, and its own at its end, so that none is written out.

    With `records`, the step also gives a fingerprint of the weights it began with, and notes what explains it; in
    `micro_batches` it notes nothing.
    """

    def step(index: Tensor, rates: Tensor | None = None) -> tuple[list[Tensor], ...]:
        guard(session.shape)
        model, optimizer, metrics = session.model, session.optimizer, session.metrics
        # First of all results, so that the weights are still in the cache when the forward pass reads them.
        prints = [fingerprint(session.named().values())] if records else []
        _forget(session)
        if micro_batches > 1:
            value, mass, output, target = _in_micro_batches(session, feed, index, micro_batches)
        else:
            inputs, target, weight = feed.batch(index)
            output = called(model, inputs)
            value, mass = objective_and_mass(session.loss, output, target, weight)
            value.backward()
            for key, noted in {"input": inputs, "target": target, "output": output, "loss": value}.items():
                if isinstance(noted, Tensor):
                    note(key, noted)
        if session.max_norm is not None:
            clip_grad_norm_(state.optimized(optimizer), session.max_norm)
        for mark in prints:
            note("print", mark)
        for name, parameter in model.named_parameters():
            if parameter._grad is not None:  # not `grad`: the trace need not know that somebody looked
                note(("gradient", name), parameter._grad)
        given = None if rates is None else [rates[i] for i in range(rates.shape[0])]
        with optimizer.rates(given) as used:
            optimizer.step()
        for rider in session.riders:
            rider.after_step()
        _forget(session)
        with no_grad():
            output = trees.mapped(Tensor.detach, output)
            measures = measured(metrics, value.detach(), output, target, None if mass is None else mass.detach())
        return prints, measures, _rates(optimizer, used, given), []

    return StepProgram(feed, step, session.random, session, records)


def _in_micro_batches(
    session: Trained, feed: Feed, index: Tensor, count: int
) -> tuple[Tensor, Tensor | None, Any, Any]:
    """Forward and backward in so many parts of the batch, or as many as it has rows: its loss, what that counts for, outputs
    and targets."""
    rows, outputs = len(index), list[Any]()

    def part(start: int, end: int) -> tuple[Tensor, Tensor | None]:
        inputs, target, weight = feed.batch(index[start:end])
        output = called(session.model, inputs)
        outputs.append(trees.mapped(Tensor.detach, output))
        return objective_and_mass(session.loss, output, target, weight)

    with cutting_batches(f"fit(micro_batches={count})", "micro_batches=1"):
        value, mass = backward_in_parts(part, rows, min(count, 1 << rows.bit_length() - 1))
    output = None
    if session.metrics:
        with no_grad():
            output = trees.filled(outputs[0], [cat(of) for of in zip(*map(trees.leaves, outputs), strict=True)])
    return value, mass, output, feed.batch(index)[1]


def _forget(session: Trained) -> None:
    for handle in session.named().values():
        handle.grad = None


def _rates(optimizer: Optimizer, used: Sequence[Used], given: Sequence[Tensor] | None) -> list[Tensor]:
    """The rate in force for each group, and a note of it for each parameter; one that moves nothing has its own.

    Args:
        given: those of this step, where a schedule worked them out ahead: the groups then hold later ones.
    """
    found: dict[int, Tensor] = {}
    for number, parameters, rate in used:
        held = as_tensor(rate, dtype=dtypes.float64) * 1  # a result of its own, also where it is an argument
        found.setdefault(number, held)
        for parameter in parameters:
            note(("rate", id(parameter)), held)
    for i, group in enumerate(optimizer.param_groups):
        if i not in found:
            own = setting(group, "lr") if given is None else given[i]
            found[i] = as_tensor(own, dtype=dtypes.float64) * 1
    return [found[i] for i in range(len(found))]


Instead = Callable[[], Sequence[tuple[Tensor, Tensor]]]


def evaluation_program(
    session: Trained, feed: Feed, generator: Generator | None = None, instead: Instead = tuple
) -> StepProgram:
    """Gather, forward, loss and metrics; of tensors in the place of parameters, each with its parameter."""

    def step(index: Tensor) -> tuple[list[Tensor], ...]:
        guard(session.shape)
        with no_grad(), _in_place(instead()):
            inputs, target, weight = feed.batch(index)
            output = called(session.model, inputs)
            value, mass = objective_and_mass(session.loss, output, target, weight)
            metrics = session.metrics
            kept = [output, target] if any(map(is_ranked, metrics.values())) else []
            return [], measured(metrics, value, output, target, mass), [], kept

    program = StepProgram(feed, step, generator, session)
    program.around = partial(session.mode, False)
    return program


@contextmanager
def _in_place(pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Inside the block, which is traced, parameters have the values of others."""
    before = [lifted(parameter) for _, parameter in pairs]
    try:
        for other, parameter in pairs:
            parameter._name(lifted(other))
        yield
    finally:
        for node, (_, parameter) in zip(before, pairs, strict=True):
            parameter._name(node)


def batches(order: Array, size: int) -> tuple[Array, Array]:
    """The whole batches (n, size), and what is left over as one batch (1, rest), or without rows (0, 0)."""
    whole = len(order) // size
    rest = order[whole * size :]
    return order[: whole * size].reshape(whole, size), rest[None] if len(rest) else np.empty((0, 0), order.dtype)


def evaluate(program: StepProgram, rows: int, batch_size: int) -> dict[str, float]:
    """The measures over all rows."""
    passes = Passes(program, rows, batch_size)
    passes.once()
    return {name: found for name, (found,) in passes.measures().items()}
