"""A small writer of LLVM IR text: typed values in, one line of IR an instruction.

Text costs a tenth of building llvmlite's object tree, and reads as LLVM's own manual does.
Every method works alike on scalars (``float``) and vectors (``<16 x float>``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

from chainrule.compiler.plan.target import Target


class Register(NamedTuple):
    """An SSA name, a literal or a global, with its LLVM type."""

    name: str
    type: str

    @property
    def typed(self) -> str:
        return f"{self.type} {self.name}"


@cache
def scalar_of(type: str) -> str:
    """``<16 x float>`` -> ``float``; a scalar type is itself."""
    return type.split(" x ")[1][:-1] if type.startswith("<") else type


@cache
def lanes_of(type: str) -> int:
    """``<16 x float>`` -> 16; a scalar has 1."""
    return int(type[1:].split(" x ")[0]) if type.startswith("<") else 1


def vector(scalar: str, lanes: int) -> str:
    """The type of `lanes` scalars; one lane is the scalar itself."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def literal(value: float | int | bool, scalar: str) -> str:
    """A constant as LLVM spells it: floats as the bits of a double, so that none is rounded twice."""
    if scalar in ("float", "double"):
        if scalar == "float":
            import numpy as np

            value = float(np.float32(value))
        return "0x" + struct.pack(">d", float(value)).hex().upper()
    if scalar == "i1":
        return "true" if value else "false"
    return str(int(value))


class Text(NamedTuple):
    """A function that stands for itself, and what it declares."""

    declarations: frozenset[str]
    function: str


class Carried:
    """Inside a loop: its index, and the values it carries."""

    def __init__(self, index: Register, values: list[Register]) -> None:
        self.index = index
        self.values = values


class Emitter:
    """The body of one function being written, and the declarations it needs.

    Floating-point operations carry no flags: LLVM contracts none of them, so that a value is the same in whatever kernel
    it is computed. A fused multiply-add is asked for, see `fma`.
    """

    def __init__(self, target: Target | None = None) -> None:
        self.target = target or Target()
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self.routines: dict[str, str] = {}  # functions of the module that were written here, with the types they give
        self.common: dict[str, Text] = {}  # functions that it calls and that modules share
        self.locals: list[str] = []
        self.count = 0
        self.block = "entry"

    def function(
        self, name: str, parameters: Sequence[Register], result: str = "void", attributes: str = "nounwind"
    ) -> str:
        """What was written so far as the body of a function; its pointers alias no other.

        The body ends with its own ``ret``; the declarations it needs are in `declarations`.
        """
        listed = ", ".join(f"{p.type} noalias nocapture {p.name}" if p.type == "ptr" else p.typed for p in parameters)
        body = "\n".join(self.locals + self.lines)
        if self.routines:  # a call saves vectors on the stack: half as fast where each lies across two cache lines
            attributes += ' "stackrealign"'
        return f"define {result} @{name}({listed}) {attributes} {{\nentry:\n{body}\n}}\n"

    def declared(self) -> list[str]:
        """What a module of this function alone has beside it: declarations, and the functions that others share."""
        lines = self.declarations.union(*(text.declarations for text in self.common.values()))
        own = [line for line in lines if not any(f" @{name}(" in line for name in self.common)]
        return [*sorted(own), *(text.function for text in self.common.values())]

    # -- writing ------------------------------------------------------------------------
    def fresh(self, hint: str = "") -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def assign(self, type: str, text: str) -> Register:
        name = f"%v{self.fresh()}"
        self.lines.append(f"  {name} = {text}")
        return Register(name, type)

    def write(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def jump(self, label: str) -> None:
        self.write(f"br label %{label}")

    def branch(self, condition: Register, then: str, other: str) -> None:
        self.write(f"br i1 {condition.name}, label %{then}, label %{other}")

    def ret(self, value: Register | None = None) -> None:
        self.write("ret void" if value is None else f"ret {value.typed}")

    # -- control ------------------------------------------------------------------------
    def phi(self, *incoming: tuple[Register, str]) -> Register:
        """One of several values, by the block that control came from."""
        pairs = ", ".join(f"[ {value.name}, %{block} ]" for value, block in incoming)
        return self.assign(incoming[0][0].type, f"phi {incoming[0][0].type} {pairs}")

    @contextmanager
    def loop(self, count: Register | int, step: int = 1) -> Iterator[Register]:
        """``for index in range(0, count, step)``, in the form LLVM's loop passes recognise."""
        with self.fold(count, (), step) as state:
            yield state.index

    @contextmanager
    def fold(self, count: Register | int, initial: Sequence[Register], step: int = 1) -> Iterator[Carried]:
        """A loop that carries `values` from turn to turn.

        In the body, ``state.values`` are the current ones and may be set to the next ones; after the
        loop they are the last. A `count` known to be positive needs no test before the first turn.
        """
        bound = count if isinstance(count, Register) else Register(str(count), "i64")
        body, latch, done, before = (self.fresh(h) for h in ("body", "latch", "done", "before"))
        if isinstance(count, Register) or count <= 0:
            empty = self.compare("sgt", bound, Register("0", "i64"))
            self.jump(before)
            self.label(before)
            self.branch(empty, body, done)
        else:
            self.jump(before)
            self.label(before)
            self.jump(body)
        self.label(body)
        header = len(self.lines)  # the phis go here, once the values they carry are known
        index = Register(f"%i{self.fresh()}", "i64")
        carried = [Register(f"%c{self.fresh()}", v.type) for v in initial]
        state = Carried(index, list(carried))
        yield state
        self.jump(latch)
        self.label(latch)
        following = self.assign("i64", f"add nuw nsw i64 {index.name}, {step}")
        self.branch(self.compare("slt", following, bound), body, done)
        phis = [f"  {index.name} = phi i64 [ 0, %{before} ], [ {following.name}, %{latch} ]"]
        for name, first, last in zip(carried, initial, state.values, strict=True):
            incoming = f"[ {first.name}, %{before} ], [ {last.name}, %{latch} ]"
            phis.append(f"  {name.name} = phi {name.type} {incoming}")
        self.lines[header:header] = phis
        self.label(done)
        if isinstance(count, Register) or count <= 0:
            pairs = zip(initial, state.values, strict=True)
            state.values = [self.phi((first, before), (last, latch)) for first, last in pairs]

    def side_by_side(self, pieces: Sequence[Callable[[], None]]) -> None:
        """What each piece writes, a line of each in turn: a chain of operations leaves gaps that the others fill.

        The pieces have no branches and none reads what another writes.
        """
        written = []
        for piece in pieces:
            start = len(self.lines)
            piece()
            written.append(self.lines[start:])
            del self.lines[start:]
        for turn in zip_longest(*written):
            self.lines += [line for line in turn if line is not None]

    # -- values -------------------------------------------------------------------------
    def const(self, value: float | int | bool, type: str) -> Register:
        """A constant of `type`; of a vector type, the same in every lane."""
        text = literal(value, scalar_of(type))
        return Register(text if lanes_of(type) == 1 else f"splat ({scalar_of(type)} {text})", type)

    def binary(self, opcode: str, a: Register, b: Register) -> Register:
        return self.assign(a.type, f"{opcode} {a.type} {a.name}, {b.name}")

    def call(self, name: str, type: str, *args: Register) -> Register:
        """A call of an intrinsic or function, declared on first use."""
        self.declarations.add(f"declare {type} @{name}({', '.join(a.type for a in args)})")
        text = f"call {type} @{name}({', '.join(a.typed for a in args)})"
        if type == "void":
            self.write(text)
            return Register("", "void")
        return self.assign(type, text)

    def routine(self, name: str, write: Callable[..., Register], *args: Register) -> Register:
        """A call of a function of the module whose body is `write(emitter, *parameters)`: for what needs branches of its own.

        Lines of kernels may be laid side by side, and a branch among them would tear them apart; a call does not.
        """
        full = ".".join([name, *(mangled(arg.type) for arg in args)])
        if full not in self.routines:
            inner = Emitter(self.target)
            parameters = [Register(f"%p{i}", arg.type) for i, arg in enumerate(args)]
            result = write(inner, *parameters)
            inner.ret(result)
            text = inner.function(full, parameters, result.type, 'nounwind noinline "prefer-vector-width"="512"')
            self.declarations |= {text.replace("define ", "define internal ", 1), *inner.declarations}
            self.routines[full] = result.type
        return self.assign(
            self.routines[full], f"call {self.routines[full]} @{full}({', '.join(a.typed for a in args)})"
        )

    def shared(self, name: str, write: Callable[..., None], *args: Register) -> None:
        """A call of a function that is compiled once for all kernels and programs, whose body is `write(emitter, *parameters)`.

        The name says all that its code depends on. It is for what takes long to compile and is not called from inner
        loops: nothing lives in vector registers across a call.
        """
        self.call(name, "void", *args)
        if name not in self.common:
            inner = Emitter(self.target)
            parameters = [Register(f"%p{i}", arg.type) for i, arg in enumerate(args)]
            write(inner, *parameters)
            inner.ret()
            self.common[name] = Text(frozenset(inner.declarations), inner.function(name, parameters, attributes="#0"))

    def intrinsic(self, name: str, *args: Register) -> Register:
        """An LLVM intrinsic overloaded on its first argument's type, e.g. ``sqrt``, ``fma``."""
        type = args[0].type
        return self.call(f"llvm.{name}.{mangled(type)}", type, *args)

    def compare(self, predicate: str, a: Register, b: Register) -> Register:
        """``olt``, ``oeq``, ... on floats; ``slt``, ``eq``, ... on integers."""
        opcode = "fcmp" if scalar_of(a.type) in ("float", "double") else "icmp"
        type = vector("i1", lanes_of(a.type))
        return self.assign(type, f"{opcode} {predicate} {a.type} {a.name}, {b.name}")

    def negate(self, a: Register) -> Register:
        return self.assign(a.type, f"fneg {a.typed}")

    def fma(self, a: Register, b: Register, c: Register) -> Register:
        """a b + c in one rounding, on every CPU: LLVM splits a vector that is wider than the registers, bits and all."""
        return self.intrinsic("fma", a, b, c) if self.target.fuses(scalar_of(a.type)) else _fused(self, a, b, c)

    def opaque(self, a: Register) -> Register:
        """The same value, of which LLVM does not see how it was computed.

        For where a tile, a strip, a leaf begins. LLVM's strength reduction otherwise writes each address inside as a step on
        from the last turn of every loop around it, and looks for the cheapest of all ways to do so: a third of the compile
        time of a small network, a second for a product whose tiles ask for much memory ahead, and no step was faster for it.
        A ``freeze`` is no instruction of the machine.
        """
        return self.assign(a.type, f"freeze {a.typed}")

    def splat(self, a: Register, lanes: int) -> Register:
        """A scalar in every lane of a vector."""
        if lanes == 1:
            return a
        type = vector(a.type, lanes)
        one = self.assign(type, f"insertelement {type} poison, {a.typed}, i64 0")
        return self.assign(type, f"shufflevector {type} {one.name}, {type} poison, <{lanes} x i32> zeroinitializer")

    def split(self, a: Register, lanes: int) -> list[Register]:
        """A vector as several of so many lanes."""
        if lanes_of(a.type) == lanes:
            return [a]
        return [self._lanes(a, first, lanes) for first in range(0, lanes_of(a.type), lanes)]

    def join(self, parts: Sequence[Register]) -> Register:
        """Vectors, a power of two of them, as one."""
        while len(parts) > 1:
            lanes = 2 * lanes_of(parts[0].type)
            type = vector(scalar_of(parts[0].type), lanes)
            picks = f"<{lanes} x i32> <{', '.join(f'i32 {i}' for i in range(lanes))}>"
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [self.assign(type, f"shufflevector {a.typed}, {b.typed}, {picks}") for a, b in pairs]
        return parts[0]

    def select(self, condition: Register, a: Register, b: Register) -> Register:
        return self.assign(a.type, f"select {condition.typed}, {a.typed}, {b.typed}")

    def convert(self, opcode: str, a: Register, type: str) -> Register:
        """``fpext``, ``fptrunc``, ``sitofp``, ``fptosi``, ``bitcast``, ``zext``, ``trunc``, ..."""
        return self.assign(type, f"{opcode} {a.typed} to {type}")

    # -- memory -------------------------------------------------------------------------
    def local(self, type: str, count: int) -> Register:
        """Room on the stack for `count` values, taken once when the function is entered."""
        name = f"%s{self.fresh()}"
        self.locals.append(f"  {name} = alloca {type}, i64 {count}, align 64")
        return Register(name, "ptr")

    def address(self, base: Register, index: Register, scalar: str) -> Register:
        return self.assign("ptr", f"getelementptr inbounds {scalar}, ptr {base.name}, i64 {index.name}")

    def load(self, address: Register, type: str, align: int = 1) -> Register:
        return self.assign(type, f"load {type}, ptr {address.name}, align {align}")

    def store(self, value: Register, address: Register, align: int = 1) -> None:
        self.write(f"store {value.typed}, ptr {address.name}, align {align}")

    def prefetch(self, address: Register, write: bool = False, level: int = 1) -> None:
        """Ask for a cache line that will be read (or written) soon, into a cache of some level; harmless wherever it points."""
        how = [Register(str(int(number)), "i32") for number in (write, 4 - level, True)]  # the last: a cache of data
        self.call("llvm.prefetch.p0", "void", address, *how)

    def masked_load(self, address: Register, type: str, mask: Register | None, align: int = 0) -> Register:
        """A vector from memory; lanes that the mask turns off are not read and come as zero."""
        align = align or (8 if scalar_of(type) == "double" else 4)
        if mask is None:
            return self.load(address, type, align)
        zero = Register("zeroinitializer", type)
        return self.call(f"llvm.masked.load.{mangled(type)}.p0", type, address, Register(str(align), "i32"), mask, zero)

    def masked_store(self, value: Register, address: Register, mask: Register | None, align: int = 0) -> None:
        """A vector to memory; lanes that the mask turns off are not written.

        Where masks have no registers and it is known that the first lanes are meant, they go one power of two after
        the other: ``vmaskmovps`` to memory is 18 operations on AMD's Zen (Fog, "Instruction tables"), not one or two.
        """
        align = align or (8 if scalar_of(value.type) == "double" else 4)
        if mask is None:
            self.store(value, address, align)
        elif not self.target.avx512 and mask.name.startswith("<"):
            self._store_first(mask.name.count("true"), value, address, align)
        else:
            name = f"llvm.masked.store.{mangled(value.type)}.p0"
            self.call(name, "void", value, address, Register(str(align), "i32"), mask)

    def _store_first(self, count: int, value: Register, address: Register, align: int) -> None:
        """The first `count` lanes, in as few pieces of a power of two as there are bits in it."""
        scalar, done = scalar_of(value.type), 0
        for lanes in (1 << bit for bit in reversed(range(count.bit_length())) if count >> bit & 1):
            place = self.address(address, self.const(done, "i64"), scalar) if done else address
            self.store(self._lanes(value, done, lanes), place, align)
            done += lanes

    def _lanes(self, a: Register, first: int, count: int) -> Register:
        """So many neighbouring lanes of a vector."""
        if count == 1:
            return self.assign(scalar_of(a.type), f"extractelement {a.typed}, i64 {first}")
        picks = ", ".join(f"i32 {first + lane}" for lane in range(count))
        type = vector(scalar_of(a.type), count)
        return self.assign(type, f"shufflevector {a.typed}, {a.type} poison, <{count} x i32> <{picks}>")


# -- without fused multiply-add ---------------------------------------------------------------------


def _fused(e: Emitter, a: Register, b: Register, c: Register) -> Register:
    """a b + c in one rounding, of other operations: what is added last was rounded to odd, or not at all.

    Rounded once more, it then gives what one rounding of the exact value gives (Boldo, Melquiond, "Emulation of FMA and
    correctly rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers, 2008). Of doubles
    beyond 2^996, or whose product is below 2^-916, the lost parts themselves are lost: there it rounds twice.
    """
    if scalar_of(a.type) == "float":  # the product of two floats is a double
        wide = vector("double", lanes_of(a.type))
        x, y, z = (e.convert("fpext", value, wide) for value in (a, b, c))
        return e.convert("fptrunc", _added_to_odd(e, e.binary("fmul", x, y), z), a.type)
    product = e.binary("fmul", a, b)
    plain = e.binary("fadd", product, c)
    low, low_lost = two_sum(e, c, lost_of_doubles(e, a, b, product))
    high, high_lost = two_sum(e, product, low)
    total = e.binary("fadd", high, _added_to_odd(e, low_lost, high_lost))
    return e.select(e.compare("ord", total, total), total, plain)


def _added_to_odd(e: Emitter, a: Register, b: Register) -> Register:
    """a + b of doubles; where that is not exact, the one of its two neighbours whose last bit is set."""
    total, lost = two_sum(e, a, b)
    bits = e.convert("bitcast", total, vector("i64", lanes_of(total.type)))
    zero, one = e.const(0.0, total.type), e.const(1, bits.type)
    inwards = e.binary("xor", e.compare("ogt", lost, zero), e.compare("ogt", total, zero))
    neighbour = e.binary("add", bits, e.select(inwards, e.const(-1, bits.type), one))
    even = e.compare("eq", e.binary("and", bits, one), e.const(0, bits.type))
    turns = e.binary("and", even, e.compare("one", lost, zero))
    return e.convert("bitcast", e.select(turns, neighbour, bits), total.type)


def two_sum(e: Emitter, a: Register, b: Register) -> tuple[Register, Register]:
    """a + b rounded, and what the rounding lost (Knuth)."""
    total = e.binary("fadd", a, b)
    of_b = e.binary("fsub", total, a)
    of_a = e.binary("fsub", total, of_b)
    return total, e.binary("fadd", e.binary("fsub", a, of_a), e.binary("fsub", b, of_b))


def lost_of_doubles(e: Emitter, a: Register, b: Register, product: Register) -> Register:
    """What the rounding of a b to `product` lost.

    By halves of 26 bits (Dekker, "A floating-point technique for extending the available precision", 1971).
    """
    (a_high, a_low), (b_high, b_low) = _halves(e, a), _halves(e, b)
    lost = e.binary("fsub", e.binary("fmul", a_high, b_high), product)
    for left, right in ((a_high, b_low), (a_low, b_high), (a_low, b_low)):
        lost = e.binary("fadd", lost, e.binary("fmul", left, right))
    return lost


def _halves(e: Emitter, a: Register) -> tuple[Register, Register]:
    wide = e.binary("fmul", a, e.const(2.0**27 + 1, a.type))
    high = e.binary("fsub", wide, e.binary("fsub", wide, a))
    return high, e.binary("fsub", a, high)


def mangled(type: str) -> str:
    """How LLVM mangles a type into an intrinsic's name: ``<16 x float>`` -> ``v16f32``."""
    scalar = {"float": "f32", "double": "f64"}.get(scalar_of(type), scalar_of(type))
    return scalar if lanes_of(type) == 1 else f"v{lanes_of(type)}{scalar}"
