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
from collections.abc import Iterable
from dataclasses import dataclass, field

from chainrule.compiler.plan.target import power_of_two_above
from chainrule.compiler.schedule.index import Var, linear
from chainrule.compiler.schedule.kernels import ROOM, Compute, Load, Number, Reduce, Result, Store, Value, room, walk
from chainrule.compiler.schedule.loops import (
    Accumulate,
    Alloc,
    Block,
    Combine,
    For,
    Let,
    Statement,
    Way,
    around,
    unrolled,
)
from chainrule.compiler.schedule.materialize import RECOMPUTE
from chainrule.dtypes import bool_

BUFFER = 1 << 15  # bytes of a row's values that are kept between its loops: what the first-level cache has room for


@dataclass
class Row:
    """What happens to each row: folds, then stores; its last loop runs over neighbours."""

    dims: tuple[Var, ...]
    stages: list[Reduce]
    stores: list[Store]
    row: frozenset[Var] = field(init=False)

    def __post_init__(self) -> None:
        self.row = frozenset(self.dims)

    @property
    def elements(self) -> int:
        return math.prod(var.size for var in self.dims)

    def varies(self, value: Value) -> bool:
        """Does it differ within a row?"""
        return bool(value.vars() & self.row)

    def writes_row(self, store: Store) -> bool:
        return bool(store.index.vars() & self.row)

    def once(self, roots: Iterable[Value]) -> list[Let]:
        """What the roots need once for the row, to be computed before the loops over it."""
        stack, seen, found = list(roots), set[int](), []
        while stack:
            value = stack.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if self.varies(value):
                stack.extend(value.parts())
            elif not isinstance(value, (Number, Result)):
                found.append(Let(value))
        return found


# -- side by side, and held: a row in registers ---------------------------------------------------------


def in_registers(row: Row, lanes: int = 1) -> Block:
    """The folds over a row that stays in registers, and the stores: element by element, or by vectors along it."""
    found: list[Statement] = []
    for stage in row.stages:
        found += [*row.once([stage.value]), Accumulate(stage, unrolled(row.dims, (Combine(stage),), lanes))]
    for kind in (lambda store: Let(store.value), lambda store: store):
        for store in row.stores:
            found += unrolled(row.dims, (kind(store),), lanes) if row.writes_row(store) else (kind(store),)
    return tuple(found)


# -- streamed: a loop over the row for each fold --------------------------------------------------------


def streamed(row: Row, lanes: int) -> Block:
    """A sweep over the row for each fold and one for the stores; values of a part before any of its stores."""
    found: list[Statement] = []
    saved: list[Let] = []
    there = {
        id(store.value): store for store in row.stores if store.node.op is ROOM
    }  # kept for what follows on the rows
    done: list[Store] = []
    for stage, values in zip(row.stages, to_save(row), strict=True):
        kept = [there.get(id(value)) or _kept(row, value) for value in values]
        fold = Accumulate(stage, sweep(row.dims, lanes, Way.VECTOR, (*saved, Combine(stage), *kept), stage.halved))
        rooms = [Alloc(store.node) for store in kept if store not in row.stores]
        found += [*row.once([stage.value]), *rooms, fold]
        saved += [Let(store.value, Load(store.value.dtype, store.node, store.index)) for store in kept]
        done += kept
    whole = [store for store in row.stores if row.writes_row(store) and store not in done]
    found += row.once(store.value for store in row.stores)
    if whole:
        found += sweep(row.dims, lanes, Way.VECTOR, (*saved, *(Let(store.value) for store in whole), *whole))
    return (*found, *(store for store in row.stores if not row.writes_row(store)))


def _kept(row: Row, value: Value) -> Store:
    """A value in a small buffer between the loops over a row."""
    return Store(room(value.dtype, *(var.size for var in row.dims)), linear(row.dims), value)


def sweep(dims: tuple[Var, ...], lanes: int, way: Way, body: Block, halved: Var | None = None) -> Block:
    """The loops of a row: whole turns of its last one inside all others, then what they left inside all others.

    Where the last one itself goes over rows that are added up in halves, each leaf has what whole turns left of it.
    """
    if not dims:  # a row of one element
        return body
    *others, along = dims
    if along == halved:
        return around(others, (For(along, body, 0, along.size, way, lanes, by_leaf=True),))
    whole, left = divmod(along.size, lanes)
    wide = lanes if whole else power_of_two_above(left)
    parts = [(0, whole * wide)] * (whole > 0) + [(along.size - left, along.size)] * (left > 0)
    return tuple(
        statement
        for begin, end in parts
        for statement in around(others, (For(along, body, begin, end, way, wide),), halved)
    )


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
            if costly and row.varies(value) and later[id(value)] > 0 and size <= left:
                keep.append(value)
                left -= size
                later[id(value)] = 0  # saved once
        result.append(keep)
    return result
