"""The remainder is exact for every quotient, in a program and on a CPU without fused multiply-add."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler.codegen import remainder
from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.plan.target import Target
from tests.compiler.harness import Compiled, module_of

Array = np.ndarray[Any, Any]
DTYPES = [np.float32, np.float64]
SCALARS = {np.float32: "float", np.float64: "double"}


def pairs(dtype: Any) -> tuple[Array, Array]:
    """Ordinary quotients, large ones, and the largest that there are."""
    rng, top = np.random.default_rng(0), 37 if dtype is np.float32 else 300
    n = 3000
    sizes = [np.zeros(n), rng.uniform(0, 12, n), rng.uniform(-top, top, n)]
    parts = [[(rng.normal(size=n) * 10.0**e).astype(dtype) for e in (size, -size)] for size in sizes]
    edges = np.array(
        [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.1,
            -0.3,
            7.5,
            1e8,
            -1e8,
            np.inf,
            -np.inf,
            np.nan,
            np.finfo(dtype).max,
            np.finfo(dtype).tiny,
        ]
    )
    a, b = np.meshgrid(edges.astype(dtype), edges.astype(dtype))
    return np.concatenate([a.ravel(), *(p[0] for p in parts)]), np.concatenate([b.ravel(), *(p[1] for p in parts)])


def truth(a: Array, b: Array) -> Array:
    """C's fmod, number by number."""

    def one(x: float, y: float) -> float:
        return math.nan if math.isinf(x) or y == 0 else math.fmod(x, y)

    return np.array([one(float(x), float(y)) for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_program_gives_every_remainder_and_whole_quotient_to_the_bit(dtype: Any) -> None:
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        subnormal = [(x != 0) & (np.abs(x) < np.finfo(dtype).tiny) for x in (truth(a, b), np.remainder(a, b))]
        a, b = a[~np.logical_or(*subnormal)], b[~np.logical_or(*subnormal)]  # programs flush them to zero
        rest, whole = np.remainder(a, b), np.floor_divide(a, b)
    step = cr.compile(lambda a, b: (a % b, a // b, a.remainder(b), a.div(b, rounding_mode="floor")))
    for found, expected in zip(step(cr.tensor(a), cr.tensor(b)), (rest, whole, rest, whole), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
        zero = expected == 0
        np.testing.assert_array_equal(np.signbit(found.numpy()[zero]), np.signbit(expected[zero]))


def test_a_quotient_without_a_fraction() -> None:
    found = cr.compile(lambda a, b: a % b)(cr.tensor([1e8]), cr.tensor([0.13]))
    assert found.item() == math.fmod(1e8, float(np.float32(0.13))) == pytest.approx(0.0580, abs=1e-4)


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("fma", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_bits_with_and_without_fused_multiply_add(dtype: Any, fma: bool, lanes: int) -> None:
    scalar = SCALARS[dtype]
    e = Emitter(Target(16, 16, fma=fma))
    out, left, right, count = (
        Register(f"%{name}", type) for name, type in zip("oabn", ("ptr", "ptr", "ptr", "i64"), strict=True)
    )
    with e.loop(count, lanes) as i:
        type = scalar if lanes == 1 else f"<{lanes} x {scalar}>"
        a, b = (e.load(e.address(source, i, scalar), type, 4) for source in (left, right))
        e.store(remainder.fmod(e, a, b), e.address(out, i, scalar), 4)
    e.ret()
    text = module_of(e, e.function("f", [out, left, right, count]))
    assert ("llvm.fma" in text) is fma
    a, b = pairs(dtype)
    a, b = a[: a.size // 4 * 4], b[: b.size // 4 * 4]
    found = np.empty_like(a)
    Compiled(text, speed=0, codegen=2, vectorize=False).call("f", found, a, b, a.size)
    np.testing.assert_array_equal(found, truth(a, b))  # nothing is flushed here
