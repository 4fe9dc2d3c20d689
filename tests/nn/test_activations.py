"""Every activation against PyTorch: values and gradients, at kinks and far out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import SettingError, UnknownNameError

from .peers import assert_same, torch

TF = torch.nn.functional
X = np.random.default_rng(0).normal(size=(5, 7)) * 3
EXTREME = np.array([0.0, -0.0, 1.0, -1.0, 20.0, -20.0, 30.0, -30.0, 700.0, -700.0, 1e4, -1e4])

TABLE = [
    ("relu", {}), ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.3}), ("elu", {}), ("elu", {"alpha": 0.7}),
    ("selu", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("mish", {}), ("sigmoid", {}), ("tanh", {}),
    ("softplus", {}), ("softplus", {"beta": 2.5, "threshold": 5.0}), ("softplus", {"beta": 0.5}),
    ("logsigmoid", {}), ("softmax", {"dim": -1}), ("softmax", {"dim": 0}), ("log_softmax", {"dim": -1}),
    ("log_softmax", {"dim": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), TABLE)
def test_values_and_gradients_are_those_of_pytorch(name, options):
    assert_same(lambda x: getattr(F, name)(x, **options), lambda x: getattr(TF, name)(x, **options), X)


@pytest.mark.parametrize(("name", "options"), TABLE)
def test_nothing_overflows_far_out_and_kinks_are_those_of_pytorch(name, options):
    with np.errstate(all="ignore"):
        assert_same(lambda x: getattr(F, name)(x, **options), lambda x: getattr(TF, name)(x, **options), EXTREME)


@pytest.mark.parametrize(("name", "options"), TABLE)
def test_gradients_are_finite_in_float32(name, options):
    x = cr.tensor(EXTREME, dtype=cr.float32, requires_grad=True)
    getattr(F, name)(x, **options).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_rows_of_minus_infinity_keep_their_meaning():
    x = np.array([[0.0, -np.inf, 1.0], [-np.inf, 2.0, 2.0]])
    assert_same(lambda x: F.softmax(x, 1), lambda x: TF.softmax(x, 1), x)


def test_softmax_converts_first():
    assert F.softmax(cr.zeros(2), 0, dtype=cr.float64).dtype == cr.float64
    assert F.log_softmax(cr.zeros(2), 0, dtype="float64").dtype == cr.float64


MODULES = [
    ("ReLU", {}), ("LeakyReLU", {"negative_slope": 0.2}), ("ELU", {"alpha": 0.5}), ("SELU", {}), ("GELU", {}),
    ("GELU", {"approximate": "tanh"}), ("SiLU", {}), ("Mish", {}), ("Sigmoid", {}), ("Tanh", {}),
    ("Softplus", {"beta": 2.0, "threshold": 3.0}), ("Softmax", {"dim": 1}), ("LogSoftmax", {"dim": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), MODULES)
def test_modules_print_and_compute_like_pytorch(name, options):
    ours, theirs = getattr(nn, name)(**options), getattr(torch.nn, name)(**options)
    assert repr(ours) == repr(theirs)
    assert_same(ours, theirs, X)


def test_by_name():
    assert nn.activation_by_name("relu") is nn.ReLU
    assert nn.activation_by_name("leaky_relu") is nn.LeakyReLU
    with pytest.raises(UnknownNameError) as error:
        nn.activation_by_name("rellu")
    assert str(error.value) == (
        "unknown activation 'rellu'. Did you mean 'relu' or 'elu' or 'selu'? "
        "Known: elu, gelu, leakyrelu, mish, relu, selu, sigmoid, silu, softplus, tanh."
    )


@pytest.mark.parametrize("make", [lambda: nn.GELU("erf"), lambda: F.gelu(cr.zeros(1), "erf")])
def test_an_unknown_approximation_of_gelu(make):
    with pytest.raises(UnknownNameError) as error:
        make()
    assert str(error.value) == "unknown approximation of gelu 'erf'. Known: none, tanh."


def test_softplus_refuses_beta_0():
    with pytest.raises(SettingError) as error:
        nn.Softplus(beta=0)
    assert str(error.value) == "Softplus: beta must not be 0. Use a positive beta, such as 1."
    with pytest.raises(SettingError):
        F.softplus(cr.zeros(1), beta=0)


def test_no_warnings_from_numpy_far_out():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, options in TABLE:
            getattr(F, name)(cr.tensor(EXTREME), **options)
