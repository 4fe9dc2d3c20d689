"""The thread tuner: on how many threads a program runs fastest, estimated at first and measured while it runs.

An estimate cannot know the machine's other work: where a second thread has to wait for a processor, one is
faster, by far. So from time to time a few steps run on the other number of threads, and the faster one goes on.
No bit depends on it.

A run begins with a short stretch and goes on in longer ones, for what was true before it may no longer be; and
a stretch that went worse than the ones before has the other number tried at once. When to try is counted in the
time that the program ran, for pauses make no probe cheaper; but after a long one, what is known is old, and a run that
is long enough begins with a probe.
"""

from __future__ import annotations

import time

from chainrule.compiler.plan import cost
from chainrule.compiler.plan.work_sharing import WorkSharing
from chainrule.compiler.runtime.threads import available_cpus

# Seconds that steps run on the other number of threads to be measured, and that the first stretch of a run takes.
PROBE = 0.003
# Seconds of the longest stretch; each takes twice as long as the one before, up to this.
SPAN = 0.1
# Seconds without a step, after which a run counts as new.
IDLE = 0.001
# Seconds of steps from a change of the number until the other is tried again; each defeat of it doubles them.
SOON = 0.03
# Seconds to which defeats lengthen `SOON` at most; after a pause of so long what is known counts as old.
EVERY = 0.5
# How many times the seconds that the last probe lost must pass before the next: probing takes a hundredth of the time.
COST = 100.0
# What `COST` is at first, and while steps on the favourite take longer than they did: probing may take a tenth of the time.
HASTE = 10.0
# How many times as long as before a step on the favourite must take, for the other to be tried early.
WORSE = 1.2
# The share of the favourite's time for a step below which the other takes its place.
CLEARLY = 0.97


class ThreadTuner:
    """The choice for one program."""

    def __init__(self, sharing: WorkSharing) -> None:
        self.sharing = sharing
        self.worthwhile = sharing.threaded
        self.limit = 0

    def _begin(self, limit: int) -> None:
        self.limit = limit
        self.many = self.sharing.best(min(limit, available_cpus()))
        shared, alone = self.sharing.estimate(self.many), self.sharing.total
        self.favourite = self.many if shared <= cost.GAIN * alone else 1
        self.fewest = cost.WAKE / max(alone - shared, 0.1 * alone)  # steps that repay waking the workers
        self.seconds: dict[int, float] = {}  # a step on so many threads, as measured
        self.stretch = PROBE
        self.ended = 0.0  # when the last stretch did
        self.ran = 0.0  # seconds, all stretches together
        self.expected = self.favourite
        self.at_worst = 0.0  # when to try the other number, should the favourite do worse,
        self.again = HASTE * max(PROBE, alone * 1e-9) * abs(shared / alone - 1)  # when to try it anyway
        self.defeats = 0  # of the other, since it last won

    @property
    def other(self) -> int:
        """The number of threads that is not the favourite."""
        return 1 if self.favourite > 1 else self.many

    def choose(self, left: int, limit: int) -> tuple[int, int]:
        """Of the steps that are left, how many to run next, and on how many threads: (threads, steps)."""
        if limit != self.limit:
            self._begin(limit)
        if self.many == 1 or left < self.fewest:
            return 1, left
        now, known = time.perf_counter(), self.seconds.get(self.favourite)
        if now > self.ended + IDLE:
            self.stretch = PROBE
        if known is None:
            return self.favourite, self._within(PROBE, self.sharing.estimate(self.favourite) * 1e-9, left)
        if now > self.ended + EVERY and left * known > HASTE * max(PROBE, known):  # what lost long ago may win now
            self.again, self.defeats = min(self.again, self.ran + PROBE), 0
        if self.ran >= self.again:
            return self.other, self._within(PROBE, known, left)
        return self.favourite, self._within(self.stretch, known, left)

    def alone(self, most: int, limit: int) -> bool:
        """Would runs of at most so many steps be on one thread now, as far as is known, and none of them a probe?"""
        if limit != self.limit:
            self._begin(limit)
        return self.many == 1 or most < self.fewest or (self.favourite == 1 and self.ran < self.again)

    def _within(self, seconds: float, each: float, left: int) -> int:
        """About as many steps as take so long, at least what waking the workers is worth, at most what is left."""
        return min(left, max(1, int(self.fewest) + 1, int(seconds / max(each, 1e-9))))

    def note(self, threads: int, steps: int, seconds: float) -> None:
        """So long it took."""
        self.ended = time.perf_counter()
        self.ran += seconds
        if steps < self.fewest and seconds < PROBE / 2:
            return
        each = seconds / steps
        if threads == self.favourite:
            self._go_on(each)
        elif self.favourite in self.seconds:
            self._compare(steps, each)

    def _go_on(self, each: float) -> None:
        known = self.seconds.get(self.favourite, each)
        self.stretch = min(2 * self.stretch, SPAN)
        if each > WORSE * known:
            self.again = min(self.again, max(self.at_worst, self.ran))
        self.seconds[self.favourite] = (known + each) / 2

    def _compare(self, steps: int, each: float) -> None:
        """The other takes over, or waits: of it the last probe counts alone, what disturbed those before may be over."""
        known = self.seconds[self.favourite]
        self.seconds[self.other] = each
        self.stretch = PROBE
        if each < CLEARLY * known:
            self.favourite, self.defeats = self.other, 0
            self.again = self.at_worst = self.ran + SOON
        else:
            lost = steps * (each - known)
            # One unexpected defeat may have been bad luck, a fourth is not.
            trust = 1.0 if self.favourite == self.expected else 2.0 ** min(0, self.defeats - 3)
            self.again = self.ran + max(min(EVERY, SOON * 2**self.defeats), COST * lost * trust)
            self.at_worst = self.ran + max(PROBE, HASTE * lost)
            self.defeats = min(self.defeats + 1, 10)
