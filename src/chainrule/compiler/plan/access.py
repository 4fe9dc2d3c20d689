"""Access: what each thread touches of a buffer where a kernel is shared along one of its loops.

What a thread reads or writes of a buffer is the elements whose place along that loop is its own; two kernels whose places
agree touch, thread by thread, the same elements, and need no barrier between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from chainrule.compiler.plan.cut import Cut
from chainrule.compiler.plan.partition import Share
from chainrule.compiler.schedule import memory
from chainrule.compiler.schedule.index import Expr
from chainrule.compiler.schedule.kernels import Kernel
from chainrule.compiler.schedule.memory import Place
from chainrule.graph import Node


class Lane(NamedTuple):
    """Whose an element is: place (byte // stride) % size along an axis cut so."""

    stride: int
    size: int
    cut: Cut


Span = tuple[int, int, int]  # slot, start, end


@dataclass(frozen=True)
class Access:
    """Bytes of one buffer: entry `slot` of the table, or of the arena (slot -1).

    With a `lane`, each thread touches only its own part of them; without, any thread any of them.
    """

    slot: int
    start: int
    end: int
    lane: Lane | None = None
    span: Span = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "span", (self.slot, self.start, self.end))  # asked for again and again

    def apart(self, other: Access) -> bool:
        """Do different threads never touch the same byte, one by this access and one by the other?"""
        if self.slot != other.slot or self.end <= other.start or other.end <= self.start:
            return True
        return self.lane is not None and self.lane == other.lane and self.start == other.start


class Footprint(NamedTuple):
    """What a kernel touches when it is shared in one way (or not at all)."""

    reads: tuple[Access, ...]
    writes: tuple[Access, ...]


def overlapping(spans: Iterable[Span]) -> dict[Span, list[Span]]:
    """For each of them, those that share a byte with it, itself among them."""
    found: dict[Span, list[Span]] = {}
    reaching: list[Span] = []  # as far as the present one
    for span in sorted(set(spans)):
        slot, start, _ = span
        reaching = [other for other in reaching if other[0] == slot and other[2] > start]
        for other in reaching:
            found[other].append(span)
        found[span] = [*reaching, span]
        reaching.append(span)
    return found


def footprint(kernel: Kernel, places: dict[Node, Place], share: Share | None) -> Footprint:
    """The buffers of a kernel, each with the lane that all its accesses to it have in common."""
    loads: dict[Node, list[Expr]] = {node: [] for node in kernel.reads()}
    for load in kernel.loads():
        loads[load.node].append(load.index)
    for node in kernel.first:
        loads[node].append(Expr())  # whatever it is read for, all of it must be there
    writes = {store.node: [store.index] for store in kernel.stores}
    return Footprint(
        tuple(_access(node, places[node], at, share) for node, at in loads.items()),
        tuple(_access(node, places[node], at, share) for node, at in writes.items()),
    )


def _access(node: Node, place: Place, indices: list[Expr], share: Share | None) -> Access:
    slot = -1 if place.slot is None else place.slot
    lanes = {_lane(index, share, node.dtype.itemsize) for index in indices}
    lane = next(iter(lanes)) if len(lanes) == 1 else None
    return Access(slot, place.offset, place.offset + memory.size_of(node), lane)


def _lane(index: Expr, share: Share | None, itemsize: int) -> Lane | None:
    """The lane of `index` along the shared loop: its other parts move by less than one step of it, or by whole turns."""
    stride = index.terms.get(share.loops[-1], 0) if share is not None else 0
    if share is None or stride <= 0:
        return None
    turn = stride
    for var in reversed(share.loops):
        if index.terms.get(var) != turn:
            return None
        turn *= var.size
    low, high = Expr({atom: f for atom, f in index.terms.items() if f % turn and atom not in share.loops}).bounds()
    offset = index.constant % turn
    if low + offset < 0 or high + offset >= stride:
        return None
    return Lane(stride * itemsize, share.var.size, share.cut)
