"""The derivative of a compiled function that is called from eager code: forward and backward one native call each.

While the function is traced, its backward pass is traced behind it. What the backward pass reads of the
forward one (the residuals) becomes further results of the forward program and inputs of the backward one.
Where gradients arrive at some of the results only, a backward program of its own leaves out all that the others need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.autodiff.walk import gradients, reaching
from chainrule.compiler.frontend.trace import Trace
from chainrule.compiler.program import Program
from chainrule.compiler.runtime.locks import Locks
from chainrule.compiler.runtime.native import Machine
from chainrule.compiler.runtime.run import Run, run_with
from chainrule.errors import GradientError
from chainrule.graph import CONST, INPUT, LEAF, Array, Graph, Node, Op
from chainrule.ops import elementwise as ew
from chainrule.ops import shaping
from chainrule.several import RESULT, Several, rebuilt
from chainrule.tensor import Tensor
from chainrule.tensor.core import wrap


@dataclass(eq=False)
class Pass:
    """The backward program for gradients of some of the results."""

    program: Program
    reached: list[int]  # its outputs are the gradients of the variables at these positions
    _idle: list[Run] = field(default_factory=list)  # one for each thread that was here at once

    def run(self, arrays: list[Array]) -> dict[int, Array]:
        """The gradients by the positions of their variables."""
        try:
            run = self._idle.pop()
        except IndexError:
            with Locks.making:
                run = Run(self.program, 0)
        found = run_with(run, arrays)
        self._idle.append(run)
        return dict(zip(self.reached, found, strict=True))


@dataclass(eq=False)
class Derivative:
    """The backward graph of one traced function, and what was made of it."""

    results: list[Node]  # the results of the forward pass, as traced
    seeds: list[Node | None]  # for each, the input that receives its gradient; None: it has none
    variables: list[Node]  # the inputs to differentiate with respect to, as far as the results depend on them
    behind: list[frozenset[int]]  # for each result, the positions of the variables that it depends on
    residuals: list[Node]  # further results of the forward program
    read: list[Node]  # inputs of the forward program that the backward one reads too
    inputs: list[Node]  # of the backward graph: residuals, what is read, seeds
    outputs: list[Node]  # of the backward graph: the gradients of the variables
    machine: Machine
    _passes: dict[frozenset[int], Pass] = field(default_factory=dict)

    @cached_property
    def types(self) -> tuple[graph.Type, ...]:
        """Those of the results."""
        return tuple(node.type for node in self.results)

    def of(self, arrived: frozenset[int]) -> Pass:
        """The backward program where gradients arrived at these results, made when it is first needed."""
        found = self._passes.get(arrived)
        if found is None:
            with Locks.making:
                found = self._passes.setdefault(arrived, self._made(arrived))
        return found

    def _made(self, arrived: frozenset[int]) -> Pass:
        reached = sorted(frozenset().union(*(self.behind[i] for i in arrived)))
        present = {seed for i, seed in enumerate(self.seeds) if seed is not None and i in arrived}
        absent = {seed for seed in self.seeds if seed is not None and seed not in present}
        outputs = _without(absent, present, [self.outputs[i] for i in reached])
        read = set(graph.toposort(outputs))
        slots = {node: position for position, node in enumerate(self.inputs)}
        written = [len(self.inputs) + i for i in range(len(outputs))]
        inputs = [node for node in self.inputs if node in read]
        return Pass(Program(Graph(inputs, outputs), slots, written, machine=self.machine), reached)


def _without(absent: set[Node], present: set[Node], outputs: list[Node]) -> list[Node]:
    """The gradients where none arrives at some seeds.

    Each is linear in the seeds, so what depends on absent ones alone is nothing: not a number times 0, which is NaN
    where the number is infinite.
    """
    if not absent:
        return outputs
    seeded, gone = _depending(present, outputs), set(absent)
    images: dict[Node, Node] = {}
    for node in graph.toposort(outputs):
        lost = [source in gone for source in node.inputs]
        if any(lost) and not any(source in seeded and source not in gone for source in node.inputs):
            gone.add(node)
        elif any(lost) or any(images[source] is not source for source in node.inputs):
            images[node] = _rebuilt(node, gone, images)
        else:
            images[node] = node
    return [_zeros(node.type) if node in gone else images[node] for node in outputs]


def _rebuilt(node: Node, gone: set[Node], images: dict[Node, Node]) -> Node:
    """The node without those of its inputs that are gone."""
    left = [images[source] for source in node.inputs if source not in gone]
    if node.op is ew.add and len(left) == 1 and left[0].type == node.type:
        return left[0]
    inputs = tuple(_zeros(source.type) if source in gone else images[source] for source in node.inputs)
    return rebuilt(node, inputs)


def _zeros(type: graph.Type) -> Node:
    zero = graph.const(0.0, type.dtype)
    return Node(shaping.expand, (zero,), {"shape": type.shape}, type) if type.shape else zero


def _depending(seeds: set[Node], outputs: list[Node]) -> set[Node]:
    """What depends on one of the seeds."""
    found = set(seeds)
    for node in graph.toposort(outputs):
        if not found.isdisjoint(node.inputs):
            found.add(node)
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
    cut = _Backward(results, outputs, {seed for seed in seeds if seed is not None})
    inputs = [*cut.placeholders, *cut.read, *(seed for seed in seeds if seed is not None)]
    behind = reaching(results, reached)
    return Derivative(results, seeds, reached, behind, cut.residuals, cut.read, inputs, cut.outputs, machine)


def _seed(node: Node, trace: Trace) -> Node:
    return Node(INPUT, (), {}, node.type, trace=trace)


class _Backward:
    """The backward graph, cut loose from the forward one at the residuals."""

    def __init__(self, results: list[Node], outputs: list[Node], seeds: set[Node]) -> None:
        forward = set(graph.toposort(results))
        order = graph.toposort(outputs)  # a rule may read results that nobody else does
        forward.update(node for node in order if node.op is RESULT and node.inputs[0] in forward)
        self.residuals: list[Node] = []
        self.read: list[Node] = []
        self.placeholders: list[Node] = []
        self._image: dict[Node, Node] = {}
        self._seeds = seeds
        for node in order:
            if node not in forward:
                self._image[node] = self._copy(node, forward)
        self.outputs = [self._image[n] if n in self._image else self._boundary(n) for n in outputs]

    def _copy(self, node: Node, forward: set[Node]) -> Node:
        if node.op is INPUT and node not in self._seeds:
            return self._boundary(node)
        if not node.inputs:
            return node
        inputs = tuple(self._boundary(s) if s in forward else self._image[s] for s in node.inputs)
        return rebuilt(node, inputs)

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

    def pullback(self, given: Sequence[Tensor | None]) -> list[Array | None]:
        """The gradients of all variables for those of the results; None: nothing that one arrived at depends on it."""
        if graph.is_grad_enabled():
            raise GradientError(
                f"{graph.who('backward')}: the derivative of a compiled function is itself compiled and cannot be "
                f"differentiated again. Compile the whole computation (the derivative inside), or call the function "
                f"uncompiled."
            )
        seeded = [dY for dY, seed in zip(given, self.derivative.seeds, strict=True) if seed is not None]
        seeds = [_NOTHING if dY is None else dY._node.value for dY in seeded]
        arrived = frozenset(i for i, dY in enumerate(given) if dY is not None)
        found = self.derivative.of(arrived).run([*self.saved, *seeds])
        return [found.get(i) for i in range(len(self.derivative.variables))]


def _joint(given: Sequence[Tensor | None], results: Any, *variables: Tensor, call: Call) -> tuple[Tensor | None, ...]:
    pairs = zip(call.pullback(given), variables, strict=True)
    return tuple(None if array is None else wrap(graph.leaf(array, x.dtype)) for array, x in pairs)


def _given(*arrays: Array, call: Call) -> Any:
    raise NotImplementedError("the values of a compiled call are computed by its program")


# An eager node for a call of a compiled function; its inputs are the tensors to differentiate by.
CALL = Op(
    "compiled", "call",
    infer=lambda *variables, call: call.derivative.types,
    numpy=_given,
    vjp=(),
    types=None,
    joint=_joint,
    moves=True,
)  # fmt: skip


def results_of(call: Call, variables: tuple[Node, ...], values: Sequence[Array]) -> list[Node]:
    """The eager nodes of a call's results: with history where they have a gradient, plain leaves where not."""
    derivative = call.derivative
    made = Several(CALL, variables, {"call": call}, derivative.types, requires_grad=True)
    return [
        graph.leaf(value, node.dtype) if seed is None else made.result(position, value)
        for position, (value, node, seed) in enumerate(zip(values, derivative.results, derivative.seeds, strict=True))
    ]


_NOTHING = np.zeros((), np.float32)
