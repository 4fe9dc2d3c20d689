"""Lowering: each kernel becomes one function of LLVM IR, its nest written as it stands (see `nest`)."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.compiler.codegen.body import Body
from chainrule.compiler.codegen.emit import Emitter, Text, lanes_of
from chainrule.compiler.codegen.emit import Value as Register
from chainrule.compiler.codegen.matmul import contraction
from chainrule.compiler.codegen.nest import FIRST, LAST, NestWriter
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.partition import Share
from chainrule.compiler.plan.product import batch_of, contraction_of, scratch_of
from chainrule.compiler.plan.target import MEMORY, Target
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Check, Dot, Kernel, Load
from chainrule.compiler.schedule.loops import Contract, Nest, Statement
from chainrule.graph import Node


@dataclass
class Lowered:
    """A kernel as a function: its text, and what it needs."""

    text: str
    declarations: set[str]
    common: dict[str, Text]  # functions that it calls and that kernels share


def lower(
    kernel: Kernel, nest: Nest, name: str, arguments: Arguments, target: Target, share: Share | None = None
) -> Lowered:
    """The function of one kernel, decided as `nest`; `arguments` are the pointers to what it touches.

    With a `share` (one of `partition.shares`) it takes a range of the units of that, ``%first`` to ``%last``.
    """
    writer = _Writer(kernel, arguments, target, share)
    writer.write(nest)
    e = writer.e
    pointers = [Register(f"%{name}", "ptr") for name in arguments.names]
    if writer.scratch:
        pointers.append(Register("%scratch", "ptr"))
    if share is not None:
        pointers += [FIRST, LAST]
    result = "i64" if isinstance(kernel.core, Check) else "void"
    text = e.function(name, pointers, result=result, attributes="#0")
    return Lowered(text, e.declarations, e.common)


class _Writer(NestWriter):
    """Writes the function's body: the nest, and what it gives back."""

    def __init__(self, kernel: Kernel, arguments: Arguments, target: Target, share: Share | None = None) -> None:
        super().__init__(Emitter(target))
        self.kernel, self.arguments, self.target, self.share = kernel, arguments, target, share
        self.scratch = 0

    def write(self, nest: Nest) -> None:
        e, core, body = self.e, self.kernel.core, Body(self.e, self.arguments, {})
        self.block(nest.body, body)
        if not isinstance(core, Check):
            e.ret()
            return
        if nest.body:
            stop, go_on = e.fresh("stop"), e.fresh("fine")
            e.branch(body.value(core.result), stop, go_on)
            e.label(stop)
            e.ret(e.const(1, "i64"))
            e.label(go_on)
        e.ret(e.const(0, "i64"))

    # -- products -----------------------------------------------------------------------------------
    def statement(self, statement: Statement, body: Body) -> None:
        if isinstance(statement, Contract):
            self._contract(statement, body)
        else:
            super().statement(statement, body)

    def _contract(self, statement: Contract, base: Body) -> None:
        """The tiled product, what follows on each vector of its sums as its epilogue."""
        core = statement.core
        m, n = core.m, core.n
        batch = batch_of(self.kernel, core)
        spec = contraction_of(self.kernel, core)
        self.scratch = scratch_of(self.kernel, self.target)
        left, right = (self._operand(base, load) for load in (core.a, core.b))

        def epilogue(
            e: Emitter, row: Register, column: Register, sums: Register, mask: Register | None, at: tuple[Register, ...]
        ) -> None:
            indices = dict(zip(batch, at, strict=True))
            if m:
                indices[m] = row
            if n:
                indices[n] = column
            body = Body(e, self.arguments, indices, lanes_of(sums.type), n, mask)
            body.done.update(base.done)
            body.done[id(core.result)] = sums
            NestWriter(e).block(statement.body, body)

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
        around = {number: mine for number, var in enumerate(batch) if self.share is not None and var == self.share.var}
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
