"""Whatever setting of whatever optimizer is changed between two steps: a compiled step and a Trainer follow as an eager one does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

START = {  # some with everything on, so that a change is of a number and not of a switch
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.5},
    ],
    "Adam": [{}, {"lr": 0.1, "betas": (0.5, 0.5), "weight_decay": 0.1, "amsgrad": True}],
    "AdamW": [{}, {"amsgrad": True}],
    "RMSprop": [{}, {"weight_decay": 0.1, "momentum": 0.5, "centered": True}],
    "Adagrad": [{}, {"weight_decay": 0.1, "lr_decay": 0.2}],
    "Adadelta": [{}, {"weight_decay": 0.1}],
    "Adamax": [{}, {"weight_decay": 0.1}],
    "RAdam": [{}, {"weight_decay": 0.1, "betas": (0.5, 0.8)}],
    "NAdam": [{}, {"weight_decay": 0.1}],
}
FIRST = {"initial_accumulator_value"}  # read once, before the first step
SWITCHED_ALONE = {("SGD", "nesterov"): {"momentum": 0.9, "dampening": 0.0}}  # what must hold beside it


def changed(name: str, key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {key: not value, **SWITCHED_ALONE.get((name, key), {})}
    return {key: tuple(0.8 * b for b in value) if isinstance(value, tuple) else 0.6 * value + 0.05}


def cases() -> list[Any]:
    found = []
    for name, starts in START.items():
        for number, options in enumerate(starts):
            defaults = getattr(optim, name)([cr.ones(1, requires_grad=True)], **options).defaults
            found += [
                pytest.param(name, options, changed(name, key, value), id=f"{name}-{number}-{key}")
                for key, value in defaults.items()
                if key not in FIRST
            ]
    return found


X = np.random.default_rng(0).normal(size=(12, 3)).astype("f")
Y = np.random.default_rng(1).normal(size=(12, 2)).astype("f")


STEPS = 8  # as many before the change as from it on, and so many that AMSGrad has a maximum to keep
UNCHANGED: dict[str, list[Any]] = {}  # what an optimizer comes to that nobody changes


def unchanged(name: str, options: dict[str, Any]) -> list[Any]:
    key = f"{name} {options}"
    if key not in UNCHANGED:
        UNCHANGED[key] = trained(name, options, {}, False)
    return UNCHANGED[key]


def model_and(name: str, options: dict[str, Any]) -> tuple[Any, Any]:
    cr.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, getattr(optim, name)(model.parameters(), **options)


def trained(name: str, options: dict[str, Any], change: dict[str, Any], native: bool) -> list[Any]:
    model, opt = model_and(name, options)

    def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        opt.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        opt.step()
        return loss

    run = cr.compile(step) if native else step
    for index in range(STEPS):
        if index == STEPS // 2:
            opt.param_groups[0].update(change)
        run(cr.tensor(X), cr.tensor(Y))
    return [p.detach().numpy() for p in model.parameters()]


@pytest.mark.parametrize(("name", "options", "change"), cases())
def test_a_changed_setting_counts_from_the_next_step(
    name: str, options: dict[str, Any], change: dict[str, Any]
) -> None:
    eager, before = trained(name, options, change, False), unchanged(name, options)
    assert any((a != b).any() for a, b in zip(eager, before, strict=True)) or nothing_to_change(name, options, change)
    for mine, expected in zip(trained(name, options, change, True), eager, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=2e-5, atol=1e-6)

    model, opt = model_and(name, options)

    def after_epoch(trainer: Any, epoch: int, measured: Any) -> None:
        if trainer.history.epochs == STEPS // 2:
            opt.param_groups[0].update(change)

    made = cr.Trainer(model, F.mse_loss, opt)
    made.fit(X, Y, epochs=STEPS, batch_size=12, shuffle=False, progress=False, callbacks=[after_epoch])
    for parameter, expected in zip(model.parameters(), eager, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=2e-5, atol=1e-6)


def nothing_to_change(name: str, options: dict[str, Any], change: dict[str, Any]) -> bool:
    """Does the setting mean something only beside another that is off?"""
    decays = options.get("weight_decay", 0.01 if name == "AdamW" else 0.0) > 0
    beside = {"decoupled_weight_decay": decays, "dampening": options.get("momentum", 0.0) > 0}
    return any(key in beside and not beside[key] for key in change)
