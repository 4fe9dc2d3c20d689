"""Nodes of several results.

An op whose ``infer`` gives a tuple of types makes one node, `Several`, which has no value to be read as one; for each
result a `RESULT` node picks it. Gradients arrive at those, and the walk hands them to the op's joint rule together: so
its derivative is computed once, whatever results were used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.graph import LEAF, Array, Node, Op, Recorder, Type
from chainrule.lines import user_line

# One result of a node of several: the walks know it by this name, and the rule of the node it reads serves it too.
RESULT = Op(
    "result", "projection",
    infer=lambda several, *, position: several.types[position],
    numpy=lambda values, *, position: values[position],
    vjp=(),
    types=None,
    moves=True,
)  # fmt: skip


class Several(Node):
    """An equation of several results. Whoever takes it for one value finds neither a shape nor a dtype."""

    __slots__ = ("types", "values")

    def __init__(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        params: dict[str, Any],
        types: tuple[Type, ...],
        values: tuple[Array, ...] | None = None,
        requires_grad: bool = False,
        trace: Recorder | None = None,
    ) -> None:
        super().__init__(op, inputs, params, types[0], None, requires_grad, trace)
        del self.shape, self.dtype
        self.types, self.values = types, values  # eager: what the derivative may read; None: it reads none

    def __repr__(self) -> str:
        return f"<{self.op.name}: {type_text(self)}>"

    def release(self) -> None:
        super().release()
        self.values = None

    def results(self) -> tuple[Node, ...]:
        """A node for each result, eager ones of integers without a history; none where the values were not kept."""
        values = self.values if self.trace is None else (None,) * len(self.types)
        return tuple([self.result(position, value) for position, value in enumerate(values or ())])

    def result(self, position: int, value: Array | None) -> Node:
        """The node that picks one result."""
        type = self.types[position]
        history = self.requires_grad and type.dtype.is_floating_point
        if value is not None and not history:
            return Node(LEAF, (), {}, type, value)
        made = Node(RESULT, (self,), {"position": position}, type, value, history, self.trace)
        made.stand_for(self)
        return made


def apply_several(op: Op, inputs: tuple[Node, ...], params: dict[str, Any]) -> tuple[Node, ...]:
    """As `apply`, for an op of several results: a node for each."""
    types: tuple[Type, ...] = op.infer(*inputs, **params)
    trace, values = graph.current_trace(), None
    if trace is None:
        for type in types:
            graph.check_size(op.name, type.shape, type.dtype)
        values = evaluate_several(op, [node.value for node in inputs], params, types)
    history = graph.is_grad_enabled() and any(node.requires_grad for node in inputs)
    made = Several(op, inputs, params, types, values, history, trace)
    made.line = made.line or user_line(3)
    return made.results()


def single(node: Node) -> tuple[Op, tuple[Node, ...], dict[str, Any]]:
    """What makes a node of one value: its op, inputs and params, or for one result of several that part of the op."""
    if node.op is not RESULT:
        return node.op, node.inputs, node.params
    (several,) = node.inputs
    return part(several.op, node.params["position"]), several.inputs, several.params


def sources(node: Node) -> tuple[Node, ...]:
    """The values that a node is made of: of one result of several, what the node of several reads."""
    return node.inputs[0].inputs if node.op is RESULT else node.inputs


def name_of(node: Node) -> str:
    """The op's name; ``frexp.0`` for a first result."""
    return f"{node.inputs[0].op.name}.{node.params['position']}" if node.op is RESULT else node.op.name


@cache
def part(op: Op, position: int) -> Op:
    """One result of an elementwise op of several, as an op of its own (of one with a region, to evaluate it alone).

    A program computes each result where it is needed, by itself: what several of them have in common is computed once
    where they stand in one kernel.
    """
    if op.kind not in ("elementwise", "region"):
        raise TypeError(f"the results of {op.name} are made together; this is a bug in chainrule")
    return replace(
        op,
        name=f"{op.name}.{position}",
        infer=lambda *inputs, **params: op.infer(*inputs, **params)[position],
        numpy=lambda *arrays, **params: op.numpy(*arrays, **params)[position],
        lower=lambda e, *xs, **params: op.lower(e, *xs, **params)[position],
        joint=None,
        types=None,
    )


def rebuilt(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The same equation over other inputs, without value or history."""
    return _over(node, inputs, node.op.infer(*inputs, **node.params))


def copied(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The same equation over other inputs of the same types, with its history and trace."""
    copy = _over(node, inputs, node.types if isinstance(node, Several) else node.type)
    copy.requires_grad, copy.trace = node.requires_grad, node.trace
    return copy


def _over(node: Node, inputs: tuple[Node, ...], type: Any) -> Node:
    make: Any = Several if isinstance(node, Several) else Node
    copy: Node = make(node.op, inputs, node.params, type)
    copy.stand_for(node)
    return copy


def evaluate_several(
    op: Op, arrays: Sequence[Array], params: dict[str, Any], types: Sequence[Type]
) -> tuple[Array, ...]:
    """As `evaluate`, for an op of several results: each in its declared dtype."""
    found: list[Any] = []

    def first(*arrays: Array, **params: Any) -> Any:
        found[:] = op.numpy(*arrays, **params)
        return found[0]

    graph.evaluate(replace(op, numpy=first), arrays, params, types[0])
    return tuple(np.asarray(value, type.dtype.numpy) for value, type in zip(found, types, strict=True))


def type_text(of: Node | Type | tuple[Type, ...]) -> str:
    """``f32[2, 3]``, or ``(f32[2, 3], i64[2])`` for several results."""
    if isinstance(of, Node):
        of = of.types if isinstance(of, Several) else of.type
    return str(of) if isinstance(of, Type) else f"({', '.join(map(str, of))})"
