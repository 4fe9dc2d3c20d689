"""The body of a kernel's loops: values in registers, for one iteration or a vector of them."""

from __future__ import annotations

from chainrule import dtypes
from chainrule.compiler.codegen import scalars
from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, mangled, vector
from chainrule.compiler.codegen.scalars import Scalars
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.target import MEMORY
from chainrule.compiler.schedule.index import Expr, Guard, Loaded, Quotient, Var
from chainrule.compiler.schedule.kernels import (
    Compute,
    Guarded,
    Load,
    Number,
    Position,
    Result,
    Store,
    Value,
)
from chainrule.dtypes import DType
from chainrule.graph import Node
from chainrule.ops import random


class Pointers:
    """Where buffers begin: those that the kernel is told of, and its own rooms."""

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments
        self.rooms: dict[Node, Register] = {}

    def at(self, node: Node, index: Expr) -> tuple[Register, Expr]:
        """The pointer that leads to an element, and the index from there."""
        if node in self.rooms:
            return self.rooms[node], index
        name, rest = self.arguments.at(node, index)
        return Register(f"%{name}", "ptr"), rest


class Body:
    """One iteration (or `lanes` neighbouring ones along one loop): computes values, each once."""

    def __init__(
        self, e: Emitter, pointers: Pointers, indices: dict[Var, Register], lanes: int = 1,
        along: Var | None = None, mask: Register | None = None,
    ) -> None:  # fmt: skip
        self.e, self.pointers, self.indices = e, pointers, indices
        self.lanes, self.along, self.mask = lanes, along, mask
        self.done: dict[int, Register] = {}
        self.known: dict[Expr, Register] = {}
        self.parts: dict[tuple[Var, str], Part] = {}

    def inside(self, at: dict[Var, Register], lanes: int, along: Var | None, mask: Register | None) -> Body:
        """An iteration of a loop within this one: what is known here is known there."""
        inner = Body(self.e, self.pointers, {**self.indices, **at}, lanes, along, mask)
        inner.done.update(self.done)
        return inner

    def part(self, var: Var, index: Register, lanes: int, along: Var | None, mask: Register | None) -> Body:
        """An iteration of a loop that is written out; asked for again, it knows what it has computed before."""
        key = (var, index.name)
        if key not in self.parts:
            self.parts[key] = Part(self, {var: index}, lanes, along, mask)
        return self.parts[key]

    def pointer(self, node: Node, index: Expr) -> tuple[Register, Expr]:
        """The pointer that leads to an element, and the index from there."""
        return self.pointers.at(node, index)

    def address(self, node: Node, index: Expr) -> Register:
        """Where an element lies; of neighbouring ones the first."""
        base, rest = self.pointer(node, index)
        return self.e.address(base, self.index(rest, lanes=False), MEMORY[node.dtype])

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
        opcode = "udiv" if isinstance(atom, Quotient) else "urem"  # never of a negative number: see Expr._split
        return e.binary(opcode, inner, e.const(atom.by, type))  # type: ignore[attr-defined]

    # -- values ---------------------------------------------------------------------------------
    def value(self, value: Value) -> Register:
        """The register that holds it; a chain of thousands of ops in one kernel is walked, not recursed."""
        stack = [value]
        while stack:
            missing = [part for part in stack[-1].parts() if id(part) not in self.done]
            if missing:
                stack.extend(reversed(missing))
            else:
                latest = stack.pop()
                if id(latest) not in self.done:
                    self.done[id(latest)] = self._compute(latest)
        return self.done[id(value)]

    def _compute(self, value: Value) -> Register:
        if isinstance(value, Number):
            return scalars.number(self.e, value.value, value.dtype)
        if isinstance(value, Result):
            raise TypeError("a kernel's result was read before its core ran; this is a bug in chainrule")
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
            address = self.address(load.node, load.index)
            found = self.e.masked_load(address, vector(memory, self.lanes), self._both(guard), load.dtype.itemsize)
        else:
            found = self._gather(load, memory, self._both(guard))
        return self._to_register(found, load.dtype)

    def _load_one(self, load: Load, memory: str, guard: Register | None) -> Register:
        e, (base, rest) = self.e, self.pointer(load.node, load.index)
        at = self.index(rest, lanes=False)
        if guard is not None:  # outside, read the first element instead: it is always there
            at = e.select(guard, at, e.const(0, "i64"))
        found = e.load(e.address(base, at, memory), memory, load.dtype.itemsize)
        return found if guard is None else e.select(guard, found, e.const(0, memory))

    def _both(self, guard: Register | None) -> Register | None:
        """The lanes that exist and satisfy the guard."""
        if guard is None:
            return self.mask
        guard = self.spread(guard)
        return guard if self.mask is None else self.e.binary("and", guard, self.mask)

    def _gather(self, load: Load, memory: str, mask: Register | None) -> Register:
        e, (base, rest) = self.e, self.pointer(load.node, load.index)
        stride = load.index.coefficient(self.along) if self.along is not None else None
        if stride and stride * self.lanes < 1 << 31:
            pointers = self._apart(e.address(base, self.index(rest, lanes=False), memory), stride, memory)
        else:
            offsets = self.spread(self.index(rest))
            text = f"getelementptr inbounds {memory}, ptr {base.name}, {offsets.typed}"
            pointers = e.assign(vector("ptr", self.lanes), text)
        type = vector(memory, self.lanes)
        mask = mask or e.const(True, vector("i1", self.lanes))
        return e.call(
            f"llvm.masked.gather.{mangled(type)}.v{self.lanes}p0", type, pointers,
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
        found = self.value(store.value)
        address = self.address(store.node, store.index)
        value = self.spread(found)
        if store.combine is not None:
            old = self._to_register(self._read(address, memory, dtype), dtype)
            value = store.combine.lower(Scalars(e, dtype, self.lanes), old, value)
        if dtype == dtypes.bool_:
            value = e.convert("zext", value, vector("i8", self.lanes))
        stride = store.index.coefficient(self.along) if self.along is not None and self.lanes > 1 else 1
        if stride != 1:
            self._scatter(value, address, stride, memory, dtype.itemsize)
            return
        e.masked_store(value, address, self.mask, dtype.itemsize)

    def _apart(self, address: Register, stride: int, memory: str) -> Register:
        """The addresses of lanes that lie `stride` elements apart; 32-bit offsets gather in half the instructions."""
        offsets = ", ".join(f"i32 {lane * stride}" for lane in range(self.lanes))
        text = f"getelementptr inbounds {memory}, ptr {address.name}, <{self.lanes} x i32> <{offsets}>"
        return self.e.assign(vector("ptr", self.lanes), text)

    def _scatter(self, value: Register, address: Register, stride: int | None, memory: str, align: int) -> None:
        if not stride:
            raise TypeError("neighbouring iterations must write elements a fixed way apart; this is a bug in chainrule")
        mask = self.mask or self.e.const(True, vector("i1", self.lanes))
        self.e.call(
            f"llvm.masked.scatter.{mangled(value.type)}.v{self.lanes}p0", "void", value,
            self._apart(address, stride, memory), Register(str(align), "i32"), mask,
        )  # fmt: skip

    def _read(self, address: Register, memory: str, dtype: DType) -> Register:
        if self.lanes == 1:
            return self.e.load(address, memory, dtype.itemsize)
        return self.e.masked_load(address, vector(memory, self.lanes), self.mask, dtype.itemsize)


class Part(Body):
    """An iteration of loops that are written out; what all of them have in common is computed by the body around it."""

    def __init__(
        self, outer: Body, at: dict[Var, Register], lanes: int, along: Var | None, mask: Register | None
    ) -> None:
        super().__init__(outer.e, outer.pointers, {**outer.indices, **at}, lanes, along, mask)
        self.outer, self.own = outer, frozenset(at)

    def value(self, value: Value) -> Register:
        return super().value(value) if value.vars() & self.own else self.outer.value(value)

    def _compute(self, value: Value) -> Register:
        return super()._compute(value) if value.vars() & self.own else self.outer.value(value)
