"""Which values get a buffer: factors of products are read where they lie."""

import numpy as np
import pytest

import chainrule as cr


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
