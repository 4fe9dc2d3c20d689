"""Asking for memory before it is needed, a little at a time, while a tile of a product sums.

A tile's results lie in other lines of memory than those it has just read, and its neighbour's sums wait in others
still. Each of them takes longer to come than a core can go on without; asked for during the sums, they are there
in time. So are the next block of A and the next panel of B, which come from farther off than anything else: all
tiles of a block, row by row, ask for an equal share of their lines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.matmul.packing import plus, scaled
from chainrule.compiler.codegen.matmul.transpose import Column, at, lanes_on, offset
from chainrule.compiler.plan.target import BYTES
from chainrule.compiler.plan.tiling import Contraction, Tiling, waiting_sums
from chainrule.tensor.memory import LINE

# emitter, row, first column: asks for the memory that the epilogue will touch there
Touch = Callable[[Emitter, Register, Register], None]


@dataclass(frozen=True)
class Asks:
    """What the next tile will need, asked for bit by bit: so many times, each before an equal part of a tile's sums."""

    ask: Callable[[Register], None]
    parts: int


class Ahead:
    """What a tile asks for at each of its rows."""

    def __init__(self, e: Emitter, spec: Contraction, chosen: Tiling, touch: Touch) -> None:
        self.e, self.spec, self.plan, self.touch = e, spec, chosen, touch

    def results(self, row: Register, column: Register, columns: list[Column]) -> None:
        """What the epilogue of a row reads and writes."""
        last = columns[-1].first + lanes_on(columns[-1].type, columns[-1].mask) - 1
        for first in [*(part.first for part in columns), last]:  # a row may begin within a line
            place = self.e.binary("add", column, self.e.const(first, "i64")) if first else column
            self.touch(self.e, row, place)

    def sums(self, waiting: Register, row: Register, columns: list[Column]) -> None:
        """The sums of the next tile."""
        e, chosen, scalar = self.e, self.plan, self.spec.scalar
        line = e.opaque(offset(e, waiting, row, len(columns) * chosen.lanes, scalar))
        line = at(e, line, waiting_sums(self.spec, chosen), scalar)
        for part in columns:
            e.prefetch(at(e, line, part.first, scalar), write=True)


_FRACTION = 16  # bits
_FEW = 4  # lines at each row of a tile that are asked for one by one; more of them in a loop
_ALIGNED = 4  # bytes: pointers have no more on a CPU of 32 bits

Places = list[Register] | Register  # of lines: each, or where they stand in memory


@dataclass(frozen=True)
class Corner:
    """Where a block begins: its first row tile, its first panel, its first element of l."""

    tile: Register
    panel: Register
    start: Register


@dataclass(frozen=True)
class Lines:
    """Lines of memory that will be read: runs of equal length, a fixed number of elements apart."""

    start: Register
    runs: int
    stride: int
    length: int  # lines

    @classmethod
    def of(cls, start: Register, extents: tuple[int, int], strides: tuple[int, int], size: int) -> Lines:
        """Those of a matrix of elements of `size` bytes, which lie side by side along one of its axes."""
        (runs, along), stride = (extents[::-1], strides[1]) if strides[0] == 1 else (extents, strides[0])
        return cls(start, runs, stride, -(-along * size // LINE))


class Coming:
    """A block of A or a panel of B that will be read next, asked for by the tiles of the one before it.

    At each of its rows a tile asks for a line of another run: so the next address is a step away.
    """

    def __init__(
        self, e: Emitter, spec: Contraction, chosen: Tiling, lines: Lines, panels: int, first: Register
    ) -> None:
        self.e, self.scalar, self.lines, self.first = e, spec.scalar, lines, first
        self.height = chosen.mr - (chosen.small > 0)  # rows that every tile has
        parts = -(-lines.runs // self.height) * lines.length
        self.tiles = chosen.tiles
        self.step = (parts << _FRACTION) // (panels * chosen.tiles)
        self.count = -(-self.step // (1 << _FRACTION))  # lines at each row of a tile

    def of_tile(self, panel: Register, tile: Register) -> Places:
        """Where the lines begin that a tile of the block asks for."""
        e = self.e
        panel = e.binary("sub", panel, self.first)
        number = e.binary("add", e.binary("mul", panel, e.const(self.tiles, "i64")), tile)
        part = e.binary("lshr", e.binary("mul", number, e.const(self.step, "i64")), e.const(_FRACTION, "i64"))
        if self.count <= _FEW:
            return [self._place(plus(e, part, more)) for more in range(self.count)]
        room = e.local("ptr", self.count)
        with e.loop(self.count) as more:
            e.store(self._place(e.binary("add", part, more)), e.address(room, more, "ptr"), _ALIGNED)
        return room

    def _place(self, part: Register) -> Register:
        """Where a line begins, by its number."""
        e, lines = self.e, self.lines
        run = e.binary("udiv", part, e.const(lines.length, "i64"))
        within = e.binary("urem", part, e.const(lines.length, "i64"))
        place = offset(e, lines.start, run, self.height * lines.stride, self.scalar)
        step = LINE // BYTES[self.scalar]
        # A run may begin within a line, which its neighbour asked for: what it needs of its own ends farther on.
        return e.opaque(at(e, offset(e, place, within, step, self.scalar), step - 1, self.scalar))

    def ask(self, places: Places, row: Register) -> None:
        e = self.e
        far = e.opaque(scaled(e, row, self.lines.stride))
        if isinstance(places, list):
            for place in places:
                e.prefetch(e.address(place, far, self.scalar), level=2)
            return
        with e.loop(self.count) as number:
            place = e.load(e.address(places, number, "ptr"), "ptr", _ALIGNED)
            e.prefetch(e.address(place, far, self.scalar), level=2)
