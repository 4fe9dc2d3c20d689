"""A native loop that stands still between any two of its steps.

Binding a loop (its arguments, results and state) costs far more than moving it on, so whoever runs several
loops by turns binds each once. What a loop is bound to must then stay as it is, and every move makes sure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.compiler.frontend.specialization import Specialization
from chainrule.compiler.runtime.buffers import address
from chainrule.compiler.runtime.copies import Copies
from chainrule.compiler.schedule import memory
from chainrule.dtypes import numbers_of
from chainrule.errors import SettingError, TraceError
from chainrule.graph import Array, Node
from chainrule.tensor.core import Handle, wrap


class Loop:
    """So many steps of one function over the first axis of every argument, bound; `Compiled.begin` makes it.

    Args:
        again: the program of the next step.

    Attributes:
        steps, left: how many there are, and of these are still to come.
        around: what a step runs in that needs another program than the one before: another may run meanwhile in another.
    """

    def __init__(
        self, variant: Specialization, leaves: list[Handle], steps: int, again: Callable[[], Specialization]
    ) -> None:
        self._arguments = [leaf._node for leaf in leaves]
        self._outputs, self.steps, self._again = variant.results_of_loop(steps), steps, again
        self.around: Callable[[], AbstractContextManager[Any]] = nullcontext
        self.left = steps
        self._take(variant)

    def _take(self, variant: Specialization) -> None:
        """Go on with this program, from the step at which the loop stands."""
        self._variant, done = variant, self.steps - self.left
        if self.left:
            variant.bind_loop([_after(node, done) for node in self._arguments], [each[done:] for each in self._outputs])
        self._chain = variant.run.made.code.chain
        self._binding, self._nodes = variant.binding, variant.state_nodes()
        self._moved = False  # did a step leave something else than it found?

    @property
    def program(self) -> object:
        """The same object for two loops that run the same program."""
        return self._variant

    def on_one(self, most: int) -> bool:
        """Would one thread take runs of at most so many of its steps now? Which it is changes with what they are measured to take."""
        return self._variant.run.on_one(most)

    def stands(self, shared: bool = False) -> bool:
        """Is everything still as the loop left it, or another one over the same state?"""
        return self._variant.binding == self._binding and self._variant.undisturbed(self._nodes, shared)

    def lasts(self) -> bool:
        """Would a loop that begins now run the same program, on the same memory and the same numbers of Python's?"""
        variant = self._variant
        numbers = [getter() for getter in variant.getters]  # each begin reads them
        same = numbers == variant.live[: len(numbers)].tolist()
        return same and self.stands() and variant.in_place() and variant.holds(())

    def advance(self, steps: int, shared: bool = False) -> None:
        """The next steps of the program that `begin` found: what Python changes meanwhile counts from the next `begin` on.

        Gradients are found and left as by so many calls: where the next step finds another kind of state than the
        last (a gradient where there was none, say), it is another program that goes on.

        Args:
            shared: go on where the state was read meanwhile (by another thread): what was read changes with it.

        Raises:
            SettingError: fewer are left.
            TraceError: the state was read or changed, or the function called, since the loop began.
        """
        self.check(steps, shared)
        while steps:
            steps -= self._some(steps)

    def check(self, steps: int, shared: bool) -> None:
        """May it go on by so many steps?"""
        if not 0 <= steps <= self.left:
            raise SettingError(f"loop: {self.left} steps are left, got {steps}. Begin another loop for more.")
        if steps and not self.stands(shared):
            raise TraceError(
                "loop: its function was called, or its state read or changed, after it began. End a loop before you do "
                "either, and begin another."
            )

    def link(self, steps: int) -> tuple[int, int] | None:
        """What a chain needs to take so many of the next steps; None where Python has something to do between them."""
        self.check(steps, shared=True)
        variant = self._variant
        if self._moved or not variant.steady or variant.placed or not variant.in_place():
            return None
        return variant.run.link()

    def linked(self, links: int) -> int:
        """Run the chain at this address, which the loop is part of; the status of the run that fails, or 0."""
        return self._chain(links)

    def failed(self, status: int, done: int) -> Exception:
        """What that status says, of a run that began `done` steps after where the loop stands."""
        return self._variant.failure(status & 0xFFFF, (status >> 16) + self.steps - self.left + done)

    def took(self, steps: int, seconds: float) -> None:
        """A chain has taken these steps, in about so long."""
        self._variant.settle()
        self._variant.run.linked(steps, seconds)
        self.left -= steps

    @property
    def weight(self) -> float:
        """Of a step, beside those of other loops."""
        return self._variant.run.weight

    @property
    def copying(self) -> tuple[int, Callable[[int], int]]:
        """What `Copies` are made by."""
        code = self._variant.run.made.code
        return code.copying, code.copy

    def written(self) -> dict[int, int]:
        """Where the state lies that its steps write in place, and how many bytes of it."""
        variant = self._variant
        state = enumerate(variant.state, variant.first_state)
        return {int(variant.table[i]): memory.bytes_of(slot.input) for i, slot in state if slot.writes}

    def mark(self) -> tuple[int, Array]:
        """Where it stands, for `back`."""
        run = self._variant.run
        return self.left, run.table[: run.moving].copy()

    def back(self, mark: tuple[int, Array]) -> None:
        """It stands there again; only within one chain, whose steps move nothing else but the state."""
        run = self._variant.run
        self.left, run.table[: run.moving] = mark

    def _some(self, steps: int) -> int:
        """As many of the next steps as one program takes."""
        if self._moved or not self._variant.in_place():
            self._take(self._next())
        self._variant.bind_places()
        count = steps if self._variant.steady else 1
        self._variant.execute(count, self.steps - self.left)
        self._variant.settle()
        self.left -= count
        self._moved = not self._variant.steady
        return count

    def _next(self) -> Specialization:
        with self.around():
            variant = self._again()
        if variant is not self._variant and not variant.returns_like(self._variant):
            raise TraceError(
                "loop: the function returns other results at its second step than at its first, since it asks whether "
                "there is a gradient. Return the same at every step."
            )
        return variant

    def so_far(self) -> Any:
        """What the function returned at each step that is done, stacked along a new first axis; the loop goes on.

        >>> import chainrule as cr
        >>> total = cr.tensor(0.0)
        >>> @cr.compile
        ... def add(x):
        ...     total.add_(x)
        ...     return total * 1
        >>> steps = add.begin(cr.ones(3))
        >>> steps.advance(2)
        >>> steps.so_far()
        tensor([1., 2.])
        """
        done = self.steps - self.left
        return self._variant.end([each[:done] for each in self._outputs])

    def stop(self) -> None:
        """No more steps: the loop ends with those that it has taken."""
        done = self.steps - self.left
        self._outputs, self.steps, self.left = [each[:done] for each in self._outputs], done, 0

    def described(self) -> Any:
        """The form of what the function returns, with a number in place of each tensor."""
        return self._variant.form()

    def peek(self, result: int) -> Array:
        """The numbers of a result of the steps taken so far, by its place among all."""
        return numbers_of(self._outputs[result][: self.steps - self.left])

    def end(self) -> Any:
        """What the function returned at each step, stacked along a new first axis.

        Raises:
            SettingError: steps are left.
        """
        if self.left:
            raise SettingError(f"loop: it cannot end with {self.left} steps left. Advance it by as many first.")
        return self._variant.end(self._outputs)


class Turns:
    """Loops that move on by turns, in native calls of many turns each.

    Args:
        movers: loops, and `Copies`, which make their next one.
        numbers: whose turn it is, turn after turn.
        steps: how many of its next steps it takes; 1 of copies.

    Attributes:
        native: can turns follow each other without Python? Not where several threads may run one of the loops, or Python
            has something to do between its steps.
        shared: may several threads run one of the loops, as things stand?

    Raises:
        SettingError, TraceError: as `Loop.advance` does.

    >>> import chainrule as cr
    >>> total = cr.tensor(0.0)
    >>> @cr.compile
    ... def add(x):
    ...     total.add_(x.sum())
    ...     return total * 1
    >>> ones, pairs = add.begin(cr.ones(4)), add.begin(cr.ones(2, 2))
    >>> turns = Turns([ones, pairs], [0, 1, 0], [3, 2, 1])
    >>> turns.advance(3)
    >>> ones.end(), pairs.end()
    (tensor([1., 2., 3., 8.]), tensor([5., 7.]))
    """

    def __init__(
        self, movers: Sequence[Loop | Copies], numbers: Sequence[int] | Array, steps: Sequence[int] | Array
    ) -> None:
        self._done, self._movers, self._numbers = 0, movers, np.asarray(numbers, np.int64)
        self._loops = {i: mover for i, mover in enumerate(movers) if not isinstance(mover, Copies)}
        self._copies = {i: mover for i, mover in enumerate(movers) if isinstance(mover, Copies)}
        each = np.zeros((len(self._numbers) + 1, len(movers)), np.int64)
        each[np.arange(1, len(each)), self._numbers] = steps
        self._sums = np.cumsum(each, axis=0)  # what each mover has done after so many turns
        self._most = each.max(axis=0).tolist()  # steps of each mover in one turn
        links = {i: loop.link(int(self._sums[-1, i])) for i, loop in self._loops.items()}
        self.native = bool(len(self._numbers)) and None not in links.values() and not self.shared
        if self.native:
            links |= {i: copies.link for i, copies in self._copies.items()}
            self._links = np.zeros((len(self._numbers) + 1, 4), np.int64)
            self._links[1:, :2] = np.array([links[i] for i in range(len(movers))])[self._numbers]
            self._links[1:, 2] = steps
            self._address = address(self._links)

    @property
    def shared(self) -> bool:
        return not all(loop.on_one(self._most[i]) for i, loop in self._loops.items())

    def advance(self, count: int) -> None:
        """The next turns, so many.

        Raises:
            TraceError: as `Loop.advance` does.
        """
        failure = self.attempt(count)
        if failure is not None:
            raise failure

    def attempt(self, count: int) -> Exception | None:
        """The next turns, so many; what fails in a step is given, and then all but `back` is of no use any more."""
        done, steps = self._done, self._between(self._done, self._done + count)
        for i, loop in self._loops.items():
            loop.check(steps[i], shared=True)
        for i, copies in self._copies.items():
            copies.again(steps[i])
        self._links[done, 0] = count  # in the place of the turn before
        first = next(iter(self._loops.values()))
        began = time.perf_counter()
        status = first.linked(self._address + self._links.strides[0] * done)
        if status:
            at = done + int(self._links[done, 1]) - 1
            failed = int(self._numbers[at])
            return self._loops[failed].failed(status, self._between(done, at)[failed])
        weights = {i: steps[i] * loop.weight for i, loop in self._loops.items() if steps[i]}
        a_weight = (time.perf_counter() - began) / max(sum(weights.values()), 1e-9)
        for i, weight in weights.items():
            self._loops[i].took(steps[i], weight * a_weight)
        self._done += count
        return None

    def mark(self) -> None:
        """`back` goes to here."""
        self._marks = self._done, [loop.mark() for loop in self._loops.values()]
        self._state.make()

    def back(self) -> None:
        """Everything as it was at the latest `mark`: what the loops have to take, and the state that they write."""
        self._state.restore()
        self._done, marks = self._marks
        for loop, mark in zip(self._loops.values(), marks, strict=True):
            loop.back(mark)

    @cached_property
    def _state(self) -> Copies:
        loops = list(self._loops.values())
        pieces = {where: size for loop in loops for where, size in loop.written().items()}
        return Copies(loops[0].copying, list(pieces.items()), 1)

    def _between(self, start: int, stop: int) -> list[int]:
        """How many steps each mover takes in these turns."""
        found: list[int] = (self._sums[stop] - self._sums[start]).tolist()
        return found


def _after(argument: Node, steps: int) -> Handle:
    """What is left of an argument's entries."""
    return wrap(graph.leaf(argument.value[steps:], argument.dtype) if steps else argument)
