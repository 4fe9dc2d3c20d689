"""Writes sums over the rows of a batch: leaf by leaf, the totals joined as soon as two halves are there.

A leaf's total waits in memory, on a stack no higher than the tree; each later one is first added to as many of
those as it is the end of halves (binary carry). Where leaves end and how many halves they join stands in a table of
constants, so that the code is one loop for any number of rows.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, scalar_of
from chainrule.compiler.plan.target import BYTES
from chainrule.ops.halves import leaves, places

Part = Callable[
    [Register, Register, "Register | int"], list[Register]
]  # of a leaf its number, first row, how many: their totals
_FIELDS = ("end", "joins", "slot", "leaf")


class Some(NamedTuple):
    """Leaves that are a half of halves, and where the totals of the halves before them wait, as theirs will."""

    first: Register
    behind: Register
    waiting: Register


@dataclass
class _Stack:
    """Where totals wait, slot by slot, each for its half's other half.

    Of `some` leaves those that wait for one another do so in `room`, from the slot `lowest` on.
    """

    e: Emitter
    types: list[str]
    room: Register
    some: Some | None = None
    lowest: Register | None = None

    def earlier(self, slot: Register) -> list[Register]:
        """Where each total waits that a later one is added to."""
        return self._places(slot, self.lowest and self.e.compare("slt", slot, self.lowest))

    def own(self, slot: Register, leaf: Register) -> list[Register]:
        """Where each total of a leaf waits; the last leaf's, which is that of all of them, outlasts them."""
        some, e = self.some, self.e
        return self._places(slot, some and e.compare("eq", leaf, e.binary("sub", some.behind, e.const(1, "i64"))))

    def _places(self, slot: Register, outside: Register | None) -> list[Register]:
        e, scalar = self.e, scalar_of(self.types[0])
        *starts, size = accumulate(map(lanes_of, self.types), initial=0)

        def at(room: Register, slot: Register) -> Register:
            return e.address(room, e.binary("mul", slot, e.const(size, "i64")), scalar)

        base = at(self.room, e.binary("sub", slot, self.lowest) if self.lowest else slot)
        if outside is not None and self.some is not None:
            base = e.select(outside, at(self.some.waiting, slot), base)
        base = e.opaque(base)
        return [e.address(base, e.const(start, "i64"), scalar) if start else base for start in starts]


class Halves:
    """The sum over so many rows of a batch, in its leaves; or in halves of halves of at least so many rows."""

    def __init__(self, e: Emitter, rows: int, least: int = 0) -> None:
        self.e, self.rows, self.parts = e, rows, leaves(rows, least)
        self.name = f"@halves.{rows}" + (f".{least}" if least else "")

    def end(self, part: Register) -> Register:
        """The first row behind a part."""
        size = self.size
        if size:
            return self.e.binary("mul", self.e.binary("add", part, self._number(1)), self._number(size))
        return self._told(part, "end")

    def start(self, part: Register) -> Register:
        """The first row of a part."""
        e, size = self.e, self.size
        if size:
            return e.binary("mul", part, self._number(size))
        before = e.binary("sub", part, self._number(1))
        first = e.compare("eq", part, self._number(0))
        return e.select(first, self._number(0), self.end(e.select(first, part, before)))

    def is_last(self, part: Register) -> Register:
        return self.e.compare("eq", part, self._number(len(self.parts) - 1))

    def leaves(self, part: Register) -> tuple[Register, Register]:
        """The first leaf of a part, and the first behind it."""
        behind = self.e.binary("add", part, self._number(1))
        return self._told(part, "leaf"), self._told(behind, "leaf")

    def total(self, zeros: list[Register], own: Part, some: Some | None = None) -> list[Register]:
        """The totals of all rows, each leaf's by `own`; of `some` of the leaves, with what waits of those before them."""
        e, first, lowest = self.e, self._number(0), None
        count: Register | int = len(self.parts)
        if some is not None:
            first, count = some.first, e.binary("sub", some.behind, some.first)
            lowest = e.binary("add", *(self._told(first, field) for field in ("slot", "joins")))
        stack = _Stack(e, [zero.type for zero in zeros], self._room(zeros), some, lowest)
        with e.fold(count, zeros) as state:
            leaf = e.binary("add", first, state.index) if some else state.index
            start = self.start(leaf)
            rows = self.size or e.binary("sub", self.end(leaf), start)
            state.values = self._joined(stack, leaf, own(leaf, start, rows))
        return state.values

    def joined(self, room: Register, part: Register, own: list[Register]) -> list[Register]:
        """A part's totals, added to those of the halves that it completes, which wait there as it will in turn."""
        return self._joined(_Stack(self.e, [value.type for value in own], room), part, own)

    def _room(self, zeros: list[Register]) -> Register:
        sizes = [lanes_of(zero.type) for zero in zeros]
        return self.e.local(scalar_of(zeros[0].type), max(1, places(self.parts)) * sum(sizes))

    def _joined(self, stack: _Stack, part: Register, own: list[Register]) -> list[Register]:
        """A part's totals, added to those that wait in so many slots before its own; then they wait, unless it is the last."""
        e, slot, joins = self.e, self._told(part, "slot"), self._told(part, "joins")
        top = e.binary("add", slot, joins)
        with e.fold(joins, own) as state:
            below = e.binary("sub", top, e.binary("add", state.index, self._number(1)))
            waiting = zip(stack.earlier(below), state.values, strict=True)
            earlier = [(e.load(place, value.type, BYTES[scalar_of(value.type)]), value) for place, value in waiting]
            state.values = [e.binary("fadd", x, y) for x, y in earlier]
        waits, on = e.fresh("waits"), e.fresh("on")
        e.branch(self.is_last(part), on, waits)
        e.label(waits)
        for place, value in zip(stack.own(slot, part), state.values, strict=True):
            e.store(value, place, BYTES[scalar_of(value.type)])
        e.jump(on)
        e.label(on)
        return state.values

    def place(self, room: Register, part: Register, types: Sequence[Register]) -> Register:
        """Where the totals of a part wait, and those of the half before it that it is added to last."""
        size = self._number(sum(lanes_of(value.type) for value in types))
        return self.e.address(room, self.e.binary("mul", self._told(part, "slot"), size), scalar_of(types[0].type))

    # -- the table ----------------------------------------------------------------------------------
    @property
    def size(self) -> int:
        """The rows of a part, if all have equally many; otherwise 0."""
        size = self.parts[0].end
        return size if all(part.end == (number + 1) * size for number, part in enumerate(self.parts)) else 0

    def _told(self, part: Register, field: str) -> Register:
        """What the table says of a part."""
        e, table = self.e, self._table()
        e.declarations.add(
            f"{self.name} = private unnamed_addr constant [{len(table)} x i64] [{', '.join(f'i64 {n}' for n in table)}]"
        )
        row = e.binary("mul", part, self._number(len(_FIELDS)))
        at = e.binary("add", row, self._number(_FIELDS.index(field)))
        return e.load(e.address(Register(self.name, "ptr"), at, "i64"), "i64", 8)

    def _table(self) -> Sequence[int]:
        """Part by part the fields; behind the last, where the next one's leaf would be."""
        ends = [leaf.end for leaf in leaves(self.rows)]
        starts = [0, *(part.end for part in self.parts)]
        rows = [(*part, bisect(ends, start)) for part, start in zip(self.parts, starts, strict=False)]
        return [number for row in (*rows, (0, 0, 0, len(ends))) for number in row]

    def _number(self, value: int) -> Register:
        return self.e.const(value, "i64")


def over(e: Emitter, k: Register | int, lanes: int) -> tuple[Register | int, Register | int]:
    """How many whole vectors there are in so many terms, and how many terms they leave."""
    if not isinstance(k, Register):
        return divmod(k, lanes)
    size = e.const(lanes, "i64")
    return e.binary("udiv", k, size), e.binary("urem", k, size)
