"""The handles and buffers that a program is bound to: what they view, who else holds them, stand-ins and copies."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Sequence, Set
from typing import NamedTuple

import numpy as np

from chainrule import dtypes, graph
from chainrule.compiler.frontend.trace import Slot
from chainrule.compiler.runtime.buffers import Room, address, contiguous
from chainrule.errors import InPlaceError
from chainrule.graph import Array, Node
from chainrule.tensor import Tensor
from chainrule.tensor.aliases import same_road
from chainrule.tensor.core import Handle, wrap


def roots_of(handle: Handle) -> set[int]:
    """The tensors whose elements it looks at."""
    found: set[int] = set()
    while handle._views is not None:
        handle = handle._views.family.target()
        found.add(id(handle))
    return found


def check_no_view_of(changed: set[int], views: Iterable[Handle]) -> None:
    """Refuse a loop over views of what its steps change (by identity): only a call binds those anew.

    Raises:
        InPlaceError: there is one.
    """
    if any(roots_of(view) & changed for view in views):
        raise InPlaceError(
            "loop: the function reads a leaf that is a view of a tensor it changes, which would not see the change "
            "before the last step. Call it once a step, or .clone() the leaf."
        )


def check_alias(leaf: Handle, changes: Set[int], found: Iterable[Slot]) -> None:
    """Refuse a view of what the program changes otherwise as its argument: it would keep the old values.

    Args:
        changes: which handles the program changes, by identity.
        found: what it changes where another handle may be at each call.

    Raises:
        InPlaceError: it is one.
    """
    looked_at = leaf
    while (views := looked_at._views) is not None:
        looked_at = views.family.target()
        if id(looked_at) in changes or any(slot.current() is looked_at for slot in found):
            raise InPlaceError(
                f"compile: an argument of shape {leaf.shape} is a view of a tensor that the function changes, and would "
                f"not see the change. Pass what tells the view (an index) and take the view inside, or pass .clone()."
            )


def check_apart(leaves: Sequence[Handle], changed: Iterable[int]) -> None:
    """Refuse two arguments that share elements of which one is changed: the other would keep the old values.

    Args:
        changed: which of them the program changes.

    Raises:
        InPlaceError: there are two.
    """
    elements = [{id(leaf)} | roots_of(leaf) for leaf in leaves]
    for at in changed:
        for other, its in zip(leaves, elements, strict=True):
            if other is not leaves[at] and elements[at] & its:
                raise InPlaceError(
                    f"compile: the function changes an argument of shape {leaves[at].shape} in place, and another, of "
                    f"shape {other.shape}, is a view of it or of the same tensor, and would not see the change. Pass "
                    f"what tells the view (an index) and take the view inside, or pass .clone()."
                )


def check_not_captured(leaves: Sequence[Handle], changed: Iterable[int], state: Sequence[Slot]) -> None:
    """Refuse an argument that shares elements with what the function reads from outside, if either is changed.

    To the program they are two; the one that is only read would keep the old values.

    Args:
        changed: which of the arguments the program changes.

    Raises:
        InPlaceError: there is one.
    """
    reached = {id(slot.current()): slot.final is not None for slot in state}
    written = set(changed)
    for at, leaf in enumerate(leaves):
        if reached.get(id(leaf)) or (at in written and not ({id(leaf)} | roots_of(leaf)).isdisjoint(reached)):
            raise InPlaceError(
                f"compile: an argument of shape {leaf.shape} looks at the elements of a tensor that the function uses from "
                f"outside too, and it changes one of the two; the other would not see the change. Use one of them in "
                f"the function, or pass .clone()."
            )


class Left(NamedTuple):
    """What a call left under the handles of a program's state, which the next one may find there."""

    handles: list[Handle]
    nodes: list[Node]
    owned: list[Node]  # of those, whose memory the program overwrites

    def stands(self) -> bool:
        """Does every handle name the node that was left there?"""
        return [handle._node for handle in self.handles] == self.nodes

    def looked_at(self) -> bool:
        """Does anyone perhaps hold a buffer that the program will overwrite?"""
        for node in self.owned:  # noqa: SIM110 - at every call, and any() of a generator takes twice as long
            if node.seen:
                return True
        return False


def located(nodes: Sequence[Node]) -> tuple[list[Array], list[int]]:
    """The values of arguments in row-major order, which others may hold too, and where they lie; that is looked up once a node."""
    arrays, places = [], []
    for node in nodes:
        held, where = node._array, node.where
        if held is None or where is None:
            held = node.value
            array = contiguous(held)
            where = address(array)
            if array is node._array:
                node.where = where
            held = array
        node.seen = True
        arrays.append(held)
        places.append(where)
    return arrays, places


def references(held: Sequence[object], i: int) -> int:
    """How many references to an element there are; how many of them are Python's own depends on its version."""
    element = held[i]
    return sys.getrefcount(element)


ALONE = references([object()], 0)  # held by its list alone


def references_to_each(held: list[Tensor | None]) -> list[int]:
    """How many references to each element there are, Python's own among them."""
    return list(map(sys.getrefcount, held))


LISTED = references_to_each([Tensor(graph.leaf(np.zeros(()), dtypes.float64))])[0]


def copied(node: Node, held: Array, room: Room) -> tuple[Node, Array, int]:
    """A leaf of its own with the same value, that, and where its elements lie."""
    array, where = room.copy(held)
    copy = graph.leaf(array, node.dtype, node.requires_grad, node.owner)
    copy.seen = False
    return copy, array, where


def switch(handle: Handle, requires_grad: bool) -> None:
    """Freeze a leaf, or not, without a copy of its value."""
    node = handle._node
    owner = weakref.ref(handle) if requires_grad else None
    handle._name(Node(graph.LEAF, (), {}, node.type, value=node._value, requires_grad=requires_grad, owner=owner))
    handle._node.seen = node.seen


def same_kind(node: Node, expected: Node) -> bool:
    return (
        node.dtype is expected.dtype and node.requires_grad == expected.requires_grad and node.shape == expected.shape
    )


def fits(slot: Slot, bound: Node | None, writes: bool) -> bool:
    """Is a tensor still what the trace found, to a program that was bound to `bound` there (and perhaps writes)?"""
    handle = slot.current()
    same = handle._node is bound or same_kind(handle._node, slot.input)
    return same and not (writes and _looks_elsewhere(slot, handle))


def fits_unread(slot: Slot, writes: bool) -> bool:
    """Is a tensor that the program itself does not read still what the trace found? Whether it requires grad shaped that."""
    handle = slot.current()
    same = handle._node.requires_grad == slot.input.requires_grad
    return same and not (writes and _looks_elsewhere(slot, handle))


def _looks_elsewhere(slot: Slot, handle: Handle) -> bool:
    """Do others see what is written to it, or it what is written to others, that did not in the trace?"""
    return not same_road(handle, slot.road if slot.place is None else [])


def stand_ins(leaves: list[Handle], nodes: list[Node]) -> list[Handle]:
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
            stand_in._grad = leaf._grad
        else:
            made[id(leaf)] = leaf
    return [made[id(leaf)] for leaf in leaves]
