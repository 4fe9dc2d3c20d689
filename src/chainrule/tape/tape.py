"""The tape: a thread's operations that wait to be computed together.

An operation is written down, and its node waits. Once somebody asks for a value, and at the end of an optimizer's step, all
that waits is a segment: it runs as one compiled program if it was met before, its nodes get their values where they are
still alive, and a new segment begins. What is recorded is found again by walking down the tree of what was recorded before
(`path`), so a loop's second round compares where the first one inferred.
"""

from __future__ import annotations

import threading
import weakref
from itertools import islice
from operator import attrgetter
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.borrowed import borrowed
from chainrule.dtypes import int64
from chainrule.errors import BusyError
from chainrule.graph import CONST, LEAF, Array, Node, Op, Type
from chainrule.lines import Line, user_line
from chainrule.ops import elementwise as ew
from chainrule.ops import indexing
from chainrule.tape.backward import Backward
from chainrule.tape.budget import Budget
from chainrule.tape.donation import Free, pairs
from chainrule.tape.doors import Called, ElsewhereError, Live, again, through
from chainrule.tape.history import Past, left, written_out
from chainrule.tape.path import Entry, Lent, Ref, Step, kind_of, meaning_of
from chainrule.tape.segments import HOT, Compiled, Failures, Interpreted
from chainrule.tape.updates import NONE, Updates

# Numbers that are part of a program, which may be simpler for them. All others are its arguments: one that changes from
# step to step makes no new program.
STRUCTURE = frozenset({0.0, 1.0, -1.0, 2.0, 3.0, 4.0, 0.5, -0.5, -2.0})
# What may refuse a value: its line is noted, for the error to name.
_REFUSES = frozenset({indexing.check_index, indexing.take, indexing.put, indexing.put_add})
_segment, _place, _inputs = map(attrgetter, ("segment", "place", "inputs"))
_LOOKED_AT = frozenset(
    {"view", "take"}
)  # kinds of operations that are computed at once where there is nothing to wait for
_PATIENCE = 4  # walks along the histories of segments that end at one step, after which they are written out at once
_PASTS = 4  # segments whose losses a backward pass may still come for
# Steps of the tree, and programs, beyond which it is grown anew.
MANY, MOST_PROGRAMS = 20_000, 256
# Segments that ran on NumPy, beyond those that ran as programs, after which so many operations are computed at once; likewise each
# time that some more come after them, and twice as long each time: not for ever, since another loop may begin. Small ones do not count
# (the rest is as many times longer as a segment is larger than one of a small network).
STRANGE, MORE, REST, LONGEST, SMALL, SIZE = 16, 6, 1 << 12, 1 << 14, 8, 64


class Segment:
    """What waits together: the values that it reads, and later why there are none."""

    __slots__ = ("arrays", "failed", "known", "lent", "lines", "nodes", "tape")

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.known: dict[Node, Ref] = {}
        self.lent: dict[Node, int] = {}  # of somebody else's memory: how it was when it was last met
        self.nodes: list[Node] = []  # what it reads from outside, in the order in which it was met
        self.arrays: list[Array] = []
        self.lines: dict[int, tuple[Line | None, str]] = {}  # and the layers
        self.failed: Failures = {}

    def settle(self, node: Node) -> Array:
        """The value of a node that waits here."""
        return self.tape.settle(node)

    def write_out(self) -> None:
        """Somebody will walk along the history of a node that waits here."""
        self.tape.write_out()


class Tape(graph.Tape):
    """One thread's. Others ask it for values, under its lock."""

    def __init__(self) -> None:
        self.itself = self
        self.lock = threading.RLock()
        self.root = Step(None)
        self.grown = 0  # steps of the tree
        self.busy = False  # in the middle of what a signal's handler must not come between
        self.writing = False  # the history of what doors recorded
        self.overwriting = False  # inputs, by a program that runs
        self.compiled: list[Compiled] = []
        self.inside = False  # a door's body, which is found again as a whole
        self.looked = False  # did that ask for a value?
        self.getters: dict[int, Any] | None = None  # by input, where a door's live numbers come from
        self.strange = 0  # segments that ran on NumPy, less those that ran as programs
        self.in_vain = False  # did the last one?
        self.budget = Budget()
        self.rest, self.rests = 0, REST  # operations that are computed at once from here on, and the next time
        self.varying: set[Line | None] = set()  # where rows of tensors are named by numbers that change
        self.pasts: list[Past] = []  # segments that were computed since values were written over
        self.differentiated: Past | None = None  # the one whose backward pass is recorded
        self._begin()

    def _begin(self) -> None:
        fresh = Segment(self)
        self.segment, self.step = fresh, self.root
        self.results: dict[int, weakref.ref[Node]] = {}  # by place, of those that somebody had
        self.unwritten: list[Any] = []  # nodes of doors' results, and the operations that they stand for
        self.updates = NONE
        self.renamed: list[tuple[Any, str, Any]] = []  # handles that name something else since the segment began

    # -- recording ------------------------------------------------------------------------------
    def record(self, op: Op, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
        """The node of an operation, which waits; None where the operation is computed at once, as where there is no tape."""
        if self.rest:
            self.rest -= 1
            return None
        given = params
        if op.types is None or op.kind in _LOOKED_AT:
            if self._is_computed(op, inputs):
                return None
            if op.types is None:
                meaning = meaning_of(params["rule"]) if op is ew.custom else None
                if meaning is None:
                    return None
                params = {"rule": meaning}
        try:
            with self.lock:
                if self.busy:  # a signal's handler, in the middle of it
                    return None
                self.busy = True
                try:
                    return self._record(op, inputs, params, given)
                finally:
                    self.busy = False
        except ElsewhereError as error:
            _ = error.node.value
        return self.record(op, inputs, given)

    def _is_computed(self, op: Op, inputs: tuple[Node, ...]) -> bool:
        """Is it something to be computed at once: a view of what is there, or rows of class numbers that somebody looks at?"""
        if self.inside:
            return False
        if op.kind == "view":
            node = inputs[0]
            return node._array is not None and not node.requires_grad and node.op is not CONST
        known = not any(node._array is None for node in inputs)
        return op is indexing.take and not inputs[0].dtype.is_floating_point and known

    def _record(self, op: Op, inputs: tuple[Node, ...], params: dict[str, Any], given: dict[str, Any]) -> Node:
        segment, history = self.segment, False
        known = segment.known
        refs: list[Ref] = []
        for node in inputs:
            if node.segment is segment:
                refs.append(node.place)
            else:
                ref = known.get(node)
                refs.append(self.enter(node) if ref is None else ref)
            if node.requires_grad:
                history = True
        history = history and graph._local.grad_enabled and op is not ew.detach
        step = self.step
        found = step.likely
        if (
            found is None or found.op is not op or found.refs != refs or found.asked is not history
            or found.params != params
        ):  # fmt: skip
            found = self._found(step, op, refs, params, history, inputs, given)
        type: Any = found.type
        if found.history:
            made = Node(op, inputs, given, type, None, True)
            if made.line is None:
                made.line = user_line(4)
        else:
            made = Node(LEAF, (), {}, type)
        if op in _REFUSES:
            segment.lines[step.places] = made.line or user_line(4), made.layer
        made.segment = segment
        place = made.place = step.places
        reference = weakref.ref(made)
        self.step = found  # without a call, between which a signal's handler might raise
        self.results[place] = reference
        if found.full:
            self.compute()
        return made

    def _found(
        self, step: Step, op: Op, refs: list[Ref], params: dict[str, Any], history: bool, inputs: tuple[Node, ...],
        given: dict[str, Any],
    ) -> Step:  # fmt: skip
        key = (op, history, tuple(refs), *params.items())
        found = step.next.get(key)
        if found is None:
            type: Type = graph.type_of(op, inputs, given)
            found = step.next[key] = step.operation(op, refs, params, type, history, given)
            self.grown += 1
        step.likely = found
        return found

    def enter(self, node: Node) -> Ref:
        """A value from outside: what it is to this segment."""
        kind = node.entry
        if kind.__class__ is tuple:
            array: Any = node._array
            return self.entered(node, array, kind)
        if kind is None:
            return self._first(node)
        return self._lent(node, kind.kind)

    def _first(self, node: Node) -> Ref:
        """Likewise of one that nobody has looked at yet; what will not change is noted."""
        if node.op is CONST:
            if node.params["value"] in STRUCTURE:
                self.segment.known[node] = node
                return node
        elif node._array is None and node.segment is not None and node.segment.tape is not self:
            raise ElsewhereError(node)
        array = node._array
        if array is None:
            array = node.value  # one of this tape's that failed says why
        node.seen = True
        kind = kind_of(node)
        lent = array.base is not None and borrowed(array)
        if node._array is not None and node.trace is None:
            node.entry = Lent(kind) if lent else kind
        return self._lent(node, kind) if lent else self.entered(node, array, kind)

    def _lent(self, node: Node, kind: Entry) -> Ref:
        """What somebody else may write to: a copy, and another one where it has been written to since."""
        segment: Segment = self.segment
        array = node._array
        if array is None:
            array = node.value
        ref = segment.lent.get(node)
        if ref is None or not _same_bits(segment.arrays[-1 - ref], array):
            ref = segment.lent[node] = self._enters(
                node, array.copy(), kind
            )  # and is not known: it is looked at anew each time
        return ref

    def entered(self, node: Node, array: Array, kind: Entry) -> int:
        """Likewise, with the array to read."""
        ref = self.segment.known[node] = self._enters(node, array, kind)
        return ref

    def _enters(self, node: Node, array: Array, kind: Entry) -> int:
        segment, step = self.segment, self.step
        found = step.entry
        if found is None or found.kind != kind:
            found, fresh = step.entered(kind)
            self.grown += fresh
        # Without a call, between which a signal's handler might raise.
        segment.nodes += (node,)
        segment.arrays += (array,)
        self.step = found
        return -1 - step.inputs

    def mark(self, remark: Any) -> None:
        """Something that no operation shows, but that what follows depends on."""
        with self.lock:
            busy, self.busy = self.busy, True
            try:
                step = self.step
                found = step.next.get(remark)
                if found is None:
                    found = step.next[remark] = Step(step)
                    self.grown += 1
                self.step = found
            finally:
                self.busy = busy

    def leaf(self, node: Node, owner: Any = None, fresh: bool = False) -> Node:
        """The value of a node that waits, without its history; with an owner, a leaf whose gradient the owner receives.

        Args:
            fresh: does nobody else know the node?
        """
        own = fresh and node.op is LEAF and node.segment is self.segment and node.place == self.step.places - 1
        made = node if own else self.record(ew.detach, (node,), {})
        if made is None:  # it waits on another thread's, while this one rests
            made = graph.leaf(node.value, node.dtype)
        if owner is not None:
            self.mark("leaf")
            made.requires_grad, made.owner = True, weakref.ref(owner)
        return made

    def number(self, getter: Any) -> Node | None:
        """A number that Python may change, as an input that is read anew each time; None outside a door that asks for that."""
        if self.getters is None:
            return None
        number = Live(getter)
        with self.lock:
            busy, self.busy = self.busy, True
            try:
                self.getters[len(self.segment.arrays)] = number
                self.entered(number.node, number.node.value, kind_of(number.node))
            finally:
                self.busy = busy
        return number.node

    def row(self, node: Node, number: int) -> Node | None:
        """The number of a row of a tensor as an input, where another one stood at this line before; None: it is structure."""
        try:
            with self.lock:
                if self.busy or self.inside:
                    return None
                self.busy = True
                try:
                    first = self.step.jumps.setdefault(("row", self.ref(node)), number)
                    if first != number:
                        self.varying.add(user_line(4))
                    elif not self.varying or user_line(4) not in self.varying:
                        return None
                    found = Node(LEAF, (), {}, ((), int64), np.asarray(number))
                    self.enter(found)
                finally:
                    self.busy = False
        except ElsewhereError:
            return None
        return found

    @property
    def nodes(self) -> list[Node]:
        """What the segment reads from outside."""
        return self.segment.nodes

    def waits(self, node: Node) -> bool:
        """Is it one whose value waits in the segment that is being recorded?"""
        return node.segment is self.segment

    def node(self, ref: Ref) -> Node | None:
        """The node behind a reference, if it is still there."""
        if isinstance(ref, Node):
            return ref
        if ref < 0:
            return self.segment.nodes[-1 - ref]
        found = self.results.get(ref)
        return None if found is None else found()

    def op_of(self, node: Node) -> Op | None:
        """What a node that waits here is made by, also where that was recorded as a part of something."""
        step: Step | None = self.step if node.segment is self.segment else None
        while step is not None and step.places > node.place:
            if step.op is not None and step.places == node.place + 1:
                return step.op
            step = step.parent
        return None

    def ref(self, node: Node) -> Ref:
        """What a node is to this segment; one from outside enters it."""
        if node.segment is self.segment:
            return node.place
        known = self.segment.known.get(node)
        return self.enter(node) if known is None else known

    def write_out(self) -> None:
        """Somebody will walk along the history of what waits."""
        with self.lock:
            if self.writing:  # a signal's handler, in the middle of it
                return
            busy, self.busy, self.writing = self.busy, True, True
            try:
                written_out(self)
            finally:
                self.busy, self.writing = busy, False

    def refs(self, nodes: list[Node]) -> list[Ref]:
        """Likewise, of several."""
        segment, known = self.segment, self.segment.known
        found: list[Any] = list(map(known.get, nodes))
        if None not in found:
            return found
        found = []
        for node in nodes:
            if node.segment is segment:
                found.append(node.place)
            else:
                ref = known.get(node)
                found.append(self.enter(node) if ref is None else ref)
        return found

    def places(self, nodes: list[Node]) -> list[Ref]:
        """Likewise, of several that mostly wait."""
        if list(map(_segment, nodes)) == [self.segment] * len(nodes):
            return list(map(_place, nodes))
        return self.refs(nodes)

    # -- computing --------------------------------------------------------------------------------
    def settle(self, node: Node) -> Array:
        """The value of a node that was recorded here."""
        with self.lock:
            segment: Segment = node.segment
            if node._array is None and segment is self.segment:
                if self.busy:
                    return self._meanwhile(node)
                self.flush()
            if node._array is None:
                error = segment.failed.get(node.place) or RuntimeError(
                    f"{node.op.name}: a value was lost; a bug in chainrule"
                )
                raise error.with_traceback(None)
            return node._array

    def _meanwhile(self, node: Node) -> Array:
        """A signal's handler asks for a value while the segment is recorded, or runs: it is computed by itself."""
        if self.overwriting:
            raise BusyError(
                f"{node.op.name}{node.whereabouts()}: a signal's handler asked for a value while the program that computes it "
                f"ran. Ask for it where the handler has returned, or before."
            )
        alone = Interpreted(self.step.path(), (node.place,))
        values, failed = alone.run(self.segment.arrays, self.segment.lines)
        if failed:
            raise failed[node.place]
        return values[node.place]

    def flush(self) -> None:
        """Compute all that waits."""
        with self.lock:
            if (
                self.busy or self.step is self.root
            ):  # a signal's handler, in the middle of recording or of this; or nothing
                return
            self.busy = True
            try:
                self.compute()
            finally:
                self.busy = False

    def written(self) -> None:
        """Where leaves that require grad were written to: the end of a step, after which the next one's operations are new."""
        if any(name == "_node" and before.requires_grad and before.is_leaf for _, name, before in self.renamed):
            self.flush()

    def compute(self) -> None:
        """Likewise, in the middle of recording. Where a signal's handler raises, all of it has a value, or goes on to wait."""
        segment, renamed, updates = self.segment, self.renamed, self.updates
        step, reads = self.step, self._read_of_history()
        if reads is None and self.unwritten and any(map(left, self.unwritten)):
            self.write_out()
        alive = self._alive()
        values: dict[int, Any] = dict.fromkeys(reads or ())
        if updates is not NONE or renamed:
            self.pasts, self.differentiated = [], None  # they hold inputs, which now may be written over
        local = graph._local
        kept = local.trace, local.tape, local.grad_enabled
        try:
            local.trace, local.tape, local.grad_enabled = None, None, False  # this is neither recorded nor traced
            if alive or updates is not NONE:
                alive = self._run(segment, step, alive, renamed, updates, values)
        finally:
            local.trace, local.tape, local.grad_enabled = kept
            self.overwriting = False
            if segment.failed:
                _put_back(renamed, segment, alive)
                self._begin()
            elif not any(map(_segment, alive)):
                if any(map(_inputs, alive)):
                    self.pasts = [Past(self, values), *self.pasts[: _PASTS - 1]]
                self._begin()
        if self.step is self.root and (self.in_vain or self.strange):
            self._count(step.places)
        if self.grown > MANY or len(self.compiled) > MOST_PROGRAMS:
            self.root, self.grown, self.compiled, self.varying = Step(None), 0, [], set()
            self.step = self.root

    def _count(self, operations: int) -> None:
        """Where what is recorded hardly comes by again (Python takes another way each time), writing it down only takes time."""
        if operations < SMALL:
            return
        if not self.in_vain:
            self.strange, self.rests = max(0, self.strange - 1), REST
            return
        self.strange += 1
        if self.strange >= STRANGE:
            self.strange -= MORE
            self.rest = self.rests * max(operations, SIZE) // SIZE
            self.rests = min(2 * self.rests, LONGEST)

    def _alive(self) -> list[Node]:
        """What somebody may ask for."""
        results = self.results
        return [node for place in sorted(results) if (node := results[place]()) is not None]

    def _read_of_history(self) -> tuple[int, ...] | None:
        """The places inside of what doors recorded as one that must be kept; None: their histories must be written out.

        What was written over could not be computed again, if somebody should walk along a history.
        """
        step = self.step
        if step.reads is None or step.walked > _PATIENCE or not self.unwritten or self.updates is not NONE:
            return None
        return None if any(name == "_node" for _, name, _ in self.renamed) else step.reads

    def _run(
        self, segment: Segment, step: Step, alive: list[Node], renamed: list[tuple[Any, str, Any]], updates: Updates,
        values: dict[int, Any],
    ) -> list[Node]:  # fmt: skip
        """Compute what is alive, which is given back; and into `values` what is at the places there."""
        places = list(map(_place, alive))
        if values:
            for place in values.keys() & set(places):
                del values[place]
        wanted = (*places, *values, *updates.places)
        known = step.programs.get(wanted)
        self.budget.clock += 1
        if type(known) is not Compiled:
            known = self._program(known, step, wanted, pairs(segment, alive, renamed, updates))
        arrays, self.in_vain = None, type(known) is not Compiled
        if type(known) is Compiled:
            self.overwriting = bool(known.pairs)
            known.status.clear()  # before a handler may raise in here: nothing of its last run is given to anybody
            try:
                arrays = known.run(segment, Free(segment, renamed, updates))
                _give(alive, updates, values, arrays, known)
            except BaseException:  # of a signal's handler, perhaps when inputs had been overwritten
                _give(alive, updates, values, known.computed(), known)
                raise
        if arrays is None:
            alone = known if type(known) is Interpreted else Interpreted(step.path(), wanted)
            alone.met += 1
            if any(map(left, self.unwritten)):  # a history whose operations may fail is written out
                self.write_out()
                values.clear()
                alive = self._alive()
                alone = Interpreted(step.path(), (*map(_place, alive), *updates.places))
            computed, segment.failed = alone.run(segment.arrays, segment.lines)
            for node in alive:
                if node.place in computed:
                    node._array, node.segment = computed[node.place], None
            done = updates.before(min(segment.failed)) if segment.failed else updates
            done.give([computed[place] for place in done.places])
        return alive

    def _program(
        self, known: Interpreted | None, step: Step, wanted: tuple[int, ...], pairs: dict[int, int]
    ) -> Interpreted | Compiled:
        """What runs a segment that is not compiled yet, or just was."""
        if known is None:
            known = step.programs[wanted] = Interpreted(step.path(), wanted)
            self.grown += 1
        self.budget.met(known)
        if known.met < HOT or not self.budget.allows(known):
            return known
        made = step.programs[wanted] = Compiled(known.path, wanted, pairs)
        self.compiled.append(made)
        self.budget.took(made)
        return made

    # -- doors --------------------------------------------------------------------------------------
    def door(self, door: Any) -> bool:
        """All that a door records, if it was recorded from here before; else it is recorded now. False: it is no door here."""
        return through(self, door)

    def whole(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function makes of tensors and of what Python can compare, by a jump where it was recorded from here before."""
        name = (function, *kwargs) if kwargs else function
        given = (*args, *kwargs.values())
        found = again(self, name, given)
        if found is not None:
            return found
        door = Called(lambda *_: function(*args, **kwargs), given, name)
        return door.result if through(self, door) else function(*args, **kwargs)

    def backward(self, output: Any, walk: Any) -> bool:
        """Likewise, for a backward pass."""
        return through(self, Backward(output, walk))


def _give(
    alive: list[Node], updates: Updates, values: dict[int, Any], arrays: list[Array] | None, program: Compiled
) -> None:
    """The values to what waits for them, in the order in which they were wanted."""
    if arrays is None:
        return
    for node, array, where in zip(alive, arrays, program.where):  # noqa: B905
        node._array, node.where, node.segment = array, where, None
    if values:
        lying = zip(arrays, program.where, strict=True)
        values.update(zip(values, islice(lying, len(alive), None)))  # noqa: B905
    if updates is not NONE:
        updates.give(arrays[len(alive) + len(values) :], program.stayed)


def _same_bits(a: Array, b: Array) -> bool:
    """Are two arrays of one type equal, NaN and the sign of zero included?"""
    words = np.dtype(f"u{a.dtype.itemsize}")
    return np.array_equal(a.view(words), b.view(words))


def _put_back(renamed: list[tuple[Any, str, Any]], segment: Segment, alive: list[Node]) -> None:
    """Have handles name what they named before the operation that failed.

    What came after that operation would not have been done, had it been computed at once.
    """
    first = min(segment.failed)
    undone = {node for node in alive if node.place >= first}
    for reference, name, before in reversed(renamed):
        handle = reference()
        now = None if handle is None else handle._node if name == "_node" else handle._grad
        if handle is not None and now is not None and (now if name == "_node" else now._node) in undone:
            setattr(handle, name, before)
