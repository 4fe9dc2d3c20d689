"""The core of a product: the one place that says in which order its terms are added, wherever it is computed."""

from __future__ import annotations

from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Dot, Load, Result
from chainrule.graph import Node
from chainrule.ops.contraction import in_halves, in_lanes


def dot(
    node: Node,
    row: Var | None,
    column: Var | None,
    terms: tuple[Var, ...],
    a: Load,
    b: Load,
    result: Result,
    carried: Expr | None = None,
) -> Dot:
    """The product of `node`, over these loops; the order of its sums is that of the node, whoever's loops they are."""
    k, *inner = terms
    along = in_lanes(node.shape[-1], node.inputs[0].shape[-1])
    halved = in_halves(node.inputs[0].shape[-1], **node.params)
    return Dot(row, column, k, a, b, result, along, tuple(inner), halved, carried)
