"""The histories of what doors recorded as one: written out, operation by operation, where somebody walks along them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Union

from chainrule.errors import BusyError
from chainrule.graph import LEAF, Array, Node
from chainrule.ops import elementwise as ew
from chainrule.tape.path import Ref, Step
from chainrule.tape.segments import Interpreted


def _unwritten(argument: int) -> None:
    raise BusyError(
        "backward: a signal's handler asked for gradients while the history that leads to them was being written down. "
        "Ask where the handler has returned, or before."
    )


# What a node is of until somebody wants to know how it was computed: a door's whole body.
AS_ONE = replace(ew.alias, name="as_one", kind="call", vjp=_unwritten)


class Inner(NamedTuple):
    """The operations that one node stands for, and the layer in which they were recorded."""

    layer: str
    steps: Sequence[Step]

    def layer_of(self, step: Step, now: str) -> str:
        """That of an operation where they are found again in layer `now`, which may be of another model."""
        inside = step.layer[len(self.layer) :] if step.layer.startswith(self.layer) else ""
        return now + inside if self.layer and inside[:1] in ("", ".") else now or inside


# A value, and its address where that is known.
Lying = tuple[Array, Union[int, None]]

# What a door left: a reference to the node of its result, and what that stands for.
Unwritten = list[tuple[Any, Inner]]


def left(unwritten: tuple[Any, Inner]) -> bool:
    """Is it still there as a door left it?"""
    node = unwritten[0]()
    return node is not None and node.op is AS_ONE


def waiting(tape: Any, place: int, like: Any, requires_grad: bool = False, owner: Any = None) -> Node:
    """A leaf that waits at a place."""
    made = Node(LEAF, (), {}, like, None, requires_grad, None, owner)
    made.segment, made.place = tape.segment, place
    tape.results[place] = weakref.ref(made)
    return made


def written_out(tape: Any) -> None:
    """Give what doors left unwritten its history, operation by operation: somebody will walk along it."""
    _write_all(tape, lambda step: waiting(tape, step.places - 1, step.type))


def _write_all(owner: Any, inside: Callable[[Step], Node]) -> None:
    """Likewise of a tape, or of a segment that it computed; one after the other, so that a signal's handler finds each or none.

    Args:
        inside: makes the node of an operation in there.
    """
    while owner.unwritten:
        found, inner = owner.unwritten[-1]
        node = found()
        if node is not None and node.op is AS_ONE:
            _write(owner, node, inner, inside)
        owner.unwritten.pop()


def _write(owner: Any, node: Node, of: Inner, inside: Callable[[Step], Node]) -> None:
    kept, own = [], None  # until what reads them holds them
    for step in of.steps:
        inputs = tuple([owner.node(ref) for ref in step.refs])
        if step.places - 1 == node.place:
            own = step.op, inputs, step.given, of.layer_of(step, node.layer)
            continue
        made = inside(step)
        made.layer, made.line = of.layer_of(step, node.layer), node.line
        if step.history:
            assert step.op is not None
            made.op, made.inputs, made.params, made.requires_grad = step.op, inputs, step.given, True
        kept.append(made)
    assert own is not None
    assert own[0] is not None
    node.op, node.inputs, node.params, node.layer = own[0], own[1], own[2], own[3]


class Past:
    """A segment that was computed, whose results have a history.

    Attributes:
        step: where it ended.
        results, nodes, arrays: references to its results, and its inputs, as the segment had them.
        values: by place, those inside of what doors recorded as one that backward passes read, and where they lie.
        unwritten: what its doors left.
    """

    __slots__ = ("arrays", "nodes", "results", "step", "tape", "unwritten", "values")

    def __init__(self, tape: Any, values: dict[int, Lying]) -> None:
        self.tape, self.step, self.results, self.values = tape, tape.step, tape.results, values
        self.nodes: list[Node] = tape.segment.nodes
        self.arrays: list[Array] = tape.segment.arrays
        self.unwritten: Unwritten = tape.unwritten
        for node in self._left():
            node.segment = self  # which whoever walks along its history asks

    def _left(self) -> list[Node]:
        """What is still there of that, as a door left it."""
        found = [reference() for reference, _ in self.unwritten]
        return [node for node in found if node is not None and node.op is AS_ONE]

    def holds(self, node: Node) -> bool:
        """Is it one of its results?"""
        place = getattr(node, "place", -1)
        found = self.results.get(place)
        return found is not None and found() is node

    def node(self, ref: Ref) -> Node | None:
        """The node behind a reference, if it is still there."""
        if isinstance(ref, Node):
            return ref
        found = self.results.get(ref)
        return self.nodes[-1 - ref] if ref < 0 else None if found is None else found()

    def refs(self, nodes: Iterable[Node]) -> list[Ref | None]:
        """What each of these is to the segment; None where it is nothing to it."""
        inputs = {each: -1 - i for i, each in enumerate(self.nodes)}
        return [each.place if self.holds(each) else inputs.get(each) for each in nodes]

    def has(self, places: Iterable[int]) -> bool:
        """Are the values at these places there?"""
        return all(place in self.values or self.node(place) is not None for place in places)

    def write_out(self) -> None:
        """Give what its doors left unwritten its history; the values in there that nobody kept are computed again."""
        tape = self.tape
        with tape.lock:
            nodes = self._left()
            if tape.writing or not nodes:  # a signal's handler, in the middle of it
                return
            busy, tape.busy, tape.writing = tape.busy, True, True
            try:
                values = self._inside(nodes)
                _write_all(self, lambda step: self._computed(step, values))
                self.step.walked += 1
                for node in nodes:
                    node.segment = None
            finally:
                tape.busy, tape.writing = busy, False

    def _inside(self, nodes: list[Node]) -> dict[int, Array]:
        """The values at all places inside of what was recorded as one."""
        places = {step.places - 1 for _, inner in self.unwritten for step in inner.steps} - {
            node.place for node in nodes
        }
        missing = tuple(sorted(places - self.values.keys()))
        computed, failed = Interpreted(self.step.path(), missing).run(self.arrays, {})
        if failed:
            raise failed[min(failed)]
        return computed | {place: array for place, (array, _) in self.values.items()}

    def _computed(self, step: Step, values: dict[int, Array]) -> Node:
        """A leaf of a value that was computed."""
        assert step.type is not None
        made = Node(LEAF, (), {}, step.type, values[step.places - 1])
        made.place = step.places - 1
        self.results[made.place] = weakref.ref(made)
        return made
