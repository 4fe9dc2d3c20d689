"""What follows on the sums of a tile: its epilogue, for each vector of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, vector
from chainrule.compiler.codegen.matmul.packing import plus
from chainrule.compiler.codegen.matmul.transpose import Column, in_registers, lane_mask, lanes_on, resized
from chainrule.compiler.plan.target import BYTES, power_of_two_above
from chainrule.compiler.plan.tiling import Contraction, Tiling

# emitter, row, first column, sums (a vector of columns, or one), mask (None: all lanes)
Epilogue = Callable[[Emitter, Register, Register, Register, "Register | None"], None]

_INLINE = 12  # lines of an epilogue that are written out for every row rather than put in a loop
# Vectors that a long epilogue takes side by side: one alone waits for itself, more do not fit in the registers.
_AT_ONCE = 4


def along_rows(height: int, scalar: str) -> Column:
    """One vector for a tile's rows."""
    wide = power_of_two_above(height)
    return Column(0, vector(scalar, wide), lane_mask(height, wide))


class Finish:
    """Hands vectors of sums to the epilogue of a product."""

    def __init__(self, e: Emitter, spec: Contraction, chosen: Tiling, epilogue: Epilogue) -> None:
        self.e, self.spec, self.plan, self.epilogue = e, spec, chosen, epilogue
        self.inline = self._lines_of_epilogue() <= _INLINE

    def _lines_of_epilogue(self) -> int:
        probe = Emitter()
        index = Register("%0", "i64")
        sums = Register("%1", vector(self.spec.scalar, 1 if self.plan.dot else self.plan.lanes))
        self.epilogue(probe, index, index, sums, None)
        return len(probe.lines)

    def tile(self, row: Register, column: Register, columns: list[Column], rows: int, sums: list[Register]) -> None:
        """Hand each vector of the tile to the epilogue: written out for each if short, else in a loop."""
        e = self.e
        if self.plan.transposed:
            lanes = lanes_of(columns[0].type)
            alike = [part == Column(c * lanes, columns[0].type, None) for c, part in enumerate(columns)]
            if len(columns) > 1 and all(alike) and not self.inline:
                self._transposed_in_loop(row, column, columns, sums)
                return
            for c, part in enumerate(columns):
                of_part = sums[c :: len(columns)]
                self.transposed(row, plus(e, column, part.first), part, of_part)
            return
        if self.inline or rows == 1:
            for r in range(rows):
                of_row = sums[r * len(columns) : (r + 1) * len(columns)]
                self._row(plus(e, row, r), column, columns, of_row)
            return
        full = [c for c, part in enumerate(columns) if part.mask is None]
        rest = [c for c, part in enumerate(columns) if part.mask is not None]
        for some in filter(None, (full, rest)):
            self._in_loop(row, column, [columns[c] for c in some], [sums[c :: len(columns)] for c in some])

    def _in_loop(self, row: Register, column: Register, columns: list[Column], sums: list[list[Register]]) -> None:
        """Some vectors of columns, a few rows at a time, each with its sums one below the other.

        Not together with masked ones: a masked store holds up loads of what lies behind it, where the next row may
        begin (a quarter of the time of a small product with an optimizer behind it).
        """
        e, rows = self.e, len(sums[0])
        rooms = [e.local(part.type, rows) for part in columns]
        for room, part, below in zip(rooms, columns, sums, strict=True):
            for r, value in enumerate(below):
                e.store(value, e.address(room, e.const(r, "i64"), part.type), 4)
        together = min(rows, max(1, _AT_ONCE // len(columns)))
        whole = rows - rows % together

        def some(first: Register, count: int) -> None:
            numbers = [plus(e, first, i) for i in range(count)]
            places = [(number, room, part) for number in numbers for room, part in zip(rooms, columns, strict=True)]
            e.side_by_side([partial(self._saved, row, column, *place) for place in places])

        with e.loop(whole, together) as r_index:
            some(r_index, together)
        if rows > whole:
            some(e.const(whole, "i64"), rows - whole)

    def _saved(self, row: Register, column: Register, number: Register, room: Register, part: Column) -> None:
        """One vector of the tile, whose sums wait on the stack."""
        e = self.e
        value = e.load(e.address(room, number, part.type), part.type, 4)
        self.epilogue(e, e.opaque(e.binary("add", row, number)), plus(e, column, part.first), value, part.mask)

    def _transposed_in_loop(self, row: Register, column: Register, columns: list[Column], sums: list[Register]) -> None:
        """Several vectors of columns alike: to write the transposition and the epilogue out for each would be as much code again."""
        e, part, rows = self.e, columns[0], len(sums) // len(columns)
        size = BYTES[self.spec.scalar]
        room = e.local(part.type, len(sums))
        for number, value in enumerate(sums):
            e.store(value, e.address(room, e.const(number, "i64"), part.type), size)
        with e.loop(len(columns)) as index:
            places = [plus(e, index, r * len(columns)) for r in range(rows)]
            of_part = [e.load(e.address(room, place, part.type), part.type, size) for place in places]
            first = e.binary("mul", index, e.const(lanes_of(part.type), "i64"))
            self.transposed(row, e.binary("add", column, first), part, of_part)

    def transposed(self, row: Register, column: Register, part: Column, sums: list[Register]) -> None:
        """What was computed as rows are columns of C, and the lanes of a vector its rows."""
        e, count = self.e, lanes_on(part.type, part.mask)
        wide = power_of_two_above(len(sums))
        mask, type = lane_mask(len(sums), wide), vector(self.spec.scalar, wide)
        size = max(wide, lanes_of(part.type))
        square = [resized(e, value, size) for value in sums]
        square += [Register("poison", square[0].type)] * (size - len(sums))
        transposed = square if size == 1 else in_registers(e, square)
        values = [resized(e, value, wide) for value in transposed[:count]]
        if self.inline and len(sums) > 1:
            for r, value in enumerate(values):
                self.epilogue(e, plus(e, column, r), row, value, mask)
            return
        room = e.local(type, count)
        for r, value in enumerate(values):
            e.store(value, e.address(room, e.const(r, "i64"), type), BYTES[self.spec.scalar])
        with e.loop(count) as index:
            value = e.load(e.address(room, index, type), type, BYTES[self.spec.scalar])
            self.epilogue(e, e.opaque(e.binary("add", column, index)), row, value, mask)

    def _row(self, row: Register, column: Register, columns: list[Column], sums: list[Register]) -> None:
        for part, value in zip(columns, sums, strict=True):
            self.epilogue(self.e, row, plus(self.e, column, part.first), value, part.mask)
