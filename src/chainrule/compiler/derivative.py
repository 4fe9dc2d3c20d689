"""The derivative of a compiled function that is called from eager code: forward and backward one native call each.

While the function is traced, its backward pass is traced behind it. What the backward pass reads of the
forward one (the residuals) becomes further results of the forward program and inputs of the backward one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.autodiff import gradients
from chainrule.compiler.native import Machine
from chainrule.compiler.program import Program
from chainrule.compiler.run import run_once
from chainrule.compiler.trace import Trace
from chainrule.errors import GradientError
from chainrule.graph import CONST, INPUT, LEAF, Array, Graph, Node, Op
from chainrule.tensor import Tensor
from chainrule.tensor.core import wrap


@dataclass(eq=False)
class Derivative:
    """The backward program of one traced function."""

    results: list[Node]  # the results of the forward pass, as traced
    seeds: list[Node | None]  # for each, the input that receives its gradient; None: it has none
    variables: list[Node]  # the inputs to differentiate with respect to
    residuals: list[Node]  # further results of the forward program
    read: list[Node]  # inputs of the forward program that the backward one reads too
    program: Program
    gradients: list[int]  # for each variable, which output of the program is its gradient; -1: none


def derivative_of(trace: Trace, results: list[Node], machine: Machine) -> Derivative | None:
    """The backward program for a machine, or None for a function whose results need no gradient (or that ran its own)."""
    if trace.ran_backward or not graph.is_grad_enabled() or not any(node.requires_grad for node in results):
        return None
    variables = [slot.input for slot in trace.slots.values() if slot.input.requires_grad]
    seeds = [_seed(node, trace) if node.requires_grad else None for node in results]
    pairs = [(wrap(node), wrap(seed)) for node, seed in zip(results, seeds, strict=True) if seed is not None]
    found = gradients([y for y, _ in pairs], [seed for _, seed in pairs], variables)
    reached = [node for node in variables if node in found]
    outputs = [found[node]._node for node in reached]
    cut = _Cut(results, outputs, {seed for seed in seeds if seed is not None})
    inputs = [*cut.placeholders, *cut.read, *(seed for seed in seeds if seed is not None)]
    slots = {node: position for position, node in enumerate(inputs)}
    written = [len(inputs) + i for i in range(len(outputs))]
    program = Program(Graph(inputs, cut.outputs), slots, written, machine=machine)
    where = {node: position for position, node in enumerate(reached)}
    return Derivative(
        results, seeds, variables, cut.residuals, cut.read, program, [where.get(node, -1) for node in variables]
    )


def _seed(node: Node, trace: Trace) -> Node:
    return Node(INPUT, (), {}, node.type, trace=trace)


class _Cut:
    """The backward graph, cut loose from the forward one at the residuals."""

    def __init__(self, results: list[Node], outputs: list[Node], seeds: set[Node]) -> None:
        forward = set(graph.toposort(results))
        self.residuals: list[Node] = []
        self.read: list[Node] = []
        self.placeholders: list[Node] = []
        self._image: dict[Node, Node] = {}
        self._seeds = seeds
        for node in graph.toposort(outputs):
            if node not in forward:
                self._image[node] = self._copy(node, forward)
        self.outputs = [self._image[n] if n in self._image else self._boundary(n) for n in outputs]

    def _copy(self, node: Node, forward: set[Node]) -> Node:
        if node.op is INPUT and node not in self._seeds:
            return self._boundary(node)
        if not node.inputs:
            return node
        inputs = tuple(self._boundary(s) if s in forward else self._image[s] for s in node.inputs)
        copy = Node(node.op, inputs, node.params, node.type)
        copy.layer, copy.line = node.layer, node.line
        return copy

    def _boundary(self, node: Node) -> Node:
        """What stands for a node of the forward pass in the backward program."""
        if node.op in (CONST, LEAF):
            return node
        if node.op is INPUT:
            if node not in self.read:
                self.read.append(node)
            return node
        if node not in self._image:
            self._image[node] = Node(INPUT, (), {}, node.type)
            self.residuals.append(node)
            self.placeholders.append(self._image[node])
        return self._image[node]


@dataclass(eq=False)
class Call:
    """One run of a forward program, and what its backward pass needs."""

    derivative: Derivative
    saved: list[Array]  # residuals, then the forward inputs that are read again
    _memo: tuple[Any, list[Array]] | None = field(default=None)

    def pullback(self, position: int, dY: Tensor) -> list[Array]:
        """The gradients of all variables, for the gradient of one result."""
        if graph.is_grad_enabled():
            raise GradientError(
                f"{graph.who('backward')}: the derivative of a compiled function is itself compiled and cannot be "
                f"differentiated again. Compile the whole computation (the derivative inside), or call the function "
                f"uncompiled."
            )
        if self._memo is None or self._memo[0] is not dY:
            self._memo = (dY, run_once(self.derivative.program, [*self.saved, *self._seeds(position, dY)]))
        return self._memo[1]

    def _seeds(self, position: int, dY: Tensor) -> list[Array]:
        chosen = self.derivative.seeds
        return [
            dY._node.value if i == position else np.zeros(seed.shape, seed.dtype.numpy)
            for i, seed in enumerate(chosen)
            if seed is not None
        ]


def _rule(argument: int) -> Any:
    def rule(dY: Tensor, Y: Tensor, *inputs: Tensor, call: Call, position: int) -> Tensor:
        output = call.derivative.gradients[argument]
        if output < 0:
            return inputs[argument].new_zeros(inputs[argument].shape)
        return wrap(graph.leaf(call.pullback(position, dY)[output], inputs[argument].dtype))

    return rule


def _type(*inputs: Node, call: Call, position: int) -> graph.Type:
    return call.derivative.results[position].type


def _computed(*inputs: Any, call: Call, position: int) -> Any:
    raise NotImplementedError("the value of a compiled call is computed by its program")


# An eager node for a result of a compiled function; its inputs are the tensors to differentiate by.
COMPILED = Op("compiled", "call", _type, _computed, vjp=_rule, types=None)


def result_node(call: Call, position: int, value: Array, variables: tuple[Node, ...]) -> Node:
    """The eager node of one result: history where it has a gradient, a plain leaf where not."""
    node = call.derivative.results[position]
    if call.derivative.seeds[position] is None:
        return graph.leaf(value, node.dtype)
    params = {"call": call, "position": position}
    return Node(COMPILED, variables, params, node.type, value=value, requires_grad=True)
