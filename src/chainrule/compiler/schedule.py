"""Scheduling: from a graph to kernels.

1. Choose the nodes that get a buffer: results, reductions, products, and what would cost more to compute
   again than to keep. Every other node is part of the expression of whoever reads it.
2. Give each such node a kernel, or let it join one that already loops over the same elements, so that an
   activation follows its product and a whole optimizer update is one loop.
3. Order the kernels; drop the stores that nobody outside their kernel reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chainrule import dtypes
from chainrule.compiler.index import Expr, Guard, Loaded, Var, variables
from chainrule.compiler.kernels import (
    Check,
    Compute,
    Dot,
    Guarded,
    Kernel,
    Load,
    Number,
    Position,
    Reduce,
    Result,
    Store,
    Value,
)  # fmt: skip
from chainrule.graph import CONST, INPUT, LEAF, Graph, Node, Shape, toposort
from chainrule.ops import elementwise as ew
from chainrule.ops import indexing, random, reduction, shaping
from chainrule.ops.shaping import ravel, unravel

# What is cheap enough to compute again in every kernel that reads it, in units of one addition.
RECOMPUTE = 3
# Ops in one kernel's expression; beyond, a value is kept, so that no walk over an expression grows deep.
LARGEST = 200
# Reshapes one behind the other in one index: a quotient and a remainder of the same part double it each time.
DEEPEST = 6


@dataclass
class Schedule:
    """Kernels in order, and the nodes that own a buffer."""

    graph: Graph
    kernels: list[Kernel]
    checks: list[Node] = field(default_factory=list)  # by code: the check_index nodes
    copies: list[tuple[Node, Node]] = field(default_factory=list)

    def buffers(self) -> list[Node]:
        """Every node with a buffer of its own, in order of first use."""
        seen: dict[Node, None] = dict.fromkeys(self.graph.inputs)
        for kernel in self.kernels:
            seen.update(dict.fromkeys([*kernel.reads(), *(store.node for store in kernel.stores)]))
        return list(seen)


def schedule(graph: Graph, watched: bool = False) -> Schedule:
    """The kernels of a simplified graph; `watched` ones store every value that gets a buffer, read or not."""
    nodes = toposort(graph.outputs)
    kept = choose(graph, nodes)
    builder = _Scheduler(graph, kept)
    for node in nodes:
        if node.op is indexing.check_index:
            builder.check(node)
        if node in kept and node.op not in (INPUT, LEAF):
            builder.add(node)
    return Schedule(graph, builder.ordered(watched), builder.checks)


# -- which nodes are kept ---------------------------------------------------------------------


def choose(graph: Graph, nodes: list[Node]) -> set[Node]:
    """The nodes that get a buffer."""
    readers: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for source in node.inputs:
            readers[source].append(node)
    kept = {node for node in nodes if node.op.kind in ("reduction", "contraction", "put", "join")}
    kept.update(node for node in nodes if node.op in (INPUT, LEAF))
    kept.update(graph.outputs)
    weight: dict[Node, int] = {}  # the work of computing a node again from kept ones
    size: dict[Node, int] = {}
    reshapes: dict[Node, int] = {}  # between the node and what is kept: each may nest a quotient in the index
    for node in nodes:
        weight[node] = _own_cost(node) + sum(0 if s in kept else weight[s] for s in node.inputs)
        size[node] = 1 + sum(0 if s in kept else size[s] for s in node.inputs)
        deepest = max((0 if s in kept else reshapes[s] for s in node.inputs), default=0)
        reshapes[node] = deepest + (node.op is shaping.reshape)
        if node in kept:
            continue
        follows = _follows(node, readers)
        too_large = size[node] > LARGEST or reshapes[node] > DEEPEST
        if follows or too_large or _costs_to_repeat(node, readers[node], weight[node]):
            kept.add(node)
    _keep_factors(nodes, kept)
    return kept


def _follows(node: Node, readers: dict[Node, list[Node]]) -> bool:
    """Is it the only reader of a product or sum of its own shape? Then it is free to compute right there."""
    return (
        node.op.kind == "elementwise"
        and len(readers[node]) > 1
        and any(
            source.op.kind in ("contraction", "reduction") and source.shape == node.shape and len(readers[source]) == 1
            for source in node.inputs
        )
    )


def _own_cost(node: Node) -> int:
    if node.op in (CONST, INPUT, LEAF, random.iota) or node.op.kind == "view" or node.op is ew.cast:
        return 0
    return node.op.cost


def _costs_to_repeat(node: Node, readers: list[Node], weight: int) -> bool:
    """Would computing it where it is read do much more work than computing it once?"""
    if weight == 0:
        return False
    repeats = sum(_repeats(node, reader) for reader in readers)
    return repeats > 1 and weight > (RECOMPUTE if repeats < 4 else 1)


def _repeats(node: Node, reader: Node) -> int:
    """How many times `reader` would compute each element of `node`."""
    elements = max(1, math.prod(node.shape))
    if reader.op.kind in ("elementwise", "view") and reader.op is not shaping.slice:
        return max(1, math.prod(reader.shape) // elements)
    return 1


def _keep_factors(nodes: list[Node], kept: set[Node]) -> None:
    """Factors of products must be strided views of something kept: keep what is viewed, or else the view."""
    for node in nodes:
        if node.op.kind == "contraction":
            for factor in node.inputs:
                viewed = factor
                while viewed not in kept and viewed.op.kind == "view" and viewed.op is not shaping.pad:
                    viewed = viewed.inputs[0]
                kept.add(viewed if _strided(factor, kept | {viewed}) else factor)


def _strided(node: Node, kept: set[Node]) -> bool:
    """Is the node an affine view of a kept one?"""
    source = node
    while source not in kept:
        if source.op.kind != "view" or source.op is shaping.pad:
            return False
        source = source.inputs[0]
    value = Expression(kept).value(node, variables(node.shape))
    return isinstance(value, Load) and value.index.affine and not value.guards


# -- expressions ------------------------------------------------------------------------------


class Expression:
    """Builds the value of a node at an index, down to loads of kept nodes."""

    def __init__(self, kept: set[Node], results: dict[Node, Value] | None = None) -> None:
        self.kept = kept
        self.results = results or {}  # kept nodes this kernel computes itself, and their values
        self.memo: dict[tuple[Node, tuple[Expr, ...]], Value] = {}
        self.checks: set[Node] = set()  # the check_index nodes its indices went through

    def value(self, node: Node, index: tuple[Expr, ...]) -> Value:
        key = (node, index)
        if key not in self.memo:
            self.memo[key] = self._load(node, index) if node in self.kept else self.compute(node, index)
        return self.memo[key]

    def _load(self, node: Node, index: tuple[Expr, ...]) -> Value:
        if node in self.results:
            return self.results[node]
        return Load(node.dtype, node, _expr(ravel(index, node.shape)))

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
        args = tuple(self.value(source, _broadcast(index, source.shape)) for source in node.inputs)
        return Compute(node.dtype, op, args, node.params)

    def _bits(self, node: Node, index: tuple[Expr, ...]) -> Value:
        (state,) = node.inputs
        words = tuple(self.value(state, (Expr(constant=i),)) for i in range(2))
        position = Position(dtypes.int32, _expr(ravel(index, node.shape)))
        return Compute(node.dtype, node.op, (*words, position), node.params)

    def _view(self, node: Node, index: tuple[Expr, ...]) -> Value:
        (source,) = node.inputs
        inner = tuple(map(_expr, node.op.lower(index, source, **node.params)))
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
        inner = tuple(self.index_of(i, _broadcast(at, i.shape), source.shape[a]) for a, i in enumerate(indices))
        return self.value(source, (*inner, *rest))

    def index_of(self, node: Node, index: tuple[Expr, ...], size: int) -> Expr:
        """An index tensor's element as an index expression."""
        value = self.value(node, index)
        if isinstance(value, Position):
            return value.index
        if isinstance(value, Number):
            return Expr(constant=int(value.value))
        return Expr({Loaded(value, size): 1})


def _expr(value: Any) -> Expr:
    return value if isinstance(value, Expr) else Expr(constant=value)


def _broadcast(index: tuple[Expr, ...], shape: Shape) -> tuple[Expr, ...]:
    """The index of the element that broadcasting pairs with `index`."""
    tail = index[len(index) - len(shape) :]
    return tuple(Expr() if size == 1 else i for i, size in zip(tail, shape, strict=True))


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


# -- kernels ------------------------------------------------------------------------------------


class _Scheduler:
    """The kernels made so far, and who depends on whom."""

    def __init__(self, graph: Graph, kept: set[Node]) -> None:
        self.graph, self.kept = graph, kept
        self.kernels: list[Kernel] = []
        self.expressions: list[Expression | None] = []
        self.home: dict[Node, int] = {}  # the kernel that completes a kept node
        self.before: list[int] = []  # for each kernel, the set of kernels it needs, as bits
        self.checks: list[Node] = []
        self.checked: dict[Node, int] = {}

    # -- adding ---------------------------------------------------------------------------
    def add(self, node: Node) -> None:
        kind = node.op.kind
        if kind == "reduction":
            self._reduce(node)
        elif kind == "contraction":
            self._dot(node)
        elif kind == "join":
            self._cat(node)
        elif kind == "put":
            self._put(node)
        elif not self._join(node):
            self._loop(node)

    def _new(self, kernel: Kernel, completes: Node | None, source: Expression, joinable: bool = False) -> None:
        number = len(self.kernels)
        self.kernels.append(kernel)
        self.expressions.append(source if joinable else None)
        self.before.append(self._needs(kernel.reads()) | self._needed_checks(source))
        if completes is not None:
            self.home[completes] = number
            kernel.layer = completes.layer

    def _needs(self, reads: Iterable[Node]) -> int:
        bits = 0
        for node in reads:
            if node in self.home:
                bits |= self.before[self.home[node]] | 1 << self.home[node]
        return bits

    def _needed_checks(self, expression: Expression) -> int:
        bits = 0
        for node in expression.checks:
            bits |= self.before[self.checked[node]] | 1 << self.checked[node]
        return bits

    def check(self, node: Node) -> None:
        """A kernel that stops the program at an index outside its axis."""
        code = len(self.checks)
        self.checks.append(node)
        loops = variables(node.shape)
        expression = Expression(self.kept)
        value = expression.value(node.inputs[0], loops)
        kernel = Kernel(_vars(loops), [], Check(value, node.params["size"], code + 1), layer=node.layer)
        self._new(kernel, None, expression)
        self.checked[node] = len(self.kernels) - 1

    def _loop(self, node: Node) -> None:
        index = variables(node.shape)
        expression = Expression(self.kept)
        value = expression.compute(node, index)
        store = Store(node, _expr(ravel(index, node.shape)), value)
        expression.results[node] = value
        self._new(Kernel(_vars(index), [store]), node, expression, joinable=True)

    def _reduce(self, node: Node) -> None:
        (source,), dims = node.inputs, node.params["dims"]
        outer = variables(node.shape)
        inner = variables(tuple(source.shape[axis] for axis in dims), len(outer))
        index, kept_axes, folded = [], iter(outer), iter(inner)
        for axis in range(len(source.shape)):
            index.append(next(folded) if axis in dims else next(kept_axes))
        expression = Expression(self.kept)
        core = Reduce(node.op, _vars(inner), expression.value(source, tuple(index)), node.dtype)
        self._with_core(node, outer, core, expression.checks)

    def _dot(self, node: Node) -> None:
        left, right = node.inputs
        index = variables(node.shape)
        k = variables((left.shape[-1],), len(index))
        a = Expression(self.kept).value(left, (*_broadcast(index[:-1], left.shape[:-1]), *k))
        at = (*_broadcast(index[:-2], right.shape[:-2]), *k, index[-1])
        b = Expression(self.kept).value(right, at)
        if not isinstance(a, Load) or not isinstance(b, Load):
            raise TypeError(f"the factors of {node!r} must be strided loads; this is a bug in chainrule")
        axis = Var(len(index), left.shape[-1])
        if node.dtype.is_floating_point:
            row, column = (next(iter(_vars((i,))), None) for i in index[-2:])
            self._with_core(node, index, Dot(row, column, axis, a, b), set())
        else:
            product = Compute(node.dtype, ew.mul, (a, b), {})
            self._with_core(node, index, Reduce(reduction.sum, _vars(k), product, node.dtype), set())

    def _with_core(self, node: Node, index: tuple[Expr, ...], core: Reduce | Dot, checks: set[Node]) -> None:
        result = Result(node.dtype)
        store = Store(node, _expr(ravel(index, node.shape)), result)
        expression = Expression(self.kept, {node: result})
        expression.checks = checks
        self._new(Kernel(_vars(index), [store], core), node, expression, joinable=True)

    def _cat(self, node: Node) -> None:
        """One kernel for each part, each writing its own range of the buffer."""
        dim, start = node.params["dim"], 0
        for part in node.inputs:
            index = variables(part.shape)
            expression = Expression(self.kept)
            value = expression.value(part, index)
            at = tuple(i + start if axis == dim else i for axis, i in enumerate(index))
            self._more(node, Kernel(_vars(index), [Store(node, _expr(ravel(at, node.shape)), value)]), expression)
            start += part.shape[dim]

    def _put(self, node: Node) -> None:
        """The base is copied, then the source is written position by position."""
        base, source, *indices = node.inputs
        index = variables(node.shape)
        expression = Expression(self.kept)
        value = expression.value(base, index)
        self._more(node, Kernel(_vars(index), [Store(node, _expr(ravel(index, node.shape)), value)]), expression)
        index = variables(source.shape)
        expression = Expression(self.kept)
        value = expression.value(source, index)
        shape = ew.broadcast_shapes("index", *(i.shape for i in indices))
        at, rest = index[: len(shape)], index[len(shape) :]
        inner = tuple(expression.index_of(i, _broadcast(at, i.shape), node.shape[a]) for a, i in enumerate(indices))
        store = Store(node, _expr(ravel((*inner, *rest), node.shape)), value, combine=node.op)
        self._more(node, Kernel(_vars(index), [store], first=(node,)), expression)

    def _more(self, node: Node, kernel: Kernel, expression: Expression) -> None:
        """One of several kernels that fill `node`'s buffer: it comes after those before it."""
        if node in self.home:
            kernel.first = (node,)
        self._new(kernel, node, expression)

    # -- joining --------------------------------------------------------------------------------
    def _join(self, node: Node) -> bool:
        """Compute `node` in a kernel that already computes, element for element, something it reads."""
        expression = Expression(self.kept)
        probe = expression.compute(node, variables(node.shape))
        loads = Kernel((), [Store(node, Expr(), probe)]).loads()
        homes = {self.home[load.node] for load in loads if load.node in self.home}
        needed = self._needed_checks(expression)
        self._gather_siblings(node, sorted(homes), loads)
        homes = {self.home[load.node] for load in loads if load.node in self.home}
        for number in sorted(homes, key=lambda n: (self.kernels[n].core is None, -n)):
            if not needed >> number & 1 and self._fits(node, number, loads):
                self._merge(node, number)
                return True
        return False

    def _gather_siblings(self, node: Node, homes: list[int], loads: list[Load]) -> None:
        """One loop for several that `node` reads element for element, as it reads both new moments."""
        own = _expr(ravel(variables(node.shape), node.shape))
        matching = [
            n for n in homes
            if self.expressions[n] is not None
            and tuple(var.size for var in self.kernels[n].loops) == tuple(size for size in node.shape if size != 1)
            and all(load.index == own for load in loads if self.home.get(load.node) == n)
        ]  # fmt: skip
        for number in matching[1:]:
            first = matching[0]
            if self.kernels[number].core is not None and self.kernels[first].core is None:
                first, number, matching[0] = number, first, number
            if self.kernels[number].core is None and self._independent(first, number):
                self._absorb(first, number)

    def _independent(self, a: int, b: int) -> bool:
        """Does neither kernel need the other?"""
        return not (self.before[a] >> b & 1 or self.before[b] >> a & 1)

    def _absorb(self, number: int, other: int) -> None:
        """Kernel `other` becomes part of kernel `number`, which has the same loops."""
        kernel, expression = self.kernels[number], self.expressions[number]
        absorbed, source = self.kernels[other], self.expressions[other]
        if expression is None or source is None:
            raise TypeError("only kernels with expressions can be joined; this is a bug in chainrule")
        for store in absorbed.stores:
            self.home[store.node] = number
            expression.results[store.node] = source.results[store.node]
        kernel.stores += absorbed.stores
        absorbed.stores = []
        self.before[number] |= self.before[other]
        for n, bits in enumerate(self.before):
            if bits >> other & 1:
                self.before[n] |= 1 << number
            if self.before[n] >> number & 1:
                self.before[n] |= self.before[number]

    def _fits(self, node: Node, number: int, loads: list[Load]) -> bool:
        kernel = self.kernels[number]
        sizes = tuple(var.size for var in kernel.loops)
        expression = self.expressions[number]
        if expression is None or math.prod(sizes) != math.prod(node.shape):
            return False
        if len(expression.memo) > 2 * LARGEST:  # LLVM's time grows faster than a function does
            return False
        if tuple(s for s in node.shape if s != 1) != sizes and not _plain(kernel, sizes, node.shape):
            return False
        own = _expr(ravel(variables(node.shape), node.shape))
        mine = {store.node for store in kernel.stores}
        for load in loads:
            if load.node in mine:
                if load.index != own or load.guards:
                    return False
            elif load.node in self.home:
                home = self.home[load.node]
                if home == number or self.before[home] >> number & 1:
                    return False  # it comes out of this kernel, directly or not: too late to be read in it
        return True

    def _merge(self, node: Node, number: int) -> None:
        kernel, expression = self.kernels[number], self.expressions[number]
        if expression is None:
            raise TypeError("a kernel without an expression takes no further nodes; this is a bug in chainrule")
        linear = _expr(ravel([Expr({var: 1}) for var in kernel.loops], tuple(var.size for var in kernel.loops)))
        index = tuple(map(_expr, unravel(linear, node.shape)))
        value = expression.compute(node, index)
        expression.results[node] = value
        kernel.stores.append(Store(node, linear, value))
        self.home[node] = number
        kernel.layer = kernel.layer or node.layer
        needs = self._needs(read for read in kernel.reads() if self.home.get(read) != number)
        needs |= self._needed_checks(expression)
        self.before[number] |= needs
        for other, bits in enumerate(self.before):
            if bits >> number & 1:
                self.before[other] |= self.before[number]

    # -- order ------------------------------------------------------------------------------------
    def ordered(self, watched: bool = False) -> list[Kernel]:
        """The kernels, each after what it needs; stores only where someone else reads them."""
        outside: set[Node] = set(self.graph.outputs)
        for number, kernel in enumerate(self.kernels):
            outside.update(node for node in kernel.reads() if self.home.get(node) != number or node in kernel.first)
        for kernel in self.kernels:
            kernel.stores = [store for store in kernel.stores if watched or store.node in outside]
        result = [self.kernels[number] for number in in_order(self.before)]
        result = [kernel for kernel in result if kernel.stores or isinstance(kernel.core, Check)]
        for number, kernel in enumerate(result):
            kernel.number = number
        return result


def in_order(before: list[int]) -> list[int]:
    """Each number after those in its set of predecessors, otherwise ascending."""
    order: list[int] = []
    done = 0
    waiting = list(range(len(before)))
    while waiting:
        rest = []
        for number in waiting:
            if before[number] & ~done:
                rest.append(number)
            else:
                order.append(number)
                done |= 1 << number
        if len(rest) == len(waiting):
            raise ValueError("the kernels wait for each other; this is a bug in chainrule")
        waiting = rest
    return order


def _plain(kernel: Kernel, sizes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """May a node of another shape, with as many elements, be computed in this loop nest?

    Yes if the index arithmetic stays simple: one shape refines the other.
    """
    return kernel.core is not None and _refines(tuple(s for s in shape if s != 1), sizes)


def _refines(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[-1:] == b[-1:]


def _vars(index: tuple[Expr, ...]) -> tuple[Var, ...]:
    """The loop variables of an index, in order."""
    return tuple(atom for expr in index for atom in expr.terms if isinstance(atom, Var))
