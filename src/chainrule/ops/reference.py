"""NumPy references that NumPy itself does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.dtypes import narrowed, widened

# erf's rational approximations, lowest power first, from s_erf.c of FreeBSD's msun. Copyright (C) 1993 by
# Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems, Inc. business.
# Permission to use, copy, modify, and distribute this software is freely granted, provided that this
# notice is preserved.
_CENTRE = 8.45062911510467529297e-01  # about erf(1)
_NEAR = (  # |x| < 0.84375, in x^2
    (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
     -5.77027029648944159157e-03, -2.37630166566501626084e-05),
    (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
     1.32494738004321644526e-04, -3.96022827877536812320e-06),
)  # fmt: skip
_MIDDLE = (  # |x| < 1.25, in |x| - 1
    (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01,
     3.18346619901161753674e-01, -1.10894694282396677476e-01, 3.54783043256182359371e-02,
     -2.16637559486879084300e-03),
    (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
     1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02),
)  # fmt: skip
_FAR = (  # |x| < 1 / 0.35, in 1 / x^2
    (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e01,
     -6.23753324503260060396e01, -1.62396669462573470355e02, -1.84605092906711035994e02,
     -8.12874355063065934246e01, -9.81432934416914548592e00),
    (1.0, 1.96512716674392571292e01, 1.37657754143519042600e02, 4.34565877475229228821e02,
     6.45387271733267880336e02, 4.29008140027567833386e02, 1.08635005541779435134e02,
     6.57024977031928170135e00, -6.04244152148580987438e-02),
)  # fmt: skip
_TAIL = (  # beyond, in 1 / x^2
    (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e01,
     -1.60636384855821916062e02, -6.37566443368389627722e02, -1.02509513161107724954e03,
     -4.83519191608651397019e02),
    (1.0, 3.03380607434824582924e01, 3.25792512996573918826e02, 1.53672958608443695994e03,
     3.19985821950859553908e03, 2.55305040643316442583e03, 4.74528541206955367215e02,
     -2.24409524465858183362e01),
)  # fmt: skip


CLOSED = -1000.0  # exp of it is 0 in any dtype


def mish(x: Any) -> Any:
    """``max(x, 0) + z n / d`` with ``z = -|x|``, ``e = exp(z)``; of a complex number too.

    n is ``e^2 + 2e`` up to 0 and ``2 e^2`` above, d is n + 2 and n + 2e + 1: each tail is what it differs from its line by.
    """
    low, above = x.real <= 0, x.real > 0
    z = np.where(low, x, -x)
    z = np.where(z.real < CLOSED, CLOSED, z)
    e = np.exp(z)
    square, twice = e * e, e * 2
    part = square + np.where(low, twice, square)
    share = part / (part + np.where(above, twice + 1, 2.0))
    return np.asarray(np.where(above, x, 0.0) + z * share, x.dtype)


def frexp(x: Any) -> tuple[Any, Any]:
    """NumPy's, with the exponent 0 for what is not finite, where C leaves it open."""
    mantissa, exponent = np.frexp(x)
    return mantissa, np.where(np.isfinite(x), exponent, 0)


def erf(x: Any) -> Any:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, within an ulp in float64; of a complex number too."""
    if np.iscomplexobj(x):
        return np.where(np.abs(x.real) < 2, _erf_series(x), 1 - _erfc_fraction(x))
    flat = np.atleast_1d(np.asarray(x, np.float64))
    size = np.abs(flat)
    result = np.where(np.isnan(flat), flat, np.sign(flat))
    near, above = size < 0.84375, (size >= 0.84375) & (size < 6)
    result[near] = flat[near] + flat[near] * _ratio(_NEAR, flat[near] ** 2)
    result[above] *= 1 - _erfc_above(size[above])
    return result.reshape(np.shape(x)).astype(x.dtype)


def erfc(x: Any) -> Any:
    """1 - erf(x), to the last digits however small it is; of a complex number too."""
    if np.iscomplexobj(x):
        return np.where(np.abs(x.real) < 2, 1 - _erf_series(x), _erfc_fraction(x))
    flat = np.atleast_1d(np.asarray(x, np.float64))
    size = np.abs(flat)
    result = np.where(np.isnan(flat), flat, np.where(flat < 0, 2.0, 0.0))
    near, beyond = size < 0.84375, (size >= 0.84375) & (flat > -6) & (flat < 28)
    middle = flat[near]
    result[near] = (0.5 - middle) + (0.5 - middle * _ratio(_NEAR, middle * middle))
    if beyond.any():
        above = _erfc_above(size[beyond])
        result[beyond] = np.where(flat[beyond] < 0, 2 - above, above)
    return result.reshape(np.shape(x)).astype(x.dtype)


def _erfc_above(size: Any) -> Any:
    """erfc from 0.84375 on."""
    result = np.empty_like(size)
    middle = size < 1.25
    result[middle] = (1 - _CENTRE) - _ratio(_MIDDLE, size[middle] - 1)
    for part, coefficients in ((~middle & (size < 1 / 0.35), _FAR), (size >= 1 / 0.35, _TAIL)):
        z = size[part]
        if not z.size:
            continue
        short = z.astype(np.float32).astype(np.float64)  # its square is exact
        exponent = (short - z) * (short + z) + _ratio(coefficients, 1 / (z * z))
        result[part] = np.exp(-short * short - 0.5625) * np.exp(exponent) / z
    return result


def _erf_series(z: Any) -> Any:
    """2/sqrt(pi) exp(-z^2) times the sum of 2^n z^(2n+1) / (2n+1)!!, which has no terms of two signs near the reals."""
    term = total = z
    for n in range(1, 60):
        term = term * (2 * z * z / (2 * n + 1))
        total = total + term
    return 2 / np.sqrt(np.pi) * np.exp(-z * z) * total


def _erfc_fraction(z: Any) -> Any:
    """exp(-z^2)/sqrt(pi) times Laplace's continued fraction 1/(z + (1/2)/(z + 1/(z + (3/2)/(z + ...)))), for |Re z| >= 2."""
    turned = np.where(z.real < 0, -z, z)
    below = turned
    for k in range(120, 0, -1):
        below = turned + k / 2 / below
    tail = np.exp(-turned * turned) / (np.sqrt(np.pi) * below)
    return np.where(z.real < 0, 2 - tail, tail)


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], x: Any) -> Any:
    above, below = coefficients
    return _polynomial(above, x) / _polynomial(below, x)


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """Its value by Horner's rule; `np.polyval` takes several times as long for what fits a cache."""
    result = x * coefficients[-1]
    result += coefficients[-2]
    for c in coefficients[-3::-1]:
        result *= x
        result += c
    return result


def power(a: Any, b: Any) -> Any:
    """NumPy's power; an integer to a negative power is its truncated reciprocal, as in PyTorch."""
    if b.dtype.kind != "i" or not (b < 0).any():
        return np.power(a, b)
    reciprocal = np.where(a == 1, 1, np.where(a == -1, 1 - 2 * (b % 2), 0))
    return np.where(b < 0, reciprocal, np.power(a, np.maximum(b, 0)))


def maximum(a: Any, b: Any) -> Any:
    """The larger, NaN where one is NaN; of 0.0 and -0.0 the second, on every CPU (NumPy's choice depends on it)."""
    return _second_of_equals(np.maximum(a, b), a, b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller, as `maximum`."""
    return _second_of_equals(np.minimum(a, b), a, b)


def _second_of_equals(best: Any, a: Any, b: Any) -> Any:
    return best if best.dtype.kind != "f" or best.all() else np.where(a == b, b, best)


def cast(x: Any, dtype: Any) -> Any:
    """`x` in another dtype. Of floats beyond an integer's range its end, of NaN 0, on every CPU (C leaves both open).

    uint8 is reached by way of int64, of which it has the last bits, bfloat16 by way of float32.
    """
    if x.dtype.kind == "V":
        return cast(widened(x), dtype)
    if dtype.kind == "V":
        return narrowed(cast(x, np.dtype(np.float32)))
    if x.dtype.kind != "f" or dtype.kind not in "iu":
        with np.errstate(over="ignore", invalid="ignore"):
            return x.astype(dtype)
    wide = np.dtype(np.int64) if dtype.kind == "u" else dtype
    end = 2.0 ** (8 * wide.itemsize - 1)
    with np.errstate(invalid="ignore"):
        if not x.size or (x.min() >= -end and x.max() < end):
            return x.astype(wide).astype(dtype, copy=False)
        inside, info = (x >= -end) & (x < end), np.iinfo(wide)
        ends = np.where(x >= end, info.max, np.where(x < -end, info.min, 0))
        return np.where(inside, np.where(inside, x, 0).astype(wide), ends).astype(dtype)


def relu(x: Any) -> Any:
    """x where positive, NaN where NaN, else 0.0, also for -0.0: whose sign `np.maximum` leaves to the CPU."""
    zero = _ZEROS.get(x.dtype)
    if zero is None:
        return np.where(x <= 0, x.dtype.type(0), x)
    found = np.maximum(x, zero)
    found += zero
    return found


# arrays, since NumPy takes three times as long beside one of its scalars; of the dtypes that have an order
_ZEROS = {np.dtype(kind): np.zeros((), kind) for kind in "fdilqB"}


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), without overflow; of a complex number too."""
    small = np.exp(np.where(x.real >= 0, -x, x) if np.iscomplexobj(x) else -np.abs(x))
    return np.where(x.real >= 0, 1, small) / (1 + small)
