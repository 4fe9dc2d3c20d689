"""Tensor's functions of one element that are made of other ones: trigonometry, hyperbolas, gamma, and their kin.

Where a formula for the value has a derivative that is less accurate than the function, it has one of its own, in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from chainrule import dtypes, graph
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Handle, Operand, apply, number
from chainrule.tensor.creation import given, tensor
from chainrule.tensor.operands import as_dtype_tensor, as_operand, check_written, common_dtype, elementwise
from chainrule.tensor.pointwise import Pointwise
from chainrule.tensor.rounding import rounded_once

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

Slope = Callable[..., Any]

# atan(x) = x + x z P(z) / Q(z) with z = x^2, for |x| <= 0.66: the coefficients are those of atan.c in the Cephes library
# (Moshier, "Methods and Programs for Mathematical Functions", 1989), highest power first.
_ATAN_P = (
    -8.750608600031904122785e-1, -1.615753718733365076637e1, -7.500855792314704667340e1, -1.228866684490136173410e2,
    -6.485021904942025371773e1,
)  # fmt: skip
_ATAN_Q = (
    1.0, 2.485846490142306297962e1, 1.650270098316988542046e2, 4.328810604912902668951e2, 4.853903996359136964868e2,
    1.945506571482613964425e2,
)  # fmt: skip
_ATAN_REST = 6.123233995736765886130e-17  # what pi / 2 is beyond its float64
_STEEP = 2.41421356237309504880  # tan(3 pi / 8): beyond it, atan(x) = pi / 2 - atan(1 / x)

# Lanczos's series for gamma with g = 7 (Godfrey, "A note on the computation of the convergent Lanczos complex Gamma
# approximation", 2001): within 1e-15.
_LANCZOS = (
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
)  # fmt: skip
# digamma(x) = ln x - 1 / (2 x) - sum of B_2k / (2 k x^2k): Abramowitz and Stegun, 6.3.18.
_DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
_TRIGAMMA = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)  # the numbers B_2k: 6.4.12 there
_SHIFTS = 10  # the series begins here

# erfinv: Giles, "Approximating the erfinv function", GPU Computing Gems, 2011; what is missing to float64 Newton's steps add.
_ERFINV_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
_ERFINV_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip


class Special(Pointwise):
    """Functions of one element made of the elementary ones."""

    __slots__ = ()

    # -- angles ------------------------------------------------------------------------------------------------
    @rounded_once
    def tan(self) -> Tensor:
        """The tangent of x in radians."""
        x = _floating(self)
        return x.sin() / x.cos()

    @rounded_once
    def atan(self) -> Tensor:
        """The angle in (-pi/2, pi/2) whose tangent is x.

        >>> import chainrule as cr
        >>> cr.tensor([0.0, 1.0]).atan()
        tensor([0.0000, 0.7854])
        """
        return _with_slopes(_atan, lambda Y, x: (1 / (1 + x * x),), _floating(self))

    @rounded_once
    def asin(self) -> Tensor:
        """The angle in [-pi/2, pi/2] whose sine is x."""
        value = lambda x: 2 * _atan(x / (1 + ((1 - x) * (1 + x)).sqrt()))  # noqa: E731
        return _with_slopes(value, lambda Y, x: (((1 - x) * (1 + x)).rsqrt(),), _floating(self))

    @rounded_once
    def acos(self) -> Tensor:
        """The angle in [0, pi] whose cosine is x."""
        value = lambda x: 2 * _atan(((1 - x) / (1 + x)).sqrt())  # noqa: E731
        return _with_slopes(value, lambda Y, x: (-((1 - x) * (1 + x)).rsqrt(),), _floating(self))

    @rounded_once
    def atan2(self, other: Tensor) -> Tensor:
        """The angle of the point (other, x), in (-pi, pi]; at (0, 0), which has none, with the derivatives 0."""
        return _with_slopes(_atan2, _atan2_slopes, *_both(self, other, "atan2"))

    arcsin, arccos, arctan, arctan2 = asin, acos, atan, atan2

    def deg2rad(self) -> Tensor:
        """Degrees as radians."""
        return self * (math.pi / 180)

    def rad2deg(self) -> Tensor:
        """Radians as degrees."""
        return self * (180 / math.pi)

    @rounded_once
    def sinc(self) -> Tensor:
        """sin(pi x) / (pi x), 1 at 0."""
        return _with_slopes(_sinc, lambda Y, x: (_sinc_slope(Y, x),), _floating(self))

    # -- hyperbolas --------------------------------------------------------------------------------------------------
    @rounded_once
    def sinh(self) -> Tensor:
        """(exp(x) - exp(-x)) / 2."""
        return _with_slopes(_sinh, lambda Y, x: (x.cosh(),), _floating(self))

    @rounded_once
    def cosh(self) -> Tensor:
        """(exp(x) + exp(-x)) / 2."""
        return _with_slopes(_cosh, lambda Y, x: (x.sinh(),), _floating(self))

    @rounded_once
    def asinh(self) -> Tensor:
        """The number whose sinh is x."""
        return _with_slopes(_asinh, lambda Y, x: (1 / _root(x, 1.0),), _floating(self))

    @rounded_once
    def acosh(self) -> Tensor:
        """The number, 0 or more, whose cosh is x."""
        return _with_slopes(_acosh, lambda Y, x: ((x - 1).rsqrt() * (x + 1).rsqrt(),), _floating(self))

    @rounded_once
    def atanh(self) -> Tensor:
        """The number whose tanh is x."""
        value = lambda x: 0.5 * (x.log1p() - (-x).log1p())  # noqa: E731
        return _with_slopes(value, lambda Y, x: (1 / ((1 - x) * (1 + x)),), _floating(self))

    arcsinh, arccosh, arctanh = asinh, acosh, atanh

    # -- powers and logarithms -----------------------------------------------------------------------------------------
    @rounded_once
    def exp2(self) -> Tensor:
        """2 to the power x."""
        return elementwise(ew.pow, 2.0, _floating(self))

    def float_power(self, exponent: Operand) -> Tensor:
        """x to a power, in float64."""
        power = as_operand(exponent, "float_power")
        return self.double() ** (power._tensor.double() if isinstance(power, Handle) else power)

    @rounded_once
    def logaddexp(self, other: Tensor) -> Tensor:
        """log(exp(x) + exp(other)), without overflow.

        >>> import chainrule as cr
        >>> cr.tensor(1000.0).logaddexp(cr.tensor(1000.0))
        tensor(1000.6932)
        """
        a, b = _both(self, other, "logaddexp")
        apart = (a - b).abs().masked_fill(a == b, 0)  # equal infinities too
        return a.maximum(b) + (-apart).exp().log1p()

    @rounded_once
    def logaddexp2(self, other: Tensor) -> Tensor:
        """log2(2^x + 2^other), without overflow."""
        a, b = _both(self, other, "logaddexp2")
        return (a * math.log(2)).logaddexp(b * math.log(2)) / math.log(2)

    @rounded_once
    def logit(self, eps: float | None = None) -> Tensor:
        """log(x / (1 - x)), of x brought into [eps, 1 - eps] if that is given."""
        x = _floating(self)
        x = x if eps is None else x.clamp(number(eps, "logit", "eps"), 1 - number(eps, "logit", "eps"))
        inside = lambda Y, x: ((1 / (x * (1 - x))).masked_fill((x < 0) | (x > 1), math.nan),)  # noqa: E731
        return _with_slopes(lambda x: (x / (1 - x)).log(), inside, x)

    def xlogy(self, other: Operand) -> Tensor:
        """x * log(other), 0 where x is 0 (but NaN where `other` is)."""
        a, b = _both(self, other, "xlogy")
        return _with_slopes(_xlogy, lambda Y, a, b: (b.log().masked_fill((a == 0) & (b <= 0), 0), a / b), a, b)

    @rounded_once
    def hypot(self, other: Tensor) -> Tensor:
        """sqrt(x^2 + other^2), without overflow."""
        a, b = _both(self, other, "hypot")
        return _with_slopes(_hypot, lambda Y, a, b: (_share(a, Y), _share(b, Y)), a, b)

    def ldexp(self, other: Tensor) -> Tensor:
        """x * 2 ** other."""
        return self * given(other, "ldexp", "other").float().exp2()

    # -- gamma and the error function, computed in float64 ---------------------------------------------------------------
    def lgamma(self) -> Tensor:
        """The logarithm of |gamma(x)|.

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 5.0]).lgamma()
        tensor([0.0000, 3.1781])
        """
        return _in_float64(_lgamma, lambda Y, x: (x.digamma(),), self)

    def digamma(self) -> Tensor:
        """The derivative of lgamma."""
        return _in_float64(_digamma, lambda Y, x: (_trigamma(x.double()).to(x.dtype),), self)

    def erfinv(self) -> Tensor:
        """The number whose erf is x; infinite at -1 and 1, NaN beyond.

        >>> import chainrule as cr
        >>> cr.tensor([0.0, 0.5]).erfinv()
        tensor([0.0000, 0.4769])
        """
        return _in_float64(_erfinv, lambda Y, x: (math.sqrt(math.pi) / 2 * (Y * Y).exp(),), self)

    # -- signs and parts -------------------------------------------------------------------------------------------------
    def signbit(self) -> Tensor:
        """True where x has a minus sign, also -0.0."""
        if not self.dtype.is_floating_point:
            return self < 0 if self.dtype is not dtypes.bool_ else self != self._tensor
        wide = self.float() if self._node.dtype.only_stores else self._tensor
        return apply(ew.bitcast, wide, dtype=dtypes.int64 if wide.dtype is dtypes.float64 else dtypes.int32) < 0

    @rounded_once
    def copysign(self, other: Operand) -> Tensor:
        """|x| with the sign of `other`."""
        a, b = _both(self, other, "copysign")
        size, minus = a.abs(), b.signbit()
        return (-size).where(minus, size)

    def sgn(self) -> Tensor:
        """-1, 0 or 1; 0 for NaN."""
        return self.sign()

    def fix(self) -> Tensor:
        """x without its fraction."""
        return self.trunc()

    def frac(self) -> Tensor:
        """The fraction of x, with its sign."""
        return self - self.trunc()

    def fmod(self, other: Operand) -> Tensor:
        """What is left of x after whole multiples of `other`, with the sign of x."""
        wanted = as_operand(other, "fmod")
        check_written(wanted, self.dtype, "fmod")
        size = abs(wanted)  # type: ignore[arg-type]
        return (-((-self) % size)).where(self < 0, self % size)

    def heaviside(self, values: Tensor) -> Tensor:
        """0 where x is negative, 1 where positive, `values` where it is 0."""
        ones = (self > 0).to(self.dtype)
        return given(values, "heaviside", "values").where(self == 0, ones).where(~self.isnan(), self._tensor)

    def nan_to_num(self, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Tensor:
        """Numbers in place of NaN (0) and of the infinities (the largest and the smallest there are)."""
        if not self.dtype.is_floating_point:
            return self._tensor.clone()
        most = dtypes.limits(self.dtype).max
        x = self.masked_fill(self.isnan(), 0.0 if nan is None else nan)
        x = x.masked_fill(self.isposinf(), most if posinf is None else posinf)
        return x.masked_fill(self.isneginf(), -most if neginf is None else neginf)

    def isposinf(self) -> Tensor:
        """True where x is infinity."""
        return self == math.inf

    def isneginf(self) -> Tensor:
        """True where x is minus infinity."""
        return self == -math.inf

    def isreal(self) -> Tensor:
        """True: there are no complex numbers here."""
        return (self == self._tensor) | True

    def positive(self) -> Tensor:
        """x itself."""
        return self._tensor

    def fmax(self, other: Tensor) -> Tensor:
        """The larger of two; where one is NaN, the other."""
        a, b = _both(self, other, "fmax", floating=False)
        return a.where((a >= b) | b.isnan(), b)

    def fmin(self, other: Tensor) -> Tensor:
        """The smaller of two; where one is NaN, the other."""
        a, b = _both(self, other, "fmin", floating=False)
        return a.where((a <= b) | b.isnan(), b)

    def is_complex(self) -> bool:
        """False."""
        return False

    def is_signed(self) -> bool:
        """Whether the dtype has negative numbers."""
        return self.dtype not in (dtypes.bool_, dtypes.uint8)

    def is_nonzero(self) -> bool:
        """Whether the one element is not zero."""
        return bool(self.item() != 0)

    def is_same_size(self, other: Tensor) -> bool:
        """Whether both have one shape."""
        return self.shape == other.shape


# -- what formulas are made of ---------------------------------------------------------------------------------------


def _floating(x: Handle) -> Tensor:
    return x._tensor if x.dtype.is_floating_point else x._tensor.to(dtypes.float32)


def _both(a: Handle, b: Operand, name: str, floating: bool = True) -> tuple[Tensor, Tensor]:
    """Two operands in one dtype."""
    other = as_operand(b, name)
    dtype = common_dtype((a, other))
    if floating and not dtype.is_floating_point:
        dtype = dtypes.float32
    return as_dtype_tensor(a, dtype)._tensor, as_dtype_tensor(other, dtype)._tensor


def _with_slopes(value: Callable[..., Tensor], slopes: Slope, *inputs: Tensor) -> Tensor:
    """``value(*inputs)`` with these derivatives: ``slopes(Y, *inputs)``."""
    with graph.grad_mode(False):
        found = value(*inputs)

    def rule(dY: Tensor, Y: Tensor, *xs: Tensor) -> tuple[Tensor, ...]:
        parts = (dY * slope for slope in slopes(Y, *xs))
        return tuple(part.sum_to_size(x.shape) for part, x in zip(parts, xs, strict=True))

    return apply(ew.custom, found.detach(), *inputs, rule=rule)


def _in_float64(value: Callable[[Tensor], Tensor], slopes: Slope, x: Handle) -> Tensor:
    floating = _floating(x)
    return _with_slopes(lambda given: value(given.double()).to(floating.dtype), slopes, floating)


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """Highest power first."""
    total: Any = coefficients[0]
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    result: Tensor = total
    return result


def _share(a: Tensor, norm: Tensor) -> Tensor:
    """a / norm, 0 where both are 0."""
    return (a / norm).masked_fill(norm == 0, 0)


# -- the values ----------------------------------------------------------------------------------------------------------


def _atan(x: Tensor) -> Tensor:
    size = x.abs()
    steep, middle = size > _STEEP, size > 0.66
    one, below = tensor(1.0, x.dtype), (size - 1) / (size + 1)
    reduced = (-1 / size.where(steep, one)).where(steep, below.where(middle, size))
    z = reduced * reduced
    angle = reduced + reduced * (z * (_polynomial(_ATAN_P, z) / _polynomial(_ATAN_Q, z)))
    rest = angle + _ATAN_REST
    angle = (rest + math.pi / 2).where(steep, (angle + 0.5 * _ATAN_REST + math.pi / 4).where(middle, angle))
    return angle.copysign(x)


def _atan2(y: Tensor, x: Tensor) -> Tensor:
    width, height = x.abs(), y.abs()
    larger, smaller = width.maximum(height), width.minimum(height)
    alike = width == height  # both zero, and both infinite
    ratio = (smaller / larger).masked_fill(alike, 1.0).masked_fill(larger == 0, 0.0)
    angle = _atan(ratio)
    angle = (math.pi / 2 - angle).where(height > width, angle)
    angle = (math.pi - angle).where(x.signbit(), angle)
    return angle.copysign(y).where(~(x.isnan() | y.isnan()), x + y)


def _atan2_slopes(Y: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    square = x * x + y * y
    nearest = square.masked_fill(square == 0, 1)
    return x / nearest, -y / nearest


def _sinc(x: Tensor) -> Tensor:
    angle, nothing = x * math.pi, x == 0
    return (angle.sin() / angle.masked_fill(nothing, 1)).masked_fill(nothing, 1)


def _sinc_slope(Y: Tensor, x: Tensor) -> Tensor:
    """(cos(pi x) - Y) / x, and near 0, where that cancels, its series."""
    angle = x * math.pi
    near, square = angle.abs() < 0.5, angle * angle
    series = (
        math.pi
        * angle
        * _polynomial((-1 / 93405312000, 1 / 518918400, -1 / 3991680, 1 / 45360, -1 / 840, 1 / 30, -1 / 3), square)
    )
    return series.where(near, (angle.cos() - Y) / x.masked_fill(near, 1))


def _sinh(x: Tensor) -> Tensor:
    size = x.abs()
    half = (size / 2).exp()
    grown = size.clamp(max=20.0).expm1()
    near = (grown + grown / (grown + 1)) / 2
    return (half / 2 * half).where(size > 20, near).copysign(x)


def _cosh(x: Tensor) -> Tensor:
    half = (x.abs() / 2).exp()
    return half / 2 * half + 0.5 / half / half


def _root(x: Tensor, c: float) -> Tensor:
    """sqrt(x^2 + c^2)."""
    return x.hypot(x.new_full((), c))


def _asinh(x: Tensor) -> Tensor:
    size = x.abs()
    far = size > 1e8
    near = size.masked_fill(far, 0)
    small = (near + near * near / (1 + (1 + near * near).sqrt())).log1p()
    return (size.log() + math.log(2)).where(far, small).copysign(x)


def _acosh(x: Tensor) -> Tensor:
    far = x > 1e8
    over = (x - 1).masked_fill(far, 0)
    return (x.log() + math.log(2)).where(far, (over + over.sqrt() * (over + 2).sqrt()).log1p())  # NaN below 1


def _xlogy(a: Tensor, b: Tensor) -> Tensor:
    nothing = (a == 0) & ~b.isnan()
    return (a * b.masked_fill(nothing, 1).log()).masked_fill(nothing, 0)


def _hypot(a: Tensor, b: Tensor) -> Tensor:
    width, height = a.abs(), b.abs()
    larger, smaller = width.maximum(height), width.minimum(height)
    ratio = (smaller / larger).masked_fill(larger == 0, 0.0).masked_fill(smaller == math.inf, 1.0)
    return (larger * (1 + ratio * ratio).sqrt()).masked_fill((width == math.inf) | (height == math.inf), math.inf)


def _lgamma(x: Tensor) -> Tensor:
    mirrored = x < 0.5
    z = (1 - x).where(mirrored, x) - 1
    total = z * 0 + _LANCZOS[0]
    for k, coefficient in enumerate(_LANCZOS[1:], 1):
        total = total + coefficient / (z + k)
    t = z + 7.5
    value = 0.5 * math.log(2 * math.pi) + ((z + 0.5) * (t.log() - 1) - 7.0) + total.log()
    value = value.masked_fill(z == math.inf, math.inf)
    turn = (math.pi * (x - x.round())).sin().abs()
    value = (math.log(math.pi) - turn.log() - value).where(mirrored, value)
    return value.masked_fill(x == -math.inf, math.inf)


def _digamma(x: Tensor) -> Tensor:
    mirrored = x < 0.5
    z = (1 - x).where(mirrored, x)
    total = -1 / z
    for k in range(1, _SHIFTS):
        total = total - 1 / (z + k)
    far = z + _SHIFTS
    square = 1 / (far * far)
    series = _polynomial(tuple(reversed(_DIGAMMA)), square) * square
    value = total + far.log() - 0.5 / far - series
    turn = math.pi * (x - x.round())
    there = mirrored & (turn != 0)
    angle = turn.where(there, 1.0)
    reflected = (value - math.pi * angle.cos() / angle.sin()).masked_fill(turn == 0, math.nan)
    return (-1 / x).where(x == 0, reflected.where(mirrored, value))


def _trigamma(x: Tensor) -> Tensor:
    mirrored = x < 0.5
    z = (1 - x).where(mirrored, x)
    total = 1 / (z * z)
    for k in range(1, _SHIFTS):
        total = total + 1 / ((z + k) * (z + k))
    far = 1 / (z + _SHIFTS)
    square = far * far
    value = total + far + square / 2 + _polynomial(tuple(reversed(_TRIGAMMA)), square) * square * far
    sine = (math.pi * (x - x.round())).sin()
    return (math.pi**2 / (sine * sine) - value).where(mirrored, value)


def _erfinv(x: Tensor) -> Tensor:
    size = x.abs()
    inside = size < 1
    a = size.masked_fill(~inside, 0)
    w = -((1 - a) * (1 + a)).log()
    y = _polynomial(_ERFINV_CENTRE, w - 2.5).where(w < 5, _polynomial(_ERFINV_TAIL, w.sqrt() - 3)) * a
    for _ in range(2):
        missing = (a - y.erf()).where(a < 0.5, y.erfc() - (1 - a))
        y = y + missing * (math.sqrt(math.pi) / 2 * (y * y).exp())
    edge = (size * math.inf).where(size == 1, math.nan)
    return y.where(inside, edge).copysign(x)
