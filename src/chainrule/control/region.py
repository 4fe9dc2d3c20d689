"""Tracing a region: a function runs once, on tensors that stand for the inputs of each step.

Whatever tensor of outside it uses becomes a further input, so that the region is closed and the node that holds it tells
all that it depends on. Nothing outside is left changed: what the function wrote to names again what it named before, and
whoever traces the region says what comes of the write.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chainrule import graph
from chainrule.errors import BusyError, GradientError, TraceError
from chainrule.graph import INPUT, LEAF, Graph, Node, Recorder, Type
from chainrule.several import copied
from chainrule.tensor import Tensor
from chainrule.tensor.core import Handle, lifted, wrap

PATIENCE = 30.0  # seconds that another thread, which reads a view that the function reads, waits for it to end


@dataclass(eq=False)
class Entry:
    """A tensor from outside that the region reads."""

    handle: Handle
    met: Node  # what it named outside
    value: Node  # what stands for that in the trace around
    input: Node  # what stands for that inside
    final: Node | None = None  # what the function had it name, if it changed that


class Region(Recorder):
    """What one run of a region's function used."""

    def __init__(self, name: str) -> None:
        self.name, self._op, self.outer = f"cr.{name}", name, graph.current_trace()
        self.thread, self.began, self.ended = threading.get_ident(), time.monotonic(), threading.Event()
        self.outside = _Surroundings(name, self.outer)
        self.guards = [] if self.outer is None else self.outer.guards
        self.unchecked = []  # no value of a single step can be looked at later
        self._entries: dict[int, Entry] = {}
        self._owners: dict[int, Tensor] = {}  # of what a derivative inside the function would end at

    @contextmanager
    def running(self) -> Iterator[None]:
        """New nodes belong to the region inside the block; afterwards every handle names again what it named before."""
        try:
            with graph.recording(self):
                yield
        finally:
            for entry in self._entries.values():
                if entry.handle._node.trace is self:  # another thread may have written to it as well
                    entry.final, entry.handle._node = entry.handle._node, entry.met
                entry.handle._moved()  # its views may name nodes of the region
            self.ended.set()

    def input(self, type: Type, requires_grad: bool = False) -> Node:
        """A further input."""
        node = Node(INPUT, (), {}, type, requires_grad=requires_grad, trace=self)
        if requires_grad:
            owner = wrap(node)
            node.owner, self._owners[id(owner)] = weakref.ref(owner), owner
        return node

    def changed(self) -> list[Entry]:
        """The tensors from outside that the function wrote to."""
        return [entry for entry in self._entries.values() if entry.final is not None]

    def closed(self, inputs: Sequence[Node], outputs: Sequence[Node]) -> tuple[Graph, list[Tensor]]:
        """The graph over the values from outside that it reads and then these inputs, and those values."""
        nodes = graph.toposort(outputs)
        there = set(nodes).difference(inputs)
        read = [entry for entry in self._entries.values() if entry.input in there]
        frees, images = [entry.input for entry in read], {}
        values = [wrap(entry.value) for entry in read]
        for node in nodes:
            if node.op is LEAF:  # an array is a value from outside as well
                images[node] = self.input(node.type)
                frees.append(images[node])
                with graph.recording(self.outer):
                    values.append(wrap(graph.leaf(node.value, node.dtype)))
            elif any(images.get(source, source) is not source for source in node.inputs):
                images[node] = copied(node, tuple(images.get(source, source) for source in node.inputs))
        self._entries.clear()  # nor is what they named kept, as long as the graph lives
        return Graph([*frees, *inputs], [images.get(node, node) for node in outputs]), values

    # -- what a recorder offers ------------------------------------------------------------------------------
    def wait(self) -> None:
        if not self.ended.wait(PATIENCE):
            raise BusyError(
                f"{self.name}: another thread has been in its function for {PATIENCE:.0f} s, which reads a view of a tensor that "
                f"is read here. Wait until it has returned."
            )

    def lift(self, handle: Any) -> Node:
        known = self._entries.get(id(handle))
        if known is None:
            with graph.recording(self.outer):
                node = lifted(handle)
            entry = self.input(node.type, node.requires_grad)
            known = self._entries[id(handle)] = Entry(handle, handle._node, node, entry)
        return known.input

    def touch_grad(self, handle: Any, reading: bool, assigned: bool = False) -> None:
        if handle._node.trace is self and id(handle) not in self._owners:
            return  # of a tensor that the function made
        raise GradientError(
            f"{graph.who(self._op)}: the function reads or sets the grad of a tensor from outside (backward does both), "
            f"which would happen once and not at each step. Take derivatives with cr.grad inside, or call backward outside."
        )

    def follow(self, view: Any) -> None:
        if self.outer is not None:
            self.outer.follow(view)

    def differentiated(self, node: Node, gradient: Node) -> None:
        """Of no use: a node of a region has another value at each step."""


class _Surroundings:
    """What the function reads of Python is read by the trace around it; what it assigns there is refused."""

    def __init__(self, name: str, outer: Recorder | None) -> None:
        self._name, self._outer = name, None if outer is None else outer.outside
        self.made: dict[int, Any] = {} if self._outer is None else self._outer.made

    def read(self, module: Any, name: str, found: Any) -> None:
        if self._outer is not None:
            self._outer.read(module, name, found)

    def read_name(self, space: Any, name: str, found: Any) -> None:
        if self._outer is not None:
            self._outer.read_name(space, name, found)

    def assign(self, module: Any, space: dict[str, Any], name: str, value: Any) -> None:
        if id(module) not in self.made:
            raise TraceError(
                f"{graph.who(self._name)}: the function assigns {type(module).__name__}.{name}, which Python does once and "
                f"not at each step. Return the value, and assign it outside."
            )
