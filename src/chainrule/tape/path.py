"""What was recorded before, as a tree: a thread's operations walk down it, and where they have been says what they are.

From the root, a step for each operation, for each value from outside that is met, and for each remark. Two segments that
are the same to the last parameter end at the same step, which holds the programs that were made for them.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import prod
from typing import Any, Union

from chainrule.dtypes import DType
from chainrule.graph import LEAF, Node, Op, Shape, Type, current_layer

# What an operation reads: the result at a place (0, 1, ...), an input (-1, -2, ...), or a number that is structure.
Ref = Union[int, Node]

# What a value from outside is to a segment that it enters: its shape, its dtype, and 0 if it has no history, 1 if it is a leaf
# that requires grad, 2 if it has one.
Entry = tuple[Shape, DType, int]

# A segment of so many operations runs, whether anybody asks or not: compiling takes longer than in proportion beyond.
MOST = 1024
ROOM = 1 << 28  # bytes that may wait to be computed; all of them may have to be there at once


class Lent:
    """The same of one that lies in memory which somebody else may write to."""

    __slots__ = ("kind",)

    def __init__(self, kind: Entry) -> None:
        self.kind = kind


class Step:
    """One step down the tree."""

    __slots__ = (
        "asked",
        "bytes",
        "entry",
        "full",
        "given",
        "history",
        "inputs",
        "jumps",
        "kind",
        "layer",
        "likely",
        "next",
        "op",
        "params",
        "parent",
        "places",
        "programs",
        "reads",
        "refs",
        "type",
        "walked",
    )

    def __init__(self, parent: Step | None, type: Type | None = None) -> None:
        self.parent, self.type = parent, type
        self.op: Op | None = None
        self.refs: list[Ref] = []
        self.params: dict[str, Any] = {}  # as they are compared
        self.given = self.params  # and as they were given
        self.asked = self.history = False  # would there be a history, and is there one
        self.places: int = parent.places if parent is not None else 0  # results so far, this one included
        self.inputs: int = parent.inputs if parent is not None else 0
        self.bytes: int = parent.bytes if parent is not None else 0
        self.likely: Step | None = None  # where the last operation that was recorded here led to
        self.entry: Step | None = None  # likewise the last value from outside
        self.kind: Entry | None = None  # of such a one
        self.next: dict[Hashable, Step] = {}
        self.jumps: dict[Hashable, Any] = {}  # what doors left here
        self.programs: dict[
            tuple[int, ...], Any
        ] = {}  # of segments that end here, by the places whose values are wanted
        self.full = False
        self.layer = ""
        # Of where a segment ended that was computed before its backward pass: the places inside of what doors recorded as one
        # that the backward pass reads, once that is known; and how often somebody walked along their histories.
        self.reads: tuple[int, ...] | None = None
        self.walked = 0

    def operation(
        self, op: Op, refs: list[Ref], params: dict[str, Any], type: Type, asked: bool, given: dict[str, Any]
    ) -> Step:
        """The step for an operation from here, which nobody took before."""
        made = Step(self, type)
        made.op, made.refs, made.params, made.asked, made.given = op, refs, params, asked, given
        made.history = asked and type.dtype.is_floating_point
        made.places += 1
        made.bytes += prod(type.shape) * type.dtype.itemsize
        made.full = made.places >= MOST or made.bytes >= ROOM
        made.layer = current_layer()
        return made

    def entered(self, kind: Entry) -> tuple[Step, bool]:
        """The step for a value from outside, and whether nobody took it before."""
        found = self.next.get(kind)
        fresh = found is None
        if found is None:
            found = self.next[kind] = Step(self, Type(*kind[:2]))
            found.kind = kind
            found.inputs += 1
        self.entry = found
        return found, fresh

    def path(self, first: int = 0) -> list[Step]:
        """The operations that lead here from a place on, each at its own."""
        found = []
        step: Step | None = self
        while step is not None and step.places > first:
            if step.op is not None:
                found.append(step)
            step = step.parent
        return found[::-1]


def kind_of(node: Node) -> Entry:
    """What a value from outside is to a segment."""
    return node.shape, node.dtype, 0 if not node.requires_grad else 1 if node.op is LEAF or node.is_leaf else 2


def meaning_of(rule: Any) -> tuple[Any, ...] | None:
    """What a derivative rule does: its code, and that of the functions that it is made of; None where it reads more than that and
    its arguments, and would have to be kept as it is.
    """
    code = getattr(rule, "__code__", None)
    if code is None or rule.__defaults__ is not None or rule.__kwdefaults__ is not None:
        return None
    found = [code]
    for cell in rule.__closure__ or ():
        inner = meaning_of(cell.cell_contents)
        if inner is None:
            return None
        found.append(inner)
    return tuple(found)
