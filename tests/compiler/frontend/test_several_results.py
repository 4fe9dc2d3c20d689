"""Backward from some of the results of a compiled function: as in eager mode, None for None."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.frontend import derivative
from chainrule.errors import GradientError

# What a result may be, of three parameters of shape (3, 2) that may hold 0, and of the argument.
RESULTS: list[Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = [
    lambda x, a, b, c: (x * a).sum(),
    lambda x, a, b, c: a.log() + x,
    lambda x, a, b, c: (b * c).tanh() @ x.T,
    lambda x, a, b, c: cr.cat([a.sqrt(), b.abs()]).sum(0),
    lambda x, a, b, c: a.sign() * b.detach(),
    lambda x, a, b, c: cr.where(x > 0, c, c.reciprocal()),
    lambda x, a, b, c: a,
    lambda x, a, b, c: c.T,
    lambda x, a, b, c: c.view(6)[1:4],
    lambda x, a, b, c: b.detach() * x,
    lambda x, a, b, c: x.softmax(1) * cr.stack([a, b]).prod(0),
    lambda x, a, b, c: a[cr.tensor([0, 2, 0])] / b,
    lambda x, a, b, c: x * 2,
]


def _gradients(
    f: Callable[[Tensor], list[Tensor]], x: Tensor, parameters: list[Tensor], chosen: list[list[int]]
) -> list[list[object]]:
    """The gradients after a backward pass from each of the choices, one after the other."""
    for parameter in parameters:
        parameter.grad = None
    results = f(x)
    found = []
    for choice in chosen:
        losses = [(results[i] * (i + 1.5)).sum() for i in choice if results[i].requires_grad]
        if losses:
            sum(losses[1:], losses[0]).backward(retain_graph=True)
        found.append([None if p.grad is None else p.grad.numpy().copy() for p in parameters])
    return found


@pytest.mark.parametrize("seed", range(12))
def test_gradients_of_random_results_are_those_of_eager_mode(seed: int) -> None:
    draw, numbers = random.Random(seed), np.random.default_rng(seed)
    formulas = [draw.choice(RESULTS) for _ in range(draw.randint(2, 5))]
    values = numbers.uniform(0.5, 2, (3, 3, 2)).astype(np.float32)
    values[:, 0, 1] = 0
    parameters = [cr.tensor(value, requires_grad=True) for value in values]

    def f(x: Tensor) -> list[Tensor]:
        results = [formula(x, *parameters) for formula in formulas]
        return [*results, results[0]]  # one of them twice

    x = cr.tensor(numbers.standard_normal((3, 2)).astype(np.float32), requires_grad=seed % 2 == 0)
    chosen = [draw.sample(range(len(formulas) + 1), draw.randint(1, 2)) for _ in range(3)]
    everything = [*parameters, x]
    expected = _gradients(f, x, everything, chosen)
    for got, want in zip(_gradients(cr.compile(f), x, everything, chosen), expected, strict=True):
        for a, b in zip(got, want, strict=True):
            assert (a is None) == (b is None)
            if b is not None:
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_a_parameter_that_only_another_result_uses_gets_no_gradient() -> None:
    a, b = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor([3.0, 4.0], requires_grad=True)
    f = cr.compile(lambda x: (x * a, x * b))
    f(cr.ones(2))[0].sum().backward()
    assert a.grad is not None
    assert a.grad.tolist() == [1.0, 1.0]
    assert b.grad is None


def test_an_infinite_derivative_of_another_result_is_not_multiplied_by_0() -> None:
    x = cr.tensor([0.0, 1.0], requires_grad=True)
    f = cr.compile(lambda x: (x * 2, x.log()))
    f(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 2.0]
    assert cr.grad(lambda t: f(t)[0].sum())(x.detach()).tolist() == [2.0, 2.0]


def test_a_result_whose_derivative_is_0_gives_zeros_not_none() -> None:
    x = cr.tensor([0.0, 1.0], requires_grad=True)
    y, _ = cr.compile(lambda x: (x.sign(), x.log()))(x)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 0.0]


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    runs: list[int] = []
    run = derivative.Pass.run
    monkeypatch.setattr(derivative.Pass, "run", lambda self, arrays: (runs.append(1), run(self, arrays))[1])
    return runs


def _four(x: Any, w: Any) -> tuple[Any, ...]:
    h = (x @ w).tanh()
    return h, h.exp(), (h * h).sum(0), w * 2


@pytest.mark.parametrize("used", [(0, 1, 2, 3), (0, 2), (1,), (3, 0), (3,)], ids=str)
def test_four_results_run_their_backward_once_with_the_gradients_of_pytorch(
    used: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    runs, numbers = _counted(monkeypatch), np.random.default_rng(0)
    arrays = [numbers.standard_normal(shape).astype(np.float32) for shape in ((5, 3), (3, 2))]
    f = cr.compile(_four)
    for _ in range(2):  # the second call finds its program
        mine = [cr.tensor(a, requires_grad=True) for a in arrays]
        theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
        for results in (f(*mine), _four(*theirs)):
            sum((results[i] * (i + 1)).sum() + results[i].sum() for i in used).backward()
        assert runs == [1]
        runs.clear()
        for m, t in zip(mine, theirs, strict=True):
            assert (m.grad is None) == (t.grad is None)
            if m.grad is not None:
                np.testing.assert_allclose(m.grad.numpy(), t.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_a_compiled_call_of_a_compiled_call_runs_each_backward_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _counted(monkeypatch)
    inner = cr.compile(lambda x: (x.sin(), x * 2, x.exp()))
    outer = cr.compile(lambda a, b: (a * b, a + b, inner(a)[0]))  # one program: the inner function is part of it

    def loss(x: Tensor, first: Callable[..., Any], second: Callable[..., Any]) -> Tensor:
        a, b, c = first(x)
        return sum((y.sum() for y in second(a, b)), c.sum())

    x = cr.tensor([0.3, -1.0], requires_grad=True)
    loss(x, inner, outer).backward()
    assert runs == [1, 1]
    plain = cr.tensor([0.3, -1.0], requires_grad=True)
    loss(plain, lambda x: (x.sin(), x * 2, x.exp()), lambda a, b: (a * b, a + b, a.sin())).backward()
    assert x.grad is not None and plain.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), plain.grad.numpy(), rtol=1e-6)


def test_a_derivative_of_a_compiled_call_is_not_differentiated_again() -> None:
    x = cr.tensor([1.0], requires_grad=True)
    y, _ = cr.compile(lambda x: (x * x, x.sin()))(x)
    with pytest.raises(
        GradientError, match=r"is itself compiled and cannot be differentiated again\. Compile the whole"
    ):
        y.sum().backward(create_graph=True)


def test_each_result_may_be_differentiated_by_itself_while_the_history_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = _counted(monkeypatch)
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    a, b = cr.compile(lambda x: (x * 2, x * x))(x)
    a.sum().backward(retain_graph=True)
    b.sum().backward()
    assert x.grad is not None
    assert (x.grad.tolist(), runs) == ([4.0, 6.0], [1, 1])
    with pytest.raises(GradientError, match=r"the history.* was freed by an earlier backward pass"):
        a.sum().backward()


def test_a_result_of_an_op_of_several_is_a_residual_and_a_result() -> None:
    x = cr.tensor([3.0, -0.1, 0.0], requires_grad=True)
    mantissa, exponent = cr.compile(lambda x: x.frexp())(x)
    (mantissa * exponent.float()).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), [2 / 4, -3 * 8, 0])
