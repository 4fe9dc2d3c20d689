"""exp, log, tanh, erf, ... written out as arithmetic, so that LLVM vectorises the loops they stand in.

Each function writes straight-line IR (selects, no branches, no calls of a C library) and works alike on
``float``, ``double`` and vectors of them. NaN propagates, infinities and the sign of zero come out as C's
library has them; subnormal inputs of logarithms and powers count as zero, as everywhere in compiled programs.

Method: range reduction after Cody & Waite ("Software Manual for the Elementary Functions", 1980) and
Tang ("Table-driven implementation of the exponential function", 1989), without tables; then a polynomial.
Each polynomial is a minimax fit of the quantity named beside it, weighted to the relative error of the
function's result, found by a Remez exchange in 60 digits; "2^-57" is that error. Integer parts of an
exponent are taken by adding 1.5 * 2^mantissa, which leaves the rounded integer in the low bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, lost_of_doubles, scalar_of, two_sum, vector

_LOG2E = 1.4426950408889634
_SQRT_HALF_BITS = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}


@dataclass(frozen=True)
class Format:
    """What the functions need to know of one floating-point format, and its polynomials."""

    integer: str
    mantissa: int
    bias: int
    smallest: float  # normal
    ln2: tuple[float, float]  # the first part times any exponent is exact
    exp_range: tuple[float, float]  # below: 0; above: infinity
    expm1_low: float  # below: -1
    tanh_high: float  # above: 1
    erf_high: float  # above: 1
    erf_centre: float
    exp: tuple[float, ...]  # (e^r - 1 - r) / r^2        on |r| <= ln(2) / 2
    log: tuple[float, ...]  # see _log_reduced
    tanh: tuple[float, ...]  # (tanh(x) / x - 1) / x^2   on x^2 <= 0.391
    erf: tuple[float, ...]  # erf(x) / x - 1             on x^2 <= 1
    log_erfc: tuple[float, ...]  # log(erfc(z + erf_centre)) on 1 <= z + erf_centre <= erf_high
    erfc_high: float  # above: 0
    erfc_turn: float  # where t is 0
    erfc: tuple[float, ...]  # (1 + 2z) exp(z^2) erfc(z) in t = (z - erfc_turn) / (z + erfc_turn), 0 <= z <= erfc_high
    sin: tuple[float, ...]  # (sin(r) / r - 1) / r^2     on |r| <= pi / 4
    cos: tuple[float, ...]  # (cos(r) - 1 + r^2/2) / r^4 on |r| <= pi / 4

    @property
    def magic(self) -> float:
        return 1.5 * 2.0**self.mantissa


FLOAT = Format(
    integer="i32",
    mantissa=23,
    bias=127,
    smallest=2.0**-126,
    ln2=(0.693145751953125, 1.4286068203094173e-06),
    exp_range=(-87.33654022216797, 88.72283172607422),
    expm1_low=-18.0,
    tanh_high=10.0,
    erf_high=4.0,
    erf_centre=2.5,
    # 2^-31
    exp=(
        0.5, 0.1666666716337204, 0.04166623577475548, 0.008333285339176655, 0.0013948819832876325,
        0.00019907837850041687,
    ),
    # (log(1 + f) - f + f^2/2) / f^3, 2^-29
    log=(
        0.3333331346511841, -0.24999983608722687, 0.20002202689647675, -0.1666950285434723,
        0.14216777682304382, -0.1237693503499031, 0.11890973895788193, -0.11851014941930771,
        0.0693734884262085,
    ),
    # 2^-27
    tanh=(
        -0.33333292603492737, 0.13331535458564758, -0.053738050162792206, 0.020614005625247955,
        -0.005662478040903807,
    ),
    # 2^-29
    erf=(
        0.12837916612625122, -0.3761262595653534, 0.11283600330352783, -0.026854444295167923,
        0.005189535673707724, -0.0008020843961276114, 7.88913166616112e-05,
    ),
    # 2^-26
    log_erfc=(
        -7.806815147399902, -5.3526787757873535, -0.9438924193382263, -0.010866655968129635,
        0.00215962715446949, -0.00041177053935825825, 8.311782585224137e-05, -1.5669731510570273e-05,
    ),
    erfc_high=10.0,
    erfc_turn=3.0,
    # 2^-28
    erfc=(
        1.2530080080032349, -0.13562113046646118, -0.04756222292780876, 0.1296462118625641,
        -0.11927399039268494, 0.06829532980918884, -0.023780789226293564, 0.002582649700343609,
        0.0019761514849960804, -0.0008211979875341058, -0.0002853347978089005,
    ),
    # 2^-36
    sin=(-0.1666666716337204, 0.008333329111337662, -0.00019839253218378872, 2.7172732188773807e-06),
    # 2^-31
    cos=(0.041666653007268906, -0.0013887649402022362, 2.44631664827466e-05),
)  # fmt: skip

DOUBLE = Format(
    integer="i64",
    mantissa=52,
    bias=1023,
    smallest=2.0**-1022,
    ln2=(0.6931471803691238, 1.9082149292705877e-10),
    exp_range=(-708.3964185322641, 709.782712893384),
    expm1_low=-38.0,
    tanh_high=20.0,
    erf_high=6.0,
    erf_centre=3.5,
    # 2^-61
    exp=(
        0.5, 0.16666666666666677, 0.041666666666666505, 0.008333333333321516, 0.0013888888888963448,
        0.00019841269886472886, 2.4801587171107182e-05, 2.7557243808392674e-06, 2.755740327191409e-07,
        2.5109193700678093e-08, 2.0875318670067526e-09,
    ),
    # (2 atanh(s) / s - 2) / s^2 in powers of s^2, 2^-65
    log=(
        0.6666666666666666, 0.40000000000004843, 0.2857142856934622, 0.22222222627710214,
        0.18181776026341212, 0.1538711258131636, 0.13248992353132413, 0.132659180401019,
    ),
    # 2^-60
    tanh=(
        -0.33333333333333326, 0.13333333333331135, -0.05396825396663323, 0.021869488480344767,
        -0.008863234445714505, 0.003592114916756426, -0.0014557297767863206, 0.0005894608632978339,
        -0.0002370202212229174, 9.154835094488918e-05, -3.01555488582141e-05, 6.020392151113683e-06,
    ),
    # 2^-62
    erf=(
        0.1283791670955126, -0.3761263890318375, 0.11283791670954885, -0.026866170645077868,
        0.0052239776248283794, -0.0008548326981423169, 0.00012055331132887413, -1.4925595770910213e-05,
        1.6461008462592439e-06, -1.6350396109483092e-07, 1.466032824399821e-08, -1.1374954862909296e-09,
        5.960685348363502e-11,
    ),
    # 2^-54
    log_erfc=(
        -14.112437402148176, -7.266099588365192, -0.966753054742133, -0.005225658221911575,
        0.0008736873229647102, -0.00014729777510055252, 2.4386375368868767e-05, -3.8895566105200705e-06,
        5.856118027144177e-07, -8.069378236941093e-08, 9.533719395856256e-09, -7.742968840147823e-10,
        -2.584074214523637e-11, 3.035622210310247e-11, -8.839401182605917e-12, 2.1488074454635664e-12,
        -4.669515284471483e-13, 4.81565383545364e-14, 1.1252577128060771e-15, 2.9107347490633853e-15,
        -8.609490104925448e-16, -1.475345259396836e-16, 4.5206316945368805e-17,
    ),
    erfc_high=27.5,
    erfc_turn=4.0,
    # 2^-58
    erfc=(
        1.2329951186255526, -0.13962111684056253, 0.015379652102619611, 0.06809705425469384,
        -0.10103906603629759, 0.09373283499830752, -0.06633036581234676, 0.03716751553816784,
        -0.01619773405661329, 0.00503196997188446, -0.0007577732943541988, -0.00019925666158366863,
        0.0001506216917434498, -2.439932787118147e-05, -1.1222060886451314e-05, 5.7099761779380854e-06,
        2.9387489865867257e-07, -8.257287926272776e-07, 7.450897692565887e-08, 1.1023341314761145e-07,
        -1.7781797458890384e-08, -1.4109079794324287e-08, 1.7791762048165555e-09, 1.2359166610864072e-09,
    ),
    # 2^-67
    sin=(
        -0.16666666666666666, 0.008333333333333325, -0.0001984126984125607, 2.7557319214338814e-06,
        -2.5052104881287405e-08, 1.6058356368981044e-10, -7.57795455452638e-13,
    ),
    # 2^-62
    cos=(
        0.04166666666666665, -0.0013888888888882785, 2.4801587294577857e-05, -2.7557315719802454e-07,
        2.08758946521042e-09, -1.1367797742109137e-11,
    ),
)  # fmt: skip

# (2 atanh(s) / s - 2 - 2/3 s^2) / s^4 in powers of s^2, 2^-64 of the whole: the tail of power's logarithm
_ATANH_TAIL = (
    0.4000000000000039, 0.2857142857099341, 0.22222222365003863, 0.1818179730003489,
    0.15386195110094072, 0.13269088464805245, 0.13090037503542326,
)  # fmt: skip


def _format(x: Register) -> Format:
    return FLOAT if scalar_of(x.type) == "float" else DOUBLE


def _integer(x: Register) -> str:
    return vector(_format(x).integer, lanes_of(x.type))


class Writer:
    """Arithmetic between values of one type and Python numbers, to let formulas read as formulas."""

    def __init__(self, e: Emitter, like: Register) -> None:
        self.e = e
        self.type = like.type
        self.format = _format(like)
        self.integer = _integer(like)

    def value(self, x: Register | float) -> Register:
        return x if isinstance(x, Register) else self.e.const(x, self.type)

    def add(self, a: Register | float, b: Register | float) -> Register:
        return self.e.binary("fadd", self.value(a), self.value(b))

    def sub(self, a: Register | float, b: Register | float) -> Register:
        return self.e.binary("fsub", self.value(a), self.value(b))

    def mul(self, a: Register | float, b: Register | float) -> Register:
        return self.e.binary("fmul", self.value(a), self.value(b))

    def div(self, a: Register | float, b: Register | float) -> Register:
        return self.e.binary("fdiv", self.value(a), self.value(b))

    def fma(self, a: Register, b: Register | float, c: Register | float) -> Register:
        return self.e.fma(a, self.value(b), self.value(c))

    def exact_fma(self, a: Register, b: Register, c: Register | float) -> Register:
        """a b + c in one rounding, on a CPU that has it."""
        return self.e.intrinsic("fma", a, b, self.value(c))

    def lost(self, a: Register, b: Register, product: Register) -> Register:
        """What the rounding of a b to `product` lost, exactly; on a CPU without fused multiply-add too."""
        if self.e.target.fuses(scalar_of(self.type)):
            return self.exact_fma(a, b, self.e.negate(product))
        if self.format is FLOAT:  # the product of two floats is a double
            wide = vector("double", lanes_of(self.type))
            left, right, there = (self.e.convert("fpext", v, wide) for v in (a, b, product))
            exact = self.e.assign(wide, f"fmul {wide} {left.name}, {right.name}")
            return self.e.convert("fptrunc", self.e.binary("fsub", exact, there), self.type)
        return lost_of_doubles(self.e, a, b, product)

    def strict(self, opcode: str, a: Register | float, b: Register | float) -> Register:
        """An addition or subtraction that must be rounded on its own, as sums of errors need."""
        a, b = self.value(a), self.value(b)
        return self.e.assign(a.type, f"{opcode} {a.type} {a.name}, {b.name}")

    def where(self, predicate: str, a: Register, b: float, then: Register | float, other: Register | float) -> Register:
        return self.e.select(self.e.compare(predicate, a, self.value(b)), self.value(then), self.value(other))

    def horner(self, x: Register, coefficients: tuple[float, ...]) -> Register:
        total = self.value(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            total = self.fma(x, total, coefficient)
        return total

    # -- bits ---------------------------------------------------------------------------
    def bits(self, x: Register) -> Register:
        return self.e.convert("bitcast", x, self.integer)

    def real(self, bits: Register) -> Register:
        return self.e.convert("bitcast", bits, self.type)

    def whole(self, opcode: str, a: Register, b: Register | int) -> Register:
        b = b if isinstance(b, Register) else self.e.const(b, self.integer)
        return self.e.binary(opcode, a, b)

    def two_sum(self, a: Register, b: Register) -> tuple[Register, Register]:
        """a + b rounded, and what the rounding lost."""
        return two_sum(self.e, a, b)

    def two_product(self, a: Register, b: Register) -> tuple[Register, Register]:
        """a * b rounded, and what the rounding lost."""
        product = self.strict("fmul", a, b)
        return product, self.lost(a, b, product)


# -- exponentials -----------------------------------------------------------------------


def _exp_reduced(w: Writer, x: Register, low: Register | None = None) -> tuple[Register, Register, Register]:
    """r, q(r) and the bits of n + magic, where x (+ low) = n ln 2 + r and e^r = 1 + r + r^2 q(r)."""
    shifted = w.fma(x, _LOG2E, w.format.magic)
    n = w.strict("fsub", shifted, w.format.magic)
    r = w.fma(n, -w.format.ln2[1], w.fma(n, -w.format.ln2[0], x))
    if low is not None:
        r = w.add(r, low)
    return r, w.horner(r, w.format.exp), w.bits(shifted)


def _power_of_two(w: Writer, shifted: Register, offset: int = 0) -> Register:
    """2^(n + offset) from the bits of n + magic, for exponents of normal numbers."""
    exponent = w.whole("add", shifted, w.format.bias + offset)
    return w.real(w.whole("shl", exponent, w.format.mantissa))


def exp(e: Emitter, x: Register) -> Register:
    """e^x; 0 where that would be subnormal."""
    return _exp(Writer(e, x), x)


def _exp(w: Writer, x: Register, low: Register | None = None) -> Register:
    r, q, shifted = _exp_reduced(w, x, low)
    mantissa = w.add(w.fma(w.mul(r, r), q, r), 1.0)
    # Added to the exponent's bits, not multiplied: 2^128 times 0.99 is a float, 2^128 is not.
    scaled = w.whole("add", w.bits(mantissa), w.whole("shl", shifted, w.format.mantissa))
    y = w.where("ogt", x, w.format.exp_range[1], math.inf, w.real(scaled))
    y = w.where("olt", x, w.format.exp_range[0], 0.0, y)
    return w.where("uno", x, 0.0, x, y)


def _exp_inside(w: Writer, x: Register) -> Register:
    """e^x for x known to lie inside the range, or NaN."""
    r, q, shifted = _exp_reduced(w, x)
    return w.mul(w.add(w.fma(w.mul(r, r), q, r), 1.0), _power_of_two(w, shifted))


def expm1(e: Emitter, x: Register) -> Register:
    """e^x - 1, exact to the last bits near zero."""
    w = Writer(e, x)
    r, q, shifted = _exp_reduced(w, w.where("olt", x, w.format.expm1_low, w.format.expm1_low, x))
    half = _power_of_two(w, shifted, -1)  # half of 2^n: 2^128 would overflow
    y = w.fma(w.fma(w.mul(r, r), q, r), half, w.sub(half, 0.5))
    y = w.where("ogt", x, w.format.exp_range[1], math.inf, w.add(y, y))
    return e.intrinsic("copysign", y, x)


def sigmoid(e: Emitter, x: Register) -> Register:
    """1 / (1 + e^-x), of |x|: so small results keep their last bits too."""
    w = Writer(e, x)
    decay = _exp(w, e.negate(e.intrinsic("fabs", x)))
    return w.div(w.where("olt", x, 0.0, decay, 1.0), w.add(decay, 1.0))


def tanh(e: Emitter, x: Register) -> Register:
    """A polynomial below 0.625, 1 - 2 / (e^2|x| + 1) above."""
    w = Writer(e, x)
    size = e.intrinsic("fabs", x)
    square = w.mul(x, x)
    small = w.fma(w.mul(size, square), w.horner(square, w.format.tanh), size)
    capped = w.where("ogt", size, w.format.tanh_high, w.format.tanh_high, size)
    large = w.sub(1.0, w.div(2.0, w.add(_exp_inside(w, w.add(capped, capped)), 1.0)))
    return e.intrinsic("copysign", w.where("olt", size, 0.625, small, large), x)


def erf(e: Emitter, x: Register) -> Register:
    """A polynomial below 1, 1 - exp(log(erfc|x|)) above, that logarithm being a polynomial too."""
    w = Writer(e, x)
    size = e.intrinsic("fabs", x)
    small = w.fma(size, w.horner(w.mul(x, x), w.format.erf), size)
    capped = w.where("ogt", size, w.format.erf_high, w.format.erf_high, size)
    tail = w.horner(w.sub(capped, w.format.erf_centre), w.format.log_erfc)
    large = w.sub(1.0, _exp_inside(w, tail))
    return e.intrinsic("copysign", w.where("olt", size, 1.0, small, large), x)


def erfc(e: Emitter, x: Register) -> Register:
    """1 - erf x, to the last bits however small: exp(-x^2) times a polynomial in (|x| - c) / (|x| + c).

    Source of the substitution: Shepherd & Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in
    0 <= x < infinity", Mathematics of Computation 36 (1981).
    """
    w = Writer(e, x)
    size = e.intrinsic("fabs", x)
    z = w.where("ogt", size, w.format.erfc_high, w.format.erfc_high, size)
    below, linear = w.add(z, w.format.erfc_turn), w.fma(z, 2.0, 1.0)
    inverse = w.div(1.0, w.mul(below, linear))
    t = w.mul(w.sub(z, w.format.erfc_turn), w.mul(linear, inverse))
    square, lost = w.two_product(z, z)
    decay = _exp(w, e.negate(square), e.negate(lost))
    tail = w.mul(w.mul(decay, w.horner(t, w.format.erfc)), w.mul(below, inverse))
    return w.where("olt", x, 0.0, w.sub(2.0, tail), tail)


# -- logarithms -------------------------------------------------------------------------


def _split_exponent(w: Writer, x: Register) -> tuple[Register, Register, Register]:
    """n, its bits in place, and m, where x = 2^n m and m lies in [sqrt(1/2), sqrt(2))."""
    bits = w.bits(x)
    above = w.whole("sub", bits, _SQRT_HALF_BITS[scalar_of(x.type)])
    place = w.whole("and", above, -(1 << w.format.mantissa))
    n = w.e.convert("sitofp", w.whole("ashr", above, w.format.mantissa), w.type)
    return n, place, w.real(w.whole("sub", bits, place))


def _log_reduced(w: Writer, n: Register, f: Register) -> Register:
    """n ln 2 + log(1 + f), for 1 + f in [sqrt(1/2), sqrt(2))."""
    half_square = w.mul(w.mul(f, f), 0.5)
    if w.format is FLOAT:
        tail = w.mul(w.mul(f, f), w.mul(f, w.horner(f, w.format.log)))
        tail = w.sub(w.fma(n, w.format.ln2[1], tail), half_square)
    else:  # by s = f / (2 + f): a division costs less than the dozen further terms that f would need
        s = w.div(f, w.add(f, 2.0))
        square = w.mul(s, s)
        inner = w.fma(square, w.horner(square, w.format.log), half_square)
        tail = w.sub(w.fma(s, inner, w.mul(n, w.format.ln2[1])), half_square)
    return w.fma(n, w.format.ln2[0], w.add(f, tail))


def _log_limits(w: Writer, x: Register, argument: Register, y: Register) -> Register:
    """log's values at infinity and NaN (themselves), at zero, and below; `x` the number whose log it is."""
    y = w.where("olt", x, math.inf, y, argument)
    y = w.where("olt", x, w.format.smallest, -math.inf, y)
    return w.where("olt", x, 0.0, math.nan, y)


def log(e: Emitter, x: Register) -> Register:
    """The natural logarithm; -inf at zero, NaN below."""
    w = Writer(e, x)
    n, _, m = _split_exponent(w, x)
    return _log_limits(w, x, x, _log_reduced(w, n, w.sub(m, 1.0)))


def log1p(e: Emitter, x: Register) -> Register:
    """log(1 + x), exact to the last bits near zero."""
    w = Writer(e, x)
    u, lost = w.two_sum(e.const(1.0, x.type), x)
    n, place, m = _split_exponent(w, u)
    # What 1 + x lost matters only while it is not far below m: the cap keeps 2^-n finite.
    limit = e.const(64 << w.format.mantissa, w.integer)
    place = e.select(e.compare("slt", place, limit), place, limit)
    one = e.const(w.format.bias << w.format.mantissa, w.integer)
    f = w.fma(lost, w.real(w.whole("sub", one, place)), w.sub(m, 1.0))
    return e.intrinsic("copysign", _log_limits(w, u, x, _log_reduced(w, n, f)), x)


# -- powers -----------------------------------------------------------------------------


def sqrt(e: Emitter, x: Register) -> Register:
    """Correctly rounded."""
    if not e.target.avx512 or e.target.quick_roots or scalar_of(x.type) != "float" or lanes_of(x.type) < 16:
        return e.intrinsic("sqrt", x)
    parts = [_refined_sqrt(Writer(e, part), part) for part in e.split(x, 16)]
    return e.join(parts)


def _refined_sqrt(w: Writer, x: Register) -> Register:
    """The same bits as the square root instruction, by multiplications, which do not wait for the divider.

    A step of Newton from 14 bits of 1 / sqrt(x), then Markstein's correction by the exact remainder ("Computation
    of elementary functions on the IBM RISC System/6000 processor", 1990); tiny numbers are scaled, since their
    remainder would be flushed to zero. Right for every float and any 14-bit start (tried exhaustively).
    """
    tiny = w.e.compare("olt", x, w.value(2.0**-100))
    x = w.e.select(tiny, w.mul(x, 2.0**64), x)
    none, all_lanes = Register("zeroinitializer", x.type), Register("-1", "i16")
    start = w.e.call("llvm.x86.avx512.rsqrt14.ps.512", x.type, x, none, all_lanes)
    root, half = w.mul(x, start), w.mul(start, 0.5)
    lost = w.exact_fma(w.e.negate(root), half, 0.5)
    root, half = w.exact_fma(root, lost, root), w.exact_fma(half, lost, half)
    root = w.exact_fma(w.exact_fma(w.e.negate(root), root, x), half, root)
    root = w.e.select(tiny, w.mul(root, 2.0**-32), root)
    name = "llvm.x86.avx512.mask.fixupimm.ps.512"  # one instruction: x itself where it is 0 or infinity
    table, no_flags, as_set = w.e.const(_ZERO_AND_INFINITY, w.integer), Register("0", "i32"), Register("4", "i32")
    return w.e.call(name, x.type, root, x, table, no_flags, all_lanes, as_set)


# What AVX-512's fix-up puts in place of a result, four bits for each class of the argument: 1 is the argument.
_ZERO_AND_INFINITY = 1 << 4 * 2 | 1 << 4 * 5


def rsqrt(e: Emitter, x: Register) -> Register:
    """1 / sqrt x, each correctly rounded."""
    return Writer(e, x).div(1.0, sqrt(e, x))


def power(e: Emitter, a: Register, b: Register) -> Register:
    """a^b as C's ``pow``: 1 for b = 0 or a = 1 whatever the other; NaN for a < 0 and b no integer.

    Floats go through double's exp and log; doubles through a logarithm of twice the precision
    (double-double, after Dekker), since an error of log a is multiplied by b log a in the result.
    """
    w = Writer(e, a)
    size = e.intrinsic("fabs", a)
    y = _power_float(e, size, b) if w.format is FLOAT else _power_double(w, size, b)
    y = w.where("oeq", size, 1.0, 1.0, y)
    floor_b = floor(e, b)
    whole = e.compare("oeq", floor_b, b)
    half = w.mul(b, 0.5)
    odd = e.binary("and", whole, e.compare("one", floor(e, half), half))
    y = e.select(odd, e.intrinsic("copysign", y, a), y)
    finite_negative = e.binary("and", e.compare("olt", a, w.value(0.0)), e.compare("ogt", a, w.value(-math.inf)))
    fraction = e.binary("xor", whole, e.const(True, whole.type))
    y = e.select(e.binary("and", finite_negative, fraction), w.value(math.nan), y)
    y = w.where("oeq", a, 1.0, 1.0, y)
    return w.where("oeq", b, 0.0, 1.0, y)


def _power_float(e: Emitter, size: Register, b: Register) -> Register:
    wide = vector("double", lanes_of(size.type))
    logarithm = log(e, e.convert("fpext", size, wide))
    product = e.binary("fmul", e.convert("fpext", b, wide), logarithm)
    return e.convert("fptrunc", exp(e, product), size.type)


def _power_double(w: Writer, size: Register, b: Register) -> Register:
    high, low = _log_twofold(w, size)
    product, lost = w.two_product(b, high)
    lost = w.fma(b, low, lost)
    # Outside exp's range the low part says nothing, and may be inf - inf.
    lost = w.e.select(w.e.compare("olt", w.e.intrinsic("fabs", product), w.value(800.0)), lost, w.value(0.0))
    return _exp(w, product, lost)


def _log_twofold(w: Writer, x: Register) -> tuple[Register, Register]:
    """log x as an unevaluated sum of two doubles, for x >= 0.

    With s = (m - 1) / (m + 1): log m = 2 s + 2/3 s^3 + s^5 B(s^2), the first two terms twofold.
    """
    n, _, m = _split_exponent(w, x)
    f = w.sub(m, 1.0)
    below = w.strict("fadd", m, 1.0)
    below_low = w.strict("fsub", m, w.strict("fsub", below, 1.0))
    inverse = w.div(1.0, below)
    s = w.strict("fmul", f, inverse)
    product, lost = w.two_product(s, below)
    remainder = w.strict("fsub", w.strict("fsub", w.strict("fsub", f, product), lost), w.mul(s, below_low))
    s_low = w.mul(remainder, inverse)
    square, square_low = w.two_product(s, s)
    square_low = w.add(square_low, w.mul(w.add(s, s), s_low))
    cube, cube_low = w.two_product(s, square)
    cube_low = w.add(cube_low, w.add(w.mul(s, square_low), w.mul(s_low, square)))
    third, third_low = w.two_product(cube, w.value(2 / 3))
    third_low = w.add(third_low, w.add(w.mul(cube_low, 2 / 3), w.mul(cube, 3.700743415417188e-17)))
    tail = w.mul(w.mul(w.mul(square, square), s), w.horner(square, _ATANH_TAIL))
    exponent = w.strict("fmul", n, w.format.ln2[0])  # exact
    total, lost_1 = w.two_sum(exponent, w.strict("fadd", s, s))
    total, lost_2 = w.two_sum(total, third)
    for term in (w.add(s_low, s_low), third_low, tail, w.mul(n, w.format.ln2[1]), lost_1):
        lost_2 = w.add(lost_2, term)
    high = w.strict("fadd", total, lost_2)
    low = w.strict("fsub", lost_2, w.strict("fsub", high, total))
    return _log_limits(w, x, x, high), low


# -- rounding ---------------------------------------------------------------------------


def floor(e: Emitter, x: Register) -> Register:
    return e.intrinsic("floor", x)


def ceil(e: Emitter, x: Register) -> Register:
    return e.intrinsic("ceil", x)


def trunc(e: Emitter, x: Register) -> Register:
    return e.intrinsic("trunc", x)


def round_even(e: Emitter, x: Register) -> Register:
    """To the nearest integer, ties to the even one, as `numpy.round` and `torch.round`."""
    return e.intrinsic("rint", x)
