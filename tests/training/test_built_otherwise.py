"""A training that goes on is the one that was begun: what was built otherwise is refused, or said aloud."""

import warnings
from functools import partial

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import SettingError
from chainrule.training import Trainer

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)


def make(lr=0.01, loss="cross_entropy", **options):
    cr.manual_seed(0)
    return Trainer(nn.Linear(4, 2), loss, "adam", lr=lr, **options)


def test_another_loss_is_refused(tmp_path):
    trainer = make()
    trainer.fit(X, y, 1, progress=False)
    trainer.save(tmp_path / "t")
    with pytest.raises(SettingError) as raised:
        make(loss="nll").load(tmp_path / "t")
    assert str(raised.value) == (
        f"load: {tmp_path / 't'} holds a training with the loss cross_entropy, this trainer has nll_loss. Build the trainer "
        f"as it was when it was saved."
    )


def test_a_loss_that_was_given_something_else_is_refused(tmp_path):
    def smoothed(share):
        return make(loss=partial(F.cross_entropy, label_smoothing=share, weight=cr.tensor([1.0, 2.0])))

    trainer = smoothed(0.1)
    trainer.fit(X, y, 1, progress=False)
    trainer.save(tmp_path / "t")
    with pytest.raises(SettingError) as raised:
        smoothed(0.3).load(tmp_path / "t")
    assert str(raised.value) == (
        f"load: {tmp_path / 't'} holds a training with a cross_entropy that was given {{'label_smoothing': 0.1}}, this trainer has "
        f"one given {{'label_smoothing': 0.3}}. Build the trainer as it was when it was saved."
    )
    smoothed(0.1).load(tmp_path / "t")


def test_another_rate_is_said(tmp_path):
    folder = str(tmp_path / "runs")
    make().fit(X, y, 1, progress=False, checkpoint=folder)
    text = (
        f"fit: checkpoint={folder!r} goes on as it was begun, with lr=0.01, and not with the lr=0.5 of this trainer. Name a "
        f"new folder for a training with other settings."
    )
    for _ in range(2):  # also once it was loaded and saved
        with pytest.warns(UserWarning, match="goes on as it was begun") as said:
            make(0.5).fit(X, y, 2, progress=False, checkpoint=folder)
        assert [str(one.message) for one in said] == [text]


def test_what_a_callback_changed_is_no_other_rate(tmp_path):
    folder = str(tmp_path / "runs")

    def halve(trainer, epoch, measured):
        trainer.optimizer.param_groups[0]["lr"] /= 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epochs in (2, 4):
            trainer = make()
            trainer.fit(X, y, epochs, progress=False, checkpoint=folder, callbacks=halve)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.01 / 16


def test_another_norm_is_said_and_other_layers_are_refused(tmp_path):
    folder = str(tmp_path / "runs")
    make().fit(X, y, 1, progress=False, checkpoint=folder)
    with pytest.warns(UserWarning, match="with max_norm=None, and not with the max_norm=0.5 of this trainer"):
        make(max_norm=0.5).fit(X, y, 2, progress=False, checkpoint=folder)

    def layers(act):
        return Trainer(nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 2)), "cross_entropy", "adam")

    trainer = layers(nn.ReLU())
    trainer.fit(X, y, 1, progress=False)
    trainer.save(tmp_path / "t")
    with pytest.raises(SettingError) as raised:
        layers(nn.Tanh()).load(tmp_path / "t")
    assert str(raised.value) == (
        f"load: {tmp_path / 't'} holds a training with ReLU as 'model.1', this one has Tanh. Build model and loss as they were "
        f"when it was saved."
    )
    layers(nn.ReLU()).load(tmp_path / "t")
