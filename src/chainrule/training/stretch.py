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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chainrule.compiler.copies import Copies
from chainrule.compiler.loop import Loop, Turns
from chainrule.errors import TraceError
from chainrule.training.steps import Measured, Passes, Program, UnderWay

if TYPE_CHECKING:
    from chainrule.training.judging import Judge

Array = np.ndarray[Any, Any]


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


class Cut(NamedTuple):
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
        order: the row numbers of an epoch, in the order they are visited.
        passes: of validation, one after each lap that closes an epoch.
        rates: of each step and parameter group, in place of the groups' own.

    Attributes:
        pass_weight: what a pass weighs in steps, where one native call makes several.
        judge: of each lap that closes an epoch; the stretch ends where it says so.
    """

    def __init__(
        self, program: Program, laps: Sequence[Lap], cut: Cut, order: Callable[[int], Array],
        passes: Callable[[int], Passes] | None = None, rates: Array | None = None,
    ) -> None:  # fmt: skip
        self.program, self.laps, self.cut, self.rates = program, laps, cut, rates
        self.judge: Judge | None = None
        self.validating = 0.0  # seconds
        self.pass_weight = 0.0
        whole, rest = self._numbers(order)
        whole_rates, rest_rates = self._rates(rates)
        ends = sum(map(self.cut.closes, laps))
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

    def _numbers(self, order: Callable[[int], Array]) -> tuple[Array, Array]:
        """The row numbers of all whole batches, and of all short ones."""
        cut, size = self.cut, self.cut.batch_size
        short = sum(map(cut.short, self.laps))
        whole = np.empty((sum(lap.length for lap in self.laps) - short, size), np.int64)
        rest = np.empty((short, cut.rest), np.int64)
        at = short = 0
        for lap in self.laps:
            rows, stop = order(lap.epoch), min(lap.stop, cut.whole)
            count = stop - lap.start
            if count > 0:
                whole[at : at + count] = rows[lap.start * size : stop * size].reshape(count, size)
                at += count
            if cut.short(lap):
                rest[short] = rows[cut.whole * size :]
                short += 1
        return whole, rest

    def _rates(self, rates: Array | None) -> tuple[Array | None, Array | None]:
        """Those of all whole batches, and of all short ones."""
        if rates is None:
            return None, None
        ends = np.cumsum([lap.length for lap in self.laps])
        short = ends[[self.cut.short(lap) for lap in self.laps]] - 1
        return np.delete(rates, short, axis=0), rates[short]

    def run(self) -> list[float]:
        """All of it; the moments at which the laps ended, each with its pass of validation.

        Laps of one native call share its time by what they weigh.
        """
        began = time.perf_counter()
        turns, counts = self._turns()
        chain = Turns(turns) if len(self.laps) > 1 else None
        if chain is None or not chain.native:
            return self._each()
        if self.judge is None:
            chain.advance(len(turns))
        judged = self._judged(self.judge, chain, counts) if self.judge is not None else []
        weights, passes = self._weights()
        taken = time.perf_counter() - began
        self.validating = taken * float(passes.sum() / weights.sum())
        return judged or (began + taken * np.cumsum(weights) / weights.sum()).tolist()

    def _turns(self) -> tuple[list[tuple[Loop | Copies, int]], list[int]]:
        """What moves, and by how many steps, one after the other; and how many of these are each lap."""
        turns: list[tuple[Loop | Copies, int]] = []
        counts, after = [], [*(self.passes.turns() if self.passes is not None else ())]
        steps = self.whole or self.rest
        copies = self.judge.begin(steps.loop) if self.judge is not None and steps is not None else None
        after += [(copies, 1)] if copies is not None else []
        for lap in self.laps:
            before, whole = len(turns), min(lap.stop, self.cut.whole) - lap.start
            if self.whole is not None and whole > 0:
                turns.append((self.whole.loop, whole))
            if self.rest is not None and self.cut.short(lap):
                turns.append((self.rest.loop, 1))
            if self.cut.closes(lap):
                turns += after
            counts.append(len(turns) - before)
        return turns, counts

    def _judged(self, judge: Judge, chain: Turns, counts: Sequence[int]) -> list[float]:
        """Some laps, then their judgement, and on; the moments at which they ended."""
        ended: list[float] = []
        weights, last = self._weights()[0], False
        while len(ended) < len(self.laps) and not last:
            began, number = time.perf_counter(), len(ended)
            size, tried = judge.together(number)
            done, last = self._some(judge, chain, counts[number : number + size], number, tried)
            shares = np.cumsum(weights[number : number + done])
            ended += (began + (time.perf_counter() - began) * shares / shares[-1]).tolist()
        if last:
            self._stop(len(ended))
        return ended

    def _some(self, judge: Judge, chain: Turns, counts: Sequence[int], number: int, tried: bool) -> tuple[int, bool]:
        """These laps, of which this is the first, judged together: how many there are to be, and whether they are the last.

        Args:
            tried: an end may come before their last; then they are taken back, and those up to there taken again.
        """
        if len(counts) == 1:
            chain.advance(counts[0])
            return 1, self.cut.closes(self.laps[number]) and judge.lap(number)
        if tried:
            chain.mark()
        failure = chain.attempt(sum(counts))
        if failure is not None and not tried:
            raise failure
        if failure is not None:  # which may be of a lap that is not to be
            chain.back()
            return self._some(judge, chain, counts[:1], number, False)
        done = judge.laps(number, len(counts))
        if done < len(counts):
            chain.back()
            chain.advance(sum(counts[:done]))
        return done, judge.judging.stopped

    def _weights(self) -> tuple[Array, Array]:
        """What each lap weighs in steps, and its pass of validation in that."""
        passes = np.array([self.cut.closes(lap) for lap in self.laps]) * (self.pass_weight if self.passes else 0.0)
        return np.array([lap.length for lap in self.laps]) + passes, passes

    def _each(self) -> list[float]:
        """Lap after lap, by its number."""
        ended: list[float] = []
        for number, lap in enumerate(self.laps):
            self._lap(number)
            ended.append(time.perf_counter())
            if self.judge is not None and self.cut.closes(lap) and self.judge.lap(number):
                self._stop(number + 1)
                break
        return ended

    def _lap(self, number: int) -> None:
        lap = self.laps[number]
        if self.whole is not None and lap.start < self.cut.whole:
            self.whole.advance(min(lap.stop, self.cut.whole) - lap.start)
        if self.rest is not None and self.cut.short(lap):
            self.rest.advance(1)
        if self.passes is not None and self.cut.closes(lap):
            began = time.perf_counter()
            self.passes.once()
            self.validating += time.perf_counter() - began

    def _stop(self, count: int) -> None:
        """So many laps are all."""
        self.laps = self.laps[:count]
        for part in (self.whole, self.rest):
            if part is not None:
                part.stop()
        if self.passes is not None:
            self.passes.stop(sum(map(self.cut.closes, self.laps)))

    def sums(self, number: int, count: int, measure: int, carried: Any = None) -> Array:
        """Of a measure, times the rows of the step, over each of so many laps that have just ended: as `totals` has it.

        Args:
            number: the first of them; where there are several, each is a whole epoch.
            carried: what the sum of the first goes on from.
        """
        lap, size = self.laps[number], self.cut.batch_size
        short = self.cut.short(lap)
        whole = lap.length - short
        parts = []
        if whole and self.whole is not None:
            parts.append(_laps(self.whole.column(measure), count, whole) * size)
        if short and self.rest is not None:
            parts.append(_laps(self.rest.column(measure), count, 1) * self.cut.rest)
        each = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if carried is not None:
            each[0, 0] += np.reshape(carried, each[0, 0].shape)
        return np.add.accumulate(each, axis=1)[:, -1]

    def measured(self) -> Measured:
        """What every step measured, in order."""
        if self.rest is None or self.whole is None:
            return _measured(self.rest or self.whole)
        whole, rest = self.whole.measured(), self.rest.measured()
        after = np.cumsum([lap.length - self.cut.short(lap) for lap in self.laps])  # so many whole batches come first
        places = after[[self.cut.short(lap) for lap in self.laps]]
        prints = None
        if whole.prints is not None and rest.prints is not None:
            prints = np.insert(whole.prints, places, rest.prints)
        rates = np.insert(whole.rates, places, rest.rates, axis=0)
        return Measured(np.insert(whole.values, places, rest.values, axis=0), prints, rates)

    def totals(self, laps: Sequence[Lap], values: Array, carried: Sequence[float]) -> Array:
        """The sums over each of these first laps, of the measures times the rows of the step; the first goes on from others."""
        sums, at, found = self._sums(values), 0, []
        if laps and carried:
            sums[0] += carried
        for length, group in groupby(lap.length for lap in laps):
            count = len(list(group))
            part = sums[at : at + count * length].reshape(count, length, -1)
            # One after the other, so that no bit depends on where a stretch ends.
            found.append(np.add.accumulate(part, axis=1)[:, -1])
            at += count * length
        return np.concatenate(found) if found else np.empty((0, values.shape[1]))

    def _sums(self, values: Array) -> Array:
        """The measures of some first steps, each times its rows."""
        sizes = np.full(len(values), self.cut.batch_size, np.float64)
        ends = np.cumsum([lap.length for lap in self.laps])
        shorts = ends[[self.cut.short(lap) for lap in self.laps]] - 1
        sizes[shorts[shorts < len(values)]] = self.cut.rest
        return values * sizes[:, None]


def _measured(steps: UnderWay | None) -> Measured:
    return steps.measured() if steps is not None else Measured(np.empty((0, 1)), None, np.empty((0, 0)))


def _laps(column: Array, laps: int, steps: int) -> Array:
    """The last steps, as of so many laps of so many steps each."""
    return column[-laps * steps :].astype(np.float64).reshape(laps, steps, *column.shape[1:])
