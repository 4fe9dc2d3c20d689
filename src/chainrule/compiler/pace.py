"""Pace: on how many threads a program runs fastest, estimated at first and measured while it runs.

An estimate cannot know the machine's other work: where a second thread has to wait for a processor, one is
faster. So from time to time a few steps run on the other number of threads, and the faster one goes on.
No bit depends on it.
"""

from __future__ import annotations

import time

from chainrule.compiler import cost
from chainrule.compiler.division import Division
from chainrule.compiler.threads import available_cpus

PROBE = 0.003  # seconds of steps on the other number of threads,
SOON = (
    0.03  # so many seconds after a change (what disturbed the other may have been short), then half as often each time
)
EVERY = 0.5  # down to so often,
COST = 100.0  # and so many times as long after as the last probe lost: probing takes a hundredth of the time
SPAN = 0.1  # seconds after which the choice is looked at again
CLEARLY = 0.97  # the other must be faster by so much


class Pace:
    """The choice for one program."""

    def __init__(self, division: Division) -> None:
        self.division = division
        self.worthwhile = division.threaded
        self.limit = 0

    def _begin(self, limit: int) -> None:
        self.limit = limit
        self.many = self.division.best(min(limit, available_cpus()))
        shared, alone = self.division.estimate(self.many), self.division.total
        self.favourite = self.many if shared <= cost.GAIN * alone else 1
        self.fewest = cost.WAKE / max(alone - shared, 0.1 * alone)  # steps that repay waking the workers
        self.seconds: dict[int, float] = {}  # a step on so many threads, as measured
        self.again = 0.0  # when to try the other number
        self.lost = 0  # probes since it last won

    def choose(self, left: int, limit: int) -> tuple[int, int]:
        """Of the steps that are left, how many to run next, and on how many threads: (threads, steps)."""
        if limit != self.limit:
            self._begin(limit)
        if self.many == 1 or left < self.fewest:
            return 1, left
        now, known = time.perf_counter(), self.seconds.get(self.favourite)
        if known is None:
            return self.favourite, self._within(PROBE, self.division.estimate(self.favourite) * 1e-9, left)
        if now >= self.again:
            return (1 if self.favourite > 1 else self.many), self._within(PROBE, known, left)
        return self.favourite, self._within(SPAN, known, left)

    def _within(self, seconds: float, each: float, left: int) -> int:
        """About as many steps as take so long, at least what waking the workers is worth, at most what is left."""
        return min(left, max(1, int(self.fewest) + 1, int(seconds / max(each, 1e-9))))

    def note(self, threads: int, steps: int, seconds: float) -> None:
        """So long it took."""
        if steps < self.fewest and seconds < PROBE / 2:
            return
        each = seconds / steps
        other = 1 if self.favourite > 1 else self.many
        # Of the other number the last probe counts alone: what disturbed those before may be over.
        self.seconds[threads] = each if threads == other else (self.seconds.get(threads, each) + each) / 2
        known = self.seconds.get(self.favourite)
        if self.seconds.get(other, float("inf")) < CLEARLY * (known or 0.0):
            self.favourite, self.lost = other, 0
            self.again = time.perf_counter() + SOON
        elif threads == other:
            lost = seconds - steps * known if known is not None else 0.0
            self.again = time.perf_counter() + max(min(EVERY, SOON * 2**self.lost), COST * lost)
            self.lost = min(self.lost + 1, 10)
