"""EarlyStopping: judged in the middle of a native call, it gives to the bit what judging epoch by epoch gives."""

import copy
import math

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import Callback, EarlyStopping, Monitor, Watching
from chainrule.errors import DamagedFileError, NonFiniteError, SettingError
from chainrule.training import Trainer, stretch

rng = np.random.default_rng(0)
X = rng.standard_normal((103, 6)).astype(np.float32)
y = (X[:, 0] + rng.standard_normal(103) > 0).astype(np.int64)
HELD_OUT = X[:40], rng.integers(0, 2, 40)


def make(lr=0.02, scheduler=None, loss=F.cross_entropy):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    optimizer = optim.Adam(model.parameters(), lr=lr)
    return Trainer(model, loss, optimizer, ["accuracy"], output="logits", scheduler=scheduler and scheduler(optimizer))


def fit(trainer, epochs, callbacks, **options):
    options = {"validation_data": HELD_OUT, "progress": False, "batch_size": 16, **options}
    return trainer.fit(X, y, epochs, callbacks=callbacks, **options)


def bits(trainer):
    return [handle._node.value.tobytes() for handle in trainer.session.handles()]


def measures(trainer):
    return {name: column for name, column in trainer.history.items() if name != "seconds"}


class Listening(Callback):
    """Has the floor after every epoch, so that no native call is longer than one; keeps the weights of each."""

    def __init__(self):
        self.weights = []

    def on_epoch_end(self, trainer, epoch, measured):
        self.weights.append([p.detach().numpy().copy() for p in trainer.model.parameters()])


@pytest.fixture
def longest(monkeypatch):
    """How many epochs each stretch was of."""
    found = []
    run = stretch.Stretch.run

    def seen(self):
        found.append(len(self.laps))
        return run(self)

    monkeypatch.setattr(stretch.Stretch, "run", seen)
    return found


def first_stop(values, patience, more=False, min_delta=0.0, start=0):
    """The epochs (counted from 1) of the stop and of the best, written down as the documentation says it."""
    best = best_epoch = None
    for epoch, value in enumerate(values, 1):
        if epoch <= start:
            continue
        sign = -1 if more else 1
        if best is None or sign * value < sign * best - min_delta:
            best, best_epoch = value, epoch
        elif epoch - best_epoch >= max(1, patience):
            return epoch, best_epoch
    return None, best_epoch


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "loss", "accuracy"])
@pytest.mark.parametrize("schedule", [None, "step"])
def test_it_stops_in_the_middle_of_a_native_call_as_epoch_by_epoch(longest, monitor, schedule):
    def scheduler(optimizer):
        return {"step": optim.lr_scheduler.ExponentialLR(optimizer, 0.9999)}

    def trained(*callbacks):
        trainer = make(scheduler=scheduler if schedule else None)
        stopping = EarlyStopping(monitor, patience=12, restore_best_weights=True)
        fit(trainer, 400, [stopping, *callbacks])
        return trainer, stopping

    together, stopping = trained()
    assert max(longest) > 3
    longest.clear()
    listening = Listening()
    one_by_one, same = trained(listening)
    assert max(longest) == 1
    assert bits(together) == bits(one_by_one)
    assert measures(together) == measures(one_by_one)
    assert together.position == one_by_one.position
    assert together.session.settings() == one_by_one.session.settings()
    assert (stopping.stopped_epoch, stopping.best_epoch) == (same.stopped_epoch, same.best_epoch)
    expected = first_stop(together.history[monitor], 12, more="accuracy" in monitor)
    assert (stopping.stopped_epoch or None, stopping.best_epoch) == expected
    assert together.history.epochs == (stopping.stopped_epoch or 400)
    for parameter, best in zip(together.model.parameters(), listening.weights[stopping.best_epoch - 1], strict=True):
        np.testing.assert_array_equal(parameter.detach().numpy(), best)


def test_training_goes_on_after_a_restore_as_if_there_had_been_none():
    parts, whole = make(), make()
    for epochs in (7, 7, 15, 30):
        fit(parts, epochs, [EarlyStopping(patience=100, restore_best_weights=True)], resume=parts.position is not None)
    fit(whole, 30, [EarlyStopping(patience=100, restore_best_weights=True)])
    assert bits(parts) == bits(whole)
    assert measures(parts) == measures(whole)


def test_a_stopped_training_stays_stopped_and_goes_on_with_more_patience():
    parts, whole = make(), make()
    fit(parts, 300, [EarlyStopping(patience=5, restore_best_weights=True)])
    epochs, weights = parts.history.epochs, bits(parts)
    assert epochs < 300
    fit(parts, 300, [EarlyStopping(patience=5, restore_best_weights=True)], resume=True)
    assert (parts.history.epochs, bits(parts)) == (epochs, weights)
    fit(parts, 300, [EarlyStopping(patience=20, restore_best_weights=True)], resume=True)
    fit(whole, 300, [EarlyStopping(patience=20, restore_best_weights=True)])
    assert bits(parts) == bits(whole)


def test_weights_that_were_changed_after_a_restore_are_kept():
    trainer, stopping = make(), EarlyStopping(patience=100, restore_best_weights=True)
    fit(trainer, 10, [stopping])
    with cr.no_grad():
        trainer.model[0].weight.fill_(0.0)
    seen = []

    class Look(Callback):
        def on_fit_start(self, trainer):
            seen.append(trainer.model[0].weight.detach().numpy().copy())

    fit(trainer, 11, [stopping, Look()], resume=True)
    assert not seen[0].any()


def test_a_new_training_forgets_the_one_before():
    stopping = EarlyStopping(patience=5)
    trainer = make()
    fit(trainer, 300, [stopping])
    assert stopping.stopped_epoch
    fit(trainer, 2, [stopping])
    assert (stopping.stopped_epoch, trainer.history.epochs) == (0, 2)


def test_nothing_is_restored_after_ctrl_c():
    stopped, whole = make(), make()
    stopping = EarlyStopping(patience=100, restore_best_weights=True)

    class Press(Callback):
        def on_epoch_end(self, trainer, epoch, measured):
            if epoch == 20 and not pressed:
                pressed.append(1)
                raise KeyboardInterrupt

    pressed = []
    fit(stopped, 40, [stopping, Press()])
    assert stopped.history.interrupted
    best = copy.deepcopy(stopped)
    stopping.restore(best)
    assert bits(best) != bits(stopped)
    fit(stopped, 40, [EarlyStopping(patience=100, restore_best_weights=True), Press()], resume=True)
    fit(whole, 40, [EarlyStopping(patience=100, restore_best_weights=True)])
    assert bits(stopped) == bits(whole)


def test_a_file_keeps_what_it_knows(tmp_path):
    parts, whole = make(), make()
    fit(parts, 9, [EarlyStopping(patience=8, restore_best_weights=True)])
    parts.save(tmp_path / "saved.safetensors")
    other = make(lr=0.3)
    other.load(tmp_path / "saved.safetensors")
    fit(other, 300, [EarlyStopping(patience=8, restore_best_weights=True)], resume=True)
    fit(whole, 300, [EarlyStopping(patience=8, restore_best_weights=True)])
    assert bits(other) == bits(whole)
    assert measures(other) == measures(whole)


def test_a_callback_that_is_missing_is_warned_of():
    trainer = make()
    fit(trainer, 3, [EarlyStopping()])
    with pytest.warns(UserWarning, match="had callbacks that this call has not: EarlyStopping"):
        fit(trainer, 4, [], resume=True)


class Growing(nn.Module):
    """Its output grows until it is no number any more; its judge then says nothing about the step before."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)
        self.register_buffer("scale", cr.ones(()))

    def forward(self, x):
        if self.training:
            with cr.no_grad():
                self.scale.mul_(1.3)
        return self.linear(x) * self.scale


def test_after_a_loss_that_is_not_finite_it_knows_what_the_epochs_before_showed():
    def training(callbacks):
        cr.manual_seed(0)
        model = Growing()
        trainer = Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.0))
        target = np.zeros((103, 2), np.float32)
        with pytest.raises(NonFiniteError):
            trainer.fit(X, target, 100, 16, (X, target), progress=False, callbacks=callbacks)
        return trainer

    a, b = EarlyStopping(patience=1000), EarlyStopping(patience=1000)
    together, one_by_one = training([a]), training([b, Listening()])
    assert bits(together) == bits(one_by_one)
    assert a.state_dict() == b.state_dict()
    assert a.wait == together.history.epochs - a.best_epoch > 3


class Renaming(nn.Module):
    """Keeps a running mean by putting another tensor under the name of a plain attribute."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 2)
        self.mean = cr.zeros(6)

    def forward(self, x):
        if self.training:
            with cr.no_grad():
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.linear(x - self.mean.detach())


def test_the_best_weights_hold_tensors_of_plain_attributes():
    def training(callbacks):
        cr.manual_seed(0)
        model = Renaming()
        trainer = Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.1))
        fit(trainer, 60, callbacks)
        return trainer

    seen = {}

    def look(trainer, epoch, measured):
        seen[epoch] = trainer.model.mean.detach().numpy().copy()

    a, b = (EarlyStopping(patience=100, restore_best_weights=True) for _ in range(2))
    together, one_by_one = training([a]), training([b, look])
    assert a.best_epoch == b.best_epoch < 60
    np.testing.assert_array_equal(together.model.mean.detach().numpy(), seen[a.best_epoch])
    assert bits(together) == bits(one_by_one)


@pytest.mark.parametrize(
    "options", [{}, {"min_delta": 0.02}, {"baseline": 0.5}, {"start_from_epoch": 3}, {"mode": "max"}]
)
def test_what_it_makes_of_values_is_what_keras_makes_of_them(options):
    """`reference` is Keras 3's EarlyStopping.on_epoch_end, written anew."""
    for seed in range(30):
        values = np.random.default_rng(seed).uniform(0.3, 0.9, 40)
        for patience in (0, 1, 3):
            stopping = EarlyStopping(patience=patience, **options)
            mine = None
            for epoch, value in enumerate(values, 1):
                stopping.judge(epoch, float(value), lambda: None)
                if stopping.stopped:
                    mine = epoch - 1
                    break
            assert mine == reference(values, patience, **options)


def reference(values, patience, min_delta=0.0, baseline=None, start_from_epoch=0, mode="min"):
    op, delta = (np.greater, min_delta) if mode == "max" else (np.less, -min_delta)
    best, wait = None, 0
    for epoch, value in enumerate(values):
        if epoch < start_from_epoch:
            continue
        wait += 1
        if best is None or op(value - delta, best):
            best = value
            if baseline is None or op(value - delta, baseline):
                wait = 0
            continue
        if wait >= patience and epoch > 0:
            return epoch
    return None


def test_nan_is_never_the_best():
    stopping = EarlyStopping(patience=3)
    for epoch, value in enumerate([math.nan, 0.5, math.nan, 0.4], 1):
        stopping.judge(epoch, value, lambda: None)
    assert (stopping.best, stopping.best_epoch, stopping.stopped) == (0.4, 4, False)


def test_one_may_watch_a_measure_with_code_of_ones_own(longest):
    class StopBelow(Watching):
        def judge(self, epoch, value, weights):
            self.stopped = value < 0.5

    trainer = make()
    fit(trainer, 200, StopBelow(Monitor("loss")))
    assert max(longest) > 1
    assert trainer.history["loss"][-1] < 0.5 <= min(trainer.history["loss"][:-1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"patience": -1}, "EarlyStopping: patience must be a whole number, 0 or more, got -1."),
        ({"mode": "up"}, "EarlyStopping: mode must be 'auto', 'min' or 'max', got 'up'."),
        ({"monitor": 3}, "EarlyStopping: monitor must be the name of a measure such as 'val_loss', got 3."),
        ({"min_delta": "x"}, "EarlyStopping: min_delta must be a number of 0 or more, got 'x'."),
        (
            {"monitor": "val_my_own"},
            "EarlyStopping: whether more or less of 'val_my_own' is better is not known. Say it with mode='max' or mode='min'.",
        ),
    ],
)
def test_what_it_cannot_be_given(arguments, text):
    with pytest.raises(SettingError) as caught:
        EarlyStopping(**arguments)
    assert str(caught.value) == text


def test_a_measure_that_there_is_not_is_refused_before_the_first_step():
    trainer = make()
    before = bits(trainer)
    with pytest.raises(SettingError) as caught:
        fit(trainer, 3, [EarlyStopping()], validation_data=None)
    assert str(caught.value) == (
        "EarlyStopping: this training measures no 'val_loss'. Pass validation_data= or validation_split=, or watch one of: "
        "accuracy, loss."
    )
    assert bits(trainer)[:4] == before[:4]


@pytest.mark.parametrize(("name", "value"), [("wait", -1), ("wait", "x"), ("best", "x"), ("best_weights", {"a": 1})])
def test_a_state_that_it_never_saved_is_refused(name, value):
    stopping = EarlyStopping()
    with pytest.raises(DamagedFileError, match=f"the saved state of EarlyStopping: {name} must be"):
        stopping.load_state_dict({**stopping.state_dict(), name: value})


def judged(values, **settings):
    """The epochs of the best and of the stop, of these values of ``val_loss``; the epochs whose weights were kept."""
    stopping, kept = EarlyStopping(restore_best_weights=True, **settings), []
    for epoch, value in enumerate(values, 1):
        stopping.judge(epoch, value, lambda epoch=epoch: kept.append(epoch))
        if stopping.stopped:
            break
    return stopping.best_epoch, stopping.stopped_epoch, kept


def test_of_epochs_that_are_equally_good_the_last_is_kept_where_it_is_asked_for():
    values = [0.5, 0.3, 0.4, 0.3, 0.6]
    assert judged(values, patience=9) == (2, 0, [1, 2])
    assert judged(values, patience=9, ties=True) == (4, 0, [1, 2, 4])
    assert judged(values, patience=2, ties=True) == (4, 4, [1, 2, 4])  # a tie ends no waiting


def test_what_is_hardly_better_is_kept_and_waits_on():
    values = [0.5, 0.45, 0.42, 0.39, 0.37]  # each is better by less than 0.1, all of them by more
    assert judged(values, patience=3, min_delta=0.1) == (4, 0, [1, 4])
    assert judged(values, patience=3, min_delta=0.1, ties=True) == (5, 0, [1, 2, 3, 4, 5])
    assert judged(values, patience=2, min_delta=0.1, ties=True) == (3, 3, [1, 2, 3])
    assert judged(values, stop_at=[1, 3, 5], min_delta=0.1, ties=True) == (3, 3, [1, 2, 3])


def test_what_ended_the_waiting_is_kept_in_its_state():
    stopping, again = (EarlyStopping(patience=3, min_delta=0.1, ties=True) for _ in range(2))
    for epoch, value in enumerate([0.5, 0.45, 0.42], 1):
        stopping.judge(epoch, value, lambda: None)
    state = stopping.state_dict()
    again.load_state_dict(state)
    assert (again.best, again.mark) == (0.42, 0.5)
    again.load_state_dict({key: value for key, value in state.items() if key != "mark"})  # of before there was one
    assert again.mark == 0.42


def test_it_ends_where_a_wave_brought_nothing_better():
    first = [0.5, 0.4, 0.3]
    assert judged([*first, 0.9, 0.9, 0.2, 0.9, 0.9, 0.9], stop_at=[3, 6, 9]) == (6, 9, [1, 2, 3, 6])
    assert judged([*first, 0.9, 0.9, 0.9, 0.1], stop_at=[3, 6, 9]) == (3, 6, [1, 2, 3])
    assert judged([*first, 0.9, 0.9, 0.3, 0.1], stop_at=[3, 6, 9], ties=True) == (6, 6, [1, 2, 3, 6])
    assert judged([*first, 0.2, 0.9, 0.9, 0.9], stop_at=[3, 6, 9]) == (4, 0, [1, 2, 3, 4])
    assert judged([0.5] * 9, stop_at=[]) == (1, 0, [1])  # nowhere: only the best is kept
    assert judged([math.nan] * 9, stop_at=[3]) == (0, 3, [])


def test_the_end_of_a_wave_ends_a_training():
    stopping = EarlyStopping("val_loss", stop_at=[4, 8, 12], restore_best_weights=True)
    trainer = make(lr=0.0)  # no epoch is better than the first
    fit(trainer, 12, [stopping])
    assert (stopping.best_epoch, stopping.stopped_epoch, trainer.history.epochs) == (1, 8, 8)
    assert repr(trainer).endswith("; 8 epochs>")


def test_waiting_and_waves_at_once_are_refused():
    with pytest.raises(SettingError, match=r"^EarlyStopping: the end comes after `patience` epochs or at the epochs"):
        EarlyStopping(patience=3, stop_at=[4])
    with pytest.raises(SettingError, match=r"stop_at must be a whole number, 1 or more, got 0"):
        EarlyStopping(stop_at=[0])
