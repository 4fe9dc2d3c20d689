"""The loop IR: a kernel as loops one in another, with all that was decided about them standing there.

    nest        := statement ...
    statement   := for | bind | let | alloc | accumulate | combine | contract | store
    for         := "for" var "in" begin ".." end way ["by leaf"] ["shared"] ":" statement ...
    way         := undecided | "serial" | "dealt" n | "vector" n | "unrolled" ["vector" n]
    bind        := var "=" index                           of a loop that runs through several: their own indices
    let         := name "=" value ["from" load]            computed here (or read where an earlier loop stored it), and
                                                           known to what follows and lies within
    alloc       := room ":" type "[" elements "]"          a buffer of the nest's own, on the stack or in scratch memory:
                                                           stores and loads go to it as to any other
    accumulate  := result "=" op ":" statement ...         a value carried through the loops inside it
    combine     := result op"=" value                      innermost in those: one more term
    contract    := result "=" "sum over" k ... "of" A "*" B tiles ":" statement ...    for each vector of results; of several
                                                           axes of terms one lies in another, and so they are added
    store       := buffer "[" index "]" "=" value

A statement stands wherever another may: loops in loops, folds in loops and one after the other, a contraction whose
sums go to a room, folds over that room and a contraction that reads it, all inside the same loops. Attention is such
a nest; for some queries at a time:

    scores: f32[queries * keys]
    for head: for queries:
      acc = sum over features of q * k:  scores = acc * scale
      for query: largest = amax: for key: ...  total = sum: for key: scores = exp(scores - largest) ...
      acc = sum over keys of scores * v:  out = acc

A convolution is one contraction with several axes, which reads windows of the input where they lie:

    for image: for line: acc = sum over channel, k, l of x[..., line + k, pixel + l, channel] * w[channel, k, l, out]

Pixels and outs are its own loops, its tiles; other axes of rows are loops around it.

What a schedule makes (`kernels.Kernel`) leaves the ways of its loops open; `plan` decides them once, in this form,
and `codegen` writes what stands here:

serial      one iteration after the other
dealt n     n iterations a turn, each with a sum of its own: term i goes to sum i mod n; the sums are added in halves
by leaf     the turns begin anew with each leaf of a fold over the rows of a batch (`ops.halves`)
vector n    n neighbouring iterations a turn, the lanes of one register; fewer in a turn of its own, under a mask
unrolled    every turn written out, with registers that last: what one sweep computed is known to the next
shared      threads divide its units (one iteration, or one turn of a vector) among them; a contraction, its rows of
            tiles or its panels of columns

The order of a sum is the order in which these loops run, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Union

from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Check, Dot, Load, Reduce, Store, Value
from chainrule.graph import Node


class Way(Enum):
    """How the iterations of a loop follow each other."""

    SERIAL = "serial"
    DEALT = "dealt"
    VECTOR = "vector"
    UNROLLED = "unrolled"


@dataclass(eq=False)
class For:
    """The iterations `begin` to `end` of a loop, `lanes` of them a turn.

    `unit`: how many iterations are one unit of the work that threads share; 0 where each does all of it. `joined`:
    loops around it that it runs through as well, as their elements follow its own in memory: their index stays 0.
    `by_leaf`: its turns begin anew with each leaf of the fold around it, and the last of a leaf may be no whole one.
    """

    var: Var
    body: Block
    begin: int
    end: int
    way: Way | None = Way.SERIAL
    lanes: int = 1
    unit: int = 0
    joined: tuple[Var, ...] = ()
    by_leaf: bool = False

    @property
    def count(self) -> int:
        """Its iterations."""
        return self.end - self.begin

    @property
    def is_one_turn(self) -> bool:
        """Is it a single turn, as what whole turns left over, and needs no loop? One that threads share is asked whose it is."""
        left_over = self.begin > 0 or self.count < self.lanes
        return left_over or (self.count == self.lanes > 1 and not self.unit)

    @property
    def in_register(self) -> bool:
        """Are its neighbours the lanes of a register?"""
        return self.way is Way.VECTOR or (self.way is Way.UNROLLED and self.lanes > 1)


@dataclass(eq=False)
class Bind:
    """The index of a loop that another one runs through."""

    var: Var
    index: Expr


@dataclass(eq=False)
class Let:
    """A value is computed here, or read from a room where an earlier loop over the same has stored it."""

    value: Value
    load: Load | None = None


@dataclass(eq=False)
class Alloc:
    """A buffer of the nest's own, from here on: a `room`, on the stack, or so many bytes behind the start of the scratch memory."""

    room: Node
    offset: int | None = None

    @property
    def end(self) -> int:
        """Where in the scratch memory it ends."""
        return 0 if self.offset is None else self.offset + math.prod(self.room.shape) * self.room.dtype.itemsize


@dataclass(eq=False)
class Combine:
    """One more term for the fold around it."""

    core: Reduce | Check


@dataclass(eq=False)
class Accumulate:
    """A fold: its value goes from turn to turn of the loops inside, and is there when they are over."""

    core: Reduce | Check
    body: Block

    @property
    def innermost(self) -> For | None:
        """The loop that its terms lie along."""
        found, block = None, self.body
        while block and isinstance(block[0], For):
            found, block = block[0], block[0].body
        return found

    @property
    def sums(self) -> int:
        """How many registers of sums there are, each with terms of its own."""
        along = self.innermost
        return along.lanes if along is not None and along.way is Way.DEALT else 1

    @property
    def across(self) -> int:
        """How many lanes of one register are sums of the same row; 1: each lane has a row of its own."""
        along = self.innermost
        return along.lanes if along is not None and along.in_register else 1


@dataclass(eq=False)
class Contract:
    """A product, and what is done with each vector of its sums.

    `tiles`: how it is cut up (`plan.product.Tiles`). `shared`: what threads share of it, its "rows" of tiles or its
    panels of "columns". `ahead`: what its body will touch, asked for in time.
    """

    core: Dot
    body: Block
    tiles: Any
    shared: str = ""
    ahead: tuple[Touched, ...] = ()

    @property
    def indices(self) -> set[Var]:
        """Its own loops over its results."""
        return {var for var in (self.core.m, self.core.n) if var is not None}


Touched = tuple[Node, Expr, bool]  # an element that is read, or written (True)
Statement = Union[For, Bind, Let, Alloc, Combine, Accumulate, Contract, Store]
Block = tuple[Statement, ...]


@dataclass(eq=False)
class Nest:
    """One kernel, decided."""

    body: Block

    @property
    def products(self) -> list[Contract]:
        """The contractions in it."""
        return [statement for statement in inside(self.body) if isinstance(statement, Contract)]

    @property
    def scratch(self) -> int:
        """Bytes of scratch memory: what they pack their factors into, one after the other, and rooms behind that."""
        rooms = [statement.end for statement in inside(self.body) if isinstance(statement, Alloc)]
        return max([product.tiles.scratch for product in self.products] + rooms, default=0)

    @property
    def is_shared(self) -> bool:
        """Do threads divide it?"""
        return any(getattr(s, "unit", 0) or getattr(s, "shared", "") for s in inside(self.body))


def around(loops: tuple[Var, ...] | list[Var], body: Block, halved: Var | None = None) -> Block:
    """The body inside loops that run one iteration after the other, one of them perhaps by leaf."""
    for var in reversed(loops):
        body = (For(var, body, 0, var.size, by_leaf=var == halved),)
    return body


def unrolled(dims: tuple[Var, ...], body: Block, lanes: int = 1) -> Block:
    """The body at every place of some loops, the last one by vectors, one after another without a branch."""
    for var in reversed(dims):
        body = (For(var, body, 0, var.size, Way.UNROLLED, lanes),)
        lanes = 1
    return body


def inside(block: Block) -> Iterator[Statement]:
    """Every statement of a block, those of a loop after it."""
    waiting = list(reversed(block))
    while waiting:
        statement = waiting.pop()
        yield statement
        waiting += reversed(getattr(statement, "body", ()))


def independent(nest: Nest) -> list[For]:
    """The loops around everything else, the outermost first: no iteration of them reads what another makes."""
    found, block = [], without_lets(nest.body)
    while block and isinstance(block[0], For) and _one_loop(block):
        found.append(block[0])
        block = block[0].body
    return found


def without_lets(block: Block) -> Block:
    return tuple(statement for statement in block if not isinstance(statement, Let))


def _one_loop(block: Block) -> bool:
    """Is it one loop, or the whole turns of one and what they left?"""
    bodies = {(statement.var, id(statement.body)) for statement in block if isinstance(statement, For)}
    return len(bodies) == 1 and all(isinstance(s, For) and s.way is not Way.UNROLLED for s in block)
