"""Conv1d, Conv2d and Conv3d; the values and gradients of their formulas stand in the table of ops."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.data import load
from chainrule.errors import DtypeError, InPlaceError, SettingError, ShapeError

from .peers import assert_same_layer, twins

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
@pytest.mark.parametrize(
    ("name", "arguments", "options", "shape"),
    [
        ("Conv1d", (4, 6, 3), {"padding": "same", "groups": 2}, (3, 4, 9)),
        ("Conv2d", (3, 5, (3, 2)), {"stride": (2, 1), "padding": (2, 1), "dilation": (1, 2), "bias": False}, (2, 3, 8, 9)),
        ("Conv2d", (6, 6, 3), {"groups": 6, "padding": 1}, (2, 6, 5, 7)),
        ("Conv2d", (2, 4, 3), {"padding": "valid"}, (2, 5, 6)),
        ("Conv3d", (2, 3, 2), {"padding": 1, "stride": 2}, (2, 2, 4, 5, 3)),
    ],
)  # fmt: skip
def test_the_layers(name, arguments, options, shape, native):
    ours, theirs = twins(name, *arguments, **options)
    assert_same_layer(ours, theirs, RNG.normal(size=shape), native=native)


def test_it_starts_like_pytorchs():
    layer = nn.Conv2d(30, 40, 5, groups=2)
    bound = 1 / math.sqrt(15 * 25)
    for parameter in (layer.weight, layer.bias):
        values = parameter.detach().numpy()
        assert 0.9 * bound < abs(values).max() <= bound and abs(values.mean()) < 0.2 * bound
    assert layer.weight.shape == (40, 15, 5, 5)
    assert nn.Conv2d(1, 2, 3, bias=False, dtype=cr.float64).weight.dtype == cr.float64


def test_its_multiply_adds_are_counted():
    found = nn.summary(nn.Conv2d(3, 8, 3, padding=1), cr.zeros(2, 3, 10, 10))
    assert found.multiply_adds == 2 * 8 * 10 * 10 * 27


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return str(error.value).replace("\n", " ")


def test_errors_say_what_must_hold():
    x, w = cr.zeros(2, 3, 5, 5), cr.zeros(4, 3, 3, 3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3))
    assert (
        "conv2d in layer 'Sequential.1' (" in (text := text_of(ShapeError, lambda: model(x)))
        and "the input must have 3 channels (weight (4, 3, 3, 3), groups 1)" in text
        and "shape (2, 4, 3, 3) with 4" in text
    )
    assert "(N, C, H, W) or (C, H, W)" in text_of(ShapeError, lambda: F.conv2d(cr.zeros(5, 5), w))
    for shape, remedy in (((5, 5), "x.unsqueeze(0)"), ((2, 2, 3, 5, 5), "x.flatten(0, 1)"), ((5,), "Reshape it.")):
        assert remedy in text_of(ShapeError, lambda shape=shape: F.conv2d(cr.zeros(shape), w))
        assert remedy in text_of(ShapeError, lambda shape=shape: F.max_pool2d(cr.zeros(shape), 2))
    assert "x.unsqueeze(1)" in text_of(ShapeError, lambda: F.conv2d(cr.zeros(9, 5, 5), cr.zeros(4, 1, 3, 3)))
    assert "the weight must have 4 axes" in text_of(ShapeError, lambda: F.conv2d(x, cr.zeros(4, 3, 3)))
    assert "a window, (7, 3) with its dilation" in text_of(
        ShapeError, lambda: F.conv2d(x, w, dilation=(3, 1))
    ) and "its padding, (5, 5)" in text_of(ShapeError, lambda: F.conv2d(x, w, dilation=(3, 1)))
    assert "the bias must have shape (4,)" in text_of(ShapeError, lambda: F.conv2d(x, w, cr.zeros(3)))
    assert "one floating dtype, got float64 and float32" in text_of(DtypeError, lambda: F.conv2d(x.double(), w))
    assert "one floating dtype, got int64 and int64" in text_of(DtypeError, lambda: F.conv2d(x.long(), w.long()))
    assert "groups must be 1 or more and divide the 4 output channels, got 3" in text_of(
        SettingError, lambda: F.conv2d(x, w, groups=3)
    )
    for wrong in ({"stride": 0}, {"dilation": (1, 2, 3)}, {"padding": -1}, {"padding": "full"}):
        (what,) = wrong
        assert f"conv2d: {what} must be a" in text_of(SettingError, lambda wrong=wrong: F.conv2d(x, w, **wrong))
    assert "padding='same' needs a stride of 1, got (2, 2)" in text_of(
        SettingError, lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same")
    )
    assert "Conv2d: padding_mode must be 'zeros', got 'reflect'" in text_of(
        SettingError, lambda: nn.Conv2d(3, 4, 3, padding_mode="reflect")
    )
    assert "Conv2d: in_channels must be a multiple of groups, got 3 and 2" in text_of(
        SettingError, lambda: nn.Conv2d(3, 4, 3, groups=2)
    )
    assert "): size must be a whole number of 1 or more, got 0" in text_of(SettingError, lambda: x.unfold(2, 0, 1))
    assert "a window must fit in axis 2 of size 5" in text_of(ShapeError, lambda: x.unfold(2, 6, 1))


def test_an_empty_batch_and_no_channels():
    w = cr.ones(4, 3, 3, 3).requires_grad_()
    F.conv2d(cr.zeros(0, 3, 5, 5), w).sum().backward()
    assert w.grad.abs().sum().item() == 0
    assert cr.compile(F.conv2d)(cr.zeros(0, 3, 5, 5), w).shape == (0, 4, 3, 3)
    assert F.conv2d(cr.zeros(2, 0, 5, 5), cr.zeros(4, 0, 3, 3), cr.ones(4)).sum().item() == 2 * 4 * 9


def test_windows_are_a_view():
    x = cr.arange(6.0)
    windows = x.unfold(0, 3, 1)
    x[2] = 9.0
    assert windows.tolist() == [[0, 1, 9], [1, 9, 3], [9, 3, 4], [3, 4, 5]]
    with pytest.raises(InPlaceError, match="in windows of a tensor several elements may be one"):
        windows[0] = 1.0


def test_a_network_with_convolutions_learns_digits():
    X, y = load("digits").train
    images, y = X.reshape(-1, 1, 8, 8)[:600], y[:600]
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))  # fmt: skip
    trainer = cr.Trainer(model, F.cross_entropy, cr.optim.Adam(model.parameters(), lr=3e-3), metrics=["accuracy"])
    trainer.fit(images, y, epochs=12, batch_size=50, seed=0, progress=False)
    assert trainer.evaluate(images, y)["accuracy"] > 0.95
