"""Backward passes through a history that partly waits and was partly computed: of a GAN, and where one asked half way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import GradientError
from chainrule.nn import functional as F
from chainrule.tape import tape


def gan() -> Callable[[int], list[Any]]:
    """A generator whose output lies in the segment of the discriminator's step, before its own."""
    numbers = np.random.default_rng(0)
    cr.manual_seed(0)
    G, D = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)), nn.Linear(3, 1)
    first, second = optim.Adam(D.parameters(), lr=0.05), optim.SGD(G.parameters(), lr=0.05)

    def normal(*shape: int) -> Any:
        return cr.from_numpy(numbers.normal(size=shape).astype(np.float32))

    def step(i: int) -> list[Any]:
        fake = G(normal(5, 2))
        first.zero_grad()
        (D(normal(5, 3)).sigmoid().mean() - D(fake.detach()).sigmoid().mean()).backward()
        first.step()
        second.zero_grad()
        loss = F.binary_cross_entropy_with_logits(D(fake), cr.ones(5, 1))
        loss.backward()
        second.step()
        return [loss.detach(), *[p.detach().clone() for p in G.parameters()], *[p.grad for p in D.parameters()]]

    return step


def asked_half_way() -> Callable[[int], list[Any]]:
    """What waits reads a value of the segment that was computed, or another one of its kind, and gradients likewise."""
    w, v = cr.full((3, 3), 0.5, requires_grad=True), cr.full((3,), 0.25, requires_grad=True)

    def step(i: int) -> list[Any]:
        x, others = cr.full((3, 3), i + 1.0) * 0.1, cr.full((3, 3), 2.0 * i + 3.0) * 0.1
        h = (x @ w).tanh()
        k = (others @ w).exp()
        seen = h.sum().item()
        loss = (h * v).sum() + ((x if i % 2 else others) * v).mean() + (k * v).sum() * (0.5 if i % 3 else 0.0)
        if i % 4 == 3:
            w.grad = h.detach() * 1 if i % 8 == 3 else h.detach()
        loss.backward()
        assert w.grad is not None
        with cr.no_grad():
            w.sub_(0.05 * w.grad)
        if i % 3 == 2:
            w.grad = v.grad = None
        return [cr.tensor(seen), loss.detach(), w.detach().clone(), w.grad]

    return step


LOOPS = [gan, asked_half_way]


def outcome(loop: Callable[[], Callable[[int], list[Any]]], steps: int) -> list[bytes]:
    step = loop()
    found = [t for i in range(steps) for t in step(i)]
    return [t.numpy().tobytes() for t in found if t is not None]


@pytest.mark.parametrize("loop", LOOPS)
def test_it_gives_the_bits_of_one_that_computes_at_once(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "HOT", 10**9)
    expected = outcome(loop, 30)
    with cr.eager(False):
        assert outcome(loop, 30) == expected


def test_it_is_found_again_without_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    step = gan()
    with cr.eager(False):
        for i in range(8):
            step(i)
        monkeypatch.setattr("chainrule.autodiff.walk.into_leaves", None)
        step(8)


def test_a_history_may_go_on_elsewhere_without_a_part_in_the_loss() -> None:
    w, v = cr.ones(2, requires_grad=True), cr.ones(2, requires_grad=True)
    with cr.eager(False):
        for _ in range(4):
            h = w * 2
            h.sum().item()
            other = h.sum() * 3
            (v * 2).sum().backward()
            other.backward()
        assert w.grad is not None
        assert v.grad is not None
        assert (w.grad.tolist(), v.grad.tolist()) == ([24, 24], [8, 8])


def test_a_history_that_was_freed_half_way_is_refused() -> None:
    w = cr.ones(3, requires_grad=True)
    with cr.eager(False):
        for _ in range(5):
            h = (w * 2).exp()
            h.sum().item()
            (h * w).sum().backward()
            with pytest.raises(GradientError, match="was freed by an earlier backward pass"):
                (h * w).sum().backward()
