"""No kernel writes before or behind its working memory, on any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn, optim
from chainrule.compiler.codegen.matmul import packing
from chainrule.compiler.plan import tiling
from chainrule.compiler.schedule import memory
from tests.compiler.canaries import Canaries
from tests.compiler.programs import Program, programs

pytestmark = pytest.mark.usefixtures("everything_divided")


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> Canaries:
    return Canaries(monkeypatch)


def call(function: Callable[..., Any], *inputs: Tensor) -> None:
    """Compiled, on one to three threads."""
    compiled = cr.compile(function)
    for threads in (1, 2, 3):
        cr.set_num_threads(threads)
        compiled(*inputs)


PRODUCTS = [
    ((20, 300), (300, 64)),
    ((75, 90), (90, 90)),
    ((7, 33, 65), (7, 65, 33)),
    ((129, 2500), (2500, 257)),
    ((1, 40), (40, 3)),
]


@pytest.mark.parametrize(("a", "b"), PRODUCTS)
@pytest.mark.parametrize("turned", [(), ("a",), ("b",), ("a", "b")])
@pytest.mark.parametrize("dtype", [cr.float32, cr.float64])
def test_products(
    canaries: Canaries, a: tuple[int, ...], b: tuple[int, ...], turned: tuple[str, ...], dtype: cr.DType
) -> None:
    left = cr.randn(*a, dtype=dtype) if "a" not in turned else cr.randn(*a[:-2], a[-1], a[-2], dtype=dtype)
    right = cr.randn(*b, dtype=dtype) if "b" not in turned else cr.randn(*b[:-2], b[-1], b[-2], dtype=dtype)
    call(lambda a, b: (a.mT if "a" in turned else a) @ (b.mT if "b" in turned else b), left, right)
    canaries.check()


@pytest.mark.parametrize("sizes", [(13, 37, 10), (784, 33, 65, 3)])
def test_a_training_step(canaries: Canaries, sizes: tuple[int, ...]) -> None:
    model = nn.Sequential(*(layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.Tanh())))
    optimizer = optim.Adam(model.parameters())

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).softmax(-1).log(), y)
        loss.backward()
        optimizer.step()
        return loss

    call(step, cr.randn(19, sizes[0]), cr.zeros(19, dtype=cr.int64))
    canaries.check()


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(drawn=programs())
def test_random_programs(canaries: Canaries, drawn: Program) -> None:
    note(repr(drawn))
    parameters = [cr.tensor(p, requires_grad=True) for p in drawn.parameters]
    call(lambda *args: drawn.run(list(args), parameters), *(cr.tensor(a) for a in drawn.arguments))
    canaries.check()


def test_scratch_memory_that_is_one_term_too_small_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tiling.scratch_parts

    def short(spec: tiling.Contraction, chosen: tiling.Tiling) -> tuple[int, ...]:
        strip, *others = parts(spec, chosen)
        return (strip - chosen.nr, *others)

    for module in (tiling, packing):
        monkeypatch.setattr(module, "scratch_parts", short)
    canaries = Canaries(monkeypatch)
    call(lambda a, b: a @ b.mT, cr.randn(40, 300), cr.randn(64, 300))
    with pytest.raises(AssertionError, match="written behind"):
        canaries.check()


def test_an_arena_that_is_one_line_too_small_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = memory._allocate
    monkeypatch.setattr(memory, "_allocate", lambda *args: (allocate(*args)[0] - memory.ALIGNMENT, 0))
    canaries = Canaries(monkeypatch)
    call(lambda a, b: (a @ b) @ b, cr.randn(32, 32), cr.randn(32, 32))
    with pytest.raises(AssertionError, match="written behind"):
        canaries.check()
