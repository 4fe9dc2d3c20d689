"""Lowering: each kernel becomes one function of LLVM IR, its nest written as it stands (see `nest`)."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.compiler.codegen.body import Body, Pointers
from chainrule.compiler.codegen.emit import Emitter, Register, Text, lanes_of
from chainrule.compiler.codegen.matmul.contraction import emit_contraction
from chainrule.compiler.codegen.nest import FIRST, LAST, SCRATCH, NestWriter
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.target import MEMORY, Target
from chainrule.compiler.schedule.index import Var
from chainrule.compiler.schedule.kernels import Check, Dot, Load, Store
from chainrule.compiler.schedule.loops import Accumulate, Contract, Nest, Statement


@dataclass
class Lowered:
    """A kernel as a function: its text, and what it needs."""

    text: str
    declarations: set[str]
    common: dict[str, Text]  # functions that it calls and that kernels share


def lower(nest: Nest, name: str, arguments: Arguments, target: Target) -> Lowered:
    """The function of one kernel, decided as `nest`; `arguments` are the pointers to what it touches.

    One that threads share takes a range of the units of work, ``%first`` to ``%last``.
    """
    writer = _Writer(Emitter(target), Pointers(arguments))
    result = writer.write(nest)
    pointers = [Register(f"%{name}", "ptr") for name in arguments.names]
    if nest.scratch:
        pointers.append(SCRATCH)
    if nest.is_shared:
        pointers += [FIRST, LAST]
    text = writer.e.function(name, pointers, result=result, attributes="#0")
    return Lowered(text, writer.e.declarations, writer.e.common)


class _Writer(NestWriter):
    """Writes the function's body: the nest, and what it gives back."""

    def __init__(self, e: Emitter, pointers: Pointers) -> None:
        super().__init__(e)
        self.pointers = pointers

    def write(self, nest: Nest) -> str:
        """The nest; gives the type of what the function gives back."""
        body = Body(self.e, self.pointers, {})
        self.block(nest.body, body)
        checks = [s.core for s in nest.body if isinstance(s, Accumulate) and isinstance(s.core, Check)]
        if not checks:
            self.e.ret()
            return "void"
        self._stop(body.value(checks[0].result))
        return "i64"

    def _stop(self, failed: Register) -> None:
        """Gives 1 if a check has failed, else 0."""
        e = self.e
        stop, go_on = e.fresh("stop"), e.fresh("fine")
        e.branch(failed, stop, go_on)
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
        core, tiles = statement.core, statement.tiles

        def at(row: Register, column: Register) -> dict[Var, Register]:
            return {var: index for var, index in ((core.m, row), (core.n, column)) if var is not None}

        def epilogue(e: Emitter, row: Register, column: Register, sums: Register, mask: Register | None) -> None:
            body = Body(e, self.pointers, {**base.indices, **at(row, column)}, lanes_of(sums.type), core.n, mask)
            body.done.update(base.done)
            body.done[id(core.result)] = sums
            NestWriter(e).block(statement.body, body)

        def touch(e: Emitter, row: Register, column: Register) -> None:
            body = Body(e, self.pointers, {**base.indices, **at(row, column)})
            for node, index, write in statement.ahead:
                e.prefetch(body.address(node, index), write)

        def prologue(e: Emitter, row: Register, column: Register, type: str, mask: Register | None) -> Register:
            (store,) = statement.body
            if not isinstance(store, Store) or core.carried is None:
                raise TypeError("sums that are carried are stored as they are; this is a bug in chainrule")
            body = Body(e, self.pointers, {**base.indices, **at(row, column)}, lanes_of(type), core.n, mask)
            found = e.masked_load(body.address(store.node, store.index), type, mask)
            if core.carried == 1:
                return found
            first = e.compare("eq", body.index(core.carried, lanes=False), e.const(0, "i64"))
            return e.select(first, e.const(0.0, type), found)

        left, right = (self._operand(base, core, load) for load in (core.a, core.b))
        rows, columns = ((FIRST, LAST) if statement.shared == by else None for by in ("rows", "columns"))
        emit_contraction(
            self.e, tiles.spec, tiles.plan, left, right, epilogue, SCRATCH if tiles.scratch else None, rows, columns,
            touch if statement.ahead else None, None if core.carried is None else prologue,
        )  # fmt: skip

    def _operand(self, body: Body, core: Dot, load: Load) -> Register:
        """Where a factor begins."""
        pointer, rest = body.pointer(load.node, load.index)
        start = rest.beginning((core.m, core.n, *core.summed))
        return pointer if start == 0 else self.e.address(pointer, body.index(start), MEMORY[load.dtype])
