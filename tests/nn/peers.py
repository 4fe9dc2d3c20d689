"""The same computation here and in PyTorch, values and gradients side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from tests.optional import torch

__all__ = ["ROUNDED", "assert_same", "assert_same_layer", "same", "torch", "twins"]


ROUNDED = {"rtol": 1e-7, "atol": 1e-7}  # what PyTorch computes with constants in float32


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


def twins(name: str, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """A layer of ours in float64 and PyTorch's, with the same random state, handed over as state_dicts."""
    ours = getattr(nn, name)(*arguments, **options).double()
    theirs = getattr(torch.nn, name)(*arguments, **options).double()
    rng = np.random.default_rng(5)
    given = {key: _anew(rng, key, value.numpy()) for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(given)
    theirs.load_state_dict({key: torch.tensor(value) for key, value in given.items()})
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict({key: torch.tensor(value.numpy()) for key, value in ours.state_dict().items()})
    assert repr(ours) == repr(theirs)
    return ours, theirs


def _anew(rng: np.random.Generator, key: str, value: Any) -> Any:
    return rng.uniform(0.5, 2.0, value.shape) if value.dtype.kind == "f" else value + 3


def assert_same_layer(ours: Any, theirs: Any, *arrays: Any, native: bool = False) -> None:
    """Same outputs, gradients of inputs and parameters, and buffers afterwards; eager, or compiled."""
    call = cr.compile(lambda *x: _passed(ours, *x)) if native else lambda *x: _passed(ours, *x)
    y, gradients, learned = call(*(cr.tensor(x) for x in arrays))
    b = [torch.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f") for x in arrays]
    theirs.zero_grad()
    z = theirs(*b)
    (z * z).sum().backward()
    same(y, z)
    for mine, peer in zip(gradients, [x for x in b if x.requires_grad], strict=True):
        same(mine, peer.grad)
    for mine, (name, peer) in zip(learned, theirs.named_parameters(), strict=True):
        same(mine, peer.grad, name)
    for (name, mine), peer in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        same(mine, peer, name)


def _passed(layer: Any, *inputs: Any) -> Any:
    given = [x.clone().requires_grad_() if x.dtype.is_floating_point else x for x in inputs]
    for p in layer.parameters():
        p.grad = None
    y = layer(*given)
    (y * y).sum().backward()
    return y.detach(), [x.grad for x in given if x.requires_grad], [p.grad for p in layer.parameters()]


def same(mine: Any, peer: Any, what: str = "") -> None:
    """One dtype, and in float64 the same numbers but for rounding."""
    ours, theirs = mine.detach().numpy(), peer.detach().numpy()
    assert ours.dtype == theirs.dtype, what
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11, err_msg=what)
