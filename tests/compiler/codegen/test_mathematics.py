"""Accuracy in units of the last place, special values, and that loops vectorise without calls."""

from __future__ import annotations

import itertools
import math
import re
from functools import cache

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest

from chainrule.compiler.codegen import mathematics, trigonometry
from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.plan.target import Target
from tests.compiler.harness import Compiled, apply, elementwise, module_of

NAMES = {"float": np.float32, "double": np.float64}
erf = np.vectorize(math.erf, otypes=[np.longdouble])
erfc = np.vectorize(math.erfc, otypes=[np.longdouble])
TRUTH = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": erf,
    "erfc": erfc,
    "sin": np.sin,
    "cos": np.cos,
    "rsqrt": lambda x: 1 / np.sqrt(x),
}
CIRCLE = ("sin", "cos")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -300.0, 800.0, -800.0, 1e30, -1e30, np.inf, -np.inf, np.nan]


@cache
def compiled(name: str, scalar: str, inputs: int = 1) -> Compiled:
    return elementwise(getattr(trigonometry if name in CIRCLE else mathematics, name), scalar, inputs)


def ulps(got: np.ndarray, truth: np.ndarray) -> np.ndarray:
    rounded = truth.astype(got.dtype)
    normal = np.isfinite(rounded) & (np.abs(rounded) >= np.finfo(got.dtype).tiny)
    return np.abs(got[normal] - truth[normal]) / np.spacing(np.abs(rounded[normal]))


def arguments(name: str, dtype: type) -> np.ndarray:
    rng = np.random.default_rng(0)
    n = 4_000 if name in ("erf", "erfc") else 60_000
    tiny = rng.normal(size=n) * 10.0 ** rng.uniform(-30, -1, n)
    positive = 10.0 ** rng.uniform(-36, 36, n)
    top = 87.0 if dtype is np.float32 else 708.0
    parts = {
        "log": [positive, rng.uniform(0.3, 3, n), rng.uniform(0.99, 1.01, n)],
        "rsqrt": [positive],
        "log1p": [positive, rng.uniform(-0.999999, 3, n), tiny],
        "sin": [rng.uniform(-1e6, 1e6, n), rng.uniform(-7, 7, n), np.arange(-9999, 9999) * np.pi / 2, tiny],
        "cos": [rng.uniform(-1e6, 1e6, n), rng.uniform(-7, 7, n), np.arange(-9999, 9999) * np.pi / 2, tiny],
    }
    usual = [rng.uniform(-top, top, n), rng.uniform(-7, 7, n), rng.uniform(-1.2, 1.2, n), tiny]
    return np.concatenate(parts.get(name, usual)).astype(dtype)


@pytest.mark.parametrize("scalar", ["float", "double"])
@pytest.mark.parametrize("name", TRUTH)
def test_error_in_units_of_the_last_place(name: str, scalar: str) -> None:
    x = arguments(name, NAMES[scalar])
    with np.errstate(all="ignore"):
        truth = TRUTH[name](x.astype(np.longdouble))
    limit = {"erfc": 6.0, "sigmoid": 2.25}.get(name, 2.0) if scalar == "float" else {"erfc": 7.0}.get(name, 4.0)
    if scalar == "double" and (np.finfo(np.longdouble).nmant == 52 or name in ("erf", "erfc")):
        limit += 1.0  # the truth itself is only double
    assert ulps(apply(compiled(name, scalar), x), truth).max() <= limit


@pytest.mark.parametrize("scalar", ["float", "double"])
@pytest.mark.parametrize("name", TRUTH)
def test_special_values_as_numpy_has_them(name: str, scalar: str) -> None:
    x = np.array(SPECIAL, NAMES[scalar])
    with np.errstate(all="ignore"):
        truth = TRUTH[name](x).astype(x.dtype)
    got = apply(compiled(name, scalar), x)
    flushed = np.where(np.abs(truth) < np.finfo(x.dtype).tiny, np.copysign(0, truth), truth)
    np.testing.assert_allclose(got, flushed, rtol=4 * np.finfo(x.dtype).eps)
    zeros = got == 0
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(truth[zeros]))


def test_a_nan_with_any_payload_stays_a_nan() -> None:
    x = np.array([0x7FC00001, 0xFFC001FF, 0x7FFFFFFF], np.uint32).view(np.float32)
    for name in TRUTH:
        assert np.isnan(apply(compiled(name, "float"), x)).all(), name


def test_exp_fills_the_range_up_to_its_ends() -> None:
    x = np.array([88.72283, 88.72284, -87.3365, -87.34], np.float32)
    got = apply(compiled("exp", "float"), x)
    np.testing.assert_allclose(got[[0, 2]], np.exp(x[[0, 2]].astype(np.float64)), rtol=2e-7)
    assert got[1] == np.inf and got[3] == 0


@pytest.mark.parametrize("name", CIRCLE)
@pytest.mark.parametrize("scalar", NAMES)
def test_the_circle_is_right_for_every_finite_number(name: str, scalar: str) -> None:
    """Against 400 digits of each, at all sizes, and where multiples of pi/2 are nearest (Muller, "Elementary functions")."""
    dtype, rng = NAMES[scalar], np.random.default_rng(0)
    top = 38 if scalar == "float" else 308
    sizes = np.concatenate([10.0 ** rng.uniform(5, top, 1500), 2.0 ** np.arange(0, 3.2 * top, 3)])
    nearest = [6381956970095103 * 2.0**797, 16367173 * 2.0**72] if scalar == "double" else [16367173 * 2.0**72]
    x = np.concatenate([sizes, -sizes, nearest, [np.finfo(dtype).max]]).astype(dtype)
    with mpmath.workdps(400):
        truth = np.array([np.longdouble(mpmath.nstr(getattr(mpmath, name)(mpmath.mpf(float(v))), 25)) for v in x])
    assert ulps(apply(compiled(name, scalar), x), truth).max() <= 3.0
    assert np.isnan(apply(compiled(name, scalar), np.array([np.inf, -np.inf, np.nan], dtype))).all()


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_power_at_special_values(scalar: str) -> None:
    values = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, 2.5, -2.5, np.inf, -np.inf, np.nan]
    values += [1e30, -1e30, 1e-30, 100.0, -101.0, 1000001.0, 0.9999999]
    a, b = np.ascontiguousarray(np.array(list(itertools.product(values, values)), NAMES[scalar]).T)
    with np.errstate(all="ignore"):
        truth = np.power(a, b)
    got = apply(compiled("power", scalar, 2), a, b)
    normal = ~(np.abs(truth) < np.finfo(a.dtype).tiny) | (truth == 0)
    np.testing.assert_allclose(got[normal], truth[normal], rtol=4 * np.finfo(a.dtype).eps)
    np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(truth[got == 0]))


@pytest.mark.parametrize(("scalar", "limit"), [("float", 1.0), ("double", 4.0)])
def test_power_error(scalar: str, limit: float) -> None:
    rng = np.random.default_rng(1)
    top = 87.0 if scalar == "float" else 708.0
    a = np.concatenate([10.0 ** rng.uniform(-30, 30, 50_000), rng.uniform(0.5, 2, 50_000)])
    b = rng.uniform(-top, top, a.size) / np.log(a)
    a, b = a.astype(NAMES[scalar]), b.astype(NAMES[scalar])
    with np.errstate(over="ignore"):
        truth = a.astype(np.longdouble) ** b.astype(np.longdouble)
    assert ulps(apply(compiled("power", scalar, 2), a, b), truth).max() <= limit


def test_rounding_goes_to_even() -> None:
    x = np.array([0.5, 1.5, -0.5, -2.5, 2.4, -2.6, np.inf, 3e9], np.float32)
    rounding = {"round_even": np.round, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc}
    rounding["sqrt"] = np.sqrt
    with np.errstate(invalid="ignore"):
        for name, truth in rounding.items():
            np.testing.assert_array_equal(apply(compiled(name, "float"), x), truth(x), err_msg=name)


@pytest.mark.parametrize("lanes", [16, 64])
def test_the_square_root_without_the_divider_is_the_square_root(lanes: int) -> None:
    """Every mantissa over two powers of two (any other four times larger is the same problem), and the rest at random."""
    if not llvm.get_host_cpu_features().get("avx512f"):
        pytest.skip("needs a CPU with AVX-512; others have only the instruction")
    e, type = Emitter(Target(64, 32)), f"<{lanes} x float>"
    out, source, count = Register("%out", "ptr"), Register("%in", "ptr"), Register("%n", "i64")
    with e.loop(count, lanes) as i:
        root = mathematics.sqrt(e, e.load(e.address(source, i, "float"), type, 4))
        e.store(root, e.address(out, i, "float"), 4)
    e.ret()
    code = Compiled(module_of(e, e.function("f", [out, source, count])))
    assert "vrsqrt14ps" in code.assembly
    assert "vsqrtps" not in code.assembly
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 2.0**-126, 3.4e38] * 8, np.float32)
    random = np.random.default_rng(0).integers(0x00800000, 0x7F800000, 1 << 20, dtype=np.uint32).view(np.float32)
    for x in (np.arange(0x3F800000, 0x40800000, dtype=np.uint32).view(np.float32), random, special):
        found = np.empty_like(x)
        code.call("f", found, x, x.size)
        with np.errstate(invalid="ignore"):
            truth = np.sqrt(x)
        np.testing.assert_array_equal(found, truth)
        np.testing.assert_array_equal(np.signbit(found[truth == 0]), np.signbit(truth[truth == 0]))


@pytest.mark.parametrize("scalar", ["float", "double"])
@pytest.mark.parametrize("name", [*(name for name in TRUTH if name not in CIRCLE), "power", "floor", "round_even"])
def test_loops_vectorise_and_call_nothing(name: str, scalar: str) -> None:
    code = compiled(name, scalar, 2 if name == "power" else 1)
    assert not re.search(r"\s(call|callq|bl|blr)\s", code.assembly)
    assert f"x {scalar}>" in str(code.module)


@pytest.mark.parametrize("name", ["exp", "log1p", "tanh", "erf", "cos"])
def test_explicit_vectors_equal_scalars(name: str) -> None:
    e = Emitter()
    out, source = Register("%out", "ptr"), Register("%in", "ptr")
    x = e.load(source, "<8 x float>", 4)
    e.store(getattr(trigonometry if name in CIRCLE else mathematics, name)(e, x), out, 4)
    e.ret()
    vectors = Compiled(module_of(e, e.function("f", [out, source])))
    x8 = np.linspace(0.1, 9, 8, dtype=np.float32)
    got = np.empty_like(x8)
    vectors.call("f", got, x8)
    np.testing.assert_array_equal(got, apply(compiled(name, "float"), x8))
