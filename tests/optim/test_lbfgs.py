"""LBFGS against PyTorch's: parameters, calls of closure, what is known, by both ways of choosing a length."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import NonFiniteError, SettingError, StateDictError, TraceError, UnknownNameError
from tests.optional import torch

RNG = np.random.default_rng(0)
START = [RNG.normal(size=(3, 4)), RNG.normal(size=(4,)), RNG.normal(size=())]
X, Y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 4))


def rosenbrock(lib, params):
    w, b, c = params
    flat = lib.cat([w.reshape(-1), b, c.reshape(1)])
    return ((1 - flat[:-1]) ** 2 + 100 * (flat[1:] - flat[:-1] ** 2) ** 2).sum()


def fit(lib, params):
    w, b, c = params
    x, y = (lib.tensor(v, dtype=lib.float64) for v in (X, Y))
    return ((lib.tanh(x @ w + b) * c - y) ** 2).mean()


def unused(lib, params):
    """One parameter has no gradient."""
    return (params[0] ** 2).sum() + ((params[2] - 1) ** 2 + 1).sqrt()


def made(lib, optims, options):
    params = [lib.tensor(value, dtype=lib.float64, requires_grad=True) for value in START]
    return params, optims.LBFGS(params, **options)


def run(lib, params, opt, function, steps):
    """The losses; parameters, and how often closure was called, are left behind."""
    calls = []

    def closure():
        opt.zero_grad()
        loss = function(lib, params)
        loss.backward()
        calls.append(loss.item())
        return loss

    return [opt.step(closure).item() for _ in range(steps)], calls


OPTIONS = [
    {"lr": 0.05},
    {"lr": 0.02, "max_iter": 5, "history_size": 3},
    {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "lr": 0.1, "max_iter": 4, "history_size": 2},
    {"line_search_fn": "strong_wolfe", "max_iter": 10, "max_eval": 3},
    {"line_search_fn": "strong_wolfe", "lr": 30.0, "max_iter": 3},  # far beyond: the bracket is searched
    {"lr": 0.05, "tolerance_grad": 0.5, "tolerance_change": 1e-3},
]


@pytest.mark.parametrize("function", [rosenbrock, fit, unused])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_are_pytorchs(function, options):
    ours, opt = made(cr, optim, options)
    theirs, other = made(torch, torch.optim, options)
    losses, calls = run(cr, ours, opt, function, 2)  # the valley of Rosenbrock's magnifies what is rounded otherwise
    expected, wanted = run(torch, theirs, other, function, 2)
    assert losses == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert calls == pytest.approx(wanted, rel=1e-6, abs=1e-7)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-4)
    known = other.state[theirs[0]]
    assert (opt.memory.n_iter, opt.memory.func_evals) == (known["n_iter"], known["func_evals"])
    assert len(opt.memory.ro) == len(known.get("ro", []))
    shown = opt.state[ours[0]]
    assert shown.keys() == {name for name in known if name != "al"}  # which PyTorch computes anew in every direction
    assert all(shown[name] == known[name] for name in ("func_evals", "n_iter"))
    np.testing.assert_allclose(shown["d"].numpy(), known["d"].numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", OPTIONS[1:4], ids=str)
def test_it_goes_on_from_pytorchs_state_and_its_own(options):
    theirs, other = made(torch, torch.optim, options)
    run(torch, theirs, other, fit, 2)
    state = copy.deepcopy(other.state_dict())
    numpy = {
        name: [v.numpy() if hasattr(v, "numpy") else v for v in value]
        if isinstance(value, list)
        else (value.numpy() if hasattr(value, "numpy") else value)
        for name, value in state["state"][0].items()
    }
    expected, _ = run(torch, theirs, other, fit, 2)
    first, _ = made(cr, optim, options)
    again, opt = made(cr, optim, options)
    opt.load_state_dict({**state, "state": {0: numpy}})
    assert opt.memory.n_iter == state["state"][0]["n_iter"]
    ours, own = made(cr, optim, options)
    run(cr, ours, own, fit, 2)
    saved = own.state_dict()
    with cr.no_grad():
        for a, b in zip(again, ours, strict=True):
            a.copy_(b)
    assert run(cr, again, opt, fit, 2)[0] == pytest.approx(expected, rel=1e-6)
    held = [p.detach().clone() for p in ours]
    run(cr, ours, own, fit, 1)  # what was saved does not change with it
    with cr.no_grad():
        for a, b in zip(again, held, strict=True):
            a.copy_(b)
        for a, b in zip(first, again, strict=True):
            a.copy_(b)
    opt.load_state_dict(saved)
    run(cr, again, opt, fit, 1)
    for a, b in zip(again, ours, strict=True):  # recorded, an early step may round otherwise than a later one
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9)


def test_its_state_is_read_and_forgotten():
    params, opt = made(cr, optim, {"max_iter": 3})
    assert dict(opt.state) == {}
    run(cr, params, opt, fit, 1)
    assert [p is params[0] for p in opt.state] == [True]
    with pytest.raises(AttributeError):  # and is not lost in silence
        opt.state.clear()
    opt.state = {}
    assert (opt.memory.n_iter, opt.state_dict()["state"]) == (0, {})


def test_a_closure_may_be_compiled():
    def trained(wrap):
        cr.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
        opt = optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe", max_iter=8)
        x, y = cr.tensor(X, dtype=cr.float32), cr.tensor(Y, dtype=cr.float32)

        @wrap
        def closure():
            opt.zero_grad()
            loss = F.mse_loss(model(x), y)
            loss.backward()
            return loss

        return [opt.step(closure).item() for _ in range(4)]

    np.testing.assert_allclose(trained(cr.compile), trained(lambda f: f), rtol=1e-3)
    assert trained(cr.compile)[-1] < 0.6 * trained(lambda f: f)[0]


def test_where_closure_raises_what_was_known_stays():
    params, opt = made(cr, optim, {"line_search_fn": "strong_wolfe", "max_iter": 3})
    run(cr, params, opt, fit, 1)
    before, calls = opt.memory, []

    def fails():
        opt.zero_grad()
        loss = fit(cr, params)
        loss.backward()
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        opt.step(fails)
    assert opt.memory is before


def test_at_the_lowest_point_nothing_moves():
    x = cr.zeros(3, requires_grad=True)
    opt = optim.LBFGS([x])
    losses, calls = run(cr, [x], opt, lambda lib, params: (params[0] ** 2).sum(), 2)
    assert (losses, len(calls), x.tolist(), opt.memory.n_iter) == ([0.0, 0.0], 2, [0.0] * 3, 0)


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return str(error.value)


def test_refusals():
    x = cr.ones(2, requires_grad=True)
    opt = optim.LBFGS([x])
    assert text_of(SettingError, opt.step) == (
        "LBFGS.step: needs a closure, which clears the gradients, computes the loss, calls backward() and returns the loss."
    )
    assert text_of(TraceError, lambda: cr.compile(lambda: opt.step(lambda: x.sum()))()) == (
        "LBFGS.step: how often it computes the loss hangs on values, which a compiled function has not yet. Compile the closure, "
        "and call step(closure) outside."
    )
    assert text_of(
        SettingError, lambda: optim.LBFGS([{"params": [x]}, {"params": [cr.ones(1, requires_grad=True)]}])
    ) == ("LBFGS: takes one group of parameters, got another. Give all tensors in one list.")
    assert text_of(SettingError, lambda: optim.LBFGS([x], max_iter=0)) == (
        "LBFGS: max_iter must be a whole number, 1 or more, got 0."
    )
    assert text_of(SettingError, lambda: optim.LBFGS([x], lr=-1)) == "LBFGS: lr must be a number 0 or more, got -1."
    assert text_of(UnknownNameError, lambda: optim.LBFGS([x], line_search_fn="wolfe")) == (
        "unknown line_search_fn 'wolfe'. Known: strong_wolfe."
    )
    run(cr, [x], opt, lambda lib, params: (params[0] ** 4).sum(), 1)
    saved = opt.state_dict()
    other = optim.LBFGS([cr.ones(3, requires_grad=True)])
    assert text_of(StateDictError, lambda: other.load_state_dict(saved)).startswith(
        "LBFGS: the state 'd' must be a vector of 3 elements, got "
    )
    saved["state"][0]["ro"] = []
    assert text_of(StateDictError, lambda: opt.load_state_dict(saved)) == (
        "LBFGS: the state 'ro' must be as long as 'old_dirs' and 'old_stps', got []. Give a dict that LBFGS.state_dict() made for "
        "the same parameters."
    )


BY_ITSELF = (
    "LBFGS computes the loss as often as it needs to, and a compiled step of training once. Write the loop yourself, with "
    "opt.step(closure) on all rows (see optim.LBFGS); or take MLPClassifier or MLPRegressor of chainrule.sklearn with "
    "solver='lbfgs'."
)


def test_a_trainer_says_at_once_that_it_cannot_use_it():
    model = nn.Linear(3, 4)
    assert (
        text_of(SettingError, lambda: cr.Trainer(model, "mse", optim.LBFGS(model.parameters())))
        == f"Trainer: {BY_ITSELF}"
    )
    trainer = cr.Trainer(model, "mse", "sgd")
    trainer.optimizer = optim.LBFGS(model.parameters())
    assert text_of(SettingError, lambda: trainer.fit(X, Y, progress=False)) == f"Trainer: {BY_ITSELF}"
    assert text_of(UnknownNameError, lambda: cr.Trainer(model, "mse", "LBFGS")).startswith(
        f"unknown optimizer 'LBFGS'. {BY_ITSELF} Known: adadelta, "
    )


def test_a_line_search_cannot_start_from_length_0():
    text = (
        "LBFGS: lr is the first length that a line search tries, and must be above 0, got 0. Leave line_search_fn out to stay in "
        "place."
    )
    x = cr.tensor([3.0], requires_grad=True)
    with pytest.raises(SettingError) as raised:
        optim.LBFGS([x], lr=0, line_search_fn="strong_wolfe")
    assert str(raised.value) == text
    opt = optim.LBFGS([x], line_search_fn="strong_wolfe")
    opt.param_groups[0]["lr"] = 0
    with pytest.raises(SettingError) as raised:
        opt.step(lambda: (x * x).sum())
    assert str(raised.value) == text


def test_a_line_search_starts_from_finite_values():
    x = cr.tensor([-1.0, 0.0], requires_grad=True)
    opt = optim.LBFGS([x], line_search_fn="strong_wolfe")

    def closure():
        opt.zero_grad()
        loss = x.log().sum()
        loss.backward()
        return loss

    with pytest.raises(NonFiniteError) as raised:
        opt.step(closure)
    assert str(raised.value) == (
        "LBFGS.step: the loss and all gradients must be finite where a line search starts, got the loss nan and a largest "
        "gradient of inf. Start from other values, or look at what the closure computes."
    )
    assert x.tolist() == [-1.0, 0.0]


@pytest.mark.parametrize("lr", [0.5, 10.0, 100.0])
def test_a_line_search_takes_no_length_where_the_loss_is_nan(lr):
    x = cr.tensor([5.0, 0.3], dtype=cr.float64, requires_grad=True)
    opt = optim.LBFGS([x], lr=lr, line_search_fn="strong_wolfe")

    def closure():
        opt.zero_grad()
        loss = (x - x.log()).sum()
        loss.backward()
        return loss

    for _ in range(4):
        opt.step(closure)
    assert x.tolist() == pytest.approx([1, 1], abs=1e-4)
