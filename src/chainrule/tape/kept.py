"""What enters a segment together, round after round: the parameters of a row of layers, the state of an optimizer."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from chainrule.graph import Node
from chainrule.tape.path import Step

_named, _value, _entry = attrgetter("_node"), attrgetter("_array"), attrgetter("entry")


class Kept:
    """Handles whose values mostly come from outside, and which a segment has not met: then they enter in one go.

    Where they lead to follows from the step and their types, and is noted there.
    """

    def __init__(self, handles: list[Any]) -> None:
        self.handles = handles
        self._name = object()  # what a step knows them by: it must not keep them alive

    def enter(self, tape: Any) -> list[Node] | None:
        """Their nodes, which are the segment's last inputs from here on; None: they must be looked at one by one."""
        nodes: list[Node] = list(map(_named, self.handles))
        segment, step = tape.segment, tape.step
        first = -1 - step.inputs
        refs = dict(zip(nodes, range(first, first - len(nodes), -1)))  # noqa: B905
        if len(refs) < len(nodes) or not segment.known.keys().isdisjoint(refs):
            return nodes if self._last(segment, nodes) else None
        kinds = list(map(_entry, nodes))
        found: tuple[Any, Step] | None = step.jumps.get(self._name)
        if found is None or found[0] != kinds:
            if not all(isinstance(kind, tuple) for kind in kinds):
                return None  # one waits, somebody else may write to it, or nobody has looked at it yet
            for node in nodes:
                tape.enter(node)
            step.jumps[self._name] = kinds, tape.step
            tape.grown += 1
            return nodes
        end, arrays = found[1], list(map(_value, nodes))
        # Without a call, between which a signal's handler might raise.
        segment.nodes += nodes
        segment.arrays += arrays
        tape.step = end
        segment.known |= refs
        return nodes

    @staticmethod
    def _last(segment: Any, nodes: list[Node]) -> bool:
        """Are they what entered last, and known by that?"""
        first = len(segment.nodes) - len(nodes)
        known = segment.known
        return first >= 0 and all(known.get(node) == -1 - first - i for i, node in enumerate(nodes))
