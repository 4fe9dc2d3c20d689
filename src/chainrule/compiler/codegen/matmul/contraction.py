"""Matrix products as register-tiled micro-kernels with explicit vectors.

C[i, j] = sum over l of A[i, l] B[l, j], for shapes and strides known when the kernel is written. A tile of
C, some rows by some vectors of columns, stays in registers while l runs; A is read one scalar at a time and
broadcast, B a vector at a time. Every sum runs over l in one order, whatever the tile, the block and the
thread: where l is cut into blocks, a tile's sums wait in memory, exactly as they are, for the next block.

Where B's columns are not contiguous, or its rows lie so far apart that they share cache sets, the panel of
B under a tile's columns is first copied side by side into scratch memory that the caller gives, and so for
the rows of A. What is copied next comes from far off: the tiles ask for it while they sum (see `prefetch`). How a
product is cut up is decided in `plan.tiling`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.halves import Halves, Some
from chainrule.compiler.codegen.matmul.broadcast_tile import BroadcastTile, Panel, Rest
from chainrule.compiler.codegen.matmul.dot_tile import dot_tile
from chainrule.compiler.codegen.matmul.finish import Epilogue, Finish, along_rows
from chainrule.compiler.codegen.matmul.packing import (
    Depth,
    Packer,
    Range,
    TileRows,
    columns,
    padded,
    part,
    plus,
    ranged,
    scaled,
)
from chainrule.compiler.codegen.matmul.prefetch import Ahead, Asks, Coming, Corner, Lines, Places, Touch
from chainrule.compiler.codegen.matmul.transpose import (
    Column,
    at,
    offset,
)
from chainrule.compiler.codegen.matmul.transposing_tile import transposing_tile
from chainrule.compiler.plan.target import BYTES
from chainrule.compiler.plan.tiling import (
    Contraction,
    Panels,
    Tiling,
    plan,
    scratch_elements,
    scratch_parts,
    waiting_sums,
)

__all__ = ["Contraction", "Tiling", "emit_contraction", "plan", "scratch_elements"]

# emitter, row, first column, type and mask of the vector: what its sums begin with
Prologue = Callable[[Emitter, Register, Register, str, "Register | None"], Register]


def emit_contraction(
    e: Emitter,
    spec: Contraction,
    chosen: Tiling,
    a: Register,
    b: Register,
    epilogue: Epilogue,
    scratch: Register | None = None,
    rows: Range | None = None,
    columns: Range | None = None,
    touch: Touch | None = None,
    prologue: Prologue | None = None,
) -> None:
    """Write the loops of one product, cut up as was chosen; `epilogue` transforms and stores each vector of C.

    `prologue` gives what a vector of sums begins with, of a plan that is made for it (`Contraction.carried`).

    `scratch` has room for `scratch_elements`. `rows` and `columns` limit the work to a range of the
    plan's row tiles and of its panels: so threads share a product, and no sum depends on how they do.
    """
    needed = sum(scratch_parts(spec, chosen))
    if scratch is None and needed:
        raise ValueError(f"{spec} needs scratch memory of {needed} elements")
    if chosen.transposed:
        spec, a, b = spec.swapped(), b, a
    kernel = _Kernel(e, spec, chosen, a, b, epilogue, scratch, touch, prologue)
    (kernel.in_blocks if chosen.blocked else kernel.in_panels)(rows, columns)


class _Kernel:
    """The loops over tiles, and the tile itself."""

    def __init__(
        self,
        e: Emitter,
        spec: Contraction,
        chosen: Tiling,
        a: Register,
        b: Register,
        epilogue: Epilogue,
        scratch: Register | None,
        touch: Touch | None = None,
        prologue: Prologue | None = None,
    ) -> None:
        self.prologue = prologue
        self.e, self.spec, self.plan, self.a, self.b = e, spec, chosen, a, b
        self.ahead = None
        if touch is not None and chosen.ahead and not chosen.transposed:
            self.ahead = Ahead(e, spec, chosen, touch)
        self.packer = Packer(e, spec, chosen, scratch)
        self.halves, self.blocks = Halves(e, spec.k), Halves(e, spec.k, chosen.halves)
        self.finish = Finish(e, spec, chosen, epilogue)

    # -- the order of work ----------------------------------------------------------------------
    def in_panels(self, tiles: Range | None, panels: Range | None) -> None:
        """Panel by panel, each over all rows."""
        depth = Depth(self.e.const(0, "i64"), self.spec.k)
        rows = self.packer.rows_of_a(self.a, tiles, depth)
        for kind in self.plan.widths:

            def panel(number: Register, kind: Panels = kind) -> None:
                self.panel(kind, number, rows, tiles, depth, None)

            ranged(self.e, panels, kind.first, kind.count, panel)

    def in_blocks(self, tiles: Range | None, panels: Range | None) -> None:
        """Block by block: for each group of rows, some panels together, through all of l."""
        e, chosen = self.e, self.plan
        zero = e.const(0, "i64")
        top, bottom = tiles or (zero, e.const(chosen.row_tiles, "i64"))
        left, right = panels or (zero, e.const(chosen.column_panels, "i64"))

        with e.loop(e.binary("sub", bottom, top), chosen.tiles) as down:
            rows = part(e, top, down, chosen.tiles, bottom)
            with e.loop(e.binary("sub", right, left), chosen.together) as across:
                self._block(rows, part(e, left, across, chosen.together, right), (left, right))

    def _block(self, tiles: Range, panels: Range, all_panels: Range) -> None:
        """One block of C, through all blocks of l."""
        with self._depths() as depth:
            asks = not self.spec.inner  # terms along several axes lie in too many places to be asked for
            after = self._after(tiles, panels, all_panels, depth) if asks else None
            rows_coming = self._next_rows(panels, after) if after else None
            rows = self.packer.rows_of_a(self.a, tiles, depth)
            for kind in self.plan.widths:

                def panel(number: Register, kind: Panels = kind) -> None:
                    panel_coming = self._next_panel(number, panels, depth.start, after) if after else None
                    coming = [each for each in (rows_coming, panel_coming) if each]
                    self.panel(kind, number, rows, tiles, depth, panels[0], coming)

                ranged(self.e, panels, kind.first, kind.count, panel)

    @contextmanager
    def _depths(self) -> Iterator[Depth]:
        """The blocks of l, one after the other: of equal depth, or of whole leaves."""
        e, k, chosen = self.e, self.spec.k, self.plan
        if chosen.halves:
            with e.loop(len(self.blocks.parts)) as half:
                start, first = self.blocks.start(half), e.compare("eq", half, e.const(0, "i64"))
                count = e.binary("sub", self.blocks.end(half), start)
                yield Depth(start, count, first, self.blocks.is_last(half), half)
            return
        with e.loop(k, chosen.kc) as start:
            left = e.binary("sub", e.const(k, "i64"), start)
            count = e.call("llvm.smin.i64", "i64", left, e.const(chosen.kc, "i64"))
            first, last = e.compare("eq", start, e.const(0, "i64")), e.compare("eq", count, left)
            yield Depth(start, count, first, last) if chosen.kc < k else Depth(start, k)

    def _after(self, tiles: Range, panels: Range, all_panels: Range, depth: Depth) -> Corner:
        """Where the work goes on after a block: deeper, then to the right, then down."""
        e = self.e
        last = e.const(True, "i1") if depth.last is None else depth.last
        deeper = e.binary("add", depth.start, e.const(self.plan.kc, "i64"))
        on = e.compare("slt", panels[1], all_panels[1])
        right = e.select(on, panels[1], all_panels[0])
        down = e.select(on, tiles[0], tiles[1])
        return Corner(
            e.select(last, down, tiles[0]),
            e.select(last, right, panels[0]),
            e.select(last, e.const(0, "i64"), deeper),
        )

    def _next_rows(self, panels: Range, after: Corner) -> Coming:
        """The next block of A, wanted when all panels of this block are done."""
        e, spec, chosen = self.e, self.spec, self.plan
        start = offset(e, self.a, self.packer.row_of(after.tile), spec.a_strides[0], spec.scalar)
        start = offset(e, start, after.start, spec.a_strides[1], spec.scalar)
        extents = min(spec.m, chosen.tiles * chosen.mr), chosen.kc
        lines = Lines.of(start, extents, spec.a_strides, BYTES[spec.scalar])
        return Coming(e, spec, chosen, lines, chosen.together, panels[0])

    def _next_panel(self, number: Register, panels: Range, start: Register, after: Corner) -> Coming:
        """The next panel of B, wanted when this one is done."""
        e, spec, chosen = self.e, self.spec, self.plan
        beside = plus(e, number, 1)
        on = e.compare("slt", beside, panels[1])
        panel, start = e.select(on, beside, after.panel), e.select(on, start, after.start)
        place = offset(e, self.b, self.packer.column_of(panel), spec.b_strides[1], spec.scalar)
        place = offset(e, place, start, spec.b_strides[0], spec.scalar)
        lines = Lines.of(place, (chosen.kc, chosen.nr), spec.b_strides, BYTES[spec.scalar])
        return Coming(e, spec, chosen, lines, 1, number)

    # -- a panel, a tile ------------------------------------------------------------------------
    def panel(
        self,
        panels: Panels,
        number: Register,
        rows: TileRows,
        tiles: Range | None,
        depth: Depth,
        first: Register | None,
        coming: Sequence[Coming] = (),
    ) -> None:
        """The row tiles of one panel of columns; the panel of B packed first if the plan says so and it is not yet."""
        e, spec, chosen = self.e, self.spec, self.plan
        column = self.packer.first_column(panels, number)
        lanes = panels.width if chosen.dot else chosen.lanes
        whole = panels.width - panels.rest
        parts = (padded if chosen.transposes_b else columns)(whole, lanes, spec.scalar)
        source, strides = offset(e, self.b, depth.start, spec.b_strides[0], spec.scalar), spec.b_strides
        source = offset(e, source, column, spec.b_strides[1], spec.scalar)
        rest = Rest(whole, panels.rest) if panels.rest else None
        if chosen.pack:
            wide = self.packer.panel_of_b(panels, source, depth.count, self.packer.scratch[0])
            source, strides = self.packer.scratch[0], (wide, 1)
        panel = Panel(number, e.opaque(source), strides, e.opaque(column), parts, rest)
        place = e.binary("sub", number, first) if first is not None else number
        for begin, count, height in self.packer.row_tiles():
            ranged(e, tiles, begin, count, partial(self.tile, panel, place, rows, depth, coming, height))

    def tile(
        self,
        panel: Panel,
        place: Register,
        rows: TileRows,
        depth: Depth,
        coming: Sequence[Coming],
        height: int,
        number: Register,
    ) -> None:
        e, spec, chosen = self.e, self.spec, self.plan
        row = self.packer.first_row(number, height)
        if rows.packed:
            a, strides = self.packer.packed_tile(rows, number), (1, height)
        else:
            a, strides = offset(e, rows.a, row, spec.a_strides[0], spec.scalar), spec.a_strides
        a, row = e.opaque(a), e.opaque(row)
        asks = [(each, each.of_tile(panel.number, e.binary("sub", number, rows.first))) for each in coming]
        if spec.halved:
            self._tile_in_halves(panel, place, row, (a, strides, height), rows, depth, asks, number)
            return
        if chosen.dot:
            sums = dot_tile(e, spec.k, chosen.lanes, spec.scalar, (a, strides[0], height), panel.operand)
            self.finish.tile(row, panel.column, panel.columns, height, sums)
            return
        if chosen.transposes_b:
            rows_of_a, of_b = (a, strides, height), (panel.b, panel.strides[1])
            sums = transposing_tile(e, spec.k, chosen.lanes, spec.scalar, rows_of_a, of_b, panel.columns)
            self.finish.tile(row, panel.column, panel.columns, height, sums)
            return
        if spec.lanes > 1:
            sums = self._broadcast(a, strides, panel, height).in_lanes(spec.terms)
            self.finish.tile(row, panel.column, panel.columns, height, sums)
            return
        if depth.first is None or depth.last is None:
            start = self._begin(row, panel, height)
            asking = self._asking(panel, row, asks, None, None)
            sums = self._broadcast(a, strides, panel, height).sums(depth.count, start, asking and Asks(asking, height))
            self._finish_tile(row, panel, height, sums)
            return
        waiting = self._place_of_sums(place, rows, number)
        start = self._resume(waiting, depth.first, panel.columns, height)
        asking = self._asking(panel, row, asks, waiting, depth.last)
        sums = self._broadcast(a, strides, panel, height).sums(depth.count, start, asking and Asks(asking, height))
        done, more, end = map(e.fresh, ("done", "more", "end"))
        e.branch(depth.last, done, more)
        e.label(more)
        for room, value in zip(self._waiting(waiting, panel.columns, height), sums, strict=True):
            e.store(value, room, BYTES[spec.scalar])
        e.jump(end)
        e.label(done)
        self.finish.tile(row, panel.column, panel.columns, height, sums)
        e.jump(end)
        e.label(end)

    def _broadcast(self, a: Register, strides: tuple[int, int], panel: Panel, height: int) -> BroadcastTile:
        return BroadcastTile(self.e, self.spec, self.plan.pack, a, strides, panel, height)

    def _begin(self, row: Register, panel: Panel, height: int) -> list[Register]:
        """What the sums of a tile begin with: zeros, or what the prologue gives."""
        e, prologue = self.e, self.prologue
        if prologue is None:
            return panel.zeros(e, height, self.spec.scalar)
        begun = [
            prologue(e, plus(e, row, r), plus(e, panel.column, c.first), c.type, c.mask)
            for r in range(height)
            for c in panel.columns
        ]
        return begun + panel.zeros(e, height, self.spec.scalar)[len(begun) :]

    def _tile_in_halves(
        self, panel: Panel, place: Register, row: Register, a: tuple[Register, tuple[int, int], int], rows: TileRows, depth: Depth,
        asks: list[tuple[Coming, Places]], number: Register,
    ) -> None:  # fmt: skip
        """A tile whose l are the rows of a batch: a leaf at a time; from block to block their totals wait."""
        e, half, height, zeros = self.e, depth.half, a[2], panel.zeros(self.e, a[2], self.spec.scalar)
        if half is None or depth.last is None:
            asking = self._asking(panel, row, asks, None, None)
            sums = self.halves.total(zeros, lambda leaf, first, count: self._sums_of_leaf(
                a, panel, first, count, self._asks_of_leaf(asking, leaf, height)))  # fmt: skip
            self._finish_tile(row, panel, height, sums)
            return
        waiting, (opening, behind) = self._place_of_sums(place, rows, number), self.blocks.leaves(half)
        asking = self._asking(panel, row, asks, self.blocks.place(waiting, half, zeros), depth.last)

        def sums_of(leaf: Register, first: Register, count: Register | int) -> list[Register]:
            leaf, first = e.binary("sub", leaf, opening), e.binary("sub", first, depth.start)
            return self._sums_of_leaf(a, panel, first, count, self._asks_of_leaf(asking, leaf, height))

        if self.blocks.parts == self.halves.parts:  # a block is a leaf
            sums = sums_of(opening, depth.start, self.halves.size or depth.count)
            sums = self.blocks.joined(waiting, half, sums)
        else:
            sums = self.halves.total(zeros, sums_of, Some(opening, behind, waiting))
        done, end = e.fresh("done"), e.fresh("end")
        e.branch(depth.last, done, end)
        e.label(done)
        self._finish_tile(row, panel, height, sums)
        e.jump(end)
        e.label(end)

    def _asks_of_leaf(self, asking: Callable[[Register], None] | None, leaf: Register, height: int) -> Asks | None:
        """What a tile does at each of its rows, for those that fall to a leaf; the last row may be asked for again."""
        if asking is None:
            return None
        e, parts = self.e, -(-height * len(self.blocks.parts) // len(self.halves.parts))
        first = scaled(e, leaf, parts)

        def ask(part: Register) -> None:
            row = e.binary("add", first, part)
            asking(e.call("llvm.smin.i64", "i64", row, e.const(height - 1, "i64")))

        return Asks(ask, parts)

    def _sums_of_leaf(
        self, a: tuple[Register, tuple[int, int], int], panel: Panel, first: Register, count: Register | int,
        asks: Asks | None,
    ) -> list[Register]:  # fmt: skip
        """The sums of a tile over some of l."""
        e, spec = self.e, self.spec
        (left, strides, height), right = a, panel.strides[0]
        left = e.opaque(offset(e, left, first, strides[1], spec.scalar))
        panel = replace(panel, b=e.opaque(offset(e, panel.b, first, right, spec.scalar)))
        if self.plan.dot:
            return dot_tile(e, count, self.plan.lanes, spec.scalar, (left, strides[0], height), panel.operand)
        if spec.lanes > 1:
            return self._broadcast(left, strides, panel, height).in_lanes(count)
        zeros = panel.zeros(e, height, spec.scalar)
        return self._broadcast(left, strides, panel, height).sums(count, zeros, asks)

    def _place_of_sums(self, place: Register, rows: TileRows, number: Register) -> Register:
        """Where the sums of a tile wait for the next block of l."""
        e, chosen = self.e, self.plan
        index = e.binary("add", scaled(e, place, chosen.tiles), e.binary("sub", number, rows.first))
        return e.opaque(offset(e, self.packer.scratch[2], index, waiting_sums(self.spec, chosen), self.spec.scalar))

    def _asking(
        self,
        panel: Panel,
        row: Register,
        asks: list[tuple[Coming, Places]],
        waiting: Register | None,
        last: Register | None,
    ) -> Callable[[Register], None] | None:
        """What a tile does at each of its rows, beside summing."""
        e, ahead = self.e, self.ahead
        if ahead is None and not asks:
            return None

        def ask(index: Register) -> None:
            for coming, places in asks:
                coming.ask(places, index)
            if ahead is None:
                return
            if waiting is None or last is None:
                ahead.results(e.opaque(e.binary("add", row, index)), panel.column, panel.columns)
                return
            ahead.sums(waiting, index, panel.columns)
            then, other = e.fresh("then"), e.fresh("other")
            e.branch(last, then, other)
            e.label(then)
            ahead.results(e.opaque(e.binary("add", row, index)), panel.column, panel.columns)
            e.jump(other)
            e.label(other)

        return ask

    def _waiting(self, room: Register, columns: list[Column], height: int) -> list[Register]:
        """Where a tile's sums wait for the next block of l."""
        lanes = self.plan.lanes
        count = len(columns)
        return [at(self.e, room, i * lanes, self.spec.scalar) for i in range(height * count)]

    def _resume(self, room: Register, first: Register, columns: list[Column], height: int) -> list[Register]:
        """Zeros at the first block of l, later the sums so far."""
        e = self.e
        types = [c.type for c in columns] * height
        before, load, go = e.block, e.fresh("resume"), e.fresh("go")
        e.branch(first, go, load)
        e.label(load)
        places = self._waiting(room, columns, height)
        saved = [e.load(place, type, BYTES[self.spec.scalar]) for place, type in zip(places, types, strict=True)]
        e.jump(go)
        e.label(go)
        zeros = [e.const(0.0, type) for type in types]
        return [e.phi((zero, before), (value, load)) for zero, value in zip(zeros, saved, strict=True)]

    # -- the epilogue ---------------------------------------------------------------------------
    def _finish_tile(self, row: Register, panel: Panel, height: int, sums: list[Register]) -> None:
        """What follows on a tile's sums, those of columns along its rows last."""
        whole = height * len(panel.columns)
        self.finish.tile(row, panel.column, panel.columns, height, sums[:whole])
        if panel.rest is not None:
            along = along_rows(height, self.spec.scalar)
            self.finish.transposed(plus(self.e, panel.column, panel.rest.first), row, along, sums[whole:])
