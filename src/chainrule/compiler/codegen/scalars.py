"""What an op's ``lower`` writes with: arithmetic on lanes of a known dtype.

A lane is one element of one iteration; a value holds one lane or a vector of them, and every method
serves both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.compiler.codegen import mathematics, remainder, trigonometry
from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, vector
from chainrule.compiler.plan.target import REGISTER
from chainrule.dtypes import DType
from chainrule.ops.random import threefry
from chainrule.ops.reference import CLOSED

_FLOAT_PREDICATES = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}


class Scalars:
    """Operations on lanes of `dtype`, the dtype of an op's (last) input."""

    def __init__(self, e: Emitter, dtype: DType, lanes: int) -> None:
        self.e, self.dtype, self.lanes = e, dtype, lanes
        self.type = vector(REGISTER[dtype], lanes)
        self.floating = dtype.is_floating_point
        self.signed = dtype in (dtypes.int32, dtypes.int64)

    def const(self, value: Any) -> Register:
        return self.e.const(value, self.type)

    def zero(self) -> Register:
        return self.const(0)

    def lowest(self) -> Register:
        """What every number is at least."""
        return self.const(-math.inf if self.floating else self._limits()[0])

    def highest(self) -> Register:
        """What every number is at most."""
        return self.const(math.inf if self.floating else self._limits()[1])

    def _limits(self) -> tuple[int, int]:
        if self.dtype == dtypes.bool_:
            return 0, 1
        info = np.iinfo(self.dtype.numpy)
        return int(info.min), int(info.max)

    # -- arithmetic -----------------------------------------------------------------------
    def _arithmetic(self, floating: str, integer: str, logical: str, a: Register, b: Register) -> Register:
        opcode = floating if self.floating else logical if self.dtype == dtypes.bool_ else integer
        return self.e.binary(opcode, a, b)

    def add(self, a: Register, b: Register) -> Register:
        return self._arithmetic("fadd", "add", "or", a, b)

    def sub(self, a: Register, b: Register) -> Register:
        return self._arithmetic("fsub", "sub", "xor", a, b)

    def mul(self, a: Register, b: Register) -> Register:
        return self._arithmetic("fmul", "mul", "and", a, b)

    def div(self, a: Register, b: Register) -> Register:
        return self.e.binary("fdiv", a, b)

    def neg(self, x: Register) -> Register:
        return self.e.negate(x) if self.floating else self.e.binary("sub", self.zero(), x)

    def abs(self, x: Register) -> Register:
        if self.floating:
            return self.e.intrinsic("fabs", x)
        return self.e.select(self.compare("lt", x, self.zero()), self.neg(x), x) if self.signed else x

    def sign(self, x: Register) -> Register:
        """1, -1 or 0; NaN has the sign 0."""
        above, below = self.compare("gt", x, self.zero()), self.compare("lt", x, self.zero())
        if self.dtype == dtypes.uint8:
            return self.e.convert("zext", above, self.type)
        return self.e.select(above, self.const(1), self.e.select(below, self.const(-1), self.zero()))

    def floor(self, x: Register) -> Register:
        return self.e.intrinsic("floor", x) if self.floating else x

    def round(self, x: Register) -> Register:
        return self.e.intrinsic("roundeven", x) if self.floating else x

    def floor_divide(self, a: Register, b: Register) -> Register:
        if self.floating:
            return self._float_floor_divide(a, b)
        by_zero = self.compare("eq", b, self.zero())
        divisor = self._divisor(b)
        if not self.signed:
            return self.e.select(by_zero, self.zero(), self.e.binary("udiv", a, divisor))
        quotient = self.e.binary("sdiv", a, divisor)
        rest = self.e.binary("sub", a, self.e.binary("mul", quotient, divisor))
        lower = self.e.binary("sub", quotient, self.const(1))
        quotient = self.e.select(self._rounds_down(rest, divisor), lower, quotient)
        quotient = self.e.select(self.compare("eq", b, self.const(-1)), self.neg(a), quotient)
        return self.e.select(by_zero, self.zero(), quotient)

    def remainder(self, a: Register, b: Register) -> Register:
        """a - floor(a / b) b, of b's sign."""
        if self.floating:
            return self._float_remainder(a, b)
        divisor = self._divisor(b)
        if not self.signed:
            return self.e.binary("urem", a, divisor)
        rest = self.e.binary("srem", a, divisor)
        return self.e.select(self._rounds_down(rest, divisor), self.e.binary("add", rest, divisor), rest)

    def _float_remainder(self, a: Register, b: Register) -> Register:
        """C's remainder, which is exact, taken to b's side of 0."""
        e = self.e
        rest = remainder.fmod(e, a, b)
        rest = e.select(self._rounds_down(rest, b), e.binary("fadd", rest, b), rest)
        return e.select(e.compare("oeq", rest, self.zero()), e.intrinsic("copysign", self.zero(), b), rest)

    def _float_floor_divide(self, a: Register, b: Register) -> Register:
        """Whole by way of the remainder, as NumPy and PyTorch have it: 1 // 0.1 is 9."""
        e = self.e
        plain, rest = self.div(a, b), remainder.fmod(e, a, b)
        whole = self.div(e.binary("fsub", a, rest), b)
        whole = e.select(self._rounds_down(rest, b), e.binary("fsub", whole, self.const(1)), whole)
        floor = self.floor(whole)
        above = e.compare("ogt", e.binary("fsub", whole, floor), self.const(0.5))
        floor = e.select(above, e.binary("fadd", floor, self.const(1)), floor)
        floor = e.select(e.compare("oeq", whole, self.zero()), e.intrinsic("copysign", self.zero(), plain), floor)
        return e.select(e.compare("oeq", b, self.zero()), plain, floor)

    def _divisor(self, b: Register) -> Register:
        """1 in place of what hardware traps on: 0, and -1 below the smallest integer. x mod 1 is 0, as NumPy has it."""
        safe = self.e.select(self.compare("eq", b, self.zero()), self.const(1), b)
        return self.e.select(self.compare("eq", b, self.const(-1)), self.const(1), safe) if self.signed else safe

    def _rounds_down(self, rest: Register, b: Register) -> Register:
        differ = self.e.binary("xor", self.compare("lt", rest, self.zero()), self.compare("lt", b, self.zero()))
        return self.e.binary("and", differ, self.compare("ne", rest, self.zero()))

    def pow(self, a: Register, b: Register) -> Register:
        if self.floating:
            return mathematics.power(self.e, a, b)
        return self._integer_power(a, b)

    def _integer_power(self, a: Register, b: Register) -> Register:
        """By squaring, over every bit of the exponent; a negative one gives the truncated reciprocal."""
        result, square = self.const(1), a
        for bit in range(8 * self.dtype.itemsize - self.signed):
            result = self.e.select(self._bit(b, bit), self.e.binary("mul", result, square), result)
            square = self.e.binary("mul", square, square)
        if not self.signed:
            return result
        odd = self.e.select(self._bit(b, 0), self.const(-1), self.const(1))
        reciprocal = self.e.select(self.compare("eq", a, self.const(-1)), odd, self.zero())
        reciprocal = self.e.select(self.compare("eq", a, self.const(1)), a, reciprocal)
        return self.e.select(self.compare("lt", b, self.zero()), reciprocal, result)

    def _bit(self, b: Register, bit: int) -> Register:
        return self.compare("ne", self.e.binary("and", b, self.const(1 << bit)), self.zero())

    # -- functions ------------------------------------------------------------------------
    def exp(self, x: Register) -> Register:
        return mathematics.exp(self.e, x)

    def expm1(self, x: Register) -> Register:
        return mathematics.expm1(self.e, x)

    def log(self, x: Register) -> Register:
        return mathematics.log(self.e, x)

    def log1p(self, x: Register) -> Register:
        return mathematics.log1p(self.e, x)

    def sqrt(self, x: Register) -> Register:
        return mathematics.sqrt(self.e, x)

    def rsqrt(self, x: Register) -> Register:
        return mathematics.rsqrt(self.e, x)

    def sin(self, x: Register) -> Register:
        return trigonometry.sin(self.e, x)

    def cos(self, x: Register) -> Register:
        return trigonometry.cos(self.e, x)

    def tanh(self, x: Register) -> Register:
        return mathematics.tanh(self.e, x)

    def sigmoid(self, x: Register) -> Register:
        return mathematics.sigmoid(self.e, x)

    def mish(self, x: Register) -> Register:
        """As its reference, op by op."""
        low, above = self.compare("le", x, self.zero()), self.compare("gt", x, self.zero())
        z = self.e.select(low, x, self.neg(x))
        z = self.e.select(self.compare("lt", z, self.const(CLOSED)), self.const(CLOSED), z)
        e = self.exp(z)
        square, twice = self.mul(e, e), self.mul(self.const(2.0), e)
        part = self.add(square, self.e.select(low, twice, square))
        rest = self.e.select(above, self.add(twice, self.const(1.0)), self.const(2.0))
        return self.add(self.relu(x), self.mul(z, self.div(part, self.add(part, rest))))

    def erf(self, x: Register) -> Register:
        return mathematics.erf(self.e, x)

    def erfc(self, x: Register) -> Register:
        return mathematics.erfc(self.e, x)

    def frexp(self, x: Register) -> tuple[Register, Register]:
        """The bits of the exponent, and x with those of 1/2; of 0, infinity and NaN 0, and x itself; a denormal is 0."""
        e, bits = self.e, dtypes.int32 if self.dtype == dtypes.float32 else dtypes.int64
        format = np.finfo(self.dtype.numpy)
        whole, low, most = self.bitcast(x, bits), format.nmant, (1 << format.iexp) - 1
        held = e.binary("and", e.binary("lshr", whole, e.const(low, whole.type)), e.const(most, whole.type))
        zero, beyond = (e.compare("eq", held, e.const(end, whole.type)) for end in (0, most))
        special = e.binary("or", zero, beyond)
        half = most // 2 - 1  # the bits of 1/2
        rest = e.binary("and", whole, e.const(~(most << low), whole.type))
        mantissa = e.convert("bitcast", e.binary("or", rest, e.const(half << low, whole.type)), x.type)
        exponent = e.select(special, e.const(0, whole.type), e.binary("sub", held, e.const(half, whole.type)))
        sign = e.binary("and", whole, e.const(-1 << (low + format.iexp), whole.type))
        mantissa = e.select(zero, e.convert("bitcast", sign, x.type), e.select(beyond, x, mantissa))
        return mantissa, cast(e, exponent, bits, dtypes.int32)

    def relu(self, x: Register) -> Register:
        return self.e.select(self.compare("le", x, self.zero()), self.zero(), x)

    # -- choosing -------------------------------------------------------------------------
    def compare(self, predicate: str, a: Register, b: Register) -> Register:
        if self.floating:
            return self.e.compare(_FLOAT_PREDICATES[predicate], a, b)
        if predicate in ("eq", "ne"):
            return self.e.compare(predicate, a, b)
        return self.e.compare(("s" if self.signed else "u") + predicate, a, b)

    def select(self, condition: Register, a: Register, b: Register) -> Register:
        return self.e.select(condition, a, b)

    def maximum(self, a: Register, b: Register) -> Register:
        return self._extreme("gt", a, b)

    def minimum(self, a: Register, b: Register) -> Register:
        return self._extreme("lt", a, b)

    def _extreme(self, predicate: str, a: Register, b: Register) -> Register:
        chosen = self.e.select(self.compare(predicate, a, b), a, b)
        return self.e.select(self.e.compare("uno", a, a), a, chosen) if self.floating else chosen

    # -- bits -----------------------------------------------------------------------------
    def bits(self, opcode: str, a: Register, b: Register) -> Register:
        if opcode in ("shl", "shr") and self.dtype != dtypes.bool_:
            return self._shift(opcode, a, b)
        return self.e.binary("lshr" if opcode == "shr" else opcode, a, b)

    def _shift(self, opcode: str, a: Register, b: Register) -> Register:
        """Shifting all bits out leaves zeros (or signs); the hardware would take the distance modulo the width."""
        width = 8 * self.dtype.itemsize
        inside = self.e.compare("ult", b, self.const(width))
        if opcode == "shl":
            return self.e.select(inside, self.e.binary("shl", a, b), self.zero())
        most = self.e.select(inside, b, self.const(width - 1))
        if self.signed:
            return self.e.binary("ashr", a, most)
        return self.e.select(inside, self.e.binary("lshr", a, most), self.zero())

    def invert(self, x: Register) -> Register:
        return self.e.binary("xor", x, self.const(1 if self.dtype == dtypes.bool_ else -1))

    def wrap_index(self, index: Register, size: int) -> Register:
        """Negative indices count from the end."""
        if not self.signed:
            return index
        below = self.compare("lt", index, self.zero())
        return self.e.select(below, self.e.binary("add", index, self.const(size)), index)

    def bitcast(self, x: Register, dtype: DType) -> Register:
        return self.e.convert("bitcast", x, vector(REGISTER[dtype], lanes_of(x.type)))

    def cast(self, x: Register, dtype: DType) -> Register:
        return cast(self.e, x, self.dtype, dtype)


def number(e: Emitter, value: float | int | bool, dtype: DType) -> Register:
    """A number that is written out."""
    if dtype.only_stores:
        value = int(dtypes.as_stored(value, dtype).view(np.uint16))
    return e.const(value, REGISTER[dtype])


def widened(e: Emitter, words: Register) -> Register:
    """The numbers of bfloat16, as float32: their bits are the upper half."""
    wide = vector("i32", lanes_of(words.type))
    bits = e.binary("shl", e.convert("zext", words, wide), e.const(16, wide))
    return e.convert("bitcast", bits, vector("float", lanes_of(words.type)))


def narrowed(e: Emitter, x: Register) -> Register:
    """float32 as bfloat16, rounded to the nearest, of two equally near to the even one; bit for bit as `dtypes.narrowed`."""
    wide = vector("i32", lanes_of(x.type))
    bits = e.convert("bitcast", x, wide)
    last = e.binary("and", e.binary("lshr", bits, e.const(16, wide)), e.const(1, wide))
    half = e.binary("add", last, e.const(0x7FFF, wide))
    quiet = e.binary("or", bits, e.const(0x400000, wide))  # else what is kept of a NaN's bits might be infinity
    kept = e.select(e.compare("uno", x, x), quiet, e.binary("add", bits, half))
    return e.convert("trunc", e.binary("lshr", kept, e.const(16, wide)), vector("i16", lanes_of(x.type)))


def cast(e: Emitter, x: Register, source: DType, target: DType) -> Register:
    """`x` in another dtype, as C converts; floats beyond an integer's range saturate, NaN becomes 0 (see `reference.cast`)."""
    type = vector(REGISTER[target], lanes_of(x.type))
    if REGISTER[source] == REGISTER[target]:
        return x
    if source.only_stores:
        return cast(e, widened(e, x), dtypes.float32, target)
    if target.only_stores:
        return narrowed(e, cast(e, x, source, dtypes.float32))
    if target == dtypes.bool_:
        zero = e.const(0, x.type)
        return e.compare("une" if source.is_floating_point else "ne", x, zero)
    signed = source in (dtypes.int32, dtypes.int64)
    if source.is_floating_point and target.is_floating_point:
        return e.convert("fpext" if target == dtypes.float64 else "fptrunc", x, type)
    if source.is_floating_point:
        wide = dtypes.int64 if target == dtypes.uint8 else target
        whole = vector(REGISTER[wide], lanes_of(x.type))
        suffix = "f32" if source == dtypes.float32 else "f64"
        lanes = f"v{lanes_of(x.type)}" if lanes_of(x.type) > 1 else ""
        rounded = e.call(f"llvm.fptosi.sat.{lanes}{REGISTER[wide]}.{lanes}{suffix}", whole, x)
        return cast(e, rounded, wide, target)
    if target.is_floating_point:
        return e.convert("sitofp" if signed else "uitofp", x, type)
    if source.itemsize > target.itemsize:
        return e.convert("trunc", x, type)
    return e.convert("sext" if signed else "zext", x, type)


class Words:
    """32-bit words for the cipher behind the random numbers."""

    def __init__(self, e: Emitter, type: str) -> None:
        self.e, self.type = e, type

    def const(self, value: int) -> Register:
        return self.e.const(value - (1 << 32) if value >= 1 << 31 else value, self.type)

    def add(self, a: Register, b: Register) -> Register:
        return self.e.binary("add", a, b)

    def xor(self, a: Register, b: Register) -> Register:
        return self.e.binary("xor", a, b)

    def rotate(self, x: Register, by: int) -> Register:
        return self.e.intrinsic("fshl", x, x, self.const(by))


def random_bits(e: Emitter, seed: Register, step: Register, position: Register, word: int) -> Register:
    """The bits at a position of the stream (seed, step); as `ops.random` declares them."""
    words = Words(e, position.type)
    upper = e.binary("lshr", seed, e.const(32, "i64"))
    low = e.convert("trunc", seed, "i32")
    high = e.convert("trunc", e.binary("xor", step, upper), "i32")
    lanes = lanes_of(position.type)
    key = (e.splat(low, lanes), e.splat(high, lanes))
    bits: Register = threefry(words, key, (position, words.const(word)))[0]
    return bits
