"""Lowering: each kernel becomes one function of LLVM IR.

The innermost loop runs over vectors, its remainder as one masked vector, so no size is slow because it is
odd, and the lanes of a sum (hence its bits) are set here and not by an optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from chainrule import dtypes
from chainrule.compiler import contraction, scalars
from chainrule.compiler.contraction import Target
from chainrule.compiler.emit import Emitter, lanes_of, vector
from chainrule.compiler.emit import Value as Register
from chainrule.compiler.index import Expr, Guard, Loaded, Quotient, Var
from chainrule.compiler.kernels import (
    Check, Compute, Dot, Guarded, Kernel, Load, Number, Position, Reduce, Result, Store, Value,
)  # fmt: skip
from chainrule.compiler.scalars import MEMORY, REGISTER, Scalars
from chainrule.compiler.transpose import lane_mask
from chainrule.dtypes import DType
from chainrule.graph import Node
from chainrule.ops import random, reduction

WIDE = 4  # vectors in flight in a sum: hides the latency of an addition


@dataclass
class Lowered:
    """A kernel as a function: its text, and what it needs."""

    text: str
    declarations: set[str]
    scratch: int  # bytes


def lower(kernel: Kernel, name: str, parameters: dict[Node, str], target: Target) -> Lowered:
    """The function of one kernel; `parameters` names the pointer to each buffer it touches."""
    writer = _Writer(kernel, parameters, target)
    writer.write()
    e = writer.e
    pointers = [Register(f"%{p}", "ptr") for p in dict.fromkeys(parameters.values())]
    if writer.scratch:
        pointers.append(Register("%scratch", "ptr"))
    result = "i64" if isinstance(kernel.core, Check) else "void"
    text = e.function(name, pointers, result=result, attributes="#0")
    return Lowered(text, e.declarations, writer.scratch)


class _Writer:
    """Writes the loops of a kernel around the values of its body."""

    def __init__(self, kernel: Kernel, parameters: dict[Node, str], target: Target) -> None:
        self.kernel, self.parameters, self.target = kernel, parameters, target
        self.e = Emitter()
        self.scratch = 0

    def write(self) -> None:
        core = self.kernel.core
        if math.prod(var.size for var in self.kernel.loops) == 0:
            self.e.ret(self.e.const(0, "i64") if isinstance(core, Check) else None)
            return
        if isinstance(core, Check):
            self._check(core)
            return
        if isinstance(core, Dot):
            self._dot(core)
        elif isinstance(core, Reduce):
            self._reduce(core)
        else:
            self._elementwise()
        self.e.ret()

    def body(self, indices: dict[Var, Register], lanes: int = 1, along: Var | None = None, mask: Register | None = None) -> Body:
        return Body(self.e, self.parameters, indices, lanes, along, mask)

    # -- loops --------------------------------------------------------------------------------
    def _nest(self, loops: Sequence[Var], indices: dict[Var, Register], stack: ExitStack) -> None:
        for var in loops:
            indices[var] = stack.enter_context(self.e.loop(var.size))

    def _vectors(self, along: Var, lanes: int, indices: dict[Var, Register], body: Callable[[Body], None]) -> None:
        """body over all of `along`: whole vectors, then what is left under a mask."""
        e = self.e
        whole, left = divmod(along.size, lanes)
        if whole:
            with e.loop(whole * lanes, lanes) as index:
                body(self.body({**indices, along: index}, lanes, along))
        if left:
            wide = 1 << (left - 1).bit_length()
            at = {**indices, along: e.const(whole * lanes, "i64")}
            body(self.body(at, wide, along, lane_mask(left, wide)))

    def _lanes(self, var: Var, wide: int = 1) -> int:
        """Lanes for a loop: whole registers of the widest element in it, a few of them if it is long."""
        size = max((value.dtype.itemsize for value in self._values()), default=4)
        lanes = self.target.vector_bytes // max(4, size)
        while wide > 1 and var.size < lanes * wide:
            wide //= 2
        return min(lanes * wide, 1 << (var.size - 1).bit_length())

    def _values(self) -> list[Value]:
        from chainrule.compiler.kernels import walk

        return [value for value in walk(self.kernel.roots()) if not isinstance(value, (Number, Position))]

    def _elementwise(self) -> None:
        loops = self.kernel.loops
        along = loops[-1] if loops and self._vectorises(loops[-1]) else None
        indices: dict[Var, Register] = {}
        with ExitStack() as stack:
            self._nest([var for var in loops if var != along], indices, stack)
            if along is None:
                self._store(self.body(indices))
            else:
                self._vectors(along, self._lanes(along), indices, self._store)

    def _vectorises(self, var: Var) -> bool:
        """Do neighbouring iterations write neighbouring elements (and never the same one)?"""
        return all(store.index.coefficient(var) == 1 for store in self.kernel.stores)

    def _store(self, body: Body) -> None:
        for store in self.kernel.stores:
            body.store(store)

    # -- reductions -----------------------------------------------------------------------------
    def _reduce(self, core: Reduce) -> None:
        outer, inner = self.kernel.loops, core.dims
        along = self._best(core, outer, inner)
        if core.op in (reduction.argmax, reduction.argmin):
            self._down(core, along if along in outer else (outer[-1] if outer else None), _ArgFold(core))
        elif along is None or along in outer:
            self._down(core, along, _PlainFold(core))
        else:
            self._across(core, along, _PlainFold(core))

    def _best(self, core: Reduce, outer: tuple[Var, ...], inner: tuple[Var, ...]) -> Var | None:
        """The loop to vectorise: the one along which most loads are contiguous."""
        loads = Kernel((), [], core).loads()

        def score(var: Var) -> tuple[int, int, int]:
            contiguous = sum(load.index.coefficient(var) == 1 for load in loads)
            return contiguous, int(var in inner), var.size

        eligible = [var for var in (*inner, *(v for v in outer if self._vectorises(v))) if var.size > 1]
        return max(eligible, key=score, default=None)

    def _down(self, core: Reduce, along: Var | None, fold: _Fold) -> None:
        """Lanes are separate sums: neighbours along a kept axis."""
        indices: dict[Var, Register] = {}
        with ExitStack() as stack:
            self._nest([var for var in self.kernel.loops if var != along], indices, stack)

            def column(body: Body) -> None:
                self._store_result(body, self._folded(core.dims, body, fold))

            if along is None:
                column(self.body(indices))
            elif self._vectorises(along):
                self._vectors(along, self._lanes(along, 1 if isinstance(fold, _ArgFold) else WIDE), indices, column)
            else:
                with self.e.loop(along.size) as index:
                    column(self.body({**indices, along: index}))

    def _folded(self, dims: Sequence[Var], body: Body, fold: _Fold) -> list[Register]:
        """The folds over `dims`, nested, around one vector of columns."""
        return self._fold_nest(list(dims), dict(body.indices), fold.start(self.e, body.lanes), body, fold)

    def _fold_nest(
        self, dims: list[Var], indices: dict[Var, Register], values: list[Register], body: Body, fold: _Fold
    ) -> list[Register]:
        if not dims:
            inside = Body(self.e, self.parameters, indices, body.lanes, body.along, body.mask)
            return fold.step(inside, values)
        with self.e.fold(dims[0].size, values) as state:
            at = {**indices, dims[0]: state.index}
            state.values = self._fold_nest(dims[1:], at, list(state.values), body, fold)
        return state.values

    def _across(self, core: Reduce, along: Var, fold: _PlainFold) -> None:
        """Lanes are parts of one sum: whole vectors, the masked remainder, then the lanes in a fixed tree."""
        lanes = self._lanes(along, WIDE)
        whole, left = divmod(along.size, lanes)
        others = [var for var in core.dims if var != along]
        indices: dict[Var, Register] = {}
        e = self.e
        with ExitStack() as stack:
            self._nest(self.kernel.loops, indices, stack)
            parts = []
            if whole:
                parts.append(self._sum_of(others, indices, fold, lanes, along, whole * lanes, None))
            if left:
                wide = 1 << (left - 1).bit_length()
                at = {**indices, along: e.const(whole * lanes, "i64")}
                parts.append(self._sum_of(others, at, fold, wide, along, 0, lane_mask(left, wide)))
            total = parts[0]
            for part in parts[1:]:
                total = fold.combine(e, 1, total, part)
            self._store_result(self.body(indices), [total])

    def _sum_of(
        self, others: list[Var], indices: dict[Var, Register], fold: _PlainFold, lanes: int, along: Var,
        count: int, mask: Register | None,
    ) -> Register:  # fmt: skip
        """One vector of partial sums over the other folded axes and `count` elements of `along`, folded to a lane."""
        e = self.e

        def inside(at: dict[Var, Register], values: list[Register]) -> list[Register]:
            if not count:
                return fold.step(self.body(at, lanes, along, mask), values)
            with e.fold(count, values, lanes) as state:
                state.values = fold.step(self.body({**at, along: state.index}, lanes, along), list(state.values))
            return state.values

        def nest(dims: list[Var], at: dict[Var, Register], values: list[Register]) -> list[Register]:
            if not dims:
                return inside(at, values)
            with e.fold(dims[0].size, values) as state:
                state.values = nest(dims[1:], {**at, dims[0]: state.index}, list(state.values))
            return state.values

        return fold.horizontal(e, nest(others, indices, fold.start(e, lanes))[0])

    def _store_result(self, body: Body, values: list[Register]) -> None:
        body.result = values[-1]
        self._store(body)

    # -- checks -----------------------------------------------------------------------------------
    def _check(self, core: Check) -> None:
        e = self.e
        fold = _CheckFold(core)
        stop, go_on = e.fresh("stop"), e.fresh("fine")
        bad = self._fold_nest(list(self.kernel.loops), {}, fold.start(e, 1), self.body({}), fold)[0]
        e.branch(bad, stop, go_on)
        e.label(stop)
        e.ret(e.const(core.code, "i64"))
        e.label(go_on)
        e.ret(e.const(0, "i64"))

    # -- products -----------------------------------------------------------------------------------
    def _dot(self, core: Dot) -> None:
        """The tiled product, with the kernel's stores as its epilogue."""
        result = core.a.dtype
        m, n = core.m, core.n
        batch = _batch(self.kernel, core)
        spec = contraction_of(self.kernel)
        elements = contraction.scratch_elements(spec, self.target)
        self.scratch = elements * result.itemsize
        base = self.body({})
        left, right = (self._operand(base, load) for load in (core.a, core.b))

        def epilogue(e: Emitter, row: Register, column: Register, sums: Register, mask: Register | None, at: tuple[Register, ...]) -> None:
            indices = dict(zip(batch, at, strict=True))
            if m:
                indices[m] = row
            if n:
                indices[n] = column
            body = Body(e, self.parameters, indices, lanes_of(sums.type), n, mask)
            body.result = sums
            self._store(body)

        scratch = Register("%scratch", "ptr") if elements else None
        contraction.emit_contraction(self.e, spec, left, right, epilogue, self.target, scratch)

    def _operand(self, body: Body, load: Load) -> Register:
        pointer = body.pointer(load.node)
        constant = load.index.constant
        return self.e.address(pointer, self.e.const(constant, "i64"), MEMORY[load.dtype]) if constant else pointer


def contraction_of(kernel: Kernel) -> contraction.Contraction | None:
    """The product at the core of a kernel, as the tiled code generator takes it."""
    core = kernel.core
    if not isinstance(core, Dot):
        return None
    m, n, a, b = core.m, core.n, core.a.index, core.b.index
    return contraction.Contraction(
        m.size if m else 1, n.size if n else 1, core.k.size, REGISTER[core.a.dtype],
        (_stride(a, m), _stride(a, core.k)), (_stride(b, core.k), _stride(b, n)),
        tuple((var.size, _stride(a, var), _stride(b, var)) for var in _batch(kernel, core)),
    )  # fmt: skip


def _batch(kernel: Kernel, core: Dot) -> list[Var]:
    return [var for var in kernel.loops if var not in (core.m, core.n)]


def _stride(index: Expr, var: Var | None) -> int:
    return (index.coefficient(var) or 0) if var is not None else 0


# -- folds ------------------------------------------------------------------------------------------


class _Fold:
    """What a loop carries, and how it moves on."""

    def start(self, e: Emitter, lanes: int) -> list[Register]:
        raise NotImplementedError

    def step(self, body: Body, values: list[Register]) -> list[Register]:
        raise NotImplementedError


class _PlainFold(_Fold):
    """sum, amax, amin: one value, combined as the op declares."""

    def __init__(self, core: Reduce) -> None:
        self.core = core
        self.dtype = core.dtype
        self.begin, self.fold = core.op.lower

    def start(self, e: Emitter, lanes: int) -> list[Register]:
        return [self.begin(Scalars(e, self.dtype, lanes))]

    def step(self, body: Body, values: list[Register]) -> list[Register]:
        value = body.spread(body.value(self.core.value))
        value = scalars.cast(body.e, value, self.core.value.dtype, self.dtype)
        if body.mask is not None:
            neutral = self.start(body.e, body.lanes)[0]
            value = body.e.select(body.mask, value, neutral)
        return [self.combine(body.e, body.lanes, values[0], value)]

    def combine(self, e: Emitter, lanes: int, a: Register, b: Register) -> Register:
        result: Register = self.fold(Scalars(e, self.dtype, lanes), a, b)
        return result

    def horizontal(self, e: Emitter, value: Register) -> Register:
        """All lanes as one, halving each time: a fixed order on every CPU."""
        lanes = lanes_of(value.type)
        scalar = REGISTER[self.dtype]
        while lanes > 1:
            lanes //= 2
            halves = []
            for first in (0, lanes):
                picks = ", ".join(f"i32 {first + i}" for i in range(lanes))
                text = f"shufflevector {value.typed}, {value.type} poison, <{lanes} x i32> <{picks}>"
                half = e.assign(f"<{lanes} x {scalar}>", text)
                if lanes == 1:
                    half = e.assign(scalar, f"extractelement {half.typed}, i64 0")
                halves.append(half)
            value = self.combine(e, lanes, *halves)
        return value


class _ArgFold(_Fold):
    """argmax, argmin: the best value so far, and where it stood first."""

    def __init__(self, core: Reduce) -> None:
        self.core = core
        self.dtype = core.value.dtype

    def start(self, e: Emitter, lanes: int) -> list[Register]:
        kind = Scalars(e, self.dtype, lanes)
        worst = kind.lowest() if self.core.op is reduction.argmax else kind.highest()
        return [worst, e.const(-1, vector("i64", lanes))]

    def step(self, body: Body, values: list[Register]) -> list[Register]:
        e, (best, where) = body.e, values
        value = body.spread(body.value(self.core.value))
        position = body.spread(body.index(_position(self.core.dims)))
        better = Scalars(e, self.dtype, body.lanes).compare(self.core.op.lower, value, best)
        first = e.compare("slt", where, e.const(0, where.type))
        better = e.binary("or", better, first)
        if self.dtype.is_floating_point:  # the first NaN is the extremum
            is_nan, was_nan = e.compare("uno", value, value), e.compare("uno", best, best)
            new_nan = e.binary("and", is_nan, e.binary("xor", was_nan, e.const(1, was_nan.type)))
            better = e.binary("or", better, new_nan)
        return [e.select(better, value, best), e.select(better, position, where)]


def _position(dims: tuple[Var, ...]) -> Expr:
    position = Expr()
    for var in dims:
        position = position * var.size + Expr({var: 1})
    return position


class _CheckFold(_Fold):
    """Has any index been outside its axis?"""

    def __init__(self, core: Check) -> None:
        self.core = core

    def start(self, e: Emitter, lanes: int) -> list[Register]:
        return [e.const(False, "i1")]

    def step(self, body: Body, values: list[Register]) -> list[Register]:
        e, dtype = body.e, self.core.value.dtype
        wide = scalars.cast(e, body.value(self.core.value), dtype, dtypes.int64)
        shifted = e.binary("add", wide, e.const(self.core.size, "i64"))
        bad = e.compare("uge", shifted, e.const(2 * self.core.size, "i64"))
        return [e.binary("or", values[0], bad)]


# -- values -----------------------------------------------------------------------------------------


class Body:
    """One iteration (or `lanes` neighbouring ones along one loop): computes values, each once."""

    def __init__(
        self, e: Emitter, parameters: dict[Node, str], indices: dict[Var, Register], lanes: int = 1,
        along: Var | None = None, mask: Register | None = None,
    ) -> None:  # fmt: skip
        self.e, self.parameters, self.indices = e, parameters, indices
        self.lanes, self.along, self.mask = lanes, along, mask
        self.result: Register | None = None
        self.done: dict[int, Register] = {}
        self.known: dict[Expr, Register] = {}

    def pointer(self, node: Node) -> Register:
        return Register(f"%{self.parameters[node]}", "ptr")

    def spread(self, value: Register) -> Register:
        """A value that is the same in every lane, in every lane."""
        return self.e.splat(value, self.lanes) if lanes_of(value.type) < self.lanes else value

    def varies(self, value: Value | Expr | Guard) -> bool:
        """Does it differ from lane to lane?"""
        if self.lanes == 1:
            return False
        if isinstance(value, Guard):
            value = value.expr
        return self.along in value.vars()

    # -- indices --------------------------------------------------------------------------------
    def index(self, expr: Expr, lanes: bool = True) -> Register:
        """The expression as i64: of the first lane, or in every lane if it varies."""
        vary = lanes and self.varies(expr)
        if not vary and expr in self.known:
            return self.known[expr]
        type = vector("i64", self.lanes if vary else 1)
        total: Register | None = None
        for atom, factor in expr.terms.items():
            term = self._atom(atom, vary)
            if factor != 1:
                term = self.e.binary("mul nsw", term, self.e.const(factor, type))
            total = term if total is None else self.e.binary("add nsw", total, term)
        if total is None:
            total = self.e.const(expr.constant, type)
        elif expr.constant:
            total = self.e.binary("add nsw", total, self.e.const(expr.constant, type))
        if not vary:
            self.known[expr] = total
        return total

    def _atom(self, atom: object, vary: bool) -> Register:
        e = self.e
        type = vector("i64", self.lanes if vary else 1)
        if isinstance(atom, Var):
            base = self.indices[atom]
            if not vary:
                return base
            spread = e.splat(base, self.lanes)
            if atom != self.along:
                return spread
            steps = ", ".join(f"i64 {lane}" for lane in range(self.lanes))
            return e.binary("add nsw", spread, Register(f"<{steps}>", type))
        if isinstance(atom, Loaded):
            value = scalars.cast(e, self.value(atom.value), atom.value.dtype, dtypes.int64)
            if not vary and lanes_of(value.type) > 1:
                return e.assign("i64", f"extractelement {value.typed}, i64 0")
            return self.spread(value) if vary else value
        inner = self.index(atom.expr, vary)  # type: ignore[attr-defined]
        inner = self.spread(inner) if vary else inner
        low, _ = atom.expr.bounds()  # type: ignore[attr-defined]
        sign = "u" if low >= 0 else "s"
        opcode = ("div" if isinstance(atom, Quotient) else "rem")
        return e.binary(sign + opcode, inner, e.const(atom.by, type))  # type: ignore[attr-defined]

    # -- values ---------------------------------------------------------------------------------
    def value(self, value: Value) -> Register:
        if id(value) not in self.done:
            self.done[id(value)] = self._compute(value)
        return self.done[id(value)]

    def _compute(self, value: Value) -> Register:
        if isinstance(value, Number):
            return self.e.const(value.value, REGISTER[value.dtype])
        if isinstance(value, Result):
            if self.result is None:
                raise TypeError("a kernel's result was read before its core ran; this is a bug in chainrule")
            return self.result
        if isinstance(value, Load):
            return self.load(value)
        if isinstance(value, Position):
            return scalars.cast(self.e, self.index(value.index), dtypes.int64, value.dtype)
        if isinstance(value, Guarded):
            inside, kept = self._condition(value.guards), self.value(value.value)
            return self._select(inside, kept, value.dtype)
        if isinstance(value, Compute):
            return self._apply(value)
        raise TypeError(f"no lowering for {value!r}; this is a bug in chainrule")

    def _apply(self, value: Compute) -> Register:
        args = [self.value(arg) for arg in value.args]
        lanes = max((lanes_of(arg.type) for arg in args), default=1)
        if value.op is random.random_bits:
            return scalars.random_bits(self.e, args[0], args[1], args[2], value.params["word"])
        args = [self.e.splat(arg, lanes) if lanes_of(arg.type) < lanes else arg for arg in args]
        builder = Scalars(self.e, value.args[-1].dtype, lanes)
        result: Register = value.op.lower(builder, *args, **value.params)
        return result

    def _condition(self, guards: tuple[Guard, ...]) -> Register:
        """Do all guards hold?"""
        e, result = self.e, None
        for guard in guards:
            at = self.index(guard.expr)
            type = at.type
            holds = e.compare("ult", at, e.const(guard.limit, type))
            if guard.every > 1:
                rest = e.binary("srem", at, e.const(guard.every, type))
                holds = e.binary("and", holds, e.compare("eq", rest, e.const(0, type)))
            if result is None:
                result = holds
            else:
                lanes = max(lanes_of(holds.type), lanes_of(result.type))
                result = e.binary("and", e.splat(result, lanes) if lanes_of(result.type) < lanes else result,
                                  e.splat(holds, lanes) if lanes_of(holds.type) < lanes else holds)  # fmt: skip
        if result is None:
            raise TypeError("a guarded value without guards; this is a bug in chainrule")
        return result

    def _select(self, condition: Register, value: Register, dtype: DType) -> Register:
        lanes = max(lanes_of(condition.type), lanes_of(value.type))
        value = self.e.splat(value, lanes) if lanes_of(value.type) < lanes else value
        condition = self.e.splat(condition, lanes) if lanes_of(condition.type) < lanes else condition
        return self.e.select(condition, value, self.e.const(0, value.type))

    # -- memory ---------------------------------------------------------------------------------
    def load(self, load: Load) -> Register:
        """One element, a vector of neighbours, or a vector gathered from anywhere."""
        guard = self._condition(load.guards) if load.guards else None
        memory = MEMORY[load.dtype]
        if not self.varies(load.index) and (guard is None or lanes_of(guard.type) == 1):
            found = self._load_one(load, memory, guard)
        elif self.along is not None and load.index.coefficient(self.along) == 1:
            address = self.e.address(self.pointer(load.node), self.index(load.index, lanes=False), memory)
            found = self._load_vector(address, memory, load.dtype.itemsize, self._both(guard))
        else:
            offsets = self.spread(self.index(load.index))
            found = self._gather(load, offsets, memory, self._both(guard))
        return self._to_register(found, load.dtype)

    def _load_one(self, load: Load, memory: str, guard: Register | None) -> Register:
        e, at = self.e, self.index(load.index, lanes=False)
        if guard is not None:  # outside, read the first element instead: it is always there
            at = e.select(guard, at, e.const(0, "i64"))
        found = e.load(e.address(self.pointer(load.node), at, memory), memory, load.dtype.itemsize)
        return found if guard is None else e.select(guard, found, e.const(0, memory))

    def _both(self, guard: Register | None) -> Register | None:
        """The lanes that exist and satisfy the guard."""
        if guard is None:
            return self.mask
        guard = self.spread(guard)
        return guard if self.mask is None else self.e.binary("and", guard, self.mask)

    def _load_vector(self, address: Register, memory: str, align: int, mask: Register | None) -> Register:
        type = vector(memory, self.lanes)
        if mask is None:
            return self.e.load(address, type, align)
        return self.e.call(
            f"llvm.masked.load.v{self.lanes}{_mangled(memory)}.p0", type, address,
            Register(str(align), "i32"), mask, Register("zeroinitializer", type),
        )  # fmt: skip

    def _gather(self, load: Load, offsets: Register, memory: str, mask: Register | None) -> Register:
        e = self.e
        pointers = e.assign(
            vector("ptr", self.lanes),
            f"getelementptr inbounds {memory}, ptr {self.pointer(load.node).name}, {offsets.typed}",
        )
        type = vector(memory, self.lanes)
        mask = mask or e.const(True, vector("i1", self.lanes))
        return e.call(
            f"llvm.masked.gather.v{self.lanes}{_mangled(memory)}.v{self.lanes}p0", type, pointers,
            Register(str(load.dtype.itemsize), "i32"), mask, Register("zeroinitializer", type),
        )  # fmt: skip

    def _to_register(self, value: Register, dtype: DType) -> Register:
        if dtype != dtypes.bool_:
            return value
        return self.e.compare("ne", value, self.e.const(0, value.type))

    def store(self, store: Store) -> None:
        """Write one result; scattered ones after reading what stands there."""
        e, dtype = self.e, store.node.dtype
        memory = MEMORY[dtype]
        address = e.address(self.pointer(store.node), self.index(store.index, lanes=False), memory)
        value = self.spread(self.value(store.value))
        if store.combine is not None:
            old = self._to_register(self._read(address, memory, dtype), dtype)
            value = store.combine.lower(Scalars(e, dtype, self.lanes), old, value)
        if dtype == dtypes.bool_:
            value = e.convert("zext", value, vector("i8", self.lanes))
        if self.mask is None:
            e.store(value, address, dtype.itemsize)
            return
        e.call(
            f"llvm.masked.store.v{self.lanes}{_mangled(memory)}.p0", "void", value, address,
            Register(str(dtype.itemsize), "i32"), self.mask,
        )  # fmt: skip

    def _read(self, address: Register, memory: str, dtype: DType) -> Register:
        if self.lanes == 1:
            return self.e.load(address, memory, dtype.itemsize)
        return self._load_vector(address, memory, dtype.itemsize, self.mask)


def _mangled(memory: str) -> str:
    return {"float": "f32", "double": "f64"}.get(memory, memory)


