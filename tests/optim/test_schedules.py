"""Learning-rate schedules against PyTorch's."""

from __future__ import annotations

import math

import pytest

import chainrule as cr
from chainrule import optim
from chainrule.errors import SettingError, UnknownNameError
from chainrule.optim import lr_scheduler

torch = pytest.importorskip("torch")


def optimizers():
    def make(lib, tensor):
        groups = [
            {"params": [tensor.ones(1, requires_grad=True)]},
            {"params": [tensor.ones(1, requires_grad=True)], "lr": 0.3},
        ]
        return lib.SGD(groups, lr=0.1)

    return make(optim, cr), make(torch.optim, torch)


TABLE = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5], "gamma": 0.1}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 10, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 4}),  # down, up and down again
    ("ConstantLR", {"factor": 0.25, "total_iters": 3}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 6}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 4}),
    ("PolynomialLR", {"total_iters": 7, "power": 2.0}),
    ("MultiplicativeLR", {"lr_lambda": lambda epoch: 0.5 if epoch % 3 == 0 else 1.1}),
    ("CosineAnnealingWarmRestarts", {"T_0": 2}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.01}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 14, "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.1, "max_lr": [1.0, 2.0], "step_size_up": 3, "cycle_momentum": False}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.95**epoch}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 0.95**epoch, lambda epoch: 1 / (1 + epoch)]}),
]


@pytest.mark.parametrize(("name", "options"), TABLE, ids=lambda v: v if isinstance(v, str) else "")
def test_rates_are_pytorchs(name, options):
    a, b = optimizers()
    ours, theirs = getattr(lr_scheduler, name)(a, **options), getattr(torch.optim.lr_scheduler, name)(b, **options)
    for _ in range(10):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        assert [g["lr"] for g in a.param_groups] == ours.get_last_lr()
        b.step()
        ours.step()
        theirs.step()


def both(name, options, a, b):
    return getattr(lr_scheduler, name)(a, **options), getattr(torch.optim.lr_scheduler, name)(b, **options)


@pytest.mark.parametrize("second", TABLE, ids=lambda pair: pair[0])
@pytest.mark.parametrize("first", TABLE[:-1], ids=lambda pair: pair[0])
def test_two_schedules_on_one_optimizer_chain_as_pytorchs(first, second):
    a, b = optimizers()
    pairs = [both(*first, a, b), both(*second, a, b)]
    for _ in range(12):
        assert [g["lr"] for g in a.param_groups] == pytest.approx(
            [g["lr"] for g in b.param_groups], rel=1e-9, abs=1e-15
        )
        b.step()
        for ours, theirs in pairs:
            ours.step()
            theirs.step()


def test_two_schedules_multiply():
    opt = optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
    halving, decay = lr_scheduler.StepLR(opt, 1, 0.5), lr_scheduler.ExponentialLR(opt, 0.9)
    for _ in range(3):
        halving.step()
        decay.step()
    assert opt.param_groups[0]["lr"] == pytest.approx(0.5**3 * 0.9**3, rel=1e-12)


@pytest.mark.parametrize(("name", "options"), TABLE, ids=lambda v: v if isinstance(v, str) else "")
def test_a_rate_set_by_hand_is_treated_as_pytorch_treats_it(name, options):
    a, b = optimizers()
    ours, theirs = both(name, options, a, b)
    for epoch in range(9):
        b.step()
        ours.step()
        theirs.step()
        if epoch == 3:
            a.param_groups[1]["lr"] = b.param_groups[1]["lr"] = 0.7
        assert [g["lr"] for g in a.param_groups] == pytest.approx(
            [g["lr"] for g in b.param_groups], rel=1e-9, abs=1e-15
        )


CHAINABLE = [pair for pair in TABLE if pair[0] in ("StepLR", "MultiStepLR", "ExponentialLR", "ConstantLR", "LinearLR")]


@pytest.mark.parametrize(("name", "options"), CHAINABLE, ids=lambda v: v if isinstance(v, str) else "")
def test_a_group_added_later_is_scheduled_as_pytorchs(name, options):
    a, b = optimizers()
    ours, theirs = both(name, options, a, b)
    for epoch in range(9):
        if epoch == 2:
            a.add_param_group({"params": [cr.ones(1, requires_grad=True)], "lr": 0.5})
            b.add_param_group({"params": [torch.ones(1, requires_grad=True)], "lr": 0.5})
        b.step()
        ours.step()
        theirs.step()
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [("LambdaLR", {"lr_lambda": lambda epoch: 0.5**epoch}, 0.5 * 0.5**4), ("CosineAnnealingLR", {"T_max": 4}, 0.0)],
)
def test_a_group_added_later_is_scheduled_where_pytorch_raises(name, options, expected):
    opt, _ = optimizers()
    schedule = getattr(lr_scheduler, name)(opt, **options)
    schedule.step()
    opt.add_param_group({"params": [cr.ones(1, requires_grad=True)], "lr": 0.5})
    for _ in range(3):
        schedule.step()
    assert opt.param_groups[2]["lr"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"patience": 1}, {"patience": 0, "cooldown": 2, "factor": 0.5}, {"mode": "max", "patience": 1},
        {"threshold_mode": "abs", "threshold": 0.5, "patience": 1}, {"min_lr": 0.02, "patience": 0},
    ],
)  # fmt: skip
def test_plateaus_are_pytorchs(options):
    a, b = optimizers()
    ours, theirs = (
        lr_scheduler.ReduceLROnPlateau(a, **options),
        torch.optim.lr_scheduler.ReduceLROnPlateau(b, **options),
    )
    for epoch in range(40):
        metric = abs(math.sin(epoch * 0.7)) + 1 / (epoch + 1)
        ours.step(metric)
        theirs.step(metric)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr())


def test_a_schedule_goes_on_from_its_state():
    a, _ = optimizers()
    first = lr_scheduler.CosineAnnealingLR(a, 10)
    for _ in range(4):
        first.step()
    b, _ = optimizers()
    second = lr_scheduler.CosineAnnealingLR(b, 10)
    second.load_state_dict(first.state_dict())
    b.load_state_dict(a.state_dict())  # which holds the rate in force, as in PyTorch
    first.step()
    second.step()
    assert second.get_last_lr() == first.get_last_lr()
    assert "lr_lambdas" not in lr_scheduler.LambdaLR(a, lambda e: 1.0).state_dict()
    plateau = lr_scheduler.ReduceLROnPlateau(a)
    plateau.load_state_dict(lr_scheduler.ReduceLROnPlateau(b, patience=3).state_dict())
    assert plateau.patience == 3


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return str(error.value)


def test_refusals():
    opt, _ = optimizers()
    assert text_of(SettingError, lambda: lr_scheduler.StepLR(opt, 0)) == ("StepLR: step_size must be 1 or more, got 0.")
    assert text_of(SettingError, lambda: lr_scheduler.StepLR([], 1)) == "StepLR: needs an optimizer, got list."
    assert text_of(SettingError, lambda: lr_scheduler.CosineAnnealingLR(opt, 0)) == (
        "CosineAnnealingLR: T_max, the epochs to the lowest rate, must be 1 or more, got 0."
    )
    assert text_of(SettingError, lambda: lr_scheduler.LambdaLR(opt, [abs])) == (
        "LambdaLR: needs one function for each of the 2 groups, got 1."
    )
    assert text_of(SettingError, lambda: lr_scheduler.ReduceLROnPlateau(opt, factor=1)) == (
        "ReduceLROnPlateau: factor must be below 1, got 1."
    )
    assert text_of(UnknownNameError, lambda: lr_scheduler.ReduceLROnPlateau(opt, mode="mx")) == (
        "unknown mode 'mx'. Did you mean 'max'? Known: max, min."
    )
    assert text_of(UnknownNameError, lambda: lr_scheduler.ReduceLROnPlateau(opt, threshold_mode="r")) == (
        "unknown threshold_mode 'r'. Known: abs, rel."
    )


def test_waves_are_the_published_formula():
    a, b = optimizers()
    total = 37
    ours = lr_scheduler.CosLogLR(a, total)
    factor = lambda step: 0.5 - 0.5 * math.cos(2 * math.pi * math.log2(1 + 15 * step / total))  # noqa: E731
    theirs = torch.optim.lr_scheduler.LambdaLR(b, factor)
    for _ in range(total + 1):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-9, abs=1e-15)
        b.step()
        ours.step()
        theirs.step()
    for _ in range(3):  # at the end of the last wave it stays
        ours.step()
        assert ours.get_last_lr() == pytest.approx([0, 0], abs=1e-15)


@pytest.mark.parametrize("cycles", [1, 2, 4])
def test_each_wave_ends_at_0_and_reaches_the_first_rate(cycles):
    opt = optim.SGD([cr.ones(1, requires_grad=True)], lr=0.5)
    total = (2**cycles - 1) * 100
    waves = lr_scheduler.CosLogLR(opt, total, cycles)
    rates = []
    for _ in range(total + 1):
        rates += waves.get_last_lr()
        waves.step()
    assert waves.ends() == [100 * (2**k - 1) for k in range(1, cycles + 1)]
    for start, end in zip([0, *waves.ends()], waves.ends(), strict=False):
        assert rates[int(end)] == pytest.approx(0, abs=1e-12)
        assert max(rates[int(start) : int(end)]) == pytest.approx(0.5, rel=1e-3)


def test_a_wave_goes_on_from_its_state():
    def make():
        return lr_scheduler.CosLogLR(optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0), 20)

    first, second = make(), make()
    for _ in range(7):
        first.step()
    second.load_state_dict(first.state_dict())
    second.step()
    first.step()
    assert second.get_last_lr() == first.get_last_lr() != [0.0]


@pytest.mark.parametrize(
    ("options", "text"),
    [({"total_iters": 0}, "total_iters must be a whole number, 1 or more, got 0."),
     ({"total_iters": 2.5}, "total_iters must be a whole number, 1 or more, got 2.5."),
     ({"total_iters": 9, "cycles": 0}, "cycles must be a whole number, 1 or more, got 0.")],
)  # fmt: skip
def test_waves_that_cannot_be_are_refused(options, text):
    with pytest.raises(SettingError, match=f"^CosLogLR: {text}"):
        lr_scheduler.CosLogLR(optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0), **options)


@pytest.mark.parametrize("start", [0.1, 1 / 3, 1.0])
def test_a_rate_that_is_below_0_by_rounding_alone_is_0(start):
    """PyTorch's comes to -1.5e-18, with which no optimizer could be loaded."""
    opt = optim.Adam([cr.ones(1, requires_grad=True)], lr=0.1)
    down = lr_scheduler.LinearLR(opt, start_factor=start, end_factor=0.0, total_iters=5)
    for _ in range(8):
        down.step()
        assert down.get_last_lr()[0] >= 0
    assert down.get_last_lr()[0] == pytest.approx(0, abs=1e-15)
    opt.load_state_dict(opt.state_dict())


def test_rates_of_pytorchs_below_0_by_rounding_are_loaded_as_0():
    theirs = torch.optim.Adam([torch.ones(1, requires_grad=True)], lr=0.1)
    down = torch.optim.lr_scheduler.LinearLR(theirs, start_factor=1.0, end_factor=0.0, total_iters=5)
    for _ in range(6):
        theirs.step()
        down.step()
    given = theirs.state_dict()
    given["param_groups"][0]["lr"] = -1.5e-18
    opt = optim.Adam([cr.ones(1, requires_grad=True)], lr=0.1)
    opt.load_state_dict(given)
    assert opt.param_groups[0]["lr"] == 0
    given["param_groups"][0]["lr"] = -1e-3
    with pytest.raises(SettingError, match="lr must be a number 0 or more, got -0.001"):
        opt.load_state_dict(given)


@pytest.mark.parametrize("made", [
    lambda o: lr_scheduler.StepLR(o, 2),
    lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.5)], [2]),
    lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ExponentialLR(o, 0.5)]),
])  # fmt: skip
def test_a_step_to_an_epoch_says_how_to_go_on(made):
    optimizer = optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
    schedule = made(optimizer)
    before = optimizer.param_groups[0]["lr"]
    text = (
        f"{type(schedule).__name__}: step() goes on by one epoch and takes none, got 3. Call step() after each epoch, and go on with "
        "a training by load_state_dict(). A measure goes to ReduceLROnPlateau, a part of an epoch to CosineAnnealingWarmRestarts."
    )
    with pytest.raises(SettingError) as error:
        schedule.step(3)
    assert str(error.value) == text
    assert optimizer.param_groups[0]["lr"] == before
