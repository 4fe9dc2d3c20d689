"""Nesting: values that are never stored whole, as nests of several cores compute a few rows of them where they are needed.

A product whose result is larger than its factors, folds over its rows, and products that take up what became of it:
attention, softmax(q k^T) v, and its derivatives. Instead of three kernels with arrays of all scores between them there is
one nest. It takes some rows at a time: their products go to a room, the folds and what is done element by element go
over the room, the next product reads it. What reads the same values later computes them again: some rows of them, or
some columns where it sums over the rows (as the gradients of keys and values do). A product along rows (as the gradient
of queries is) can be summed up there too, block by block of columns. So memory grows with the length of the rows and
not with their number times that.

No bit depends on it. Each element of each of these values is the sum, in the same order, that a kernel of its own
would give: rows stay whole, and what is recomputed is what was there before. A softmax that runs on with a maximum so far,
and rescales what it has summed when that grows, would round otherwise than the same softmax by itself; the room of a few
rows costs no more memory than keys and values do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chainrule.compiler.schedule.expression import Expression, broadcast, expr, vars_of
from chainrule.compiler.schedule.index import Expr, Var, linear, variables
from chainrule.compiler.schedule.kernels import Chain, Kernel, Load, Reduce, Result, RowFolds, Store, Value, room, walk
from chainrule.compiler.schedule.products import dot
from chainrule.compiler.schedule.regions import Region, orientation
from chainrule.graph import Node
from chainrule.ops.shaping import ravel

# Rows at a time: their factor is used so often that packing the other one costs little, and a room stays near.
# Measured with scores of (32, 128, 128) and (8, 1024, 1024): 32 and 128 rows take 5 to 30 % longer.
ROWS = 64


class Elsewhere(Exception):
    """A value that a nest computes is asked for at another place than the one at hand."""


class _Inside(Expression):
    """Values at one element of a region: its products stand in rooms, its folds are at hand."""

    def __init__(self, nest: Nested) -> None:
        super().__init__(nest.kept)
        self.nest = nest

    def value(self, node: Node, index: tuple[Expr, ...]) -> Value:
        if node in self.nest.carriers:
            if index != self.nest.index:
                raise Elsewhere
            return self.nest.held(node)
        return super().value(node, index)

    def _load(self, node: Node, index: tuple[Expr, ...]) -> Value:
        if node in self.results and expr(ravel(index, node.shape)) != self.nest.row:
            raise Elsewhere
        return super()._load(node, index)


class Nested:
    """A kernel of several cores: some rows (or columns, `across`) of a region's values at a time, and what takes them."""

    def __init__(self, region: Region, kept: set[Node], across: bool, first: int, rows: int, blocks: int) -> None:
        self.region, self.kept, self.across = region, kept, across
        batch, (height, width) = region.shape[:-2], region.shape[-2:]
        count, width = len(batch), height if across else width
        block, self.ROW, self.COLUMN = Var(count, blocks), Var(count + 1, rows), Var(count + 2, width)
        self.batch = variables(batch)
        self.at = Expr({self.ROW: 1}, first) + (Expr({block: rows}) if blocks > 1 else Expr())
        self.begin = Expr({block: 1}) if blocks > 1 and not first else Expr(constant=1) if first else None
        own = (Expr({self.COLUMN: 1}), self.at) if across else (self.at, Expr({self.COLUMN: 1}))
        self.index = (*self.batch, *own)
        self.row = expr(ravel((*self.batch, self.at), (*batch, height)))
        self.place = linear((self.ROW, self.COLUMN))
        self.carriers = dict(_carriers(region))
        self.expression = _Inside(self)
        self.loads: dict[Node, Load] = {}  # by what they hold: rooms
        self.rooms: dict[int, Load] = {}  # by the value that was stored there
        self.products: list[Kernel] = []
        self.sweep = Kernel((self.ROW,), [], RowFolds((self.COLUMN,), []))
        self.followers: list[Kernel] = []
        self.chain = Chain([], [])
        loops = (*vars_of(self.batch), *([block] if blocks > 1 else []))
        self.kernel = Kernel(loops, [], self.chain)
        self.number = -1

    def made(self) -> set[Node]:
        return {store.node for store in self.kernel.stores}

    @property
    def stages(self) -> list[Reduce]:
        if not isinstance(self.sweep.core, RowFolds):
            raise TypeError("the sweep of a nest goes over rows; this is a bug in chainrule")
        return self.sweep.core.stages

    def add(self, node: Node) -> None:
        """A fold over rows, or a product that reads them."""
        with self._as_it_was():
            if node.op.kind == "reduction":
                self._fold(node)
            else:
                self._product(node)
        sweep = self.sweep if self.stages else Kernel((self.ROW, self.COLUMN), self.sweep.stores)
        self.chain.parts = [*self.products, *([sweep] if sweep.stores else []), *self.followers]

    @contextmanager
    def _as_it_was(self) -> Iterator[None]:
        """Nothing is left of what a value was begun with that is asked for elsewhere: nobody would wait for what it reads."""
        made: list[Any] = [self.products, self.loads, self.rooms, self.chain.rooms, self.sweep.stores]
        made += [self.expression.memo, self.expression.checks]
        before = [each.copy() for each in made]
        try:
            yield
        except Elsewhere:
            for each, old in zip(made, before, strict=True):
                each.clear()
                each.extend(old) if isinstance(each, list) else each.update(old)
            raise

    def _fold(self, node: Node) -> None:
        value = self.expression.value(node.inputs[0], self.index)
        stage = Reduce(node.op, (self.COLUMN,), value, Result(node.dtype, len(self.stages)), along=True)
        self.stages.append(stage)
        self.expression.results[node] = stage.result
        self._store(self.sweep, Store(node, self.row, stage.result))

    def _product(self, node: Node) -> None:
        found = orientation(node, self.region)
        if found is None:
            raise TypeError(f"{node!r} has no place in a nest; this is a bug in chainrule")
        other = Var(self.COLUMN.number + 1, node.shape[-1] if found.left else node.shape[-2])
        free = Expr({other: 1})
        own = self._stored(self.expression.value(found.member, self.index))
        mine, at, summed, k, carried = self.ROW, self.at, self.COLUMN, Expr({self.COLUMN: 1}), None
        if found.across != self.across:  # it sums over the rows of the nest
            mine, at, summed, k, carried = self.COLUMN, k, self.ROW, at, self.begin
        factor = node.inputs[found.left]
        batch = broadcast(self.batch, factor.shape[:-2])
        load = self._factor(node, factor, (*batch, *((k, free) if found.left else (free, k))))
        result = Result(node.dtype)
        m, n, a, b = (mine, other, own, load) if found.left else (other, mine, load, own)
        core = dot(node, m, n, (summed,), a, b, result, carried)
        part = Kernel((m, n), [], core)
        place = (at, free) if found.left else (free, at)
        self._store(part, Store(node, expr(ravel((*self.batch, *place), node.shape)), result))
        self.followers.append(part)

    def held(self, node: Node) -> Load:
        """The room with some rows of a product, and what was done with it right there."""
        if node not in self.loads:
            product = self.carriers[node]
            k = Var(self.COLUMN.number + 1, product.inputs[0].shape[-1])
            i, j = self.index[-2:]
            left, right = product.inputs
            summed = Expr({k: 1})
            a = self._factor(product, left, (*broadcast(self.batch, left.shape[:-2]), i, summed))
            b = self._factor(product, right, (*broadcast(self.batch, right.shape[:-2]), summed, j))
            a, b = (b, a) if self.across else (a, b)
            result = Result(product.dtype)
            value = self._apart({product: result}, node, self.index)
            load = self._room(node.dtype)
            core = dot(product, self.ROW, self.COLUMN, (k,), a, b, result)
            self.products.append(Kernel((self.ROW, self.COLUMN), [Store(load.node, self.place, value)], core))
            self.loads[node] = load
        return self.loads[node]

    def _factor(self, node: Node, factor: Node, index: tuple[Expr, ...]) -> Load:
        found = self._apart({}, factor, index)
        if not isinstance(found, Load):
            raise TypeError(f"the factors of {node!r} must be strided loads; this is a bug in chainrule")
        return found

    def _apart(self, results: dict[Node, Value], node: Node, index: tuple[Expr, ...]) -> Value:
        """A value that reads nothing that the nest makes: a product is there before the folds of its rows."""
        own = Expression(self.kept, results)
        value = own.value(node, index)
        if any(isinstance(part, Load) and part.node in self.made() for part in walk([value])):
            raise Elsewhere
        self.expression.checks |= own.checks
        return value

    def _room(self, dtype: object) -> Load:
        node = room(dtype, self.ROW.size, self.COLUMN.size)  # type: ignore[arg-type]
        self.chain.rooms.append(node)
        return Load(node.dtype, node, self.place)

    def _stored(self, value: Value) -> Load:
        """Where a value stands for the products that follow."""
        if isinstance(value, Load) and value.node in self.chain.rooms:
            return value
        if id(value) not in self.rooms:
            load = self.rooms[id(value)] = self._room(value.dtype)
            self.sweep.stores.append(Store(load.node, self.place, value))
        return self.rooms[id(value)]

    def _store(self, part: Kernel, store: Store) -> None:
        part.stores.append(store)
        self.kernel.stores.append(store)


def _carriers(region: Region) -> Iterator[tuple[Node, Node]]:
    """Each product with what is done with it alone as it is computed: what a room holds, and the product it is made of."""
    members, products = set(region.members), set(region.products)
    readers: dict[Node, list[Node]] = {node: [] for node in region.members}
    for node in [*region.members, *region.takers, *region.beside]:
        for source in dict.fromkeys(node.inputs):
            if source in members:
                readers[source].append(node)
    takers = set(region.takers)
    for product in region.products:
        node = product
        while len(readers[node]) == 1:
            (reader,) = readers[node]
            if reader not in members or reader in products or _reads(reader, node, takers | members):
                break
            node = reader
        yield node, product


def _reads(reader: Node, but: Node, those: set[Node]) -> bool:
    """Does it read, beside one of its inputs, any of those?"""
    seen, waiting = set[Node](), [source for source in reader.inputs if source is not but]
    while waiting:
        node = waiting.pop()
        if node in those:
            return True
        if node not in seen:
            seen.add(node)
            waiting += node.inputs
    return False


def blocks(extent: int) -> Iterator[tuple[int, int, int]]:
    """Rows in blocks: (first row, rows of each, how many blocks); what is left over is a block of its own."""
    rows = -(-extent // -(-extent // ROWS))
    whole, left = divmod(extent, rows)
    yield 0, rows, whole
    if left:
        yield whole * rows, left, 1
