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

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from chainrule.compiler.schedule.expression import Expression, broadcast, expr, vars_of
from chainrule.compiler.schedule.index import Expr, Var, linear, variables
from chainrule.compiler.schedule.kernels import Chain, Kernel, Load, Reduce, Result, Rows, Store, Value, room
from chainrule.compiler.schedule.materialize import RECOMPUTE
from chainrule.compiler.schedule.products import dot
from chainrule.graph import Graph, Node, Shape
from chainrule.ops import reduction, shaping
from chainrule.ops.shaping import ravel
from chainrule.several import Several

# Rows at a time: their factor is used so often that packing the other one costs little, and a room stays near.
# Measured with scores of (32, 128, 128) and (8, 1024, 1024): 32 and 128 rows take 5 to 30 % longer.
ROWS = 64
SHARED = 8  # so many heads of all sequences keep threads about equally busy
FOLDS = (reduction.sum, reduction.amax, reduction.amin)
# Values of a region that are computed again in every nest that needs them: LLVM's time grows faster than a function does.
LARGEST = 50
# Elements of a product below which its kernels stay apart, where a nest computes nothing twice (forwards alone).
ONCE = 1 << 16
# ... and where it does. Scores of (32, 128, 128) that are kept take 0.76 of the time of those that are computed again,
# forwards and backwards; those of (8, 1024, 1024) 0.87, in sixteen times the memory.
AGAIN = 1 << 20


@dataclass(eq=False)
class Region:
    """Values of one shape (..., rows, columns) that are not stored: products, and what is made of them element by element."""

    shape: Shape
    members: list[Node] = field(default_factory=list)
    takers: list[Node] = field(default_factory=list)  # folds over their rows, and products that read them
    beside: set[Node] = field(default_factory=set)  # views of them, and what else is computed where it is needed
    nests: list[list[Nested]] = field(default_factory=list)  # those that share the rows among them

    @property
    def inside(self) -> set[Node]:
        """What has no buffer, but for the products: those it is built from."""
        return {*self.members, *self.beside} - set(self.products)

    @property
    def products(self) -> list[Node]:
        return [node for node in self.members if node.op.kind == "contraction"]


def regions(graph: Graph, nodes: list[Node]) -> list[Region]:
    """What nests compute in the graph."""
    readers: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for source in node.inputs:
            readers[source].append(node)
    found: list[Region] = []
    for region in _grown(nodes):
        others = {node for other in found for node in (*other.members, *other.takers)}
        if _whole(region, readers, set(graph.outputs)) and not others.intersection(region.members, region.takers):
            found.append(region)
            _take_in(region, nodes, readers, set(graph.outputs))
    return found


def _grown(nodes: list[Node]) -> list[Region]:
    """Products that might be worth it, each with all that follows element by element."""
    home: dict[Node, Region] = {}
    for node in nodes:
        if isinstance(node, Several):
            continue
        near = {id(home[s]): home[s] for s in node.inputs if s in home and s.shape == node.shape}
        if _outgrows(node):
            region = Region(node.shape)
        elif node.op.kind == "elementwise" and near:
            region, *others = near.values()
            for other in others:
                region.members += other.members
                home.update(dict.fromkeys(other.members, region))
        else:
            continue
        region.members.append(node)
        home[node] = region
    return list({id(region): region for region in home.values()}.values())


def _outgrows(node: Node) -> bool:
    """Is it a product that is larger than its factors?"""
    if node.op.kind != "contraction" or not node.dtype.is_floating_point or len(node.shape) < 2:
        return False
    if _has_windows(node):
        return False
    m, n, k = *node.shape[-2:], node.inputs[0].shape[-1]
    return min(m, n, k) > 1 and m * n >= (m + n) * k


def _has_windows(product: Node) -> bool:
    """Is one of its factors a view with windows, along whose axes it is a product by itself?"""
    for factor in product.inputs:
        while factor.op.kind == "view":
            if factor.op is shaping.unfold:
                return True
            factor = factor.inputs[0]
    return False


def _whole(region: Region, readers: dict[Node, list[Node]], outputs: set[Node]) -> bool:
    """Is all that is done with the values of the region something that a nest can do? Notes who takes them."""
    members, takers = set(region.members), dict[Node, None]()
    waiting = list(region.members)
    while waiting:
        node = waiting.pop()
        if node in outputs:
            return False
        for reader in readers[node]:
            if reader in members and node in members:
                continue
            if reader in members:  # a view of the region, of which it would read another element
                return False
            if reader.op.kind == "view" and reader.op is not shaping.pad:
                region.beside.add(reader)
                waiting.append(reader)
            elif _folds(reader, members) or orientation(reader, region) is not None:
                takers[reader] = None
            else:
                return False
    region.takers = list(takers)
    kinds = {taker.op.kind for taker in takers}
    if members & takers.keys() or kinds != {"reduction", "contraction"} or len(members) > LARGEST:
        return False
    return math.prod(region.shape) >= (AGAIN if _several(region) else ONCE)


def _several(region: Region) -> bool:
    """Do several nests compute the same values?"""
    return len(region.products) > 1 or any(
        found.across for taker in region.takers if (found := orientation(taker, region)) is not None
    )


def _folds(node: Node, members: set[Node]) -> bool:
    """Is it a fold over the rows of a value of the region?"""
    if node.op not in FOLDS or node.inputs[0] not in members:
        return False
    return bool(node.params["dims"] == (len(node.inputs[0].shape) - 1,))


@dataclass(frozen=True)
class Orientation:
    """How a product reads a region: by its `left` factor or its right, and whether it sums along rows or `across` them."""

    left: bool
    across: bool
    member: Node


def orientation(node: Node, region: Region) -> Orientation | None:
    """None for what is no product that a nest can compute."""
    if node.op.kind != "contraction" or not node.dtype.is_floating_point or min(node.shape[-2:]) < 2:
        return None
    if node.shape[:-2] != region.shape[:-2] or _has_windows(node):
        return None
    batch = variables(node.shape[:-2])
    first, second = (Expr({Var(len(node.shape) + i, 1 << 40): 1}) for i in range(2))
    found = []
    for left, factor in zip((True, False), node.inputs, strict=True):
        inner = _through_views(factor, (*batch[len(batch) - len(factor.shape) + 2 :], first, second), region)
        if inner is not None:
            found.append((left, *inner))
    if len(found) != 1:
        return None
    left, member, index = found[0]
    summed = second if left else first
    if index == (*batch, first, second):
        return Orientation(left, across=summed is first, member=member)
    if index == (*batch, second, first):
        return Orientation(left, across=summed is second, member=member)
    return None


def _through_views(node: Node, index: tuple[Expr, ...], region: Region) -> tuple[Node, tuple[Expr, ...]] | None:
    """The value of the region that a factor is a view of, and its index."""
    members = set(region.members)
    while node not in members:
        if node.op.kind != "view" or node.op is shaping.pad:
            return None
        (source,) = node.inputs
        index = tuple(map(expr, node.op.lower(index, source, **node.params)))
        node = source
    return node, index


def _take_in(region: Region, nodes: list[Node], readers: dict[Node, list[Node]], outputs: set[Node]) -> None:
    """What only the region reads is computed there: values of its shape, cheap ones of its rows and columns, one for each row.

    As random masks, masks of positions, and what is made of folds over rows; the folds themselves are stored, where another
    nest reads them.
    """
    inside = {*region.members, *region.beside}
    near = inside - set(region.products)  # not their factors, which a product reads where they lie
    for node in reversed(nodes):
        if isinstance(node, Several) or node in outputs or node in inside or not node.inputs:
            continue
        if len(inside) > 2 * LARGEST:
            break
        if _belongs(node, region.shape) and readers[node] and all(reader in near for reader in readers[node]):
            inside.add(node)
            near.add(node)
            region.beside.add(node)


def _belongs(node: Node, shape: Shape) -> bool:
    if node.op.kind not in ("elementwise", "elementwise_source", "view"):
        return False
    if math.prod(node.shape) in (math.prod(shape), math.prod(shape[:-1])):
        return True
    return node.shape[-2:] == shape[-2:] and node.op.cost <= RECOMPUTE


def carriable(node: Node, region: Region) -> bool:
    """Can a product along rows be summed up block by block in a nest that goes over blocks of columns?

    Where its terms are simply added in order. It leaves threads nothing to share but the axes in front, of which there
    must be enough; and without another product across rows there is no such nest.
    """
    found = [(taker, orientation(taker, region)) for taker in region.takers]
    across = any(way is not None and way.across for _, way in found)
    along = any(way is not None and not way.across for taker, way in found if taker is node)
    return across and along and not node.params and math.prod(region.shape[:-2]) >= SHARED


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
        self.sweep = Kernel((self.ROW,), [], Rows((self.COLUMN,), []))
        self.followers: list[Kernel] = []
        self.chain = Chain([], [])
        loops = (*vars_of(self.batch), *([block] if blocks > 1 else []))
        self.kernel = Kernel(loops, [], self.chain)
        self.number = -1

    def made(self) -> set[Node]:
        return {store.node for store in self.kernel.stores}

    @property
    def stages(self) -> list[Reduce]:
        if not isinstance(self.sweep.core, Rows):
            raise TypeError("the sweep of a nest goes over rows; this is a bug in chainrule")
        return self.sweep.core.stages

    def add(self, node: Node) -> None:
        """A fold over rows, or a product that reads them."""
        if node.op.kind == "reduction":
            self._fold(node)
        else:
            self._product(node)
        sweep = self.sweep if self.stages else Kernel((self.ROW, self.COLUMN), self.sweep.stores)
        self.chain.parts = [*self.products, *([sweep] if sweep.stores else []), *self.followers]

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
        """A value that reads nothing that the nest has in its rooms."""
        own = Expression(self.kept, results)
        value = own.value(node, index)
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
