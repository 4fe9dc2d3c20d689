"""Lowering: each kernel becomes one function of LLVM IR.

The innermost loop runs over vectors, its remainder as one masked vector, so no size is slow because it is
odd, and the lanes of a sum (hence its bits) are set here and not by an optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Optional

from chainrule import dtypes
from chainrule.compiler import contraction, scalars
from chainrule.compiler.body import Body
from chainrule.compiler.contraction import Target
from chainrule.compiler.emit import Emitter, lanes_of, vector
from chainrule.compiler.emit import Value as Register
from chainrule.compiler.index import Expr, Var
from chainrule.compiler.kernels import (
    Check,
    Dot,
    Kernel,
    Load,
    Number,
    Position,
    Reduce,
    Value,
)  # fmt: skip
from chainrule.compiler.scalars import MEMORY, REGISTER, Scalars
from chainrule.compiler.transpose import lane_mask
from chainrule.graph import Node
from chainrule.ops import reduction

FIRST, LAST = Register("%first", "i64"), Register("%last", "i64")
Tiles = Optional[tuple[Register, Register]]
ENOUGH = 4  # strips of columns, from which on threads divide those rather than rows (a packed strip is packed once)
WIDE = 4  # vectors in flight in a sum: hides the latency of an addition


@dataclass
class Lowered:
    """A kernel as a function: its text, and what it needs."""

    text: str
    declarations: set[str]
    scratch: int  # bytes
    units: int  # into how many parts threads may divide it; 1: it runs on one thread


def lower(kernel: Kernel, name: str, parameters: dict[Node, str], target: Target, divide: bool) -> Lowered:
    """The function of one kernel; `parameters` names the pointer to each buffer it touches.

    With `divide` it takes a range of its units of work, ``%first`` to ``%last``, so that threads share it.
    """
    writer = _Writer(kernel, parameters, target, divide)
    writer.write()
    e = writer.e
    pointers = [Register(f"%{p}", "ptr") for p in dict.fromkeys(parameters.values())]
    if writer.scratch:
        pointers.append(Register("%scratch", "ptr"))
    if writer.units > 1:
        pointers += [FIRST, LAST]
    result = "i64" if isinstance(kernel.core, Check) else "void"
    text = e.function(name, pointers, result=result, attributes="#0")
    return Lowered(text, e.declarations, writer.scratch, writer.units)


class _Writer:
    """Writes the loops of a kernel around the values of its body."""

    def __init__(self, kernel: Kernel, parameters: dict[Node, str], target: Target, divide: bool) -> None:
        self.kernel, self.parameters, self.target = kernel, parameters, target
        self.divide = divide
        self.divided: Var | None = None  # the loop whose iterations threads share
        self.units = 1
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

    def body(
        self, indices: dict[Var, Register], lanes: int = 1, along: Var | None = None, mask: Register | None = None
    ) -> Body:
        return Body(self.e, self.parameters, indices, lanes, along, mask)

    # -- loops --------------------------------------------------------------------------------
    def _nest(self, loops: Sequence[Var], indices: dict[Var, Register], stack: ExitStack) -> None:
        if loops and self.divided is None:
            self._share(loops[0], loops[0].size)
        for var in loops:
            indices[var] = stack.enter_context(self._loop(var))

    def _share(self, var: Var, units: int) -> None:
        """Let threads share the iterations of `var`, if the kernel is to be divided and nothing is yet."""
        if self.divide and self.divided is None and units > 1:
            self.divided, self.units = var, units

    @contextmanager
    def _loop(self, var: Var) -> Iterator[Register]:
        """All of a loop, or this thread's part of it."""
        if var is not self.divided:
            with self.e.loop(var.size) as index:
                yield index
            return
        with self.e.loop(self.e.binary("sub", LAST, FIRST)) as step:
            yield self.e.binary("add", FIRST, step)

    def _vectors(self, along: Var, lanes: int, indices: dict[Var, Register], body: Callable[[Body], None]) -> None:
        """body over all of `along`: whole vectors, then what is left under a mask."""
        e = self.e
        whole, left = divmod(along.size, lanes)
        self._share(along, whole + (left > 0))
        mine = along is self.divided
        if whole and mine:
            stop = e.call("llvm.smin.i64", "i64", LAST, e.const(whole, "i64"))
            with e.loop(e.binary("sub", stop, FIRST)) as step:
                index = e.binary("mul", e.binary("add", FIRST, step), e.const(lanes, "i64"))
                body(self.body({**indices, along: index}, lanes, along))
        elif whole:
            with e.loop(whole * lanes, lanes) as index:
                body(self.body({**indices, along: index}, lanes, along))
        if left:
            wide = 1 << (left - 1).bit_length()
            at = {**indices, along: e.const(whole * lanes, "i64")}
            with self._only_if(e.compare("sgt", LAST, e.const(whole, "i64")) if mine else None):
                body(self.body(at, wide, along, lane_mask(left, wide)))

    @contextmanager
    def _only_if(self, condition: Register | None) -> Iterator[None]:
        """What is written inside runs if the condition holds (None: always)."""
        if condition is None:
            yield
            return
        then, other = self.e.fresh("then"), self.e.fresh("other")
        self.e.branch(condition, then, other)
        self.e.label(then)
        yield
        self.e.jump(other)
        self.e.label(other)

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
            if any(store.combine is not None for store in self.kernel.stores):
                self.divide = False  # positions are data: two threads might write the same one
            self._nest([var for var in loops if var != along], indices, stack)
            if along is None:
                self._store(self.body(indices))
            else:
                self._vectors(along, self._lanes(along), indices, self._store)

    def _vectorises(self, var: Var) -> bool:
        """Do neighbouring iterations write neighbouring elements (and never the same one)?"""
        return all(store.index.coefficient(var) == 1 for store in self.kernel.stores)

    def _store(self, body: Body) -> None:
        """All values before any store: a new state may lie where another value's old state is read."""
        for store in self.kernel.stores:
            body.value(store.value)
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
                self._share(along, along.size)
                with self._loop(along) as index:
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
        m, n = core.m, core.n
        batch = _batch(self.kernel, core)
        spec = contraction_of(self.kernel, core)
        self.scratch = scratch_of(self.kernel, self.target)
        base = self.body({})
        left, right = (self._operand(base, load) for load in (core.a, core.b))

        def epilogue(
            e: Emitter, row: Register, column: Register, sums: Register, mask: Register | None, at: tuple[Register, ...]
        ) -> None:
            indices = dict(zip(batch, at, strict=True))
            if m:
                indices[m] = row
            if n:
                indices[n] = column
            body = Body(e, self.parameters, indices, lanes_of(sums.type), n, mask)
            body.result = sums
            self._store(body)

        scratch = Register("%scratch", "ptr") if self.scratch else None
        rows, columns = self._tiles(spec)
        contraction.emit_contraction(self.e, spec, left, right, epilogue, self.target, scratch, rows, columns)

    def _tiles(self, spec: contraction.Contraction) -> tuple[Tiles, Tiles]:
        """How threads divide a product: by strips of columns if there are several, else by rows of tiles."""
        cut = contraction.plan(spec, self.target)
        by_columns = cut.column_strips >= ENOUGH or cut.column_strips >= cut.row_tiles
        self.units = max(1, cut.column_strips if by_columns else cut.row_tiles) if self.divide else 1
        if self.units == 1:
            return None, None
        return (None, (FIRST, LAST)) if by_columns else ((FIRST, LAST), None)

    def _operand(self, body: Body, load: Load) -> Register:
        pointer = body.pointer(load.node)
        constant = load.index.constant
        return self.e.address(pointer, self.e.const(constant, "i64"), MEMORY[load.dtype]) if constant else pointer


def lanes_across(kernel: Kernel, core: Reduce, target: Target) -> int | None:
    """Into how many lanes each sum of a reduction is cut; None where every lane is a sum of its own."""
    writer = _Writer(kernel, {}, target, divide=False)
    along = writer._best(core, kernel.loops, core.dims)
    return None if along is None or along in kernel.loops else writer._lanes(along, WIDE)


def scratch_of(kernel: Kernel, target: Target) -> int:
    """Bytes of scratch memory that a kernel packs a factor into."""
    if not isinstance(kernel.core, Dot):
        return 0
    if not math.prod(var.size for var in kernel.loops):
        return 0
    elements = contraction.scratch_elements(contraction_of(kernel, kernel.core), target)
    return elements * kernel.core.a.dtype.itemsize


def contraction_of(kernel: Kernel, core: Dot) -> contraction.Contraction:
    """The product at the core of a kernel, as the tiled code generator takes it."""
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
