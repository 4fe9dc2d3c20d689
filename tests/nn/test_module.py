"""Modules: registration, walking, state, printing, names - as PyTorch's."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule import graph, nn
from chainrule.errors import DtypeError, SettingError, StateDictError

from .peers import torch


def build(lib, tensor):
    """The same module in either library: nested, with a shared layer, buffers and a missing bias."""

    class Block(lib.Module):
        def __init__(self):
            super().__init__()
            self.scale = lib.Parameter(tensor.ones(2))
            self.register_buffer("mean", tensor.zeros(2))
            self.register_buffer("scratch", tensor.zeros(2), persistent=False)
            self.linear = lib.Linear(3, 2, bias=False)

        def forward(self, x):
            return self.linear(x) * self.scale + self.mean

    class Net(lib.Module):
        def __init__(self):
            super().__init__()
            self.first = Block()
            self.tail = lib.Sequential(lib.ReLU(), lib.Linear(2, 3), lib.Dropout(0.25))
            self.again = self.tail[1]
            self.layers = lib.ModuleList([Block(), lib.Identity()])
            self.named = lib.ModuleDict({"a": lib.Flatten(), "b": lib.GELU()})
            self.own = lib.Parameter(tensor.zeros(1))

        def forward(self, x):
            return self.layers[0](self.tail(self.first(x)))

    return Net()


@pytest.fixture
def ours():
    return build(nn, cr)


@pytest.fixture
def theirs():
    return build(torch.nn, torch)


def test_every_walk_gives_pytorchs_names_in_its_order(ours, theirs):
    for walk in ("named_parameters", "named_buffers", "named_modules", "named_children"):
        assert [n for n, _ in getattr(ours, walk)()] == [n for n, _ in getattr(theirs, walk)()], walk
    for walk in ("named_parameters", "named_buffers", "named_modules"):
        assert [n for n, _ in getattr(ours, walk)(prefix="p", remove_duplicate=False)] == [
            n for n, _ in getattr(theirs, walk)(prefix="p", remove_duplicate=False)
        ], walk
    assert [n for n, _ in ours.named_parameters(recurse=False)] == ["own"]
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))
    assert len(list(ours.modules())) == len(list(theirs.modules()))
    assert len(list(ours.children())) == len(list(theirs.children()))
    assert len(list(ours.buffers())) == len(list(theirs.buffers()))


def test_the_repr_is_pytorchs(ours, theirs):
    assert repr(ours) == repr(theirs)


def test_state_dict_has_pytorchs_keys_and_loads_pytorchs_values(ours, theirs):
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.state_dict(prefix="m.")) == list(theirs.state_dict(prefix="m."))
    result = ours.load_state_dict(theirs.state_dict())
    assert result == ([], [])
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    a, b = ours.eval()(cr.tensor(x)), theirs.eval()(torch.tensor(x))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-6, atol=1e-7)


def test_state_dict_is_a_view_and_its_copy_a_round_trip(ours):
    shown = ours.state_dict()
    saved = copy.deepcopy(shown)
    before = saved["own"].tolist()
    with cr.no_grad():
        ours.own.add_(1.0)
    assert saved["own"].tolist() == before
    assert shown["own"].tolist() == ours.own.tolist() != before
    assert not saved["own"].requires_grad
    assert ours.state_dict(keep_vars=True)["own"] is ours.own
    handle = ours.own
    ours.load_state_dict({k: v.numpy() for k, v in saved.items()})
    assert ours.own is handle
    assert ours.own.requires_grad
    assert ours.own.tolist() == before


def test_a_state_dict_that_does_not_fit_lists_everything_and_loads_nothing():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    saved = model.state_dict()
    before = model[0].weight.tolist()
    saved["0.weight"] = cr.zeros(3, 4)
    saved["0.bias"] = cr.zeros(3)
    del saved["2.bias"]
    saved["3.weight"] = saved["2.weight"]
    with pytest.raises(StateDictError) as error:
        model.load_state_dict(saved)
    assert str(error.value) == (
        "the state_dict does not fit Sequential; nothing was loaded.\n"
        "  missing from the state_dict: '2.bias'\n"
        "  unexpected in the state_dict: '3.weight'\n"
        "  shape of '0.weight': the module has (3, 2), the state_dict (3, 4)\n"
        "Build the model as it was when it was saved, or pass strict=False to load only the keys that match."
    )
    assert model[0].weight.tolist() == before
    del saved["0.weight"]
    assert model.load_state_dict(saved, strict=False) == (["0.weight", "2.bias"], ["3.weight"])
    assert model[0].bias.tolist() == [0.0, 0.0, 0.0]


def test_shapes_must_fit_even_when_not_strict():
    with pytest.raises(StateDictError) as error:
        nn.Linear(2, 1).load_state_dict({"weight": cr.zeros(2, 2)}, strict=False)
    assert "shape of 'weight': the module has (1, 2), the state_dict (2, 2)" in str(error.value)


def test_loading_casts_to_the_modules_dtype():
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": np.ones((1, 2)), "bias": np.ones(1)})
    assert model.weight.dtype == cr.float32


def test_modes_reach_everything(ours):
    assert ours.eval() is ours
    assert not any(module.training for module in ours.modules())
    ours.train()
    assert all(module.training for module in ours.modules())
    with pytest.raises(SettingError) as error:
        ours.train("yes")
    assert str(error.value) == "train(mode): mode must be True or False, got 'yes'."


def test_freezing_and_forgetting_gradients(ours):
    ours(cr.ones(2, 3)).sum().backward()
    assert ours.tail[1].weight.grad is not None
    ours.zero_grad(set_to_none=False)
    assert ours.tail[1].weight.grad.abs().sum().item() == 0
    ours.zero_grad()
    assert all(p.grad is None for p in ours.parameters())
    assert ours.requires_grad_(False) is ours
    assert not any(p.requires_grad for p in ours.parameters())


def test_apply_visits_children_first(ours, theirs):
    mine, other = [], []
    ours.apply(lambda m: mine.append(type(m).__name__))
    theirs.apply(lambda m: other.append(type(m).__name__))
    assert mine == other


def test_conversion_keeps_handles_gradients_and_integers(ours):
    ours.register_buffer("count", cr.tensor([1, 2]))
    optimizer_sees = ours.own
    ours(cr.ones(2, 3)).sum().backward()
    assert ours.double() is ours
    assert ours.own is optimizer_sees
    assert {p.dtype.name for p in ours.parameters()} == {"float64"}
    assert ours.tail[1].weight.grad.dtype == cr.float64
    assert ours.count.dtype == cr.int64
    ours(cr.ones(2, 3, dtype=cr.float64)).sum().backward()
    assert ours.float().own.dtype == cr.float32
    assert ours.to(cr.float64).own.dtype == cr.float64
    assert ours.to("cpu").own.dtype == cr.float64
    assert ours.to(cr.zeros(1)).own.dtype == cr.float32
    assert ours.to("cpu", dtype=cr.float64).own.dtype == cr.float64
    with pytest.raises(SettingError) as error:
        ours.to("cuda")
    assert str(error.value) == (
        "device='cuda': there is only the CPU here. Leave the device out, or say 'cpu' (cr.cuda.is_available() is False)."
    )
    with pytest.raises(DtypeError) as error:
        ours.to(cr.int64)
    assert str(error.value) == "to(): a module's parameters must be float32, float64 or bfloat16, got int64."


def test_getting_by_path(ours):
    assert ours.get_submodule("") is ours
    assert ours.get_submodule("tail.1") is ours.tail[1]
    assert ours.get_parameter("tail.1.weight") is ours.tail[1].weight
    assert ours.get_buffer("first.mean") is ours.first.mean
    with pytest.raises(AttributeError) as error:
        ours.get_parameter("tail.1.wait")
    assert str(error.value) == "Linear at 'tail.1' has no parameter 'wait'. It has: weight, bias."
    with pytest.raises(AttributeError) as error:
        ours.get_submodule("tail.7.x")
    assert str(error.value) == "Sequential at 'tail' has no submodule '7'. It has: 0, 1, 2."
    with pytest.raises(AttributeError) as error:
        ours.missing  # noqa: B018
    assert str(error.value) == "'Net' object has no attribute 'missing'"


def test_attributes_move_between_kinds():
    module = nn.Module()
    module.x = 3
    module.x = nn.Parameter(cr.zeros(2))
    assert list(module.state_dict()) == ["x"]
    module.x = nn.Linear(1, 1)
    assert list(module.state_dict()) == ["x.weight", "x.bias"]
    module.x = None
    assert module.x is None
    del module.x
    assert not hasattr(module, "x")
    module.register_buffer("b", None)
    module.b = cr.ones(1)
    assert list(module.state_dict()) == ["b"]
    assert "b" in dir(module)
    module.register_module("m", None)
    assert list(module.modules()) == [module]
    assert repr(module) == "Module(\n  (m): None\n)"


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return str(error.value)


def test_wrong_assignments():
    linear = nn.Linear(2, 1)
    assert text_of(SettingError, lambda: setattr(linear, "weight", cr.zeros(1, 2))) == (
        "Linear.weight is a registered parameter: assign a nn.Parameter or None, got Tensor. To change only its "
        "value, write `with cr.no_grad(): module.weight.copy_(value)`; to drop the parameter, "
        "`del module.weight` first."
    )
    assert text_of(SettingError, lambda: linear.register_parameter("w", cr.zeros(1))) == (
        "Linear.register_parameter('w'): the value must be an nn.Parameter or None, got Tensor. "
        "Wrap it: nn.Parameter(value)."
    )
    assert text_of(SettingError, lambda: linear.register_buffer("w", 3)) == (
        "Linear.register_buffer('w'): the value must be a Tensor or None, got int. Make one: cr.as_tensor(value)."
    )
    assert text_of(SettingError, lambda: linear.register_module("w", 3)) == (
        "Linear.register_module('w'): the value must be an nn.Module or None, got int."
    )
    assert text_of(SettingError, lambda: linear.register_buffer("a.b", None)) == (
        "Linear: the name of a buffer must be a non-empty string without '.', got 'a.b'. "
        "Dots separate levels in the keys of state_dict."
    )
    assert text_of(SettingError, lambda: linear.register_buffer("forward", None)) == (
        "Linear: attribute 'forward' exists already and is no buffer. Choose another name."
    )


def test_forgetting_super_init():
    class Net(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    assert text_of(SettingError, Net) == (
        "Net.layer: a module was assigned before Module.__init__() ran. "
        "Make `super().__init__()` the first line of Net.__init__."
    )


def test_no_forward():
    assert text_of(NotImplementedError, lambda: nn.Module()(1)) == (
        "Module has no forward. Define `def forward(self, x): ...` in it."
    )
    assert text_of(NotImplementedError, lambda: nn.ModuleList([nn.ReLU()])(1)) == (
        "ModuleList has no forward. Define `def forward(self, x): ...` in it (a container only holds layers: "
        "call them one by one)."
    )


class Spy(nn.Module):
    """Notes the name under which it runs."""

    def forward(self, x):
        self.seen = graph.current_layer()
        return x


def test_layers_know_their_qualified_names():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Spy(), nn.Sequential(Spy())])
            self.table = nn.ModuleDict({"a": Spy()})
            self.nested = nn.ModuleList([nn.ModuleList([Spy()])])
            self.layers.append(Spy())

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return self.nested[0][0](self.table["a"](x))

    net = Net()
    net(cr.zeros(1))
    assert net.layers[0].seen == "Net.layers.0"
    assert net.layers[1][0].seen == "Net.layers.1.0"
    assert net.layers[2].seen == "Net.layers.2"
    assert net.table["a"].seen == "Net.table.a"
    assert net.nested[0][0].seen == "Net.nested.0.0"
    net.layers[0](cr.zeros(1))
    assert net.layers[0].seen == "Spy"


def test_slices_do_not_rename():
    model = nn.Sequential(Spy(), Spy(), Spy())
    model[1:](cr.zeros(1))
    model(cr.zeros(1))
    assert model[2].seen == "Sequential.2"


def test_nodes_carry_their_layer():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert model(cr.zeros(1, 2))._node.layer == "Sequential.1"


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_independent(clone):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    twin = clone(model)
    assert isinstance(twin[0].weight, nn.Parameter)
    assert twin[0].weight.requires_grad
    assert twin[0].weight.tolist() == model[0].weight.tolist()
    with cr.no_grad():
        twin[0].weight.zero_()
    assert model[0].weight.abs().sum().item() > 0
    twin.train(False)(cr.ones(1, 2)).sum().backward()
    assert twin[0].weight.grad is not None
    assert model[0].weight.grad is None


def test_parameters():
    p = nn.Parameter(cr.tensor([1.0, 2.0]))
    assert p.requires_grad
    assert p.is_leaf
    assert not nn.Parameter(np.zeros(2), requires_grad=False).requires_grad
    with pytest.raises(DtypeError):
        nn.Parameter(cr.tensor([1, 2]))


def test_a_compiled_step_follows_the_mode():
    model = nn.Sequential(nn.Dropout(0.5))
    run = cr.compile(lambda x: model(x))
    x = cr.ones(200)
    assert (run(x) == 0).any().item()
    model.eval()
    assert run(x).tolist() == x.tolist()
    model.train()
    model[0].p = 1.0
    assert run(x).abs().sum().item() == 0


def test_a_model_nested_deeper_than_python_recurses():
    model = nn.Linear(1, 1)
    for _ in range(1100):
        model = nn.Sequential(model)
    assert [name for name, _ in model.named_parameters()] == ["0." * 1100 + "weight", "0." * 1100 + "bias"]
    model.eval().double().load_state_dict(model.state_dict())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("value", ["x", None, [[1, 2], [3]], np.array([None]), np.zeros((1, 2), complex), 10**400])
def test_what_is_no_tensor_in_a_state_dict(value):
    model = nn.Linear(2, 1)
    before = {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}
    text = r"^the state_dict does not fit Linear; nothing was loaded\.\n  'weight' must be a tensor or an array of numbers, got "
    with pytest.raises(StateDictError, match=text):
        model.load_state_dict({"weight": value, "bias": np.zeros(1)}, strict=False)
    assert all(np.array_equal(before[name], tensor.numpy()) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("given", [None, 3, [1], "weight"])
def test_what_is_no_state_dict(given):
    with pytest.raises(StateDictError, match=r"^Linear: a state_dict must be a mapping from names to tensors, got "):
        nn.Linear(2, 1).load_state_dict(given)


def test_an_error_about_very_many_keys_is_short():
    with pytest.raises(StateDictError, match="'k29' and 4970 more") as caught:
        nn.Linear(2, 1).load_state_dict({f"k{i}": 1 for i in range(5000)})
    assert len(str(caught.value)) < 800


def test_what_load_state_dict_gives_prints_as_pytorchs():
    said = []
    for lib in (nn, torch.nn):
        model = lib.Linear(2, 1)
        weights = model.state_dict()
        bias = weights.pop("bias")
        said.append([repr(model.load_state_dict({**weights, "bias": bias})).replace("_Incompatible", "Incompatible")])
        found = repr(model.load_state_dict({**weights, "more": bias}, strict=False))
        said[-1].append(found.replace("_Incompatible", "Incompatible"))
    assert said[0] == said[1] == [
        "<All keys matched successfully>", "IncompatibleKeys(missing_keys=['bias'], unexpected_keys=['more'])",
    ]  # fmt: skip
