"""`cr.linalg`: norms and products as PyTorch's."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import SettingError
from tests.optional import torch

X = np.random.default_rng(0).standard_normal((2, 3, 4))
FORMS = [
    lambda L, x: L.linalg.norm(x), lambda L, x: L.linalg.norm(x, dim=(1, 2)), lambda L, x: L.linalg.norm(x, dim=1, keepdim=True),
    lambda L, x: L.linalg.norm(x[0], "fro"), lambda L, x: L.linalg.norm(x[0, 0], math.inf),
    *(lambda L, x, p=p: L.linalg.norm(x, p, dim=(0, 2)) for p in (1, -1, math.inf, -math.inf)),
    lambda L, x: L.linalg.norm(x[0], 1, keepdim=True), lambda L, x: L.linalg.vector_norm(x, 3, dim=(0, 1)),
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


def test_norms_of_singular_values_are_refused():
    with pytest.raises(
        SettingError, match=r"ord must be 'fro', 1, -1, inf or -inf, got 2\. Singular values are not in chainrule\.$"
    ):
        cr.linalg.norm(cr.ones(2, 2), 2)
