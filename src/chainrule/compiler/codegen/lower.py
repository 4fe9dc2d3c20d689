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
from chainrule.compiler.codegen.rows import Row, Streamed, held, side_by_side
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.partition import Share
from chainrule.compiler.plan.product import batch_of, contraction_of, scratch_of
from chainrule.compiler.plan.target import MEMORY, Target
from chainrule.compiler.plan.vectorize import ALONG, Vectorization, lanes_of_sum
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
)  # fmt: skip
from chainrule.graph import Node
from chainrule.ops import reduction

FIRST, LAST = Register("%first", "i64"), Register("%last", "i64")


@dataclass
class Lowered:
    """A kernel as a function: its text, and what it needs."""

    text: str
    declarations: set[str]
    common: dict[str, Text]  # functions that it calls and that kernels share


def lower(kernel: Kernel, name: str, arguments: Arguments, target: Target, share: Share | None = None) -> Lowered:
    """The function of one kernel; `arguments` are the pointers to what it touches.

    With a `share` (one of `partition.shares`) it takes a range of the units of that, ``%first`` to ``%last``.
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


class _Writer:
    """Writes the loops of a kernel around the values of its body."""

    def __init__(self, kernel: Kernel, arguments: Arguments, target: Target, share: Share | None = None) -> None:
        self.kernel, self.arguments, self.target, self.share = kernel, arguments, target, share
        self.divided = share.var if share is not None else None  # the loop whose iterations threads share
        self.vectors = Vectorization(kernel, target)
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

    def _elementwise(self) -> None:
        loops = self.kernel.loops
        along, _ = self.vectors.lanes_along()
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
            self._vectors(along, self.vectors.lanes(along, count=steps), indices, self._store, steps)

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

    def _store(self, body: Body) -> None:
        """All values before any store: a new state may lie where another value's old state is read."""
        for store in self.kernel.stores:
            body.value(store.value)
        for store in self.kernel.stores:
            body.store(store)

    # -- reductions -----------------------------------------------------------------------------
    def _reduce(self, core: Reduce) -> None:
        along, lanes = self.vectors.lanes_along()
        if core.op in (reduction.argmax, reduction.argmin):
            self._down(core, along, lanes, ArgFold(core))
            return
        best = self.vectors.best(core, self.kernel.loops, core.dims)
        if best is None or best in self.kernel.loops:
            self._down(core, along, lanes, PlainFold(core))
        else:
            self._rows([core], (*(var for var in core.dims if var != best), best))

    def _down(self, core: Reduce, along: Var | None, lanes: int, fold: Fold) -> None:
        """Lanes are separate sums: neighbours along a kept axis."""
        indices: dict[Var, Register] = {}
        with ExitStack() as stack:
            self._nest([var for var in self.kernel.loops if var != along], indices, stack)

            def column(body: Body) -> None:
                self._store_result(core, body, self._folded(core, body, fold))

            if along is None:
                column(self.body(indices))
            elif self.vectors.vectorises(along):
                self._vectors(along, lanes, indices, column)
            else:
                with self._loop(along) as index:
                    column(self.body({**indices, along: index}))

    def _folded(self, core: Reduce, body: Body, fold: Fold) -> list[Register]:
        """The folds over its loops, nested, around one vector of columns."""
        lanes = lanes_of_sum(core)
        if lanes == 1 or not isinstance(fold, PlainFold):
            return self._fold_nest(list(core.dims), dict(body.indices), fold.start(self.e, body.lanes), body, fold)
        return [fold.halved(self.e, body.lanes, self._in_lanes(core.dims, lanes, body, fold))]

    def _in_lanes(self, dims: tuple[Var, ...], lanes: int, body: Body, fold: PlainFold) -> list[Register]:
        """The sums of a row's lanes, each for one vector of columns: whole turns of them, then what is left, as in `Streamed`."""
        *others, along = dims
        e = self.e
        whole = along.size // lanes * lanes

        def turn(at: dict[Var, Register], values: list[Register], count: int) -> list[Register]:
            places = [e.binary("add", at[along], e.const(lane, "i64")) for lane in range(count)]
            bodies = [self.body({**at, along: place}, body.lanes, body.along, body.mask) for place in places]
            moved = [fold.step(one, [value])[0] for one, value in zip(bodies, values[:count], strict=True)]
            return moved + values[count:]

        def nest(left: list[Var], at: dict[Var, Register], values: list[Register], count: int) -> list[Register]:
            if left:
                with e.fold(left[0].size, values) as state:
                    state.values = nest(left[1:], {**at, left[0]: state.index}, list(state.values), count)
                return state.values
            if count < lanes:
                return turn({**at, along: e.const(whole, "i64")}, values, count)
            with e.fold(whole, values, lanes) as state:
                state.values = turn({**at, along: state.index}, list(state.values), count)
            return state.values

        values = fold.start(e, body.lanes) * lanes
        for count in (lanes if whole else 0, along.size - whole):
            values = nest(others, dict(body.indices), values, count) if count else values
        return values

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
            beside, lanes = self.vectors.lanes_of_rows(dims)
            if beside is not None:
                self._nest(loops[:-1], indices, stack)
                self._vectors(beside, lanes, indices, lambda body: side_by_side(row, body))
                return
            self._nest(loops, indices, stack)
            if row.elements <= SHORT:
                side_by_side(row, self.body(indices))
            elif self.vectors.holds(dims):
                held(row, self.body(indices), ALONG)
            else:
                Streamed(row, self.body(indices), ALONG).write()

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
        batch = batch_of(self.kernel, core)
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
