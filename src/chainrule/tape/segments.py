"""A segment's operations, run: one after the other on NumPy, or as one compiled program."""

from __future__ import annotations

import time
from collections.abc import Sequence
from operator import is_
from sys import getrefcount
from typing import Any

from chainrule import graph
from chainrule.compiler.program import Program
from chainrule.compiler.runtime.buffers import address, contiguous, placed
from chainrule.compiler.runtime.locks import Locks
from chainrule.compiler.runtime.run import Run
from chainrule.compiler.schedule.kernels import Check
from chainrule.graph import INPUT, Array, Graph, Node
from chainrule.lines import Line
from chainrule.ops import elementwise as ew
from chainrule.tape.donation import ALONE, Free, Over, alone, bases, no_view_of, picking
from chainrule.tape.path import Ref, Step
from chainrule.tape.updates import NONE
from chainrule.tensor.memory import copied

# So many times a segment is met before it is compiled: what is met once or twice, the first step of a loop say, may never
# be met again.
HOT = 2
Failures = dict[int, Exception]  # by place
Lines = dict[int, tuple[Line | None, str]]  # of the user's that an operation stands at, and the layer that it is in


def needed(path: Sequence[Step], wanted: Sequence[int]) -> list[int]:
    """The places that the wanted ones are made of, in order."""
    found, left = set(wanted), list(wanted)
    while left:
        for ref in path[left.pop()].refs:
            if type(ref) is int and ref >= 0 and ref not in found:
                found.add(ref)
                left.append(ref)
    return sorted(found)


class Interpreted:
    """A segment that was not met often: each operation's reference, one after the other."""

    def __init__(self, path: list[Step], wanted: tuple[int, ...]) -> None:
        self.path, self.wanted = path, wanted
        self.order = needed(path, wanted)
        self.met, self.seconds = 0, 0.0
        self.near, self.last = 0, -1 << 30  # what `budget` knows of it

    def run(self, arrays: Sequence[Array], lines: Lines) -> tuple[dict[int, Array], Failures]:
        """The values of the wanted places, and what went wrong where there is none."""
        began = time.perf_counter()
        values: dict[int, Array] = {}
        failed: Failures = {}
        local = graph._local
        layer, line = local.layer, local.line
        try:
            for place in self.order:
                step = self.path[place]
                wrong = next((failed[ref] for ref in step.refs if type(ref) is int and ref in failed), None)
                if wrong is not None:
                    failed[place] = wrong
                    continue
                local.line, local.layer = lines.get(place, (None, step.layer))
                try:
                    values[place] = self._value(step, values, arrays)
                except Exception as error:
                    self._again(place, error, values, failed, arrays)
        finally:
            local.layer, local.line = layer, line
        self.seconds += time.perf_counter() - began
        return values, failed

    def _again(
        self, place: int, error: Exception, values: dict[int, Array], failed: Failures, arrays: Sequence[Array]
    ) -> None:
        """What went wrong goes wrong a second time, too, if it is the operation's; a signal's handler may have raised it."""
        try:
            self._value(self.path[place], values, arrays)
        except Exception:
            failed[place] = error
        else:
            raise error

    @staticmethod
    def _value(step: Step, values: dict[int, Array], arrays: Sequence[Array]) -> Array:
        given = [_array(ref, values, arrays) for ref in step.refs]
        assert step.op is not None
        assert step.type is not None
        return given[0] if step.op is ew.custom else graph.evaluate(step.op, given, step.params, step.type)


def _array(ref: Ref, values: dict[int, Array], arrays: Sequence[Array]) -> Array:
    if isinstance(ref, Node):
        return ref.value
    return values[ref] if ref >= 0 else arrays[-1 - ref]


class Compiled:
    """A segment as one native program.

    A result that takes the place of an input (a parameter's new value) is written where that lies, if nobody holds it any
    more; else the input is copied first. The other results take turns in memory that nobody holds.

    Args:
        wanted: the places whose values are written.
        pairs: by position in `wanted`, the input whose memory the result takes over.
    """

    def __init__(self, path: list[Step], wanted: tuple[int, ...], pairs: dict[int, int]) -> None:
        self.wanted = wanted
        self.hits, self.seconds = 0, 0.0
        made, inputs = _nodes(path, wanted)
        self.operations = len(made)
        began = time.perf_counter()
        with Locks.making:
            self._make(made, inputs, {k: i for k, i in pairs.items() if i in inputs})
            self._run = Run(self.program, 0)
        self.compiling = time.perf_counter() - began
        self.status: list[int] = []  # of the last run, once it has ended
        self.outputs: list[Any] = []
        self.where: Sequence[int | None] = [None] * len(wanted)  # and their addresses, as far as they are known
        self.stayed = False  # did all that it wrote over stay where it was, by the very nodes of the run before?
        self._held: list[Array | None] = [None] * len(self.used)  # what the table points at, where that may stay
        self._paired = [(k, self.used.index(i), i) for k, i in sorted(self.pairs.items())]
        paired = {i for _, _, i in self._paired}
        self._stay = [(slot, i) for slot, i in enumerate(self.used) if i not in paired and not inputs[i].shape]
        self._change = [(slot, i) for slot, i in enumerate(self.used) if i not in paired and inputs[i].shape]
        self._pick_stay = picking([i for _, i in self._stay])
        self._stayed: tuple[Any, ...] = (None,) * (len(self._stay) + 1)  # as it was picked the last time
        # All that is paired, where that is what comes last: the new values of handles.
        first = len(wanted) - len(paired)
        self._in_turn = [k for k, _, _ in self._paired] == list(range(first, len(wanted)))
        self._pick = picking([i for _, _, i in self._paired]) if paired and self._in_turn else None
        self._over: Over | None = None  # what is paired, where it could be written over the last time
        free = [k for k in range(len(wanted)) if k not in self.pairs]
        self._copies: list[Array] = []  # in row-major order, for one run
        self._types = [(k, self.program.written[k], wanted_type(made[wanted[k]])) for k in free]
        self._kept: dict[int, list[tuple[Array, int]]] = {k: [] for k in free}
        self._last: list[Array] = []  # what was written the last time, where the table points
        self._bases_of_last: list[Any] = []

    def _make(self, made: dict[int, Node], inputs: dict[int, Node], pairs: dict[int, int]) -> None:
        self.used, self.pairs = sorted(inputs), pairs
        outputs = [made[place] for place in self.wanted]
        entries = [inputs[i] for i in self.used]
        slots = {node: slot for slot, node in enumerate(entries)}
        written = [slots[inputs[pairs[k]]] if k in pairs else len(entries) + k for k in range(len(outputs))]
        names = {slot: f"in{slot}" for slot in range(len(entries))}
        names |= {slot: f"out{k}" for k, slot in enumerate(written) if k not in pairs}
        self.program = Program(Graph(entries, outputs), slots, written, names)
        if pairs and not _refuses_first(self.program, {written[k] for k in pairs}):
            self._make(made, inputs, {})

    def run(self, segment: Any, free: Free) -> list[Array] | None:
        """The wanted values; None where a check in the program failed, before anything was overwritten.

        Args:
            segment: with the inputs.
            free: says whether an input is held by nobody but this segment, and so many others.
        """
        began = time.perf_counter()
        run, nodes, arrays = self._run, segment.nodes, segment.arrays
        table, self.outputs = run.table, []
        stay = self._pick_stay(arrays)
        if not all(map(is_, stay, self._stayed)):
            for slot, i in self._stay:
                self._point(slot, arrays[i])
            self._stayed = stay
        for slot, i in self._change:
            node, array = nodes[i], arrays[i]
            if node.where is not None and node._array is array:
                table[slot] = node.where
            else:
                self._point_at(slot, node, array)
        written = self._written_over(arrays, free)
        last = self._last if alone(self._last, self._bases_of_last) else self._point_at_free()
        self.outputs = [*last, *written] if self._in_turn else self._in_order(last, written)
        if run.shared():
            run.go(1, self.status)
        else:  # one call of C's for both: where a signal's handler raises, the program has run and its status is known, or neither
            self.status.extend(map(run.run, run.once()))
        if self._copies:
            self._copies.clear()
        self.hits += 1
        self.seconds += time.perf_counter() - began
        return self.computed()

    def _in_order(self, last: Sequence[Any], written: Sequence[Any]) -> list[Any]:
        """What there is of all results, as they are wanted."""
        found = {k: array for (k, _, _), array in zip(self._types, last, strict=True)}
        found |= {k: array for (k, _, _), array in zip(self._paired, written, strict=True)}
        return [found[k] for k in range(len(self.wanted))]

    def _point_at(self, slot: int, node: Node, array: Array) -> None:
        """Have the table point at an input for this run, which the segment holds meanwhile."""
        if array.flags.c_contiguous:
            where = self._run.table[slot] = address(array)
            if node._array is array:
                node.where = where
        else:
            array = array.copy(order="C")
            self._copies.append(array)
            self._run.table[slot] = address(array)

    def _point(self, slot: int, array: Array) -> None:
        array = contiguous(array)
        self._run.table[slot] = address(array)
        self._held[slot] = array

    def _written_over(self, arrays: Sequence[Array], free: Free) -> Sequence[Array]:
        """The memory of what is paired."""
        if self._over is not None and free.all_of(self._over):
            self.stayed = True
            return self._over.arrays
        self.stayed = False
        return self._take_over(arrays, free)

    def _take_over(self, arrays: Sequence[Array], free: Free) -> Sequence[Array]:
        """Write over the inputs that are paired where they lie, or over a copy."""
        self._over, held, outputs, copies = None, self._held, [], 0
        for _, slot, i in self._paired:
            if arrays[i] is not held[slot]:
                self._point(slot, arrays[i])
            array = arrays[i]
            if array is not held[slot] or not array.flags.writeable or not free(i):
                array = copied(array, array.dtype)
                self._point(slot, array)
                copies += 1
            outputs.append(array)
        if self._pick is not None and not copies and free.updates is not NONE:
            self._over = Over(self._pick, free.segment, outputs)
        return outputs

    def computed(self) -> list[Array] | None:
        """The values of the last run; None where it failed, or did not come to it."""
        return self.outputs if self.status == [0] else None

    def _point_at_free(self) -> list[Array]:
        """Have the table point at memory for the results that nobody holds."""
        self._last, self._bases_of_last, found, table = [], [], [], self._run.table
        kept, places = True, []
        for k, slot, type in self._types:
            array, where = self._free(k, type)
            table[slot] = where
            found.append(array)
            places.append(where)
            kept = kept and any(array is own for own, _ in self._kept[k])
        self.where = self._in_order(places, [None] * len(self._paired))
        if kept:
            self._last, self._bases_of_last = found, bases(found)
        return found

    def _free(self, k: int, type: tuple[Any, Any]) -> tuple[Array, int]:
        """Memory for a result that nobody holds, and where it is: values handed out before stay as they are."""
        kept = self._kept[k]
        for pair in kept:
            if getrefcount(pair[0]) <= ALONE and no_view_of(pair[0]):
                return pair
        array, where = placed(*type)
        if len(kept) < 2:
            kept.append((array, where))
        return array, where


def wanted_type(node: Node) -> tuple[Any, Any]:
    """Shape and NumPy's dtype of a result."""
    return node.shape, node.dtype.numpy


def _refuses_first(program: Program, slots: set[int]) -> bool:
    """Do all checks come before the first kernel that writes to one of these entries of the table?"""
    plan = program.plan
    checks = [number for number, kernel in enumerate(plan.kernels) if isinstance(kernel.core, Check)]
    if not checks:
        return True
    writes = [
        number
        for number, kernel in enumerate(plan.kernels)
        if any(plan.places[store.node].slot in slots for store in kernel.stores)
    ]
    return not plan.loops and checks[-1] < min(writes, default=checks[-1] + 1)


def _nodes(path: Sequence[Step], wanted: tuple[int, ...]) -> tuple[dict[int, Node], dict[int, Node]]:
    """The segment as a graph: a node for each place that is needed, and for each input."""
    made: dict[int, Node] = {}
    inputs: dict[int, Node] = {}
    entered = _inputs(path)
    local = graph._local
    layer = local.layer
    try:
        for place in needed(path, wanted):
            step = path[place]
            assert step.op is not None
            assert step.type is not None
            local.layer = step.layer
            given: list[Node] = []
            for ref in step.refs:
                if isinstance(ref, Node):
                    given.append(ref)
                elif ref >= 0:
                    given.append(made[ref])
                else:
                    if -1 - ref not in inputs:
                        inputs[-1 - ref] = Node(INPUT, (), {}, entered[-1 - ref])
                    given.append(inputs[-1 - ref])
            if step.op is ew.custom:
                made[place] = Node(ew.alias, tuple(given[:1]), {}, step.type)
            else:
                made[place] = Node(step.op, tuple(given), step.params, step.type)
    finally:
        local.layer = layer
    return made, inputs


def _inputs(path: Sequence[Step]) -> list[Any]:
    """The types of all inputs."""
    found = []
    step: Step | None = path[-1]
    while step is not None:
        if step.op is None and step.type is not None:
            found.append(step.type)
        step = step.parent
    return found[::-1]
