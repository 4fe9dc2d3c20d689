"""Memory: where every buffer of a program lies.

Inputs, results and state have a place of their own in the program's table of pointers. All else shares
one arena: a buffer's range is free again after its last reader. New state is written where the old stood,
if every reader of the old value comes first; the order of the kernels is arranged so where it can be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chainrule.compiler.index import Expr
from chainrule.compiler.kernels import Kernel
from chainrule.compiler.schedule import Schedule, in_order
from chainrule.graph import Node

ALIGNMENT = 64


@dataclass(frozen=True)
class Place:
    """A range of memory: entry `slot` of the pointer table, or bytes from `offset` in the arena."""

    slot: int | None
    offset: int = 0

    def __str__(self) -> str:
        return f"slot {self.slot}" if self.slot is not None else f"arena+{self.offset}"


@dataclass
class Plan:
    """The places of all buffers, the kernels in final order, and what must be copied at the end."""

    places: dict[Node, Place]
    kernels: list[Kernel]
    copies: list[tuple[Node, int]]  # (node, slot): state that could not be written in place
    arena: int
    without_reuse: int


def bytes_of(node: Node) -> int:
    """Bytes of a value."""
    return math.prod(node.shape) * node.dtype.itemsize


def size_of(node: Node) -> int:
    """Bytes of a buffer, rounded up to whole cache lines."""
    return -(-max(bytes_of(node), 1) // ALIGNMENT) * ALIGNMENT


def plan(schedule: Schedule, slots: dict[Node, int], written: list[tuple[Node, int]], watched: bool = False) -> Plan:
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
    kernels = order.kernels()
    kept = schedule.buffers() if watched else [node for node, _ in copies]
    arena, total = _allocate(kernels, places, kept)
    return Plan(places, kernels, copies, arena, total)


class _Order:
    """The kernels' order, with room for further constraints."""

    def __init__(self, kernels: list[Kernel]) -> None:
        self.all = kernels
        self.before = [0] * len(kernels)
        self.readers: dict[Node, list[int]] = {}
        self.writers: dict[Node, list[int]] = {}
        for number, kernel in enumerate(kernels):
            for node in kernel.reads():
                self.readers.setdefault(node, []).append(number)
                for writer in self.writers.get(node, ()):
                    self.before[number] |= self.before[writer] | 1 << writer
            for store in kernel.stores:
                self.writers.setdefault(store.node, []).append(number)
        # What the outside sees changes only once every index is known to lie inside its axis.
        self.checks = [number for number, kernel in enumerate(kernels) if not kernel.stores]
        self._checks_first()

    def _checks_first(self) -> None:
        """What a check protects was ordered behind it by the scheduler; keep that order."""
        checks = 0
        for number, kernel in enumerate(self.all):
            self.before[number] |= checks
            if not kernel.stores:
                checks |= 1 << number | self.before[number]

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
        if any(self.before[number] >> writer & 1 for number in earlier for writer in later):
            return False
        needed = 0
        for number in earlier:
            needed |= self.before[number] | 1 << number
        for writer in later:
            self.before[writer] |= needed
        for number, bits in enumerate(self.before):
            for writer in later:
                if bits >> writer & 1:
                    self.before[number] |= needed
        return True

    def kernels(self) -> list[Kernel]:
        return [self.all[number] for number in in_order(self.before)]


def _reads_only_own_element(kernel: Kernel, node: Node, old: Node) -> bool:
    """Does the kernel read of `old` just the element it is about to overwrite?"""
    index: Expr = next(store.index for store in kernel.stores if store.node is node)
    core = kernel.core
    if core is not None:
        inside = Kernel((), [], core).reads()
        if old in inside:
            return False
    return all(load.index == index and not load.guards for load in kernel.loads() if load.node is old)


def _allocate(kernels: list[Kernel], places: dict[Node, Place], kept: list[Node]) -> tuple[int, int]:
    """First-fit ranges in the arena by first and last use; gives (bytes with reuse, bytes without)."""
    first: dict[Node, int] = {}
    last: dict[Node, int] = {}
    for position, kernel in enumerate(kernels):
        for node in [*kernel.reads(), *(store.node for store in kernel.stores)]:
            if node not in places:
                first.setdefault(node, position)
                last[node] = position
    last.update(dict.fromkeys((node for node in kept if node in first), len(kernels)))
    live: list[tuple[int, int, int]] = []  # (offset, end, last use)
    peak = 0
    for node in sorted(first, key=lambda n: (first[n], -size_of(n))):
        live = sorted(range_ for range_ in live if range_[2] >= first[node])
        offset = 0
        for start, end, _ in live:
            if start - offset >= size_of(node):
                break
            offset = max(offset, end)
        places[node] = Place(None, offset)
        live.append((offset, offset + size_of(node), last[node]))
        peak = max(peak, offset + size_of(node))
    return peak, sum(map(size_of, first))
