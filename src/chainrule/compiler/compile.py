"""``cr.compile``: a Python function as one native call.

A call finds the program for its signature (shapes, dtypes, Python arguments, guards), or traces one; puts
the addresses of all buffers into a table; runs; and hands out the results. State lives in buffers that the
program updates in place. Whoever reads such a state from Python gets an array that no later step touches:
the next step then continues in a fresh copy.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property, update_wrapper
from types import MethodType
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.compiler import tree, watch
from chainrule.compiler.buffers import address, aligned, contiguous
from chainrule.compiler.derivative import Call, Derivative, derivative_of, result_node
from chainrule.compiler.module import SYNC_BYTES
from chainrule.compiler.program import Program
from chainrule.compiler.threads import get_num_threads, new_sync, together
from chainrule.compiler.trace import GradSlot, Slot, Trace, graph_of, trace_function
from chainrule.compiler.watch import Watched
from chainrule.errors import IndexRangeError, ShapeError, TraceError
from chainrule.graph import Array, Node
from chainrule.tensor import Tensor
from chainrule.tensor.core import Handle, wrap

MANY_TRACES = 16


def compile(function: Callable[..., Any]) -> Compiled:
    """`function` traced once for each signature, then run as one native call.

    Inside, everything works as in eager mode: forward passes, ``backward()``, optimizer steps. Every tensor
    that existed before and is rebound inside (a weight, a moment, a running mean) is state and is written
    back. A changed shape, dtype or Python argument traces anew. Python code that needs the value of a
    tensor (``float(t)``, ``if t:``) raises `TraceError`; nothing falls back to eager in silence.

    Args:
        function: takes tensors (or arrays, numbers, nested lists and dicts of them); returns tensors, or
            nested tuples, lists and dicts of them.

    >>> import chainrule as cr
    >>> w = cr.tensor(1.0)
    >>> @cr.compile
    ... def halve(x):
    ...     w.mul_(0.5)
    ...     return x * w
    >>> halve(cr.tensor([2.0, 4.0])), halve(cr.tensor([2.0, 4.0])), w
    (tensor([1., 2.]), tensor([0.5000, 1.0000]), tensor(0.2500))
    """
    return Compiled(function)


class Compiled:
    """A function that `compile` made; call it like the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        update_wrapper(self, function, updated=())  # not __dict__: a module keeps its parameters to itself
        self._function = function
        self._variants: dict[Hashable, list[Variant]] = {}
        self._latest: Variant | None = None
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if graph.tracing():  # inside another compiled function: part of it
            return self._function(*args, **kwargs)
        leaves: list[Handle] = []
        description = tree.flatten((args, kwargs), leaves)
        with self._lock:
            variant = self._variant(description, leaves, [leaf._node for leaf in leaves])
            return variant.call(leaves)

    def __getattr__(self, name: str) -> Any:
        """A compiled module still has its parameters, its state_dict and its mode."""
        if name == "_function":
            raise AttributeError(name)
        return getattr(self._function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """A compiled method is bound like any other."""
        return self if instance is None else MethodType(self, instance)

    def loop(self, *args: Any, **kwargs: Any) -> Any:
        """Run one step for each entry along the first axis of every tensor argument, in one native call.

        Returns what the function returns, each tensor stacked along a new first axis.

        >>> import chainrule as cr
        >>> total = cr.tensor(0.0)
        >>> @cr.compile
        ... def add(x):
        ...     total.add_(x)
        ...     return total * 1
        >>> add.loop(cr.tensor([1.0, 2.0, 3.0]))
        tensor([1., 3., 6.])
        """
        leaves: list[Handle] = []
        description = tree.flatten((args, kwargs), leaves)
        steps = _steps(leaves)
        with self._lock:
            first = [Node(graph.LEAF, (), {}, graph.Type(x.shape[1:], x.dtype)) for x in leaves]
            variant = self._variant(description, leaves, first)
            return variant.loop(leaves, steps)

    def watch(self, *args: Any, **kwargs: Any) -> Watched:
        """Run one call as usual and give every value on the way, instead of what the function returns."""
        leaves: list[Handle] = []
        description = tree.flatten((args, kwargs), leaves)
        with self._lock:
            return self._variant(description, leaves, [leaf._node for leaf in leaves]).watch(leaves)

    def show(self, stage: str = "graph", cpu: str | None = None) -> str:
        """The latest program at a stage: "trace", "graph", "kernels", "memory", "llvm" or "asm".

        The last two are for this machine, or for the one that `cpu` names (see `compiler.native.CPUS`).
        """
        if self._latest is None:
            raise TraceError("show: nothing has been compiled yet. Call the function once first.")
        return self._latest.program.show(stage, cpu)

    def _variant(self, description: Hashable, leaves: list[Handle], nodes: list[Node]) -> Variant:
        """The program for these arguments, traced now if there is none."""
        types = tuple((n.shape, n.dtype, leaf.requires_grad) for n, leaf in zip(nodes, leaves, strict=True))
        same = tuple(next(j for j, other in enumerate(leaves) if other is leaf) for leaf in leaves)
        key = (description, types, same, graph.is_grad_enabled())
        for variant in self._variants.get(key, ()):
            if variant.holds(leaves):
                self._latest = variant
                return variant
        variant = Variant(self._function, description, leaves, nodes)
        variant.meet(leaves)
        self._variants.setdefault(key, []).append(variant)
        self._count_traces()
        self._latest = variant
        return variant

    def _count_traces(self) -> None:
        count = sum(map(len, self._variants.values()))
        if count == MANY_TRACES:
            warnings.warn(
                f"{getattr(self, '__name__', 'a compiled function')} has been traced {count} times, once for every new "
                f"combination of shapes, dtypes and Python arguments. Pass numbers that change as tensors "
                f"(cr.tensor(x)), and keep batch sizes to a few.",
                stacklevel=4,
            )


def _steps(leaves: list[Handle]) -> int:
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in leaves}
    if len(lengths) != 1 or None in lengths:
        raise ShapeError(
            f"loop: every tensor argument needs a first axis of one common length (the steps), got shapes "
            f"{[leaf.shape for leaf in leaves]}. Stack the arguments of all steps along a new first axis."
        )
    return next(iter(lengths)) or 0


class Variant:
    """One program of a compiled function, and the handles it is bound to."""

    def __init__(self, function: Callable[..., Any], description: Any, leaves: list[Handle], nodes: list[Node]) -> None:
        placeholders = _placeholders(leaves, nodes)
        results: list[Handle] = []
        shape: list[Any] = []

        def run(*args: Any, **kwargs: Any) -> None:
            shape.append(_flatten_result(function(*args, **kwargs), results))
            self.result_nodes = [_result_node(handle, trace_now()) for handle in results]
            self.derivative = derivative_of(trace_now(), self.result_nodes)

        def trace_now() -> Trace:
            current = graph.current_trace()
            if not isinstance(current, Trace):
                raise TraceError("a compiled function ended its own trace; this is a bug in chainrule")
            return current

        def arguments(handles: list[Any]) -> tuple[Any, Any]:
            source = iter(handles)
            args, kwargs = tree.rebuild(description, lambda: next(source))
            return args, kwargs

        self.result_nodes: list[Node] = []
        self.derivative: Derivative | None = None
        trace, _ = trace_function(run, placeholders, arguments)
        self.description = shape[0]
        self.trace = trace
        self.results = results
        self._bind(placeholders)

    # -- binding ----------------------------------------------------------------------------
    def _bind(self, placeholders: list[Handle]) -> None:
        """Lay out the table: arguments, results, live numbers, state, gradients."""
        trace = self.trace
        if self.derivative is not None:
            self.result_nodes = [*self.result_nodes, *self.derivative.residuals]
        slots = list(trace.slots.values())
        self.arguments = sorted((s for s in slots if s.argument is not None), key=lambda s: s.argument or 0)
        program_graph = graph_of(trace, self.result_nodes)
        read = set(program_graph.inputs)
        self.state = [s for s in slots if s.argument is None and (s.input in read or s.final is not None)]
        trace.live = [(getter, node) for getter, node in trace.live if node in read]
        self.grads = [g for g in trace.grads.values() if g.final is not None]
        self.cleared = [g for g in trace.grads.values() if g.final is None and g.after is not g.before]
        first_result = len(self.arguments)
        first_live = first_result + len(self.result_nodes)
        first_state = first_live + len(trace.live)
        first_grad = first_state + len(self.state)
        entries: dict[Node, int] = {s.input: i for i, s in enumerate(self.arguments)}
        entries.update({node: first_live + i for i, (_, node) in enumerate(trace.live)})
        entries.update({s.input: first_state + i for i, s in enumerate(self.state)})
        written = [first_result + i for i in range(len(self.result_nodes))]
        written += [entries[s.input] for s in slots if s.final is not None]
        written += [first_grad + i for i in range(len(self.grads))]
        names = {entry: f"out{i}" for i, entry in enumerate(written[: len(self.result_nodes)])}
        names.update({first_grad + i: f"grad{i}" for i in range(len(self.grads))})
        for node, entry in entries.items():
            program_graph.names[node] = _input_name(entry, first_live, first_state)
        self.program = Program(program_graph, entries, written, names)
        self.first_result, self.first_live, self.first_state, self.first_grad = (
            first_result, first_live, first_state, first_grad,
        )  # fmt: skip
        self._allocate()

    def _allocate(self) -> None:
        program = self.program
        self.table = np.zeros(program.table, np.uintp)
        self.strides = np.zeros(program.table, np.int64)
        self.sync = new_sync(SYNC_BYTES)
        self.threads = 0  # what the working memory below is for
        self.keep: list[Array] = []
        self.live = np.zeros(max(1, len(self.trace.live)), np.float64)
        for i in range(len(self.trace.live)):
            self.table[self.first_live + i] = address(self.live) + 8 * i
        for i, node in enumerate(program.constants):
            constant = contiguous(node.value)
            self.table[program.table - len(program.constants) + i] = address(constant)
            self.keep.append(constant)
        self.bound: list[Node | None] = [None] * len(self.state)
        self.gradients: list[Tensor | None] = [None] * len(self.grads)
        self.run = program.code.run

    def meet(self, leaves: list[Handle]) -> None:
        """The gradient of an argument belongs to whatever tensor this call passes for it."""
        for grad in self.trace.grads.values():
            if grad.argument is not None:
                grad.owner = leaves[grad.argument]

    def holds(self, leaves: list[Handle]) -> bool:
        """Is everything Python that the trace depended on still as it was?"""
        for getter, value in self.trace.guards:
            if getter() != value:
                return False
        self.meet(leaves)
        for grad in self.trace.grads.values():
            if not grad.fits():
                return False
        for slot, bound in zip(self.state, self.bound, strict=True):
            node = slot.current()._node
            if node is not bound and not _same_kind(node, slot.input):
                return False
        # Also tensors that the program itself no longer reads: whether they require grad shaped the trace.
        return all(
            slot.current()._node.requires_grad == slot.input.requires_grad
            for slot in self.trace.slots.values()
            if slot.argument is None
        )

    # -- running ----------------------------------------------------------------------------
    def call(self, leaves: list[Handle]) -> Any:
        outputs = [np.empty(node.shape, node.dtype.numpy) for node in self.result_nodes]
        self._prepare(leaves, outputs, [0] * len(leaves))
        variables = self._variables(leaves) if self.derivative is not None else ()
        saved = self._read_again(leaves) if self.derivative is not None else []
        self._execute(1)
        if self.derivative is None:
            return self._finish(
                leaves, [graph.leaf(a, n.dtype) for a, n in zip(outputs, self.result_nodes, strict=True)]
            )
        count = len(self.derivative.results)
        call = Call(self.derivative, [*outputs[count:], *saved])
        return self._finish(leaves, [result_node(call, i, outputs[i], variables) for i in range(count)])

    def _variables(self, leaves: list[Handle]) -> tuple[Node, ...]:
        """The eager nodes to differentiate by, in the derivative's order."""
        chosen = self.derivative.variables if self.derivative is not None else []
        return tuple(self._eager(node, leaves) for node in chosen)

    def _read_again(self, leaves: list[Handle]) -> list[Array]:
        """The values of the inputs that the backward pass reads, safe from later writes."""
        chosen = self.derivative.read if self.derivative is not None else []
        live = {node: np.asarray(self.live[i]) for i, (_, node) in enumerate(self.trace.live)}
        return [live[node].copy() if node in live else self._eager(node, leaves).value for node in chosen]

    def _eager(self, entry: Node, leaves: list[Handle]) -> Node:
        slot = next(slot for slot in self.trace.slots.values() if slot.input is entry)
        return (slot.current() if slot.argument is None else leaves[slot.argument])._node

    def loop(self, leaves: list[Handle], steps: int) -> Any:
        if self.derivative is not None:
            raise TraceError(
                "loop: the function returns tensors that require grad, and no gradient flows out of a loop. Run it "
                "under cr.no_grad(), detach its results, or call backward inside it."
            )
        if any(s.final is not None for s in self.arguments) or any(g.argument is not None for g in self.grads):
            raise TraceError(
                "loop: the function changes one of its arguments in place, which has no meaning over many steps. "
                "Keep state in tensors that exist outside the function."
            )
        outputs = [np.empty((steps, *node.shape), node.dtype.numpy) for node in self.result_nodes]
        self._prepare(leaves, outputs, [_stride(s.input) for s in self.arguments])
        if not steps:
            return self._rebuilt([graph.leaf(a, n.dtype) for a, n in zip(outputs, self.result_nodes, strict=True)])
        self._execute(steps)
        return self._finish(leaves, [graph.leaf(a, n.dtype) for a, n in zip(outputs, self.result_nodes, strict=True)])

    @cached_property
    def _watched(self) -> Program:
        return replace(self.program, watched=True)

    def watch(self, leaves: list[Handle]) -> Watched:
        outputs = [np.empty(node.shape, node.dtype.numpy) for node in self.result_nodes]
        self._prepare(leaves, outputs, [0] * len(leaves))
        status, stored = watch.run(self._watched, self.table)
        if status:
            raise self._failure(status & 0xFFFF, status >> 16)
        self._finish(leaves, [graph.leaf(a, n.dtype) for a, n in zip(outputs, self.result_nodes, strict=True)])
        return Watched(self.trace, self._watched, stored)

    def _prepare(self, leaves: list[Handle], outputs: list[Array], strides: list[int]) -> None:
        """Point every table entry at its buffer."""
        self.hold: list[Any] = []
        for i, slot in enumerate(self.arguments):
            array = contiguous(leaves[slot.argument or 0]._node.value)
            if slot.final is not None:
                array = array.copy()
            self.hold.append(array)
            self.table[i] = address(array)
            self.strides[i] = strides[i]
        stacked = any(strides)
        for i, (output, node) in enumerate(zip(outputs, self.result_nodes, strict=True)):
            self.table[self.first_result + i] = address(output)
            self.strides[self.first_result + i] = _stride(node) if stacked or output.ndim > len(node.shape) else 0
        for i, (getter, _) in enumerate(self.trace.live):
            self.live[i] = getter()
        for i, slot in enumerate(self.state):
            node = slot.current()._node
            if node is not self.bound[i] or (node.seen and slot.final is not None):
                self._bind_state(i, slot, node)
        for i, grad in enumerate(self.grads):
            self._bind_gradient(i, grad)

    def _bind_state(self, i: int, slot: Slot, node: Node) -> None:
        """Give a state slot its buffer: the handle's own, or a copy where someone may hold that one."""
        held = node._value  # not `value`: reading it would mark it as seen
        if held is None:
            raise TraceError(f"{node.op.name}{node.whereabouts()}: a traced tensor has no value to run on.")
        array = contiguous(held)
        if slot.final is not None and (node.seen or array is not held):
            array = array.copy()
            node = graph.leaf(array, node.dtype, node.requires_grad, node.owner)
            node.seen = False
            slot.current()._node = node
        elif array is not node._value:
            self.hold.append(array)
        self.table[self.first_state + i] = address(array)
        self.bound[i] = node if array is node._value else None
        self.hold.append(array)

    def _bind_gradient(self, i: int, grad: GradSlot) -> None:
        held = self.gradients[i]
        # Nobody but this list and the owner's attribute may hold it, and the program itself must not read it.
        expected = _ALONE + 1 + (grad.owner._grad is held)  # 1: `held`
        free = held is not None and not held._node.seen and not grad.accumulates
        if free and _references(self.gradients, i) <= expected:
            return
        final = grad.final
        if final is None:
            return
        array = np.empty(final.shape, final.dtype.numpy)
        node = graph.leaf(array, final.dtype)
        node.seen = False
        self.gradients[i] = wrap(node)
        self.table[self.first_grad + i] = address(array)

    def _execute(self, steps: int) -> None:
        threads = self.program.threads(steps, get_num_threads())
        if threads > self.threads:
            self.threads = threads
            self.working = aligned(self.program.working(threads))
            self.tables = np.empty((threads, len(self.table)), np.uintp)
            self.fixed = (address(self.strides), address(self.working), self.first_live)
        if threads == 1:
            status = self.run(address(self.table), *self.fixed, steps, 0, 1, address(self.sync))
        else:
            status = self._execute_together(threads, steps)
        if status:
            raise self._failure(status & 0xFFFF, status >> 16)

    def _execute_together(self, threads: int, steps: int) -> int:
        """Each thread moves along a table of its own."""
        tables = self.tables[:threads]
        tables[:] = self.table
        status = [0]

        def work(thread: int) -> None:
            code = self.run(address(tables[thread]), *self.fixed, steps, thread, threads, address(self.sync))
            if thread == 0:
                status[0] = code

        def alone() -> None:
            status[0] = self.run(address(self.table), *self.fixed, steps, 0, 1, address(self.sync))

        together(threads, work, alone)
        return status[0]

    def _failure(self, code: int, step: int) -> Exception:
        node = self.program.schedule.checks[code - 1]
        where = f"index{node.whereabouts()}"
        if step:
            where += f", step {step} of the loop"
        size = node.params["size"]
        return IndexRangeError(
            f"{where}: an index is out of range for an axis of size {size}: it must be in [{-size}, {size - 1}]. "
            f"Check the indices (labels start at 0)."
        )

    def _finish(self, leaves: list[Handle], results: list[Node]) -> Any:
        for i, slot in enumerate(self.arguments):
            if slot.final is not None:
                handle = leaves[slot.argument or 0]
                handle._node = graph.leaf(self.hold[i], handle.dtype, handle._node.requires_grad, handle._node.owner)
        for grad, held in zip(self.grads, self.gradients, strict=True):
            grad.owner._grad = held
        for grad in self.cleared:
            grad.owner._grad = grad.after
        return self._rebuilt(results)

    def _rebuilt(self, results: list[Node]) -> Any:
        """The results as the function returned them."""
        tensors = map(wrap, results)
        return tree.rebuild(self.description, lambda: next(tensors))


def _references(held: Sequence[object], i: int) -> int:
    """How many references to an element there are; how many of them are Python's own depends on its version."""
    element = held[i]
    return sys.getrefcount(element)


_ALONE = _references([object()], 0)  # held by its list alone


def _same_kind(node: Node, expected: Node) -> bool:
    return node.type == expected.type and node.requires_grad == expected.requires_grad


def _placeholders(leaves: list[Handle], nodes: list[Node]) -> list[Handle]:
    """A handle for each argument, of the type one step sees.

    A new one, so that a tensor both passed and captured is two things to the program: the next call may pass
    another. One of a subclass or with attributes stands for itself, since the function may look at them.
    """
    made: dict[int, Handle] = {}
    for leaf, node in zip(leaves, nodes, strict=True):
        if leaf._node is not node:
            made.setdefault(id(leaf), wrap(Node(graph.LEAF, (), {}, node.type)))
        elif type(leaf) is Tensor and not leaf.__dict__:
            stand_in = made.setdefault(id(leaf), wrap(node))
            stand_in._views, stand_in._grad = leaf._views, leaf._grad
        else:
            made[id(leaf)] = leaf
    return [made[id(leaf)] for leaf in leaves]


def _flatten_result(value: Any, results: list[Handle]) -> Hashable:
    return tree.flatten(value, results)


def _result_node(handle: Handle, trace: Trace) -> Node:
    node = handle._node
    return node if node.trace is trace else trace.lift(handle)


def _input_name(entry: int, first_live: int, first_state: int) -> str:
    if entry < first_live:
        return f"arg{entry}"
    return f"live{entry - first_live}" if entry < first_state else f"state{entry - first_state}"


def _stride(node: Node) -> int:
    return int(np.prod(node.shape, dtype=np.int64)) * node.dtype.itemsize
