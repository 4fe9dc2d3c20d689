"""The standard deviation where the squares leave the range of the dtype and the root does not."""

import numpy as np
import pytest

import chainrule as cr


@pytest.mark.parametrize("size", [1e20, 1e-30, 1.0])
@pytest.mark.parametrize("compiled", [False, True])
def test_it_lies_in_the_range_although_its_square_does_not(size, compiled):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")
    values = [size, 2 * size, 4 * size]

    def of(x):
        found = x.std()
        return found, *cr.autograd.grad(found, x)

    x = cr.tensor(values, requires_grad=True)
    found, gradient = (cr.compile(of) if compiled else of)(x)
    other = torch.tensor(values, requires_grad=True)
    other.std().backward()
    assert found.dtype is cr.float32
    assert found.item() == pytest.approx(other.std().item(), rel=1e-6)
    np.testing.assert_allclose(gradient.tolist(), other.grad, rtol=1e-6)


def test_by_the_formula():
    x = np.array([[1e-30, 3e-30], [2e20, -2e20]], np.float32)
    expected = x.astype(np.float64).std(axis=1, ddof=1)
    np.testing.assert_allclose(cr.tensor(x).std(1).numpy(), expected, rtol=1e-7)
