"""What was recorded before, as a tree: a thread's operations walk down it, and where they have been says what they are.

From the root, a step for each operation, for each value from outside that is met, and for each remark. Two segments that
are the same to the last parameter end at the same step, which holds the programs that were made for them.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import prod
from typing import Any, Union

from chainrule.graph import Node, Op, Type, current_layer

# What an operation reads: the result at a place (0, 1, ...), an input (-1, -2, ...), or a number that is structure.
Ref = Union[int, Node]

# A new value that a handle gets when what waits has run: its place, the handle, its dtype, and whether it requires grad.
Update = tuple[int, Any, Any, bool]

# A segment of so many operations runs, whether anybody asks or not: compiling takes longer than in proportion beyond.
MOST = 1024
ROOM = 1 << 28  # bytes that may wait to be computed; all of them may have to be there at once


class Step:
    """One step down the tree."""

    __slots__ = (
        "asked",
        "bytes",
        "entry",
        "flag",
        "full",
        "history",
        "inputs",
        "jumps",
        "layer",
        "likely",
        "next",
        "op",
        "params",
        "parent",
        "places",
        "programs",
        "refs",
        "type",
    )

    def __init__(self, parent: Step | None, type: Type | None = None) -> None:
        self.parent, self.type = parent, type
        self.op: Op | None = None
        self.refs: list[Ref] = []
        self.params: dict[str, Any] = {}
        self.asked = self.history = False  # would there be a history, and is there one
        self.places: int = parent.places if parent is not None else 0  # results so far, this one included
        self.inputs: int = parent.inputs if parent is not None else 0
        self.bytes: int = parent.bytes if parent is not None else 0
        self.likely: Step | None = None  # where the last operation that was recorded here led to
        self.entry: Step | None = None  # likewise the last value from outside, whose history `flag` tells
        self.flag = 0
        self.next: dict[Hashable, Step] = {}
        self.jumps: dict[Hashable, Any] = {}  # what doors left here
        self.programs: dict[
            tuple[int, ...], Any
        ] = {}  # of segments that end here, by the places whose values are wanted
        self.full = False
        self.layer = ""

    def operation(self, op: Op, refs: list[Ref], params: dict[str, Any], type: Type, asked: bool) -> Step:
        """The step for an operation from here, which nobody took before."""
        made = Step(self, type)
        made.op, made.refs, made.params, made.asked = op, refs, params, asked
        made.history = asked and type.dtype.is_floating_point
        made.places += 1
        made.bytes += prod(type.shape) * type.dtype.itemsize
        made.full = made.places >= MOST or made.bytes >= ROOM
        made.layer = current_layer()
        return made

    def path(self) -> list[Step]:
        """The operations that lead here, each at its place."""
        found = []
        step: Step | None = self
        while step is not None:
            if step.op is not None:
                found.append(step)
            step = step.parent
        return found[::-1]
