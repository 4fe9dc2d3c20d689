"""Gradients that a compiled function writes back, and loops of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import Tensor
from tests.compiler.support import values

# -- gradients ----------------------------------------------------------------------------------------


def parameter() -> Tensor:
    return cr.tensor([1.0, 2.0], requires_grad=True)


def test_the_gradient_is_written_back() -> None:
    p = parameter()

    @cr.compile
    def step(x: Tensor) -> Tensor:
        p.grad = None
        loss = (p * p * x).sum()
        loss.backward()
        return loss

    for scale in (1.0, 3.0, 2.0):
        step(cr.tensor([scale, scale]))
        assert p.grad.tolist() == [2 * scale, 4 * scale]


def test_gradients_accumulate_over_calls_where_nothing_clears_them() -> None:
    p, q = parameter(), parameter()

    def step(w: Tensor, x: Tensor) -> Tensor:
        loss = (w * w * x).sum()
        loss.backward()
        return loss

    compiled = cr.compile(lambda x: step(p, x))
    for call in range(6):
        x = cr.tensor([call + 1.0, 1.0])
        compiled(x)
        step(q, x)
        assert p.grad.tolist() == q.grad.tolist()
    p.grad = q.grad = None
    for _ in range(2):
        compiled(x)
        step(q, x)
        assert p.grad.tolist() == q.grad.tolist()
    p.grad = cr.tensor([100.0, 200.0])
    compiled(x)
    assert p.grad.tolist() == [112, 204]


def test_gradients_zeroed_in_place_accumulate_within_a_step() -> None:
    p = parameter()
    p.grad = cr.tensor([5.0, 5.0])

    @cr.compile
    def step(x: Tensor) -> None:
        p.grad.zero_()
        (p * x).sum().backward()
        (p * x).sum().backward()

    for scale in (1.0, 2.0, 3.0):
        step(cr.tensor([scale, scale]))
        assert p.grad.tolist() == [2 * scale, 2 * scale]


def test_a_gradient_is_cleared() -> None:
    p = parameter()
    p.grad = cr.tensor([5.0, 5.0])

    @cr.compile
    def step() -> Tensor:
        loss = (p * p).sum()
        p.grad = None
        return loss.detach()

    step()
    assert p.grad is None
    p.grad = cr.tensor([5.0, 5.0])
    step()
    assert p.grad is None


def test_a_gradient_used_and_cleared_in_one_step() -> None:
    p = parameter()

    @cr.compile
    def step() -> None:
        (p * p).sum().backward()
        with cr.no_grad():
            p.sub_(p.grad * 0.25)
        p.grad = None

    step()
    step()
    assert p.grad is None
    assert p.detach().tolist() == [0.25, 0.5]


def test_held_gradients_stay() -> None:
    p = parameter()

    @cr.compile
    def step(x: Tensor) -> None:
        p.grad = None
        (p * x).sum().backward()

    held = []
    for i in range(4):
        step(cr.tensor([float(i), 1.0]))
        held.append(p.grad)
    assert [g.tolist() for g in held] == [[i, 1] for i in range(4)]
    array = p.grad.numpy()
    detached = p.grad.detach()
    step(cr.tensor([9.0, 9.0]))
    step(cr.tensor([8.0, 8.0]))
    assert array.tolist() == detached.tolist() == [3, 1]


def test_a_held_gradient_stays_when_the_attribute_was_cleared_outside() -> None:
    p, q = parameter(), parameter()

    @cr.compile
    def step(x: Tensor) -> None:
        p.grad = None
        (p * x).sum().backward()

    step(cr.tensor([1.0, 1.0]))
    g = p.grad
    p.grad = None
    step(cr.tensor([2.0, 2.0]))
    assert g.tolist() == [1, 1]
    q.grad = p.grad
    p.grad = None
    step(cr.tensor([3.0, 3.0]))
    assert q.grad.tolist() == [2, 2]
    assert p.grad.tolist() == [3, 3]


def test_the_gradient_of_an_argument_goes_to_the_argument_of_the_call() -> None:
    @cr.compile
    def step(x: Tensor) -> Tensor:
        loss = (x * x).sum()
        loss.backward()
        return loss.detach()

    first, second = parameter(), cr.tensor([5.0, 6.0], requires_grad=True)
    step(first)
    step(second)
    assert first.grad.tolist() == [2, 4]
    assert second.grad.tolist() == [10, 12]


def test_an_argument_changed_in_place_is_the_one_of_the_call() -> None:
    double = cr.compile(lambda x: x.mul_(2.0) * 1)
    first, second = cr.tensor([1.0]), cr.tensor([10.0])
    view = first.detach()
    double(first)
    double(second)
    double(first)
    assert values(first, second, view) == [[4], [20], [4]]


def test_a_tensor_that_is_argument_and_captured() -> None:
    w = cr.tensor([2.0])
    product = cr.compile(lambda x: w * x)
    assert product(w).tolist() == [4]
    assert product(cr.tensor([5.0])).tolist() == [10]
    assert product(w).tolist() == [4]


# -- loops --------------------------------------------------------------------------------------------


def network() -> tuple[list[Tensor], Callable[..., Any]]:
    rng = np.random.default_rng(0)
    w = cr.tensor(rng.normal(size=(5, 7)).astype("f") * 0.5, requires_grad=True)
    v = cr.tensor(rng.normal(size=(7, 3)).astype("f") * 0.5, requires_grad=True)
    moments = [cr.zeros(5, 7), cr.zeros(7, 3)]
    generator = cr.Generator(1)

    def step(x: Tensor, y: Tensor) -> Any:
        w.grad = v.grad = None
        hidden = (x @ w).relu() * (cr.rand(x.shape[0], 7, generator=generator) < 0.8)
        scores = (hidden @ v).log_softmax(1)
        loss = -scores.gather(1, y.unsqueeze(1)).mean()
        loss.backward()
        with cr.no_grad():
            for p, m in zip((w, v), moments, strict=True):
                m.mul_(0.9).add_(p.grad)
                p.sub_(m * 0.05)
        return loss.detach(), {"hits": (scores.argmax(1) == y).sum(), "scores": scores.detach()}

    return [w, v, *moments, generator.state], step


def batches(steps: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(4)
    return cr.tensor(rng.normal(size=(steps, 4, 5)).astype("f")), cr.tensor(rng.integers(0, 3, (steps, 4)))


def test_a_loop_gives_the_bits_of_single_calls() -> None:
    x, y = batches(9)
    state, step = network()
    single = cr.compile(step)
    results = [single(x[i], y[i]) for i in range(9)]
    other_state, other = network()
    looped = cr.compile(other)
    loss, extra = looped.loop(x, y)
    assert loss.tolist() == [r[0].item() for r in results]
    assert extra["hits"].tolist() == [r[1]["hits"].item() for r in results]
    assert extra["scores"].tolist() == [r[1]["scores"].tolist() for r in results]
    for a, b in zip(state, other_state, strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    assert state[0].grad.tolist() == other_state[0].grad.tolist()
    again, _ = looped.loop(x[:2], y[:2])  # and a call after a loop goes on from there
    assert again.tolist() == [single(x[i], y[i])[0].item() for i in range(2)]
    assert looped(x[2], y[2])[0].item() == single(x[2], y[2])[0].item()


def test_compiled_and_eager_training_agree() -> None:
    x, y = batches(12)
    state, step = network()
    compiled = cr.compile(step)
    other_state, eager = network()
    for i in range(12):
        a, b = compiled(x[i], y[i]), eager(x[i], y[i])
        np.testing.assert_allclose(a[0].numpy(), b[0].numpy(), rtol=2e-5)
    for s, t in zip(state, other_state, strict=True):
        np.testing.assert_allclose(s.detach().numpy(), t.detach().numpy(), rtol=2e-4, atol=2e-6)


def test_a_loop_of_no_steps_changes_nothing() -> None:
    x, y = batches(1)
    state, step = network()
    compiled = cr.compile(step)
    before = values(*state)
    loss, extra = compiled.loop(x[:0], y[:0])
    assert loss.shape == (0,)
    assert extra["scores"].shape == (0, 4, 3)
    assert values(*state) == before
    assert state[0].grad is None


def test_a_held_state_stays_through_a_loop() -> None:
    w = cr.tensor([0.0])
    add = cr.compile(lambda x: w.add_(x) * 1)
    add(cr.tensor([1.0]))
    held = w.numpy()
    add.loop(cr.ones(5, 1))
    assert held.tolist() == [1]
    assert w.tolist() == [6]
