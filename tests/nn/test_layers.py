"""Linear, Flatten, Identity, Dropout and one_hot."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import DataError, DtypeError, SettingError, ShapeError

from .peers import assert_same, assert_same_layer, torch, twins

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (2, 1, 3, 4), (0, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape, bias):
    arrays = [RNG.normal(size=shape), RNG.normal(size=(5, 4)), *([RNG.normal(size=5)] if bias else [])]
    assert_same(F.linear, torch.nn.functional.linear, *arrays)


def test_linear_starts_like_pytorchs():
    cr.manual_seed(0)
    layer = nn.Linear(100, 400)
    bound = 1 / math.sqrt(100)
    for parameter in (layer.weight, layer.bias):
        values = parameter.detach().numpy()
        assert abs(values).max() <= bound
        assert abs(values).max() > 0.95 * bound
        assert abs(values.mean()) < 0.1 * bound
    cr.manual_seed(0)
    assert nn.Linear(100, 400).weight.tolist() == layer.weight.tolist()
    assert nn.Linear(2, 3, dtype=cr.float64).weight.dtype == cr.float64
    assert nn.Linear(0, 3)(cr.zeros(2, 0)).shape == (2, 3)


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return str(error.value)


def test_a_wrong_last_axis_names_the_layer_and_the_line():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(16, 64), nn.ReLU(), nn.Linear(128, 10)])

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    line = Net.forward.__code__.co_firstlineno + 2
    assert text_of(ShapeError, lambda: Net()(cr.zeros(32, 16))) == (
        "Linear 'layers.2' (in_features=128): the last axis of its input must be 128, got shape (32, 64). "
        f"Make in_features=64, or change what comes before this layer. (test_layers.py:{line} in forward)"
    )


def test_an_image_where_a_row_was_meant():
    def call(*shape):
        nn.Linear(784, 10)(cr.zeros(*shape))

    where = f"(test_layers.py:{call.__code__.co_firstlineno + 1} in call)"
    assert text_of(ShapeError, lambda: call(5, 28, 28)) == (
        "Linear (in_features=784): the last axis of its input must be 784, got shape (5, 28, 28). "
        f"Flatten the input first: put nn.Flatten() before this layer. {where}"
    )
    assert text_of(ShapeError, lambda: call()) == (
        "Linear (in_features=784): the last axis of its input must be 784, got shape (). "
        f"Give it an axis of features: x.reshape(1, -1). {where}"
    )


def test_functional_linear_refuses_what_does_not_fit():
    def call(x):
        F.linear(x, cr.zeros(2, 3))

    where = f"linear (test_layers.py:{call.__code__.co_firstlineno + 1} in call)"
    assert text_of(ShapeError, lambda: call(cr.zeros(5, 4))) == (
        f"{where}: the last axis of the input must be 3 (weight (2, 3)), got shape (5, 4). "
        "Reshape the input, or change in_features."
    )
    assert text_of(DtypeError, lambda: call(cr.zeros(5, 3, dtype=cr.float64))) == (
        f"{where}: input and weight must have one dtype, got float64 and float32. "
        "Convert the input with cr.as_tensor(input, dtype=cr.float32), or the model with model.to(cr.float64)."
    )


@pytest.mark.parametrize("size", [-1, 2.0, True, None])
def test_sizes_are_checked(size):
    assert text_of(SettingError, lambda: nn.Linear(size, 2)) == (
        f"Linear: in_features must be a whole number of 0 or more, got {size!r}."
    )


def test_flatten_and_identity():
    x = cr.zeros(2, 3, 4)
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(0, 1)(x).shape == (6, 4)
    assert repr(nn.Flatten(0, 1)) == repr(torch.nn.Flatten(0, 1))
    assert nn.Identity(3, unused=4)(x) is x


def test_dropout_keeps_the_expectation():
    x = cr.ones(100_000)
    y = F.dropout(x, 0.3).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    assert abs(y.mean() - 1) < 0.01
    assert F.dropout(x, 0.3, training=False) is x
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 1.0).abs().sum().item() == 0


def test_dropout_is_fixed_by_the_seed_and_passes_gradients_where_it_kept():
    x = cr.ones(50, requires_grad=True)
    cr.manual_seed(3)
    y = nn.Dropout(0.5)(x)
    cr.manual_seed(3)
    assert nn.Dropout(0.5)(x).tolist() == y.tolist()
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()
    mine = F.dropout(x, 0.5, generator=cr.Generator(1))
    assert mine.tolist() == F.dropout(x, 0.5, generator=cr.Generator(1)).tolist()


@pytest.mark.parametrize("p", [-0.1, 1.5, "0.5", True, None])
def test_dropout_refuses_what_is_no_share(p):
    rest = f"p, the share of elements to drop, must be a number in [0, 1], got {p!r}."
    assert text_of(SettingError, lambda: nn.Dropout(p)) == f"Dropout: {rest}"
    assert text_of(SettingError, lambda: F.dropout(cr.ones(1), p)) == f"dropout: {rest}"


def test_dropout_prints():
    assert repr(nn.Dropout(0.25)) == repr(torch.nn.Dropout(0.25)) == "Dropout(p=0.25, inplace=False)"


def test_one_hot():
    labels = RNG.integers(0, 4, size=(2, 3))
    for classes in (-1, 6):
        ours = F.one_hot(cr.tensor(labels), classes)
        theirs = torch.nn.functional.one_hot(torch.tensor(labels), classes)
        assert ours.tolist() == theirs.tolist()
        assert ours.dtype == cr.int64
    assert text_of(DtypeError, lambda: F.one_hot(cr.zeros(2))).endswith(
        "class numbers must be integers, got float32. Convert them with .long()."
    )
    assert text_of(DataError, lambda: F.one_hot(cr.tensor([0, 3]), 3)).endswith(
        "label 3 at position 1 is not in [0, 2]: there are 3 classes. "
        "Number the classes from 0, or widen the last layer."
    )


@pytest.mark.parametrize("native", [False, True], ids=["eager", "compiled"])
def test_bilinear(native):
    ours, theirs = twins("Bilinear", 3, 4, 5)
    for shape in ((6,), (2, 6), ()):
        assert_same_layer(ours, theirs, RNG.normal(size=(*shape, 3)), RNG.normal(size=(*shape, 4)), native=native)
    ours, theirs = twins("Bilinear", 3, 4, 5, bias=False)
    assert_same_layer(ours, theirs, RNG.normal(size=(6, 3)), RNG.normal(size=(6, 4)), native=native)
    bound, weight = 1 / math.sqrt(100), nn.Bilinear(100, 9, 50).weight.detach().numpy()
    assert 0.95 * bound < abs(weight).max() <= bound
    with pytest.raises(ShapeError, match=r"the inputs must have shapes \(\.\.\., I\) and \(\.\.\., J\) for a weight"):
        ours(cr.zeros(6, 3), cr.zeros(5, 4))


@pytest.mark.parametrize(("name", "arguments", "shape"), [
    ("Unflatten", (1, (2, 3)), (4, 6)), ("Unflatten", (-1, (-1, 2)), (4, 6)), ("ZeroPad1d", (2,), (2, 3, 4)),
    ("ZeroPad1d", ((1, 0),), (3, 4)), ("ConstantPad1d", ((3, 1), 3.5), (2, 3, 4)), ("ConstantPad1d", ((-1, 2), 0.1), (3, 4)),
    ("Dropout1d", (0.0,), (2, 3, 4)), ("AlphaDropout", (0.0,), (2, 3)), ("Dropout2d", (0.0,), (1, 2, 3, 4)),
])  # fmt: skip
def test_layers_that_move_and_pass(name, arguments, shape):
    ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    assert repr(ours) == repr(theirs)
    x = RNG.normal(size=shape)
    x.flat[0] = np.nan
    assert_same(ours, theirs, x)


@pytest.mark.parametrize("padding", [(1, 2), (0, 1, 2, 0), (-1, 1, 0, -2), (1, 1, 1, 1, 1, 1)])
@pytest.mark.parametrize("value", [None, 2.5])
def test_pad(padding, value):
    x = RNG.normal(size=(2, 3, 4))
    assert_same(lambda x: F.pad(x, padding, value=value), lambda x: torch.nn.functional.pad(x, padding, value=value), x)


@pytest.mark.parametrize(("call", "text"), [
    (lambda: F.pad(cr.ones(2), (1, 1), "wrap"),
     "pad: the mode must be 'constant', 'reflect', 'replicate' or 'circular', got 'wrap'."),
    (lambda: F.pad(cr.ones(2), (1,)), "pad: give two numbers for each of the last axes of (2,), got (1,)."),
    (lambda: F.pad(cr.ones(2), (-2, -1)), "pad: -2 and -1 take more than axis 0 of (2,) has."),
])  # fmt: skip
def test_pad_refuses(call, text):
    assert text_of(SettingError, call) == text


@pytest.mark.parametrize(
    ("name", "shape"), [("dropout1d", (50, 40, 3)), ("dropout1d", (40, 3)), ("dropout2d", (50, 40, 3, 2))]
)
def test_dropout_of_channels(name, shape):
    y = getattr(F, name)(cr.ones(*shape), 0.25).numpy()
    channels = y.reshape(-1, int(np.prod(shape[-1 if name == "dropout1d" else -2 :])))
    assert (channels == channels[:, :1]).all()
    assert set(np.unique(y)) <= {0.0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.15
    assert not getattr(F, name)(cr.ones(*shape), 1.0).numpy().any()


def test_dropout_of_channels_needs_channels():
    with pytest.raises(ShapeError, match="the input must have 3 axes, or 2 without a batch, got shape"):
        nn.Dropout1d()(cr.ones(3))


def test_alpha_dropout_keeps_mean_and_variance():
    x = cr.randn(200_000)
    y = F.alpha_dropout(x, 0.3, True)
    assert abs(y.mean().item()) < 0.02
    assert abs(y.std().item() - 1) < 0.02
    dropped = np.unique(y.numpy().round(5), return_counts=True)
    alpha, p = 1.7580993408473766, 0.3
    a = ((alpha**2 * p + 1) * (1 - p)) ** -0.5
    assert dropped[0][dropped[1].argmax()] == pytest.approx(-alpha * a + a * alpha * p, abs=1e-4)
    assert F.alpha_dropout(x) is x
    assert not F.alpha_dropout(x, 1.0, True).numpy().any()
