"""`cr.linalg`: norms and products as PyTorch's."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import SettingError, ShapeError
from tests.optional import torch

X = np.random.default_rng(0).standard_normal((2, 3, 4))
FORMS = [
    lambda L, x: L.linalg.norm(x), lambda L, x: L.linalg.norm(x, dim=(1, 2)), lambda L, x: L.linalg.norm(x, dim=1, keepdim=True),
    lambda L, x: L.linalg.norm(x[0], "fro"), lambda L, x: L.linalg.norm(x[0, 0], math.inf),
    *(lambda L, x, p=p: L.linalg.norm(x, p, dim=(0, 2)) for p in (1, -1, math.inf, -math.inf)),
    lambda L, x: L.linalg.norm(x[0], 1, keepdim=True), lambda L, x: L.linalg.vector_norm(x, 3, dim=(0, 1)),
    *(lambda L, x, n=n: n(L, x) + 0 * x.sum() for n in (lambda L, x: L.linalg.norm(x[0, 0], 0), lambda L, x: L.linalg.vector_norm(x, 0, dim=1), lambda L, x: L.norm(x, 0))),
    lambda L, x: L.linalg.diagonal(x), lambda L, x: L.linalg.diagonal(x, offset=1, dim1=0), lambda L, x: L.linalg.cross(x[..., 1:], x[:1, :, :3]),
    lambda L, x: L.linalg.cross(x[..., 1:], x[..., :3], dim=1), lambda L, x: L.diagonal(x),
    lambda L, x: L.linalg.matrix_norm(x), lambda L, x: L.linalg.vecdot(x, x), lambda L, x: L.linalg.multi_dot([x[0], x[0].T, x[0]]),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_norms_and_products_and_their_gradients(form):
    found = []
    for library in (cr, torch):
        x = library.tensor(X, requires_grad=True)
        y = form(library, x)
        y.sum().backward()
        found.append((y.detach().numpy(), x.grad.numpy()))
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_number_of_elements_that_are_not_0_counts_nan_and_has_a_gradient_of_zeros():
    for values in ([0.0, -0.0, 2.0, math.inf, math.nan], [0.0]):
        x, y = cr.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
        (ours := x.norm(0)).backward()
        (theirs := y.norm(0)).backward()
        assert ours.item() == theirs.item()
        assert x.grad.tolist() == [0] * len(values)  # PyTorch's is None


def test_an_order_of_all_of_more_axes_is_refused():
    with pytest.raises(
        ShapeError,
        match=r"without dim, ord is the norm of a vector or of a matrix, got shape \(2, 3, 4\)\. Name one axis or two by dim, or use linalg\.vector_norm for all elements\.$",
    ):
        cr.linalg.norm(cr.tensor(X), 2)
    with pytest.raises(RuntimeError):
        torch.linalg.norm(torch.tensor(X), 2)


def test_norms_of_singular_values_are_refused():
    with pytest.raises(
        SettingError, match=r"ord must be 'fro', 1, -1, inf or -inf, got 2\. Singular values are not in chainrule\.$"
    ):
        cr.linalg.norm(cr.ones(2, 2), 2)
