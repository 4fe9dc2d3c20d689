"""Which values get a buffer: factors of products are read where they lie."""

from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F


def test_a_product_reads_the_batch_that_is_picked_by_number_in_place() -> None:
    X, W = cr.randn(5, 70, 33), cr.randn(33, 21)
    product = cr.compile(lambda i: X[i] @ W)
    gradient = cr.compile(lambda i, dY: X[i].T @ dY)
    dY = cr.randn(70, 21)
    for i in range(-5, 5):
        n = cr.tensor(i)
        np.testing.assert_allclose(product(n).numpy(), X.numpy()[i] @ W.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(gradient(n, dY).numpy(), X.numpy()[i].T @ dY.numpy(), rtol=1e-4, atol=1e-5)
    for compiled in (product, gradient):
        assert compiled.show("kernels").count("kernel ") == 2  # the check of the number, and the product
    with pytest.raises(cr.errors.IndexRangeError, match="out of range for an axis of size 5"):
        product(cr.tensor(5))


def test_rows_that_are_picked_one_by_one_are_gathered_first() -> None:
    X, W = cr.randn(5, 33), cr.randn(33, 21)
    product = cr.compile(lambda i: X[i] @ W)
    picked = cr.tensor([4, 0, 0, 2])
    np.testing.assert_allclose(product(picked).numpy(), X.numpy()[[4, 0, 0, 2]] @ W.numpy(), rtol=1e-4, atol=1e-5)
    assert product.show("kernels").count("kernel ") == 3


def test_products_that_are_summed_up_are_added_as_they_come() -> None:
    """A weight used at every step has as many gradients: none waits for the last one."""

    def function(x: cr.Tensor, w: cr.Tensor) -> cr.Tensor:
        total = x[0] @ w
        for i in range(1, 9):
            total = total + x[i] @ w
        return total.tanh()

    x, w = cr.randn(9, 8, 8), cr.randn(8, 8)
    compiled = cr.compile(function)
    np.testing.assert_allclose(compiled(x, w).numpy(), function(x, w).numpy(), rtol=1e-4, atol=1e-5)
    assert compiled._latest is not None
    plan = compiled._latest.program.plan
    assert len(plan.kernels) == 9
    assert max(len(kernel.reads()) for kernel in plan.kernels) == 3  # two factors, and the sum so far
    assert plan.arena == 2 * 8 * 8 * 4


def test_products_that_are_summed_up_in_halves_wait_for_their_half_alone() -> None:
    """The gradients of micro-batches: of eight no more than three halves' sums and one product are there at a time."""

    def total(x: cr.Tensor, w: cr.Tensor, first: int, count: int) -> cr.Tensor:
        if count == 1:
            return (x[first] @ w).where(x[first, 0, 0] > -9, 0.0)  # as a part counts whose targets are not all ignored
        return total(x, w, first, count // 2) + total(x, w, first + count // 2, count // 2)

    x, w = cr.randn(8, 8, 8), cr.randn(8, 8)
    compiled = cr.compile(lambda x, w: total(x, w, 0, 8).tanh())
    np.testing.assert_allclose(compiled(x, w).numpy(), total(x, w, 0, 8).tanh().numpy(), rtol=1e-4, atol=1e-5)
    assert compiled._latest is not None
    plan = compiled._latest.program.plan
    assert sum(kernel.stores[0].node.shape == (8, 8) for kernel in plan.kernels) == 8
    assert plan.arena <= 4 * 8 * 8 * 4 + 8 * 64  # and a line for each condition


@pytest.mark.parametrize(
    ("products", "bent", "kept"),
    [
        (1, lambda a: a * a * a + a * 2 + 1, 0),  # six operations on one array
        (2, lambda a, b: a * b * b + a * 2 + 1, 0),
        (3, lambda a, b, c: a * b * c + a * 2 + 1, 1),  # to read three arrays takes longer than to read their result
        (1, lambda a: (a * a).exp() + 1, 1),
    ],
    ids=["one array", "two arrays", "three arrays", "much work"],
)
def test_what_few_arrays_say_cheaply_is_computed_again(products: int, bent: Any, kept: int) -> None:
    """Two sums, along rows and along columns, are two kernels that read it."""

    def function(x: cr.Tensor, *ws: cr.Tensor) -> Any:
        given = [x @ w for w in ws]
        value = bent(*given)
        return value.sum(0), value.sum(1), *given

    x, ws = cr.randn(9, 8), [cr.randn(8, 5) for _ in range(products)]
    compiled = cr.compile(function)
    for found, expected in zip(compiled(x, *ws), function(x, *ws), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    assert compiled._latest is not None
    stores = [store for kernel in compiled._latest.program.plan.kernels for store in kernel.stores]
    assert sum(store.node.shape == (9, 5) for store in stores) == products + kept


def stored(step: Any, x: cr.Tensor) -> list[str]:
    """The ops whose values of shape (9, 5) get a buffer, compiled, of a step that gives what it gives eagerly."""
    compiled = cr.compile(step)
    np.testing.assert_allclose(compiled(x).numpy(), step(x).numpy(), rtol=1e-4, atol=1e-5)
    assert compiled._latest is not None
    stores = [store.node for kernel in compiled._latest.program.plan.kernels for store in kernel.stores]
    return [node.op.name for node in stores if node.shape == (9, 5)]


def test_of_an_activation_is_kept_what_takes_work() -> None:
    """Mish by its parts has a derivative that reads six values of each element: its argument, two functions of that, and three that
    take a few operations."""

    def mish(x: cr.Tensor) -> cr.Tensor:
        low = x <= 0
        z = x.where(low, -x).clamp(min=-1000.0)
        e = z.exp()
        square = e * e
        part = square + (2 * e).where(low, square)
        return x.relu() + z * (part / (part + (2 * e + 1).where(x > 0, 2.0)))

    x, w, v = cr.randn(9, 8), cr.randn(8, 5, requires_grad=True), cr.randn(5, 3)

    def step(x: cr.Tensor) -> cr.Tensor:
        w.grad = None
        (mish(x @ w) @ v).sum().backward()
        assert w.grad is not None
        return w.grad

    assert stored(step, x) == ["matmul", "exp", "div", "add"]  # the last: dY


def test_of_mish_is_kept_its_argument_and_its_slope() -> None:
    """The slope is computed with the value, and no part of it again."""
    x, w, v = cr.randn(9, 8), cr.randn(8, 5, requires_grad=True), cr.randn(5, 3)

    def step(x: cr.Tensor) -> cr.Tensor:
        w.grad = None
        (F.mish(x @ w) @ v).square().sum().backward()
        assert w.grad is not None
        return w.grad

    assert stored(step, x) == ["matmul", "mish", "mul", "mul"]  # the last: dY
