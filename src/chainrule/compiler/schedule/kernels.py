"""Kernels: loop nests over buffers, each computing one or several nodes of the graph.

    kernel  := "for" loops ":" [core] stores
    core    := reduce(op, loops, value, along rows or not) | rows(loops, reduce ...) | dot(A, B) | check(value)
             | chain(kernel ...)
    store   := buffer "[" index "]" ("=" | "+=") value

Values are trees of loads, numbers and ops; a value used twice is one object. A kernel's text is its
identity, over the pointers it is given (`arguments`): two kernels that read alike are compiled once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from textwrap import indent
from typing import Any

from chainrule.compiler.schedule.index import Expr, Guard, Var
from chainrule.dtypes import DType, bool_
from chainrule.equations import format_params
from chainrule.graph import LEAF, Node, Op
from chainrule.ops import reduction

# What a buffer is called, and the index of an element in what is called so.
Naming = Callable[[Node, Expr], tuple[str, Expr]]


@dataclass(eq=False)
class Value:
    """One scalar (or lane) computed in a kernel's loop body."""

    dtype: DType

    def vars(self) -> set[Var]:
        raise NotImplementedError

    def parts(self) -> tuple[Value, ...]:
        """The values it reads."""
        return ()


@dataclass(eq=False)
class Number(Value):
    """A Python number."""

    value: Any

    def vars(self) -> set[Var]:
        return set()


@dataclass(eq=False)
class Position(Value):
    """The value of an index expression."""

    index: Expr

    def vars(self) -> set[Var]:
        return self.index.vars()

    def parts(self) -> tuple[Value, ...]:
        return tuple(atom.value for atom in self.index.loaded())


@dataclass(eq=False)
class Load(Value):
    """An element of a buffer; zero where a guard fails."""

    node: Node
    index: Expr
    guards: tuple[Guard, ...] = ()
    _parts: tuple[Value, ...] | None = None

    @property
    def is_strided(self) -> bool:
        """Does it read the same way apart at each step of every loop, whatever the step?"""
        return self.index.strided and not self.guards

    def vars(self) -> set[Var]:
        return self.index.vars().union(*(guard.expr.vars() for guard in self.guards))

    def parts(self) -> tuple[Value, ...]:
        if self._parts is None:
            exprs = (self.index, *(guard.expr for guard in self.guards))
            self._parts = tuple(atom.value for expr in exprs for atom in expr.loaded())
        return self._parts


@dataclass(eq=False)
class Compute(Value):
    """An op of `kind` elementwise applied to values."""

    op: Op
    args: tuple[Value, ...]
    params: dict[str, Any]
    _vars: set[Var] | None = None

    def vars(self) -> set[Var]:
        if self._vars is None:
            # What it reads comes first, so nothing recurses; nobody changes a set that is handed out.
            below = [self] if all(_with_vars(arg) or not arg.parts() for arg in self.args) else walk([self], _with_vars)
            for value in below:
                if isinstance(value, Compute):
                    value._vars = set().union(*[arg.vars() for arg in value.args])
        return self._vars or set()

    def parts(self) -> tuple[Value, ...]:
        return self.args


@dataclass(eq=False)
class Guarded(Value):
    """A value where the guards hold, zero elsewhere."""

    value: Value
    guards: tuple[Guard, ...]

    def vars(self) -> set[Var]:
        return self.value.vars().union(*(guard.expr.vars() for guard in self.guards))

    def parts(self) -> tuple[Value, ...]:
        return (self.value, *(atom.value for guard in self.guards for atom in guard.expr.loaded()))


@dataclass(eq=False)
class Result(Value):
    """What the kernel's core (or one stage of it) computed, at the present iteration of its outer loops."""

    stage: int | None = None

    def vars(self) -> set[Var]:
        return set()


@dataclass(eq=False)
class Reduce:
    """Fold `value` over the loops `dims` with the reduction `op`.

    `along`: the last axis of what is folded is among them, so that its terms lie along rows. `halved`: which loop, if
    any, goes over the rows of a batch that are added up in halves (see `ops.halves`).
    """

    op: Op
    dims: tuple[Var, ...]
    value: Value
    result: Result
    along: bool
    halved: Var | None = None

    @property
    def dtype(self) -> DType:
        return self.result.dtype

    @property
    def elements(self) -> int:
        """How many values become one."""
        return math.prod(var.size for var in self.dims)

    @property
    def ordered(self) -> bool:
        """Do its bits depend on the order in which it folds?"""
        return self.op is reduction.sum and self.dtype.is_floating_point


@dataclass(eq=False)
class RowFolds:
    """Folds over one row after another: each may read the row and what the folds before it gave.

    The stores of such a kernel write a whole row, or one element for each row.
    """

    dims: tuple[Var, ...]
    stages: list[Reduce]


@dataclass(eq=False)
class Dot:
    """acc[..., m, n] = sum over k of a[..., m, k] * b[..., k, n]; operands are affine in the loops.

    Further axes of rows are loops around it; those of terms are `inner`, inside k and one in another.
    `along`: the terms are shared by lanes along k, not added in order (see `contraction.in_lanes`). `halved`: k are the
    rows of a batch, added up in halves (see `ops.halves`). `carried`: a loop around it goes over further terms of the
    same sums, which stand where its only store leaves them; they begin anew where this is 0.
    """

    m: Var | None  # None: one row, or one column, which is computed as a row
    n: Var | None
    k: Var
    a: Load
    b: Load
    result: Result
    along: bool
    inner: tuple[Var, ...] = ()
    halved: bool = False
    carried: Expr | None = None

    @property
    def summed(self) -> tuple[Var, ...]:
        """The loops over its terms, the outermost first: the order in which they are added."""
        return (self.k, *self.inner)

    @property
    def terms(self) -> int:
        """How many products each sum has."""
        return math.prod(var.size for var in self.summed)

    @property
    def begins(self) -> str:
        """Where sums that are carried begin, as text."""
        return "" if self.carried is None else f", carried on unless {self.carried!r} = 0,"


# The op of a buffer that a kernel has for itself: no node of a graph computes it.
ROOM = replace(LEAF, name="room")


def room(dtype: DType, *shape: int) -> Node:
    """A buffer for a kernel of its own."""
    return Node(ROOM, (), {}, (shape, dtype))


@dataclass(eq=False)
class Chain:
    """Kernels one after the other inside the loops of one: each reads what those before it left in `rooms`.

    A room holds what one iteration of the loops around has to hand on. What the kernel stores, one of the parts does.
    """

    parts: list[Kernel]
    rooms: list[Node]

    def keep(self, stores: list[Store]) -> None:
        """Store outside of the rooms nothing but these."""
        for part in self.parts:
            part.stores = [store for store in part.stores if store.node.op is ROOM or store in stores]


@dataclass(eq=False)
class Check:
    """Stop the program with `code` unless least <= value < size everywhere."""

    value: Value
    least: int
    size: int
    code: int
    result: Result = field(default_factory=lambda: Result(bool_))  # has it failed?


@dataclass(eq=False)
class Store:
    """One result of a kernel: `value` at `index` of `node`'s buffer."""

    node: Node
    index: Expr
    value: Value
    combine: Op | None = None  # put_add, put: the positions are data, writes happen one after another


@dataclass(eq=False)
class Kernel:
    """One loop nest."""

    loops: tuple[Var, ...]
    stores: list[Store]
    core: Reduce | RowFolds | Dot | Check | Chain | None = None
    first: tuple[Node, ...] = ()  # nodes whose buffers must be complete although no load names them
    layer: str = ""
    made: int = 0  # when the program made the first value that it completes
    number: int = field(default=0)
    _settled: list[Value] | None = None
    _loads: list[Load] | None = None

    def settle(self) -> None:
        """From now on nothing is added to it: it is walked once, and not for each of the later stages."""
        self._settled = self.values()
        self._loads = self.loads()

    def roots(self) -> list[Value]:
        """The values its stores and its core start from."""
        values = [store.value for store in self.stores]
        values += [atom.value for store in self.stores for atom in store.index.loaded()]
        if isinstance(self.core, Dot):
            values += [self.core.a, self.core.b]
        elif isinstance(self.core, RowFolds):
            values += [stage.value for stage in self.core.stages]
        elif isinstance(self.core, Chain):
            values = [value for part in self.core.parts for value in part.roots()]
        elif self.core is not None:
            values.append(self.core.value)
        return values

    def values(self) -> list[Value]:
        """All that it computes and loads, each after what it reads."""
        return walk(self.roots()) if self._settled is None else self._settled

    def loads(self) -> list[Load]:
        """Every load, each once; not of its own rooms."""
        if self._loads is not None:
            return self._loads
        return [value for value in self.values() if isinstance(value, Load) and value.node.op is not ROOM]

    def reads(self) -> list[Node]:
        """The buffers it reads, each once, in order of first use."""
        return list(dict.fromkeys([*self.first, *(load.node for load in self.loads())]))


def walk(roots: list[Value], known: Callable[[Value], bool] | None = None) -> list[Value]:
    """Every value below the roots, each after what it reads; without those that are `known` and what they read."""
    order: list[Value] = []
    done: set[int] = set()
    stack: list[Value | None] = [*reversed(roots)]
    pop = stack.pop
    while stack:
        value = pop()
        if value is None:  # what the next one reads is in order
            order.append(pop())  # type: ignore[arg-type]
        elif id(value) not in done and (known is None or not known(value)):
            done.add(id(value))
            parts = value.parts()
            if parts:
                stack += (value, None, *parts[::-1])
            else:
                order.append(value)
    return order


def _with_vars(value: Value) -> bool:
    return isinstance(value, Compute) and value._vars is not None


def uses(kernel: Kernel) -> Counter[int]:
    """How often each value is read."""
    found = Counter(id(value) for value in kernel.roots())
    for value in kernel.values():
        found.update(id(part) for part in value.parts())
    return found


def print_kernel(kernel: Kernel, at: Naming) -> str:
    """The kernel as text; `at` names the buffer, and the place in it, of an element."""
    core = kernel.core
    if not isinstance(core, Chain):
        return _print(kernel, Printer(at, uses(kernel)))
    names = {node: f"room{i}" for i, node in enumerate(core.rooms)}
    printer = Printer(lambda node, index: (names[node], index) if node in names else at(node, index), uses(kernel))
    rooms = [f"{name}: {node.dtype.short}[{math.prod(node.shape)}]" for node, name in names.items()]
    parts = [_print(part, printer) for part in core.parts]
    return "\n".join([f"for {_loops(kernel.loops) or 'once'}:", *(indent(text, "  ") for text in [*rooms, *parts])])


def _print(kernel: Kernel, printer: Printer) -> str:
    core, loops, printer.lines = kernel.core, _loops(kernel.loops) or "once", []
    if isinstance(core, RowFolds):
        loops += f", each row {_loops(core.dims)}"
        for stage in core.stages:
            text = printer.value(stage.value)
            printer.lines.append(f"  acc{stage.result.stage} = {stage.op.name}.{stage.dtype.short} of {text}")
    elif isinstance(core, Reduce):
        text = printer.value(core.value)
        way = "along" if core.along and core.ordered else "over"  # what sets its bits is part of its identity
        way += f" halves of {core.halved} and" if core.halved else ""
        printer.lines.append(f"  acc = {core.op.name} {way} {_loops(core.dims)} of {text}")
    elif isinstance(core, Dot):
        a, b = printer.value(core.a), printer.value(core.b)
        way = ("along" if core.along else "over") + " halves of" * core.halved
        printer.lines.append(f"  acc = sum {way} {_loops(core.summed)}{core.begins} of {a} * {b}")
    elif isinstance(core, Check):
        printer.lines.append(f"  check {printer.value(core.value)} in [{core.least}, {core.size})")
    for store in kernel.stores:
        sign = "=" if store.combine is None else f"={store.combine.name}="
        text, place = printer.value(store.value), printer.place(store.node, store.index)
        printer.lines.append(f"  {place} {sign} {text}")
    return "\n".join([f"for {loops}:", *printer.lines])


def _loops(loops: tuple[Var, ...]) -> str:
    return ", ".join(f"{var} < {var.size}" for var in loops)


class Printer:
    """Values as text; one that is used several times gets a line and a name of its own."""

    def __init__(self, at: Naming, uses: Counter[int]) -> None:
        self.at, self.uses = at, uses
        self.lines: list[str] = []
        self.texts: dict[int, str] = {}
        self.count = 0

    def value(self, root: Value) -> str:
        for value in walk([root], lambda value: id(value) in self.texts):
            text = self._text(value)
            if self.uses[id(value)] > 1 and isinstance(value, (Compute, Guarded)):
                name, self.count = f"x{self.count}", self.count + 1
                self.lines.append(f"  {name} = {text}")
                text = name
            self.texts[id(value)] = text
        return self.texts[id(root)]

    def place(self, node: Node, index: Expr) -> str:
        name, rest = self.at(node, index)
        return f"{name}[{self.index(rest)}]"

    def index(self, expr: Expr) -> str:
        return expr.text(lambda atom: self.value(atom.value))

    def _condition(self, guards: tuple[Guard, ...]) -> str:
        return "".join(f" if {guard.text(lambda atom: self.value(atom.value))}" for guard in guards)

    def _text(self, value: Value) -> str:
        if isinstance(value, Load):
            return f"{self.place(value.node, value.index)}{self._condition(value.guards)}"
        if isinstance(value, Compute):
            args = ", ".join(self.texts[id(arg)] for arg in value.args)
            params = {key: v for key, v in value.params.items() if key != "shape"}
            return f"{value.op.name}.{value.dtype.short}({args}{format_params(params)})"
        if isinstance(value, Guarded):
            return f"({self.texts[id(value.value)]}{self._condition(value.guards)})"
        if isinstance(value, Position):
            return f"{value.dtype.short}({self.index(value.index)})"
        if isinstance(value, Number):
            return f"{value.value!r}:{value.dtype.short}"
        return "acc" if not isinstance(value, Result) or value.stage is None else f"acc{value.stage}"
