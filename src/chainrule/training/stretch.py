"""A stretch: the steps of a training from one moment that Python has the floor to the next.

It may cover part of an epoch or hundreds of small ones. Whole batches are one native loop and short last
batches another, bound once and moved on by turns, with a pass over the validation rows between two epochs
where there is one. Where nobody asks for the floor in between, all of it is one native call; so what a stretch costs beside its steps
hardly grows with the epochs in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np

from chainrule.compiler.frontend.loop import Loop, Turns
from chainrule.compiler.runtime.copies import Copies
from chainrule.errors import TraceError
from chainrule.training.steps import Measured, Passes, StepProgram

Array = np.ndarray[Any, Any]


class Judges(Protocol):
    """What a stretch asks of who judges its epochs."""

    @property
    def stopped(self) -> bool:
        """Does somebody end the training?"""

    def begin(self, loop: Loop) -> Copies | None:
        """Before a native call of all laps, of which this loop is part; what copies the weights after each, if anything does."""

    def together(self, number: int) -> tuple[int, bool]:
        """How many laps, of which this is the first, may be judged together; may the last be one before their end?"""

    def lap(self, number: int) -> bool:
        """The epoch of this lap is over now; does somebody end the training?"""

    def laps(self, number: int, count: int) -> int:
        """Those of so many laps, of which this is the first, are; how many there are to be."""


class Pauses(Protocol):
    """What a stretch asks of who gives Python the floor between its laps."""

    def due(self, number: int) -> int:
        """How many laps, of which this is the first, there are up to the next pause, those included that there are."""

    def take(self, count: int, ended: Sequence[float]) -> bool:
        """So many first laps, which ended then, are over, and the pause is now; is it the end of the stretch?"""


class Orders(Protocol):
    """What a stretch asks of who knows in which order rows are visited."""

    def __call__(self, epoch: int, count: int, start: int, stop: int) -> Array:
        """Places `start` to `stop` (those that there are) of the orders of so many epochs, of which this is the first, a row each."""


class Lap(NamedTuple):
    """Steps `start` to `stop` of one epoch; `floor`: Python has the floor before that epoch is closed."""

    epoch: int
    start: int
    stop: int
    floor: bool = False

    @property
    def length(self) -> int:
        return self.stop - self.start


def first(laps: Sequence[Lap], count: int) -> list[Lap]:
    """The first `count` steps of some laps."""
    found = []
    for lap in laps:
        some = min(lap.length, count)
        if some:
            found.append(lap._replace(stop=lap.start + some))
        count -= some
    return found


class Batching(NamedTuple):
    """How an epoch is cut into batches: the last may be short; `drop_last`: it is then left out."""

    rows: int
    batch_size: int
    drop_last: bool = False

    @property
    def whole(self) -> int:
        """Steps on whole batches."""
        return self.rows // self.batch_size

    @property
    def steps(self) -> int:
        """All steps."""
        return self.whole + bool(self.rest)

    @property
    def rest(self) -> int:
        """Rows of the short batch, 0 where there is none."""
        return 0 if self.drop_last else self.rows % self.batch_size

    @property
    def visited(self) -> int:
        """Rows that are in a batch."""
        return self.whole * self.batch_size + self.rest

    def short(self, lap: Lap) -> bool:
        """Does the lap end with the short batch?"""
        return lap.stop > self.whole

    def closes(self, lap: Lap) -> bool:
        """Is the epoch closed with this lap, without Python?"""
        return lap.stop == self.steps and not lap.floor


class Stretch:
    """Laps, bound to their rows.

    Args:
        orders: the row numbers of the epochs, in the order they are visited.
        passes: of validation, one after each lap that closes an epoch.
        rates: of each step and parameter group, in place of the groups' own.

    Attributes:
        laps: those that were not counted yet.
        pass_weight: what a pass weighs in steps, where one native call makes several.
        judge: of each lap that closes an epoch; the stretch ends where it says so.
        pauses: after some of them; the stretch ends where they say so.
        validating, paused: seconds that went into passes, and into pauses.
    """

    def __init__(
        self, program: StepProgram, laps: Sequence[Lap], batching: Batching, orders: Orders,
        passes: Callable[[int], Passes] | None = None, rates: Array | None = None,
    ) -> None:  # fmt: skip
        self.program, self.batching, self.rates = program, batching, rates
        self._take(laps)
        self.judge: Judges | None = None
        self.pauses: Pauses | None = None
        self.validating = self.paused = 0.0
        self.counted = 0  # steps
        self._whole = self._rest = self._passed = 0  # of these: on whole and short batches, and passes after them
        self.pass_weight = 0.0
        whole, rest = self._numbers(orders)
        whole_rates, rest_rates = self._rates(rates)
        ends = int(self.closed.sum())
        # The first time, tracing one of them may read a state that another is bound to already: once more, then.
        for _ in range(2):
            self.whole = program.begin(whole, whole_rates) if len(whole) else None
            self.rest = program.begin(rest, rest_rates) if len(rest) else None
            self.passes = passes(ends) if passes is not None and ends else None
            if all(part is None or part.stands() for part in (self.whole, self.rest, self.passes)):
                return
        raise TraceError(
            "fit: the step reads the value of a tensor that it changes, each time it begins. Keep `.numpy()`, `.item()` "
            "and printing out of the model and the loss."
        )

    def _take(self, laps: Sequence[Lap]) -> None:
        """These laps; and of each, as arrays: its steps, how many are on whole batches, whether it ends short, and closes."""
        self.laps, batching = laps, self.batching
        if (
            len(laps) == 1
        ):  # as most are that come before a training's first step; arrays of many take five times as long
            lap, short = laps[0], laps[0].stop > batching.whole
            self.lengths, self.short = np.array([lap.length]), np.array([short])
            self.whole_steps, self.closed = np.array([lap.length - short]), np.array([batching.closes(lap)])
            return
        starts, stops, floors = np.array([lap[1:] for lap in laps], np.int64).reshape(-1, 3).T
        self.lengths, self.short = stops - starts, stops > batching.whole
        self.whole_steps = self.lengths - self.short
        self.closed = (stops == batching.steps) & (floors == 0)

    def count(self, laps: int) -> None:
        """So many first laps are counted: everything here is of the others from now on."""
        self._whole += int(self.whole_steps[:laps].sum())
        self._rest += int(self.short[:laps].sum())
        self._passed += int(self.closed[:laps].sum())
        self.counted += int(self.lengths[:laps].sum())
        self.laps, self.lengths, self.short = self.laps[laps:], self.lengths[laps:], self.short[laps:]
        self.whole_steps, self.closed = self.whole_steps[laps:], self.closed[laps:]

    @property
    def shared(self) -> bool:
        """May several threads run its steps, as things stand?"""
        parts = (self.whole, int(self.whole_steps.max())), (self.rest, 1)
        return not all(part.loop.on_one(most) for part, most in parts if part is not None)

    def stands(self) -> bool:
        """Would steps that begin now be those of the same programs, bound to the same state?"""
        trained = [part for part in (self.whole, self.rest) if part is not None]
        return all(part.lasts() for part in trained) and (self.passes is None or self.passes.last())

    def _numbers(self, orders: Orders) -> tuple[Array, Array]:
        """The row numbers of all whole batches, and of all short ones."""
        batching, size = self.batching, self.batching.batch_size
        if len(self.laps) == 1:  # where they lie
            lap = self.laps[0]
            end = max(lap.start, min(lap.stop, batching.whole)) * size
            whole = orders(lap.epoch, 1, lap.start * size, end)
            some = orders(lap.epoch, 1, end, lap.stop * size) if lap.stop > batching.whole else np.empty(0, np.int64)
            return whole.reshape(-1, size), some.reshape(int(lap.stop > batching.whole), batching.rest)
        groups = [list(group) for _, group in groupby(self.laps, lambda lap: (lap.start, lap.stop))]
        if len(groups) == 1 and not self.short[0]:  # one behind the other already, where an epoch is whole batches
            lap = self.laps[0]
            whole = orders(lap.epoch, len(self.laps), lap.start * size, lap.stop * size)
            return whole.reshape(-1, size), np.empty((0, batching.rest), np.int64)
        whole = np.empty((int(self.whole_steps.sum()), size), np.int64)
        rest = np.empty((int(self.short.sum()), batching.rest), np.int64)
        steps = ends = 0  # so many are filled
        for laps in groups:
            start, stop = laps[0].start, laps[0].stop
            rows, each = orders(laps[0].epoch, len(laps), start * size, stop * size), min(stop, batching.whole) - start
            part = whole[steps : steps + len(laps) * each]
            part.reshape(len(laps), -1)[:] = rows[:, : each * size]
            steps += len(part)
            if stop > batching.whole:
                rest[ends : ends + len(laps)] = rows[:, each * size :]
                ends += len(laps)
        return whole, rest

    def _rates(self, rates: Array | None) -> tuple[Array | None, Array | None]:
        """Those of all whole batches, and of all short ones."""
        if rates is None:
            return None, None
        short = np.cumsum(self.lengths)[self.short] - 1
        return np.delete(rates, short, axis=0), rates[short]

    def run(self) -> list[float]:
        """All of it; the moments at which the laps that are left to be counted ended, each with its pass of validation.

        Laps of one native call share its time by what they weigh.
        """
        began = time.perf_counter()
        chain, ends = self._turns() if len(self.laps) > 1 else (None, np.empty(0, np.int64))
        if chain is None or not chain.native:
            return self._in_parts(None, ends, chain if chain is not None and chain.shared else None)
        if self.judge is None and self.pauses is None:
            chain.advance(int(ends[-1]))
            return self._ended(began, len(self.laps), 0)
        return self._in_parts(chain, ends)

    def _ended(self, began: float, count: int, number: int) -> list[float]:
        """When so many laps ended, of which this is the first, that were one native call until now."""
        weights, passes = (each[number : number + count] for each in self._weights())
        if count == 1:
            now = time.perf_counter()
            self.validating += (now - began) * float(passes[0] / weights[0])
            return [now]
        taken, total = time.perf_counter() - began, weights.sum()
        self.validating += taken * float(passes.sum() / total)
        found: list[float] = (began + taken * np.cumsum(weights) / total).tolist()
        return found

    def _turns(self) -> tuple[Turns, Array]:
        """What moves on, turn after turn; and how many of these are over after each lap."""
        movers: list[Loop | Copies] = []
        steps = []
        for part, count in ((self.whole, self.whole_steps), (self.rest, self.short)):
            if part is not None:
                movers.append(part.loop)
                steps.append(count)
        for loop, each in self.passes.turns() if self.passes is not None else ():
            movers.append(loop)
            steps.append(self.closed * each)
        copies = self.judge.begin(movers[0]) if self.judge is not None and isinstance(movers[0], Loop) else None
        if copies is not None:
            movers.append(copies)
            steps.append(self.closed)
        table = np.array(steps, np.int64).T
        some = table > 0
        numbers = np.broadcast_to(np.arange(len(movers)), some.shape)
        return Turns(movers, numbers[some], table[some]), np.cumsum(some.sum(axis=1))

    def _in_parts(self, chain: Turns | None, ends: Array, later: Turns | None = None) -> list[float]:
        """Some laps, then their judgement and a pause where there is one, and on; as `run`.

        Args:
            chain: takes them in native calls; without one each is taken by itself.
            ends: so many turns are over after each.
            later: would take them, were it not for several threads that may run them; once these may no more, the stretch ends.
        """
        ended: list[float] = []
        last, first, due = False, 0, 0  # so many were counted
        while len(ended) < len(self.laps) and not last:
            began, number = time.perf_counter(), len(ended)
            if due <= number:
                due = number + self.pauses.due(number) if self.pauses is not None else len(self.laps)
            if chain is None:
                last = self._lap(number) or (later is not None and not later.shared)
                ended.append(time.perf_counter())
            else:
                size, tried = self.judge.together(number) if self.judge is not None else (due - number, False)
                before = int(ends[first + number - 1]) if first + number else 0
                some = ends[first + number : first + min(number + size, due)] - before
                done, last = self._some(chain, some.tolist(), number, tried)
                ended += self._ended(began, done, number)
            if self.pauses is not None and len(ended) == due:
                left, began = len(self.laps), time.perf_counter()
                last = self.pauses.take(due, ended) or last
                counted, due = left - len(self.laps), 0
                ended, first = ended[counted:], first + counted
                self.paused += time.perf_counter() - began
        if len(ended) < len(self.laps):
            self._stop(len(ended))
        return ended

    def _some(self, chain: Turns, ends: Sequence[int], number: int, tried: bool) -> tuple[int, bool]:
        """These laps, of which this is the first, judged together: how many there are to be, and whether they are the last.

        Args:
            ends: so many turns are over after each.
            tried: an end may come before their last; then they are taken back, and those up to there taken again.
        """
        if self.judge is None or len(ends) == 1:
            chain.advance(ends[-1])
            return len(ends), self._judged(number)
        if tried:
            chain.mark()
        failure = chain.attempt(ends[-1])
        if failure is not None and not tried:
            raise failure
        if failure is not None:  # which may be of a lap that is not to be
            chain.back()
            return self._some(chain, ends[:1], number, False)
        done = self.judge.laps(number, len(ends))
        if done < len(ends):
            chain.back()
            chain.advance(ends[done - 1])
        return done, self.judge.stopped

    def _judged(self, number: int) -> bool:
        """This lap is over: is it the last?"""
        return self.judge is not None and bool(self.closed[number]) and self.judge.lap(number)

    def _weights(self) -> tuple[Array, Array]:
        """What each lap weighs in steps, and its pass of validation in that."""
        passes = self.closed * (self.pass_weight if self.passes else 0.0)
        return self.lengths + passes, passes

    def _lap(self, number: int) -> bool:
        """One by itself; is it the last?"""
        lap = self.laps[number]
        if self.whole is not None and lap.start < self.batching.whole:
            self.whole.advance(min(lap.stop, self.batching.whole) - lap.start)
        if self.rest is not None and self.batching.short(lap):
            self.rest.advance(1)
        if self.passes is not None and self.batching.closes(lap):
            began = time.perf_counter()
            self.passes.once()
            self.validating += time.perf_counter() - began
        return self._judged(number)

    def _stop(self, count: int) -> None:
        """So many laps are all."""
        self._take(self.laps[:count])
        for part in (self.whole, self.rest):
            if part is not None:
                part.stop()
        if self.passes is not None:
            self.passes.stop(self._passed + int(self.closed.sum()))

    def sums(self, number: int, count: int, measure: int, carried: Any = None) -> Array:
        """Of a measure, times the rows of the step, over each of so many laps that have just ended: as `totals` has it.

        Args:
            number: the first of them; where there are several, each is a whole epoch.
            carried: what the sum of the first goes on from.
        """
        short, whole, size = self.short[number], self.whole_steps[number], self.batching.batch_size
        parts = []
        if whole and self.whole is not None:
            parts.append(_laps(self.whole.column(measure), count, whole) * size)
        if short and self.rest is not None:
            parts.append(_laps(self.rest.column(measure), count, 1) * self.batching.rest)
        each = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if carried is not None:
            each[0, 0] += np.reshape(carried, each[0, 0].shape)
        return np.add.accumulate(each, axis=1)[:, -1]

    def measured(self) -> Measured:
        """What the steps so far measured that are not counted, in order."""
        if self.rest is None or self.whole is None:
            one, since = (self.whole, self._whole) if self.rest is None else (self.rest, self._rest)
            return one.measured(since) if one is not None else Measured(np.empty((0, 1)), None, np.empty((0, 0)))
        whole, rest = self.whole.measured(self._whole), self.rest.measured(self._rest)
        ends = np.cumsum(self.whole_steps)[self.short][: len(rest.values)]  # so many whole batches come first

        def together(whole: Array, rest: Array) -> Array:
            last = len(ends) == 1 and ends[0] == len(whole)  # of one lap, which takes a third of the time
            return np.concatenate([whole, rest]) if last else np.insert(whole, ends, rest, axis=0)

        prints = None
        if whole.prints is not None and rest.prints is not None:
            prints = together(whole.prints, rest.prints)
        return Measured(together(whole.values, rest.values), prints, together(whole.rates, rest.rates))

    def validated(self, count: int) -> dict[str, list[float]]:
        """The measures of the passes after so many first laps, which close their epochs."""
        if self.passes is None:
            return {}
        return {name: column[:count] for name, column in self.passes.latest(self.passes.made - self._passed).items()}

    def totals(self, laps: Sequence[Lap], values: Array, carried: Sequence[float]) -> Array:
        """The sums over each of these first laps, of the measures times the rows of the step; the first goes on from others."""
        sums, at, found = self._sums(values), 0, []
        if laps and carried:
            sums[0] += carried
        if len(laps) == 1:
            return np.add.accumulate(sums, axis=0)[laps[0].length - 1 : laps[0].length]
        for length, group in groupby(lap.length for lap in laps):
            count = len(list(group))
            part = sums[at : at + count * length].reshape(count, length, -1)
            # One after the other, so that no bit depends on where a stretch ends.
            found.append(np.add.accumulate(part, axis=1)[:, -1])
            at += count * length
        return np.concatenate(found) if found else np.empty((0, values.shape[1]))

    def _sums(self, values: Array) -> Array:
        """The measures of some first steps, each times its rows."""
        if not self.batching.rest:
            return values * self.batching.batch_size
        sizes = np.full(len(values), self.batching.batch_size, np.float64)
        shorts = np.cumsum(self.lengths)[self.short] - 1
        sizes[shorts[shorts < len(values)]] = self.batching.rest
        return values * sizes[:, None]


def _laps(column: Array, laps: int, steps: int) -> Array:
    """The last steps, as of so many laps of so many steps each."""
    return column[-laps * steps :].astype(np.float64).reshape(laps, steps, *column.shape[1:])


def _joined(parts: Sequence[Array]) -> Array:
    """All of them, one behind the other; the first is of no row."""
    return parts[1] if len(parts) == 2 else np.concatenate(parts)
