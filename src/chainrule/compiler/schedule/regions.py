"""Regions: values of a graph that are never stored whole, as nests compute a few rows of them where they are needed.

What belongs to one, and what may be done with its values so that a nest can do it, is told here; what the nests look like in
`nesting`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from chainrule.compiler.schedule.axes import has_windows
from chainrule.compiler.schedule.expression import broadcast, expr
from chainrule.compiler.schedule.index import Expr, variables
from chainrule.compiler.schedule.materialize import RECOMPUTE
from chainrule.graph import Graph, Node, Shape
from chainrule.ops import reduction, shaping
from chainrule.several import Several

SHARED = 8  # heads of all sequences together, from which on threads are about equally busy with one each
FOLDS = (reduction.sum, reduction.amax, reduction.amin)
# Values of a region that are computed again in every nest that needs them: LLVM's time grows faster than a function does.
LARGEST = 50
# Elements of a product below which its kernels stay apart where a nest computes nothing twice, as forwards alone.
ONCE = 1 << 16
# Elements of a product below which its kernels stay apart where a nest computes something twice, as forwards and backwards.
# Scores of (32, 128, 128) that are kept take 0.76 of the time of those that are computed again,
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
    if any(map(has_windows, node.inputs)):  # along whose axes it is a product by itself
        return False
    m, n, k = *node.shape[-2:], node.inputs[0].shape[-1]
    return min(m, n, k) > 1 and m * n >= (m + n) * k


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
    """None for what is no product of a whole value of the region, or of its mirror image, that a nest can compute."""
    if node.op.kind != "contraction" or not node.dtype.is_floating_point or min(node.shape[-2:]) < 2:
        return None
    if node.shape[:-2] != region.shape[:-2] or any(map(has_windows, node.inputs)):
        return None
    batch, found = variables(region.shape[:-2]), []
    for left, factor in zip((True, False), node.inputs, strict=True):
        # Loops as long as its own axes: the first rows of a value have the index of all, and not their extent.
        first, second = variables(factor.shape[-2:], len(region.shape))
        inner = _through_views(factor, (*broadcast(batch, factor.shape[:-2]), first, second), region)
        if inner is not None:
            found.append((left, factor.shape[-2:], first, second, *inner))
    if len(found) != 1:
        return None
    left, extents, first, second, member, index = found[0]
    if extents == region.shape[-2:] and index == (*batch, first, second):
        return Orientation(left, across=not left, member=member)
    if extents == region.shape[-2:][::-1] and index == (*batch, second, first):
        return Orientation(left, across=left, member=member)
    return None


def _through_views(node: Node, index: tuple[Expr, ...], region: Region) -> tuple[Node, tuple[Expr, ...]] | None:
    """The value of the region that a factor is a view of, and its index."""
    members = set(region.members)
    while node not in members:
        if node.op.kind != "view" or node.op is shaping.pad:
            return None
        index = _lowered(node, index)
        (node,) = node.inputs
    return node, index


def _lowered(view: Node, index: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Where an element of a view lies in what it is a view of."""
    (source,) = view.inputs
    return tuple(map(expr, view.op.lower(index, source, **view.params)))


def _take_in(region: Region, nodes: list[Node], readers: dict[Node, list[Node]], outputs: set[Node]) -> None:
    """What only the region reads is computed there, unless that would be more often than by itself or cost too much.

    As random masks, masks of positions, and what is made of folds over rows; the folds themselves are stored, where another
    nest reads them.
    """
    own = variables(region.shape)
    # What takes products and views of the region reads their factors where they lie.
    read_at = {node: {own} for node in region.members if node.op.kind == "elementwise"}
    inside = {*region.members, *region.beside, *outputs}
    for node in reversed(nodes):
        if isinstance(node, Several) or node in inside or not node.inputs:
            continue
        if len(region.members) + len(region.beside) > 2 * LARGEST:
            break
        if node.op.kind not in ("elementwise", "elementwise_source", "view"):
            continue
        if readers[node] and all(reader in read_at for reader in readers[node]):
            places = {_place(reader, index, node) for reader in readers[node] for index in read_at[reader]}
            if _belongs(node, places, region):
                read_at[node] = places
                region.beside.add(node)


def _place(reader: Node, index: tuple[Expr, ...], node: Node) -> tuple[Expr, ...]:
    """Where a node is read for an element of its reader."""
    return _lowered(reader, index) if reader.op.kind == "view" else broadcast(index, node.shape)


def _belongs(node: Node, places: set[tuple[Expr, ...]], region: Region) -> bool:
    """Does a nest that reads it there compute it no more often than it has elements (what is cheap, in each batch)?"""
    column = variables(region.shape)[-1]
    every_row = math.prod(region.shape[:-1])
    times = sum(every_row * (region.shape[-1] if _moves(index, column) else 1) for index in places)
    again = math.prod(region.shape[:-2]) if node.op.cost <= RECOMPUTE else 1
    return times <= math.prod(node.shape) * again


def _moves(index: tuple[Expr, ...], along: Expr) -> bool:
    return any(part.vars() & along.vars() for part in index)


def carriable(node: Node, region: Region) -> bool:
    """Can a product along rows be summed up block by block in a nest that goes over blocks of columns?

    Where its terms are simply added in order. It leaves threads nothing to share but the axes in front, of which there
    must be enough; and without another product across rows there is no such nest.
    """
    found = [(taker, orientation(taker, region)) for taker in region.takers]
    across = any(way is not None and way.across for _, way in found)
    along = any(way is not None and not way.across for taker, way in found if taker is node)
    return across and along and not node.params and math.prod(region.shape[:-2]) >= SHARED
