"""Elementwise operations, native against NumPy, at the edges of every dtype."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor

INF, NAN = np.inf, np.nan
VALUES: dict[str, list[Any]] = {
    "float32": [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.5, 2.5, 3.7, -3.7, 1e-6, 1e6, -7e8, 3e38, INF, -INF, NAN],
    "float64": [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.5, 2.5, 3.7, -3.7, 1e-9, 1e9, -7e12, 1e300, INF, -INF, NAN],
    "int32": [0, 1, -1, 2, -2, 3, 7, -7, 31, 33, 100, 2**31 - 1, -(2**31)],
    "int64": [0, 1, -1, 2, -2, 3, 7, -7, 63, 65, 100, 2**63 - 1, -(2**63)],
    "uint8": [0, 1, 2, 3, 7, 8, 9, 100, 128, 255],
    "bool": [False, True],
}
FLOATS, INTEGERS = ("float32", "float64"), ("int32", "int64", "uint8")
NUMBERS, ALL = (*FLOATS, *INTEGERS), (*FLOATS, *INTEGERS, "bool")


def same(actual: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], ulp: int) -> None:
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected)
        return
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    known = ~np.isnan(expected)
    a, e = actual[known], expected[known]
    np.testing.assert_array_equal(np.signbit(a), np.signbit(e))
    infinite = np.isinf(e)
    np.testing.assert_array_equal(a[infinite], e[infinite])
    rest = ~infinite & (np.abs(e) >= np.finfo(e.dtype).tiny)  # denormals are flushed to zero
    np.testing.assert_allclose(a[rest], e[rest], rtol=ulp * np.finfo(e.dtype).eps, atol=0)
    assert (np.abs(a[~infinite & ~rest]) <= np.finfo(e.dtype).tiny).all()


def check(functions: dict[str, Callable[..., Tensor]], *arrays: np.ndarray[Any, Any], ulp: int = 0) -> None:
    """All functions in one program, each against its eager self."""
    inputs = [cr.tensor(a) for a in arrays]
    compiled = cr.compile(lambda *xs: {name: function(*xs) for name, function in functions.items()})(*inputs)
    for name, function in functions.items():
        try:
            same(compiled[name].numpy(), function(*inputs).numpy(), ulp)
        except AssertionError as error:
            raise AssertionError(f"{name} of {arrays[0].dtype}{arrays[0].shape}: {error}") from None


def pairs(dtype: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    a, b = zip(*itertools.product(VALUES[dtype], VALUES[dtype]), strict=True)
    return np.array(a, dtype), np.array(b, dtype)


BINARY: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "add": (lambda a, b: a + b, ALL), "sub": (lambda a, b: a - b, NUMBERS), "mul": (lambda a, b: a * b, ALL),
    "div": (lambda a, b: a / b, NUMBERS), "floor_divide": (lambda a, b: a // b, NUMBERS),
    "remainder": (lambda a, b: a % b, NUMBERS), "maximum": (lambda a, b: a.maximum(b), ALL),
    "minimum": (lambda a, b: a.minimum(b), ALL), "eq": (lambda a, b: a == b, ALL), "ne": (lambda a, b: a != b, ALL),
    "lt": (lambda a, b: a < b, ALL), "le": (lambda a, b: a <= b, ALL), "gt": (lambda a, b: a > b, ALL),
    "ge": (lambda a, b: a >= b, ALL), "and": (lambda a, b: a & b, (*INTEGERS, "bool")),
    "or": (lambda a, b: a | b, (*INTEGERS, "bool")), "xor": (lambda a, b: a ^ b, (*INTEGERS, "bool")),
    "shift_left": (lambda a, b: a << b, INTEGERS), "shift_right": (lambda a, b: a >> b, INTEGERS),
    "where": (lambda a, b: cr.where(a > b, a, b), ALL), "pow": (lambda a, b: a**b, FLOATS),
}  # fmt: skip


QUOTIENTS = {name: BINARY.pop(name)[0] for name in ("floor_divide", "remainder")}


@pytest.mark.parametrize("dtype", ALL)
def test_binary(dtype: str) -> None:
    chosen = {name: f for name, (f, dtypes) in BINARY.items() if dtype in dtypes and name != "pow"}
    check(chosen, *pairs(dtype))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_whole_quotients_of_integers(dtype: str) -> None:
    """The smallest integer over -1 does not trap."""
    a, b = pairs(dtype)
    check(QUOTIENTS, a[b != 0], b[b != 0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_whole_quotients_of_floats(dtype: str) -> None:
    check(QUOTIENTS, *pairs(dtype))
    tenths = np.array([1.0, 0.3, 2.0, -1.0], dtype)
    check(QUOTIENTS, tenths, np.full(4, 0.1, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers(dtype: str) -> None:
    check({"pow": BINARY["pow"][0]}, *pairs(dtype), ulp=8)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_powers(dtype: str) -> None:
    bases = np.array(VALUES[dtype], dtype)
    exponents = np.array([0, 1, 2, 3, 5, 31, 32, 63, 64, 65, 100] + [-1, -2] * (dtype != "uint8"), dtype)
    check({"tensor": lambda a, b: a**b}, *map(np.ravel, np.meshgrid(bases, exponents)))
    check({str(n): lambda a, n=n: a**n for n in (0, 1, 2, 3, 4, 7, 64)}, bases)


UNARY: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "neg": (lambda x: -x, NUMBERS), "abs": (lambda x: x.abs(), NUMBERS), "sign": (lambda x: x.sign(), NUMBERS),
    "floor": (lambda x: x.floor(), FLOATS), "ceil": (lambda x: x.ceil(), FLOATS),
    "trunc": (lambda x: x.trunc(), FLOATS), "round": (lambda x: x.round(), NUMBERS),
    "relu": (lambda x: x.relu(), NUMBERS), "invert": (lambda x: ~x, (*INTEGERS, "bool")),
    "clamp": (lambda x: x.clamp(1, 3), NUMBERS), "isnan": (lambda x: x.isnan(), FLOATS),
    "isinf": (lambda x: x.isinf(), FLOATS), "isfinite": (lambda x: x.isfinite(), FLOATS),
    "halved": (lambda x: x / 2, NUMBERS), "quarter": (lambda x: x / -0.25, FLOATS), "times one": (lambda x: x * 1.0, FLOATS),
    "minus zero": (lambda x: x - 0.0, FLOATS), "plus zero": (lambda x: x + 0.0, FLOATS),
    "twice negated": (lambda x: -(-x), NUMBERS), "times zero": (lambda x: x * 0.0, FLOATS),
    "over one": (lambda x: x / 1, FLOATS), "one times": (lambda x: 1 * x, NUMBERS),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ALL)
def test_unary(dtype: str) -> None:
    check({name: f for name, (f, dtypes) in UNARY.items() if dtype in dtypes}, np.array(VALUES[dtype], dtype))


FUNCTIONS = [
    "exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "erfc", "reciprocal", "log2",
]  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
def test_functions(dtype: str) -> None:
    x = np.array(VALUES[dtype], dtype)
    x = x[~(np.abs(x) > 1e4) | np.isinf(x)]  # sin and cos reduce their argument with few words
    check({name: lambda t, n=name: getattr(t, n)() for name in FUNCTIONS}, x, ulp=8)


@pytest.mark.parametrize("source", ALL)
def test_casts(source: str) -> None:
    x = np.array(VALUES[source], source)
    if source in FLOATS:  # beyond the target's range too
        edges = [
            2.0**31,
            -(2.0**31),
            2.0**31 - 1,
            2.0**32,
            2.0**63,
            -(2.0**63),
            2.0**62,
            -1.5,
            255.5,
            256.0,
            300.7,
            -300.7,
        ]
        there = np.concatenate([x, np.array(edges, source)])
        check({t: lambda x, t=t: x.to(getattr(cr, t)) for t in INTEGERS}, there)
        x = x[np.abs(x.astype("float64")) != 1e300]
        check({t: lambda x, t=t: x.to(getattr(cr, t)) for t in (*FLOATS, "bool")}, x)
    else:
        check({t: lambda x, t=t: x.to(getattr(cr, t)) for t in ALL}, x)


@pytest.mark.parametrize("target", INTEGERS)
def test_a_cast_beyond_the_range_saturates(target: str) -> None:
    x = cr.tensor([1e30, -1e30, NAN], dtype=cr.float64)
    info = np.iinfo(target)
    for way in (cr.compile(lambda t: t.to(getattr(cr, target))), lambda t: t.to(getattr(cr, target))):
        result = way(x).tolist()
        assert result == ([255, 0, 0] if target == "uint8" else [info.max, info.min, 0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_of_two_zeros_the_second_is_the_extreme(dtype: str) -> None:
    """However long the array: NumPy's choice depends on the vectors of the CPU, and on the place in them."""
    for n in (1, 3, 64, 1001):
        signs = np.resize([0.0, -0.0, -0.0], n).astype(dtype)
        for function in (lambda a, b: a.maximum(b), lambda a, b: a.minimum(b)):
            a, b = cr.tensor(signs), cr.tensor(-signs)
            for way in (function, cr.compile(function)):
                np.testing.assert_array_equal(np.signbit(way(a, b).numpy()), np.signbit(-signs))


@pytest.mark.parametrize("dtype", ALL)
def test_reductions(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for shape in [(7,), (3, 5), (2, 33), (33, 2), (1, 1), (4, 1, 3)]:
        array = rng.choice(np.array(VALUES[dtype], dtype), shape)
        if dtype in FLOATS:
            array = array + 0.0  # which of 0.0 and -0.0 is the smaller depends on the order
        named = {
            f"{name}({dim})": lambda t, n=name, d=dim: getattr(t, n)(d)
            for name in ("amax", "amin", "argmax", "argmin", "any", "all")
            for dim in (None, *range(len(shape)))
        }
        check(named, array)
        whole = rng.integers(0, 2 if dtype == "bool" else 6, shape).astype(dtype)
        check({str(dim): lambda t, d=dim: t.sum(d) for dim in (None, *range(len(shape)))}, whole)


@pytest.mark.parametrize("dtype", FLOATS)
def test_extrema_of_nan_and_infinity(dtype: str) -> None:
    rows = np.array([[1, NAN, 3], [NAN, 1, NAN], [INF, -INF, 0], [-INF, -INF, -INF], [0.0, -0.0, 0.0]], dtype)
    for name in ("argmax", "argmin", "amax", "amin", "softmax", "log_softmax", "logsumexp"):
        for dim in (0, 1):
            inputs = cr.tensor(rows)
            expected = getattr(inputs, name)(dim).numpy()
            actual = cr.compile(lambda t, n=name, d=dim: getattr(t, n)(d))(inputs).numpy()
            np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_sums_of_nothing() -> None:
    for dtype in ("float32", "int64"):
        check({"rows": lambda t: t.sum(1), "product": lambda t: t @ t.mT}, np.zeros((3, 0), dtype))
        check({"all": lambda t: t.sum(0)}, np.zeros((0,), dtype))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_integer_and_float_products(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for m, k, n in [(1, 1, 1), (3, 5, 7), (1, 9, 4), (6, 1, 2), (17, 33, 16)]:
        a, b = (rng.integers(0, 4, s).astype(dtype) for s in ((m, k), (k, n)))
        products: dict[str, Callable[..., Tensor]] = {
            "plain": lambda x, y, xt, yt: x @ y, "right": lambda x, y, xt, yt: x @ yt.T,
            "left": lambda x, y, xt, yt: xt.T @ y, "both": lambda x, y, xt, yt: xt.T @ yt.T,
        }  # fmt: skip
        check(products, a, b, np.ascontiguousarray(a.T), np.ascontiguousarray(b.T))
