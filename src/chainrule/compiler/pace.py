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

PROBE = 0.003  # seconds of steps on the other number of threads ...
EVERY = 0.5  # ... so many seconds after the last time
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
        self.probed = -EVERY

    def choose(self, steps: int, limit: int) -> list[tuple[int, int]]:
        """On how many threads to run how many steps, one after the other."""
        if limit != self.limit:
            self._begin(limit)
        if self.many == 1 or steps < self.fewest:
            return [(1, steps)]
        now = time.perf_counter()
        if now - self.probed < EVERY or self.favourite not in self.seconds:
            return [(self.favourite, steps)]
        self.probed = now
        other = 1 if self.favourite > 1 else self.many
        few = min(steps, max(1, int(PROBE / self.seconds[self.favourite])))
        return [(other, few), (self.favourite, steps - few)] if few < steps else [(other, steps)]

    def note(self, threads: int, steps: int, seconds: float) -> None:
        """So long it took."""
        if steps < self.fewest and seconds < PROBE / 2:
            return
        each = seconds / steps
        self.seconds[threads] = (self.seconds.get(threads, each) + each) / 2
        other = 1 if self.favourite > 1 else self.many
        if self.seconds.get(other, float("inf")) < CLEARLY * self.seconds.get(self.favourite, 0.0):
            self.favourite = other
