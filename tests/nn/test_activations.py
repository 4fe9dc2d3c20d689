"""Every activation against PyTorch: values and gradients, at kinks and far out."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import InPlaceError, SettingError, ShapeError, UnknownNameError

from .peers import ROUNDED, assert_same, assert_same_layer, torch, twins

TF = torch.nn.functional
X = np.random.default_rng(0).normal(size=(5, 7)) * 3
KINKS = np.array([0.0, -0.0, 0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 6.0, -6.0, np.nan])
EXTREME = np.array([0.0, -0.0, 1.0, -1.0, 20.0, -20.0, 30.0, -30.0, 700.0, -700.0, 1e4, -1e4])

TABLE = [
    ("relu", {}), ("leaky_relu", {}), ("leaky_relu", {"negative_slope": 0.3}), ("elu", {}), ("elu", {"alpha": 0.7}),
    ("selu", {}), ("gelu", {}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("mish", {}), ("sigmoid", {}), ("tanh", {}),
    ("softplus", {}), ("softplus", {"beta": 2.5, "threshold": 5.0}), ("softplus", {"beta": 0.5}),
    ("logsigmoid", {}), ("softmax", {"dim": -1}), ("softmax", {"dim": 0}), ("log_softmax", {"dim": -1}),
    ("log_softmax", {"dim": 0}), ("softmin", {"dim": -1}), ("relu6", {}), ("celu", {}), ("celu", {"alpha": 2.5}),
    ("hardtanh", {}), ("hardtanh", {"min_val": -0.25, "max_val": 2.0}), ("hardsigmoid", {}), ("hardswish", {}),
    ("hardshrink", {}), ("hardshrink", {"lambd": 1.0}), ("softshrink", {}), ("softshrink", {"lambd": 1.0}),
    ("softsign", {}), ("tanhshrink", {}), ("threshold", {"threshold": 0.5, "value": 7.0}), ("rrelu", {}),
    ("rrelu", {"lower": 0.5, "upper": 0.5, "training": True}),
]  # fmt: skip


def of(name):
    return ROUNDED if name == "hardsigmoid" else {}


@pytest.mark.parametrize(("name", "options"), TABLE)
def test_values_and_gradients_are_those_of_pytorch(name, options):
    assert_same(lambda x: getattr(F, name)(x, **options), lambda x: getattr(TF, name)(x, **options), X, **of(name))


@pytest.mark.parametrize(("name", "options"), TABLE)
def test_nothing_overflows_far_out_and_kinks_are_those_of_pytorch(name, options):
    with np.errstate(all="ignore"):
        assert_same(
            lambda x: getattr(F, name)(x, **options), lambda x: getattr(TF, name)(x, **options), EXTREME, **of(name)
        )


@pytest.mark.parametrize(("name", "options"), [row for row in TABLE if "soft" not in row[0] or "shrink" in row[0]])
def test_kinks_are_those_of_pytorch(name, options):
    # PyTorch's vectors of up to 16 numbers pass no gradient to NaN, and what is left over of them does.
    x = np.tile(KINKS if name in NAN_STAYS_NAN else KINKS[:-1], 16)
    assert_same(lambda x: getattr(F, name)(x, **options), lambda x: getattr(TF, name)(x, **options), x, **of(name))


NAN_STAYS_NAN = {"relu6", "hardtanh", "hardshrink", "threshold"}


@pytest.mark.parametrize(("name", "options"), TABLE)
def test_compiled_they_are_the_same(name, options):
    def both(x):
        call = lambda x: getattr(F, name)(x, **options)  # noqa: E731
        return call(x), cr.grad(lambda x: (call(x) * x).sum())(x)

    x = cr.tensor(X)
    for mine, compiled in zip(both(x), cr.compile(both)(x), strict=True):
        np.testing.assert_allclose(compiled.numpy(), mine.numpy(), rtol=1e-12, atol=1e-14)


PLACED = [row for row in TABLE if "inplace" in inspect.signature(getattr(F, row[0])).parameters]


@pytest.mark.parametrize("native", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("name", "options"), PLACED)
def test_in_place(name, options, native):
    def both(x):
        y = x * 1
        z = getattr(F, name)(y, inplace=True, **options)
        return y, z, getattr(F, name)(x, **options)

    x = cr.tensor(X)
    changed, found, expected = (cr.compile(both) if native else both)(x)
    assert found.tolist() == changed.tolist() == expected.tolist()
    assert x.tolist() == X.tolist()
    assert_same(
        lambda x: getattr(F, name)(x * 1, inplace=True, **options),
        lambda x: getattr(TF, name)(x * 1, inplace=True, **options),
        X,
        **of(name),
    )


def test_in_place_on_a_leaf_that_learns():
    with pytest.raises(InPlaceError, match="an in-place write to a leaf that requires grad would lose its gradient"):
        nn.ReLU(inplace=True)(cr.ones(2, requires_grad=True))


@pytest.mark.parametrize("native", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("slopes", "shape"), [(1, (5, 7)), (7, (5, 7)), (3, (2, 3, 4)), (1, ()), (1, (2, 3, 4)), (1, (7,))]
)
def test_prelu(slopes, shape, native):
    ours, theirs = twins("PReLU", slopes)
    assert_same_layer(ours, theirs, np.random.default_rng(1).normal(size=shape), native=native)
    assert nn.PReLU(slopes, 0.3).weight.tolist() == torch.nn.PReLU(slopes, 0.3).weight.tolist()
    ours.reset_parameters()
    assert ours.weight.tolist() == [0.25] * slopes


def test_prelu_at_infinity_has_a_gradient():
    x, w = cr.tensor([np.inf, -1.0], requires_grad=True), cr.tensor([0.25], requires_grad=True)
    F.prelu(x, w).sum().backward()
    assert (x.grad.tolist(), w.grad.tolist()) == ([1.0, 0.25], [-1.0])


def test_prelu_refuses_slopes_that_do_not_fit():
    with pytest.raises(ShapeError, match="weight must have one slope, or one for each of the 7 channels, got shape"):
        nn.PReLU(3)(cr.tensor(X))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_glu(dim):
    x = np.random.default_rng(1).normal(size=(4, 6)) * 3
    assert_same(lambda x: F.glu(x, dim), lambda x: TF.glu(x, dim), x)
    with pytest.raises(ShapeError, match=r"axis 1 of the input must have an even length, got shape \(5, 7\)"):
        F.glu(cr.tensor(X), 1)


def test_rrelu_draws_slopes_between_its_bounds():
    y = nn.RReLU(0.25, 0.5)(cr.full((1000,), -1.0)).numpy()
    assert (y.min() >= -0.5, y.max() <= -0.25, abs(y.mean() + 0.375) < 0.01) == (True, True, True)


@pytest.mark.parametrize(("call", "text"), [
    (lambda: F.hardtanh(cr.ones(1), 2.0, 1.0), "hardtanh: min_val must not exceed max_val, got 2.0 and 1.0. Exchange them."),
    (lambda: nn.Hardtanh(1.0, 1.0), "Hardtanh: min_val must be less than max_val, got 1.0 and 1.0."),
    (lambda: F.softshrink(cr.ones(1), -0.5), "softshrink: lambd must be 0 or more, got -0.5."),
    (lambda: F.celu(cr.ones(1), 0), "celu: alpha must not be 0. Use a positive alpha, such as 1."),
    (lambda: F.rrelu(cr.ones(1), 0.5, 0.25), "rrelu: lower must not exceed upper, got 0.5 and 0.25. Exchange them."),
])  # fmt: skip
def test_settings_that_cannot_be(call, text):
    with pytest.raises(SettingError) as error:
        call()
    assert str(error.value) == text


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
    ("Softmin", {"dim": 1}), ("ReLU6", {}), ("CELU", {"alpha": 0.5}), ("PReLU", {}), ("PReLU", {"num_parameters": 7}),
    ("LogSigmoid", {}), ("Hardsigmoid", {}), ("Hardswish", {}), ("Hardtanh", {}), ("Softsign", {}), ("Tanhshrink", {}),
    ("Hardtanh", {"min_val": -2, "max_val": 0.5}), ("Threshold", {"threshold": 0.1, "value": 20}), ("Hardshrink", {}),
    ("Softshrink", {"lambd": 0.25}), ("Hardshrink", {"lambd": 0.25}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), MODULES)
def test_modules_print_and_compute_like_pytorch(name, options):
    ours, theirs = getattr(nn, name)(**options), getattr(torch.nn, name)(**options)
    assert repr(ours) == repr(theirs)
    assert_same(ours.double(), theirs.double(), X, **of(name.lower()))
    if hasattr(theirs, "inplace"):
        options = {**options, "inplace": True}
        assert repr(getattr(nn, name)(**options)) == repr(getattr(torch.nn, name)(**options))


def test_by_name():
    assert nn.activation_by_name("relu") is nn.ReLU
    assert nn.activation_by_name("leaky_relu") is nn.LeakyReLU
    with pytest.raises(UnknownNameError) as error:
        nn.activation_by_name("rellu")
    assert str(error.value) == (
        "unknown activation 'rellu'. Did you mean 'relu' or 'rrelu' or 'relu6'? Known: celu, elu, gelu, hardshrink, "
        "hardsigmoid, hardswish, hardtanh, leakyrelu, logsigmoid, mish, prelu, relu, relu6, rrelu, selu, sigmoid, silu, "
        "softplus, softshrink, softsign, tanh, tanhshrink."
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
