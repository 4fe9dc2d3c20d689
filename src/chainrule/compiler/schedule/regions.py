"""Regions: values of a graph that are never stored whole, as nests compute a few rows of them where they are needed.

What belongs to one, and what may be done with its values so that a nest can do it, is told here; what the nests look like in
`nesting`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from chainrule.compiler.schedule.expression import expr
from chainrule.compiler.schedule.index import Expr, Var, variables
from chainrule.compiler.schedule.materialize import RECOMPUTE
from chainrule.graph import Graph, Node, Shape
from chainrule.ops import reduction, shaping
from chainrule.several import Several

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
