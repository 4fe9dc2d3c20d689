"""Writes a nest as it stands: each statement where it is, each loop in the way it names. Nothing is decided here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from chainrule.compiler.codegen.body import Body
from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.halves import Halves, over
from chainrule.compiler.codegen.matmul.transpose import first_lanes, lane_mask
from chainrule.compiler.codegen.reductions import PlainFold, fold_of
from chainrule.compiler.plan.target import MEMORY
from chainrule.compiler.schedule.index import Var
from chainrule.compiler.schedule.kernels import Reduce, Store
from chainrule.compiler.schedule.loops import (
    Accumulate,
    Alloc,
    Bind,
    Block,
    Combine,
    For,
    Let,
    Statement,
    Way,
)

SCRATCH = Register("%scratch", "ptr")
FIRST, LAST = Register("%first", "i64"), Register("%last", "i64")  # the units of a shared loop that are this thread's


class NestWriter:
    """Writes statements, each for one iteration of the loops around it (or a vector of them): a `Body`."""

    def __init__(self, e: Emitter) -> None:
        self.e = e
        self.carried: list[Register] = []  # by the loops that are being written: sums so far
        self.sum = 0  # which of several sums takes the next term
        # The first row, and how many, of the leaf that is added up.
        self.leaf: tuple[Register, Register | int] | None = None

    def block(self, block: Block, body: Body) -> None:
        for statement in block:
            self.statement(statement, body)

    def statement(self, statement: Statement, body: Body) -> None:
        if isinstance(statement, For):
            self._for(statement, body)
        elif isinstance(statement, Bind):
            body.indices[statement.var] = body.index(statement.index, lanes=False)
        elif isinstance(statement, Let):  # a load that nobody needs costs nothing: LLVM drops it
            body.done[id(statement.value)] = body.value(statement.load or statement.value)
        elif isinstance(statement, Store):
            body.store(statement)
        elif isinstance(statement, Accumulate):
            self._accumulate(statement, body)
        elif isinstance(statement, Combine):
            self._combine(statement, body)
        elif isinstance(statement, Alloc):
            self._alloc(statement, body)
        else:
            raise TypeError(f"no way to write {statement!r} here; this is a bug in chainrule")

    def _alloc(self, statement: Alloc, body: Body) -> None:
        room, offset = statement.room, statement.offset
        if offset is None:
            found = self.e.local(MEMORY[room.dtype], math.prod(room.shape))
        else:
            found = self.e.address(SCRATCH, self.e.const(offset, "i64"), "i8")
        body.pointers.rooms[room] = found

    # -- loops --------------------------------------------------------------------------------
    def _for(self, loop: For, body: Body) -> None:
        if loop.way is Way.UNROLLED:
            for first in range(loop.begin, loop.end, loop.lanes):
                count = min(loop.lanes, loop.end - first)
                self.block(loop.body, body.part(loop.var, self.e.const(first, "i64"), *_lanes(loop, count, body)))
        elif loop.by_leaf:
            self._by_leaf(loop, body)
        elif loop.is_one_turn:
            with self._only_if_mine(loop):
                self._turn(loop, body, self.e.const(loop.begin, "i64"), loop.count)
        else:
            with self._turns(loop) as index:
                self._turn(loop, body, index, loop.lanes)

    def _turn(self, loop: For, body: Body, index: Register, count: int) -> None:
        """One turn of a loop: so many iterations from `index` on."""
        if loop.way is not Way.DEALT:
            at = {loop.var: index, **{var: self.e.const(0, "i64") for var in loop.joined}}
            self.block(loop.body, body.inside(at, *_lanes(loop, count, body)))
            return
        places = [self.e.binary("add", index, self.e.const(lane, "i64")) for lane in range(count)]
        for number, place in enumerate(places):
            self.sum = number
            self.block(loop.body, body.inside({loop.var: place}, body.lanes, body.along, body.mask))
        self.sum = 0

    @contextmanager
    def _turns(self, loop: For) -> Iterator[Register]:
        """The turns of a loop, or those that are this thread's, with the sums that it carries."""
        e = self.e
        if loop.unit:
            stop = (
                LAST if loop.lanes == 1 else e.call("llvm.smin.i64", "i64", LAST, e.const(loop.end // loop.unit, "i64"))
            )
            with e.loop(e.binary("sub", stop, FIRST)) as step:
                unit = e.binary("add", FIRST, step)
                yield unit if loop.lanes == 1 else e.binary("mul", unit, e.const(loop.unit, "i64"))
            return
        with self._carrying(loop.end, loop.lanes) as index:
            yield index

    @contextmanager
    def _carrying(self, count: Register | int, step: int = 1) -> Iterator[Register]:
        """A loop with the sums that it carries."""
        with self.e.fold(count, self.carried, step) as state:
            self.carried = list(state.values)
            yield state.index
            state.values = self.carried
        self.carried = list(state.values)

    def _by_leaf(self, loop: For, body: Body) -> None:
        """The rows of one leaf: whole turns, and what they leave."""
        if self.leaf is None:
            raise TypeError("a loop goes by leaf outside of a fold that does; this is a bug in chainrule")
        e, (first, count) = self.e, self.leaf
        whole, left = over(e, count, loop.lanes)
        with self._carrying(whole) as turn:
            start = e.binary("mul", turn, e.const(loop.lanes, "i64"))
            self._turn(loop, body, e.binary("add", first, start), loop.lanes)
        if loop.lanes == 1 or left == 0:
            return
        whole, left = (x if isinstance(x, Register) else e.const(x, "i64") for x in (whole, left))
        place = e.binary("add", first, e.binary("mul", whole, e.const(loop.lanes, "i64")))
        with self._carrying(e.call("llvm.smin.i64", "i64", left, e.const(1, "i64"))):
            mask = first_lanes(e, left, loop.lanes)
            self.block(loop.body, body.inside({loop.var: place}, loop.lanes, loop.var, mask))

    @contextmanager
    def _only_if_mine(self, loop: For) -> Iterator[None]:
        """What is left of a shared loop is its last unit: one thread's."""
        if not loop.unit:
            yield
            return
        e, (then, other) = self.e, (self.e.fresh("then"), self.e.fresh("other"))
        e.branch(e.compare("sgt", LAST, e.const(loop.begin // loop.unit, "i64")), then, other)
        e.label(then)
        yield
        e.jump(other)
        e.label(other)

    # -- folds --------------------------------------------------------------------------------
    def _accumulate(self, statement: Accumulate, body: Body) -> None:
        """A fold, leaf by leaf if it is cut so."""
        core = statement.core
        halved = core.halved if isinstance(core, Reduce) else None
        if halved is None:
            body.done[id(core.result)] = self._folded(statement, body)
            return
        halves, around = Halves(self.e, halved.size), self.leaf

        def part(leaf: Register, first: Register, count: Register | int) -> list[Register]:
            self.leaf = first, count
            return [self._folded(statement, body)]

        zeros = fold_of(core).start(self.e, body.lanes)
        (body.done[id(core.result)],) = halves.total(zeros, part)
        self.leaf = around

    def _folded(self, statement: Accumulate, body: Body) -> Register:
        """The loops of a fold around its terms; its sums, if there are several, become one in halves."""
        e, fold, lanes = self.e, fold_of(statement.core), max(statement.across, body.lanes)
        around, self.carried = self.carried, fold.start(e, lanes) * statement.sums
        self.block(statement.body, body)
        sums, self.carried = self.carried, around
        if isinstance(fold, PlainFold) and statement.sums > 1:
            sums = [fold.halved(e, lanes, sums)]
        if isinstance(fold, PlainFold) and statement.across > 1:
            sums = [fold.horizontal(e, sums[0])]
        return sums[-1]

    def _combine(self, statement: Combine, body: Body) -> None:
        fold = fold_of(statement.core)
        first = self.sum * fold.width
        own = slice(first, first + fold.width)
        self.carried[own] = fold.step(body, self.carried[own])


def _lanes(loop: For, count: int, body: Body) -> tuple[int, Var | None, Register | None]:
    """Lanes, the loop they lie along and the mask of an iteration of `loop`, `count` of whose lanes exist."""
    if loop.in_register:
        return loop.lanes, loop.var, lane_mask(count, loop.lanes)
    return body.lanes, body.along, body.mask
