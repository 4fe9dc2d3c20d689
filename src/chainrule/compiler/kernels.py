"""Kernels: loop nests over buffers, each computing one or several nodes of the graph.

    kernel  := "for" loops ":" [core] stores
    core    := reduce(op, loops, value) | dot(A, B) | check(value)
    store   := buffer "[" index "]" ("=" | "+=") value

Values are trees of loads, numbers and ops; a value used twice is one object. A kernel's text is its
identity: two kernels that read alike are compiled once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chainrule.compiler.index import Expr, Guard, Loaded, Var
from chainrule.dtypes import DType
from chainrule.graph import Node, Op, format_params


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

    def vars(self) -> set[Var]:
        return self.index.vars().union(*(guard.expr.vars() for guard in self.guards))

    def parts(self) -> tuple[Value, ...]:
        exprs = (self.index, *(guard.expr for guard in self.guards))
        return tuple(atom.value for expr in exprs for atom in expr.loaded())


@dataclass(eq=False)
class Compute(Value):
    """An op of `kind` elementwise applied to values."""

    op: Op
    args: tuple[Value, ...]
    params: dict[str, Any]
    _vars: set[Var] | None = None

    def vars(self) -> set[Var]:
        if self._vars is None:
            self._vars = set().union(*(arg.vars() for arg in self.args))
        return self._vars

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
    """What the kernel's core computed, at the present iteration of its outer loops."""

    def vars(self) -> set[Var]:
        return set()


@dataclass(eq=False)
class Reduce:
    """Fold `value` over the loops `dims` with the reduction `op`."""

    op: Op
    dims: tuple[Var, ...]
    value: Value
    dtype: DType


@dataclass(eq=False)
class Dot:
    """acc[..., m, n] = sum over k of a[..., m, k] * b[..., k, n]; operands are affine in the loops."""

    m: Var | None  # None: one row
    n: Var | None
    k: Var
    a: Load
    b: Load


@dataclass(eq=False)
class Check:
    """Stop the program with `code` unless 0 <= value < size (or -size <= value) everywhere."""

    value: Value
    size: int
    code: int


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
    core: Reduce | Dot | Check | None = None
    first: tuple[Node, ...] = ()  # nodes whose buffers must be complete although no load names them
    layer: str = ""
    number: int = field(default=0)

    def roots(self) -> list[Value]:
        """The values its stores and its core start from."""
        values = [store.value for store in self.stores]
        values += [atom.value for store in self.stores for atom in store.index.loaded()]
        if isinstance(self.core, Dot):
            values += [self.core.a, self.core.b]
        elif self.core is not None:
            values.append(self.core.value)
        return values

    def loads(self) -> list[Load]:
        """Every load, each once."""
        return [value for value in walk(self.roots()) if isinstance(value, Load)]

    def reads(self) -> list[Node]:
        """The buffers it reads, each once, in order of first use."""
        return list(dict.fromkeys([*self.first, *(load.node for load in self.loads())]))


def walk(roots: list[Value]) -> list[Value]:
    """Every value below the roots, each after what it reads."""
    order: list[Value] = []
    done: set[int] = set()
    stack: list[tuple[Value, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        value, expanded = stack.pop()
        if expanded:
            order.append(value)
        elif id(value) not in done:
            done.add(id(value))
            stack.append((value, True))
            stack.extend((part, False) for part in reversed(value.parts()))
    return order


def print_kernel(kernel: Kernel, names: dict[Node, str]) -> str:
    """The kernel as text; `names` gives each buffer's."""
    texts: dict[int, str] = {}
    lines: list[str] = []
    uses: dict[int, int] = {}
    for value in walk(kernel.roots()):
        for part in value.parts():
            uses[id(part)] = uses.get(id(part), 0) + 1
    for value in walk(kernel.roots()):
        text = _print_value(value, texts, names)
        if uses.get(id(value), 0) > 1 and isinstance(value, (Compute, Guarded)):
            name = f"t{len(lines)}"
            lines.append(f"  {name} = {text}")
            text = name
        texts[id(value)] = text
    header = ", ".join(f"{Expr({var: 1})} < {var.size}" for var in kernel.loops)
    head = [f"for {header or 'once'}:"]
    core = kernel.core
    if isinstance(core, Reduce):
        over = ", ".join(f"{Expr({var: 1})} < {var.size}" for var in core.dims)
        lines.append(f"  acc = {core.op.name} over {over} of {texts[id(core.value)]}")
    elif isinstance(core, Dot):
        over = f"{Expr({core.k: 1})} < {core.k.size}"
        lines.append(f"  acc = sum over {over} of {texts[id(core.a)]} * {texts[id(core.b)]}")
    elif isinstance(core, Check):
        lines.append(f"  check {core.code}: {texts[id(core.value)]} in [-{core.size}, {core.size})")
    for store in kernel.stores:
        sign = "=" if store.combine is None else f"={store.combine.name}="
        index = store.index.text(lambda atom: texts[id(atom.value)])
        lines.append(f"  {names[store.node]}[{index}] {sign} {texts[id(store.value)]}")
    return "\n".join(head + lines)


def _print_value(value: Value, texts: dict[int, str], names: dict[Node, str]) -> str:
    def data(atom: Loaded) -> str:
        return texts[id(atom.value)]

    def condition(guards: tuple[Guard, ...]) -> str:
        return "".join(f" if {guard.text(data)}" for guard in guards)

    if isinstance(value, Load):
        return f"{names[value.node]}[{value.index.text(data)}]{condition(value.guards)}"
    if isinstance(value, Compute):
        args = ", ".join(texts[id(arg)] for arg in value.args)
        params = {key: v for key, v in value.params.items() if key != "shape"}
        return f"{value.op.name}.{value.dtype.short}({args}{format_params(params)})"
    if isinstance(value, Guarded):
        return f"({texts[id(value.value)]}{condition(value.guards)})"
    if isinstance(value, Position):
        return f"{value.dtype.short}({value.index.text(data)})"
    if isinstance(value, Number):
        return f"{value.value!r}:{value.dtype.short}"
    return "acc"
