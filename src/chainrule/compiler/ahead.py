"""Asking for memory before it is needed, a little at a time, while a tile of a product sums.

A tile's results lie in other lines of memory than those it has just read, and its neighbour's sums wait in others
still. Each of them takes longer to come than a core can go on without; asked for during the sums, they are there
in time.
"""

from __future__ import annotations

from collections.abc import Callable

from chainrule.compiler.blocking import Contraction, Plan
from chainrule.compiler.emit import Emitter, Value
from chainrule.compiler.transpose import Column, at, lanes_on, offset

# emitter, row, first column, batch indices: asks for the memory that the epilogue will touch there
Touch = Callable[[Emitter, Value, Value, tuple[Value, ...]], None]


class Ahead:
    """What a tile asks for at each of its rows."""

    def __init__(self, e: Emitter, spec: Contraction, chosen: Plan, touch: Touch, batch: tuple[Value, ...]) -> None:
        self.e, self.spec, self.plan, self.touch, self.batch = e, spec, chosen, touch, batch

    def results(self, row: Value, column: Value, columns: list[Column]) -> None:
        """What the epilogue of a row reads and writes."""
        last = columns[-1].first + lanes_on(columns[-1].type, columns[-1].mask) - 1
        for first in [*(part.first for part in columns), last]:  # a row may begin within a line
            place = self.e.binary("add", column, self.e.const(first, "i64")) if first else column
            self.touch(self.e, row, place, self.batch)

    def sums(self, waiting: Value, row: Value, columns: list[Column]) -> None:
        """The sums of the next tile."""
        e, chosen, scalar = self.e, self.plan, self.spec.scalar
        line = offset(e, waiting, row, len(columns) * chosen.lanes, scalar)
        line = at(e, line, chosen.rows * chosen.width, scalar)
        for part in columns:
            e.prefetch(at(e, line, part.first, scalar), write=True)
