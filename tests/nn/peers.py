"""The same computation here and in PyTorch, values and gradients side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from tests.optional import torch

__all__ = ["assert_same", "torch"]


def assert_same(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any, **tolerance: float) -> None:
    """Same value and, for float arrays, same gradients of a weighted sum of the output."""
    tolerance = {"rtol": 1e-12, "atol": 1e-12, **tolerance}
    a = [cr.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f") for x in arrays]
    b = [torch.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f") for x in arrays]
    y, z = ours(*a), theirs(*b)
    assert y.dtype.name == str(z.dtype).removeprefix("torch.")
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), **tolerance)
    seed = np.random.default_rng(1).normal(size=y.shape)
    (y * cr.tensor(seed, dtype=y.dtype)).sum().backward()
    (z * torch.tensor(seed).to(z.dtype)).sum().backward()
    for mine, peer in zip(a, b, strict=True):
        if mine.requires_grad:
            assert (mine.grad is None) == (peer.grad is None)
            if mine.grad is not None:
                np.testing.assert_allclose(mine.grad.numpy(), peer.grad.numpy(), **tolerance)
