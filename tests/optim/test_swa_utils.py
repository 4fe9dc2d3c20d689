"""Averages of weights against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import SettingError
from chainrule.optim import swa_utils
from chainrule.optim.swa_utils import (
    SWALR,
    AveragedModel,
    get_ema_avg_fn,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    update_bn,
)
from tests.optional import torch

X = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(24, 1)).astype(np.float32)


def model_of(lib):
    made = lib.Sequential(lib.Linear(4, 5), lib.BatchNorm1d(5), lib.Tanh(), lib.Linear(5, 1))
    return made


AVERAGES = {
    "mean": lambda u: {},
    "written": lambda u: {"avg_fn": u.get_swa_avg_fn()},
    "ema": lambda u: {"avg_fn": u.get_ema_avg_fn(0.7)},
    "ema of all": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.7)},
    "mean of all": lambda u: {"multi_avg_fn": u.get_swa_multi_avg_fn()},
    "buffers": lambda u: {"multi_avg_fn": u.get_ema_multi_avg_fn(0.5), "use_buffers": True},
    "own": lambda u: {"avg_fn": lambda average, parameter, number: average * 0.25 + parameter * (0.75 + number * 0)},
}


def trained(torch, utils, weights, options, wrap=lambda step: step):
    """The averaged model after some steps, with its batch normalisations computed anew."""
    nn, model = torch.nn, model_of(torch.nn)
    model.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    mean = utils.AveragedModel(model, **options(utils))
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    schedule = utils.SWALR(opt, swa_lr=0.2, anneal_epochs=3)
    x, y = torch.tensor(X), torch.tensor(Y)

    def step(x, y):
        opt.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        mean.update_parameters(model)
        return loss

    step = wrap(step)
    for at in (0, 8, 16, 4):
        step(x[at : at + 8], y[at : at + 8])
        schedule.step()
    before = {name: value.clone().numpy() for name, value in mean.state_dict().items()}
    utils.update_bn([(x[:12], y[:12]), (x[12:], y[12:])], mean)
    return before, {name: value.clone().numpy() for name, value in mean.state_dict().items()}, opt.param_groups[0]["lr"]


@pytest.mark.parametrize("wrap", [lambda step: step, cr.compile], ids=["at once", "compiled"])
@pytest.mark.parametrize("options", AVERAGES.values(), ids=AVERAGES)
def test_averages_are_pytorchs(options, wrap):
    theirs = torch.optim.swa_utils  # skips where PyTorch is missing

    if options is AVERAGES["buffers"] and wrap is cr.compile:
        wrap = lambda step: step  # noqa: E731
    torch.manual_seed(0)
    weights = {name: value.numpy().copy() for name, value in model_of(torch.nn).state_dict().items()}
    expected = trained(torch, theirs, weights, options)
    found = trained(cr, swa_utils, weights, options, wrap)
    for a, b in zip(found[:2], expected[:2], strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=2e-5, atol=1e-6, err_msg=name)
    assert found[2] == pytest.approx(expected[2], rel=1e-12)


@pytest.mark.parametrize(
    "options", [{"anneal_epochs": 4}, {"anneal_epochs": 3, "anneal_strategy": "linear"}, {"anneal_epochs": 0}, {"swa_lr": [0.5, 0.7]}]
)  # fmt: skip
def test_the_schedule_is_pytorchs(options):
    def made(lib, tensor, utils):
        groups = [
            {"params": [tensor.ones(1, requires_grad=True)]},
            {"params": [tensor.ones(1, requires_grad=True)], "lr": 0.3},
        ]
        opt = lib.SGD(groups, lr=0.1)
        return opt, lib.lr_scheduler.ExponentialLR(opt, 0.9), utils.SWALR(opt, **{"swa_lr": 0.05, **options})

    theirs = torch.optim.swa_utils  # skips where PyTorch is missing

    ours, expected = made(optim, cr, swa_utils), made(torch.optim, torch, theirs)
    for epoch in range(12):
        assert [g["lr"] for g in ours[0].param_groups] == pytest.approx(
            [g["lr"] for g in expected[0].param_groups], rel=1e-9
        )
        expected[0].step()
        for _, first, second in (ours, expected):  # first one, then the other, as tutorials have it
            (second if epoch > 5 else first).step()


def test_a_loader_that_raises_leaves_the_layers_as_they_were():
    model = model_of(nn).eval()

    def batches():
        yield cr.tensor(X)
        raise KeyError("no more")

    with pytest.raises(KeyError):
        update_bn(batches(), model)
    assert model[1].momentum == 0.1
    assert not model.training
    plain = nn.Linear(4, 1)
    update_bn([cr.tensor(X[:, :1])], plain)  # which would not fit: nothing to do, nothing is run


def test_refusals():
    model = nn.Linear(4, 1)
    opt = optim.SGD(model.parameters(), lr=0.1)
    for function, text in (
        (lambda: AveragedModel(model, avg_fn=get_swa_avg_fn(), multi_avg_fn=get_ema_multi_avg_fn()),
         "AveragedModel: give avg_fn or multi_avg_fn, not both."),
        (lambda: get_ema_avg_fn(1.5), "get_ema_avg_fn: decay must be from 0 to 1, got 1.5."),
        (lambda: AveragedModel(model).update_parameters(nn.Linear(5, 1)),
         "AveragedModel: the model has other parameters than the one that was copied. Give that one."),
        (lambda: SWALR(opt, 0.1, anneal_epochs=-1), "SWALR: anneal_epochs must be a whole number, 0 or more, got -1."),
        (lambda: SWALR(opt, [0.1, 0.2]), "SWALR: swa_lr needs one number for each of the 1 groups, got 2."),
    ):  # fmt: skip
        with pytest.raises(SettingError) as error:
            function()
        assert str(error.value) == text
    with pytest.raises(AttributeError, match="has no attribute 'averages'"):
        swa_utils.averages  # noqa: B018
