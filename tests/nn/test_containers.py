"""Sequential, ModuleList and ModuleDict."""

from __future__ import annotations

import re
from collections import OrderedDict

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import IndexRangeError, SettingError

from .peers import torch


@pytest.fixture(params=["ours", "theirs"])
def lib(request):
    return nn if request.param == "ours" else torch.nn


def keys(module):
    return list(module._modules)


def test_sequential_is_a_list_of_layers(lib):
    model = lib.Sequential(lib.Linear(2, 3), lib.ReLU(), lib.Linear(3, 1))
    assert len(model) == 3
    assert model[-1] is model[2]
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU", "Linear"]
    model.append(lib.Tanh())
    model[1] = lib.GELU()
    assert [type(m).__name__ for m in model] == ["Linear", "GELU", "Linear", "Tanh"]
    del model[1]
    assert keys(model) == ["0", "1", "2"]
    model.insert(1, lib.ReLU())
    assert [type(m).__name__ for m in model] == ["Linear", "ReLU", "Linear", "Tanh"]
    model.extend([lib.ReLU()])
    assert keys(model) == ["0", "1", "2", "3", "4"]
    del model[1:3]
    assert [type(m).__name__ for m in model] == ["Linear", "Tanh", "ReLU"]


def test_named_layers_and_slices_have_pytorchs_keys():
    def make(lib):
        return lib.Sequential(OrderedDict([("fc", lib.Linear(2, 2)), ("act", lib.ReLU()), ("out", lib.Linear(2, 1))]))

    ours, theirs = make(nn), make(torch.nn)
    assert keys(ours) == keys(theirs) == ["fc", "act", "out"]
    assert keys(ours[1:]) == keys(theirs[1:])
    assert repr(ours) == repr(theirs)
    assert ours.fc is ours[0]
    plain = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())
    peer = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU(), torch.nn.ReLU())
    assert keys(plain[1:]) == keys(peer[1:])


def test_indices_out_of_range():
    with pytest.raises(IndexRangeError) as error:
        nn.Sequential(nn.ReLU())[1]
    assert str(error.value) == "Sequential holds 1 modules; index 1 is out of range."


def test_only_modules_may_enter():
    with pytest.raises(SettingError) as error:
        nn.Sequential(lambda x: x)
    assert str(error.value) == (
        "Sequential: layer 0 must be an nn.Module, got the function <lambda>. An activation is a layer of its own, such as "
        "nn.ReLU(); a function is called in a forward of your own."
    )
    with pytest.raises(SettingError) as error:
        nn.Sequential(3)
    assert str(error.value) == ("Sequential.register_module('0'): the value must be an nn.Module or None, got int.")
    with pytest.raises(SettingError) as error:
        nn.ModuleDict({"a": 3})
    assert str(error.value) == "ModuleDict['a']: the value must be an nn.Module, got int."


def test_a_list_prints_neighbours_that_are_alike_as_pytorchs():
    def made(lib):
        block = lib.Sequential(lib.Linear(2, 3), lib.ReLU())
        return lib.ModuleList([lib.Linear(2, 2), lib.Linear(2, 2), lib.ReLU(), block, block, lib.Linear(2, 2)])

    for wrap in (lambda lib, listed: listed, lambda lib, listed: lib.Sequential(listed, lib.Tanh())):
        assert repr(wrap(nn, made(nn))) == repr(wrap(torch.nn, made(torch.nn)))
    assert repr(nn.ModuleList()) == repr(torch.nn.ModuleList())


def test_module_list(lib):
    layers = lib.ModuleList([lib.Linear(1, 1)])
    layers += [lib.ReLU()]
    layers.append(lib.Tanh())
    assert [type(m).__name__ for m in layers[1:]] == ["ReLU", "Tanh"]
    assert isinstance(layers[:1], lib.ModuleList)
    assert list(layers.state_dict()) == ["0.weight", "0.bias"]


def test_module_dict(lib):
    table = lib.ModuleDict([("a", lib.ReLU()), ("b", lib.Linear(1, 1))])
    assert "a" in table
    assert len(table) == 2
    assert list(table) == list(table.keys()) == ["a", "b"]
    assert [type(m).__name__ for m in table.values()] == ["ReLU", "Linear"]
    table.update({"c": lib.Tanh()})
    assert type(table.pop("a")).__name__ == "ReLU"
    del table["b"]
    assert [name for name, _ in table.items()] == ["c"]
    table.clear()
    assert len(table) == 0


def test_unknown_keys():
    with pytest.raises(KeyError) as error:
        nn.ModuleDict({"a": nn.ReLU()})["b"]
    assert error.value.args == ("ModuleDict has no module 'b'. It has: a.",)


def test_shared_layers_receive_both_gradients():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(model.parameters())) == 2
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    model(cr.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None


def test_layers_are_taken_out_by_position():
    for row in (nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid()), nn.ModuleList([nn.ReLU(), nn.Tanh(), nn.Sigmoid()])):
        assert isinstance(row.pop(1), nn.Tanh)
        assert [type(m).__name__ for m in row] == ["ReLU", "Sigmoid"]
        assert isinstance(row.pop(-1), nn.Sigmoid)
        assert list(row._modules) == ["0"]


def test_a_list_of_layers_is_refused_with_the_way_to_write_it():
    text = "Sequential: the layers are arguments of their own, got a list of 2. Write Sequential(*layers)."
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        nn.Sequential([nn.Linear(2, 3), nn.ReLU()])
