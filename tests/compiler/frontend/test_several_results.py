"""Backward from some of the results of a compiled function: as in eager mode, None for None."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.frontend import derivative

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


def test_the_backward_program_runs_once_whatever_results_a_gradient_arrived_at(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    run = derivative.Pass.run
    monkeypatch.setattr(derivative.Pass, "run", lambda self, arrays: (runs.append(1), run(self, arrays))[1])
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    f = cr.compile(lambda x: (x * 2, x.sin(), x.exp()))
    for count in (1, 2, 3):
        runs.clear()
        sum(y.sum() for y in f(x)[:count]).backward()
        assert runs == [1]
