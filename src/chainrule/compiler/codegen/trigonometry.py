"""sin and cos of every finite number.

Near 0 the multiples of pi/2 are taken off in parts whose products are exact (Cody & Waite). Far away, where a number
is a large multiple of pi/2 and what is left of it lies behind all digits of a double, those digits of 2/pi are
multiplied that matter, as integers (Payne & Hanek, "Radian reduction for trigonometric functions", 1983).
"""

from __future__ import annotations

import math
from functools import cache, partial

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, scalar_of, vector
from chainrule.compiler.codegen.mathematics import DOUBLE, FLOAT, Writer
from chainrule.compiler.codegen.rare import rarely

# pi/2 in parts of 25, 25 and 53 bits, and of 33, 33 and 53: the first two times a quadrant are exact
_HALF_PI = {
    "float": (1.5707963109016418, 1.5893254712295857e-08, 6.123233995736766e-17),
    "double": (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21),
}
_NEAR = {"float": 2.0**27, "double": 2.0**20}  # as long as those products are

_BITS = 1168  # of 2/pi behind the point: the last that the largest double needs is the 1161st
_TABLE = 168  # bytes, with zeros in front for numbers below 1


def sin(e: Emitter, x: Register) -> Register:
    """sin x, good to the last bits; NaN for an infinite x."""
    return Writer(e, x).where("oeq", x, 0.0, x, _circular(e, x, 0))


def cos(e: Emitter, x: Register) -> Register:
    """cos x, as good as `sin`."""
    return _circular(e, x, 1)


def _circular(e: Emitter, x: Register, turn: int) -> Register:
    """sin(x + turn pi/2)."""
    w = Writer(e, x)
    usual = _of_quadrant(w, *_quadrant(w, x), turn)  # here, where sin and cos of one number share what they can
    return e.routine("cos.patch" if turn else "sin.patch", partial(_patched, turn=turn), x, usual)


def _patched(e: Emitter, x: Register, usual: Register, turn: int) -> Register:
    far = e.compare("oge", e.intrinsic("fabs", x), e.const(_NEAR[scalar_of(x.type)], x.type))
    return rarely(e, "cos.far" if turn else "sin.far", far, usual, partial(_far, turn=turn), x)


def _quadrant(w: Writer, x: Register) -> tuple[Register, Register]:
    """The bits of n + magic, and r with x = n pi/2 + r; in double, also for floats."""
    wide = w.e.convert("fpext", x, vector("double", lanes_of(x.type))) if w.format is FLOAT else x
    d = Writer(w.e, wide)
    shifted = d.fma(wide, 2 / math.pi, d.format.magic)
    n = d.strict("fsub", shifted, d.format.magic)
    r = wide
    for part in _HALF_PI[scalar_of(x.type)]:
        r = d.fma(n, -part, r)
    return _narrowed(w, d.bits(shifted), r)


def _narrowed(w: Writer, quadrant: Register, r: Register) -> tuple[Register, Register]:
    """Both in the width of the argument."""
    if w.format is DOUBLE:
        return quadrant, r
    return w.e.convert("trunc", quadrant, w.integer), w.e.convert("fptrunc", r, w.type)


def _of_quadrant(w: Writer, quadrant: Register, r: Register, turn: int) -> Register:
    """The polynomial of the quadrant, with the quadrant's sign."""
    if turn:
        quadrant = w.whole("add", quadrant, turn)
    square = w.mul(r, r)
    sine = w.fma(w.mul(r, square), w.horner(square, w.format.sin), r)
    cosine = w.fma(w.mul(square, square), w.horner(square, w.format.cos), w.fma(square, -0.5, 1.0))
    odd = w.e.compare("ne", w.whole("and", quadrant, 1), w.e.const(0, w.integer))
    sign = w.whole("shl", w.whole("and", quadrant, 2), int(w.format.integer[1:]) - 2)
    return w.real(w.whole("xor", w.bits(w.e.select(odd, cosine, sine)), sign))


def _far(e: Emitter, x: Register, turn: int) -> Register:
    """sin(x + turn pi/2) of one number of any size."""
    w = Writer(e, x)
    wide = e.convert("fpext", x, "double") if w.format is FLOAT else x
    d = Writer(e, wide)
    product = _times_two_over_pi(d, wide)
    turns = e.binary("lshr", e.binary("add", product, e.const(1 << 189, "i192")), e.const(190, "i192"))
    left = e.binary("sub", product, e.binary("shl", turns, e.const(190, "i192")))
    below = e.compare("slt", left, e.const(0, "i192"))
    left = e.select(below, e.binary("sub", e.const(0, "i192"), left), left)
    r = d.mul(d.add(_piece(e, left, 126), _piece(e, left, 62)), math.pi / 2)
    turned = e.compare("olt", wide, d.value(0.0))  # of -x: both have the other sign
    r = e.select(e.binary("xor", below, turned), e.negate(r), r)
    quadrant = e.convert("trunc", turns, "i64")
    quadrant = e.select(turned, e.binary("sub", e.const(0, "i64"), quadrant), quadrant)
    y = _of_quadrant(w, *_narrowed(w, quadrant, r), turn)
    return w.where("ult", e.intrinsic("fabs", x), math.inf, y, math.nan)


def _times_two_over_pi(d: Writer, x: Register) -> Register:
    """|x| 2/pi modulo 4, in units of 2^-190."""
    e = d.e
    bits = e.binary("and", d.bits(x), e.const((1 << 63) - 1, "i64"))
    field = e.binary("lshr", bits, e.const(52, "i64"))
    significand = e.binary("or", e.binary("and", bits, e.const((1 << 52) - 1, "i64")), e.const(1 << 52, "i64"))
    exponent = e.binary("sub", field, e.const(1075, "i64"))  # x = significand 2^exponent
    for predicate, limit in (("slt", -60), ("sgt", 971)):  # of numbers that are not far, or none: theirs is not asked
        bound = e.const(limit, "i64")
        exponent = e.select(e.compare(predicate, exponent, bound), bound, exponent)
    # The digits before these give multiples of 4, those behind less than 2^-138.
    position = e.binary("sub", e.const(_BITS - 190, "i64"), exponent)
    place = e.address(_table(e), e.binary("lshr", position, e.const(3, "i64")), "i8")
    within = e.convert("zext", e.binary("and", position, e.const(7, "i64")), "i256")
    digits = e.convert("trunc", e.binary("lshr", e.load(place, "i256"), within), "i192")
    return e.binary("mul", digits, e.convert("zext", significand, "i192"))


def _piece(e: Emitter, left: Register, place: int) -> Register:
    """64 bits from a place on, of a number in units of 2^-190, as a double."""
    bits = e.convert("trunc", e.binary("lshr", left, e.const(place, "i192")), "i64")
    return e.binary("fmul", e.convert("uitofp", bits, "double"), e.const(2.0 ** (place - 190), "double"))


def _table(e: Emitter) -> Register:
    """The digits of 2/pi in memory, the last ones first."""
    digits = "".join(f"\\{byte:02X}" for byte in _two_over_pi(_BITS).to_bytes(_TABLE, "little"))
    e.declarations.add(f'@two_over_pi = internal constant [{_TABLE} x i8] c"{digits}"')
    return Register("@two_over_pi", "ptr")


@cache
def _two_over_pi(bits: int) -> int:
    """2/pi times 2^bits, by Machin's pi / 4 = 4 arctan(1/5) - arctan(1/239)."""
    one = 1 << (bits + 64)

    def arctan(n: int) -> int:
        total = term = one // n
        k = 1
        while term:
            term //= -n * n
            k += 2
            total += term // k
        return total

    return (2 * one << bits) // (4 * (4 * arctan(5) - arctan(239)))
