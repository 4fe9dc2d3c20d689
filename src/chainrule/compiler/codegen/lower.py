"""Lowering: each kernel becomes one function of LLVM IR.

The innermost loop runs over vectors, its remainder as one masked vector, so no size is slow because it is
odd, and the lanes of a sum (hence its bits) are set here and not by an optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from chainrule.compiler.codegen.body import Body
from chainrule.compiler.codegen.emit import Emitter, Text, lanes_of
from chainrule.compiler.codegen.emit import Value as Register
from chainrule.compiler.codegen.matmul import contraction
from chainrule.compiler.codegen.matmul.transpose import lane_mask
from chainrule.compiler.codegen.reductions import ArgFold, CheckFold, Fold, PlainFold
from chainrule.compiler.codegen.rows import HELD, Row, Streamed, held, side_by_side
from chainrule.compiler.codegen.scalars import MEMORY, REGISTER
from chainrule.compiler.plan.access import Share
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.cut import ENOUGH, Cut
from chainrule.compiler.plan.target import Target
from chainrule.compiler.schedule.fusion import SHORT
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import (
    Check,
    Compute,
    Dot,
    Guarded,
    Kernel,
    Load,
    Number,
    Position,
    Reduce,
    Rows,
    Value,
)  # fmt: skip
from chainrule.graph import Node
from chainrule.ops import reduction

FIRST, LAST = Register("%first", "i64"), Register("%last", "i64")
LARGE = (
    1 << 14
)  # iterations, from which on many threads should find work; in smaller kernels they share the outermost loop
WIDE = 4  # vectors in flight in a sum: hides the latency of an addition


@dataclass
class Lowered:
    """A kernel as a function: its text, and what it needs."""

    text: str
    declarations: set[str]
    common: dict[str, Text]  # functions that it calls and that kernels share


def lower(kernel: Kernel, name: str, arguments: Arguments, target: Target, share: Share | None = None) -> Lowered:
    """The function of one kernel; `arguments` are the pointers to what it touches.

    With a `share` (one of `shares`) it takes a range of the units of that, ``%first`` to ``%last``.
    """
    writer = _Writer(kernel, arguments, target, share)
    writer.write()
    e = writer.e
    pointers = [Register(f"%{name}", "ptr") for name in arguments.names]
    if writer.scratch:
        pointers.append(Register("%scratch", "ptr"))
    if share is not None:
        pointers += [FIRST, LAST]
    result = "i64" if isinstance(kernel.core, Check) else "void"
    text = e.function(name, pointers, result=result, attributes="#0")
    return Lowered(text, e.declarations, e.common)


def shares(kernel: Kernel, target: Target) -> list[Share]:
    """Every way in which threads can divide the kernel, the preferred first: with enough units, and the outermost."""
    if isinstance(kernel.core, Check) or not math.prod(var.size for var in kernel.loops):
        return []
    if isinstance(kernel.core, Dot):
        return sorted(_product_shares(kernel, kernel.core, target), key=_units, reverse=True)
    if any(store.combine is not None for store in kernel.stores):
        return []  # positions are data: two threads might write the same one
    along, lanes = _Writer(kernel, Arguments(), target).lanes_along()
    found = [Share.of(var, Cut.even(var.size), "loop") for var in kernel.loops if var != along]
    if along in kernel.loops:
        found.append(Share.of(along, Cut.even(along.size, lanes), "loop"))
    if math.prod(var.size for var in kernel.loops) >= LARGE:
        found.sort(key=_units, reverse=True)
    return [share for share in found[:1] if share.cut.units > 1]


def _units(share: Share) -> int:
    """How many threads it keeps about equally busy, as far as that matters."""
    return min(share.cut.units, ENOUGH)


def _product_shares(kernel: Kernel, core: Dot, target: Target) -> list[Share]:
    """By the loops around it, by rows of tiles or by strips of columns."""
    spec = contraction_of(kernel, core)
    chosen = contraction.plan(spec, target)
    m, n = (core.n, core.m) if chosen.turned else (core.m, core.n)
    found = [Share.of(var, Cut.even(var.size), "batch") for var in _batch(kernel, core)]
    if m is not None and chosen.row_tiles > 1:
        found.append(Share.of(m, Cut(m.size, chosen.row_tiles, chosen.rows, chosen.large), "rows"))
    if n is not None and chosen.column_strips > 1:
        cut = Cut(n.size, chosen.column_strips, chosen.vectors * chosen.lanes, chosen.wide_strips, chosen.lanes)
        found.append(Share.of(n, cut, "columns"))
    return found


class _Writer:
    """Writes the loops of a kernel around the values of its body."""

    def __init__(self, kernel: Kernel, arguments: Arguments, target: Target, share: Share | None = None) -> None:
        self.kernel, self.arguments, self.target, self.share = kernel, arguments, target, share
        self.divided = share.var if share is not None else None  # the loop whose iterations threads share
        self.e = Emitter(target)
        self.scratch = 0
        self.once: dict[int, Register] = {}  # values that are the same in every iteration

    def write(self) -> None:
        core = self.kernel.core
        if math.prod(var.size for var in self.kernel.loops) == 0:
            self.e.ret(self.e.const(0, "i64") if isinstance(core, Check) else None)
            return
        if isinstance(core, Check):
            self._check(core)
            return
        self.once = self._before_loops()
        if isinstance(core, Dot):
            self._dot(core)
        elif isinstance(core, Reduce):
            self._reduce(core)
        elif isinstance(core, Rows):
            self._rows(core.stages, core.dims)
        else:
            self._elementwise()
        self.e.ret()

    def body(
        self, indices: dict[Var, Register], lanes: int = 1, along: Var | None = None, mask: Register | None = None
    ) -> Body:
        return self._body(self.e, indices, lanes, along, mask)

    def _body(
        self, e: Emitter, indices: dict[Var, Register], lanes: int, along: Var | None, mask: Register | None
    ) -> Body:
        body = Body(e, self.arguments, indices, lanes, along, mask)
        body.done.update(self.once)
        return body

    def _before_loops(self) -> dict[int, Register]:
        """Compute what no loop changes and no store of the kernel; LLVM could not tell that the stores do not."""
        written = {self.arguments.name(store.node, store.index) for store in self.kernel.stores}
        fixed: set[int] = set()
        entry = Body(self.e, self.arguments, {})
        for value in self.kernel.values():  # what a value reads comes before it
            still = isinstance(value, (Number, Compute, Position)) or (
                isinstance(value, Load)
                and not value.guards
                and self.arguments.name(value.node, value.index) not in written
            )
            if still and not value.vars() and all(id(part) in fixed for part in value.parts()):
                fixed.add(id(value))
                if isinstance(value, Compute):
                    entry.value(value)
        return entry.done

    # -- loops --------------------------------------------------------------------------------
    def _nest(self, loops: Sequence[Var], indices: dict[Var, Register], stack: ExitStack) -> None:
        for var in loops:
            indices[var] = stack.enter_context(self._loop(var))

    @contextmanager
    def _loop(self, var: Var) -> Iterator[Register]:
        """All of a loop, or this thread's part of it."""
        if var is not self.divided:
            with self.e.loop(var.size) as index:
                yield index
            return
        with self.e.loop(self.e.binary("sub", LAST, FIRST)) as step:
            yield self.e.binary("add", FIRST, step)

    def _vectors(
        self, along: Var, lanes: int, indices: dict[Var, Register], body: Callable[[Body], None],
        size: int | None = None,
    ) -> None:  # fmt: skip
        """body over all of `along` (or `size` steps of it): whole vectors, then what is left under a mask."""
        e = self.e
        whole, left = divmod(size or along.size, lanes)
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

    def _lanes(self, var: Var, wide: int = 1, count: int | None = None) -> int:
        """Lanes for a loop: whole registers of the widest float that differs along it, a few of them if it is long."""
        differ = [value.dtype for value in self._values() if var in value.vars()]
        floats = [dtype for dtype in differ if dtype.is_floating_point]  # a wide integer among them takes two registers
        size = max((dtype.itemsize for dtype in floats or differ), default=4)
        lanes = self.target.vector_bytes // max(4, size)
        count = count or var.size
        while wide > 1 and count < lanes * wide:
            wide //= 2
        return min(lanes * wide, 1 << (count - 1).bit_length())

    def _values(self) -> list[Value]:
        return [value for value in self.kernel.values() if not isinstance(value, (Number, Position))]

    def lanes_along(self) -> tuple[Var | None, int]:
        """The loop whose neighbours are the lanes of a vector, and how many there are (1: it is a plain loop)."""
        core, loops = self.kernel.core, self.kernel.loops
        if core is None:
            along = loops[-1] if loops and self._vectorises(loops[-1]) else None
            return along, self._lanes(along) if along else 1
        if isinstance(core, Rows):
            return self._lanes_of_rows(core.dims)
        if not isinstance(core, Reduce):
            return None, 1
        along = self._best(core, loops, core.dims)
        if core.op in (reduction.argmax, reduction.argmin):
            along = along if along in loops else (loops[-1] if loops else None)
            return along, self._lanes(along) if along and self._vectorises(along) else 1
        if along is None or along in loops:
            return along, self._lanes(along, WIDE) if along and self._vectorises(along) else 1
        return self._lanes_of_rows(core.dims)

    def _lanes_of_rows(self, dims: tuple[Var, ...]) -> tuple[Var | None, int]:
        """Short rows lie side by side, one a lane; the lanes of longer ones are no loop of the kernel's own."""
        loops = self.kernel.loops
        lanes = self._lanes(loops[-1]) if loops else 1
        short = math.prod(var.size for var in dims) <= SHORT
        return (loops[-1], lanes) if loops and short and loops[-1].size >= lanes > 1 else (None, 1)

    def _elementwise(self) -> None:
        loops = self.kernel.loops
        along, _ = self.lanes_along()
        indices: dict[Var, Register] = {}
        with ExitStack() as stack:
            if along is None:
                self._nest(loops, indices, stack)
                self._store(self.body(indices))
                return
            steps, outer = along.size, list(loops[:-1])
            while (
                outer
                and outer[-1] != self.divided
                and along != self.divided
                and self._one_line(outer[-1], along, steps)
            ):
                inner = outer.pop()
                indices[inner] = self.e.const(0, "i64")
                steps *= inner.size
            self._nest(outer, indices, stack)
            self._vectors(along, self._lanes(along, count=steps), indices, self._store, steps)

    def _one_line(self, outer: Var, along: Var, steps: int) -> bool:
        """Does one step of `outer` move every index as `steps` further steps of `along` do? Then they are one loop."""

        def same(index: Expr) -> bool:
            far, near = index.coefficient(outer), index.coefficient(along)
            return far is not None and near is not None and far == near * steps

        return all(map(same, self._indices()))

    def _indices(self) -> Iterator[Expr]:
        """Every index, guard and position of the kernel."""
        yield from (store.index for store in self.kernel.stores)
        for value in self.kernel.values():
            if isinstance(value, (Load, Position)):
                yield value.index
            if isinstance(value, (Load, Guarded)):
                yield from (guard.expr for guard in value.guards)

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
        along, lanes = self.lanes_along()
        if core.op in (reduction.argmax, reduction.argmin):
            self._down(core, along, lanes, ArgFold(core))
            return
        best = self._best(core, self.kernel.loops, core.dims)
        if best is None or best in self.kernel.loops:
            self._down(core, along, lanes, PlainFold(core))
        else:
            self._rows([core], (*(var for var in core.dims if var != best), best))

    def _best(self, core: Reduce, outer: tuple[Var, ...], inner: tuple[Var, ...]) -> Var | None:
        """The loop to vectorise: the one along which most loads are contiguous."""
        loads = Kernel((), [], core).loads()

        def score(var: Var) -> tuple[int, int, int]:
            contiguous = sum(load.index.coefficient(var) == 1 for load in loads)
            return contiguous, int(var in inner), var.size

        eligible = [var for var in (*inner, *(v for v in outer if self._vectorises(v))) if var.size > 1]
        return max(eligible, key=score, default=None)

    def _down(self, core: Reduce, along: Var | None, lanes: int, fold: Fold) -> None:
        """Lanes are separate sums: neighbours along a kept axis."""
        indices: dict[Var, Register] = {}
        with ExitStack() as stack:
            self._nest([var for var in self.kernel.loops if var != along], indices, stack)

            def column(body: Body) -> None:
                self._store_result(core, body, self._folded(core.dims, body, fold))

            if along is None:
                column(self.body(indices))
            elif self._vectorises(along):
                self._vectors(along, lanes, indices, column)
            else:
                with self._loop(along) as index:
                    column(self.body({**indices, along: index}))

    def _folded(self, dims: Sequence[Var], body: Body, fold: Fold) -> list[Register]:
        """The folds over `dims`, nested, around one vector of columns."""
        return self._fold_nest(list(dims), dict(body.indices), fold.start(self.e, body.lanes), body, fold)

    def _fold_nest(
        self, dims: list[Var], indices: dict[Var, Register], values: list[Register], body: Body, fold: Fold
    ) -> list[Register]:
        if not dims:
            inside = self.body(indices, body.lanes, body.along, body.mask)
            return fold.step(inside, values)
        with self.e.fold(dims[0].size, values) as state:
            at = {**indices, dims[0]: state.index}
            state.values = self._fold_nest(dims[1:], at, list(state.values), body, fold)
        return state.values

    # -- rows -----------------------------------------------------------------------------------
    def _rows(self, stages: list[Reduce], dims: tuple[Var, ...]) -> None:
        """Each row in the way that suits its length (see `rows`)."""
        loops, indices = self.kernel.loops, dict[Var, Register]()
        row = Row(dims, stages, self.kernel.stores)
        with ExitStack() as stack:
            beside, lanes = self._lanes_of_rows(dims)
            if beside is not None:
                self._nest(loops[:-1], indices, stack)
                self._vectors(beside, lanes, indices, lambda body: side_by_side(row, body))
                return
            self._nest(loops, indices, stack)
            lanes = self._lanes_along_row(dims)
            if len(dims) == 1 and dims[0].size <= HELD * self._lanes(dims[-1]):
                held(row, self.body(indices), lanes)
            else:
                Streamed(row, self.body(indices), lanes).write()

    def lanes_of_sum(self, core: Reduce) -> int | None:
        """How many lanes share one sum: see `_rows` for those that run along it."""
        along: Var | None = core.dims[-1]
        if self.kernel.core is core:  # not one of several folds over each row
            along = self._best(core, self.kernel.loops, core.dims)
        if along is None or along in self.kernel.loops or self._lanes_of_rows(core.dims)[0] is not None:
            return 1
        if len(core.dims) > 1:
            return None
        return min(self._lanes_along_row(core.dims), 1 << (along.size - 1).bit_length())

    def _lanes_along_row(self, dims: tuple[Var, ...]) -> int:
        """Lanes of a row too long for one: one vector of those that are held, several of those that are streamed."""
        lanes = self._lanes(dims[-1])
        if len(dims) == 1 and dims[0].size <= HELD * lanes:
            return lanes
        light = sum(v.op.cost for v in self._values() if isinstance(v, Compute)) <= WIDE
        return self._lanes(dims[-1], WIDE if light else 1)

    def _store_result(self, core: Reduce, body: Body, values: list[Register]) -> None:
        body.done[id(core.result)] = values[-1]
        self._store(body)

    # -- checks -----------------------------------------------------------------------------------
    def _check(self, core: Check) -> None:
        e = self.e
        fold = CheckFold(core)
        stop, go_on = e.fresh("stop"), e.fresh("fine")
        bad = self._fold_nest(list(self.kernel.loops), {}, fold.start(e, 1), self.body({}), fold)[0]
        e.branch(bad, stop, go_on)
        e.label(stop)
        e.ret(e.const(1, "i64"))
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
            body = self._body(e, indices, lanes_of(sums.type), n, mask)
            body.result = sums
            self._store(body)

        touched = self._beside(core)

        def touch(e: Emitter, row: Register, column: Register, at: tuple[Register, ...]) -> None:
            indices = dict(zip([*batch, m, n], [*at, row, column], strict=True))
            body = Body(e, self.arguments, {var: index for var, index in indices.items() if var})
            for node, index, write in touched:
                e.prefetch(body.address(node, index), write)

        scratch = Register("%scratch", "ptr") if self.scratch else None
        by = self.share.by if self.share is not None else ""
        mine = FIRST, LAST
        rows, columns = mine if by == "rows" else None, mine if by == "columns" else None
        around = {number: mine for number, var in enumerate(batch) if var == self.divided}
        contraction.emit_contraction(self.e, spec, left, right, epilogue, self.target, scratch, rows, columns,
                                     touch=touch if touched else None, around=around)  # fmt: skip

    def _beside(self, core: Dot) -> list[tuple[Node, Expr, bool]]:
        """What a product's epilogue reads and writes (True) along its rows: node and index, each place once."""
        found: dict[tuple[str, Expr], tuple[Node, Expr, bool]] = {}
        stores = [(store.node, store.index, True) for store in self.kernel.stores]
        for node, index, write in stores + [(load.node, load.index, False) for load in self.kernel.loads()]:
            plain = all(isinstance(atom, Var) for atom in index.terms)
            if plain and core.m and core.n and index.coefficient(core.n) == 1 and index.coefficient(core.m):
                found.setdefault(self.arguments.at(node, index), (node, index, write))
        return list(found.values())

    def _operand(self, body: Body, load: Load) -> Register:
        pointer, rest = body.pointer(load.node, load.index)
        start = rest.beginning()
        return pointer if start == 0 else self.e.address(pointer, body.index(start), MEMORY[load.dtype])


def cut_of(kernel: Kernel, target: Target) -> contraction.Plan | None:
    """How the product at the core of a kernel is cut up: part of what its code depends on, as it may be searched."""
    if not isinstance(kernel.core, Dot) or not math.prod(var.size for var in kernel.loops):
        return None
    return contraction.plan(contraction_of(kernel, kernel.core), target)


def lanes_of_sum(kernel: Kernel, core: Reduce, target: Target) -> int | None:
    """In how many lanes each sum of a reduction is added, before the lanes are; None where other axes mix in."""
    return _Writer(kernel, Arguments(), target).lanes_of_sum(core)


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
