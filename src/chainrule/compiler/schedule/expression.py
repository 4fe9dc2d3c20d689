"""Expressions: the value of a node at an index, built from loads of the nodes that have a buffer."""

from __future__ import annotations

from typing import Any

from chainrule import dtypes
from chainrule.compiler.schedule.index import Expr, Guard, Loaded, Var
from chainrule.compiler.schedule.kernels import Compute, Guarded, Load, Number, Position, Value
from chainrule.graph import CONST, Node, Shape
from chainrule.ops import elementwise as ew
from chainrule.ops import indexing, random, shaping
from chainrule.ops.shaping import ravel


class Expression:
    """Builds the value of a node at an index, down to loads of kept nodes."""

    def __init__(self, kept: set[Node], results: dict[Node, Value] | None = None) -> None:
        self.kept = kept
        self.results = results or {}  # kept nodes this kernel computes itself, and their values
        self.places: dict[Node, Expr] = {}  # which element of them that is
        self.memo: dict[tuple[Node, tuple[Expr, ...]], Value] = {}
        self.checks: set[Node] = set()  # the check_index nodes its indices went through

    def value(self, node: Node, index: tuple[Expr, ...]) -> Value:
        key = (node, index)
        found = self.memo.get(key)
        if found is None:
            self.memo[key] = found = self._load(node, index) if node in self.kept else self.compute(node, index)
        return found

    def give(self, node: Node, value: Value, at: Expr) -> None:
        """From now on the kernel has the element `at` of a kept node at hand."""
        self.results[node], self.places[node] = value, at

    def _load(self, node: Node, index: tuple[Expr, ...]) -> Value:
        at = expr(ravel(index, node.shape))
        if node not in self.results:
            return Load(node.dtype, node, at)
        if self.places.get(node, at) != at:
            raise TypeError(
                f"element {at!r} of {node!r} is read where {self.places[node]!r} is computed; this is a bug in chainrule"
            )
        return self.results[node]

    def compute(self, node: Node, index: tuple[Expr, ...]) -> Value:
        """The node's own equation, whether it is kept or not."""
        op = node.op
        if op is CONST:
            return Number(node.dtype, node.params["value"])
        if op is random.iota:
            return Position(node.dtype, index[0])
        if op is random.random_bits:
            return self._bits(node, index)
        if op.kind == "view":
            return self._view(node, index)
        if op is indexing.take:
            return self._take(node, index)
        if op is indexing.check_index:
            self.checks.add(node)
        args = tuple(self.value(source, broadcast(index, source.shape)) for source in node.inputs)
        return Compute(node.dtype, op, args, node.params)

    def _bits(self, node: Node, index: tuple[Expr, ...]) -> Value:
        (state,) = node.inputs
        words = tuple(self.value(state, (Expr(constant=i),)) for i in range(2))
        position = Position(dtypes.int32, expr(ravel(index, node.shape)))
        return Compute(node.dtype, node.op, (*words, position), node.params)

    def _view(self, node: Node, index: tuple[Expr, ...]) -> Value:
        (source,) = node.inputs
        inner = tuple(map(expr, node.op.lower(index, source, **node.params)))
        if node.op is not shaping.pad:
            return self.value(source, inner)
        guards = _pad_guards(index, source, **node.params)
        value = self.value(source, inner)
        if not guards:
            return value
        if isinstance(value, Load):
            return Load(value.dtype, value.node, value.index, value.guards + guards)
        return Guarded(value.dtype, _guard_loads(value, guards), guards)

    def _take(self, node: Node, index: tuple[Expr, ...]) -> Value:
        source, *indices = node.inputs
        shape = ew.broadcast_shapes("index", *(i.shape for i in indices))
        at, rest = index[: len(shape)], index[len(shape) :]
        inner = tuple(self.index_of(i, broadcast(at, i.shape), source.shape[a]) for a, i in enumerate(indices))
        return self.value(source, (*inner, *rest))

    def index_of(self, node: Node, index: tuple[Expr, ...], size: int) -> Expr:
        """An index tensor's element as an index expression."""
        value = self.value(node, index)
        if isinstance(value, Position):
            return value.index
        if isinstance(value, Number):
            return Expr(constant=int(value.value))
        return Expr({Loaded(value, size): 1})


def expr(value: Any) -> Expr:
    return value if isinstance(value, Expr) else Expr(constant=value)


def broadcast(index: tuple[Expr, ...], shape: Shape) -> tuple[Expr, ...]:
    """The index of the element that broadcasting pairs with `index`."""
    tail = index[len(index) - len(shape) :]
    return tuple([_ZERO if size == 1 else i for i, size in zip(tail, shape, strict=True)]) if 1 in shape else tail


_ZERO = Expr()


def _pad_guards(index: tuple[Expr, ...], source: Node, low: Any, high: Any, interior: Any) -> tuple[Guard, ...]:
    guards = (
        Guard(i - before, max(0, (size - 1) * (gap + 1) + 1), gap + 1)
        for i, size, before, gap in zip(index, source.shape, low, interior, strict=True)
    )
    return tuple(guard for guard in guards if not guard.always())


def _guard_loads(value: Value, guards: tuple[Guard, ...]) -> Value:
    """The same value, reading memory only where the guards hold."""
    if isinstance(value, Load):
        return Load(value.dtype, value.node, value.index, value.guards + guards)
    if isinstance(value, Compute):
        return Compute(value.dtype, value.op, tuple(_guard_loads(arg, guards) for arg in value.args), value.params)
    if isinstance(value, Guarded):
        return Guarded(value.dtype, _guard_loads(value.value, guards), value.guards)
    return value


def vars_of(index: tuple[Expr, ...]) -> tuple[Var, ...]:
    """The loop variables of an index, in order."""
    return tuple(atom for term in index for atom in term.terms if isinstance(atom, Var))
