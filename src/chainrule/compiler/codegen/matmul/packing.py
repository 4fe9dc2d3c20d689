"""Copies of a factor's parts, so that what a tile reads lies side by side, and how a tile's loops count.

Packed, a panel of B is (l, columns) with each row made up to whole vectors by zeros, and a tile of A's rows
is (l, rows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from chainrule.compiler.codegen.emit import Emitter, Register, vector
from chainrule.compiler.codegen.matmul.transpose import (
    Column,
    at,
    emit_copy,
    emit_transpose,
    lane_mask,
    offset,
)
from chainrule.compiler.plan.target import BYTES, power_of_two_above
from chainrule.compiler.plan.tiling import (
    NEAR,
    Contraction,
    Panels,
    Tiling,
    scratch_parts,
)

Range = tuple[Register, Register]
_MANY = 64  # rows of A from which on packing B costs so little beside summing that it may call functions
AHEAD = 16  # terms of l that are copied together, and how far ahead of its use memory is asked for


def ranged(e: Emitter, limits: Range | None, first: int, count: int, body: Callable[[Register], None]) -> None:
    """body(i) for i in first, ..., first + count - 1, as far as they lie within `limits`."""
    if count == 0:
        return
    start = e.const(first, "i64")
    if limits is None:
        if count == 1:
            body(start)
            return
        with e.loop(count) as i:
            body(e.binary("add", i, start) if first else i)
        return
    low, high = within(e, limits, start, e.const(first + count, "i64"))
    with e.loop(e.binary("sub", high, low)) as i:
        body(e.binary("add", i, low))


def within(e: Emitter, limits: Range, low: Register, high: Register) -> Range:
    """What two ranges share."""
    return e.call("llvm.smax.i64", "i64", limits[0], low), e.call("llvm.smin.i64", "i64", limits[1], high)


@dataclass(frozen=True)
class TileRows:
    """Where A has its rows: packed tile by tile, or in place."""

    a: Register
    packed: bool
    first: Register  # the tile that `a` begins with, if packed


def part(e: Emitter, first: Register, step: Register, count: int, end: Register) -> Range:
    """`count` numbers from first + step on, as far as they lie before `end`."""
    start = e.binary("add", first, step)
    return start, e.call("llvm.smin.i64", "i64", e.binary("add", start, e.const(count, "i64")), end)


@dataclass(frozen=True)
class Depth:
    """A block of l: its first element and its length; the sums so far wait in scratch memory, unless it is all of l."""

    start: Register
    count: Register | int
    first: Register | None = None  # is it the first block?
    last: Register | None = None
    half: Register | None = None  # its number among the halves that l is added up in


class Packer:
    """Packs the factors of one product, if its plan says so."""

    def __init__(self, e: Emitter, spec: Contraction, chosen: Tiling, scratch: Register | None) -> None:
        self.e, self.spec, self.plan = e, spec, chosen
        self.scratch = self._divided(scratch)

    def _divided(self, scratch: Register | None) -> list[Register]:
        """Scratch memory for a panel of B, a block of A, the sums of a block of C."""
        if scratch is None:
            return []
        ends = accumulate(scratch_parts(self.spec, self.plan)[:-1], initial=0)
        return [at(self.e, scratch, elements, self.spec.scalar) for elements in ends]

    def row_tiles(self) -> list[tuple[int, int, int]]:
        """First tile, how many, of how many rows."""
        chosen = self.plan
        return [(0, chosen.large, chosen.mr), (chosen.large, chosen.small, chosen.mr - 1)]

    def first_row(self, tile: Register, rows: int) -> Register:
        row = scaled(self.e, tile, rows)
        # the small tiles follow the large ones, each one row longer
        return row if rows == self.plan.mr else plus(self.e, row, self.plan.large)

    def row_of(self, tile: Register) -> Register:
        """The first row of any tile."""
        e, chosen = self.e, self.plan
        row = scaled(e, tile, chosen.mr)
        if not chosen.small:
            return row
        beyond = e.binary("sub", tile, e.const(chosen.large, "i64"))
        return e.binary("sub", row, e.call("llvm.smax.i64", "i64", beyond, e.const(0, "i64")))

    def column_of(self, panel: Register) -> Register:
        """The first column of any panel."""
        e, chosen = self.e, self.plan
        narrow = chosen.column_panels - chosen.wide_panels
        column = scaled(e, panel, chosen.nr)
        if not narrow:
            return column
        beyond = e.binary("sub", panel, e.const(chosen.wide_panels, "i64"))
        beyond = e.call("llvm.smax.i64", "i64", beyond, e.const(0, "i64"))
        return e.binary("sub", column, scaled(e, beyond, chosen.lanes))

    def first_column(self, panels: Panels, number: Register) -> Register:
        return plus(self.e, scaled(self.e, number, panels.width), panels.column - panels.first * panels.width)

    # -- rows of A ------------------------------------------------------------------------------
    def rows_of_a(self, a: Register, tiles: Range | None, depth: Depth) -> TileRows:
        """A's rows of some tiles, copied tile by tile if the plan says so."""
        e, spec, chosen = self.e, self.spec, self.plan
        first = tiles[0] if tiles else e.const(0, "i64")
        source = offset(e, a, depth.start, spec.a_strides[1], spec.scalar)
        if not chosen.pack_a:
            return TileRows(source, False, first)
        rows = TileRows(self.scratch[1], True, first)
        if spec.a_strides[0] != 1:
            for begin, count, height in self.row_tiles():
                ranged(e, tiles, begin, count, partial(self._turn_tile, rows, source, depth, height))
            return rows
        with self._pieces(depth.count) as (start, terms):
            line = offset(e, source, start, spec.a_strides[1], spec.scalar)
            for begin, count, height in self.row_tiles():
                ranged(e, tiles, begin, count, partial(self._copy_tile, rows, line, start, terms, height))
        return rows

    def packed_tile(self, rows: TileRows, number: Register) -> Register:
        size = self.plan.kc * self.plan.mr
        return offset(self.e, rows.a, self.e.binary("sub", number, rows.first), size, self.spec.scalar)

    def _turn_tile(self, rows: TileRows, source: Register, depth: Depth, height: int, number: Register) -> None:
        """A tile's rows, contiguous along l: transposed."""
        e, spec = self.e, self.spec
        source = offset(e, source, self.first_row(number, height), spec.a_strides[0], spec.scalar)
        count = depth.count if isinstance(depth.count, Register) else None
        place, lanes = self.packed_tile(rows, number), self.plan.lanes
        ahead = lanes if self.plan.blocked else height * spec.a_strides[0]
        cols = 0 if self.plan.halves else spec.k
        emit_transpose(e, height, cols, spec.scalar, source, spec.a_strides, place, lanes, None, count, ahead)

    def _copy_tile(
        self, rows: TileRows, line: Register, start: Register, count: Register | int, height: int, number: Register
    ) -> None:
        """Some terms of l for a tile's rows, which lie side by side."""
        e, spec = self.e, self.spec
        place = offset(e, self.packed_tile(rows, number), start, height, spec.scalar)
        source = e.address(line, self.first_row(number, height), spec.scalar)
        parts = columns(height, self.plan.lanes, spec.scalar)
        emit_copy(e, count, parts, spec.scalar, source, spec.a_strides[1], place, height, AHEAD)

    # -- columns of B ---------------------------------------------------------------------------
    def panel_of_b(self, panels: Panels, source: Register, count: Register | int, place: Register) -> int:
        """A panel of B as rows of whole vectors: how far the rows lie apart."""
        e, spec, lanes = self.e, self.spec, self.plan.lanes
        width = panels.width
        wide = -(-width // lanes) * lanes
        if spec.b_strides[1] == 1:
            parts = padded(width, lanes, spec.scalar)
            emit_copy(e, count, parts, spec.scalar, source, spec.b_strides[0], place, wide, AHEAD * self.plan.blocked)
        else:
            transposed = spec.b_strides[::-1]
            some = count if isinstance(count, Register) else None
            cols = 0 if self.plan.halves else spec.k
            # where the whole panel was asked for before, only the step into the nearest cache is left
            far = spec.n * spec.k * BYTES[spec.scalar] > NEAR
            ahead = lanes if self.plan.blocked else width * transposed[0] * far
            emit_transpose(
                e, width, cols, spec.scalar, source, transposed, place, lanes, wide, some, ahead, spec.m >= _MANY
            )
        return wide

    @contextmanager
    def _pieces(self, count: Register | int) -> Iterator[tuple[Register, Register]]:
        """l in pieces so short that what is read and what is written stays near."""
        e = self.e
        total = count if isinstance(count, Register) else e.const(count, "i64")
        with e.loop(count, AHEAD) as start:
            yield start, e.call("llvm.smin.i64", "i64", e.binary("sub", total, start), e.const(AHEAD, "i64"))


def columns(width: int, lanes: int, scalar: str) -> list[Column]:
    """Vectors for `width` columns; the last as narrow as it can be, masked if it is still too wide."""
    parts = []
    for first in range(0, width, lanes):
        left = min(lanes, width - first)
        wide = power_of_two_above(left)
        parts.append(Column(first, vector(scalar, wide), lane_mask(left, wide)))
    return parts


def padded(width: int, lanes: int, scalar: str) -> list[Column]:
    """Whole vectors for `width` columns; the last one masked if they do not fill it."""
    type = vector(scalar, lanes)
    return [Column(f, type, lane_mask(min(lanes, width - f), lanes)) for f in range(0, width, lanes)]


def scaled(e: Emitter, index: Register, factor: int) -> Register:
    return index if factor == 1 else e.binary("mul", index, e.const(factor, "i64"))


def plus(e: Emitter, index: Register, more: int) -> Register:
    return index if more == 0 else e.binary("add", index, e.const(more, "i64"))
