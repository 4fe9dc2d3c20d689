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
from itertools import repeat
from operator import attrgetter, is_, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numpy as np

from chainrule import graph
from chainrule.borrowed import own
from chainrule.dtypes import float64
from chainrule.graph import CONST, LEAF, Node, Type, toposort
from chainrule.lines import ours, user_line
from chainrule.ops import elementwise as ew
from chainrule.tape.history import AS_ONE, Inner, Past
from chainrule.tape.kept import Kept
from chainrule.tape.path import Lent, Ref, Step
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


class Jump(NamedTuple):
    """From where a door's body began to where it ended.

    Attributes:
        entered: the numbers that the body read, in order: nodes, or what says what they are now.
        results: what the door made of it, see the door.
        inner: None for each result on the way.
    """

    end: Step
    entered: tuple[Any, ...]
    results: Any
    inner: list[None]


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
            began = tape.segment, len(tape.segment.arrays), tape.step.places
            jump: Jump | None = jumps.get(key)
            if jump is not None:
                if not door.fits(tape, jump.results):
                    return False
                step = jump.end
                if jump.entered:
                    _enter(tape, jump)
                else:  # without a call, between which a signal's handler might raise
                    tape.results += jump.inner
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


def _recorded(tape: Any, door: Any, jumps: dict[Hashable, Jump], key: Hashable, began: tuple[Any, int, int]) -> None:
    """Run the body, and note where it led to, unless somebody asked for a value in between.

    Args:
        began: the segment that the key is of, and how many inputs and results it had.
    """
    outer = tape.getters, tape.inside
    getters: dict[int, Any] = {}
    tape.getters, tape.inside = getters, True
    try:
        door.body()
    finally:
        tape.getters, tape.inside = outer
    tape.busy = True
    try:
        if tape.segment is began[0]:
            _note(tape, door, jumps, key, getters, *began[1:])
    finally:
        tape.busy = False


def _note(
    tape: Any, door: Any, jumps: dict[Hashable, Jump], key: Hashable, getters: dict[int, Any], entered: int, before: int
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
        jumps[key] = Jump(tape.step, tuple(values), results, [None] * (tape.step.places - before))
        tape.grown += 1


def _enter(tape: Any, jump: Jump) -> None:
    """Jump, with the numbers that the body read."""
    segment = tape.segment
    nodes = [value if value.__class__ is Node else value.now(tape) for value in jump.entered]
    arrays, first = list(map(_value, nodes)), -1 - len(segment.arrays)
    refs = dict(zip(nodes, range(first, first - len(nodes), -1), strict=True))
    lent: dict[Node, int] = {}
    if Lent in map(type, map(_entry, nodes)):  # somebody else may write to it: it is looked at anew each time
        lent = {node: refs.pop(node) for node in nodes if node.entry.__class__ is Lent}
        for ref in lent.values():
            arrays[first - ref] = own(arrays[first - ref])
    if not segment.known.keys().isdisjoint(refs):
        refs |= segment.known
    # Without a call, between which a signal's handler might raise.
    segment.nodes += nodes
    segment.arrays += arrays
    segment.known |= refs
    segment.lent |= lent
    tape.results += jump.inner
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
    return len(graph._local.tape.results)


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
                _enter(tape, jump)
            else:  # without a call, between which a signal's handler might raise
                tape.results += jump.inner
                tape.step = step
            tape.results[place] = found
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


def _ours(rule: Any) -> bool:
    """Is a derivative rule of chainrule's own? Another may do anything, and is asked each time."""
    functions = [rule, *[cell.cell_contents for cell in rule.__closure__ or ()]]
    return all(ours(code) for function in functions if (code := getattr(function, "__code__", None)) is not None)


class _Known:
    """A value that a loss was computed with, in the segment whose backward pass comes next."""

    __slots__ = ("ref", "type")

    def __init__(self, ref: int, type: Type) -> None:
        self.ref, self.type = ref, type

    def now(self, tape: Any) -> Node:
        past: Past = tape.differentiated
        inside = past.values.get(self.ref)
        if inside is not None:  # of what a door recorded as one, whose history nobody has asked for
            return Node(LEAF, (), {}, self.type, inside)
        node: Any = past.node(self.ref)
        node.seen = True
        return cast(Node, node)


class Backward(Door):
    """The backward pass of a loss all of whose history waits, or was computed together.

    It depends on which leaves have a gradient already, and what those are to the segment.
    """

    def __init__(self, output: Any, walk: Callable[[], None]) -> None:
        self.output, self.walk = output, walk

    def key(self, tape: Any) -> Hashable | None:
        self.tape, node = tape, self.output._node
        if not node.inputs:
            return None
        if node.segment is tape.segment:
            self.within = tape
            start: tuple[Any, ...] = ("backward", node.place)
        else:
            past = self._past(tape, node)
            if past is None:
                return None
            self.within = tape.differentiated = past
            start = "backward", past.step, node.place
        known = tape.step.jumps
        of_leaves = ("leaves", *start)
        leaves = known.get(of_leaves)
        if leaves is None:
            leaves = self._leaves()
            if leaves is None:
                return None
            known[of_leaves] = leaves
        gradients = self._gradients(tape, *leaves)
        return None if gradients is None else (*start, *gradients)

    def _past(self, tape: Any, node: Node) -> Past | None:
        """The segment that was computed with a node among its results, where nothing else waits.

        A value that waits, too, might be met under another name.
        """
        if node._array is None or tape.step is not tape.root:
            return None
        for past in tape.pasts:
            if past.holds(node):
                return cast(Past, past)
        return None

    def _gradients(self, tape: Any, leaves: list[Ref], inputs: list[int] | None) -> list[Ref | None] | None:
        """By leaf, what its gradient is to this segment; None where it has none yet. None: that cannot be told.

        Args:
            inputs: where they stand among what the segment reads from outside, if all of them do.
        """
        if inputs is None:
            nodes = list(map(self.within.node, leaves))
        else:
            nodes = list(map(self.within.nodes.__getitem__, inputs))
        owners = [None if node is None or node.owner is None else node.owner() for node in nodes]
        if any(map(is_, owners, repeat(None))) or len(set(map(id, owners))) < len(owners):
            return None  # or the gradients of one are to be added
        self.owners: list[Any] = owners
        gradients = list(map(_gradient, owners))
        if all(map(is_, gradients, repeat(None))):
            return gradients
        found: list[Ref | None] = []
        for gradient in gradients:
            if gradient is None:
                found.append(None)
                continue
            node = gradient._node
            if node.trace is not None or gradient._views is not None or node.requires_grad:
                return None
            if self.within is not tape and (node in self.within.nodes or self.within.holds(node)):
                return None
            found.append(tape.ref(node))
        return found

    def _holds(self, node: Node) -> bool:
        return node.segment is self.tape.segment if self.within is self.tape else self.within.holds(node)

    def _leaves(self) -> tuple[list[Ref], list[int] | None] | None:
        """What the leaves are to the segment that the history lies in, as `_gradients` takes it; None where some lies elsewhere."""
        order = toposort([self.output._node])
        for node in order:
            recorded = not node.inputs or not node.requires_grad or self._holds(node)
            if not recorded or (node.op is ew.custom and not _ours(node.params["rule"])):
                return None
        leaves = [node for node in order if node.owner is not None and node.requires_grad]
        owners = {id(node.owner()) for node in leaves if node.owner is not None}
        known = self._inputs()
        found = [node.place if self._holds(node) else known.get(node) for node in leaves]
        if None in found or len(owners) < len(leaves):
            return None
        inputs = [-1 - ref for ref in found if type(ref) is int and ref < 0]
        return cast("list[Ref]", found), inputs if len(inputs) == len(found) else None

    def _inputs(self) -> dict[Node, Ref]:
        """By input, what it is to the segment that the history lies in."""
        if self.within is self.tape:
            return cast("dict[Node, Ref]", self.tape.segment.known)
        return {node: -1 - i for i, node in enumerate(self.within.nodes)}

    def outer(self, node: Node) -> _Known | None:
        ref = self.refs.get(node)
        if ref is None:
            return None
        if ref >= 0:
            self.read.add(ref)
        return _Known(ref, node.type)

    def body(self) -> None:
        order = toposort([self.output._node])
        self.released = [node.place for node in order if node.inputs]
        self.read: set[int] = set()  # of the results of that segment
        self.refs: dict[Node, Any] = {}  # what it may read of a segment that was computed
        if self.within is not self.tape:
            self.refs = {**self._inputs(), **{node: node.place for node in order if self.within.holds(node)}}
        self.before = [owner._grad for owner in self.owners]
        self.walk()

    def made(self, tape: Any) -> Any:
        found = []
        for owner, before in zip(self.owners, self.before, strict=True):
            gradient = owner._grad
            if gradient is None or (before is not None and gradient is not before) or not tape.waits(gradient._node):
                return None
            found.append((gradient._node.place, gradient._node.type))
        if self.within is not tape:
            self.within.step.reads = tuple(sorted({*(self.within.step.reads or ()), *self.read}))
        return found, itemgetter(*self.released, self.released[0]), self.read

    def fits(self, tape: Any, results: Any) -> bool:
        if self.within is tape:
            return True
        # Nobody was there before, and all that it reads was kept. (Where a node is gone, what reads it stands for it.)
        nodes = [found() for found in filter(None, results[1](self.within.results))]
        return all(node is None or node.inputs for node in nodes) and self.within.has(results[2])

    def again(self, tape: Any, made: Any) -> None:
        leaves, released, _ = made
        renamed, tensor = tape.renamed, Engine.tensor
        segment, results = tape.segment, tape.results
        for owner, (place, type) in zip(self.owners, leaves, strict=True):
            node = Node(LEAF, (), {}, type)
            node.segment, node.place = segment, place
            results[place] = reference(node)
            if owner._grad is None:
                gradient = tensor(node)
                renamed.append((reference(owner), "_grad", None))
                owner._grad = gradient
            else:
                owner._grad._name(node)
        for found in filter(None, released(self.within.results)):
            read = found()
            if read is not None:
                read.release()
