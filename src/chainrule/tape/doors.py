"""Doors: what is recorded as a whole, so that Python does not walk through it again.

The first time, a door's body runs and is recorded operation by operation. What it led to is noted at the step of the tree
where it began, under all that it depends on; the next time the tape jumps from there to where the body ended, and only
the results get nodes.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Hashable
from functools import wraps
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np

from chainrule import graph
from chainrule.borrowed import own
from chainrule.dtypes import float64
from chainrule.graph import CONST, LEAF, Node
from chainrule.lines import user_line
from chainrule.tape.history import AS_ONE, Inner
from chainrule.tape.kept import Kept
from chainrule.tape.path import Lent, Step
from chainrule.tape.updates import NONE
from chainrule.tensor.core import Engine, Handle

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])
reference = weakref.ref
_value, _entry, _gradient = map(attrgetter, ("_array", "entry", "_grad"))


class ElsewhereError(Exception):
    """What waits on another thread's tape was met: it must be computed before this tape is locked."""

    def __init__(self, node: Node) -> None:
        self.node = node


class Inputs(NamedTuple):
    """Values from outside that enter at one place of the tree, and what they are to the segment."""

    nodes: list[Node]
    arrays: list[Any]
    refs: dict[Node, int]


class Jump:
    """From where a door's body began to where it ended.

    Args:
        entered: the numbers that the body read, in order: nodes, or what says what they are now.
        first: what the first of them is to the segment.
        results: what the door made of it, see the door.

    Attributes:
        inputs: those numbers, where they are the same each time.
    """

    __slots__ = ("end", "entered", "first", "inputs", "results")

    def __init__(self, end: Step, entered: tuple[Any, ...], first: int, results: Any) -> None:
        self.end, self.entered, self.first, self.results = end, entered, first, results
        self.inputs: Inputs | None = None
        if all(value.__class__ is Node and value.entry.__class__ is tuple for value in entered):
            self.inputs = self.now(None)

    def now(self, tape: Any) -> Inputs:
        """The numbers as they are now."""
        nodes = [value if value.__class__ is Node else value.now(tape) for value in self.entered]
        first = self.first
        return Inputs(
            nodes, list(map(_value, nodes)), dict(zip(nodes, range(first, first - len(nodes), -1), strict=True))
        )


class Door:
    """What a door must offer."""

    def key(self, tape: Any) -> Hashable | None:
        """All that the body depends on, its handles entered; None: it must run as it is."""
        raise NotImplementedError

    def jumps(self, tape: Any, start: Step) -> dict[Hashable, Jump]:
        """What is known of doors at a step."""
        return start.jumps

    def outer(self, node: Node) -> Any:
        """What says, each time, which value from outside this one is that the body read; None: that cannot be told."""
        return None

    def body(self) -> None:
        """What is recorded the first time."""
        raise NotImplementedError

    def made(self, tape: Any) -> Any:
        """After the body: what it changed, for `again`; None where that cannot be told."""
        raise NotImplementedError

    def fits(self, tape: Any, results: Any) -> bool:
        """Can the results take their places?"""
        return True

    def again(self, tape: Any, results: Any) -> None:
        """Make the nodes of the results, and have handles name them."""
        raise NotImplementedError


def through(tape: Any, door: Any) -> bool:
    """All that the door records: by a jump, or by its body, which then stands for the next time; False: it is no door here."""
    try:
        return _through(tape, door)
    except ElsewhereError as error:
        _ = error.node.value
    return through(tape, door)


def _through(tape: Any, door: Any) -> bool:
    with tape.lock:
        if tape.busy or tape.rest:  # a signal's handler, in the middle of it; or nothing is recorded for a while
            return False
        tape.busy = True
        try:
            key = door.key(tape)
            if key is None:
                return False
            jumps = door.jumps(tape, tape.step)
            began = tape.segment, len(tape.segment.arrays)
            jump: Jump | None = jumps.get(key)
            if jump is not None:
                if not door.fits(tape, jump.results):
                    return False
                step = jump.end
                if jump.entered:
                    enter(tape, jump, jump.inputs)
                else:
                    tape.step = step
                door.again(tape, jump.results)
                if tape.updates is not NONE:
                    tape.compute()
        finally:
            tape.updates = NONE  # of a step that was interrupted: it is not taken
            tape.busy = False
        if jump is None:
            _recorded(tape, door, jumps, key, began)
        elif step.full:
            tape.flush()
        return True


def _recorded(tape: Any, door: Any, jumps: dict[Hashable, Jump], key: Hashable, began: tuple[Any, int]) -> None:
    """Run the body, and note where it led to, unless it asked for a value, on which it may depend.

    Args:
        began: the segment that the key is of, and how many inputs it had.
    """
    *outer, looked = tape.getters, tape.inside, tape.looked
    getters: dict[int, Any] = {}
    tape.getters, tape.inside, tape.looked = getters, True, False
    try:
        door.body()
    finally:
        tape.getters, tape.inside = outer
        here, tape.looked = tape.looked, tape.looked or looked
    tape.busy = True
    try:
        if tape.segment is began[0] and not here:
            _note(tape, door, jumps, key, getters, began[1])
    finally:
        tape.busy = False


def _note(
    tape: Any, door: Any, jumps: dict[Hashable, Jump], key: Hashable, getters: dict[int, Any], entered: int
) -> None:
    """Where the body led to."""
    segment = tape.segment
    values = []
    for i in range(entered, len(segment.arrays)):
        node = segment.nodes[i]
        values.append(getters.get(i) or (node if node.op is CONST else door.outer(node)))
    if None in values:
        return  # an array of the body's own
    results = door.made(tape)
    if results is not None:
        jumps[key] = Jump(tape.step, tuple(values), -1 - entered, results)
        tape.grown += 1


def enter(tape: Any, jump: Jump, inputs: Inputs | None) -> None:
    """Jump, with the numbers that the body read; None: as they are now."""
    segment = tape.segment
    lent: dict[Node, int] = {}
    if inputs is not None:
        nodes, arrays, refs = inputs
    else:
        nodes, arrays, refs = jump.now(tape)
        if Lent in map(type, map(_entry, nodes)):  # somebody else may write to it: it is looked at anew each time
            lent = {node: refs.pop(node) for node in nodes if node.entry.__class__ is Lent}
            for ref in lent.values():
                arrays[jump.first - ref] = own(arrays[jump.first - ref])
    if not segment.known.keys().isdisjoint(refs):
        refs = refs | segment.known
    # Without a call, between which a signal's handler might raise.
    segment.nodes += nodes
    segment.arrays += arrays
    segment.known |= refs
    if lent:
        segment.lent |= lent
    tape.step = jump.end


class Live:
    """A number that Python may change, as a value from outside: the same node as long as it is the same number."""

    __slots__ = ("getter", "node", "value")

    def __init__(self, getter: Callable[[], float]) -> None:
        self.getter = getter
        self.value = math.nan
        self.now()

    def now(self, tape: Any = None) -> Node:
        """The number of the moment."""
        value = float(self.getter())
        if value != self.value or not value:  # 0.0 and -0.0 are equal
            self.node = Node(LEAF, (), {}, ((), float64), np.asarray(value, np.float64))
            self.value = value
        return self.node


_COMPARED = frozenset({bool, int, float, str, type(None)})  # what may stand among the tensors


class Called(Door):
    """A function of tensors and what Python can compare, which depends on nothing else and changes nothing."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], name: object = None, kept: Kept | None = None
    ) -> None:
        self.function, self.args = function, args
        self.name = function if name is None else name  # what stands for the function
        self.kept = kept  # what it reads besides
        self.nodes: tuple[Node, ...] = ()

    def key(self, tape: Any) -> Hashable | None:
        self.nodes, key = called(tape, self.name, self.args, self.kept)
        return key

    def body(self) -> None:
        self.start = waiting_at()
        self.result = self.function(*self.args)

    def made(self, tape: Any) -> Any:
        node = self.result._node
        if self.result._views is not None or not tape.waits(node) or node.place < self.start:
            return None  # one of the arguments, perhaps
        return node.place, node.type, node.requires_grad, Inner(graph.current_layer(), tape.step.path(self.start))

    def again(self, tape: Any, results: Any) -> None:
        place, type, history, inner = results
        made = Node(AS_ONE if history else LEAF, self.nodes if history else (), {}, type, None, history)
        made.segment, made.place = tape.segment, place
        found = tape.results[place] = reference(made)
        if history:
            if made.line is None:
                made.line = user_line(5)
            tape.unwritten.append((found, inner))
        self.result = Engine.tensor(made)


def waiting_at() -> int:
    """How many results wait on this thread's tape."""
    return cast(int, graph._local.tape.step.places)


def as_one(function: F) -> F:
    """Decorates a function of tensors and of what Python can compare, by position: a tape records it as a whole."""

    @wraps(function)
    def call(*args: Any) -> Any:
        local = graph._local
        tape = local.tape
        if tape is None or local.trace is not None:
            return function(*args)
        found = again(tape, function, args)
        if found is not None:
            return found
        door = Called(function, args)
        return door.result if through(tape.itself, door) else function(*args)

    return cast(F, call)


def again(tape: Any, function: object, args: tuple[Any, ...], kept: Kept | None = None) -> Tensor | None:
    """What `through` does for a function that was recorded from here before, in one go; None: it was not."""
    with tape.lock:
        if tape.busy or tape.rest:
            return None
        tape.busy = True
        try:
            made, key = called(tape, function, args, kept)
            jump = tape.step.jumps.get(key)
            if jump is None:
                return None
            place, type, history, inner = jump.results
            node = Node(AS_ONE if history else LEAF, made if history else (), {}, type, None, history)
            if history and node.line is None:
                node.line = user_line(3)
            node.segment, node.place = tape.segment, place
            found = reference(node)
            result: Tensor = Engine.tensor(node)
            step = jump.end
            if jump.entered:
                enter(tape, jump, jump.inputs)
            else:
                tape.step = step
            tape.results[place] = found  # without a call, between which a signal's handler might raise
            if history:
                tape.unwritten += ((found, inner),)
        except ElsewhereError:
            return None
        finally:
            tape.busy = False
    if step.full:
        tape.flush()
    return result


def called(
    tape: Any, function: object, args: tuple[Any, ...], kept: Kept | None = None
) -> tuple[tuple[Node, ...], Hashable | None]:
    """The nodes among the arguments, which enter, and all that the call depends on; None where that cannot be told.

    Args:
        kept: what it reads besides.
    """
    key: list[Any] = [function, graph._local.grad_enabled]
    segment, nodes = tape.segment, []
    known = segment.known
    for value in args:
        kind = value.__class__
        if kind in _COMPARED:
            key.append((kind, value or str(value)))  # 0.0 and -0.0 are equal
        elif isinstance(value, Handle):
            node = value._node
            if node.trace is not None:
                return (), None  # one that must be derived from another first
            nodes.append(node)
            if node.segment is segment:
                key.append(node.place)
            else:
                ref = known.get(node)
                key.append(tape.enter(node) if ref is None else ref)
        elif kind is tuple and set(map(type, value)) == {int}:  # axes
            key.append(value)
        else:
            return (), None  # an array, say
    if kept is None:
        return tuple(nodes), tuple(key)
    together = kept.enter(tape)
    if together is None:
        return called(tape, function, (*args, *kept.handles))
    return (*nodes, *together), (*key, None)
