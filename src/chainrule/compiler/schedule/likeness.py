"""When two graphs are one: the same equations in the same order, whatever their nodes are."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from chainrule.graph import CONST, Graph, subgraphs


def likeness(graph: Graph) -> Hashable | None:
    """Equal for graphs whose kernels are equal: all that a schedule reads, nodes by their numbers.

    Arrays made while tracing are told apart by their types alone, for code takes them as it takes arguments. None for a graph
    with regions, whose bodies have nodes of their own.
    """
    nodes = graph.nodes()
    numbers = {node: number for number, node in enumerate(nodes)}
    equations = []
    for node in nodes:
        if subgraphs(node):
            return None
        params = repr(node.params["value"]) if node.op is CONST else _exactly(tuple(node.params.items()))
        inputs = tuple(numbers[source] for source in node.inputs)
        equations.append((node.op, inputs, params, node.shape, node.dtype))
    return tuple(equations), tuple(numbers[node] for node in graph.outputs)


def _exactly(value: Any) -> Hashable:
    """A parameter as what tells it apart: 1 equals 1.0 and True, 0.0 equals -0.0, and a NaN not even itself."""
    if isinstance(value, tuple):
        return type(value), tuple(map(_exactly, value))
    return (type(value), repr(value)) if isinstance(value, (bool, int, float)) else value
