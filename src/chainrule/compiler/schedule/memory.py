"""Memory: where every buffer of a program lies.

Inputs, results and state have a place of their own in the program's table of pointers. All else shares
one arena: a buffer's range is free again after its last reader. New state is written where the old stood,
if every reader of the old value comes first; the order of the kernels is arranged so where it can be.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import accumulate

import numpy as np

from chainrule import dtypes
from chainrule.compiler.schedule.dependency import Dependencies
from chainrule.compiler.schedule.index import Expr
from chainrule.compiler.schedule.kernels import Kernel
from chainrule.compiler.schedule.serial import Schedule, Serial
from chainrule.graph import INPUT, Node, Type
from chainrule.tensor.memory import LINE, lines

ALIGNMENT = LINE


@dataclass(frozen=True)
class Place:
    """A range of memory: bytes from `offset` behind entry `slot` of the pointer table, or in the arena.

    In loops of steps it moves on: `moves` says by how many bytes at each step of which loop (of the plan's).
    """

    slot: int | None
    offset: int = 0
    moves: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        base = "arena" if self.slot is None else f"slot {self.slot}"
        offset = f"+{self.offset}" if self.offset or self.slot is None else ""
        return base + offset + "".join(f"{stride:+}*t{loop}" for loop, stride in self.moves)

    def behind(self, base: Place, loops: int) -> Place:
        """The place in a plan that holds this one's from `base` on, and `loops` other loops."""
        own = tuple((loop + loops, stride) for loop, stride in self.moves)
        return Place(base.slot, base.offset + self.offset, base.moves + own)


@dataclass(frozen=True)
class Steps:
    """A loop around the kernels from `first` up to `last`, whose steps come one after the other.

    `copies`: what is carried from step to step and could not be written in place: from where, where to, how many bytes.
    """

    first: int
    last: int
    count: int
    copies: tuple[tuple[Place, Place, int], ...] = ()


@dataclass
class MemoryPlan:
    """The places of all buffers, the kernels in final order, and what must be copied at the end."""

    places: dict[Node, Place]
    kernels: list[Kernel]
    copies: list[tuple[Node, int]]  # (node, slot): state that could not be written in place
    arena: int
    without_reuse: int
    loops: list[Steps] = field(default_factory=list)  # each before those inside it
    inside: set[Node] = field(default_factory=set)  # buffers of which each step has its own value

    def times(self) -> list[int]:
        """How often each kernel runs."""
        found = [1] * len(self.kernels)
        for loop in self.loops:
            found[loop.first : loop.last] = [count * loop.count for count in found[loop.first : loop.last]]
        return found


def bytes_of(node: Node) -> int:
    """Bytes of a value."""
    return math.prod(node.shape) * node.dtype.itemsize


def size_of(node: Node) -> int:
    """Bytes of a buffer, rounded up to whole cache lines."""
    return lines(max(bytes_of(node), 1))


def plan(
    schedule: Schedule, slots: dict[Node, int], written: list[tuple[Node, int]], watched: bool = False
) -> MemoryPlan:
    """Places for a schedule's buffers; in a `watched` one no buffer takes the place of another.

    Args:
        slots: the table entry of every input.
        written: for every result and state, its node and the table entry it must end up in.
    """
    places = {node: Place(slot) for node, slot in slots.items()}
    order = _Order(schedule.kernels)
    overwritten = {slot: node for node, slot in slots.items()}
    copies = []
    for node, slot in written:
        old = overwritten.get(slot)
        if node not in places and (order.write_in_place(node, old) if old is not None else order.write_last(node)):
            places[node] = Place(slot)
        else:
            copies.append((node, slot))
    kernels = order.kernels(places)
    kept = schedule.buffers() if watched else [node for node, _ in copies]
    regions = {kernel: _Region(kernel) for kernel in kernels if isinstance(kernel, Serial)}
    arena, total = _allocate(kernels, places, kept)
    result = MemoryPlan(places, [], copies, arena, total)
    for kernel in kernels:
        if isinstance(kernel, Serial):
            regions[kernel].lay_out(result)
        else:
            result.kernels.append(kernel)
    return result


class _Region:
    """The memory of a loop's region: planned once, by itself, with the buffers outside as the entries of a table."""

    def __init__(self, kernel: Serial) -> None:
        self.kernel = kernel
        self.moving = [*kernel.slices, *kernel.stacks]
        first, last = len(kernel.whole), len(kernel.whole) + len(kernel.carries)
        slots = {node: i for i, (node, _) in enumerate(kernel.whole)}
        slots |= {node: i for i, (node, _, _) in enumerate(kernel.carries, first)}
        slots |= {node: i for i, (node, _) in enumerate(kernel.slices, last)}
        written = [(node, i) for i, (_, node, _) in enumerate(kernel.carries, first)]
        written += [(node, i) for i, (node, _) in enumerate(kernel.stacks, last + len(kernel.slices))]
        self.plan = plan(kernel.body, slots, written)
        self.workspace = Node(INPUT, (), {}, Type((self.plan.arena,), dtypes.uint8))
        kernel.writes(self.workspace)  # its arena lies in the one around it, while the loop runs

    def lay_out(self, outer: MemoryPlan) -> None:
        """Put its kernels, and the loop around them, behind what is there."""
        kernel, inner, first, loop = self.kernel, self.plan, len(outer.kernels), len(outer.loops)
        bases = [outer.places[node] for *_, node in [*kernel.whole, *kernel.carries]]
        bases += [self._entry(node, outer.places[stack], loop) for node, stack in self.moving]
        workspace = outer.places[self.workspace]

        def put(place: Place) -> Place:
            return place.behind(workspace if place.slot is None else bases[place.slot], loop + 1)

        copies = [(put(inner.places[node]), bases[slot], bytes_of(node)) for node, slot in inner.copies]
        outer.loops.append(Steps(first, first + len(inner.kernels), kernel.steps, tuple(copies)))
        for steps in inner.loops:
            within = tuple((put(source), put(target), size) for source, target, size in steps.copies)
            outer.loops.append(Steps(first + steps.first, first + steps.last, steps.count, within))
        outer.kernels += inner.kernels
        outer.places.update({node: put(place) for node, place in inner.places.items()})
        outer.inside.update(inner.places)

    def _entry(self, node: Node, stack: Place, loop: int) -> Place:
        """Where the entry of each step lies."""
        stride, steps = bytes_of(node), self.kernel.steps
        if not self.kernel.reverse:
            return replace(stack, moves=(*stack.moves, (loop, stride)))
        return Place(stack.slot, stack.offset + (steps - 1) * stride, (*stack.moves, (loop, -stride)))


class _Order:
    """The kernels' order, with room for further constraints."""

    def __init__(self, kernels: list[Kernel]) -> None:
        self.all = kernels
        self.order = Dependencies()
        self.readers: dict[Node, list[int]] = {}
        self.writers: dict[Node, list[int]] = {}
        # What the outside sees changes only once every index is known to lie inside its axis.
        self.checks: list[int] = []
        for number, kernel in enumerate(kernels):
            reads = kernel.reads()
            # What a check protects was ordered behind it by the scheduler; keep that order.
            self.order.add([*self.checks[-1:], *(writer for node in reads for writer in self.writers.get(node, ()))])
            for node in reads:
                self.readers.setdefault(node, []).append(number)
            for store in kernel.stores:
                self.writers.setdefault(store.node, []).append(number)
            if not kernel.stores or (isinstance(kernel, Serial) and kernel.body.checks):
                self.checks.append(number)

    def write_in_place(self, node: Node, old: Node) -> bool:
        """Order every reader of `old` before the kernel that writes `node`, if that can be."""
        writers = self.writers.get(node, [])
        if len(writers) != 1:
            return False
        (writer,) = writers
        if not _reads_only_own_element(self.all[writer], node, old):
            return False
        others = [number for number in self.readers.get(old, ()) if number != writer]
        return self._put_before([*others, *self.checks], writers)

    def write_last(self, node: Node) -> bool:
        """Order every check before the kernels that write `node`, if that can be."""
        return self._put_before(self.checks, self.writers.get(node, []))

    def _put_before(self, earlier: list[int], later: list[int]) -> bool:
        if any(self.order.after(number, writer) for number in earlier for writer in later):
            return False
        for writer in later:
            self.order.put(writer, earlier)
        return True

    def kernels(self, places: dict[Node, Place]) -> list[Kernel]:
        """The kernels in a row; one that sets more of the arena free than it takes goes ahead of the others."""
        left = {node: len(set(readers)) for node, readers in self.readers.items() if node not in places}

        reads = [[(node, size_of(node)) for node in kernel.reads() if node in left] for kernel in self.all]
        takes = [sum(size_of(s.node) for s in kernel.stores if s.node not in places) for kernel in self.all]

        def gain(number: int) -> int:
            return sum([size for node, size in reads[number] if left[node] == 1]) - takes[number]

        def urgent(number: int) -> set[int]:
            found = set()
            for node, _ in reads[number]:
                left[node] -= 1
                waiting[node].discard(number)
                if left[node] == 1:
                    found |= waiting[node]
            done.add(number)
            groups = ([other, *self.order.missing(other, done)] for other in found)
            return {other for group in groups if sum(map(gain, group)) > 0 for other in group}

        done: set[int] = set()
        waiting = {node: set(self.readers[node]) for node in left}
        return [self.all[number] for number in self.order.linear(range(len(self.all)), urgent)]


def _reads_only_own_element(kernel: Kernel, node: Node, old: Node) -> bool:
    """Does the kernel read of `old` just the element it is about to overwrite?"""
    if isinstance(kernel, Serial):  # its steps read and write at different times, and a check may end them in between
        return not kernel.body.checks and old not in kernel.reads()
    index: Expr = next(store.index for store in kernel.stores if store.node is node)
    core = kernel.core
    if core is not None:
        inside = Kernel((), [], core).reads()
        if old in inside:
            return False
    return all(load.index == index and not load.guards for load in kernel.loads() if load.node is old)


def _allocate(kernels: list[Kernel], places: dict[Node, Place], kept: list[Node]) -> tuple[int, int]:
    """Ranges in the arena by first and last use; gives (bytes with reuse, bytes without)."""
    lives = lives_of(kernels, places, kept)
    least = most_alive(lives)
    chosen: dict[Node, int] = {}
    size = -1
    for key in (lambda n: (lives[n][0], -size_of(n)), lambda n: (-size_of(n), lives[n][0])):
        offsets = first_fit(sorted(lives, key=key), lives)
        peak = max((offset + size_of(node) for node, offset in offsets.items()), default=0)
        if size < 0 or peak < size:
            chosen, size = offsets, peak
        if size == least:
            break
    places.update({node: Place(None, chosen[node]) for node in sorted(chosen, key=lambda n: lives[n][0])})
    return size, sum(map(size_of, lives))


Lives = dict[Node, tuple[int, int]]  # the kernels that first and last touch a buffer


def lives_of(kernels: list[Kernel], places: dict[Node, Place], kept: list[Node]) -> Lives:
    lives: Lives = {}
    for position, kernel in enumerate(kernels):
        for node in [*kernel.reads(), *(store.node for store in kernel.stores)]:
            if node not in places:
                lives[node] = (lives.get(node, (position,))[0], position)
    lives.update({node: (lives[node][0], len(kernels)) for node in kept if node in lives})
    return lives


def most_alive(lives: Lives) -> int:
    """The bytes that are needed at one time, which no arrangement can do without."""
    change: Counter[int] = Counter()
    for node, (first, last) in lives.items():
        change[first] += size_of(node)
        change[last + 1] -= size_of(node)
    return max(accumulate(change[position] for position in sorted(change)), default=0)


def first_fit(order: list[Node], lives: Lives) -> dict[Node, int]:
    """Each buffer at the lowest offset where no other lies while it is needed."""
    offsets: dict[Node, int] = {}
    uses = np.array([lives[node] for node in order], np.int64).reshape(-1, 2)
    first, last = uses.T
    start, end = np.zeros((2, len(order)), np.int64)
    for number, node in enumerate(order):
        there = np.flatnonzero((first[:number] <= last[number]) & (first[number] <= last[:number]))
        there = there[np.argsort(start[there])]
        reached = np.maximum.accumulate(np.append(0, end[there]))  # all below is taken
        fits = np.flatnonzero(start[there] - reached[:-1] >= size_of(node))
        offsets[node] = offset = int(reached[fits[0] if len(fits) else -1])
        start[number], end[number] = offset, offset + size_of(node)
    return offsets


def summary(plan: MemoryPlan, read: set[int], written: set[int], scratch: int) -> str:
    """What a step needs in all, one line; `read` and `written` are entries of the table."""
    sizes: dict[int, int] = {}
    for node, place in plan.places.items():
        if place.slot is not None:
            sizes[place.slot] = max(sizes.get(place.slot, 0), bytes_of(node))
    for node, slot in plan.copies:
        sizes[slot] = max(sizes.get(slot, 0), bytes_of(node))
    parts = {"inputs": 0, "state": 0, "results": 0}
    for slot, size in sizes.items():
        parts["results" if slot not in read else "state" if slot in written else "inputs"] += size
    parts.update(arena=plan.arena, scratch=scratch)
    listed = " + ".join(f"{name} {size:,}" for name, size in parts.items())
    return f"peak: {sum(parts.values()):,} bytes = {listed} (the arena without reuse: {plan.without_reuse:,})"
