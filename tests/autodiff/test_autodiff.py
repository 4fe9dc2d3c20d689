"""Differentiation as a system: depth, order, history, what is refused."""

import re

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule.errors import GradientError, InPlaceError


def raises(kind, pattern):
    return pytest.raises(kind, match=pattern)


def test_a_chain_of_100_000_operations():
    x = cr.tensor(1.0, dtype=cr.float64, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 1e-5
    (y * y).backward()
    assert x.grad.item() == pytest.approx(2 * (1 + 1), rel=1e-9)


def test_gradients_accumulate_until_they_are_cleared():
    w = cr.tensor(3.0, requires_grad=True)
    (w * w).backward()
    (w * w).backward()
    assert w.grad.item() == 12
    w.grad = None
    (w * w).backward()
    assert w.grad.item() == 6


def test_derivatives_of_any_order():
    f = lambda x: x**5  # noqa: E731 - a formula
    for order in range(1, 6):
        f = cr.grad(f)
        expected = np.prod(range(6 - order, 6)) * 2.0 ** (5 - order)
        assert f(cr.tensor(2.0, dtype=cr.float64)).item() == pytest.approx(expected)


def test_inner_and_outer_variables_are_not_confused():
    inner = lambda x: cr.grad(lambda y: x * y)(x)  # noqa: E731 - a formula
    assert cr.grad(lambda x: x * inner(x))(cr.tensor(3.0)).item() == 6


def network(w1, w2, x):
    return ((x @ w1).tanh() @ w2).softmax(1).log().sum()


def arrays():
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in ((3, 4), (4, 2), (5, 3))]


def test_hessian_against_pytorch():
    w1, w2, x = arrays()
    ours = cr.hessian(lambda w: network(w, cr.tensor(w2), cr.tensor(x)))(cr.tensor(w1))
    theirs = torch.autograd.functional.hessian(
        lambda w: network(w, torch.tensor(w2), torch.tensor(x)), torch.tensor(w1)
    )
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-11)


def test_jvp_and_vjp_are_each_others_transpose():
    w1, w2, x = map(cr.tensor, arrays())
    f = lambda w: (x @ w).tanh() @ w2  # noqa: E731 - a formula
    rng = np.random.default_rng(1)
    v, u = cr.tensor(rng.standard_normal((3, 4))), cr.tensor(rng.standard_normal((5, 2)))
    _, Jv = cr.jvp(f, [w1], [v])
    _, pullback = cr.vjp(f, w1)
    assert (Jv * u).sum().item() == pytest.approx((pullback(u)[0] * v).sum().item(), rel=1e-12)
    step = 1e-6
    difference = (f(w1 + v * step) - f(w1 - v * step)) / (2 * step)
    np.testing.assert_allclose(Jv.numpy(), difference.numpy(), rtol=1e-7, atol=1e-8)


def test_double_backward_against_pytorch():
    for library in (cr, torch):
        w1, w2, x = map(library.tensor, arrays())
        w1.requires_grad_()
        network(w1, w2, x).backward(create_graph=True) if library is cr else None
        if library is cr:
            first = w1.grad
            w1.grad = None
            (first * first).sum().backward()
            ours = w1.grad.numpy()
        else:
            (first,) = torch.autograd.grad(network(w1, w2, x), w1, create_graph=True)
            (first * first).sum().backward()
            np.testing.assert_allclose(ours, w1.grad.numpy(), rtol=1e-9, atol=1e-11)


def test_a_second_backward_needs_the_history():
    x = cr.tensor(2.0, requires_grad=True)
    y = x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 8
    with raises(GradientError, "was freed by an earlier backward pass. Call the first one with retain_graph=True"):
        y.backward()


def test_no_grad_and_detach_leave_no_history():
    x = cr.tensor(2.0, requires_grad=True)
    with cr.no_grad():
        assert not (x * x).requires_grad
    assert not x.detach().requires_grad
    with raises(GradientError, "this tensor does not require grad and has no history"):
        (x.detach() * 2).backward()


def test_backward_of_several_elements_needs_a_gradient():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    with raises(
        GradientError, re.escape("only a tensor with one element has an implied gradient of 1, got shape (2,)")
    ):
        (x * x).backward()
    (x * x).backward(gradient=cr.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2, 40]


def test_an_in_place_write_that_would_lose_a_gradient():
    x = cr.tensor([1.0], requires_grad=True)
    with raises(InPlaceError, "an in-place write to a leaf that requires grad would lose its gradient"):
        x.add_(1)
    with cr.no_grad():
        x.add_(1)
    assert x.requires_grad
    assert x.tolist() == [2]


def test_a_saved_value_is_safe_from_later_writes():
    x = cr.tensor([3.0], requires_grad=True)
    y = x * 1
    z = y * y
    y.add_(100)
    z.sum().backward()
    assert x.grad.tolist() == [6]


def test_a_custom_derivative_is_used_compiled_and_eager():
    seen = cr.custom_vjp(lambda x: x.exp(), lambda dY, Y, x: dY * 100)
    f = cr.grad(lambda x: seen(x).sum())
    assert f(cr.ones(2)).tolist() == [100, 100]
    assert cr.compile(f)(cr.ones(2)).tolist() == [100, 100]


def test_a_custom_derivative_of_the_wrong_count():
    f = cr.custom_vjp(lambda a, b: a * b, lambda dY, Y, a, b: dY)
    with raises(GradientError, "must return one gradient for each of the 2 inputs, got 1"):
        cr.grad(lambda a: f(a, a).sum())(cr.ones(2))


def test_a_detached_tensor_has_no_history_in_a_compiled_function_either():
    w = cr.tensor([2.0], requires_grad=True)
    f = cr.compile(lambda x: (x * w, (x * w).detach(), x.detach() * w))
    attached, detached, factor = f(cr.tensor([3.0], requires_grad=True))
    assert (attached.requires_grad, detached.requires_grad, factor.requires_grad) == (True, False, True)
