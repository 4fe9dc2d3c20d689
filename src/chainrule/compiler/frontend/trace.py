"""Tracing: a Python function runs once on tensors without values, and leaves its graph behind.

Every handle that stood before the trace and is used in it becomes an input of the program; every such
handle that names another node at the end is written back. Nothing else is state.
"""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from chainrule import dtypes, graph
from chainrule.compiler.frontend.attributes import AttributeUse, Gradient
from chainrule.compiler.frontend.capture import Capture
from chainrule.compiler.frontend.guards import reads_recorded, watch_library
from chainrule.compiler.frontend.once import reading_noted
from chainrule.compiler.frontend.outside import Outside
from chainrule.compiler.runtime.locks import Locks, undisturbed, wait
from chainrule.errors import GradientError, TraceError
from chainrule.graph import INPUT, Graph, Node, Recorder, Type
from chainrule.lines import at_user_line
from chainrule.ops import elementwise as ew
from chainrule.tensor.aliases import Pending, road
from chainrule.tensor.core import Handle, current, lifted, wrap


@dataclass(eq=False)
class Slot:
    """A handle the program reads, and perhaps rebinds."""

    handle: Handle
    input: Node  # what stands for it in the graph
    argument: int | None = None  # which tensor argument of the call it is; None: it was there already
    final: Node | None = None  # what it names at the end, where that changed
    place: AttributeUse | None = None  # it was found there: which tensor that is changes between calls
    requires_grad: bool | None = None  # what the trace made of that, where it changed it
    road: list[object] = field(default_factory=list)  # of what it was a view, and how

    @property
    def writes(self) -> bool:
        """Does the program write to the buffer that it reads?"""
        return self.final is not None or (self.place is not None and self.place.carried)

    def current(self) -> Handle:
        """The handle that this call reads and rebinds."""
        if self.place is None:
            return self.handle
        found = self.place.get()
        return found if isinstance(found, Handle) else self.handle

    def finish(self, met: Node) -> None:
        """Note what the trace made of it, and have it name again what it named before."""
        node, self.handle._node = self.handle._node, met
        if self.handle._views is not None:  # what was written to a view is its root's to keep
            self.handle._views.family.add(self.handle)
            return
        if node is self.input:
            return
        if node.is_leaf and node.requires_grad != self.input.requires_grad:
            self.requires_grad = node.requires_grad
        if node.op is not ew.detach or node.inputs[0] is not self.input:  # else: the same value, frozen or not
            self.final = node


@dataclass(eq=False)
class Trace(Recorder):
    """What one run of the function used and did."""

    slots: dict[int, Slot] = field(default_factory=dict)
    met: dict[int, Node] = field(default_factory=dict)  # what each handle named when the trace met it (eager)
    grads: dict[int, Gradient] = field(default_factory=dict)
    live: list[tuple[Callable[[], float], Node]] = field(default_factory=list)
    guards: list[tuple[Callable[[], Hashable], Hashable]] = field(default_factory=list)
    unchecked: list[tuple[Any, ...]] = field(default_factory=list)
    gradients: dict[Node, Node] = field(default_factory=dict)  # by what each is the gradient of
    notes: dict[Hashable, Node] = field(default_factory=dict)
    thread: int = field(default_factory=threading.get_ident)
    began: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)
    is_back: bool = False  # everything outside is what it was before
    followed: set[int] = field(default_factory=set)  # views whose root the program reads
    outside: Outside = field(default_factory=Outside)
    ran_backward: bool = False  # it assigned gradients itself: a training step, not a function to differentiate
    handles: list[weakref.ref[Handle]] = field(default_factory=list)  # what it made
    rules: list[Callable[..., Any]] = field(
        default_factory=list
    )  # derivatives of the user's own, which hold what they read

    def wait(self) -> None:
        wait(self.ended.is_set)

    def made(self, handle: Handle) -> None:
        self.handles.append(weakref.ref(handle))
        if handle._node.op is ew.custom:
            self.rules.append(handle._node.params["rule"])

    def lift(self, handle: Handle, argument: int | None = None) -> Node:
        slot = self.slots.get(id(handle))
        if slot is not None:
            raise TraceError(
                f"a tensor from inside another trace ({slot.handle!r}) was used here. Return it from that function first."
            )
        node = handle._node
        if isinstance(node, Pending):
            if self._moved(handle):
                return self._lift_moved(handle, node)
            with graph.recording(None):
                node = current(handle)
        if node.trace is not None:
            raise TraceError(
                f"a tensor from a trace that ended ({node.op.name}{node.whereabouts()}) was used{at_user_line()}. "
                f"Return it from the compiled function, or store it in a tensor that exists outside."
            )
        if node.requires_grad and not node.is_leaf and argument is None:
            raise GradientError(
                f"{graph.who('compile')}: the function uses a tensor from outside that has a history of its own; the "
                f"gradient could not flow back into it. Pass it as an argument, or detach it."
            )
        return self._enter(handle, node, argument)

    def _enter(self, handle: Handle, node: Node, argument: int | None = None) -> Node:
        owner = weakref.ref(handle) if node.requires_grad else None
        # Made by hand: the input is the program's, whatever op or layer happens to use it first.
        entry = Node(INPUT, (), {}, node.type, requires_grad=node.requires_grad, trace=self, owner=owner)
        self.met[id(handle)] = node  # first: a signal's handler may end the trace between the two
        self.slots[id(handle)] = Slot(handle, entry, argument, road=road(handle))
        handle._node = entry
        return entry

    def _moved(self, handle: Handle) -> bool:
        """Does the trace read, and perhaps change, what the handle is a view of?"""
        while handle._views is not None:
            handle = handle._views.family.root
            if id(handle) in self.slots:
                return True
        return False

    def _lift_moved(self, handle: Handle, node: Node) -> Node:
        """A leaf that is a view: what the trace finds there comes from what it views, the gradient goes to the leaf."""
        self._enter(handle, node)
        handle._node = Pending(handle)
        return Pending.derive(handle)

    def touch_grad(self, handle: Handle, reading: bool, assigned: bool = False) -> None:
        self.ran_backward = self.ran_backward or assigned
        place = self.grads.get(id(handle))
        if place is None and (handle._node.trace is None or id(handle) in self.slots):
            place = self.grads[id(handle)] = Gradient(handle._grad, reading, owner=handle)
        if place is not None and not reading:
            place.written = True

    def follow(self, view: Handle) -> None:
        """The program reads the root of the view; ``.data = ...``, of the view or of its root, makes that another."""
        views, reference = view._views, weakref.ref(view)
        if views is None or id(view) in self.followed:
            return
        family, root = views.family, views.family.root
        if id(root) in self.slots or id(root) in self.followed:
            self.followed.add(id(view))
            self.guards.append(
                (lambda: (now := reference()) is None or (now._views is views and family.root is root), True)
            )

    def differentiated(self, node: Node, gradient: Node) -> None:
        self.gradients[node] = gradient

    def finish(self) -> None:
        """Note what changed, and put everything back to what it was before.

        Begun again where an exception ended it, it puts back the rest; what changed is then no longer known.
        """
        for key, slot in self.slots.items():
            slot.finish(self.met[key])
        for slot in self.slots.values():
            slot.handle._moved()  # its views may name nodes of this trace
        self.outside.finish(self)
        for place in self.places():
            self._finish_place(place)
        for gradient in self.grads.values():
            owner = self.slots.get(id(gradient.owner))
            gradient.argument = owner.argument if owner is not None else None
        self.is_back = True
        self.met.clear()  # the first weights are not kept beside those in training
        for place in self.places():
            place.before = None
        self.ended.set()

    def places(self) -> list[AttributeUse]:
        """Every attribute that the trace read or assigned."""
        return [*self.grads.values(), *self.outside.places.values()]

    def _finish_place(self, place: AttributeUse) -> None:
        found = self.slots.get(id(place.before)) if place.read else None
        place.finish()
        after = place.after
        given = self.slots.get(id(after))
        if given is not None and given.argument is not None:  # another tensor at each call: its value is what can stay
            place.final = given.final or given.input
        elif isinstance(after, Handle) and after._node.trace is self and not place.kept:
            place.final = after._node
        if found is not None and found.argument is None:
            found.place = place
            place.carried = place.final is not None and found.final is None and place.final.type == found.input.type
            found.handle = wrap(Node(graph.LEAF, (), {}, found.input.type))  # the first gradient is not kept either


def live(getter: Callable[[], float]) -> Any:
    """A number that Python may change between calls (a learning rate): read anew at each call of the program.

    Eager: the number itself. Traced: a 0-d float64 tensor.
    """
    trace = graph.current_trace()
    if not isinstance(trace, Trace):
        tape = graph.waiting()
        waits = None if tape is None else tape.number(getter)
        return getter() if waits is None else wrap(waits)
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
        trace.notes[key] = lifted(handle)


@dataclass(frozen=True)
class _Outer:
    """What was in force where a trace began."""

    trace: Recorder | None = field(default_factory=lambda: Locks.trace)
    recorder: Recorder | None = field(default_factory=graph.current_trace)
    grad_enabled: bool = field(default_factory=graph.is_grad_enabled)

    def back(self) -> None:
        Locks.trace = self.trace
        graph._local.trace, graph._local.grad_enabled = self.recorder, self.grad_enabled
        reads_recorded(self.trace is not None)


def _put_back(trace: Trace, outer: _Outer) -> None:
    """End the trace, whatever signals come: an exception of theirs goes on only when everything is as it was.

    What is put back once stays so when it is put back again; only what the trace changed is then no longer known, and
    nobody asks.
    """
    raised: BaseException | None = None
    for _ in range(3):
        try:
            if not trace.is_back:
                undisturbed(trace.finish)
            break
        except (
            BaseException
        ) as error:  # of a signal just before they wait or just after, or a real one, which comes again
            raised = raised or error
    outer.back()
    trace.ended.set()
    if raised is not None:
        raise raised


def trace_function(
    function: Callable[..., Any], arguments: list[Handle], rebuild: Callable[[list[Any]], tuple[Any, Any]],
    capture: Capture | None = None,
) -> tuple[Trace, Any]:  # fmt: skip
    """Run `function` once, symbolically.

    Args:
        rebuild: makes (args, kwargs) from the tensor arguments.
        capture: what the user's function reaches by name.

    Raises:
        BusyError: another thread traces, and does not come to an end.
    """
    return Locks.turn.run(_traced, function, arguments, rebuild, capture)


_LIBRARY = __name__.partition(".")[0]


def _traced(
    function: Callable[..., Any], arguments: list[Handle], rebuild: Callable[[list[Any]], tuple[Any, Any]],
    capture: Capture | None,
) -> tuple[Trace, Any]:  # fmt: skip
    watch_library()
    trace, outer = Trace(outside=Outside(capture)), _Outer()
    watching = reading_noted(capture.read_once, _LIBRARY) if capture is not None and capture.reads else nullcontext()
    try:  # no `with` for what is put back: on its way in and out a signal's handler may raise
        reads_recorded(True)
        graph._local.trace = trace
        with Locks.tracing:
            Locks.trace = trace
        for position, handle in enumerate(arguments):
            if id(handle) not in trace.slots:
                trace.lift(handle, position)
        args, kwargs = rebuild(list(arguments))
        with watching:
            result = function(*args, **kwargs)
        recorded = graph.is_grad_enabled()
    finally:
        try:
            _put_back(trace, outer)
        except BaseException:  # of a signal before it began, perhaps
            _put_back(trace, outer)
            raise
    if recorded != outer.grad_enabled:
        raise TraceError(
            f"cr.compile: the function called set_grad_enabled({recorded}) as a statement, which only its first "
            f"call would. Write `with cr.set_grad_enabled({recorded}):`, or call it outside."
        )
    for warning in trace.outside.warnings:
        warnings.warn(warning, stacklevel=2)
    for fault in trace.outside.faults:
        raise TraceError(fault)
    for slot in trace.slots.values():
        if slot.final is not None and slot.final.type != slot.input.type:
            raise TraceError(
                f"cr.compile: a tensor from outside was turned from {slot.input.type} into {slot.final.type}"
                f"{slot.final.whereabouts()}; the program keeps it where it lies. Convert it before the function is called."
            )
    return trace, result


def graph_of(trace: Trace, results: list[Node]) -> Graph:
    """The program: inputs in the order they were met, results, then everything written back."""
    outputs = results + [slot.final for slot in trace.slots.values() if slot.final is not None]
    outputs += [place.final for place in trace.places() if place.final is not None]
    inputs = [slot.input for slot in trace.slots.values()] + [node for _, node in trace.live]
    read = set(graph.toposort(outputs))
    return Graph([node for node in inputs if node in read], outputs)
