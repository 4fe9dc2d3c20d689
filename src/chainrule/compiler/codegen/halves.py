"""Writes sums over the rows of a batch: leaf by leaf, the totals joined as soon as two halves are there.

A leaf's total waits in memory, on a stack no higher than the tree; each later one is first added to as many of
those as it is the end of halves (binary carry). Where leaves end and how many halves they join stands in a table of
constants, so that the code is one loop for any number of rows.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import accumulate

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, scalar_of
from chainrule.compiler.plan.target import BYTES
from chainrule.ops.halves import leaves, places

Part = Callable[
    [Register, Register, "Register | int"], list[Register]
]  # of a leaf its number, first row, how many: their totals
_FIELDS = ("end", "joins", "slot", "leaf")


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

    def total(
        self, zeros: list[Register], own: Part, limits: tuple[Register, Register] | None = None
    ) -> list[Register]:
        """The totals of all rows, each leaf's by `own`; with `limits` of some leaves, which are a half of halves."""
        e, types = self.e, [zero.type for zero in zeros]
        room = e.local(scalar_of(types[0]), max(1, places(self.parts)) * sum(map(lanes_of, types)))
        first, last = limits or (self._number(0), self._number(len(self.parts)))
        lowest = (
            e.binary("add", *(self._told(first, field) for field in ("slot", "joins"))) if limits else self._number(0)
        )
        with e.fold(e.binary("sub", last, first) if limits else len(self.parts), zeros) as state:
            leaf = e.binary("add", first, state.index) if limits else state.index
            start = self.start(leaf)
            count = self.size or e.binary("sub", self.end(leaf), start)
            ended = e.compare("eq", leaf, e.binary("sub", last, self._number(1)))
            state.values = self._joined(room, leaf, own(leaf, start, count), lowest, ended)
        return state.values

    def joined(self, room: Register, part: Register, own: list[Register]) -> list[Register]:
        """A part's totals, added to those of the halves that it completes, which wait there as it will in turn."""
        return self._joined(room, part, own, self._number(0), self.is_last(part))

    def _joined(
        self, room: Register, part: Register, own: list[Register], lowest: Register, ended: Register
    ) -> list[Register]:
        """As `joined`, as far as the slots from the lowest on are concerned, where the room begins; the last does not wait."""
        e, types, slot = self.e, [value.type for value in own], self._told(part, "slot")
        top = e.binary("sub", e.binary("add", slot, self._told(part, "joins")), lowest)
        slot = e.call("llvm.smax.i64", "i64", e.binary("sub", slot, lowest), self._number(0))
        with e.fold(e.binary("sub", top, slot), own) as state:
            below = e.binary("sub", top, e.binary("add", state.index, self._number(1)))
            waiting = zip(self._places(room, below, types), types, strict=True)
            earlier = [e.load(place, type, BYTES[scalar_of(type)]) for place, type in waiting]
            state.values = [e.binary("fadd", x, y) for x, y in zip(earlier, state.values, strict=True)]
        waits, on = e.fresh("waits"), e.fresh("on")
        e.branch(ended, on, waits)
        e.label(waits)
        for place, value in zip(self._places(room, slot, types), state.values, strict=True):
            e.store(value, place, BYTES[scalar_of(value.type)])
        e.jump(on)
        e.label(on)
        return state.values

    def place(self, room: Register, part: Register, types: Sequence[Register]) -> Register:
        """Where the totals of a part wait, and those of the half before it that it is added to last."""
        size = self._number(sum(lanes_of(value.type) for value in types))
        return self.e.address(room, self.e.binary("mul", self._told(part, "slot"), size), scalar_of(types[0].type))

    def _places(self, room: Register, slot: Register, types: list[str]) -> list[Register]:
        """Where in a slot each total waits."""
        e, scalar = self.e, scalar_of(types[0])
        *starts, size = accumulate(map(lanes_of, types), initial=0)
        base = e.opaque(e.address(room, e.binary("mul", slot, self._number(size)), scalar))
        return [e.address(base, self._number(start), scalar) if start else base for start in starts]

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
