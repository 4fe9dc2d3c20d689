"""Losses and optimizers by their names."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import SettingError, UnknownNameError
from chainrule.training import Trainer


def model():
    cr.manual_seed(0)
    return nn.Linear(3, 2)


def test_names_are_what_they_name():
    trainer = Trainer(model(), "cross_entropy", "adamw", lr=0.5)
    assert trainer.loss is F.cross_entropy and type(trainer.optimizer) is optim.AdamW
    assert trainer.optimizer.param_groups[0]["lr"] == 0.5
    assert (
        Trainer(model(), "mse", "SGD").optimizer.param_groups[0]["lr"]
        == optim.SGD([cr.ones(1, requires_grad=True)]).param_groups[0]["lr"]
    )
    assert repr(trainer) == "<Trainer: Linear, loss=cross_entropy, optimizer=AdamW, lr=0.5; 0 epochs>"
    trainer.fit(np.zeros((4, 3), np.float32), np.zeros(4, np.int64), epochs=3, progress=False)
    assert repr(trainer).endswith("; 3 epochs>")


@pytest.mark.parametrize(
    ("name", "loss"),
    [("mse", F.mse_loss), ("mse_loss", F.mse_loss), ("l1", F.l1_loss), ("huber", F.huber_loss), ("nll", F.nll_loss)],
)
def test_the_ending_may_be_left_out(name, loss):
    assert nn.loss_by_name(name) is loss


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("crossentropy", "adam"), UnknownNameError, "unknown loss 'crossentropy'. Did you mean 'cross_entropy' or "),
        (("mse", "adamm"), UnknownNameError, "unknown optimizer 'adamm'. Did you mean 'adam'"),
    ],
)
def test_unknown_names(arguments, error, text):
    with pytest.raises(error) as raised:
        Trainer(model(), *arguments)
    assert str(raised.value).startswith(text)


def test_a_rate_beside_an_optimizer_is_refused():
    made = model()
    with pytest.raises(SettingError, match="lr is for an optimizer given by its name, got lr=0.1 beside Adam"):
        Trainer(made, "mse", optim.Adam(made.parameters()), lr=0.1)
    with pytest.raises(SettingError, match="Trainer: model must be an nn.Module, got list"):
        Trainer([], "mse", "adam")
