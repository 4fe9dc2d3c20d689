"""Whose memory a program may write over: inputs that nobody holds any more but the segment that it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter, itemgetter
from sys import getrefcount
from typing import Any

import numpy as np

from chainrule.compiler.runtime.buffers import placed
from chainrule.graph import Array, Node
from chainrule.tape.updates import Updates

_named = attrgetter("_node")


def no_view_of(array: Array) -> bool:
    """Does nobody hold a view of an array? NumPy's views of one in memory of another's hold that, not the array."""
    return array.base is None or getrefcount(array.base) <= _BASE


def _alone() -> tuple[int, int]:
    pair = (placed((16,), np.dtype(np.float64))[0], 0)
    return getrefcount(pair[0]), getrefcount(pair[0].base)


# References to an array that only its pair holds, and to the memory that it lies in; both with that of the question.
ALONE, _BASE = _alone()


def bases(arrays: Iterable[Array]) -> list[Any]:
    """What arrays lie in, where that is another one."""
    return [array.base for array in arrays if array.base is not None]


def alone(arrays: list[Array], bases: list[Any]) -> bool:
    """Are these arrays, of one pair each, held by that and by their list alone, and their `bases` by them and by theirs?"""
    return (
        bool(arrays)
        and max(map(getrefcount, arrays)) <= ALONE + 1
        and max(map(getrefcount, bases), default=0) <= _BASE + 1
    )


class Free:
    """Does nobody hold an input any more: neither the node nor its array, but the segment itself, and who has it in hand?

    Args:
        segment: with its inputs.
        renamed: handles that name something else since it began, and what they named.
        updates: handles that still name an input, and are to hold a new value.
    """

    def __init__(self, segment: Any, renamed: list[tuple[Any, str, Any]], updates: Updates) -> None:
        self.segment, self.renamed, self.updates = segment, renamed, updates
        self.times: dict[int, int] | None = None

    def __call__(self, i: int) -> bool:
        segment, times = self.segment, self.times
        if times is None:
            times = self.times = {}  # a Counter takes longer to make
            held = [id(before) for _, name, before in self.renamed if name == "_node"]
            for key in chain(held, map(id, map(_named, self.updates.handles))):
                times[key] = times.get(key, 0) + 1
        node = segment.nodes[i]
        # In the list of nodes, as a key, in what was renamed, and by the handle that is to hold the new value.
        own = 1 + (node in segment.known) + times.get(id(node), 0)
        if getrefcount(node) > own + 2 or node._array is not segment.arrays[i]:  # by name here, and by the question
            return False
        # In the list of arrays, by the node, by the program twice (what the table points at, in hand), and by the question.
        return getrefcount(segment.arrays[i]) <= 5 and no_view_of(segment.arrays[i])

    def all_of(self, over: Over) -> bool:
        """The same of all inputs that the updates write over, one each, in one go: are they what was written over before?"""
        nodes = over.pick(self.segment.nodes)
        if nodes != over.nodes or nodes != tuple(map(_named, self.updates.handles)):
            return False
        del nodes
        # Nodes: in the segment's list, as a key, by the handle, by `over` twice, and by the question; arrays: in the segment's
        # list, by the node, by the program (what the table points at), by `over` twice, and by the question.
        return max(map(getrefcount, over.watched)) <= 6 and max(map(getrefcount, over.bases), default=0) <= _BASE + 1


class Over:
    """Inputs that were written over where they lie, for `Free.all_of` to recognise.

    A node's array stays what it is, as does whether it is in memory of somebody else's: the same nodes need no other look.

    Args:
        pick: those inputs out of all of a segment.
        arrays: theirs, each free.
    """

    def __init__(self, pick: Callable[[Sequence[Any]], tuple[Any, ...]], segment: Any, arrays: list[Array]) -> None:
        self.pick, self.nodes, self.arrays = pick, pick(segment.nodes), tuple(arrays)
        self.watched = (*self.nodes, *self.arrays)
        self.bases = bases(arrays)


def picking(places: list[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """What picks what stands at these places: a tuple, however many."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda given: tuple([given[place] for place in places])


def pairs(segment: Any, alive: list[Node], renamed: list[tuple[Any, str, Any]], updates: Updates) -> dict[int, int]:
    """By position among what is wanted: the input that its handle named before, whose memory it may take over."""
    positions = {node: position for position, node in enumerate(alive)}
    found: dict[int, int] = {}
    for i, handle in enumerate(updates.handles):
        ref = segment.known.get(handle._node)
        if type(ref) is int and ref < 0 and -1 - ref not in found.values():
            found[len(alive) + i] = -1 - ref
    for reference, name, before in renamed:
        handle = reference()
        if name != "_node" or handle is None:
            continue
        position, ref = positions.get(handle._node), segment.known.get(before)
        if position is None or type(ref) is not int or ref >= 0 or before.type != handle._node.type:
            continue
        if -1 - ref not in found.values():
            found[position] = -1 - ref
    return found
