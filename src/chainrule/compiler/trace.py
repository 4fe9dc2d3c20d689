"""Tracing: a Python function runs once on tensors without values, and leaves its graph behind.

Every handle that stood before the trace and is used in it becomes an input of the program; every such
handle that names another node at the end is written back. Nothing else is state.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from chainrule import dtypes, graph
from chainrule.errors import GradientError, TraceError
from chainrule.graph import INPUT, Graph, Node, Recorder, Type
from chainrule.tensor import Tensor
from chainrule.tensor.core import Handle, wrap


@dataclass(eq=False)
class Slot:
    """A handle the program reads, and perhaps rebinds."""

    handle: Handle
    input: Node  # what stands for it in the graph
    argument: int | None = None  # which tensor argument of the call it is; None: it was there already
    final: Node | None = None  # what it names at the end, where that changed
    gradient_of: GradSlot | None = None  # it is the ``grad`` of a handle: which tensor that is changes between calls

    def current(self) -> Handle:
        """The handle that this call reads and rebinds."""
        gradient = self.gradient_of.owner._grad if self.gradient_of is not None else None
        return self.handle if gradient is None else gradient


@dataclass(eq=False)
class GradSlot:
    """A ``grad`` attribute that the program changed."""

    owner: Handle
    before: Tensor | None
    read: bool  # the trace asked for it before it assigned it, so it depends on whether it was there
    after: Tensor | None = None
    final: Node | None = None  # its value, where the program computed it
    argument: int | None = None  # where the owner is an argument, it is another tensor at each call

    @property
    def accumulates(self) -> bool:
        """Does the new gradient depend on the one that was there?"""
        return self.read and self.before is not None

    def fits(self) -> bool:
        """Is there a gradient now if and only if there was one when the trace depended on it?"""
        return not self.read or (self.owner._grad is None) == (self.before is None)


@dataclass(eq=False)
class Trace(Recorder):
    """What one run of the function used and did."""

    slots: dict[int, Slot] = field(default_factory=dict)
    met: dict[int, Node] = field(default_factory=dict)  # what each handle named when the trace met it (eager)
    grads: dict[int, GradSlot] = field(default_factory=dict)
    live: list[tuple[Callable[[], float], Node]] = field(default_factory=list)
    guards: list[tuple[Callable[[], Hashable], Hashable]] = field(default_factory=list)
    gradients: dict[Node, Node] = field(default_factory=dict)  # by what each is the gradient of
    notes: dict[Hashable, Node] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)
    ended: threading.Event = field(default_factory=threading.Event)
    ran_backward: bool = False  # it assigned gradients itself: a training step, not a function to differentiate

    def lift(self, handle: Handle, argument: int | None = None) -> Node:
        slot = self.slots.get(id(handle))
        if slot is not None:
            raise TraceError(
                f"a tensor from inside another trace ({slot.handle!r}) was used here. Return it from that function first."
            )
        node = handle._node
        if node.trace is not None:
            raise TraceError(
                f"a tensor from a trace that ended ({node.op.name}{node.whereabouts()}) was used at {graph.user_line()}. "
                f"Return it from the compiled function, or store it in a tensor that exists outside."
            )
        if node.requires_grad and not node.is_leaf and argument is None:
            raise GradientError(
                f"{graph.who('compile')}: the function uses a tensor from outside that has a history of its own; the "
                f"gradient could not flow back into it. Pass it as an argument, or detach it."
            )
        owner = weakref.ref(handle) if node.requires_grad else None
        # Made by hand: the input is the program's, whatever op or layer happens to use it first.
        entry = Node(INPUT, (), {}, node.type, requires_grad=node.requires_grad, trace=self, owner=owner)
        self.slots[id(handle)] = Slot(handle, entry, argument)
        self.met[id(handle)] = node
        handle._node = entry
        return entry

    def touch_grad(self, handle: Handle, reading: bool, assigned: bool = False) -> None:
        self.ran_backward = self.ran_backward or assigned
        if id(handle) not in self.grads and (handle._node.trace is None or id(handle) in self.slots):
            self.grads[id(handle)] = GradSlot(handle, handle._grad, reading)

    def differentiated(self, node: Node, gradient: Node) -> None:
        self.gradients[node] = gradient

    def finish(self) -> None:
        """Note what changed, and put every handle back to what it named before."""
        for slot in self.slots.values():
            if slot.handle._node is not slot.input:
                slot.final = slot.handle._node
            slot.handle._node = self.met[id(slot.handle)]
        self.met.clear()  # the first weights are not kept beside those in training
        for grad in self.grads.values():
            grad.after, grad.owner._grad = grad.owner._grad, grad.before
            if grad.read and id(grad.before) in self.slots:
                self.slots[id(grad.before)].gradient_of = grad
            owner = self.slots.get(id(grad.owner))
            grad.argument = owner.argument if owner is not None else None
            if grad.after is not None and grad.after._node.trace is self and id(grad.after) not in self.slots:
                grad.final = grad.after._node
        self.ended.set()


def live(getter: Callable[[], float]) -> Any:
    """A number that Python may change between calls (a learning rate): read anew at each call of the program.

    Eager: the number itself. Traced: a 0-d float64 tensor.
    """
    trace = graph.current_trace()
    if not isinstance(trace, Trace):
        return getter()
    node = Node(INPUT, (), {}, Type((), dtypes.float64), trace=trace)
    trace.live.append((getter, node))
    return wrap(node)


def guard(getter: Callable[[], Hashable]) -> Any:
    """A Python value the traced program depends on: when it changes, the function is traced anew."""
    value = getter()
    trace = graph.current_trace()
    if isinstance(trace, Trace):
        trace.guards.append((getter, value))
    return value


def note(key: Hashable, handle: Handle) -> None:
    """Inside a trace: remember under `key` what the handle names now, for whoever watches the program run."""
    trace = graph.current_trace()
    if isinstance(trace, Trace):
        trace.notes[key] = handle._node if handle._node.trace is trace else trace.lift(handle)


def trace_function(
    function: Callable[..., Any], arguments: list[Handle], rebuild: Callable[[list[Any]], tuple[Any, Any]]
) -> tuple[Trace, Any]:
    """Run `function` once, symbolically. `rebuild` makes (args, kwargs) from the tensor arguments."""
    trace = Trace()
    with graph.recording(trace):
        try:
            for position, handle in enumerate(arguments):
                if id(handle) not in trace.slots:
                    trace.lift(handle, position)
            args, kwargs = rebuild(list(arguments))
            result = function(*args, **kwargs)
        finally:
            trace.finish()
    return trace, result


def graph_of(trace: Trace, results: list[Node]) -> Graph:
    """The program: inputs in the order they were met, results, then everything written back."""
    outputs = results + [slot.final for slot in trace.slots.values() if slot.final is not None]
    outputs += [grad.final for grad in trace.grads.values() if grad.final is not None]
    inputs = [slot.input for slot in trace.slots.values()] + [node for _, node in trace.live]
    read = set(graph.toposort(outputs))
    return Graph([node for node in inputs if node in read], outputs)
