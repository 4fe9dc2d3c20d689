"""The stages of a two-layer network's training step, as they print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, graph
from chainrule.compiler.frontend.trace import live
from chainrule.compiler.plan.target import Target
from chainrule.compiler.runtime import native


@contextmanager
def layer(name: str) -> Iterator[None]:
    """What is made inside belongs to a layer of this name."""
    outer, graph._local.layer = graph._local.layer, name
    yield
    graph._local.layer = outer


@pytest.fixture(scope="module")
def step() -> Callable[..., Tensor]:
    rng = np.random.default_rng(0)
    w1, w2 = (cr.tensor(rng.normal(size=s).astype("f"), requires_grad=True) for s in ((16, 8), (8, 3)))
    b1, b2 = (cr.zeros(n, requires_grad=True) for n in (8, 3))
    parameters = [w1, b1, w2, b2]
    moments = [cr.zeros(p.shape) for p in parameters]

    @cr.compile
    def train(x: Tensor, y: Tensor) -> Tensor:
        for p in parameters:
            p.grad = None
        with layer("0"):
            hidden = (x @ w1 + b1).relu()
        with layer("1"):
            scores = hidden @ w2 + b2
        loss = -scores.log_softmax(1).gather(1, y.unsqueeze(1)).mean()
        loss.backward()
        with cr.no_grad():
            for p, m in zip(parameters, moments, strict=True):
                m.mul_(0.9).add_(p.grad)
                p.sub_(m * live(lambda: 0.1))
        return loss.detach()

    train(cr.ones(4, 16), cr.tensor([0, 1, 2, 0]))
    return train


@pytest.mark.parametrize("stage", ["graph", "kernels", "loops", "memory"])
def test_a_two_layer_network_prints_as_before(
    step: Callable[..., Tensor], stage: str, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native.machine(), "target", Target(64, 32))  # tiles and scratch memory depend on the CPU
    program = step._latest.program  # type: ignore[attr-defined]
    for decided in ("nests", "work_sharing", "scratch"):
        program.__dict__.pop(decided, None)
    golden(f"network.{stage}.txt", step.show(stage))  # type: ignore[attr-defined]


def test_printing_is_the_same_from_run_to_run(step: Callable[..., Tensor]) -> None:
    for stage in ("trace", "graph", "kernels", "loops", "memory", "llvm"):
        assert step.show(stage) == step.show(stage)  # type: ignore[attr-defined]
