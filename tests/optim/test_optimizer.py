"""Groups, state, saving and every refusal."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import SettingError, StateDictError, UnknownNameError


def weight(*shape, value=1.0):
    return cr.full(shape, value, requires_grad=True)


def train(optimizer, params, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        sum((p * p).sum() for p in params).backward()
        optimizer.step()


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return str(error.value)


def test_parameters_that_start_together_share_a_counter():
    params = [weight(2), weight(3)]
    opt = optim.Adam(params)
    train(opt, params, 3)
    assert opt.state[params[0]]["step"] is opt.state[params[1]]["step"]
    assert opt.state[params[0]]["step"].item() == 3.0


def test_state_dict_has_pytorchs_layout():
    torch = pytest.importorskip("torch")
    special = {
        "SGD": {"momentum": 0.9}, "RMSprop": {"momentum": 0.9, "centered": True}, "Adam": {"amsgrad": True},
        "AdamW": {"amsgrad": True},
    }  # fmt: skip
    for name in (*special, "Adagrad", "Adadelta", "Adamax", "RAdam", "NAdam"):
        options = special.get(name, {})
        params, peers = [weight(2), weight(3)], [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
        opt, peer = getattr(optim, name)(params, **options), getattr(torch.optim, name)(peers, **options)
        train(opt, params)
        train(peer, peers)
        ours, theirs = opt.state_dict(), peer.state_dict()
        assert list(ours) == list(theirs)
        assert list(ours["state"]) == list(theirs["state"])
        assert set(ours["state"][0]) == set(theirs["state"][0])
        known = set(theirs["param_groups"][0]) - {"foreach", "fused", "capturable", "differentiable"}
        assert set(ours["param_groups"][0]) == known
        assert all(ours["param_groups"][0][k] == theirs["param_groups"][0][k] for k in ours["param_groups"][0])
        for slot, value in ours["state"][1].items():
            assert value.shape == tuple(theirs["state"][1][slot].shape), slot
            assert value.tolist() == pytest.approx(theirs["state"][1][slot].tolist()), slot


def test_saved_state_is_a_snapshot():
    params = [weight(2)]
    opt = optim.SGD(params, lr=0.1, momentum=0.9)
    train(opt, params)
    saved = opt.state_dict()
    before = saved["state"][0]["momentum_buffer"].tolist()
    train(opt, params)
    assert saved["state"][0]["momentum_buffer"].tolist() == before
    opt.load_state_dict({"state": {}, "param_groups": saved["param_groups"]})
    assert opt.state_dict()["state"][0]["momentum_buffer"].tolist() == [0.0, 0.0]


def test_loading_splits_and_joins_counters():
    params = [weight(2), weight(3)]
    opt = optim.Adam(params)
    train(opt, params)
    saved = opt.state_dict()
    saved["state"][1]["step"] = cr.tensor(7.0)
    opt.load_state_dict(saved)
    assert [opt.state[p]["step"].item() for p in params] == [1.0, 7.0]
    train(opt, params)
    assert [opt.state[p]["step"].item() for p in params] == [2.0, 8.0]
    saved["state"][1]["step"] = cr.tensor(1.0)
    opt.load_state_dict(saved)
    assert opt.state[params[0]]["step"] is opt.state[params[1]]["step"]


def test_a_compiled_step_goes_on_from_loaded_state():
    def run(load):
        w = weight(2)
        opt = optim.Adam([w], lr=0.1)

        @cr.compile
        def step():
            train(opt, [w])

        for _ in range(3):
            step()
        if load:
            saved, value = opt.state_dict(), w.detach().clone()
            step()
            opt.load_state_dict(saved)
            w.data = value
        step()
        return w.tolist()

    assert run(load=True) == run(load=False)


def test_frozen_parameters_have_no_state_until_they_move():
    w, frozen = weight(2), cr.ones(2)
    opt = optim.Adam([w, frozen])
    assert frozen not in opt.state
    train(opt, [w])
    frozen.requires_grad_()
    train(opt, [w, frozen])
    assert opt.state[frozen]["step"].item() == 1.0
    assert opt.state[w]["step"].item() == 2.0
    late = optim.Adam([cr.ones(2)])
    late.initialize()
    assert len(late.state) == 1


def test_unfreezing_inside_a_compiled_run():
    w, frozen = weight(2), cr.ones(2)
    opt = optim.Adam([w, frozen], lr=0.1)
    step = cr.compile(lambda: train(opt, [w, frozen]))
    step()
    frozen.requires_grad_()
    step()
    step()
    assert [opt.state[p]["step"].item() for p in (w, frozen)] == [3.0, 2.0]


def test_closure_and_zero_grad():
    w = weight(2)
    opt = optim.SGD([w], lr=0.5)

    def closure():
        opt.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    assert opt.step(closure).item() == 2.0
    assert w.tolist() == [0.0, 0.0]
    opt.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0, 0.0]
    opt.zero_grad()
    assert w.grad is None
    assert opt.step() is None


def test_shared_gradients_are_not_changed():
    a, b = weight(2), weight(2)
    opt = optim.SGD([a, b], lr=0.5, weight_decay=0.1)
    (a + b).sum().backward()
    opt.step()
    assert a.grad.tolist() == b.grad.tolist() == [1.0, 1.0]


def test_the_repr_is_pytorchs():
    assert repr(optim.SGD([weight(1)], lr=0.1)) == (
        "SGD (\nParameter Group 0\n    dampening: 0.0\n    lr: 0.1\n    maximize: False\n    momentum: 0.0\n"
        "    nesterov: False\n    weight_decay: 0.0\n)"
    )


def test_by_name():
    assert optim.by_name("adam") is optim.Adam
    assert optim.by_name("SGD") is optim.SGD
    assert text_of(UnknownNameError, lambda: optim.by_name("adamm")) == (
        "unknown optimizer 'adamm'. Did you mean 'adam' or 'radam' or 'nadam'? Known: adadelta, adagrad, adam, adamax, "
        "adamw, nadam, radam, rmsprop, rprop, sgd."
    )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: optim.Adam([]), "Adam: there are no parameters to optimize. Pass model.parameters() of a model that "
         "has some (a generator can be used only once)."),
        (lambda: optim.SGD(weight(1)), "SGD: params must be an iterable of tensors or dicts, got a Tensor. "
         "Write [tensor]."),
        (lambda: optim.SGD({"params": []}), "SGD: params must be an iterable of tensors or dicts, got a dict. "
         "Write [group]."),
        (lambda: optim.SGD(3), "SGD: params must be an iterable of tensors or dicts, got int. "
         "Pass model.parameters()."),
        (lambda: optim.SGD(nn.Sequential(nn.Linear(1, 1)).named_children()), "SGD: parameters must be tensors, got Linear at "
         "position 0. Pass model.parameters()."),
        (lambda: optim.SGD([("w", weight(1)), weight(1)]), "SGD: some of the parameters of a group have names and some have "
         "none. Give names to all, or to none."),
        (lambda: optim.SGD([weight(2) * 2]), "SGD: the parameter at position 0, of shape (2,), is the result of an "
         "operation and would never receive a gradient. Optimize the tensors it was computed from, or "
         "x.detach().clone().requires_grad_()."),
        (lambda: optim.SGD([cr.tensor([1])]), "SGD: the parameter at position 0 has dtype int64; only floating-point "
         "tensors can be optimized. Convert it with .float()."),
        (lambda: optim.SGD([{"params": {weight(1)}}]), "SGD: parameters must come in an order that does not change, "
         "got a set. Use a list."),
        (lambda: optim.SGD([weight(1)] * 2), "SGD: a parameter was given twice and would be updated twice. "
         "Give each one once."),
        (lambda: optim.SGD([{"lr": 3}]), "SGD: a parameter group must be a dict with the key 'params', "
         "got {'lr': 3}."),
        (lambda: optim.SGD([weight(1)], lr=-1), "SGD: lr must be a number 0 or more, got -1."),
        (lambda: optim.SGD([weight(1)], lr="0.1"), "SGD: lr must be a number 0 or more, got '0.1'."),
        (lambda: optim.SGD([weight(1)], lr=float("nan")), "SGD: lr must be a number 0 or more, got nan."),
        (lambda: optim.SGD([weight(1)], momentum=-1), "SGD: momentum must be a number 0 or more, got -1."),
        (lambda: optim.SGD([weight(1)], nesterov=True), "SGD: nesterov needs momentum above 0 and dampening 0, "
         "got momentum=0.0, dampening=0.0."),
        (lambda: optim.Adam([weight(1)], betas=(0.9, 1.0)), "Adam: betas[1] must be a number in [0, 1), got 1.0."),
        (lambda: optim.AdamW([weight(1)], betas=0.9), "AdamW: betas must be a pair of numbers in [0, 1), got 0.9."),
        (lambda: optim.Adam([weight(1)], eps=-1), "Adam: eps must be a number 0 or more, got -1."),
        (lambda: optim.AdamW([weight(1)], weight_decay=-1), "AdamW: weight_decay must be a number 0 or more, got -1."),
        (lambda: optim.Rprop([weight(1)], etas=(1.2, 0.5)),
         "Rprop: etas must be a number from 0 to 1 and one above 1, got (1.2, 0.5)."),
        (lambda: optim.Rprop([weight(1)], step_sizes=(2.0, 1.0)),
         "Rprop: step_sizes must be a smallest and a largest, 0 or more, got (2.0, 1.0)."),
        (lambda: optim.RMSprop([weight(1)], alpha=-1), "RMSprop: alpha must be a number 0 or more, got -1."),
    ],
)  # fmt: skip
def test_refusals(make, text):
    assert text_of(SettingError, make) == text


def test_parameters_may_come_with_names_as_in_pytorch():
    torch = pytest.importorskip("torch")
    found = []
    for lib in (cr, torch):
        model = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.Linear(3, 1))
        for p in model.parameters():
            lib.nn.init.constant_(p, 0.5)
        decayed = [(n, p) for n, p in model.named_parameters() if n.endswith("weight")]
        others = [(n, p) for n, p in model.named_parameters() if n.endswith("bias")]
        one = lib.optim.AdamW(model.named_parameters(), lr=0.1)
        two = lib.optim.SGD([{"params": decayed, "weight_decay": 0.1}, {"params": others}], lr=0.1)
        for optimizer in (one, two):
            optimizer.zero_grad()
            model(lib.ones(4, 2)).sum().backward()
            optimizer.step()
        found.append([p.tolist() for p in model.parameters()])
        assert [group["params"] for group in two.state_dict()["param_groups"]] == [[0, 1], [2, 3]]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_parameter_in_two_groups():
    w = weight(1)
    opt = optim.SGD([w])
    assert text_of(SettingError, lambda: opt.add_param_group({"params": [w]})) == (
        "SGD: a parameter stands in two groups. Give each parameter to one group only."
    )


def test_state_dicts_that_do_not_fit():
    a, b = weight(2), weight(3)
    one, two = optim.Adam([a]), optim.Adam([weight(2), b])
    assert text_of(StateDictError, lambda: one.load_state_dict({"state": {}})) == (
        "Adam: a state_dict has the keys 'state' and 'param_groups', got the keys ['state']."
    )
    assert text_of(StateDictError, lambda: one.load_state_dict(two.state_dict())) == (
        "Adam: parameter group 0 of the state_dict has 2 parameters, the optimizer's 1. "
        "Build model and optimizer as they were when they were saved."
    )
    groups = optim.Adam([{"params": [weight(2)]}, {"params": [weight(3)]}])
    assert text_of(StateDictError, lambda: one.load_state_dict(groups.state_dict())) == (
        "Adam: the state_dict has 2 parameter groups, the optimizer 1. Build the optimizer as it was when it was saved."
    )
    swapped = optim.Adam([weight(3), weight(2)])
    before = two.state_dict()["state"][0]["step"].item()
    assert text_of(StateDictError, lambda: two.load_state_dict(swapped.state_dict())) == (
        "Adam: the state 'exp_avg' of a parameter of shape (2,) must have shape (2,), got (3,). "
        "The parameters may stand in another order than when they were saved."
    )
    assert two.state_dict()["state"][0]["step"].item() == before


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_a_step_without_gradients_does_nothing(kind):
    w, frozen = cr.ones(2, requires_grad=True), cr.ones(2)
    optimizer = kind([{"params": [w]}, {"params": [frozen]}, {"params": []}], lr=0.1)
    optimizer.step()
    cr.compile(optimizer.step)()
    assert (w.tolist(), frozen.tolist()) == ([1, 1], [1, 1])
    (w * w).sum().backward()
    optimizer.step()
    assert w.tolist() != [1, 1]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_parameter_without_elements_is_optimized(compiled):
    w = cr.ones(0, 3, requires_grad=True)
    optimizer = optim.Adam([w], lr=0.1)

    def step():
        optimizer.zero_grad()
        loss = (w * 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    step = cr.compile(step) if compiled else step
    assert (step().item(), step().item(), w.shape) == (0, 0, (0, 3))


@pytest.mark.parametrize(("make", "text"), [
    (lambda p: optim.Adagrad(p, lr_decay=-1.0), "Adagrad: lr_decay must be a number 0 or more, got -1.0."),
    (lambda p: optim.Adadelta(p, rho=1.0), "Adadelta: rho must be a number in [0, 1), got 1.0."),
    (lambda p: optim.Adamax(p, eps=-1.0), "Adamax: eps must be a number 0 or more, got -1.0."),
    (lambda p: optim.RAdam(p, betas=0.9), "RAdam: betas must be a pair of numbers in [0, 1), got 0.9."),
    (lambda p: optim.NAdam(p, momentum_decay=-1.0), "NAdam: momentum_decay must be a number 0 or more, got -1.0."),
])  # fmt: skip
def test_settings_of_the_others(make, text):
    assert text_of(SettingError, lambda: make([weight(2)])) == text


def test_a_slot_that_is_not_loaded_starts_as_it_would():
    params = [weight(2)]
    opt = optim.Adagrad(params, initial_accumulator_value=0.5)
    train(opt, params)
    assert opt.state[params[0]]["sum"].tolist() != [0.5, 0.5]
    opt.load_state_dict({"state": {}, "param_groups": opt.state_dict()["param_groups"]})
    assert opt.state[params[0]]["sum"].tolist() == [0.5, 0.5]
    other = optim.NAdam(params)
    train(other, params)
    assert other.state[params[0]]["mu_product"].shape == ()
    other.load_state_dict({"state": {}, "param_groups": other.state_dict()["param_groups"]})
    assert other.state[params[0]]["mu_product"].item() == 1.0
