"""One program of a compiled function, and the tensors it is bound to.

Between two calls nothing changes but the arguments, as a rule: every handle still names the node that the
last call left. So a call asks just that, handle by handle, and only where the answer is no does it look
closer and bind buffers anew.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.available import check_room
from chainrule.compiler.frontend import guards, pytree, watch
from chainrule.compiler.frontend.attributes import AttributeUse, Gradient
from chainrule.compiler.frontend.binding import (
    ALONE,
    LISTED,
    Left,
    check_alias,
    check_apart,
    check_no_view_of,
    check_not_captured,
    copied,
    fits,
    fits_unread,
    located,
    references,
    references_to_each,
    stand_ins,
    switch,
)
from chainrule.compiler.frontend.capture import Capture
from chainrule.compiler.frontend.derivative import Call, Derivative, derivative_of, results_of
from chainrule.compiler.frontend.outside import Guards
from chainrule.compiler.frontend.trace import Slot, Trace, graph_of, trace_function
from chainrule.compiler.frontend.watch import Watched
from chainrule.compiler.program import Program
from chainrule.compiler.runtime.buffers import Room, address, addresses, contiguous, empty, lies_well, room_for
from chainrule.compiler.runtime.failures import of_check
from chainrule.compiler.runtime.locks import Locks, wait_for_trace
from chainrule.compiler.runtime.native import Machine
from chainrule.compiler.runtime.run import Run
from chainrule.compiler.schedule import memory
from chainrule.errors import TraceError
from chainrule.graph import Array, Node, Type
from chainrule.tensor import Tensor
from chainrule.tensor.core import Handle, current, lifted, wrap


class Specialization:
    """One program of a compiled function, and the handles it is bound to."""

    def __init__(
        self, function: Callable[..., Any], description: Any, leaves: list[Handle], nodes: list[Node], machine: Machine
    ) -> None:
        self.machine = machine
        placeholders = stand_ins(leaves, nodes)
        results: list[Handle] = []
        shape: list[Any] = []
        self.result_nodes: list[Node] = []
        self.derivative: Derivative | None = None

        def run(*args: Any, **kwargs: Any) -> None:
            given = pytree.contents((args, kwargs))
            found = function(*args, **kwargs)
            if pytree.contents((args, kwargs)) != given:
                raise TraceError(
                    "cr.compile: the function changed a list or dict that it was passed, which is a copy that is made when it "
                    "is traced. Return what changed."
                )
            shape.append(pytree.flatten(found, results))
            self.result_nodes = list(map(lifted, results))
            self.derivative = derivative_of(trace_now(), self.result_nodes, machine)

        def trace_now() -> Trace:
            running = graph.current_trace()
            if not isinstance(running, Trace):
                raise TraceError("a compiled function ended its own trace; this is a bug in chainrule")
            return running

        def arguments(handles: list[Any]) -> tuple[Any, Any]:
            source = iter(handles)
            args, kwargs = pytree.rebuild(description, lambda: next(source))
            return args, kwargs

        self.seen = guards.latest  # before the trace: what changes while it runs is looked at again
        self.trace, _ = trace_function(run, placeholders, arguments, Capture(function))
        self.outside = Guards(self.trace.outside)
        self.description: Hashable = shape[0]
        self.plain = pytree.plain_arguments(description)
        self.types = [(node.shape, node.dtype, leaf.requires_grad) for node, leaf in zip(nodes, leaves, strict=True)]
        self.grad_enabled = graph.is_grad_enabled()
        with Locks.making:
            self._lay_out()

    # -- the table --------------------------------------------------------------------------
    def _lay_out(self) -> None:
        """The table: arguments, results, live numbers, state, gradients."""
        trace = self.trace
        if self.derivative is not None:
            self.result_nodes = [*self.result_nodes, *self.derivative.residuals]
        slots = list(trace.slots.values())
        self.arguments = sorted((s for s in slots if s.argument is not None), key=lambda s: s.argument or 0)
        program_graph = graph_of(trace, self.result_nodes)
        read = set(program_graph.inputs)
        self.state = [s for s in slots if s.argument is None and (s.input in read or s.final is not None)]
        trace.live = [(getter, node) for getter, node in trace.live if node in read]
        carried = {s.place: i for i, s in enumerate(self.state) if s.place is not None and s.place.carried}
        # Those that the program puts a tensor of its own in; what is carried has the entry of the state it was read from.
        self.placed = [p for p in trace.places() if p.final is not None and p not in carried]
        self.first_result = len(self.arguments)
        self.first_live = self.first_result + len(self.result_nodes)
        self.first_state = self.first_live + len(trace.live)
        self.first_place = self.first_state + len(self.state)
        entries: dict[Node, int] = {s.input: i for i, s in enumerate(self.arguments)}
        entries.update({node: self.first_live + i for i, (_, node) in enumerate(trace.live)})
        entries.update({s.input: self.first_state + i for i, s in enumerate(self.state)})
        written = [self.first_result + i for i in range(len(self.result_nodes))]
        written += [entries[s.input] for s in slots if s.final is not None]
        written += [
            self.first_state + carried[place] if place in carried else self.first_place + self.placed.index(place)
            for place in trace.places()
            if place.final is not None
        ]
        names = {entry: f"out{i}" for i, entry in enumerate(written[: len(self.result_nodes)])}
        names.update({self.first_place + i: f"grad{i}" for i in range(len(self.placed))})
        for node, entry in entries.items():
            program_graph.names[node] = self._input_name(entry)
        self.program = Program(program_graph, entries, written, names, self.machine)
        self._prepare()

    def _input_name(self, entry: int) -> str:
        if entry < self.first_live:
            return f"arg{entry}"
        if entry < self.first_state:
            return f"live{entry - self.first_live}"
        return f"state{entry - self.first_state}"

    def _prepare(self) -> None:
        """What every call needs, looked up once."""
        slots, places, grads = self.trace.slots.values(), self.trace.places(), self.trace.grads.values()
        self.run = Run(self.program, self.first_live)
        self.table, self.strides = self.run.table, self.run.strides
        self.live = np.zeros(max(1, len(self.trace.live)), np.float64)
        self.table_view, self.live_view = self.table.data, self.live.data
        for i in range(len(self.trace.live)):
            self.table[self.first_live + i] = address(self.live) + 8 * i
        self.getters = [getter for getter, _ in self.trace.live]
        self.checks, self.moved = self.outside.checks, self.outside.moved
        self.guards, self.guarded = [g for g, _ in self.trace.guards], [value for _, value in self.trace.guards]
        self.pack_pointers = struct.Struct(f"={self.first_live}Q").pack_into
        self.pack_numbers = struct.Struct(f"={len(self.getters)}d").pack_into
        self.bound: list[Node | None] = [None] * len(self.state)
        self.mine: list[Tensor | None] = [None] * len(self.state)  # what was found where it may be another at each call
        self.located = [
            (i, s.place) for i, s in enumerate(self.state)
            if isinstance(s.place, Gradient) or (s.place is not None and s.place.carried)
        ]  # fmt: skip
        changing = [s for s in slots if s.argument is None and s.final is not None]
        self.changes = {id(s.handle) for s in changing if s.place is None}
        self.changes_placed = [s for s in changing if s.place is not None]
        self.writes = any(s.final is not None for s in slots)
        self.lasting = [s for s in self.state if s.place is None]
        self.carrying = [i for i, place in self.located if place.carried]
        self.room = room_for(memory.bytes_of(s.input) for s in self.state if s.writes)
        self.hold: list[Any] = [None] * (len(self.arguments) + len(self.state))  # keeps buffers alive
        self.put: list[Tensor | None] = [None] * len(self.placed)
        self.put_nodes: list[Node | None] = [None] * len(self.placed)
        check_room(sum(map(memory.bytes_of, self.result_nodes)), lambda: "cr.compile: the results of a call")
        self.outputs = [(n.shape, n.dtype.numpy) for n in self.result_nodes]
        self.result_types = [n.type for n in self.result_nodes]
        self.result_bytes = [memory.bytes_of(n) for n in self.result_nodes]
        self.positions = [s.argument or 0 for s in self.arguments]  # among the leaves of a call
        self.changed = [(i, s.argument or 0) for i, s in enumerate(self.arguments) if s.final is not None]
        self.given = [g for g in grads if g.argument is not None]
        # The next call may write where the last one put its own.
        self.reused = not any(
            p.argument is not None or p.accumulates or not isinstance(p, Gradient) for p in self.placed
        )
        self.owners = [p.owner for p in self.placed if isinstance(p, Gradient)]
        self.alone = [LISTED + 1] * len(self.placed)  # 1: the place's
        self.rebound = bool(self.placed)
        bare = [g for g in grads if g.read and g.argument is None and not g.had]
        self.asked = [g for g in grads if g.read and g not in bare]  # of attributes `outside` asks when one has changed
        self.bare = [g.owner for g in bare]
        self.cleared = [p for p in places if p.cleared]
        self.switched = [s for s in slots if s.requires_grad is not None]
        self.leaves_behind = bool(self.cleared or self.switched)
        self.altered = self.trace.outside.altered
        if self.altered:
            self.checks = [*self.checks, *(each.is_as_before for each in self.altered)]
        self.steady = self._is_steady()
        self.single = pytree.is_leaf(self.description)
        # Handles that must name what they did; a handle that is another at each call leaves no short way.
        self.unmoved = [s for s in slots if s.argument is None and s not in self.state]
        # What of it another program must share to take over its buffers; one over places, which hold other tensors, has none.
        everything = [*self.state, *self.unmoved]
        placed = any(s.place is not None for s in everything)
        self.same_state = self if placed else [(id(s.handle), s.writes) for s in everything]
        self.kin: Specialization | None = None  # the program of the same function that was bound before
        self.watched: Left | None = None

    def _is_steady(self) -> bool:
        """May a step follow a step without anything bound anew: does it find all as the trace did, where it was put?"""
        places = [s.place for s in self.state if s.place is not None and s.input in self.program.graph.inputs]
        moved = [p for p in places if not p.kept and not p.carried]
        switched = bool(self.altered) or any(slot.argument is None for slot in self.switched)
        return not moved and not switched and all(p.stays() for p in self.trace.places())

    # -- does it still hold? ----------------------------------------------------------------
    def takes(self, args: tuple[Any, ...]) -> bool:
        """Are these the arguments of this program, plain tensors one by one? (No: perhaps in another form.)"""
        if not self.plain or len(args) != len(self.types) or graph._local.grad_enabled is not self.grad_enabled:
            return False
        for arg, (shape, dtype, requires_grad) in zip(args, self.types):  # noqa: B905 - as many, and at every call
            if type(arg) is not Tensor:
                return False
            node = arg._node
            if node.dtype is not dtype or node.shape != shape or node.requires_grad is not requires_grad:
                return False
        count = len(args)
        if count == 2 == len(self.arguments):  # as most have; a set takes longer
            return args[0] is not args[1]
        return count == len(self.arguments) and (count < 2 or len({*map(id, args)}) == count)

    def meet(self, leaves: Sequence[Handle]) -> None:
        """The gradient of an argument belongs to whatever tensor this call passes for it."""
        for gradient in self.given:
            if gradient.argument is not None:
                gradient.owner = leaves[gradient.argument]

    def holds(self, leaves: Sequence[Handle]) -> bool:
        """Is everything Python that the trace depended on still as it was?"""
        if self.given:
            self.meet(leaves)
        if (self.seen != guards.latest or (self.moved and self.moved())) and not self._modules_same():
            return False
        for check in self.checks:
            if not check():
                return False
        if self.guards and [getter() for getter in self.guards] != self.guarded:
            return False
        if not self.places_fit():
            return False
        if self._unchanged():
            return True
        with Locks.tracing:
            if Locks.trace is not None:  # another thread's has borrowed the state, perhaps
                wait_for_trace()
            return self.places_fit() and self._state_fits()

    def _modules_same(self) -> bool:
        now = guards.latest
        if not self.outside.same():
            return False
        self.seen = now
        if self.same_state is self:
            self.watched = None  # what modules hold may be other tensors
        return True

    def places_fit(self) -> bool:
        """Is there a tensor wherever the trace found one, and none where it found none?"""
        for place in self.asked:
            if not place.fits():
                return False
        for owner in self.bare:  # noqa: SIM110 - at every call, and all() of a generator takes twice as long
            if owner._grad is not None:
                return False
        return True

    def _unchanged(self) -> bool:
        """Does every handle name the node that the last call left there?"""
        return self.watched is not None and self.watched.stands() and (not self.located or self._found_again())

    def _found_again(self) -> bool:
        for i, place in self.located:
            handle = place.get()
            if handle is not self.mine[i] or handle is None or handle._node is not self.bound[i]:
                return False
        return True

    def _state_fits(self) -> bool:
        self.watched = None
        if not all(fits(slot, bound, self.writes) for slot, bound in zip(self.state, self.bound, strict=True)):
            return False
        return all(fits_unread(slot, self.writes) for slot in self.unmoved)

    # -- running ----------------------------------------------------------------------------
    def call(self, leaves: Sequence[Handle]) -> Any:
        """One step."""
        outputs = [np.empty(shape, dtype) for shape, dtype in self.outputs]
        if self.derivative is not None:
            return self._call_with_history(self.derivative, leaves, outputs)
        with Locks.tracing:
            if Locks.trace is not None:
                wait_for_trace()
            self._bind(leaves, outputs, None)
        self.execute(1)
        pairs = zip(outputs, self.result_types, strict=True)
        return self._finish(leaves, [Node(graph.LEAF, (), {}, type, array) for array, type in pairs])

    def _call_with_history(self, derivative: Derivative, leaves: Sequence[Handle], outputs: list[Array]) -> Any:
        """One step whose results remember where they came from."""
        with Locks.tracing:
            if Locks.trace is not None:
                wait_for_trace()
            self._bind(leaves, outputs, None)
            variables = tuple(self._eager(node, leaves) for node in derivative.variables)
            saved = self._read_again(derivative, leaves)
        self.execute(1)
        count = len(derivative.results)
        call = Call(derivative, [*outputs[count:], *saved])
        return self._finish(leaves, results_of(call, variables, outputs[:count]))

    def _result_leaves(self, outputs: list[Array]) -> list[Node]:
        nodes = self.result_nodes
        return [Node(graph.LEAF, (), {}, Type(a.shape, n.dtype), value=a) for a, n in zip(outputs, nodes, strict=True)]

    def _read_again(self, derivative: Derivative, leaves: Sequence[Handle]) -> list[Array]:
        """The values of the inputs that the backward pass reads, safe from later writes."""
        live = {node: np.asarray(self.live[i]) for i, (_, node) in enumerate(self.trace.live)}
        return [live[node].copy() if node in live else self._eager(node, leaves).value for node in derivative.read]

    def _eager(self, entry: Node, leaves: Sequence[Handle]) -> Node:
        slot = next(slot for slot in self.trace.slots.values() if slot.input is entry)
        return (slot.current() if slot.argument is None else leaves[slot.argument])._node

    def results_of_loop(self, steps: int) -> list[Array]:
        """Arrays for the results of a loop of so many steps, stacked; refused where a loop would have no meaning."""
        if self.derivative is not None:
            raise TraceError(
                "loop: the function returns tensors that require grad, and no gradient flows out of a loop. Run it "
                "under cr.no_grad(), detach its results, or call backward inside it."
            )
        self._check_views()
        if self.changed or self.given:
            raise TraceError(
                "loop: the function changes one of its arguments in place, which has no meaning over many steps. "
                "Keep state in tensors that exist outside the function."
            )
        check_room(steps * sum(self.result_bytes), lambda: f"cr.compile: the results of {steps:,} steps in one loop")
        return [np.empty((steps, *shape), dtype) for shape, dtype in self.outputs]

    def _check_views(self) -> None:
        """Refuse a loop over what only a call binds anew: a view of what the steps change."""
        views = [slot.handle for slot in self.state if slot.handle._views is not None]
        if views:
            check_no_view_of({id(slot.handle) for slot in self.state if slot.final is not None}, views)

    def bind_loop(self, leaves: Sequence[Handle], outputs: list[Array]) -> None:
        """Point the table at the first of some steps."""
        with Locks.tracing:
            if Locks.trace is not None:
                wait_for_trace()
            self._bind(leaves, outputs, self.result_bytes)

    def state_nodes(self) -> list[Node]:
        """What every state handle names now."""
        return [slot.handle._node for slot in self.lasting]

    def undisturbed(self, nodes: list[Node], shared: bool) -> bool:
        """Is the state still in the buffers that these nodes hold, and (if not `shared`) held by nobody else?"""
        for slot, node in zip(self.lasting, nodes, strict=True):
            if slot.handle._node is not node or (node.seen and slot.final is not None and not shared):
                return False
        return True

    def in_place(self) -> bool:
        """Is what the program reads of places (gradients, say) still in the buffers that are bound?"""
        if not self.places_fit():
            return False
        return all(self._still_bound(i, slot) for i, slot in enumerate(self.state) if slot.place is not None)

    def _still_bound(self, i: int, slot: Slot) -> bool:
        node = slot.current()._node
        return node is self.bound[i] and not (slot.writes and node.seen)

    def returns_like(self, other: Specialization) -> bool:
        """Do both return results of the same types in the same form?"""
        return self.description == other.description and self.result_types == other.result_types

    def end(self, outputs: list[Array]) -> Any:
        """The results of a loop that is over."""
        return self._rebuilt(self._result_leaves(outputs))

    @cached_property
    def _watchable(self) -> Program:
        return replace(self.program, watched=True)

    def prepare_watch(self) -> None:
        """Compile the watched program."""
        _ = self._watchable.code

    def watch(self, leaves: Sequence[Handle]) -> Watched:
        """One step, and every value on the way."""
        outputs = [np.empty(shape, dtype) for shape, dtype in self.outputs]
        self._bind(leaves, outputs, None)
        status, stored = watch.run(self._watchable, self.table)
        if status:
            raise self.failure(status & 0xFFFF, status >> 16)
        self._finish(leaves, self._result_leaves(outputs))
        return Watched(self.trace, self._watchable, stored)

    # -- binding ----------------------------------------------------------------------------
    def _bind(self, leaves: Sequence[Handle], outputs: list[Array], strides: list[int] | None) -> None:
        """Point every table entry at its buffer; `strides` of the results where the call is a loop."""
        self.binding += 1
        for leaf in leaves:
            if leaf._views is not None:
                check_alias(leaf, self.changes, self.changes_placed)
        arrays, places = located([leaves[at]._node for at in self.positions])
        if self.changed:
            check_apart(leaves, [at for _, at in self.changed])
            check_not_captured(leaves, [at for _, at in self.changed], self.state)
        for i, _ in self.changed:
            arrays[i] = arrays[i].copy()
            places[i] = address(arrays[i])
        self.hold[: len(arrays)] = arrays
        self.pack_pointers(self.table_view, 0, *places, *addresses(outputs))
        self.pack_numbers(self.live_view, 0, *[getter() for getter in self.getters])
        if strides is not None or self.looping:
            self._set_strides(strides)
        # `holds` saw that the rest is as it was.
        if self.watched is None or self.watched.looked_at() or (self.carrying and self._shared()):
            if not self.changed:  # else it was checked above; here: what is passed was looked at just now
                check_not_captured(leaves, (), self.state)
            self._bind_states()
        if self.placed:
            self.bind_places()

    def _shared(self) -> bool:
        """Does anyone hold a tensor in whose place the program would put another?"""
        for i in self.carrying:  # noqa: SIM110 - at every call
            if references(self.mine, i) > ALONE + 1:  # 1: the place's
                return True
        return False

    looping = False
    binding = 0  # how often the table was filled: whoever filled it before has lost it

    def _set_strides(self, strides: list[int] | None) -> None:
        self.looping = strides is not None
        for i, slot in enumerate(self.arguments):
            self.strides[i] = memory.bytes_of(slot.input) if self.looping else 0
        for i, stride in enumerate(strides or [0] * len(self.result_nodes)):
            self.strides[self.first_result + i] = stride

    def _bind_states(self) -> None:
        if self.kin is not None and self._takes_over(self.kin):
            return
        room = Room(self.room)
        for i, slot in enumerate(self.state):
            handle = slot.current()
            node = current(handle)
            if slot.place is not None and slot.place.carried:
                self._bind_carried(i, slot.place, node, room)
            elif node is not self.bound[i] or (node.seen and slot.final is not None):
                self._bind_state(i, slot, handle, node, room)
        self.watched = None
        if None not in self.bound:
            slots = [slot for i, slot in enumerate(self.state) if self.mine[i] is None]
            handles = [slot.current() for slot in [*slots, *self.unmoved]]
            if any(handle._views is not None for handle in handles):
                return  # a write to what they view leaves their nodes, but not their values
            owned = [node for node, slot in zip(self.bound, self.state, strict=True) if node and slot.writes]
            self.watched = Left(handles, [handle._node for handle in handles], owned)

    def _takes_over(self, kin: Specialization) -> bool:
        """Point at the buffers that a program over the same state is bound to now; False where it is not, or none is."""
        if kin.watched is None or kin.same_state != self.same_state or kin.watched.looked_at() or not kin._unchanged():
            return False
        self.table[self.first_state : self.first_place] = kin.table[kin.first_state : kin.first_place]
        self.hold[len(self.arguments) :] = kin.hold[len(kin.arguments) :]
        self.bound, self.watched = kin.bound.copy(), kin.watched
        return True

    def _bind_state(self, i: int, slot: Slot, handle: Handle, node: Node, room: Room) -> None:
        """Give a state slot its buffer: the handle's own, or a copy where someone may hold that one."""
        held = node._value  # not `value`: reading it would mark it as seen
        if held is None:
            raise TraceError(f"{node.op.name}{node.whereabouts()}: a traced tensor has no value to run on.")
        if slot.final is None:
            array = contiguous(held)
            where = address(array)
        elif node.seen or not held.flags.c_contiguous or not lies_well(held):
            node, array, where = copied(node, held, room)
            handle._name(node)
        else:
            array, where = held, address(held)
        self._point(i, slot.place, node, array, where)

    def _point(self, i: int, place: AttributeUse | None, node: Node, array: Array, where: int) -> None:
        if place is not None and (place.carried or isinstance(place, Gradient)):
            self.mine[i] = place.get()
        self.table[self.first_state + i] = where
        self.bound[i] = node if array is node._value else None
        self.hold[len(self.arguments) + i] = array

    def _bind_carried(self, i: int, place: AttributeUse, node: Node, room: Room) -> None:
        """Give its buffer to a slot where the program puts another tensor: one that only the place holds may be that one already."""
        held = node._value
        if held is None:
            raise TraceError(f"{node.op.name}{node.whereabouts()}: a traced tensor has no value to run on.")
        ours = place.get() is self.mine[i] and references(self.mine, i) <= ALONE + 1
        if not ours or node.seen or not held.flags.c_contiguous or not lies_well(held):
            node, held, where = copied(node, held, room)
            place.set(wrap(node))
        else:
            where = address(held)
        self._point(i, place, node, held, where)

    def bind_places(self) -> None:
        """Point the entries of what the program puts somewhere at buffers that nobody holds."""
        self.rebound = not self._puts_free()
        if self.rebound:
            for i, place in enumerate(self.placed):
                self._bind_place(i, place)

    def _puts_free(self) -> bool:
        """Is all that the last call put somewhere still there, and does nobody else hold it?"""
        if not self.reused or references_to_each(self.put) != self.alone:
            return False
        for owner, held, node in zip(self.owners, self.put, self.put_nodes):  # noqa: B905 - at every call
            if held is None or owner._grad is not held or held._node is not node or node.seen:
                return False
        return True

    def _bind_place(self, i: int, place: AttributeUse) -> None:
        held = self.put[i]
        # Nobody but this list and the place may hold it, and the program itself must not read it.
        expected = ALONE + 1 + (place.get() is held)  # 1: `held`
        node = self.put_nodes[i]  # whoever changed the tensor in place since gave it another
        free = held is not None and held._node is node and not node.seen and not place.accumulates
        if free and references(self.put, i) <= expected:
            return
        final = place.final
        if final is None:
            return
        array = empty(final.shape, final.dtype.numpy)
        node = graph.leaf(array, final.dtype)
        node.seen = False
        self.put[i], self.put_nodes[i] = wrap(node), node
        self.table[self.first_place + i] = address(array)

    # -- afterwards -------------------------------------------------------------------------
    def execute(self, steps: int, done: int = 0) -> None:
        """So many steps of what is bound, after `done` others."""
        status = self.run.go(steps)
        if status:
            raise self.failure(status & 0xFFFF, (status >> 16) + done)

    def failure(self, code: int, step: int) -> Exception:
        """What a check that failed at that step of a loop says."""
        return of_check(self.program.schedule.checks[code - 1], step)

    def _finish(self, leaves: Sequence[Handle], results: list[Node]) -> Any:
        for i, at in self.changed:
            handle = leaves[at]
            node = graph.leaf(self.hold[i], handle.dtype, handle._node.requires_grad, handle._node.owner)
            if handle._views is None:
                handle._name(node)
            else:
                with graph.grad_mode(False):
                    handle._rebind(wrap(node), "compile")
        if self.rebound or self.leaves_behind or self.altered:
            self.settle(leaves)
        return wrap(results[0]) if self.single else self._rebuilt(results)

    def settle(self, leaves: Sequence[Handle] = ()) -> None:
        """Put everything where the function left it (a loop's arguments stay as they are)."""
        if self.rebound:
            for place, held in zip(self.placed, self.put, strict=True):
                place.set(held)
        for place in self.cleared:
            place.set(place.after)
        for each in self.altered:
            each.put(each.after)
        for slot in self.switched:
            if slot.argument is None:
                switch(slot.current(), bool(slot.requires_grad))
            elif leaves:
                switch(leaves[slot.argument], bool(slot.requires_grad))

    def form(self) -> Any:
        """The form of the results, with a number in place of each."""
        numbers = itertools.count()
        return 0 if self.single else pytree.rebuild(self.description, lambda: next(numbers))

    def _rebuilt(self, results: list[Node]) -> Any:
        """The results as the function returned them."""
        if self.single:
            return wrap(results[0])
        tensors = map(wrap, results)
        return pytree.rebuild(self.description, lambda: next(tensors))
