"""The order of a sum, as `summation` tells it, against what compiled kernels compute: bit for bit."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler.plan.summation import Summation, fma, summation_of
from chainrule.compiler.schedule.kernels import Dot, Reduce

rng = np.random.default_rng(11)


def spread(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """Numbers of very different size, so that every other order of adding gives other bits."""
    return (rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 5, shape)).astype(dtype)


def kernel_of(compiled, kind, position=0):
    program = compiled._latest.program
    (kernel,) = [k for k in program.plan.kernels if isinstance(k.core, kind)]
    order = summation_of(kernel)
    assert order is not None
    return order


PRODUCTS = [
    (m, n, k, layout)
    for m, n, k in [(1, 1, 1), (4, 5, 3), (64, 10, 128), (128, 16, 784), (7, 33, 65), (40, 33, 65), (64, 100, 70), (1, 300, 40), (16, 2, 200), (3, 1, 70)]
    for layout in ("ab", "abT", "aTb", "aTbT")
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("m", "n", "k", "layout"), PRODUCTS)
def test_products(m, n, k, layout, dtype):
    a, b = spread(m, k, dtype=dtype), spread(k, n, dtype=dtype)
    left = cr.tensor(a.T.copy() if "aT" in layout else a)
    right = cr.tensor(b.T.copy() if "bT" in layout else b)
    compiled = cr.compile(lambda x, y: (x.T if "aT" in layout else x) @ (y.T if "bT" in layout else y))
    y = compiled(left, right).numpy()
    kinds = [type(k.core) for k in compiled._latest.program.plan.kernels if k.core is not None]
    for i, j in {(0, 0), (m - 1, n - 1), (m // 2, n // 3), (m // 3, n - 1)}:
        order = kernel_of(compiled, kinds[0], i * n + j)
        assert order.total(a[i], b[:, j]).tobytes() == y[i, j].tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 3), (64, 10), (3, 130), (200, 1), (17, 77)])
@pytest.mark.parametrize("dim", [0, 1])
def test_sums(shape, dim, dtype):
    x = spread(*shape, dtype=dtype)
    compiled = cr.compile(lambda t: t.sum(dim))
    y = compiled(cr.tensor(x)).numpy()
    if shape[dim] == 1:
        return  # no sum at all
    order = kernel_of(compiled, Reduce)
    rows = x if dim == 1 else x.T
    for i in {0, len(rows) // 2, len(rows) - 1}:
        assert order.total(rows[i], np.ones_like(rows[i])).tobytes() == y[i].tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("shape", [(300,), (2100, 1), (511, 3), (260, 3, 2)], ids=str)
def test_sums_over_the_rows_of_a_batch(shape, dtype):
    x = spread(*shape, dtype=dtype)
    compiled = cr.compile(lambda t: t.sum(0))
    y = compiled(cr.tensor(x)).numpy().ravel()
    order = kernel_of(compiled, Reduce)
    assert order.rows == shape[0]
    for i, column in enumerate(x.reshape(shape[0], -1).T):
        assert order.total(column, np.ones_like(column)).tobytes() == y[i].tobytes()


@pytest.mark.parametrize(("rows", "k", "n"), [(256, 3, 5), (766, 2, 1), (2000, 1, 4)])
def test_products_over_the_rows_of_a_batch(rows, k, n):
    x, back = spread(rows, k), spread(rows, n)
    compiled = cr.compile(lambda w, x, back: cr.vjp(lambda w: x @ w, w)[1](back)[0])
    found = compiled(cr.zeros(k, n), cr.tensor(x), cr.tensor(back)).numpy()
    order = kernel_of(compiled, Dot)
    assert (order.rows, order.fused) == (rows, True)
    for i, j in np.ndindex(k, n):
        assert order.total(x[:, i], back[:, j]).tobytes() == found[i, j].tobytes()


def test_products_are_fused_and_sums_are_not():
    compiled = cr.compile(lambda x, y: x @ y)
    compiled(cr.randn(20, 30), cr.randn(30, 20))
    assert kernel_of(compiled, Dot).fused
    assert str(Summation(8, 1, True)) == "one after the other, each product and addition rounded once"
    assert str(Summation(600, 1, rows=600)) == (
        "one after the other, 8 parts of the 600 rows each for itself, and then two and two of these, each addition rounded"
    )
    assert str(Summation(8, 4)) == "in 4 lanes, which are then added in halves, each addition rounded"


def rounded(exact: Fraction) -> np.float32:
    """The nearest float32, ties to even: by way of an integer quotient, in another way than `fma` does it."""
    if exact == 0:
        return np.float32(0)
    size = abs(exact)
    exponent = max((size.numerator.bit_length() - size.denominator.bit_length()) - 25, -149 - 3)
    while size >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while size < Fraction(2) ** (exponent + 23) and exponent > -149:
        exponent -= 1
    return np.float32(float(np.sign(exact.numerator)) * float(round(size / Fraction(2) ** exponent)) * 2.0**exponent)


floats = st.floats(width=32, allow_nan=False, allow_infinity=False).filter(lambda x: x == 0 or 1e-15 < abs(x) < 1e15)


@given(floats, floats, floats)
def test_a_fused_multiply_add_is_rounded_once(x, y, z):
    expected = rounded(Fraction(x) * Fraction(y) + Fraction(z))
    found = fma(np.float32(x), np.float32(y), np.float32(z))
    assert type(found) is np.float32
    assert found == (expected if abs(expected) >= np.finfo(np.float32).tiny else 0)


def test_a_halfway_case_that_rounding_twice_gets_wrong():
    one, tiny = np.float32(1 + 2.0**-12), np.float32(2.0**-60)
    product = Fraction(float(one)) ** 2  # 1 + 2^-11 + 2^-24: halfway between two float32
    assert fma(one, one, tiny) == rounded(product + Fraction(float(tiny))) == np.float32(1 + 2.0**-11 + 2.0**-23)
    assert np.float32(float(one) ** 2 + float(tiny)) == np.float32(1 + 2.0**-11)  # as it would be


@pytest.mark.parametrize("x", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so(x):
    np.testing.assert_equal(float(fma(np.float32(x), np.float32(2), np.float32(1))), x)
