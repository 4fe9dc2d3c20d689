"""What a kernel's function is told: pointers, each to the first element of a buffer that it touches.

Where in a buffer a kernel begins (the step of a sequence, a slice) is thereby an argument and no part of the
kernel's identity: the steps of an unrolled recurrence are one function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from chainrule.compiler.schedule.index import Expr
from chainrule.compiler.schedule.kernels import Kernel
from chainrule.compiler.schedule.memory import Place
from chainrule.graph import Node

PIECES = 4  # pointers into one buffer: more would fill the registers that a kernel's loops need


@dataclass(frozen=True)
class Touch:
    """An element that a kernel reads or writes."""

    node: Node
    index: Expr
    guarded: bool = False


@dataclass
class Arguments:
    """The pointers of one kernel: `places` in order, and which of them leads to an element."""

    places: list[Place] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    found: dict[tuple[Node, int], tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, kernel: Kernel, places: dict[Node, Place]) -> Arguments:
        """One pointer a place, so that no two of them alias; several where a place is only read, far apart."""
        touched: dict[Place, list[Touch]] = {}
        written = {places[store.node] for store in kernel.stores}
        for load in kernel.loads():
            touched.setdefault(places[load.node], []).append(Touch(load.node, load.index, bool(load.guards)))
        for store in kernel.stores:
            touched.setdefault(places[store.node], []).append(Touch(store.node, store.index))
        made = cls()
        for place, touches in touched.items():
            for piece in _pieces(touches, place in written):
                made._add(place, piece)
        return made

    def _add(self, place: Place, piece: list[Touch]) -> None:
        """A further pointer, to the first of these elements."""
        node, name, start = piece[0].node, f"p{len(self.places)}", _beginning(piece)
        self.places.append(replace(place, offset=place.offset + start * node.dtype.itemsize))
        self.dtypes.append(node.dtype.short)
        self.found.update({(touch.node, touch.index.constant): (name, start) for touch in piece})

    @property
    def names(self) -> list[str]:
        """The pointers'."""
        return [f"p{number}" for number in range(len(self.places))]

    def name(self, node: Node, index: Expr) -> str:
        """The pointer that leads to an element."""
        return self.found[node, index.constant][0]

    def at(self, node: Node, index: Expr) -> tuple[str, Expr]:
        """The pointer that leads to an element, and the index from there."""
        name, start = self.found[node, index.constant]
        return name, index + -start

    def __str__(self) -> str:
        return ", ".join(f"{name}: {dtype}" for name, dtype in zip(self.names, self.dtypes, strict=True))


def _pieces(touches: list[Touch], written: bool) -> list[list[Touch]]:
    """What is touched of one place, in pieces that do not overlap: those near each other share a register."""
    if written or len({touch.index.constant for touch in touches}) == 1:
        return [touches]
    by_start: dict[int, list[Touch]] = {}
    for touch in touches:
        by_start.setdefault(touch.index.constant, []).append(touch)
    pieces: list[tuple[int, int, list[Touch]]] = []
    spread = [(*_extent(group), group) for group in by_start.values()]
    for low, high, group in sorted(spread, key=lambda piece: piece[:2]):
        if pieces and low <= pieces[-1][1]:
            before, end, others = pieces.pop()
            low, high, group = before, max(end, high), others + group
        pieces.append((low, high, group))
    if len(pieces) > PIECES:
        return [touches]
    order = {id(touch): number for number, touch in enumerate(touches)}
    return sorted((group for *_, group in pieces), key=lambda group: min(order[id(touch)] for touch in group))


def _extent(touches: list[Touch]) -> tuple[int, int]:
    bounds = [touch.index.bounds() for touch in touches]
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _beginning(touches: list[Touch]) -> int:
    """The first element of a piece, if all its indices can count from there.

    A guarded one may begin before the buffer; and nodes that share a place may count in other units.
    """
    node, starts = touches[0].node, [touch.index.constant for touch in touches]
    alike = all(touch.node is node and not touch.guarded for touch in touches)
    return min(starts) if alike and 0 <= min(starts) <= max(starts) < math.prod(node.shape) else 0
