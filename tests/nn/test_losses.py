"""The losses of equal shapes against PyTorch, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import DataError, DtypeError, SettingError, ShapeError, UnknownNameError

from .peers import assert_same, torch

TF = torch.nn.functional
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(4, 3)) * 2, RNG.normal(size=(4, 3)) * 2
P, Q = RNG.uniform(0.01, 0.99, size=(4, 3)), RNG.uniform(size=(4, 3))
HARD = (Q > 0.5).astype(float)
REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mse_loss", {}), ("l1_loss", {}), ("smooth_l1_loss", {}), ("smooth_l1_loss", {"beta": 0.4}),
        ("smooth_l1_loss", {"beta": 0.0}), ("huber_loss", {}), ("huber_loss", {"delta": 2.5}),
    ],
)  # fmt: skip
def test_regression(name, options, reduction):
    options = {**options, "reduction": reduction}
    assert_same(lambda x, y: getattr(F, name)(x, y, **options), lambda x, y: getattr(TF, name)(x, y, **options), X, Y)


@pytest.mark.parametrize("name", ["l1_loss", "smooth_l1_loss", "huber_loss"])
def test_kinks(name):
    x, y = np.array([0.0, 1.0, -1.0, 3.0]), np.zeros(4)
    assert_same(getattr(F, name), getattr(TF, name), x, y)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("target", [Q, HARD])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy(reduction, target, weighted):
    weight = np.array([1.0, 2.0, 0.5])

    def run(fn, tensor):
        w = tensor(weight) if weighted else None
        return lambda p, y: fn(p, y, weight=w, reduction=reduction)

    assert_same(run(F.binary_cross_entropy, cr.tensor), run(TF.binary_cross_entropy, torch.tensor), P, target)


def test_binary_cross_entropy_at_certainty():
    p, y = np.array([0.0, 1.0, 0.0, 1.0, 0.5]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    ours, theirs = cr.tensor(p, requires_grad=True), torch.tensor(p, requires_grad=True)
    a = F.binary_cross_entropy(ours, cr.tensor(y), reduction="none")
    b = TF.binary_cross_entropy(theirs, torch.tensor(y), reduction="none")
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy())
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("target", [Q, HARD])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 0.5]])
@pytest.mark.parametrize("pos_weight", [None, [3.0, 1.0, 0.2]])
def test_binary_cross_entropy_with_logits(reduction, target, weight, pos_weight):
    def run(fn, tensor):
        w = None if weight is None else tensor(np.array(weight))
        pw = None if pos_weight is None else tensor(np.array(pos_weight))
        return lambda x, y: fn(x, y, weight=w, reduction=reduction, pos_weight=pw)

    ours = run(F.binary_cross_entropy_with_logits, cr.tensor)
    theirs = run(TF.binary_cross_entropy_with_logits, torch.tensor)
    assert_same(ours, theirs, X, target)


@pytest.mark.parametrize("pos_weight", [None, 2.0])
def test_logits_of_any_size(pos_weight):
    x = np.array([0.0, 0.0, 20.0, -20.0, 1e4, -1e4, 1e4, -1e4])
    y = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0])

    def run(fn, tensor):
        pw = None if pos_weight is None else tensor(np.array(pos_weight))
        return lambda x, y: fn(x, y, reduction="none", pos_weight=pw)

    ours = run(F.binary_cross_entropy_with_logits, cr.tensor)
    theirs = run(TF.binary_cross_entropy_with_logits, torch.tensor)
    assert_same(ours, theirs, x, y)


def test_small_losses_keep_their_digits_in_float32():
    x, y = cr.tensor([20.0, -20.0]), cr.tensor([1.0, 0.0])
    np.testing.assert_allclose(
        F.binary_cross_entropy_with_logits(x, y, reduction="none").numpy(), np.log1p(np.exp(-20.0)), rtol=1e-5
    )


MODULES = [
    ("MSELoss", {}), ("L1Loss", {}), ("SmoothL1Loss", {"beta": 0.5}), ("HuberLoss", {"delta": 0.5}), ("BCELoss", {}),
    ("BCEWithLogitsLoss", {}),
]  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "options"), MODULES)
def test_modules(name, options, reduction):
    ours = getattr(nn, name)(reduction=reduction, **options)
    theirs = getattr(torch.nn, name)(reduction=reduction, **options)
    assert repr(ours) == repr(theirs)
    assert_same(ours, theirs, P, Q)


def test_weights_are_buffers():
    loss = nn.BCEWithLogitsLoss(weight=cr.ones(3), pos_weight=cr.ones(3))
    theirs = torch.nn.BCEWithLogitsLoss(weight=torch.ones(3), pos_weight=torch.ones(3))
    assert list(loss.state_dict()) == list(theirs.state_dict())
    assert loss.double()(cr.tensor(X), cr.tensor(Q)).dtype == cr.float64


def full_text(kind, function):
    with pytest.raises(kind) as error:
        function()
    return str(error.value)


def test_shapes_do_not_broadcast():
    def call():
        F.mse_loss(cr.zeros(4, 1), cr.zeros(4))

    line = call.__code__.co_firstlineno + 1
    assert full_text(ShapeError, call) == (
        f"mse_loss (test_losses.py:{line} in call): the target must have the shape of the input, (4, 1), got a target "
        "of shape (4,). Reshape one of them, for example target.reshape(4, 1)."
    )
    assert "Check that both come from the same batch." in full_text(
        ShapeError, lambda: F.l1_loss(cr.zeros(4), cr.zeros(5))
    )


def test_probabilities_are_checked():
    def call(p, y):
        F.binary_cross_entropy(cr.tensor(p), cr.tensor(y))

    where = f"binary_cross_entropy (test_losses.py:{call.__code__.co_firstlineno + 1} in call)"
    assert full_text(DataError, lambda: call([0.5, 2.0], [0.0, 1.0])) == (
        f"{where}: every input must be in [0, 1], got values from 0.5 to 2. "
        "Apply a sigmoid first, or use binary_cross_entropy_with_logits."
    )
    assert full_text(DataError, lambda: call([0.5, 0.5], [-1.0, 1.0])) == (
        f"{where}: every target must be in [0, 1], got values from -1 to 1. "
        "Targets are probabilities: 0 and 1 for the two classes."
    )
    assert full_text(DtypeError, lambda: call([0.5, 0.5], [0, 1])) == (
        f"{where}: the target must be floating (a probability each), got int64. Convert it with .float()."
    )


def test_settings_are_checked():
    assert full_text(SettingError, lambda: nn.HuberLoss(delta=0)) == "HuberLoss: delta must be positive, got 0."
    assert full_text(SettingError, lambda: nn.SmoothL1Loss(beta=-1)) == (
        "SmoothL1Loss: beta must be 0 or more, got -1."
    )
    assert full_text(SettingError, lambda: F.huber_loss(cr.zeros(1), cr.zeros(1), delta=-1)) == (
        "huber_loss: delta must be positive, got -1."
    )
    assert full_text(SettingError, lambda: F.smooth_l1_loss(cr.zeros(1), cr.zeros(1), beta=-1)) == (
        "smooth_l1_loss: beta must be 0 or more, got -1."
    )
    assert full_text(UnknownNameError, lambda: nn.MSELoss(reduction="avg")) == (
        "unknown reduction 'avg'. Known: mean, none, sum."
    )
