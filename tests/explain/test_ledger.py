"""Ledgers: the parts are the move, to the bit with the rounding, and what PyTorch's optimizers do in float64."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from tests.explain.trainings import fit, trainer
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import GradientError, UnknownNameError
from chainrule.explain.report.building import curves

OPTIMIZERS = {
    "SGD": (optim.SGD, {"lr": 0.1}),
    "SGD momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "SGD dampened": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "SGD nesterov decay": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "SGD maximize": (optim.SGD, {"lr": 0.01, "maximize": True}),
    "Adam": (optim.Adam, {"lr": 0.01}),
    "Adam decay": (optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
    "Adam amsgrad maximize": (optim.Adam, {"lr": 0.01, "amsgrad": True, "maximize": True}),
    "AdamW": (optim.AdamW, {"lr": 0.01, "weight_decay": 0.2}),
    "Adagrad": (optim.Adagrad, {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1}),
    "Adadelta": (optim.Adadelta, {"lr": 1.0}),
    "Adamax": (optim.Adamax, {"lr": 0.01}),
    "RAdam": (optim.RAdam, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "NAdam": (optim.NAdam, {"lr": 0.01}),
    "RMSprop": (optim.RMSprop, {"lr": 0.01}),
    "RMSprop centered": (optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
}


def halve(trainer, epoch, measured):
    trainer.optimizer.param_groups[0]["lr"] *= 0.5


@pytest.fixture(scope="module", params=OPTIMIZERS, ids=str)
def case(request):
    kind, options = OPTIMIZERS[request.param]
    made = trainer((5, 8, 2), partial(kind, **options), max_norm=0.2)
    return request.param, fit(made, epochs=3, callbacks=[halve]), options


STEPS = (0, 1, 7, 14)
ADDRESSES = ("0.weight[3, 1]", "0.bias[2]", "2.weight[1, 5]")


def test_the_parts_and_the_rounding_are_the_move_to_the_bit(case):
    _, run, _ = case
    for step in STEPS:
        for address in ADDRESSES:
            ledger = run.ledger(address, step)
            moment = run.at(step)
            name, position = address.split("[")[0], ledger.derivation.position
            before, after = (Fraction(float(w[name].reshape(-1)[position])) for w in (moment.weights, moment.after))
            assert (
                sum((Fraction(part.amount) for part in ledger.parts), ledger.rounding) == after - before == ledger.move
            )
            # Rounding is what float32 may lose: a few ulp of the weight and of each part.
            size = abs(float(before)) + sum(abs(part.amount) for part in ledger.parts)
            assert abs(float(ledger.rounding)) <= 8 * 2.0**-24 * size


def test_the_parts_are_the_step_of_pytorch(case):
    """PyTorch's optimizer in float64, from the recorded weight, state and gradient."""
    name, run, options = case
    for step in STEPS:
        moment = run.at(step)
        for address in ADDRESSES:
            ledger = run.ledger(address, step)
            parameter, position = address.split("[")[0], ledger.derivation.position
            weight = torch.tensor([ledger.before], dtype=torch.float64, requires_grad=True)
            given = {k: v for k, v in options.items() if k != "lr_decay"}  # the rate that was used has it
            theirs = getattr(torch.optim, name.split()[0])([weight], **{**given, "lr": ledger.lr})
            state = {
                slot: torch.tensor(float(a))
                if not a.ndim
                else torch.tensor([float(a.reshape(-1)[position])], dtype=torch.float64)
                for slot, a in moment.optimizer[parameter].items()
            }
            if name.startswith("SGD"):
                state.pop("step", None)
            if step or not name.startswith("SGD"):
                theirs.state[weight] = state
            weight.grad = torch.tensor([float(moment.gradients[parameter].reshape(-1)[position])], dtype=torch.float64)
            theirs.step()
            found = sum(part.amount for part in ledger.parts)
            assert found == pytest.approx(weight.item() - ledger.before, rel=1e-6, abs=1e-13), (step, address)


def test_which_parts_there_are():
    def parts(kind, epochs=3, callbacks=(), max_norm=None, step=12, **options):
        run = fit(trainer((5, 8, 2), partial(kind, **options), max_norm=max_norm), epochs, callbacks=callbacks)
        return [part.name for part in run.ledger("0.weight[3, 1]", step).parts]

    assert parts(optim.SGD, lr=0.1) == ["gradient"]
    assert parts(optim.SGD, lr=0.1, max_norm=0.01) == ["gradient", "clipping"]
    assert parts(optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1, callbacks=[halve], max_norm=0.01) == [
        "gradient", "clipping", "weight decay", "momentum", "schedule",
    ]  # fmt: skip
    assert parts(optim.Adam, weight_decay=0.1) == ["gradient", "weight decay", "momentum", "second moment"]
    assert parts(optim.AdamW) == ["gradient", "momentum", "second moment", "weight decay"]
    assert parts(optim.RMSprop, momentum=0.5, maximize=True) == ["gradient", "maximize", "second moment", "momentum"]


def test_the_amounts_of_plain_parts():
    made = trainer((5, 8, 2), partial(optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1), max_norm=0.05)
    run = fit(made, callbacks=[halve])
    ledger, moment = run.ledger("0.weight[3, 1]", 12), run.at(12)
    g = float(ledger.derivation.gradient)
    clipped, buffer = (
        float(moment.gradients["0.weight"][3, 1]),
        float(moment.optimizer["0.weight"]["momentum_buffer"][3, 1]),
    )
    assert abs(clipped) < abs(g)
    assert ledger["gradient"] == pytest.approx(-0.1 * g)
    assert ledger["clipping"] == pytest.approx(-0.1 * (clipped - g))
    assert ledger["weight decay"] == pytest.approx(-0.1 * 0.1 * ledger.before)
    assert ledger["momentum"] == pytest.approx(-0.1 * 0.9 * buffer)
    direction = 0.9 * buffer + clipped + 0.1 * ledger.before
    assert (ledger.lr0, ledger.lr) == (0.1, 0.025)
    assert ledger["schedule"] == pytest.approx(0.075 * direction)
    assert ledger["nothing of that name"] == 0


def test_the_samples_add_up_and_are_the_gradients_of_single_rows():
    run = fit(trainer((5, 8, 2)))
    for step in (3, 4):  # a full batch, and the short one
        moment = run.at(step)
        for address in ("0.weight[3, 1]", "0.bias[3]"):
            ledger = run.ledger(address, step)
            pulls = ledger.samples()
            assert sorted(p.row for p in pulls) == sorted(moment.rows)
            assert sum(p.gradient for p in pulls) == pytest.approx(
                float(ledger.derivation.gradient), rel=1e-4, abs=1e-9
            )
            assert sum(p.amount for p in pulls) == pytest.approx(ledger["gradient"], rel=1e-4, abs=1e-10)
            assert [abs(p.gradient) for p in pulls] == sorted((abs(p.gradient) for p in pulls), reverse=True)
            name, position = address.split("[")[0], ledger.derivation.position
            for pull in pulls[:3]:
                assert pull.gradient == pytest.approx(alone(run, moment, name, position, pull.row), rel=1e-3, abs=1e-8)


def alone(run, moment, name, position, row):
    """The gradient of one row's loss, eagerly, divided by the size of the batch."""
    model = trainer((5, 8, 2)).model
    model.load_state_dict({k: cr.tensor(v) for k, v in moment.weights.items()})
    X, y = run.replay.x[[row]], run.replay.y[[row]]
    F.cross_entropy(model(cr.tensor(X)), cr.tensor(y)).backward()
    return float(dict(model.named_parameters())[name].grad.numpy().reshape(-1)[position]) / len(moment.rows)


def test_as_a_dict_and_in_print():
    run = fit(trainer())
    ledger = run.ledger("0.weight[3, 1]", 5)
    found = ledger.as_dict(samples=2)
    assert [part["name"] for part in found["parts"]] == ["gradient", "momentum", "second moment"]
    assert len(found["samples"]) == 2
    assert found["move"] == pytest.approx(sum(part["amount"] for part in found["parts"]) + found["rounding"])
    text = str(ledger)
    assert " ".join(text.split()).startswith(
        f"0.weight[3, 1] at step 5: {ledger.before:.9g} -> {ledger.after:.9g}, a move of "
    )
    assert "exactly the move" in text
    assert repr(ledger).startswith("<Ledger of 0.weight[3, 1] at step 5: ")
    assert str(run.trainer.ledger("0.weight[3, 1]", 5)) == text
    assert run.ledger("0.weight").derivation.gradient != 0


def test_what_no_update_moves():
    made = trainer()
    half = cr.Trainer(made.model, F.cross_entropy, optim.SGD(made.model[2].parameters(), lr=0.1))
    with pytest.raises(
        GradientError,
        match=re.escape(
            "ledger: 0.weight is not among the optimizer's parameters, so no update moves it. Name a weight that is trained."
        ),
    ):
        fit(half, epochs=1).ledger("0.weight[0, 0]", 1)


def test_an_unknown_weight():
    with pytest.raises(UnknownNameError, match="^unknown weight '1.weight'"):
        fit(trainer(), epochs=1).ledger("1.weight[0, 0]")


def test_a_max_norm_that_cannot_be():
    model = nn.Linear(2, 2)
    for bad in (0, -1, "much"):
        with pytest.raises(
            cr.ChainruleError, match=f"^Trainer: max_norm must be a number above 0, or None, got {bad!r}.$"
        ):
            cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters()), max_norm=bad)


class Halved(optim.SGD):
    """Says of itself that it uses half of its groups' rate."""

    def settings(self, group, step):
        found = super().settings(group, step)
        return {**found, "lr": found["lr"] * 0.5}


def test_the_rate_is_the_one_that_the_step_used():
    cr.manual_seed(0)
    model = nn.Linear(4, 1)
    trainer = cr.Trainer(model, F.mse_loss, Halved(model.parameters(), lr=0.1))
    X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    history = trainer.fit(X, X[:, :1], epochs=3, batch_size=32, progress=False, record=True)
    assert history["lr"] == [0.05] * 3
    for step in (0, 5):
        ledger = trainer.ledger("weight[0, 1]", step)
        assert (ledger.lr, ledger.lr0) == (0.05, 0.05)
        assert abs(ledger.rounding) < 1e-6 * abs(ledger.move) + 1e-7
    (curve,) = (c for c in curves(trainer.run) if c["name"] == "learning rate")
    assert set(curve["series"][0]["values"]) == {0.05}


def test_every_group_has_its_rate_in_the_history():
    cr.manual_seed(0)
    model = nn.Linear(4, 1)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "lr": 0.3}]
    trainer = cr.Trainer(model, F.mse_loss, optim.SGD(groups, lr=0.1))
    X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    history = trainer.fit(X, X[:, :1], epochs=2, batch_size=32, progress=False)
    assert (history["lr"], history["lr_1"]) == ([0.1] * 2, [0.3] * 2)


def test_a_move_that_the_optimizer_does_not_explain_is_an_error():
    class Secret(optim.SGD):
        """Does more than its rules and settings say."""

        def step(self, closure=None):
            super().step(closure)
            with cr.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.sub_(0.01)

    cr.manual_seed(0)
    model = nn.Linear(4, 1)
    trainer = cr.Trainer(model, F.mse_loss, Secret(model.parameters(), lr=0.1))
    X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    trainer.fit(X, X[:, :1], epochs=1, batch_size=32, progress=False, record=True)
    with pytest.raises(GradientError, match=r"what Secret says of itself \(its rules, settings and rates\) explains"):
        trainer.ledger("weight[0, 1]", 1)
