"""A nest as text: what stands in it, loop by loop."""

from __future__ import annotations

import math
from collections import Counter
from itertools import groupby

from chainrule.compiler.schedule.index import Expr
from chainrule.compiler.schedule.kernels import (
    Check,
    Kernel,
    Naming,
    Number,
    Printer,
    Result,
    Store,
    uses,
)
from chainrule.compiler.schedule.loops import (
    Accumulate,
    Alloc,
    Bind,
    Block,
    Combine,
    Contract,
    For,
    Let,
    Nest,
    Statement,
    Way,
)
from chainrule.graph import Node


def print_nest(nest: Nest, kernel: Kernel, at: Naming) -> str:
    """The nest as text; `at` names the buffer, and the place in it, of an element."""
    printer = _NestPrinter(at, uses(kernel))
    printer.block(nest.body)
    return "\n".join(line[2:] for line in printer.lines) or "nothing"


class _NestPrinter(Printer):
    """A statement a line, those of a loop indented; what is named inside a loop is named anew outside."""

    def __init__(self, at: Naming, uses: Counter[int]) -> None:
        super().__init__(at, uses)
        self.rooms: dict[Node, str] = {}

    def block(self, block: Block) -> None:
        for _, statements in groupby(block, _loop_of):
            first, *more = statements
            self._statement(first, [s for s in more if isinstance(s, For)])

    def _statement(self, statement: Statement, more: list[For]) -> None:
        if isinstance(statement, For):
            self._line(f"for {statement.var} in {', then '.join(map(_turns, (statement, *more)))}:")
            self._inside(statement.body, lasting=statement.way is Way.UNROLLED)
        elif isinstance(statement, Accumulate):
            self._line(f"{self._result(statement.core.result)} = {_fold(statement)}:")
            along = statement.innermost
            self._inside(statement.body, lasting=along is not None and along.way is Way.UNROLLED)
        elif isinstance(statement, Contract):
            core = statement.core
            a, b = self.value(core.a), self.value(core.b)
            way = ("along" if core.along else "over") + " halves of" * core.halved
            over = ", ".join(f"{var} < {var.size}" for var in core.summed)
            self._line(f"acc = sum {way} {over}{core.begins} of {a} * {b} in {_tiles(statement)}:")
            self._inside(statement.body)
        else:
            self._simple(statement)

    def _simple(self, statement: Statement) -> None:
        if isinstance(statement, Bind):
            self._line(f"{statement.var} = {self.index(statement.index)}")
        elif isinstance(statement, Let):
            self._let(statement)
        elif isinstance(statement, Store):
            sign = "=" if statement.combine is None else f"={statement.combine.name}="
            text = self.value(statement.value)
            self._line(f"{self.place(statement.node, statement.index)} {sign} {text}")
        elif isinstance(statement, Combine):
            self._line(f"{self._result(statement.core.result)} with {self.value(statement.core.value)}")
        elif isinstance(statement, Alloc):
            room, name = statement.room, f"room{len(self.rooms)}"
            self.rooms[room] = name
            self._line(f"{name}: {room.dtype.short}[{math.prod(room.shape)}]")

    def _inside(self, block: Block, lasting: bool = False) -> None:
        start, known = len(self.lines), dict(self.texts)
        self.block(block)
        self.lines[start:] = [f"  {line}" for line in self.lines[start:]]
        if not lasting:
            self.texts = known

    def _line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def _let(self, statement: Let) -> None:
        """A name for what is computed here, unless it has one; of what is read its place."""
        value = statement.value
        if statement.load is not None:
            self.texts[id(value)] = self.value(statement.load)
            return
        known = id(value) in self.texts
        text = self.value(value)
        if not known and not isinstance(value, (Number, Result)) and not text.isidentifier():
            name, self.count = f"x{self.count}", self.count + 1
            self._line(f"{name} = {text}")
            self.texts[id(value)] = name

    def place(self, node: Node, index: Expr) -> str:
        return f"{self.rooms[node]}[{self.index(index)}]" if node in self.rooms else super().place(node, index)

    def _result(self, result: Result) -> str:
        return self.value(result)


def _loop_of(statement: Statement) -> object:
    """What tells loops apart: the whole turns of one and what they left are one loop."""
    return (statement.var, id(statement.body)) if isinstance(statement, For) else id(statement)


def _turns(loop: For) -> str:
    """Its iterations and how they follow each other."""
    lanes = "" if loop.lanes == 1 else f" {loop.lanes}" if loop.way is not Way.UNROLLED else f" vector {loop.lanes}"
    way = " undecided" if loop.way is None else "" if loop.way is Way.SERIAL else f" {loop.way.value}"
    joined = f" with {', '.join(map(str, loop.joined))}" if loop.joined else ""
    marks = " by leaf" * loop.by_leaf + (" shared" if loop.unit else "")
    return f"{loop.begin}..{loop.end}{joined}{way}{lanes}{marks}"


def _tiles(product: Contract) -> str:
    return f"{product.tiles}{f', {product.shared} shared' if product.shared else ''}"


def _fold(statement: Accumulate) -> str:
    """What is carried, and from how many sums it is put together in the end."""
    core, several = statement.core, statement.sums * statement.across
    if isinstance(core, Check):
        return f"any outside [{core.least}, {core.size})"
    of = [f"{several} in halves"] * (several > 1) + [f"halves of {core.halved}"] * (core.halved is not None)
    return f"{core.op.name}.{core.result.dtype.short}" + (f" of {' and '.join(of)}" if of else "")
