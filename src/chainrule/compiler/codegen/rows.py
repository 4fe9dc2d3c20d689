"""Kernels over rows: several folds over each row, then stores, with the row read from memory once.

Three ways to go over the rows, by their length:

side by side   short rows, many of them: each lane has a row of its own, the row's elements follow one another
held           a few vectors: the row stays in registers from the first fold to the last store
streamed       longer: each fold is a loop over the row, which stays in the cache; what costs more to compute
               again than to read is kept in a small buffer between the loops
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from chainrule.compiler.codegen.body import Body
from chainrule.compiler.codegen.emit import Emitter, vector
from chainrule.compiler.codegen.emit import Value as Register
from chainrule.compiler.codegen.matmul.transpose import lane_mask
from chainrule.compiler.codegen.reductions import PlainFold
from chainrule.compiler.plan.target import REGISTER
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Compute, Reduce, Store, Value, walk
from chainrule.compiler.schedule.materialize import RECOMPUTE
from chainrule.dtypes import bool_

BUFFER = 1 << 15  # bytes of a row's values that are kept between its loops: what the first-level cache has room for


class RowBody(Body):
    """A part of a row; what is one value for the whole row is computed by the body around it."""

    def __init__(
        self, outer: Body, row: frozenset[Var], indices: dict[Var, Register], lanes: int, along: Var | None,
        mask: Register | None,
    ) -> None:  # fmt: skip
        super().__init__(outer.e, outer.arguments, {**outer.indices, **indices}, lanes, along, mask)
        self.outer, self.row = outer, row

    def value(self, value: Value) -> Register:
        return super().value(value) if value.vars() & self.row else self.outer.value(value)

    def _compute(self, value: Value) -> Register:
        return super()._compute(value) if value.vars() & self.row else self.outer.value(value)


@dataclass
class Row:
    """What happens to each row: folds, then stores; `along` is the loop over neighbours."""

    dims: tuple[Var, ...]
    stages: list[Reduce]
    stores: list[Store]
    row: frozenset[Var] = field(init=False)

    def __post_init__(self) -> None:
        self.row = frozenset(self.dims)

    @property
    def elements(self) -> int:
        return math.prod(var.size for var in self.dims)

    def writes_row(self, store: Store) -> bool:
        return bool(store.index.vars() & self.row)

    def of_row(self, outer: Body, roots: Sequence[Value]) -> None:
        """Compute now what the roots need once for the row, outside the loops over it."""
        stack = list(roots)
        seen: set[int] = set()
        while stack:
            value = stack.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if value.vars() & self.row:
                stack.extend(value.parts())
            else:
                outer.value(value)

    # -- held: every part of the row has a body that lasts ----------------------------------------
    def finish_held(self, outer: Body, parts: Sequence[Body], across: bool) -> None:
        """The folds over parts that stay in registers, and the stores; `across`: lanes belong to one row."""
        for stage in self.stages:
            self.of_row(outer, [stage.value])
            outer.done[id(stage.result)] = _fold_held(PlainFold(stage), outer.e, parts, across)
        for store in self.stores:
            for body in parts if self.writes_row(store) else [outer]:
                body.value(store.value)
        for store in self.stores:
            for body in parts if self.writes_row(store) else [outer]:
                body.store(store)


def _fold_held(fold: PlainFold, e: Emitter, parts: Sequence[Body], across: bool) -> Register:
    total = fold.start(e, parts[0].lanes)
    for body in parts:
        total = fold.step(body, total)
    return fold.horizontal(e, total[0]) if across else total[0]


def side_by_side(row: Row, outer: Body) -> None:
    """One row a lane: the elements of the rows come one after the other."""
    e = outer.e
    places = product(*(range(var.size) for var in row.dims))
    parts = [
        RowBody(
            outer, row.row, {var: e.const(i, "i64") for var, i in zip(row.dims, at, strict=True)},
            outer.lanes, outer.along, outer.mask,
        )
        for at in places
    ]  # fmt: skip
    row.finish_held(outer, parts, across=False)


def held(row: Row, outer: Body, lanes: int) -> None:
    """One row in a few vectors."""
    (along,), e = row.dims, outer.e
    parts: list[Body] = []
    for first in range(0, along.size, lanes):
        count = min(lanes, along.size - first)
        wide = lanes if first else 1 << (count - 1).bit_length()
        at = {along: e.const(first, "i64")}
        parts.append(RowBody(outer, row.row, at, wide, along, lane_mask(count, wide)))
    row.finish_held(outer, parts, across=True)


# -- streamed: a loop over the row for each fold ---------------------------------------------------

Step = Callable[[Body, list[Register]], list[Register]]


class Streamed:
    """The loops over one row: neighbours along its last axis, whole vectors and then a masked one."""

    def __init__(self, row: Row, outer: Body, lanes: int) -> None:
        self.row, self.outer, self.lanes, self.e = row, outer, lanes, outer.e
        self.saved: list[tuple[Value, Register]] = []  # and the buffer where its row lies

    def write(self) -> None:
        row, outer = self.row, self.outer
        for stage, keep in zip(row.stages, to_save(row), strict=True):
            row.of_row(outer, [stage.value])
            fold = PlainFold(stage)
            rooms = [(v, self.e.local(REGISTER[v.dtype], row.elements)) for v in keep]
            totals = self._sweep(partial(fold.start, self.e), self._folding(fold, rooms))
            outer.done[id(stage.result)] = fold.horizontal(self.e, totals[0])
            self.saved += rooms
        self._stores()

    def _folding(self, fold: PlainFold, rooms: list[tuple[Value, Register]]) -> Step:
        def step(body: Body, values: list[Register]) -> list[Register]:
            values = fold.step(body, values)
            for value, room in rooms:
                address = self._in_buffer(body, value, room)
                self.e.masked_store(body.spread(body.value(value)), address, body.mask)
            return values

        return step

    def _stores(self) -> None:
        """All values of a part before any of its stores, and those of the whole row before all."""
        whole = [store for store in self.row.stores if self.row.writes_row(store)]
        once = [store for store in self.row.stores if not self.row.writes_row(store)]
        self.row.of_row(self.outer, [store.value for store in self.row.stores])

        def write(body: Body, values: list[Register]) -> list[Register]:
            for store in whole:
                body.value(store.value)
            for store in whole:
                body.store(store)
            return values

        if whole:
            self._sweep(lambda lanes: [], write)
        for store in once:
            self.outer.store(store)

    def _sweep(self, start: Callable[[int], list[Register]], step: Step) -> list[Register]:
        """`step` over every part of the row, the last masked if it is ragged; gives what it carried through them."""
        whole, left = divmod(self.row.dims[-1].size, self.lanes)
        wide = self.lanes if whole else 1 << (left - 1).bit_length()
        values = start(wide)
        if whole:
            values = self._parts(wide, 0, whole * wide, None, values, step)
        if left:
            values = self._parts(wide, whole * wide, 0, lane_mask(left, wide), values, step)
        return values

    def _parts(
        self, lanes: int, first: int, count: int, mask: Register | None, values: list[Register], step: Step
    ) -> list[Register]:
        *others, along = self.row.dims
        e = self.e

        def nest(left: list[Var], at: dict[Var, Register], values: list[Register]) -> list[Register]:
            if left:
                with e.fold(left[0].size, values) as state:
                    state.values = nest(left[1:], {**at, left[0]: state.index}, list(state.values))
                return state.values
            if not count:
                return step(self._body({**at, along: e.const(first, "i64")}, lanes, mask), values)
            with e.fold(count, values, lanes) as state:
                state.values = step(self._body({**at, along: state.index}, lanes, mask), list(state.values))
            return state.values

        return nest(others, {}, values)

    def _body(self, at: dict[Var, Register], lanes: int, mask: Register | None) -> Body:
        body = RowBody(self.outer, self.row.row, at, lanes, self.row.dims[-1], mask)
        for value, room in self.saved:  # a load that nobody needs costs nothing: LLVM drops it
            address = self._in_buffer(body, value, room)
            body.done[id(value)] = self.e.masked_load(address, vector(REGISTER[value.dtype], lanes), mask)
        return body

    def _in_buffer(self, body: Body, value: Value, room: Register) -> Register:
        return self.e.address(room, body.index(_linear(self.row.dims), lanes=False), REGISTER[value.dtype])


def _linear(dims: tuple[Var, ...]) -> Expr:
    position = Expr()
    for var in dims:
        position = position * var.size + Expr({var: 1})
    return position


def to_save(row: Row) -> list[list[Value]]:
    """For each fold, what it computes at some cost and a later fold or store needs again."""
    roots = [[stage.value] for stage in row.stages] + [[s.value for s in row.stores if row.writes_row(s)]]
    needed = [walk(values) for values in roots]
    later = Counter(id(value) for values in needed for value in values)
    left, result = BUFFER, []
    for values in needed[:-1]:
        keep = []
        later.subtract(map(id, values))
        for value in values:
            size = row.elements * value.dtype.itemsize
            costly = isinstance(value, Compute) and value.op.cost > RECOMPUTE and value.dtype != bool_
            if costly and value.vars() & row.row and later[id(value)] > 0 and size <= left:
                keep.append(value)
                left -= size
                later[id(value)] = 0  # saved once
        result.append(keep)
    return result
