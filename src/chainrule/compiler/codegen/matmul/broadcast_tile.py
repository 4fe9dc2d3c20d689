"""A tile of a product that takes, at each term, each scalar of A times each vector of B."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of
from chainrule.compiler.codegen.halves import over
from chainrule.compiler.codegen.matmul.dot_tile import Operand
from chainrule.compiler.codegen.matmul.finish import along_rows
from chainrule.compiler.codegen.matmul.packing import plus
from chainrule.compiler.codegen.matmul.prefetch import Asks
from chainrule.compiler.codegen.matmul.transpose import Column, at, lanes_on, offset
from chainrule.compiler.plan.target import BYTES
from chainrule.compiler.plan.tiling import Contraction, Inner

_WRITTEN_OUT = 9  # terms along the innermost axes that are written out, not put in loops: those of a window of 3 x 3


@dataclass(frozen=True)
class Panel:
    """The columns under a row of tiles, and where B has them."""

    number: Register
    b: Register
    strides: tuple[int, int]
    column: Register
    columns: list[Column]
    rest: Rest | None = None

    @property
    def operand(self) -> Operand:
        last = self.columns[-1]
        return self.b, self.strides[1], last.first + lanes_on(last.type, last.mask)

    def zeros(self, e: Emitter, height: int, scalar: str) -> list[Register]:
        """What the sums of a tile begin with, row by row; then those of columns along its rows."""
        zeros = [e.const(0.0, c.type) for c in self.columns] * height
        if self.rest is not None:
            zeros += [e.const(0.0, along_rows(height, scalar).type)] * self.rest.count
        return zeros


@dataclass(frozen=True)
class Rest:
    """The last columns of a panel, computed by vectors along the rows of C."""

    first: int
    count: int


@dataclass(frozen=True)
class BroadcastTile:
    """The sums of so many rows of A and a panel of B, row by row; then those of columns along the rows.

    Attributes:
        packed: do the rows of B lie side by side, with zeros beyond the columns?
        a, strides: where A's rows begin, and how far apart its rows and its terms lie.
    """

    e: Emitter
    spec: Contraction
    packed: bool
    a: Register
    strides: tuple[int, int]
    panel: Panel
    height: int

    def sums(self, count: Register | int, start: list[Register], asks: Asks | None = None) -> list[Register]:
        """The sums of a tile, row by row: each scalar of A times each vector of B; l in as many parts as there are asks."""
        e = self.e
        if asks is None:
            with e.fold(count, start) as state:
                state.values = self._turn(state.index, state.values)
            return state.values
        total = count if isinstance(count, Register) else e.const(count, "i64")
        step = e.binary("sdiv", plus(e, total, asks.parts - 1), e.const(asks.parts, "i64"))
        with e.fold(asks.parts, start) as part:
            asks.ask(part.index)
            first = e.binary("mul", part.index, step)
            left = e.binary("sub", total, first)
            with e.fold(e.call("llvm.smin.i64", "i64", left, step), part.values) as state:
                index = e.binary("add", first, state.index)
                state.values = self._turn(index, state.values)
            part.values = state.values
        return part.values

    def in_lanes(self, k: Register | int) -> list[Register]:
        """The sums of a tile, each shared by lanes that take the terms of l in turn."""
        e, lanes = self.e, self.spec.lanes
        zeros = self.panel.zeros(e, self.height, self.spec.scalar)
        with e.fold(over(e, k, lanes)[0], zeros * lanes) as state:
            first = e.binary("mul", state.index, e.const(lanes, "i64"))
            state.values = self._round(first, lanes, state.values)
        sums = self._last_round(k, state.values)
        while len(sums) > len(zeros):
            half = len(sums) // 2
            sums = [e.binary("fadd", x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        return sums

    def _last_round(self, k: Register | int, sums: list[Register]) -> list[Register]:
        """What whole rounds left of the terms; of a number that is not known yet, one term of one lane after the other."""
        e, lanes = self.e, self.spec.lanes
        if not isinstance(k, Register):
            return self._round(e.const(k - k % lanes, "i64"), k % lanes, sums)
        left, each = e.binary("urem", k, e.const(lanes, "i64")), len(sums) // lanes
        first, after = e.binary("sub", k, left), list(sums)
        for lane in range(lanes - 1):  # a round of all is a whole one
            own = slice(lane * each, (lane + 1) * each)
            there = e.convert("zext", e.compare("sgt", left, e.const(lane, "i64")), "i64")
            with e.fold(there, sums[own]) as state:
                state.values = self._turn(plus(e, first, lane), state.values)
            after[own] = state.values
        return after

    def _round(self, first: Register, count: int, sums: list[Register]) -> list[Register]:
        """So many terms from `first` on, each of a lane of its own; the lanes beyond stay as they are."""
        each, after = len(self.panel.columns) * self.height, list(sums)
        for lane in range(count):
            own = slice(lane * each, (lane + 1) * each)
            after[own] = self._one_term(plus(self.e, first, lane), sums[own])
        return after

    def _one_term(self, number: Register, before: list[Register]) -> list[Register]:
        """The term of this number, counted through all axes of terms."""
        e, spec, a, b = self.e, self.spec, self.a, self.panel.b
        for axis in reversed(spec.inner):
            place = e.binary("urem", number, e.const(axis.size, "i64"))
            number = e.binary("udiv", number, e.const(axis.size, "i64"))
            a = offset(e, a, place, axis.a, spec.scalar)
            b = offset(e, b, place, axis.b, spec.scalar)
        at_a = offset(e, a, number, self.strides[1], spec.scalar)
        at_b = offset(e, b, number, self.panel.strides[0], spec.scalar)
        return self._products(at_a, at_b, before)

    def _turn(self, index: Register, before: list[Register]) -> list[Register]:
        """One element of l: one term, or those along the axes inside it."""
        e, spec = self.e, self.spec
        at_a = offset(e, self.a, index, self.strides[1], spec.scalar)
        at_b = offset(e, self.panel.b, index, self.panel.strides[0], spec.scalar)
        return self._inside(spec.inner, at_a, at_b, before)

    def _inside(
        self, axes: tuple[Inner, ...], at_a: Register, at_b: Register, before: list[Register]
    ) -> list[Register]:
        """The terms along these axes, in order; the last few of them are written out one by one."""
        if not axes:
            return self._products(at_a, at_b, before)
        e, scalar, (axis, *further) = self.e, self.spec.scalar, axes

        def step(a: Register, b: Register, sums: list[Register]) -> list[Register]:
            return self._inside(tuple(further), a, b, sums)

        if math.prod(each.size for each in axes) <= _WRITTEN_OUT:
            for i in range(axis.size):
                before = step(at(e, at_a, i * axis.a, scalar), at(e, at_b, i * axis.b, scalar), before)
            return before
        with e.fold(axis.size, before) as state:
            a, b = offset(e, at_a, state.index, axis.a, scalar), offset(e, at_b, state.index, axis.b, scalar)
            state.values = step(a, b, state.values)
        return state.values

    def _products(self, at_a: Register, at_b: Register, before: list[Register]) -> list[Register]:
        """One term of every sum of a tile."""
        e, spec, panel, columns, height = self.e, self.spec, self.panel, self.panel.columns, self.height
        right = [self._vector_of_b(at_b, c) for c in columns]
        types, sums = dict.fromkeys(c.type for c in columns), []
        for r in range(height):
            left = e.load(at(e, at_a, r * self.strides[0], spec.scalar), spec.scalar, BYTES[spec.scalar])
            factors = {type: e.splat(left, lanes_of(type)) for type in types}
            for c, values in enumerate(right):
                sums.append(e.fma(factors[values.type], values, before[r * len(columns) + c]))
        if panel.rest is None:
            return sums
        along = along_rows(height, spec.scalar)
        rows = e.masked_load(at_a, along.type, along.mask)
        for c, total in enumerate(before[len(sums) :]):
            right_one = e.load(at(e, at_b, panel.rest.first + c, spec.scalar), spec.scalar, BYTES[spec.scalar])
            sums.append(e.fma(e.splat(right_one, lanes_of(along.type)), rows, total))
        return sums

    def _vector_of_b(self, at_b: Register, column: Column) -> Register:
        """Where B was packed, the lanes beyond its columns are zero and need no mask."""
        mask = None if self.packed else column.mask
        return self.e.masked_load(at(self.e, at_b, column.first, self.spec.scalar), column.type, mask)
