"""Which nodes get a buffer: results, reductions, products, and what would cost more to compute again than to keep.

Every other node is part of the expression of whoever reads it.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from chainrule.compiler.schedule.axes import axes_of, reads_lanes
from chainrule.compiler.schedule.expression import Expression
from chainrule.compiler.schedule.index import variables
from chainrule.compiler.schedule.kernels import Load
from chainrule.control.loop import scan_op
from chainrule.graph import CONST, INPUT, LEAF, Graph, Node
from chainrule.ops import elementwise as ew
from chainrule.ops import indexing, random, shaping
from chainrule.several import RESULT, Several

# What is cheap enough to compute again in every kernel that reads it, in units of one addition.
RECOMPUTE = 3
# What is cheap enough to compute again, in additions, where at most `FEW` kept arrays of its shape say it element by element: whoever
# reads it reads those instead, and often does so anyway. To store a vector of values and load it again takes as long as about so many additions.
RECOMPUTE_FROM_FEW = 12
FEW = 2
# Ops in one kernel's expression; beyond, a value is kept, so that no walk over an expression grows deep.
LARGEST = 200
# Reshapes one behind the other in one index: a quotient and a remainder of the same part double it each time.
DEEPEST = 6

# The few kept arrays from which a node may be computed again; None: they are not few.
Origins = frozenset[Node] | None


def choose(graph: Graph, nodes: list[Node], nested: Collection[Node] = ()) -> set[Node]:
    """The nodes that get a buffer; not those that are `nested`: computed a few rows at a time in every nest that needs them."""
    readers: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for source in node.inputs:
            readers[source].append(node)
    kept = {node for node in nodes if node.op.kind in ("reduction", "contraction", "put", "join")}
    kept.update(node for node in nodes if node.op in (INPUT, LEAF, RESULT))
    for loop in nodes:
        if (
            loop.op is scan_op
        ):  # what its kernels read needs a buffer; its first carries are written to one of their own
            consts, _, slices = loop.params["form"].parts(loop.inputs)
            kept.update(consts, slices)
    kept.update(graph.outputs)
    made = _made_at_once(nodes, readers)
    sums = _sums_so_far(nodes, readers, made)
    weight: dict[Node, int] = {}  # the work of computing a node again from kept ones
    size: dict[Node, int] = {}
    reshapes: dict[Node, int] = {}  # between the node and what is kept: each may nest a quotient in the index
    origins: dict[Node, Origins] = {}
    for node in nodes:
        weight[node] = _own_cost(node) + sum(0 if s in kept else weight[s] for s in node.inputs)
        size[node] = 1 + sum(0 if s in kept else size[s] for s in node.inputs)
        deepest = max((0 if s in kept else reshapes[s] for s in node.inputs), default=0)
        reshapes[node] = deepest + (node.op is shaping.reshape)
        origins[node] = frozenset([node]) if node in kept else None if node in nested else _origins(node, origins)
        if node in kept or node in nested or isinstance(node, Several):
            continue
        follows = _follows(node, readers, made) or node in sums
        too_large = size[node] > LARGEST or reshapes[node] > DEEPEST
        if follows or too_large or _costs_to_repeat(node, readers[node], weight[node], origins[node]):
            kept.add(node.inputs[0] if _widens(node) and node.inputs[0] not in nested else node)
            origins[node] = frozenset([node if node in kept else node.inputs[0]])
    _keep_factors(nodes, kept, nested)
    return kept


def _widens(node: Node) -> bool:
    """Does it read what only stores numbers? That has all of them in half the memory."""
    return node.op is ew.cast and node.inputs[0].dtype.only_stores


def _follows(node: Node, readers: dict[Node, list[Node]], made: set[Node]) -> bool:
    """Is it the only reader of a product or sum of its own shape? Then it is free to compute right there."""
    return node.op.kind == "elementwise" and len(readers[node]) > 1 and _reads_alone(node, made)


def _sums_so_far(nodes: list[Node], readers: dict[Node, list[Node]], made: set[Node]) -> set[Node]:
    """Sums of products (as of the gradients of a weight that is used at every step) to which another such is added.

    Each product is added as it is computed. To keep all of them until the last would take their memory, and one
    kernel that reads them all.
    """
    summands = set(made)
    for node in nodes:
        if node.op is ew.add and _reads_alone(node, summands) and len(readers[node]) == 1:
            summands.add(node)

    def goes_on(node: Node) -> bool:
        (reader,) = readers[node]
        return reader.op is ew.add and any(other in summands for other in reader.inputs if other is not node)

    return {node for node in summands - made if goes_on(node)}


def _reads_alone(node: Node, made: set[Node]) -> bool:
    """Does it read a product or sum of its own shape that nobody else reads, or work on its elements that nobody else does?"""
    return any(source.shape == node.shape and source in made for source in node.inputs)


def _made_at_once(nodes: list[Node], readers: dict[Node, list[Node]]) -> set[Node]:
    """Products and sums that have one reader, and what is the only thing made of one, element by element or in another shape.

    In one walk: to ask of each node by itself took, in a chain of them, the square of its length.
    """
    found: set[Node] = set()
    for node in nodes:
        if len(readers[node]) != 1 or isinstance(node, Several):
            continue
        if node.op.kind in ("contraction", "reduction"):
            found.add(node)
        elif node.op is shaping.reshape or node.op.kind == "elementwise":
            elements = math.prod(node.shape)
            whole = [source for source in node.inputs if math.prod(source.shape) == elements]
            if len(whole) == 1 and whole[0] in found:
                found.add(node)
    return found


def _own_cost(node: Node) -> int:
    if node.op in (CONST, INPUT, LEAF, random.iota) or node.op.kind == "view" or node.op is ew.cast:
        return 0
    return node.op.cost


def _origins(node: Node, origins: dict[Node, Origins]) -> Origins:
    """The kept arrays of its size that say it element by element, beside numbers and what is smaller; None where `FEW` do not."""
    if node.op.kind != "elementwise":
        return None
    elements, found = math.prod(node.shape), frozenset[Node]()
    for source in node.inputs:
        if source.op is not CONST and math.prod(source.shape) == elements:
            of = origins[source]
            if of is None:
                return None
            found |= of
    return found if 0 < len(found) <= FEW else None


def _costs_to_repeat(node: Node, readers: list[Node], weight: int, origins: Origins) -> bool:
    """Would computing it where it is read do much more work than computing it once?"""
    if weight == 0:
        return False
    repeats = sum(_repeats(node, reader) for reader in readers)
    if origins is not None and repeats == len(readers):  # each of them wants each element once
        return repeats > 1 and weight > RECOMPUTE_FROM_FEW
    return repeats > 1 and weight > (RECOMPUTE if repeats < 4 else 1)


def _repeats(node: Node, reader: Node) -> int:
    """How many times `reader` would compute each element of `node`."""
    elements = max(1, math.prod(node.shape))
    if reader.op.kind in ("elementwise", "view") and reader.op is not shaping.slice:
        return max(1, math.prod(reader.shape) // elements)
    return 1


def _keep_factors(nodes: list[Node], kept: set[Node], nested: Collection[Node]) -> None:
    """Factors of products must be strided views of something kept: keep what is viewed, or else the view.

    A view with windows is one along its axes, and beside it the other factor has its columns side by side.
    """
    for node in nodes:
        if node.op.kind == "contraction":
            for position, factor in enumerate(node.inputs):
                if factor in nested:
                    continue
                viewed = factor
                while viewed not in kept and _viewed(viewed):
                    viewed = viewed.inputs[0]
                there = viewed in kept
                kept.add(viewed)
                windows = axes_of(node, kept)
                if windows is not None and (position == 0 or reads_lanes(factor, kept)):
                    continue
                if windows is not None or not _strided(factor, kept):
                    kept.add(factor)
                    if not there:
                        kept.remove(viewed)


def _viewed(node: Node) -> bool:
    """Is it a view, or one entry of a table (as a batch that is picked by its number)?"""
    if node.op is indexing.take:
        return all(math.prod(index.shape) == 1 for index in node.inputs[1:])
    return node.op.kind == "view" and node.op is not shaping.pad


def _strided(node: Node, kept: set[Node]) -> bool:
    """Is the node an affine view of a kept one, but for a beginning that may be data?"""
    source = node
    while source not in kept:
        if not _viewed(source):
            return False
        source = source.inputs[0]
    value = Expression(kept).value(node, variables(node.shape))
    return isinstance(value, Load) and value.is_strided
