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
