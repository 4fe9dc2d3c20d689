"""Layers that learn their size from their first input."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import SettingError, ShapeError

from .peers import torch

RNG = np.random.default_rng(0)


def network():
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3, bias=False))


def test_the_first_call_makes_ordinary_layers():
    model = network()
    assert repr(nn.LazyLinear(3)) == repr(torch.nn.LazyLinear(3))
    assert repr(nn.LazyBatchNorm1d()) == repr(torch.nn.LazyBatchNorm1d())
    assert model(cr.zeros(4, 5)).shape == (4, 3)
    assert [type(layer) for layer in model] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert repr(model[0]) == "Linear(in_features=5, out_features=8, bias=True)"
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        "0.weight": (8, 5), "0.bias": (8,), "1.weight": (8,), "1.bias": (8,), "1.running_mean": (8,),
        "1.running_var": (8,), "1.num_batches_tracked": (), "3.weight": (3, 8),
    }  # fmt: skip
    assert all(type(p) is nn.Parameter and p.requires_grad and p.is_leaf for p in model.parameters())
    assert model(cr.zeros(2, 5)).shape == (2, 3)


def test_it_starts_as_the_layer_that_it_becomes():
    cr.manual_seed(0)
    lazy = nn.LazyLinear(8)
    lazy(cr.zeros(1, 5))
    cr.manual_seed(0)
    plain = nn.Linear(5, 8)
    assert lazy.weight.tolist() == plain.weight.tolist()
    assert lazy.bias.tolist() == plain.bias.tolist()
    assert nn.LazyLinear(2, dtype=cr.float64)(cr.zeros(1, 3, dtype=cr.float64)).dtype == cr.float64


@pytest.mark.at_once("bits: a compiled program's last ones are others than NumPy's")
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.RMSprop])
def test_an_optimizer_made_before_the_first_call(kind):
    """It trains as one that was made after."""
    x, y = cr.tensor(RNG.normal(size=(16, 5)).astype("f")), cr.tensor(RNG.integers(0, 3, size=16))

    def trained(early):
        cr.manual_seed(0)
        model = network()
        opt = kind(model.parameters(), lr=0.05) if early else None
        model(x)
        opt = opt or kind(model.parameters(), lr=0.05)

        @cr.compile
        def compiled():
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        for _ in range(3):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            opt.step()
        for _ in range(3):
            compiled()
        return {k: v.tolist() for k, v in model.state_dict().items()}

    assert trained(True) == trained(False)


def test_it_trains_in_a_trainer_after_its_first_call():
    cr.manual_seed(0)
    x, y = RNG.normal(size=(40, 5)).astype("f"), RNG.integers(0, 3, size=40)
    model = network()
    model(cr.tensor(x[:2]))
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.05))
    history = trainer.fit(x, y, epochs=20, batch_size=20, progress=False)
    assert history["loss"][-1] < history["loss"][0]


TEXT = (
    "this parameter of a lazy layer has no value yet: the first call of its layer makes it. Call the model once on some "
    "rows first: model(x)."
)


@pytest.mark.parametrize("use", [
    lambda layer: nn.init.normal_(layer.weight), lambda layer: layer.weight + 1, lambda layer: layer.weight.shape,
    lambda layer: layer.state_dict(), lambda layer: layer.load_state_dict(nn.Linear(2, 3).state_dict()),
    lambda layer: sum(p.numel() for p in layer.parameters()), lambda layer: layer.double(),
])  # fmt: skip
def test_what_asks_for_a_value_that_is_not_there(use):
    with pytest.raises(SettingError, match=f"^{re.escape(TEXT)}$"):
        use(nn.LazyLinear(3))


def test_the_first_call_is_not_inside_a_compiled_function():
    layer = nn.LazyLinear(3)
    with pytest.raises(SettingError, match=r"must not be inside a compiled function. Call the model once on some rows"):
        cr.compile(lambda x: layer(x))(cr.zeros(2, 4))
    assert type(layer) is nn.LazyLinear
    assert layer(cr.zeros(2, 4)).shape == (2, 3)


def test_an_input_without_features():
    with pytest.raises(ShapeError, match="the input must have an axis of features"):
        nn.LazyLinear(3)(cr.tensor(1.0))
    with pytest.raises(ShapeError, match="the input must have 2 or 3 axes"):
        nn.LazyBatchNorm1d()(cr.zeros(3))
