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


def parts():
    cr.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.1), nn.Linear(3, 2))


def freeze(trainer):
    trainer.model[0].weight.requires_grad_(False)


def thin(trainer):
    trainer.model[2].p = 0.5


def decay(trainer):
    trainer.optimizer.param_groups[0]["weight_decay"] = 0.1


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(
    ("change", "was", "now"),
    [(freeze, "model.0.weight.requires_grad=True", "model.0.weight.requires_grad=False"),
     (thin, "model.2.p=0.1", "model.2.p=0.5"),
     (decay, "weight_decay=0.0", "weight_decay=0.1")],
)  # fmt: skip
def test_whatever_is_set_otherwise_is_said(tmp_path, same, change, was, now):
    folder = str(tmp_path / "runs")
    trainer = Trainer(parts(), "cross_entropy", "adam")
    trainer.fit(X, y, 1, progress=False, checkpoint=folder)
    if not same:
        trainer = Trainer(parts(), "cross_entropy", "adam")
    change(trainer)
    with pytest.warns(UserWarning, match="goes on as it was begun") as said:
        trainer.fit(X, y, 2, progress=False, checkpoint=folder)
    assert [str(one.message) for one in said] == [
        f"fit: checkpoint={folder!r} goes on as it was begun, with {was}, and not with the {now} of this trainer. Name a new "
        f"folder for a training with other settings."
    ]


def test_several_settings_are_named(tmp_path):
    folder = str(tmp_path / "runs")
    Trainer(parts(), "cross_entropy", "adam").fit(X, y, 1, progress=False, checkpoint=folder)
    trainer = Trainer(parts(), "cross_entropy", "adam", lr=0.5)
    trainer.model[:2].requires_grad_(False)
    with pytest.warns(UserWarning, match="goes on as it was begun") as said:
        trainer.fit(X, y, 1, progress=False, checkpoint=folder)
    first = [f"model.{name}.requires_grad" for name in ("0.bias", "0.weight", "1.bias")]
    was, now = (
        ", ".join([lr, *(f"{name}={flag}" for name in first)]) for lr, flag in (("lr=0.001", True), ("lr=0.5", False))
    )
    assert [str(one.message) for one in said] == [
        f"fit: checkpoint={folder!r} goes on as it was begun, with {was}, and not with the {now} of this trainer (and 1 more). "
        f"Name a new folder for a training with other settings."
    ]


def test_what_a_schedule_or_a_callback_moved_is_nothing_else(tmp_path):
    folder = str(tmp_path / "runs")

    def move(trainer, epoch, measured):
        freeze(trainer)
        thin(trainer)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = parts()
        opt = cr.optim.SGD(model.parameters(), lr=0.1)
        trainer = Trainer(model, "cross_entropy", opt, scheduler=cr.optim.lr_scheduler.StepLR(opt, 1))
        for epochs in (1, 2):  # the same trainer
            trainer.fit(X, y, epochs, progress=False, checkpoint=folder, callbacks=move)


def test_a_schedule_that_ends_at_0_goes_on(tmp_path):
    def trainer():
        model = parts()
        opt = cr.optim.Adam(model.parameters(), lr=0.1)
        down = cr.optim.lr_scheduler.LinearLR(opt, start_factor=1 / 3, end_factor=0.0, total_iters=5)
        return Trainer(model, "cross_entropy", opt, scheduler=down)

    for epochs in (6, 7):
        history = trainer().fit(X, y, epochs, progress=False, checkpoint=tmp_path / "runs")
    assert history["lr"][-2:] == [0.0, 0.0]


def test_a_parameter_that_was_exchanged_goes_on_with_the_state_of_its_place(tmp_path):
    def exchange(trainer):
        new = nn.Parameter(trainer.model[3].weight.detach() * 0.5)
        trainer.model[3].weight = trainer.optimizer.param_groups[0]["params"][-2] = new

    def fitted(other):
        trainer = Trainer(parts(), "cross_entropy", "adam")
        trainer.fit(X, y, 1, progress=False, checkpoint=tmp_path / str(other))
        if other:
            exchange(trainer)
        trainer.fit(X, y, 2, progress=False, checkpoint=tmp_path / str(other))
        return [value.tolist() for value in trainer.model.state_dict().values()]

    assert fitted(True) == fitted(False)


def test_a_part_in_evaluation_mode_is_said():
    trainer = Trainer(parts(), "cross_entropy", "adam")
    text = (
        "fit: model.1 is in evaluation mode, but `fit` trains it in training mode: modes of modules count where a callback sets "
        "them. Call model.1.eval() in on_fit_start of a callback, or model.train() before fit."
    )
    trainer.fit(X, y, 1, progress=False)
    trainer.model[1].eval()
    for options in ({"resume": True}, {}):
        with pytest.warns(UserWarning, match="evaluation mode") as said:
            trainer.fit(X, y, 2, progress=False, **options)
        assert [str(one.message) for one in said] == [text]


def test_modes_that_say_nothing_of_the_training_are_not_spoken_of():
    def still(trainer, epoch, measured):
        trainer.model[1].eval()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = Trainer(parts(), "cross_entropy", "adam")
        trainer.fit(X, y, 1, progress=False, callbacks=still)
        trainer.fit(X, y, 2, progress=False, resume=True)
        trainer.model.eval()
        trainer.fit(X, y, 3, progress=False, resume=True)
        trainer.model.train()
        trainer.model[1].eval()  # as the training left it
        trainer.fit(X, y, 4, progress=False, resume=True)
