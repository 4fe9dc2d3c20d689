"""At infinity every function and loss has its limit, and so has its gradient; NaN stays NaN. Where PyTorch has a number, it is ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from tests.optional import torch

INF, NAN = math.inf, math.nan
DTYPES = ["float32", "float64"]


def bce(y: float, weight: float | None = None) -> Callable[[Any], Any]:
    def loss(x: Any) -> Any:
        factor = None if weight is None else cr.tensor(weight, dtype=x.dtype)
        return F.binary_cross_entropy_with_logits(
            x, cr.full(x.shape, y, dtype=x.dtype), reduction="none", pos_weight=factor
        )

    return loss


def against_0(loss: Callable[..., Any], *rest: Any) -> Callable[[Any], Any]:
    return lambda x: loss(x, cr.zeros(x.shape, dtype=x.dtype), "none", *rest)


# What a function and its derivative are at infinity, and at minus infinity.
LIMITS: dict[str, tuple[Callable[[Any], Any], tuple[float, float], tuple[float, float]]] = {
    "relu": (F.relu, (INF, 0), (1, 0)),
    "leaky_relu": (F.leaky_relu, (INF, -INF), (1, 0.01)),
    "sigmoid": (F.sigmoid, (1, 0), (0, 0)),
    "tanh": (F.tanh, (1, -1), (0, 0)),
    "erf": (lambda x: x.erf(), (1, -1), (0, 0)),
    "erfc": (lambda x: x.erfc(), (0, 2), (0, 0)),
    "exp": (lambda x: x.exp(), (INF, 0), (INF, 0)),
    "expm1": (lambda x: x.expm1(), (INF, -1), (INF, 0)),
    "reciprocal": (lambda x: x.reciprocal(), (0, -0.0), (0, 0)),
    "square": (lambda x: x.square(), (INF, INF), (INF, -INF)),
    "abs": (lambda x: x.abs(), (INF, INF), (1, -1)),
    "elu": (F.elu, (INF, -1), (1, 0)),
    "selu": (F.selu, (INF, -1.7580993408473766), (1.0507009873554805, 0)),
    "gelu": (F.gelu, (INF, 0), (1, 0)),
    "gelu by tanh": (lambda x: F.gelu(x, "tanh"), (INF, 0), (1, 0)),
    "silu": (F.silu, (INF, 0), (1, 0)),
    "relu6": (F.relu6, (6, 0), (0, 0)),
    "celu": (lambda x: F.celu(x, 2.0), (INF, -2), (1, 0)),
    "hardtanh": (F.hardtanh, (1, -1), (0, 0)),
    "hardsigmoid": (F.hardsigmoid, (1, 0), (0, 0)),
    "hardswish": (F.hardswish, (INF, 0), (1, 0)),
    "hardshrink": (F.hardshrink, (INF, -INF), (1, 1)),
    "softshrink": (F.softshrink, (INF, -INF), (1, 1)),
    "softsign": (F.softsign, (1, -1), (0, 0)),
    "tanhshrink": (F.tanhshrink, (INF, -INF), (1, 1)),
    "threshold": (lambda x: F.threshold(x, 0.5, 7.0), (INF, 7), (1, 0)),
    "prelu": (lambda x: F.prelu(x, cr.tensor([0.25], dtype=x.dtype)), (INF, -INF), (1, 0.25)),
    "mish": (F.mish, (INF, 0), (1, 0)),
    "softplus": (F.softplus, (INF, 0), (1, 0)),
    "softplus, sharp": (lambda x: F.softplus(x, beta=3.0), (INF, 0), (1, 0)),
    "logsigmoid": (F.logsigmoid, (0, -INF), (0, 1)),
    "bce of class 0": (bce(0.0), (INF, 0), (1, 0)),
    "bce of class 1": (bce(1.0), (0, INF), (0, -1)),
    "bce of a share": (bce(0.25), (INF, INF), (0.75, -0.25)),
    "bce, weighted": (bce(1.0, 3.0), (0, INF), (0, -3)),
    "mse": (against_0(F.mse_loss), (INF, INF), (INF, -INF)),
    "l1": (against_0(F.l1_loss), (INF, INF), (1, -1)),
    "smooth l1": (against_0(F.smooth_l1_loss, 2.0), (INF, INF), (1, -1)),
    "huber": (against_0(F.huber_loss, 2.0), (INF, INF), (2, -2)),
}  # fmt: skip


def value_and_gradient(function: Callable[[Any], Any], x: cr.Tensor, native: bool) -> Any:
    step = lambda t: (function(t), cr.grad(lambda t: function(t).sum())(t))  # noqa: E731
    return [part.numpy() for part in (cr.compile(step) if native else step)(x)]


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LIMITS)
def test_the_limit_and_that_of_the_gradient(name: str, dtype: str, native: bool) -> None:
    function, values, gradients = LIMITS[name]
    x = cr.tensor([INF, -INF, NAN], dtype=getattr(cr, dtype))
    value, gradient = value_and_gradient(function, x, native)
    np.testing.assert_allclose(value, [*values, NAN], rtol=1e-6)
    np.testing.assert_allclose(gradient[:2], gradients, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["elu", "selu", "gelu", "silu", "softplus", "logsigmoid", "leaky_relu", "sigmoid", "tanh"]
)
def test_where_pytorch_has_a_number_it_is_ours(name: str) -> None:
    theirs = torch.tensor([INF, -INF, 0.0, -0.0], dtype=torch.float64, requires_grad=True)
    expected = getattr(torch.nn.functional, name)(theirs)
    expected.sum().backward()
    found = value_and_gradient(getattr(F, name), cr.tensor(theirs.detach().numpy()), False)
    for ours, number in zip(found, (expected.detach().numpy(), theirs.grad.numpy()), strict=True):
        known = ~np.isnan(number)
        np.testing.assert_allclose(ours[known], number[known], rtol=1e-14)


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
@pytest.mark.parametrize("p", [-2.0, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0, 3.0, INF])
@pytest.mark.parametrize("row", [[0.0, 0.0], [0.0, 2.0], [-3.0, 0.0, 4.0]])
def test_a_norm_of_zeros_as_pytorch_has_it(row: list[float], p: float, native: bool) -> None:
    theirs = torch.tensor(row, dtype=torch.float64, requires_grad=True)
    theirs.norm(p).backward()
    value, gradient = value_and_gradient(lambda x: x.norm(p), cr.tensor(row, dtype=cr.float64), native)
    np.testing.assert_allclose(value, theirs.norm(p).item(), rtol=1e-14)
    if not (p == INF and not any(row)):  # of equal largest ones PyTorch's share is another matter
        np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-14)


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
def test_a_probability_of_nothing_times_an_infinite_loss_is_nothing(native: bool) -> None:
    target = cr.tensor([[0.0, 1.0, 0.0]])
    x = cr.tensor([[-INF, 1.0, 1.0]])
    value, gradient = value_and_gradient(lambda x: F.cross_entropy(x, target), x, native)
    np.testing.assert_allclose(value, math.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, -0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_a_target_is_differentiated_too(y: float) -> None:
    x, target = cr.tensor([2.0, -3.0], dtype=cr.float64), cr.full((2,), y, dtype=cr.float64)
    gradient = cr.grad(lambda y: F.binary_cross_entropy_with_logits(x, y, reduction="sum"))(target)
    np.testing.assert_allclose(gradient.numpy(), [-2.0, 3.0], rtol=1e-14)


@pytest.mark.parametrize(
    ("p", "y", "expected"), [(1e-30, 0.0, 1.0), (1e-5, 0.0, 1 / (1 - 1e-5)), (1e-9, 1.0, -1e9), (0.3, 0.3, 0.0)]
)
def test_the_gradient_of_a_nearly_certain_probability(p: float, y: float, expected: float) -> None:
    x, target = cr.tensor([p], dtype=cr.float64), cr.tensor([y], dtype=cr.float64)
    found = cr.grad(lambda p: F.binary_cross_entropy(p, target))(x)
    assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["relu6", "hardtanh", "hardsigmoid", "hardshrink", "softshrink"])
def test_what_is_made_of_pieces_passes_no_gradient_to_nan(name: str, dtype: str, native: bool) -> None:
    points = [NAN, INF, -INF, 0.0, -0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0, -20.0]
    theirs = torch.tensor(points, dtype=getattr(torch, dtype), requires_grad=True)
    expected = getattr(torch.nn.functional, name)(theirs)
    expected.sum().backward()
    x = cr.tensor(points, dtype=getattr(cr, dtype))
    for ours, number in zip(
        value_and_gradient(getattr(F, name), x, native), (expected.detach(), theirs.grad), strict=True
    ):
        np.testing.assert_allclose(ours, number.numpy(), rtol=1e-6)


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, INF])
@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_of_any_length_are_normalised(dtype: str, p: float, native: bool) -> None:
    row, end = np.array([3.0, -4.0, 0.5]), {"float32": 38, "float64": 308}[dtype]
    unit = row / np.linalg.norm(row, p)
    sizes = [10.0**k for k in (-8, 0, 9, end // 2, end // 2 + 1, end - 9, end - 1)]
    x = cr.tensor(np.outer(sizes, row), dtype=getattr(cr, dtype))
    value, gradient = value_and_gradient(
        lambda x: F.normalize(x, p) * cr.tensor([1.0, 2.0, 3.0], dtype=x.dtype), x, native
    )
    np.testing.assert_allclose(value, np.tile(unit * [1, 2, 3], (len(sizes), 1)), rtol=1e-5)
    near = gradient[1] * (1 / np.array(sizes))[:, None]
    flushed = 1e-37 if dtype == "float32" else 1e-307
    np.testing.assert_allclose(gradient, near, rtol=1e-3, atol=max(flushed, 0))
    odd = cr.tensor([[INF, 1.0, 1.0], [NAN, 1.0, 1.0], [0.0, 0.0, 0.0]], dtype=x.dtype)
    expected = torch.nn.functional.normalize(torch.tensor(odd.numpy()), p).numpy()
    np.testing.assert_allclose(F.normalize(odd, p).numpy(), expected)


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64])
def test_the_gradient_of_binary_cross_entropy_behind_a_sigmoid_stays_bounded(dtype: cr.dtype) -> None:
    """The truth is sigmoid(x) - y: where p is rounded to 1, no less than 0 and never beyond 2."""
    x = cr.linspace(-50.0, 50.0, 2001, dtype=dtype).requires_grad_()
    F.binary_cross_entropy(x.sigmoid(), cr.zeros(2001, dtype=dtype), reduction="sum").backward()
    found, truth = x.grad.numpy(), 1 / (1 + np.exp(-x.detach().numpy().astype(np.float64)))
    assert (found >= 0).all()
    assert found.max() <= 2
    np.testing.assert_allclose(found[:1201], truth[:1201], rtol=1e-2)  # up to x = 10
