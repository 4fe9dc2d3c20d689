"""nn.utils.weight_norm and spectral_norm against PyTorch's: state, values, gradients, steps, and what takes them off."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import SettingError
from tests.optional import torch

pytestmark = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
RNG = np.random.default_rng(0)
LAYERS = {
    "linear": lambda lib: (lib.nn.Linear(4, 3), (5, 4)),
    "conv": lambda lib: (lib.nn.Conv2d(2, 3, 3), (2, 2, 5, 5)),
    "transposed": lambda lib: (lib.nn.ConvTranspose1d(2, 3, 3), (2, 2, 5)),
}
WAYS = {
    "weight": lambda lib, layer: lib.nn.utils.weight_norm(layer),
    "whole": lambda lib, layer: lib.nn.utils.weight_norm(layer, dim=None),
    "another axis": lambda lib, layer: lib.nn.utils.weight_norm(layer, dim=1),
    "spectral": lambda lib, layer: lib.nn.utils.spectral_norm(layer),
    "three times": lambda lib, layer: lib.nn.utils.spectral_norm(layer, n_power_iterations=3),
}


def trained(lib, layer, shape, wrap=lambda step: step):
    """What some steps leave, and what the layer gives then, in evaluation."""
    opt = lib.optim.SGD(layer.parameters(), lr=0.05, momentum=0.5)
    x = lib.tensor(np.random.default_rng(1).normal(size=shape), dtype=lib.float64)

    def step(x):
        opt.zero_grad()
        loss = (layer(x) - 1).square().mean()
        loss.backward()
        opt.step()
        return loss

    step = wrap(step)
    losses = [step(x).item() for _ in range(3)]
    layer.eval()
    result = [layer(x), layer.weight, *layer.state_dict().values()]
    return [np.array(losses), *(value.detach().numpy() for value in result)]


def twins(kind, way):
    theirs, shape = LAYERS[kind](torch)
    theirs = WAYS[way](torch, theirs.double())
    ours = WAYS[way](cr, LAYERS[kind](cr)[0].double())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: cr.tensor(value.numpy()) for name, value in theirs.state_dict().items()})
    return ours, theirs, shape


@pytest.mark.parametrize("wrap", [lambda step: step, cr.compile], ids=["at once", "compiled"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", LAYERS)
def test_steps_are_pytorchs(kind, way, wrap):
    torch.manual_seed(0)
    ours, theirs, shape = twins(kind, way)
    assert repr(ours) == repr(theirs)
    for a, b in zip(trained(cr, ours, shape, wrap), trained(torch, theirs, shape), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", ["weight", "whole"])
@pytest.mark.parametrize("kind", LAYERS)
def test_at_first_the_weight_is_what_it_was(kind, way):
    layer, _ = LAYERS[kind](cr)
    before = layer.weight.detach().numpy()
    assert WAYS[way](cr, layer) is layer
    np.testing.assert_allclose(layer.weight.detach().numpy(), before, rtol=1e-6)


@pytest.mark.parametrize(("way", "remove"), [("weight", "remove_weight_norm"), ("spectral", "remove_spectral_norm")])
def test_taken_off_the_weight_stays(way, remove):
    torch.manual_seed(0)
    ours, theirs, _ = twins("linear", way)
    x = RNG.normal(size=(2, 4))
    before = ours(cr.tensor(x))
    theirs(torch.tensor(x))
    for lib, layer in ((cr, ours), (torch, theirs)):
        assert getattr(lib.nn.utils, remove)(layer) is layer
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["bias", "weight"]
    assert type(ours) is nn.Linear
    assert ours.weight.is_leaf and ours.weight.requires_grad
    np.testing.assert_allclose(ours(cr.tensor(x)).detach().numpy(), before.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.weight.detach().numpy(), theirs.weight.detach().numpy(), rtol=1e-9)


def test_two_weights_of_one_layer():
    layer = nn.LSTM(3, 4)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        nn.utils.weight_norm(layer, name)
    x = cr.ones(2, 1, 3)
    layer(x)[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    nn.utils.remove_weight_norm(layer, "weight_ih_l0")
    assert {"weight_ih_l0", "weight_hh_l0_g"} <= set(layer.state_dict())
    nn.utils.remove_weight_norm(layer, "weight_hh_l0")
    assert type(layer) is nn.LSTM


def test_a_copy_is_its_own():
    layer = nn.utils.spectral_norm(nn.Linear(3, 2))
    other = copy.deepcopy(layer)
    with cr.no_grad():
        other.weight_orig.zero_()
    other.weight_u.fill_(1.0)
    assert layer.weight.abs().sum().item() > 0
    assert layer.weight_u.tolist() != other.weight_u.tolist()


def test_in_evaluation_and_between_calls_nothing_moves():
    layer = nn.utils.spectral_norm(nn.Linear(3, 2))
    held = layer.weight_u.tolist()
    layer.weight, layer.weight  # noqa: B018
    layer.eval()(cr.ones(1, 3))
    assert layer.weight_u.tolist() == held
    layer.train()(cr.ones(1, 3))
    assert layer.weight_u.tolist() != held


def test_refusals():
    layer = nn.utils.weight_norm(nn.Linear(3, 2))
    for function, text in (
        (lambda: nn.utils.weight_norm(layer), "weight_norm: Linear.weight is normalised already. Take that off first."),
        (lambda: nn.utils.spectral_norm(layer), "spectral_norm: Linear.weight is normalised already. Take that off first."),
        (lambda: nn.utils.weight_norm(nn.Linear(3, 2), "w"), "weight_norm: Linear has no parameter 'w'. It has weight, bias."),
        (lambda: nn.utils.weight_norm(nn.LazyLinear(2)), "weight_norm: LazyLinear.weight has no size yet. Call the module once before."),
        (lambda: nn.utils.remove_spectral_norm(layer), "remove_spectral_norm: Linear.weight was not given one."),
        (lambda: nn.utils.remove_weight_norm(nn.Linear(3, 2)), "remove_weight_norm: Linear.weight was not given one."),
        (lambda: nn.utils.spectral_norm(nn.Linear(3, 2), n_power_iterations=0),
         "spectral_norm: n_power_iterations must be 1 or more, got 0."),
    ):  # fmt: skip
        with pytest.raises(SettingError) as error:
            function()
        assert re.sub(r" \(test_norms.py.*?\)", "", str(error.value)) == text
