"""Every kernel of a program as a nest: decided when it is first asked for, once, and handed to all who need to know.

Which loop runs over vectors and how many lanes there are, how a fold is nested, what is computed before the loops and
which loop threads share all stand in the nest (`schedule.loops`) afterwards; nobody decides them again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from chainrule.compiler.plan import tiling
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.partition import Share
from chainrule.compiler.plan.product import Tiles, batch_of, tiled, touched
from chainrule.compiler.plan.rows import Row, in_registers, streamed, sweep
from chainrule.compiler.plan.target import Target, power_of_two_above
from chainrule.compiler.plan.vectorize import ALONG, Vectorization, lanes_of_sum
from chainrule.compiler.schedule.fusion import SHORT
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import (
    ROOM,
    Chain,
    Check,
    Compute,
    Dot,
    Guarded,
    Kernel,
    Load,
    Number,
    Position,
    Reduce,
    RowFolds,
    Store,
)
from chainrule.compiler.schedule.loops import (
    Accumulate,
    Alloc,
    Bind,
    Block,
    Combine,
    Contract,
    For,
    Let,
    Nest,
    Statement,
    Way,
    around,
    independent,
)
from chainrule.ops import reduction
from chainrule.tensor.memory import lines


class Nests:
    """The kernels of a program as nests for one machine."""

    def __init__(self, kernels: Sequence[Kernel], target: Target) -> None:
        self.kernels, self.target = kernels, target
        self._found: dict[int, Nest] = {}

    def __getitem__(self, number: int) -> Nest:
        """A kernel's nest, whose loops each thread would run through."""
        if number not in self._found:
            self._found[number] = decided(self.kernels[number], self.target)
        return self._found[number]

    def tiles(self, number: int) -> Tiles | None:
        """How a kernel's product is cut up; None where it has none."""
        products = self[number].products if isinstance(self.kernels[number].core, Dot) else []
        return products[0].tiles if products else None

    def cuts(self, number: int) -> list[tiling.Tiling]:
        """How each of a kernel's products is cut up."""
        return [product.tiles.plan for product in self[number].products]

    def written(self, number: int, share: Share | None, arguments: Arguments) -> Nest:
        """The nest as it is written: divided among threads, and told these pointers."""
        kernel = self.kernels[number]
        nest = divided(self[number], share)
        if kernel.core is None:
            nest = joined(nest, kernel, Vectorization(kernel, self.target))
        if isinstance(kernel.core, Dot):
            nest = asking(nest, kernel, kernel.core, arguments)
        return hoisted(nest, kernel, arguments)


def decided(kernel: Kernel, target: Target) -> Nest:
    """The loops of a kernel, their vectors and the order of its sums."""
    core, vectors = kernel.core, Vectorization(kernel, target)
    if not math.prod(var.size for var in kernel.loops):
        return Nest(())
    if isinstance(core, Check):
        return Nest((Accumulate(core, around(kernel.loops, (Combine(core),))),))
    if isinstance(core, Dot):
        return Nest(around(batch_of(kernel, core), (Contract(core, values_first(kernel.stores), tiled(core, target)),)))
    if isinstance(core, RowFolds):
        return Nest(_rows(Row(core.dims, core.stages, kernel.stores), kernel.loops, vectors))
    if isinstance(core, Chain):
        return _chain(kernel, core, target)
    along, lanes = vectors.lanes_along()
    if core is None:
        return Nest(_beside(kernel.loops, along, lanes, values_first(kernel.stores)))
    return Nest(_reduction(kernel, core, along, lanes, vectors))


def _chain(kernel: Kernel, core: Chain, target: Target) -> Nest:
    """The parts one after the other in the loops around them; their rooms lie behind what they pack their factors into."""
    blocks = [decided(part, target).body for part in core.parts]
    body = tuple(statement for block in blocks for statement in block)
    rooms, end = [], Nest(body).scratch
    for node in core.rooms:
        rooms.append(Alloc(node, lines(end)))
        end = rooms[-1].end
    return Nest(around(kernel.loops, (*rooms, *body)))


def values_first(stores: Sequence[Store]) -> Block:
    """All values before any store: a new state may lie where another value's old state is read."""
    return (*(Let(store.value) for store in stores), *stores) if len(stores) > 1 else tuple(stores)


def _beside(loops: tuple[Var, ...], along: Var | None, lanes: int, body: Block) -> Block:
    """The body inside all loops, the one of neighbours innermost."""
    others = [var for var in loops if var != along]
    if along is None:
        return around(others, body)
    return around(others, tuple(_vectors(along, lanes, body)) if lanes > 1 else around([along], body))


def _vectors(along: Var, lanes: int, body: Block, count: int | None = None) -> list[For]:
    """Whole vectors along a loop (or `count` steps of it), then what is left."""
    count = count or along.size
    whole, left = divmod(count, lanes)
    parts: list[For] = []
    if whole:
        parts.append(For(along, body, 0, whole * lanes, Way.VECTOR, lanes))
    if left:
        parts.append(For(along, body, whole * lanes, count, Way.VECTOR, power_of_two_above(left)))
    return parts


# -- folds ------------------------------------------------------------------------------------------


def _reduction(kernel: Kernel, core: Reduce, along: Var | None, lanes: int, vectors: Vectorization) -> Block:
    """One fold: down columns, whose lanes are sums of their own, or along rows."""
    where = vectors.best(core, kernel.loops, core.dims)
    arg = core.op in (reduction.argmax, reduction.argmin)
    if not arg and where is not None and where not in kernel.loops:
        dims = (*(var for var in core.dims if var != where), where)
        return _rows(Row(dims, [core], kernel.stores), kernel.loops, vectors)
    dealt = 1 if arg else lanes_of_sum(core)
    way = Way.DEALT if dealt > 1 else Way.SERIAL
    fold = Accumulate(core, sweep(core.dims, dealt, way, (Combine(core),), core.halved))
    return _beside(kernel.loops, along, lanes, (fold, *values_first(kernel.stores)))


def _rows(row: Row, loops: tuple[Var, ...], vectors: Vectorization) -> Block:
    """Each row in the way that suits its length."""
    beside, lanes = vectors.lanes_of_rows(row.dims)
    if beside is not None:
        return around(loops[:-1], tuple(_vectors(beside, lanes, in_registers(row))))
    if row.elements <= SHORT:
        return around(loops, in_registers(row))
    return around(loops, in_registers(row, ALONG) if vectors.holds(row.dims) else streamed(row, ALONG))


# -- what is decided once the program's memory and threads are known ------------------------------------


def divided(nest: Nest, share: Share | None) -> Nest:
    """With what threads share marked: loops, run through as one if they are several, or a product's tiles."""
    if share is None:
        return nest
    if share.by in ("rows", "columns"):
        return Nest(_with_product(nest.body, shared=share.by))
    if len(share.loops) == 1:
        return Nest(_divided(nest.body, share.var))
    body, rest = nest.body, Expr({share.var: 1})
    binds = []
    for _ in share.loops:
        (loop,) = (statement for statement in body if isinstance(statement, For))
        body = loop.body
    for var in reversed(share.loops):
        binds.append(Bind(var, rest % var.size))
        rest = rest // var.size
    return Nest((For(share.var, (*binds, *body), 0, share.var.size, unit=1),))


def _with_product(block: Block, **changes: Any) -> Block:
    """The block with its product changed so."""
    return tuple(_changed(statement, changes) for statement in block)


def _changed(statement: Statement, changes: dict[str, Any]) -> Statement:
    if isinstance(statement, Contract):
        return replace(statement, **changes)
    return (
        replace(statement, body=_with_product(statement.body, **changes)) if isinstance(statement, For) else statement
    )


def _divided(block: Block, var: Var) -> Block:
    unit = max((s.lanes for s in block if isinstance(s, For)), default=0)  # what is left of them is one more
    return tuple(
        (replace(s, unit=unit) if s.var == var else replace(s, body=_divided(s.body, var))) if isinstance(s, For) else s
        for s in block
    )


def joined(nest: Nest, kernel: Kernel, vectors: Vectorization) -> Nest:
    """With loops around the vectors that only lead on to the next of them made one loop with it."""
    loops = independent(nest)
    along = loops[-1] if loops else None
    if along is None or along.way is not Way.VECTOR or along.unit:
        return nest
    outer, inner, count = loops[:-1], [], along.var.size
    while outer and not outer[-1].unit and _one_line(kernel, outer[-1].var, along.var, count):
        inner.append(outer.pop().var)
        count *= inner[-1].size
    if not inner:
        return nest
    lanes = vectors.lanes(along.var, count=count)
    block: Block = tuple(replace(part, joined=tuple(inner)) for part in _vectors(along.var, lanes, along.body, count))
    for loop in reversed(outer):
        block = (replace(loop, body=block),)
    return Nest(block)


def _one_line(kernel: Kernel, outer: Var, along: Var, steps: int) -> bool:
    """Does one step of `outer` move every index as `steps` further steps of `along` do? Then they are one loop."""

    def same(index: Expr) -> bool:
        far, near = index.coefficient(outer), index.coefficient(along)
        return far is not None and near is not None and far == near * steps

    return all(map(same, _indices(kernel)))


def _indices(kernel: Kernel) -> Iterator[Expr]:
    """Every index, guard and position of the kernel."""
    yield from (store.index for store in kernel.stores)
    for value in kernel.values():
        if isinstance(value, (Load, Position)):
            yield value.index
        if isinstance(value, (Load, Guarded)):
            yield from (guard.expr for guard in value.guards)


def asking(nest: Nest, kernel: Kernel, core: Dot, arguments: Arguments) -> Nest:
    """With what follows on a product asked for ahead."""
    ahead = touched(kernel, core, arguments)
    return Nest(_with_product(nest.body, ahead=ahead)) if ahead else nest


def hoisted(nest: Nest, kernel: Kernel, arguments: Arguments) -> Nest:
    """With what no loop changes and no store of the kernel computed first; LLVM could not tell that the stores do not."""
    if isinstance(kernel.core, Check) or not nest.body:
        return nest
    written = {arguments.name(store.node, store.index) for store in kernel.stores}
    fixed: set[int] = set()
    found = []
    for value in kernel.values():  # what a value reads comes before it
        still = isinstance(value, (Number, Compute, Position)) or (
            isinstance(value, Load)
            and not value.guards
            and value.node.op is not ROOM
            and arguments.name(value.node, value.index) not in written
        )
        if still and not value.vars() and all(id(part) in fixed for part in value.parts()):
            fixed.add(id(value))
            if isinstance(value, Compute):
                found.append(Let(value))
    return Nest((*found, *nest.body)) if found else nest
