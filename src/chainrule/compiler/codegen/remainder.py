"""The remainder of a division, exact whatever the quotient.

Where the rounded quotient is off by one at most, one multiplication without rounding gives the remainder. Beyond,
where it has no fraction left, the significands are divided as integers, some bits of the quotient at a time.
"""

from __future__ import annotations

import math

from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.mathematics import DOUBLE, FLOAT, Writer, trunc
from chainrule.compiler.codegen.rare import rarely

_HUGE = 2.0**990  # halves of a larger double overflow on their way (`Writer.two_product` without multiply-add)


def fmod(e: Emitter, a: Register, b: Register) -> Register:
    """a - trunc(a / b) b as C has it: exact, of a's sign; a itself for an infinite b, NaN for b = 0 and an infinite a."""
    return e.routine("fmod", _fmod, a, b)


def _fmod(e: Emitter, a: Register, b: Register) -> Register:
    w = Writer(e, a)
    size, divisor = e.intrinsic("fabs", a), e.intrinsic("fabs", b)
    quotient = trunc(e, w.div(size, divisor))
    product, lost = w.two_product(quotient, divisor)
    rest = w.strict("fsub", w.strict("fsub", size, product), lost)
    rest = w.where("olt", rest, 0.0, w.add(rest, divisor), rest)  # the quotient was rounded up
    rest = e.select(e.compare("olt", size, divisor), size, rest)
    far = e.compare("uge", quotient, w.value(2.0 ** (w.format.mantissa - 1)))
    # What the product of smaller numbers loses is subnormal, and would be flushed to zero. A divisor of 0 is among them.
    far = e.binary("or", far, e.compare("olt", divisor, w.value(w.format.smallest * 4.0 ** (w.format.mantissa + 1))))
    if w.format is DOUBLE and not e.target.fuses("double"):
        far = e.binary("or", far, e.compare("ogt", divisor, w.value(_HUGE)))
    return e.intrinsic("copysign", rarely(e, "fmod.far", far, rest, _of_integers, size, divisor), a)


def _of_integers(e: Emitter, a: Register, b: Register) -> Register:
    """The remainder of two numbers of no sign, by their significands: (m 2^k) mod n, as many bits of 2^k at once as fit."""
    w = Writer(e, a)
    (m, of_m), (n, of_n) = (_taken_apart(w, x) for x in (a, b))
    zero, chunk = e.const(0, "i64"), e.const(63 - w.format.mantissa, "i64")
    n = e.select(e.compare("eq", n, zero), e.const(1, "i64"), n)  # division by 0 would trap
    left = e.binary("sub", of_m, of_n)
    smaller = e.compare("slt", left, zero)
    left = e.select(smaller, zero, left)
    turns = e.binary("udiv", e.binary("add", left, e.binary("sub", chunk, e.const(1, "i64"))), chunk)
    with e.fold(turns, [e.binary("urem", m, n), left]) as state:
        rest, bits = state.values
        step = e.select(e.compare("slt", bits, chunk), bits, chunk)
        rest = e.binary("urem", e.binary("shl", rest, step), n)
        state.values = [rest, e.binary("sub", bits, step)]
    found = e.select(smaller, a, _put_together(w, state.values[0], of_n))
    found = w.where("oeq", b, math.inf, a, found)
    found = w.where("ueq", b, 0.0, math.nan, found)
    return w.where("ueq", a, math.inf, math.nan, found)


def _taken_apart(w: Writer, x: Register) -> tuple[Register, Register]:
    """Significand and exponent field of a positive number, as integers of 64 bits."""
    e, mantissa = w.e, w.format.mantissa
    bits = w.bits(x) if w.format is DOUBLE else e.convert("zext", w.bits(x), "i64")
    field = e.binary("lshr", bits, e.const(mantissa, "i64"))
    fraction = e.binary("and", bits, e.const((1 << mantissa) - 1, "i64"))
    subnormal = e.compare("eq", field, e.const(0, "i64"))
    whole = e.select(subnormal, fraction, e.binary("or", fraction, e.const(1 << mantissa, "i64")))
    return whole, e.select(subnormal, e.const(1, "i64"), field)


def _put_together(w: Writer, significand: Register, field: Register) -> Register:
    """significand * 2^(field - bias - mantissa), in two steps: a double's power of two may be too small for one."""
    e, bias = w.e, w.format.bias + w.format.mantissa
    exponent = e.binary("sub", field, e.const(bias, "i64"))
    half = e.binary("ashr", exponent, e.const(1, "i64"))
    real = e.convert("uitofp", significand, "double")
    for power in (half, e.binary("sub", exponent, half)):
        shifted = e.binary("shl", e.binary("add", power, e.const(DOUBLE.bias, "i64")), e.const(DOUBLE.mantissa, "i64"))
        real = e.binary("fmul", real, e.convert("bitcast", shifted, "double"))
    return real if w.format is not FLOAT else e.convert("fptrunc", real, "float")
