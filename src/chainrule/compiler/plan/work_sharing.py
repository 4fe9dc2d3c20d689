"""Work sharing: along which loop threads share each kernel of a program, and where they must meet.

Three things are weighed (`cost`): the largest part of the work, the bytes a thread reads that another wrote,
and the barriers. Activations split by batch row need neither barrier nor traffic from layer to layer, but
every thread reads all weights, half of which another updated; split by output column the weights stay where
they are and the activations travel. Which is less depends on the shapes, so every kernel takes the way that
is cheapest after those before it, the step being followed by itself, from each of several beginnings.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from chainrule.compiler.plan import cost
from chainrule.compiler.plan.access import Access, Footprint, Span, footprint, overlapping
from chainrule.compiler.plan.cut import ENOUGH, Cut
from chainrule.compiler.plan.nests import Nests
from chainrule.compiler.plan.partition import Share, shares
from chainrule.compiler.schedule.kernels import Check
from chainrule.compiler.schedule.memory import MemoryPlan

_BEGINNINGS = ("batch", "rows"), ("columns",), ()  # how products are divided in a first sweep over the step
SWEEPS = 3  # over the step at most, until one chooses as the one before


@dataclass(frozen=True)
class Way:
    """One way to run a kernel: shared along a loop, or on thread 0 alone (None)."""

    share: Share | None
    touches: Footprint

    def accesses(self) -> tuple[Access, ...]:
        return self.touches.reads + self.touches.writes


class WorkSharing:
    """How the threads of a program share its kernels; not at all where it is not `divided`."""

    def __init__(self, plan: MemoryPlan, nests: Nests, divided: bool = True) -> None:
        self.nests, target = nests, nests.target
        self.alone = [cost.of_kernel(kernel, target) for kernel in plan.kernels]
        self.checks = [isinstance(kernel.core, Check) for kernel in plan.kernels]
        self.copies = bool(plan.copies)
        self.times = plan.times()
        self.loops = plan.loops
        # Before a loop of steps (between them too, where threads share what is in it), and behind it, all meet.
        self.edges = {number for loop in plan.loops for number in (loop.first, loop.last)}
        self.total = sum(alone * count for alone, count in zip(self.alone, self.times, strict=True))
        self.beside: dict[Span, list[Span]] = {}
        self.estimates: dict[int, float] = {}  # by the number of threads, as far as somebody asked
        self.ways: list[Way] = [Way(None, Footprint((), ()))] * len(plan.kernels)
        if divided and self.total >= cost.SMALL:
            options = list(_options(plan, nests))
            self.beside = overlapping(access.span for ways in options for way in ways for access in way.accesses())
            sweeps = [self._sweep(options, first) for first in _BEGINNINGS]
            priced = [(self._estimate(ways), n) for n, ways in enumerate(sweeps) if ways not in sweeps[:n]]
            self.estimates[2], best = min(priced)
            self.ways = sweeps[best]
        self.threaded = any(way.share is not None for way in self.ways)

    def shares(self) -> list[Share | None]:
        """For each kernel the loop that threads share."""
        return [way.share for way in self.ways]

    def barriers(self) -> list[bool]:
        """For each kernel whether the threads must meet before it."""
        hazards, result = Hazards(self.beside), []
        for number, (way, check) in enumerate(zip(self.ways, self.checks, strict=True)):
            if number in self.edges:
                hazards.clear()
            result.append(hazards.met_by(way))
            if check:
                hazards.clear()
        return result

    def estimate(self, threads: int) -> float:
        """Nanoseconds a step on so many threads."""
        if threads < 2 or not self.threaded:
            return self.total
        if threads not in self.estimates:
            self.estimates[threads] = self._estimate(self.ways, threads)
        return self.estimates[threads]

    def best(self, limit: int) -> int:
        """The number of threads, from 2 to `limit`, on which a step is quickest (1: it is not shared)."""
        if limit < 2 or not self.threaded:
            return 1
        counts = [1 << i for i in range(1, limit.bit_length()) if 1 << i < limit] + [limit]
        return min(counts, key=self.estimate)

    def _estimate(self, ways: list[Way], threads: int = 2) -> float:
        state = _State(threads, Hazards(self.beside))
        for _ in range(2):
            took = self._followed(ways, state)
        return took

    def _followed(self, ways: list[Way], state: _State) -> float:
        took, meetings = 0.0, self._meetings(ways)
        for number, (way, alone, check) in enumerate(zip(ways, self.alone, self.checks, strict=True)):
            if number in self.edges:
                took += state.meet() * meetings[number]
            took += state.price(way, alone) * self.times[number]
            state.do(way)
            took += state.meet() * self.times[number] if check else 0
        return took + state.meet() * (1 + self.copies)

    def _meetings(self, ways: list[Way]) -> Counter[int]:
        """How often all meet before a kernel because a loop of steps begins or ends there."""
        found: Counter[int] = Counter()
        for i, loop in enumerate(self.loops):  # those around it stand before it
            around = math.prod(o.count for o in self.loops[:i] if o.first <= loop.first < loop.last <= o.last)
            shared = any(way.share is not None for way in ways[loop.first : loop.last])
            found[loop.first] += around * (loop.count if shared else 1)
            found[loop.last] += around
        return found

    def _sweep(self, options: list[list[Way]], prefer: tuple[str, ...]) -> list[Way]:
        """The cheapest way for each kernel after those before it; products the `prefer`red way the first time."""
        state = _State(2, Hazards(self.beside))
        chosen: list[Way] = []
        for sweep in range(SWEEPS):
            before, chosen = chosen, []
            for number, (ways, alone, check) in enumerate(zip(options, self.alone, self.checks, strict=True)):
                if number in self.edges:
                    state.meet()
                usual = [way for way in ways if sweep == 0 and way.share is not None and way.share.by in prefer]
                found = usual or ways
                best = found[0] if len(found) == 1 else min(found, key=lambda way: state.price(way, alone))
                state.do(best)
                chosen.append(best)
                if check:
                    state.meet()
            state.meet()
            if chosen == before:
                break
        return chosen


def _options(plan: MemoryPlan, nests: Nests) -> Iterator[list[Way]]:
    """Every way to run each kernel, their cuts made to agree where they can."""
    found = [(kernel, shares(kernel, nests[number])) for number, kernel in enumerate(plan.kernels)]
    coarse: dict[int, Cut] = {}
    for share in (share for _, ways in found for share in ways if share.by == "rows"):
        if share.cut.units >= ENOUGH and share.cut.rows > coarse.get(share.cut.size, share.cut._replace(rows=0)).rows:
            coarse[share.cut.size] = share.cut
    for kernel, ways in found:
        agreed = [share.agreeing(coarse.get(share.cut.size)) for share in ways]
        yield [Way(share, footprint(kernel, plan.places, share)) for share in [*agreed, None]]


Touched = dict[Span, list[tuple[Access, bool]]]  # in what way, and whether by several threads


class Hazards:
    """What has been touched since the threads last met.

    Args:
        beside: for each range of memory those that share a byte with it, so that nothing else is looked at.
    """

    def __init__(self, beside: dict[Span, list[Span]]) -> None:
        self.beside = beside
        self.clear()

    def clear(self) -> None:
        """They met."""
        self.read: Touched = {}
        self.written: Touched = {}

    def meets(self, way: Way) -> bool:
        """Might another thread have written what the kernel touches, or still read what it writes?"""
        divided, reads, writes = way.share is not None, way.touches.reads, way.touches.writes
        clash, written, read = self._clash, self.written, self.read
        return clash(reads, divided, written) or clash(writes, divided, written) or clash(writes, divided, read)

    def met_by(self, way: Way) -> bool:
        """Whether a barrier must stand before it; notes that the kernel ran."""
        meets = self.meets(way)
        if meets:
            self.clear()
        for kind, accesses in ((self.read, way.touches.reads), (self.written, way.touches.writes)):
            for access in accesses:
                known, entry = kind.setdefault(access.span, []), (access, way.share is not None)
                if entry not in known:
                    known.append(entry)
        return meets

    def _clash(self, accesses: tuple[Access, ...], divided: bool, earlier: Touched) -> bool:
        if not earlier:
            return False
        for access in accesses:
            for span in self.beside[access.span]:
                for other, before in earlier.get(span, ()):
                    if (divided or before) and not access.apart(other):
                        return True
        return False


# Who has what: (stride, size, edges) of a split buffer, or one of these.
Layout = object
_ALONE, _WHOLE = "thread 0", "all"


@dataclass
class _State:
    """Where the newest value of each buffer lies while `threads` threads follow the program."""

    threads: int
    hazards: Hazards
    written: dict[tuple[int, int], Layout] = field(default_factory=dict)
    held: dict[tuple[int, int], set[Layout]] = field(default_factory=dict)

    def price(self, way: Way, alone: float) -> float:
        """Running the kernel this way now."""
        part = way.share.cut.largest(self.threads) if way.share is not None else 1.0
        moved = sum(self._foreign(access, self._layout(way, access)) for access in way.touches.reads)
        moved += sum(_overrun(access, self.threads) for access in way.touches.writes)
        return alone * part + cost.foreign(moved) + cost.BARRIER * self.hazards.meets(way)

    def do(self, way: Way) -> None:
        """The kernel runs: threads hold what they read, and alone what they wrote."""
        self.hazards.met_by(way)
        for access in way.touches.reads:
            self.held.setdefault((access.slot, access.start), set()).add(self._layout(way, access))
        for access in way.touches.writes:
            key = access.slot, access.start
            self.written[key], self.held[key] = self._layout(way, access), set()

    def meet(self) -> float:
        """A barrier."""
        self.hazards.clear()
        return cost.BARRIER

    def _layout(self, way: Way, access: Access) -> Layout:
        if way.share is None:
            return _ALONE
        if access.lane is None:
            return _WHOLE
        return access.lane.stride, access.lane.size, _edges(access.lane.cut, self.threads)

    def _foreign(self, access: Access, wanted: Layout) -> float:
        """Bytes that a thread must fetch from another."""
        key = access.slot, access.start
        layout, held = self.written.get(key), self.held.get(key, ())
        if layout is None or wanted == layout or wanted in held or _WHOLE in held:
            return 0.0
        needed = 1.0 if wanted in (_ALONE, _WHOLE) else 1 / self.threads
        others = 1.0 if layout == _ALONE else 1 - 1 / self.threads
        return (access.end - access.start) * needed * others


def _overrun(access: Access, threads: int) -> float:
    """Bytes of other threads that the hardware fetches as it reads ahead over the end of each piece of a buffer.

    Those threads are writing there, so the lines travel to and fro: with a product split by columns that can
    cost all that a second thread gains.
    """
    if access.lane is None:
        return 0.0
    turn = access.lane.stride * access.lane.size
    pieces = (access.end - access.start) // turn
    return pieces * min(turn / threads, cost.AHEAD) if pieces > 1 else 0.0


@lru_cache(maxsize=1024)
def _edges(cut: Cut, threads: int) -> tuple[int, ...]:
    return cut.edges(threads)
