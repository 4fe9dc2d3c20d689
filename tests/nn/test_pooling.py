"""MaxPool and AvgPool: values and gradients against PyTorch, eager and compiled."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import DtypeError, SettingError, ShapeError

from .peers import assert_same, assert_same_layer, torch, twins

RNG = np.random.default_rng(0)
CASES = [
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, (2, 3, 9)),
    ("MaxPool2d", (2,), {}, (2, 3, 7, 8)),
    ("MaxPool2d", ((3, 2),), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}, (2, 3, 8, 7)),
    ("MaxPool3d", (2,), {}, (2, 4, 5, 6)),
    ("AvgPool1d", (3,), {"stride": 1, "padding": 1, "count_include_pad": False}, (2, 3, 6)),
    ("AvgPool2d", (2,), {}, (3, 5, 5)),
    ("AvgPool2d", (3,), {"stride": 2, "padding": 1, "divisor_override": 5}, (2, 3, 7, 7)),
    ("AvgPool3d", ((1, 2, 2),), {"padding": (0, 1, 1)}, (2, 3, 3, 4, 5)),
]


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
@pytest.mark.parametrize(("name", "arguments", "options", "shape"), CASES, ids=[f"{c[0]} {i}" for i, c in enumerate(CASES)])  # fmt: skip
def test_the_layers(name, arguments, options, shape, native):
    ours, theirs = twins(name, *arguments, **options)
    assert_same_layer(ours, theirs, RNG.normal(size=shape), native=native)


@pytest.mark.parametrize("stride", [2, 1])
def test_of_several_that_are_largest_the_first_gets_the_gradient(stride):
    x = np.array([[[0.0, 0, 1, 1, 0], [0, 0, 1, 2, 2], [-1, -1, 2, 2, 2], [-1, -2, 2, 2, 0]]])
    assert_same(
        lambda x: F.max_pool2d(x, 2, stride), lambda x: torch.nn.functional.max_pool2d(x, 2, stride), x
    )  # fmt: skip


def test_numbers_that_are_none_and_infinite_ones():
    x = np.array([[[np.nan, 1, -np.inf, -np.inf], [0, 2, -np.inf, -np.inf], [np.inf, 0, 3, 4], [0, 0, 5, 6]]])
    for f in (F.max_pool2d, cr.compile(F.max_pool2d)):
        np.testing.assert_array_equal(f(cr.tensor(x), 2).numpy(), [[[np.nan, -np.inf], [np.inf, 6]]])


def test_errors_say_what_must_hold():
    x = cr.zeros(2, 3, 4, 4)
    for kind, text, call in [
        (ShapeError, r"\(N, C, H, W\) or \(C, H, W\)", lambda: F.max_pool2d(cr.zeros(4, 4), 2)),
        (ShapeError, r"a window, \(5, 5\) with its dilation, must fit", lambda: F.avg_pool2d(x, 5)),
        (DtypeError, "the input must be floating, got int64", lambda: F.max_pool2d(x.long(), 2)),
        (SettingError, r"padding must be at most half of kernel_size, \(2, 2\), got 2", lambda: F.max_pool2d(x, 2, padding=2)),
        (SettingError, "max_pool2d: kernel_size must be a whole number of 1 or more", lambda: F.max_pool2d(x, 0)),
        (SettingError, "MaxPool2d: ceil_mode must be False", lambda: nn.MaxPool2d(2, ceil_mode=True)),
        (SettingError, "return_indices must be False", lambda: F.max_pool2d(x, 2, return_indices=True)),
        (SettingError, "MaxPool2d: stride must be a whole number of 1", lambda: nn.MaxPool2d(2, stride=0)),
        (SettingError, "divisor_override must not be 0", lambda: F.avg_pool2d(x, 2, divisor_override=0)),
    ]:  # fmt: skip
        with pytest.raises(kind, match=text):
            call()
