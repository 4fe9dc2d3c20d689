"""F.unfold, F.fold and F.gumbel_softmax, and functions that write to their argument, against PyTorch's."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import SettingError, ShapeError
from chainrule.nn.functional import writing as functional_writing
from chainrule.tensor.writing import NAMES
from tests.optional import torch

RNG = np.random.default_rng(0)
CASES = [
    ((2, 3, 6, 7), {"kernel_size": 3}),
    ((2, 3, 6, 7), {"kernel_size": (2, 3), "padding": (1, 2), "stride": (2, 1)}),
    ((1, 2, 8, 9), {"kernel_size": (2, 3), "dilation": (3, 2), "stride": 2, "padding": 1}),
    ((3, 5, 5), {"kernel_size": 2, "stride": 3}),  # rows that lie in no window
    ((0, 2, 4, 4), {"kernel_size": 2}),
]


def both(lib, shape, options, wrap):
    """Columns, images from them, and the gradients of both; and the second derivative of their squares."""
    x = lib.tensor(np.arange(np.prod(shape)).reshape(shape) % 7 - 3.0, requires_grad=True)

    def computed(x):
        columns = lib.nn.functional.unfold(x, **options)
        images = lib.nn.functional.fold(columns * columns, shape[-2:], **options)
        (first,) = lib.autograd.grad((images * images).sum(), [x], create_graph=True)
        (second,) = lib.autograd.grad((first * first).sum(), [x])
        return columns, images, first, second

    return [found.detach().numpy() for found in wrap(computed)(x)]


@pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["at once", "compiled"])
@pytest.mark.parametrize(("shape", "options"), CASES, ids=str)
def test_columns_and_images_are_pytorchs(shape, options, wrap):
    for a, b in zip(both(cr, shape, options, wrap), both(torch, shape, options, lambda f: f), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    ours, theirs = nn.Unfold(**options), torch.nn.Unfold(**options)
    assert repr(ours) == repr(theirs)
    assert repr(nn.Fold(shape[-2:], **options)) == repr(torch.nn.Fold(shape[-2:], **options))
    x = RNG.normal(size=shape)
    assert ours(cr.tensor(x)).tolist() == theirs(torch.tensor(x)).tolist()
    columns = RNG.normal(size=ours(cr.tensor(x)).shape)
    np.testing.assert_allclose(
        nn.Fold(shape[-2:], **options)(cr.tensor(columns)).numpy(),
        torch.nn.Fold(shape[-2:], **options)(torch.tensor(columns)),
    )


def test_a_convolution_is_a_product_with_columns():
    x, w = cr.tensor(RNG.normal(size=(2, 3, 6, 6))), cr.tensor(RNG.normal(size=(4, 3, 3, 3)))
    product = (w.reshape(4, -1) @ F.unfold(x, 3)).reshape(2, 4, 4, 4)
    np.testing.assert_allclose(product.numpy(), F.conv2d(x, w).numpy(), rtol=1e-9)


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return re.sub(r" \(test_windows.py.*?\)", "", str(error.value))


def test_refusals():
    assert text_of(ShapeError, lambda: F.unfold(cr.zeros(3, 3), 2)) == (
        "unfold: the input must be (N, C, H, W) or (C, H, W), got shape (3, 3). Reshape it."
    )
    assert text_of(ShapeError, lambda: F.unfold(cr.zeros(1, 3, 3), 4)) == (
        "unfold: a window, with its dilation, must fit in the image with its padding, (3, 3), got kernel_size (4, 4). Take smaller "
        "windows, or more padding."
    )
    assert text_of(ShapeError, lambda: F.fold(cr.zeros(6, 4), 3, 2)) == (
        "fold: the input must be (N, C * 4, 4) or without N: 2 x 2 windows of 2 x 2 elements, got shape (6, 4). Give what F.unfold "
        "gives with the same sizes."
    )
    assert text_of(SettingError, lambda: F.unfold(cr.zeros(1, 3, 3), 0)) == (
        "unfold: kernel_size must be a whole number of 1 or more, or 2 of them, got 0."
    )
    assert (
        text_of(SettingError, lambda: F.gumbel_softmax(cr.zeros(3), tau=0))
        == "gumbel_softmax: tau must be above 0, got 0."
    )


# -- drawn classes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["at once", "compiled"])
def test_classes_are_drawn_as_often_as_they_are_likely(wrap):
    logits = cr.tensor([0.0, 1.0, 2.0]).expand(4000, 3)
    cr.manual_seed(0)
    drawn = wrap(lambda x: F.gumbel_softmax(x, tau=0.5, hard=True))(logits)
    assert sorted(set(drawn.flatten().tolist())) == [0.0, 1.0]
    np.testing.assert_allclose(drawn.mean(0).numpy(), logits[0].softmax(0).numpy(), atol=0.03)


def test_the_gradient_is_that_of_the_soft_ones():
    found, logits = [], RNG.normal(size=(5, 4))
    for hard in (False, True):
        x = cr.tensor(logits, requires_grad=True)
        y = F.gumbel_softmax(x, tau=2.0, hard=hard, generator=cr.Generator().manual_seed(3))
        (y * cr.arange(4.0)).sum().backward()
        found.append(x.grad.numpy())
        if hard:
            np.testing.assert_allclose(y.detach().sum(-1).numpy(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    assert np.abs(found[0]).max() > 0.01


# -- functions that write ---------------------------------------------------------------------------

MORE = {
    "addmv_": ([[1.0, 2.0], [3.0, 4.0]], [0.5, 0.25]),
    "fill_": (3.0,),
    "xlogy_": ([1.0, 2.0],),
    "clamp_max_": (0.3,),
}
MORE |= {"clamp_": (0.1, 0.3), "clip_": (0.1, 0.3), "clamp_min_": (0.3,)}


@pytest.mark.parametrize("name", NAMES)
def test_a_function_that_writes_is_pytorchs(name):
    found = {}
    for lib in (cr, torch):
        x = lib.tensor([0.25, 1.5 if "cosh" in name else 0.5])
        kept = x
        given = [lib.tensor(value) if isinstance(value, list) else value for value in MORE.get(name, ())]
        with lib.no_grad():
            assert getattr(lib, name)(x, *given) is x or name == "detach_"
        found[lib] = kept.tolist()
    np.testing.assert_allclose(found[cr], found[torch], rtol=1e-6)


ACTIVATIONS = sorted(name for name in vars(functional_writing) if name.endswith("_") and name[0] != "_")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_that_writes_is_pytorchs(name):
    given = {"threshold_": (0.1, 20.0)}.get(name, ())
    x, y = cr.tensor([-2.0, -0.5, 0.5, 2.0]), torch.tensor([-2.0, -0.5, 0.5, 2.0])
    getattr(F, name)(x, *given)
    getattr(torch.nn.functional, name)(y, *given)
    np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-6)
    assert len(ACTIVATIONS) == 8


def test_functions_of_layers_are_at_pytorchs_second_address():
    assert cr.conv2d is F.conv2d
    assert [name for name in cr._ALSO if not callable(getattr(torch, name))] == []
    x, w = RNG.normal(size=(1, 2, 5)), RNG.normal(size=(3, 2, 2))
    found = [lib.conv1d(lib.tensor(x), lib.tensor(w), None, 2).numpy() for lib in (cr, torch)]
    np.testing.assert_allclose(*found, rtol=1e-9)
