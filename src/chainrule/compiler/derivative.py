"""The derivative of a compiled function that is called from eager code: forward and backward one native call each.

While the function is traced, its backward pass is traced behind it. What the backward pass reads of the
forward one (the residuals) becomes further results of the forward program and inputs of the backward one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.autodiff import gradients
from chainrule.compiler.locks import Locks
from chainrule.compiler.native import Machine
from chainrule.compiler.program import Program
from chainrule.compiler.run import Run, run_with
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
    variables: list[Node]  # the inputs to differentiate with respect to, as far as the results depend on them
    residuals: list[Node]  # further results of the forward program
    read: list[Node]  # inputs of the forward program that the backward one reads too
    program: Program  # its outputs are the gradients of the variables
    _idle: list[Run] = field(default_factory=list)  # one for each thread that was here at once

    def run(self, arrays: list[Array]) -> list[Array]:
        """The gradients, for residuals, inputs and seeds."""
        try:
            run = self._idle.pop()
        except IndexError:
            with Locks.making:
                run = Run(self.program, 0)
        found = run_with(run, arrays)
        self._idle.append(run)
        return found


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
    return Derivative(results, seeds, reached, cut.residuals, cut.read, program)


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

    def pullback(self, arrived: dict[int, Tensor]) -> list[Array]:
        """The gradients of all variables, for the gradients of some results by their positions."""
        if graph.is_grad_enabled():
            raise GradientError(
                f"{graph.who('backward')}: the derivative of a compiled function is itself compiled and cannot be "
                f"differentiated again. Compile the whole computation (the derivative inside), or call the function "
                f"uncompiled."
            )
        seeds = [
            arrived[i]._node.value if i in arrived else np.zeros(seed.shape, seed.dtype.numpy)
            for i, seed in enumerate(self.derivative.seeds)
            if seed is not None
        ]
        return self.derivative.run([*self.saved, *seeds])


class Arrived:
    """The gradients that arrived at a call so far, by result: the walk adds them up as it adds tensors."""

    shape: graph.Shape = ()  # that of the call's node

    def __init__(self, by_result: dict[int, Tensor]) -> None:
        self.by_result = by_result

    def __add__(self, other: Arrived) -> Arrived:
        return Arrived({**self.by_result, **other.by_result})


def _arrive(dY: Tensor, Y: Tensor, call: Tensor, *, position: int) -> Any:
    return Arrived({position: dY})


def _joint(dY: Any, Y: Tensor, *variables: Tensor, call: Call) -> tuple[Tensor, ...]:
    found = call.pullback(dY.by_result)
    return tuple(wrap(graph.leaf(found[i], x.dtype)) for i, x in enumerate(variables))


def _given(*inputs: Any, **params: Any) -> Any:
    raise NotImplementedError("the value of a compiled call is computed by its program")


# Eager nodes for a call of a compiled function, whose inputs are the tensors to differentiate by, and for each of its
# results: so the backward program runs once, whichever results were used.
CALL = Op("compiled", "call", _given, _given, vjp=(), joint=_joint, types=None)
RESULT = Op("result", "call", _given, _given, vjp=(_arrive,), types=None)


def call_node(call: Call, variables: tuple[Node, ...]) -> Node:
    """The eager node of a call."""
    type = graph.Type((), dtypes.float32)
    return Node(CALL, variables, {"call": call}, type, value=_NOTHING, requires_grad=True)


_NOTHING = np.zeros((), np.float32)


def result_node(derivative: Derivative, made: Node, position: int, value: Array) -> Node:
    """The eager node of one result: history where it has a gradient, a plain leaf where not."""
    node = derivative.results[position]
    if derivative.seeds[position] is None:
        return graph.leaf(value, node.dtype)
    return Node(RESULT, (made,), {"position": position}, node.type, value=value, requires_grad=True)
