"""Clipping gradients against PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import NonFiniteError, SettingError

from .peers import torch

RNG = np.random.default_rng(0)
GRADIENTS = [RNG.normal(size=s) for s in [(3, 4), (5,), ()]]


def both():
    ours = [cr.zeros(g.shape, dtype=cr.float64, requires_grad=True) for g in GRADIENTS]
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in GRADIENTS]
    for p, q, g in zip(ours, theirs, GRADIENTS, strict=True):
        p.grad, q.grad = cr.tensor(g), torch.tensor(g)
    return [*ours, cr.zeros(2, requires_grad=True)], [*theirs, torch.zeros(2, requires_grad=True)]


def assert_same_gradients(ours, theirs):
    for p, q in zip(ours, theirs, strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("bound", [0.0, 0.5, 100.0])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf, "inf"])
def test_clip_grad_norm(bound, p):
    ours, theirs = both()
    a = nn.utils.clip_grad_norm_(ours, bound, p)
    b = torch.nn.utils.clip_grad_norm_(theirs, bound, p)
    assert a.item() == pytest.approx(b.item(), rel=1e-12)
    assert_same_gradients(ours, theirs)


@pytest.mark.parametrize("bound", [0.0, 0.5, 100.0])
def test_clip_grad_value(bound):
    ours, theirs = both()
    nn.utils.clip_grad_value_(iter(ours), bound)
    torch.nn.utils.clip_grad_value_(theirs, bound)
    assert_same_gradients(ours, theirs)


def test_one_tensor_and_no_gradients():
    p = cr.zeros(2, requires_grad=True)
    assert nn.utils.clip_grad_norm_(p, 1.0).item() == 0.0
    p.grad = cr.tensor([3.0, 4.0])
    assert nn.utils.clip_grad_norm_(p, 1.0).item() == 5.0
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-5)


def test_clipping_inside_a_compiled_step():
    def step():
        total = nn.utils.clip_grad_norm_(ours, 0.5)
        nn.utils.clip_grad_value_(ours, 0.2)
        return total

    ours, theirs = both()
    total = cr.compile(step)()
    assert total.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, 0.5).item(), rel=1e-12)
    torch.nn.utils.clip_grad_value_(theirs, 0.2)
    assert_same_gradients(ours, theirs)


def test_refusals():
    p = cr.zeros(1, requires_grad=True)
    p.grad = cr.tensor([math.inf])
    with pytest.raises(NonFiniteError) as error:
        nn.utils.clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert str(error.value) == (
        "clip_grad_norm_: the norm of the gradients is inf. Lower the learning rate, or look for "
        "NaN in the data; error_if_nonfinite=False would clip on regardless."
    )
    with pytest.raises(SettingError) as error:
        nn.utils.clip_grad_norm_(p, -1.0)
    assert str(error.value) == "clip_grad_norm_: max_norm must be 0 or more, got -1.0."
    with pytest.raises(SettingError) as error:
        nn.utils.clip_grad_value_(p, math.nan)
    assert str(error.value) == "clip_grad_value_: clip_value must be 0 or more, got nan."


@pytest.mark.parametrize("how", ["at once", "recorded", "compiled"])
@pytest.mark.parametrize("shared", ["gradient", "parameter"])
def test_a_gradient_that_is_shared_counts_and_is_scaled_as_often_as_in_pytorch(how, shared):
    def clipped(lib, max_norm):
        given = [lib.ones(2, requires_grad=True) for _ in range(3)]
        given[0].grad = given[1].grad = lib.full((2,), 3.0)
        given[2].grad = lib.full((2,), 4.0)
        if shared == "parameter":
            given[1] = given[0]
        norm = lib.nn.utils.clip_grad_norm_(given, max_norm)
        return [norm, *[p.grad for p in given]]

    for max_norm in (1.0, 100.0):
        expected = [t.tolist() for t in clipped(torch, max_norm)]
        with cr.eager(how != "recorded"):
            function = cr.compile(clipped) if how == "compiled" else clipped
            for _ in range(4 if how == "recorded" else 1):
                found = [t.tolist() for t in function(cr, max_norm)]
                for ours, theirs in zip(found, expected, strict=True):
                    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
