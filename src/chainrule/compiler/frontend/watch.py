"""Watching one step: the program's own kernels, with every value they keep laid side by side.

A compiled step keeps few of its values: a buffer is used again as soon as its last reader is done, and a
gradient may never leave the registers. The watched program is the same schedule of the same kernels, so
it computes the same bits; only it stores whatever has a buffer, and no buffer takes another's place.
Values in between are computed again from those by the NumPy references.
"""

from __future__ import annotations

from ctypes import c_char
from dataclasses import dataclass, field

import numpy as np

from chainrule import graph
from chainrule.compiler.codegen.entry import SYNC_BYTES
from chainrule.compiler.frontend.trace import Slot, Trace
from chainrule.compiler.program import Program
from chainrule.compiler.runtime.buffers import address, aligned
from chainrule.compiler.runtime.threads import new_sync
from chainrule.compiler.schedule.memory import bytes_of
from chainrule.dtypes import numbers_of
from chainrule.graph import CONST, LEAF, Array, Node
from chainrule.ops import shaping
from chainrule.several import single
from chainrule.tensor.core import Handle


def run(program: Program, table: Array) -> tuple[int, dict[Node, Array]]:
    """One step of a watched program: its status, and the value of every node that has a buffer."""
    strides = np.zeros(len(table), np.int64)
    working, sync = aligned(program.made.working(1)), new_sync(SYNC_BYTES)
    values = {node: _read(int(table[slot]), node) for node, slot in program.slots.items()}
    base = address(working)
    frame = np.array([address(table), address(strides), base, 0, 1, 0, 1, address(sync), 0], np.int64)
    status = program.code.run(address(frame))
    for node, place in program.plan.places.items():
        if node not in values and node not in program.plan.inside:
            start = base + place.offset if place.slot is None else int(table[place.slot])
            values[node] = _read(start, node)
    return status, values


def _read(start: int, node: Node) -> Array:
    """A copy of a buffer."""
    size = bytes_of(node)
    if not size:
        return np.zeros(node.shape, node.dtype.numpy)
    raw = np.frombuffer(memoryview((c_char * size).from_address(start)), node.dtype.numpy)
    copy: Array = raw.reshape(node.shape).copy()
    return copy


@dataclass(eq=False, repr=False)
class Watched:
    """What one step computed, by the nodes of its trace.

    Attributes:
        trace: the graph as traced, with its gradients (``trace.gradients``) and notes (``trace.notes``).
        stored: the values that the native program itself stored, by node of the simplified graph.
    """

    trace: Trace
    program: Program
    stored: dict[Node, Array]
    _values: dict[Node, Array] = field(default_factory=dict)
    _known: dict[Node, Array] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Watched: {len(self.stored)} stored values of {len(self.program.images)}>"

    def __post_init__(self) -> None:
        for node, image in self.program.images.items():
            if image in self.stored:
                self._known[node] = self.stored[image]
        for node in self.program.images:  # a product written in the order it is read: its own node has no buffer
            if node.op is shaping.permute and node in self._known:
                back = shaping.inverse_permutation(node.params["dims"])
                self._known.setdefault(node.inputs[0], self._known[node].transpose(back))
        self._values.update(self._known)

    def is_stored(self, node: Node) -> bool:
        """Are these the bits that the native program computed (or a given number, or a view of either)?"""
        while node.op.kind == "view" and node not in self._known:
            node = node.inputs[0]
        return node in self._known or node.op in (CONST, LEAF)

    def numbers(self, node: Node) -> Array:
        """The value of a node as NumPy has numbers: those of bfloat16 as float32."""
        return numbers_of(self.value(node))

    def value(self, node: Node) -> Array:
        """The value of a node of the trace: as stored, or computed from stored ones by the NumPy references."""
        stack = [node]
        while stack:
            top = stack[-1]
            missing = [] if top in self._values else [s for s in single(top)[1] if s not in self._values]
            if missing:
                stack.extend(missing)
                continue
            stack.pop()
            if top not in self._values:
                self._values[top] = self._compute(top)
        return self._values[node]

    def _compute(self, node: Node) -> Array:
        if node.op in (CONST, LEAF):
            return node.value
        op, inputs, params = single(node)
        return graph.evaluate(op, [self._values[source] for source in inputs], params, node.type)

    def forward(self) -> list[Node]:
        """The nodes on the way to the loss (the note "loss"), each after those it reads."""
        return graph.toposort([self.trace.notes["loss"]])

    def before(self, handle: Handle) -> Node | None:
        """The node that stood for a tensor when the step began; None where the step does not read it."""
        slot = self._slot(handle)
        return slot.input if slot is not None else None

    def after(self, handle: Handle) -> Node | None:
        """The node that a tensor names when the step ends."""
        slot = self._slot(handle)
        return None if slot is None else slot.input if slot.final is None else slot.final

    def _slot(self, handle: Handle) -> Slot | None:
        slot = self.trace.slots.get(id(handle))
        return slot if slot is not None and slot.handle is handle else None
