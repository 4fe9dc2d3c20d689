"""Schedules that move the momentum, too, and schedules made of schedules, against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import SettingError
from chainrule.optim import lr_scheduler
from tests.optional import torch


def optimizers(kind="SGD", **options):
    def make(lib, tensor):
        groups = [
            {"params": [tensor.ones(1, requires_grad=True)]},
            {"params": [tensor.ones(1, requires_grad=True)], "lr": 0.3},
        ]
        return getattr(lib, kind)(groups, lr=0.1, **options)

    return make(optim, cr), make(torch.optim, torch)


def settings(optimizer):
    """Rates and momenta."""
    return [
        x for group in optimizer.param_groups for x in (group["lr"], group.get("momentum", group.get("betas", (0,))[0]))
    ]


CYCLES = [
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 20}),
    ("OneCycleLR", {"max_lr": [1.0, 2.0], "epochs": 5, "steps_per_epoch": 4, "anneal_strategy": "linear", "pct_start": 0.5}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 20, "three_phase": True, "base_momentum": 0.5, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 20, "pct_start": 0.0}),
    ("OneCycleLR", {"max_lr": 1.0, "total_steps": 20, "pct_start": 1.0}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 1.0, "step_size_up": 3}),
    ("CyclicLR", {"base_lr": [0.01, 0.1], "max_lr": 1.0, "step_size_up": 2, "step_size_down": 5, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 1.0, "step_size_up": 4, "mode": "exp_range", "gamma": 0.9}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 1.0, "step_size_up": 2, "scale_fn": lambda x: 1 / x, "max_momentum": 0.99}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 1.0, "step_size_up": 2, "scale_fn": lambda x: 1 / (x + 1), "scale_mode": "iterations"}),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("name", "options"), CYCLES)
def test_rates_and_momenta_are_pytorchs(name, options, kind):
    a, b = optimizers(kind, **({"momentum": 0.9} if kind == "SGD" else {}))
    ours, theirs = getattr(lr_scheduler, name)(a, **options), getattr(torch.optim.lr_scheduler, name)(b, **options)
    for step in range(20):
        assert settings(a) == pytest.approx(settings(b), rel=1e-12)
        if step == 19 and options.get("pct_start") == 1.0:
            break  # where PyTorch divides by zero
        b.step()
        ours.step()
        theirs.step()
    assert {"max_momentum", "base_momentum"} <= set(a.param_groups[0])


@pytest.mark.parametrize("factor", [1, 2])
def test_restarts_go_to_any_part_of_an_epoch(factor):
    a, b = optimizers()
    ours, theirs = (
        lib.CosineAnnealingWarmRestarts(o, 3, factor) for lib, o in ((lr_scheduler, a), (torch.optim.lr_scheduler, b))
    )
    for epoch in [0, 0.5, 2.75, 3.25, 8.5, 9.5, 20.125, 1.5]:
        ours.step(epoch)
        theirs.step(epoch)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
    for _ in range(9):
        ours.step()
        theirs.step()
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)


def pieces(lib, opt, names):
    made = {
        "constant": lambda: lib.ConstantLR(opt, 0.1, total_iters=2),
        "linear": lambda: lib.LinearLR(opt, 0.25, total_iters=3),
        "exponential": lambda: lib.ExponentialLR(opt, 0.9),
        "step": lambda: lib.StepLR(opt, 2, 0.5),
        "cosine": lambda: lib.CosineAnnealingLR(opt, 6),
        "lambda": lambda: lib.LambdaLR(opt, lambda epoch: 1 / (epoch + 2)),
        "factors": lambda: lib.MultiplicativeLR(opt, lambda epoch: 0.5 + epoch / 10),
        "restarts": lambda: lib.CosineAnnealingWarmRestarts(opt, 3, 2),
        "poly": lambda: lib.PolynomialLR(opt, 5),
        "cycle": lambda: lib.OneCycleLR(opt, 1.0, total_steps=9),
        "waves": lambda: lib.CyclicLR(opt, 0.1, 0.4, step_size_up=2),
    }
    return [made[name]() for name in names.split()]


TWO = [
    "linear cosine", "constant exponential", "step factors", "factors step", "lambda restarts", "restarts lambda", "poly poly",
    "cosine cycle", "waves linear", "cycle waves",
]  # fmt: skip


@pytest.mark.parametrize("names", [*TWO, "linear cosine exponential"])
def test_a_sequence_is_pytorchs(names):
    a, b = optimizers(momentum=0.9)
    milestones = [4, 7][: len(names.split()) - 1]
    ours = lr_scheduler.SequentialLR(a, pieces(lr_scheduler, a, names), milestones)
    theirs = torch.optim.lr_scheduler.SequentialLR(b, pieces(torch.optim.lr_scheduler, b, names), milestones)
    for _ in range(10):
        assert settings(a) == pytest.approx(settings(b), rel=1e-12)
        b.step()
        ours.step()
        theirs.step()


def test_a_milestone_at_once_begins_with_the_second():
    a, b = optimizers()
    ours = lr_scheduler.SequentialLR(a, pieces(lr_scheduler, a, "linear step"), [0])
    theirs = torch.optim.lr_scheduler.SequentialLR(b, pieces(torch.optim.lr_scheduler, b, "linear step"), [0])
    for _ in range(5):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        b.step()
        ours.step()
        theirs.step()


@pytest.mark.parametrize("names", [*TWO, "constant step exponential"])
def test_a_chain_is_pytorchs(names):
    a, b = optimizers(momentum=0.9)
    ours = lr_scheduler.ChainedScheduler(pieces(lr_scheduler, a, names), optimizer=a)
    theirs = torch.optim.lr_scheduler.ChainedScheduler(pieces(torch.optim.lr_scheduler, b, names), optimizer=b)
    for _ in range(9):
        assert settings(a) == pytest.approx(settings(b), rel=1e-9)
        b.step()
        ours.step()
        theirs.step()


def made(kind):
    opt = optim.SGD([cr.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    if kind == "sequence":
        return lr_scheduler.SequentialLR(opt, pieces(lr_scheduler, opt, "linear cosine"), [4])
    if kind == "chain":
        return lr_scheduler.ChainedScheduler(pieces(lr_scheduler, opt, "linear exponential"))
    return pieces(lr_scheduler, opt, kind)[0]


@pytest.mark.parametrize("stop", [2, 4, 6])
@pytest.mark.parametrize("kind", ["sequence", "chain", "restarts", "cycle", "waves"])
def test_each_goes_on_from_its_state(kind, stop):
    first, second = made(kind), made(kind)
    for _ in range(stop):
        first.step()
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    for _ in range(3):
        first.step()
        second.step()
        assert settings(first.optimizer) == settings(second.optimizer)


def trainer(make):
    cr.manual_seed(0)
    model = nn.Linear(3, 1)
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    return cr.Trainer(model, nn.functional.mse_loss, opt, scheduler=make(opt))


MADE = {
    "sequence": lambda o: lr_scheduler.SequentialLR(o, pieces(lr_scheduler, o, "linear cosine"), [2]),
    "chain": lambda o: {"step": lr_scheduler.ChainedScheduler(pieces(lr_scheduler, o, "linear step"))},
    "momentum": lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=9),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_trainer_goes_on_with_them(make, tmp_path):
    X, y = (np.random.default_rng(0).normal(size=(16, n)).astype(np.float32) for n in (3, 1))
    whole, part = trainer(make), trainer(make)
    losses = whole.fit(X, y, epochs=5, batch_size=8, seed=1)["loss"]
    part.fit(X, y, epochs=3, batch_size=8, seed=1)
    part.save(tmp_path / "run")
    again = trainer(make)
    again.load(tmp_path / "run")
    assert again.fit(X, y, epochs=5, batch_size=8, seed=1, resume=True)["loss"] == losses
    assert settings(again.optimizer) == settings(whole.optimizer) != settings(trainer(make).optimizer)


def text_of(function):
    with pytest.raises(SettingError) as error:
        function()
    return str(error.value)


def test_refusals():
    opt = optim.SGD([cr.ones(1, requires_grad=True)], lr=0.1)
    other = optim.SGD([cr.ones(1, requires_grad=True)], lr=0.1)
    step = lr_scheduler.StepLR(opt, 1)
    s = lr_scheduler
    assert text_of(lambda: s.OneCycleLR(opt, 1.0)) == "OneCycleLR: give total_steps, or epochs and steps_per_epoch."
    assert text_of(lambda: s.OneCycleLR(opt, 1.0, total_steps=0)) == (
        "OneCycleLR: total_steps must be a whole number, 1 or more, got 0."
    )
    assert (
        text_of(lambda: s.OneCycleLR(opt, 1.0, 9, pct_start=2)) == "OneCycleLR: pct_start must be from 0 to 1, got 2.0."
    )
    assert text_of(lambda: s.OneCycleLR(opt, [1.0, 2.0], 9)) == (
        "OneCycleLR: max_lr needs one number for each of the 1 groups, got 2."
    )
    assert text_of(lambda: s.OneCycleLR(optim.Adagrad([cr.ones(1, requires_grad=True)]), 1.0, 9)) == (
        "OneCycleLR: cycle_momentum=True needs an optimizer with betas or a momentum, got Adagrad. Set cycle_momentum=False."
    )
    cycle = s.OneCycleLR(opt, 1.0, total_steps=2)
    cycle.step()
    cycle.step()
    assert text_of(cycle.step) == (
        "OneCycleLR: step 3 is beyond its total_steps=2. Make it for as many steps as the training takes."
    )
    assert text_of(lambda: s.CyclicLR(opt, 0.1, 1.0, step_size_up=0)) == (
        "CyclicLR: step_size_up and step_size_down must be above 0, got 0 and 0."
    )
    assert text_of(lambda: s.CosineAnnealingWarmRestarts(opt, 1.5)) == (
        "CosineAnnealingWarmRestarts: T_0 must be a whole number, 1 or more, got 1.5."
    )
    assert text_of(lambda: s.CosineAnnealingWarmRestarts(opt, 2).step(-1)) == (
        "CosineAnnealingWarmRestarts: step(epoch) must be 0 or more, got -1.0."
    )
    assert text_of(lambda: s.SequentialLR(opt, [], [])) == "SequentialLR: needs one schedule at least, got none."
    assert text_of(lambda: s.SequentialLR(opt, [step, step], [])) == (
        "SequentialLR: needs one milestone fewer than schedules, got 2 schedules and 0 milestones."
    )
    assert (
        text_of(lambda: s.SequentialLR(opt, [step, step, step], [3, 1]))
        == "SequentialLR: milestones must ascend, got [3, 1]."
    )
    assert text_of(lambda: s.SequentialLR(other, [step], [])) == (
        "SequentialLR: the schedule at index 0 sets the rates of another optimizer."
    )
    assert text_of(lambda: s.ChainedScheduler([step, s.ReduceLROnPlateau(opt)])) == (
        "ChainedScheduler: takes schedules that go by the number of steps, got ReduceLROnPlateau at index 1."
    )
    assert text_of(lambda: s.SequentialLR(opt, [s.ChainedScheduler([step]), step], [1])) == (
        "SequentialLR: a schedule in it is made of schedules itself, and could not begin anew at its milestone. Give those that "
        "it is made of."
    )


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR"])
def test_a_group_that_came_later_has_no_rates_of_its_own(name):
    opt = optim.SGD([cr.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(opt, 1.0, 9) if name == "OneCycleLR" else lr_scheduler.CyclicLR(opt, 0.1, 1.0)
    opt.add_param_group({"params": [cr.ones(1, requires_grad=True)]})
    assert text_of(schedule.step) == (
        f"{name}: a group that was added later has no rates of its own. Give all groups to the optimizer before the schedule is "
        f"made."
    )


def test_a_trainer_refuses_momenta_that_would_go_ahead():
    make = lambda o: {"step": lr_scheduler.ChainedScheduler([lr_scheduler.OneCycleLR(o, 0.5, total_steps=9)])}  # noqa: E731
    assert text_of(lambda: trainer(make)) == (
        "Trainer: ChainedScheduler moves the momentum, too, but of a schedule of every step only the rates are worked out ahead. "
        "Make it with cycle_momentum=False, or write the loop around a compiled step."
    )


@pytest.mark.parametrize("total", [1, 2, 7])
@pytest.mark.parametrize("three", [True, False])
def test_one_cycle_along_lines_stays_at_its_last_rate(total, three):
    """PyTorch's goes on beyond, to a rate below 0, with which no optimizer could be loaded."""
    opt = cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    cycle = cr.optim.lr_scheduler.OneCycleLR(
        opt, max_lr=1.0, total_steps=total, anneal_strategy="linear", three_phase=three
    )
    for _ in range(total):
        cycle.step()
    assert opt.param_groups[0]["lr"] == pytest.approx(1 / 25 / 1e4)
    assert opt.param_groups[0]["momentum"] == pytest.approx(0.95)
    opt.load_state_dict(opt.state_dict())


@pytest.mark.parametrize("total", [2, 7])
@pytest.mark.parametrize("three", [True, False])
def test_one_cycle_along_a_cosine_ends_as_pytorchs(total, three):
    def rates(library):
        opt = library.optim.SGD([library.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
        cycle = library.optim.lr_scheduler.OneCycleLR(opt, max_lr=1.0, total_steps=total, three_phase=three)
        found = []
        for _ in range(total):
            opt.step()
            cycle.step()
            found.append((opt.param_groups[0]["lr"], opt.param_groups[0]["momentum"]))
        return found

    np.testing.assert_allclose(rates(cr), rates(torch), rtol=1e-9, atol=1e-12)
