"""Callbacks that hear of every epoch make a pause in a stretch; whatever they do there, it is as if each epoch were begun anew."""

from __future__ import annotations

import numpy as np
import pytest
from tests.hunters.stretches import LONGEST, stretches_of

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import Callback, Checkpoint, EarlyStopping
from chainrule.compiler.frontend.loop import Loop
from chainrule.errors import NonFiniteError
from chainrule.training import Trainer, fitting, state, stretch

EPOCHS = 12
rng = np.random.default_rng(0)
X = rng.standard_normal((45, 6)).astype(np.float32)
y = (X[:, 0] + rng.standard_normal(45) > 0).astype(np.int64)


class Scaled(nn.Module):
    """Reads attributes, and in evaluation another than in training."""

    def __init__(self):
        super().__init__()
        self.factor, self.shift, self.table = 1.0, 0.0, [1.0]
        self.register_buffer("seen", cr.zeros(3))

    def forward(self, x):
        if self.training:
            with cr.no_grad():
                self.seen += 1
            return x * self.factor * self.table[0]
        return x * self.factor + self.shift


def make(lr=0.05):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), Scaled(), nn.Dropout(0.2), nn.Linear(12, 2))
    return Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=lr), ["accuracy", "roc_auc"], max_norm=5.0)


def fit(trainer, callbacks, epochs=EPOCHS, **options):
    options = {"batch_size": 16, "validation_data": (X[:20], y[:20]), "progress": False, **options}
    with stretches_of(LONGEST):  # whatever the clock says
        return trainer.fit(X, y, epochs=epochs, callbacks=callbacks, **options)


def everything(trainer):
    session = trainer.session
    tensors = [handle.detach().numpy().tobytes() for handle in session.handles()]
    history = {name: column for name, column in trainer.history.items() if name != "seconds"}
    return tensors, repr((history, session.position, session.settings()))


@pytest.fixture
def stretches(monkeypatch):
    """How many laps each had."""
    found, run = [], stretch.Stretch.run
    monkeypatch.setattr(fitting, "SECONDS", 1e9)
    monkeypatch.setattr(stretch.Stretch, "run", lambda self: (found.append(len(self.laps)), run(self))[1])
    return found


scale = cr.ones(1)


@cr.compile
def halve(weight):
    scale.mul_(0.5)
    return weight.sum() * scale


@cr.compile
def halve_in_place(weight):
    weight.mul_(0.5)


def writes_natively(trainer, epoch):
    with cr.no_grad():
        halve_in_place(trainer.model[2].seen)


def nothing(trainer, epoch):
    pass


def looks(trainer, epoch):
    trainer.evaluate(X, y)
    trainer.predict(X[:3])
    return len(trainer.history["val_loss"]), trainer.session.position.done


def writes(trainer, epoch):
    with cr.no_grad():
        trainer.model[0].weight.mul_(0.9)


def draws(trainer, epoch):
    return cr.rand(2).tolist()


def leaves_gradients(trainer, epoch):
    F.cross_entropy(trainer.model(cr.tensor(X)), cr.tensor(y)).backward()


def sets_the_rate(trainer, epoch):
    trainer.optimizer.param_groups[0]["lr"] *= 0.8


def clears_the_state(trainer, epoch):
    trainer.optimizer.state.clear()


def clips(trainer, epoch):
    trainer.session.max_norm = 1.0 / epoch


def freezes(trainer, epoch):
    trainer.model[0].weight.requires_grad_(epoch % 3 == 0)


def sets_an_attribute(trainer, epoch):
    trainer.model[2].factor = 1 + epoch % 2


def sets_one_of_evaluation(trainer, epoch):
    vars(trainer.model[2])["shift"] = 0.1 * epoch


def changes_a_list(trainer, epoch):
    trainer.model[2].table[0] = 1.0 + epoch


def swaps_a_buffer(trainer, epoch):
    trainer.model[2].seen = cr.ones(3) * epoch


def swaps_a_layer(trainer, epoch):
    trainer.model[3] = nn.Dropout(0.1 + 0.05 * (epoch % 2))


def compiles_over_it(trainer, epoch):
    return halve(trainer.model[0].weight).item()


CALLS = [
    nothing, looks, writes, draws, leaves_gradients, sets_the_rate, clears_the_state, clips, freezes, sets_an_attribute,
    sets_one_of_evaluation, changes_a_list, swaps_a_buffer, swaps_a_layer, compiles_over_it,
    writes_natively,
]  # fmt: skip


class Calls(Callback):
    """After the epochs from the sixth on that are not multiples of four; by then pauses are in the middle of stretches."""

    def __init__(self, function):
        self.function, self.found = function, []

    def on_epoch_end(self, trainer, epoch, measured):
        seen = {name: value for name, value in measured.items() if name != "seconds"}
        self.found.append((epoch, seen, trainer.session.position.epoch, trainer.history.epochs))
        if epoch > 5 and epoch % 4:
            self.found.append(self.function(trainer, epoch))


@pytest.mark.parametrize("function", CALLS, ids=lambda function: function.__name__)
def test_whatever_a_callback_does_counts_as_where_each_epoch_begins_anew(monkeypatch, stretches, function):
    scale.fill_(1.0)
    here, its = make(), [Calls(function), EarlyStopping(patience=50)]
    fit(here, its)
    assert max(stretches) > 2
    scale.fill_(1.0)
    anew, own = make(), [Calls(function), EarlyStopping(patience=50)]
    monkeypatch.setattr(Loop, "lasts", lambda self: False)
    stretches.clear()
    fit(anew, own)
    assert set(stretches) == {1}
    assert its[0].found == own[0].found
    assert everything(here) == everything(anew)


def test_a_stretch_goes_on_where_nothing_was_touched(stretches):
    fit(make(), [Calls(nothing)], 30)
    assert len(stretches) < 10, stretches
    stretches.clear()
    fit(make(), [Calls(writes)], 30)
    assert len(stretches) > 20


def test_what_a_callback_holds_stays_what_it_was(stretches):
    held, copies = [], []

    def keep(trainer, epoch):
        held.append(trainer.model[0].weight.detach().numpy())
        copies.append(held[-1].copy())

    fit(make(), [Calls(keep)])
    assert len(held) > 3
    assert all(a.tobytes() == b.tobytes() for a, b in zip(held, copies, strict=True))
    assert len({array.tobytes() for array in held}) == len(held)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_in_a_pause_goes_back_to_its_beginning_and_the_training_goes_on(stretches, error):
    class Raises(Calls):
        def on_epoch_end(self, trainer, epoch, measured):
            super().on_epoch_end(trainer, epoch, measured)
            if epoch == 7 and not self.raised:
                self.raised = True
                writes(trainer, epoch)
                raise error

    whole, stopped = make(), make()
    fit(whole, [Calls(nothing)])
    callback = Raises(nothing)
    callback.raised = False
    if error is KeyboardInterrupt:
        fit(stopped, [callback])
    else:
        with pytest.raises(error):
            fit(stopped, [callback])
    assert stopped.history.epochs == 7
    fit(stopped, [callback], resume=True)
    assert everything(stopped) == everything(whole)


LASTING = [writes, draws, leaves_gradients, sets_the_rate, clears_the_state, swaps_a_buffer, writes_natively]


@pytest.mark.parametrize("function", LASTING, ids=lambda function: function.__name__)
def test_what_one_callback_did_stands_where_the_next_one_raises(monkeypatch, stretches, function):
    class Raises(Callback):
        def on_epoch_end(self, trainer, epoch, measured):
            if epoch == 9:
                raise KeyboardInterrupt

    scale.fill_(1.0)
    here, looked_at = make(), make()
    fit(here, [Calls(function), Raises()])
    assert here.history.epochs == 9
    scale.fill_(1.0)
    untouched = state.Lent.untouched
    monkeypatch.setattr(state.Lent, "untouched", lambda self: untouched(self) and False)
    fit(looked_at, [Calls(function), Raises()])
    assert everything(here) == everything(looked_at)


def test_the_end_that_a_callback_asks_for_comes_after_its_epoch(stretches):
    trainer = make()
    fit(trainer, [lambda trainer, epoch, measured: epoch == 8], 40)
    assert trainer.history.epochs == 8
    assert trainer.session.position.epoch == 8


def test_epochs_that_are_wanted_are_asked_for_one_after_the_other(stretches):
    class Doubling(Callback):
        next = 1

        def wants(self, epoch):
            return epoch == self.next

        def on_epoch_end(self, trainer, epoch, measured):
            heard.append(epoch)
            self.next *= 2

    heard = []
    fit(make(), [Doubling(), EarlyStopping("loss", patience=50)], 40)
    assert heard == [1, 2, 4, 8, 16, 32]


def test_early_stopping_and_files_of_the_best_are_those_without_pauses(tmp_path, stretches):
    def watchers(name):
        return [
            EarlyStopping("val_accuracy", patience=6, restore_best_weights=True),
            Checkpoint(tmp_path / name, "best"),
        ]

    alone, its, paused, own = make(), watchers("a"), make(), watchers("b")
    fit(alone, its, 60)
    fit(paused, [*own, Calls(nothing)], 60)
    assert everything(paused) == everything(alone)
    assert (its[0].stopped_epoch, its[0].best_epoch) == (own[0].stopped_epoch, own[0].best_epoch)
    assert 6 < own[0].stopped_epoch < 60
    assert its[1].latest.name == own[1].latest.name


def test_a_loss_that_is_no_longer_finite_is_found_before_the_pause(stretches):
    heard = []

    def grow(trainer, epoch, measured):
        heard.append(epoch)
        if epoch == 6:
            trainer.optimizer.param_groups[0]["lr"] = 1e30

    trainer = make()
    with pytest.raises(NonFiniteError, match="training stopped in epoch 7"):
        fit(trainer, [grow])
    assert heard == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(p.detach().numpy()).all() for p in trainer.model.parameters())
