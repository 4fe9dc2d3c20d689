"""Code for a CPU without fused multiply-add keeps what is promised: it is run here, where such code runs too."""

from __future__ import annotations

import math
import platform
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest

from chainrule.compiler.codegen import mathematics, remainder, trigonometry
from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.plan.summation import fma
from chainrule.compiler.plan.target import Target
from tests.compiler import harness
from tests.compiler.harness import Compiled, apply, module_of

Array = np.ndarray[Any, Any]
OLD = "nehalem"  # 2008: vectors of 16 bytes, no fused multiply-add
pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="code for x86-64")


@pytest.fixture(autouse=True)
def old_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def machine(level: int = 3) -> llvm.TargetMachine:
        return llvm.Target.from_default_triple().create_target_machine(cpu=OLD, features="", opt=level, jit=True)

    monkeypatch.setattr(harness, "machine", machine)


def compiled(function: Any, scalar: str, inputs: int = 1, lanes: int = 4) -> Compiled:
    e = Emitter(Target.of("x86_64", {"sse2": True}, OLD))
    assert not e.target.fma
    out, count = Register("%out", "ptr"), Register("%n", "i64")
    sources, type = [Register(f"%in{i}", "ptr") for i in range(inputs)], f"<{lanes} x {scalar}>"
    with e.loop(count, lanes) as i:
        values = [e.load(e.address(source, i, scalar), type, 4) for source in sources]
        e.store(function(e, *values), e.address(out, i, scalar), 4)
    e.ret()
    code = Compiled(module_of(e, e.function("f", [out, *sources, count])), speed=0, vectorize=False)
    assert "fmadd" not in code.assembly
    return code


def ulps(found: Array, truth: Array) -> Any:
    normal = np.abs(truth) >= np.finfo(found.dtype).tiny
    return (np.abs(found[normal] - truth[normal]) / np.spacing(np.abs(truth[normal].astype(found.dtype)))).max()


def exact(function: Any, *columns: Array, digits: int = 40) -> Array:
    with mpmath.workdps(digits):
        found = [function(*(mpmath.mpf(float(v)) for v in row)) for row in zip(*columns, strict=True)]
        return np.array([np.longdouble(mpmath.nstr(v, 25)) for v in found])


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_remainders_are_exact(scalar: str) -> None:
    rng, top = np.random.default_rng(0), 36 if scalar == "float" else 300
    a, b = (rng.normal(size=4000) * 10.0 ** rng.uniform(-top, top, 4000) for _ in "ab")
    b[:2000] = a[:2000] * rng.uniform(1e-7, 2, 2000)
    a, b = (v.astype(harness.NAMES[scalar]) for v in (a, b))
    truth = [math.fmod(float(x), float(y)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(apply(compiled(remainder.fmod, scalar, 2), a, b), np.array(truth, a.dtype))


@pytest.mark.parametrize("scalar", ["float", "double"])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_the_circle_is_right_far_away(name: str, scalar: str) -> None:
    rng, top = np.random.default_rng(0), 38 if scalar == "float" else 300
    x = np.concatenate([rng.normal(size=800) * 10.0 ** rng.uniform(-3, top, 800), np.arange(800) * np.pi / 2])
    x = x.astype(harness.NAMES[scalar])
    assert (
        ulps(apply(compiled(getattr(trigonometry, name), scalar), x), exact(getattr(mpmath, name), x, digits=400)) <= 4
    )


def test_powers_and_the_tail_of_erfc_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    a = 10.0 ** rng.uniform(-30, 30, 800)
    b = rng.uniform(-700, 700, 800) / np.log(a)
    assert ulps(apply(compiled(mathematics.power, "double", 2), a, b), exact(mpmath.power, a, b)) <= 4
    x = np.linspace(0, 26, 800)
    assert ulps(apply(compiled(mathematics.erfc, "double"), x), exact(mpmath.erfc, x)) <= 7
    assert (
        ulps(apply(compiled(mathematics.erfc, "float"), (x / 3).astype("f")), exact(mpmath.erfc, (x / 3).astype("f")))
        <= 7
    )


@pytest.mark.parametrize("scalar", ["float", "double"])
def test_a_multiply_add_is_rounded_once(scalar: str) -> None:
    """Also where rounding twice errs: a product half way between two numbers, and far beyond it what is added."""
    rng, kind = np.random.default_rng(0), harness.NAMES[scalar]
    bits = np.finfo(kind).nmant
    a, b, c = (rng.normal(size=4000) * 10.0 ** rng.uniform(-9, 9, 4000) for _ in "abc")
    a[:1000] = b[:1000] = 1 + 2.0 ** -(bits // 2 + 1) * rng.choice([1, -1, 3], 1000)
    c[:1000] = rng.choice([1, -1], 1000) * 2.0 ** rng.uniform(-2.5 * bits, -bits, 1000)
    c[1000:2000] = -a[1000:2000] * b[1000:2000]
    odd = [(0, 1, 0), (-0.0, 1, 0), (np.inf, 0, 1), (np.nan, 1, 1), (1, np.inf, -np.inf), (1e30, 1e30, 1), (5, 0, -0.0)]
    a[-len(odd) :], b[-len(odd) :], c[-len(odd) :] = zip(*odd, strict=True)
    a, b, c = (np.asarray(v, kind) for v in (a, b, c))
    with np.errstate(all="ignore"):
        expected, twice = np.array([fma(x, y, z) for x, y, z in zip(a, b, c, strict=True)]), a * b + c
    found = apply(compiled(lambda e, a, b, c: e.fma(a, b, c), scalar, 3), a, b, c)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[~np.isnan(found)]), np.signbit(expected[~np.isnan(expected)]))
    assert (found != twice)[:2000].sum() > 300
