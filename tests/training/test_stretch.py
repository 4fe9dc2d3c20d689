"""Stretches: however the steps of a training are cut into native calls, everything comes out to the bit."""

import math
import os
import signal
import threading

import numpy as np
import pytest
from tests.hunters.stretches import LONGEST, stretches_of

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import EMA, Watching
from chainrule.errors import NonFiniteError
from chainrule.training import Callback, Trainer, fitting, stretch
from chainrule.training.interrupt import Interrupt
from chainrule.training.monitor import Monitor
from chainrule.training.stretch import Batching, Lap

rng = np.random.default_rng(0)
X = rng.standard_normal((103, 6)).astype(np.float32)
y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def make(dropout=0.2, lr=0.01, norm=False):
    cr.manual_seed(0)
    middle = [nn.Dropout(dropout)] if dropout else []
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), *middle, nn.Linear(16, 2))
    return Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=lr), ["accuracy"])


def bits(trainer):
    return b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())


def measures(trainer):
    return {name: column for name, column in trainer.history.items() if name != "seconds"}


class Listening(Callback):
    """Has the floor after the steps of every epoch, so that no stretch is longer than one."""

    def on_steps(self, trainer, step, loss):
        pass


class StopAfter(Watching):
    """Ends the training after so many epochs, asked in the middle of a native call."""

    def __init__(self, epochs):
        super().__init__(Monitor("loss"))
        self.epochs = epochs

    def reset(self):
        self.stopped = False

    def judge(self, epoch, value, weights):
        self.stopped = epoch == self.epochs


def fit(trainer, epochs=40, **options):
    return trainer.fit(X, y, epochs=epochs, **{"batch_size": 16, "progress": False, **options})


@pytest.fixture
def stretches(monkeypatch):
    """The laps of every stretch."""
    found = []
    run = stretch.Stretch.run

    def seen(self):
        found.append(list(self.laps))
        return run(self)

    monkeypatch.setattr(stretch.Stretch, "run", seen)
    return found


@pytest.mark.parametrize("batch_size", [16, 103, 1])  # a short last batch; one batch an epoch; none short
def test_many_epochs_in_one_stretch_are_those_one_by_one(stretches, batch_size):
    together, one_by_one = make(), make()
    options = {"validation_data": (X[:50], y[:50]), "batch_size": batch_size, "epochs": 40 if batch_size > 1 else 4}
    fit(together, **options)
    assert max(map(len, stretches)) > 1
    stretches.clear()
    fit(one_by_one, callbacks=[Listening()], **options)
    assert max(map(len, stretches)) == 1
    assert bits(together) == bits(one_by_one)
    assert measures(together) == measures(one_by_one)
    assert together.history.steps == one_by_one.history.steps == options["epochs"] * -(-103 // batch_size)


@pytest.mark.parametrize("chunk", [1, 5, 7, 30])
def test_no_measure_depends_on_where_a_stretch_ends(monkeypatch, chunk):
    whole, cut = make(), make()
    fit(whole, 6, validation_data=(X, y))
    monkeypatch.setattr("chainrule.training.steps.StepProgram.took", lambda self, steps, seconds: None)
    fit(cut, 1, validation_data=(X, y))
    cut.session.programs["training"].chunk = chunk
    fit(cut, 6, validation_data=(X, y), resume=True)
    assert measures(cut) == measures(whole)
    assert bits(cut) == bits(whole)


def test_validation_in_between_is_that_of_evaluate():
    trainer = make()
    seen = []
    fit(make(), 5, validation_data=(X, y))
    for epochs in range(1, 6):
        fit(trainer, epochs, validation_data=(X, y), resume=epochs > 1)
        seen.append(trainer.evaluate(X, y)["loss"])
    assert trainer.history["val_loss"] == pytest.approx(seen, rel=1e-6)


def test_row_numbers_take_a_bounded_share_of_the_memory(stretches, monkeypatch):
    monkeypatch.setattr(fitting, "NUMBERS", 8 * 16 * 20)
    fit(make(), 30)
    assert (
        14 <= max(sum(lap.length for lap in laps) for laps in stretches) <= 20
    )  # two epochs of 7 steps, or a part of one more


def test_validation_takes_its_share_of_the_bound(stretches, monkeypatch):
    """Also for a trainer that has learnt how fast its steps are, but not what a pass takes."""
    trainer = make()
    fit(trainer, 60)
    assert trainer.session.programs["training"].chunk > 100
    monkeypatch.setattr(fitting, "NUMBERS", 8 * 16 * 40)
    stretches.clear()
    fit(trainer, 30, validation_data=(X[:80], y[:80]))
    assert len(stretches[0]) == 1  # to know what a pass takes
    assert max(map(len, stretches)) <= 4  # an epoch of 7 steps weighs 12 with its 80 rows, and 40 steps are the bound


def test_another_thread_may_look_at_the_weights_meanwhile():
    watched, alone = make(), make()
    seen, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            seen.append([p.detach().numpy().copy() for p in watched.model.parameters()])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        fit(watched, 300)
    finally:
        stop.set()
        thread.join()
    fit(alone, 300)
    assert len(seen) > 1
    assert bits(watched) == bits(alone)


def test_a_record_is_that_of_a_training_one_by_one(stretches):
    together, one_by_one = make(), make()
    fit(together, 20, record=True)
    assert max(map(len, stretches)) > 1
    fit(one_by_one, 20, record=True, callbacks=[Listening()])
    a, b = together.recorder.steps(), one_by_one.recorder.steps()
    assert len(a) == 20 * 7
    assert a.tobytes() == b.tobytes()


# -- what goes wrong in the middle ----------------------------------------------------------------------


class Growing(nn.Module):
    """Its output grows by `factor` a step, until it is no number any more."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(6, 2)
        self.register_buffer("scale", cr.ones(()))

    def forward(self, x):
        if self.training:
            with cr.no_grad():
                self.scale.mul_(self.factor)
        return self.linear(x) * self.scale


@pytest.mark.parametrize("factor", [1.3, 3.0])
def test_a_loss_that_stops_being_finite_in_a_later_epoch_stops_at_its_step(stretches, factor):
    def training(callbacks):
        cr.manual_seed(0)
        model = Growing(factor)
        trainer = Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.0))
        with pytest.raises(NonFiniteError) as caught:
            trainer.fit(
                X, np.zeros((103, 2), np.float32), 100, 16, (X, np.zeros((103, 2), np.float32)),
                progress=False, callbacks=callbacks,
            )  # fmt: skip
        return trainer, str(caught.value)

    together, text = training([])
    assert max(map(len, stretches)) > 1
    one_by_one, same = training([Listening()])
    assert text == same
    assert bits(together) == bits(one_by_one)
    assert measures(together) == measures(one_by_one)
    assert (together.position, together.history.steps) == (one_by_one.position, one_by_one.history.steps)
    assert together.model.scale.item() == one_by_one.model.scale.item()
    assert math.isfinite(together.model.scale.item())


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_in_a_native_call_stops_at_a_step_boundary(threads):
    """The signal comes from the system while the native loop runs (on workers, too), at any moment."""
    wide = rng.standard_normal((640, 200)).astype(np.float32)
    labels = rng.integers(0, 2, 640)

    def training():
        cr.manual_seed(0)
        model = nn.Sequential(nn.Linear(200, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 2))
        return Trainer(model, F.cross_entropy, optim.Adam(model.parameters()))

    before = cr.get_num_threads()
    cr.set_num_threads(threads)
    try:
        stopped, whole = training(), training()
        timer = threading.Timer(0.25, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        history = stopped.fit(wide, labels, 10**6, 60, progress=False)
        timer.join()
        assert history.interrupted
        done = stopped.position.done
        assert done == history.steps > 0
        epochs = stopped.position.epoch + 1
        stopped.fit(wide, labels, epochs, 60, progress=False, resume=True)
        whole.fit(wide, labels, epochs, 60, progress=False)
        assert bits(stopped) == bits(whole)
        assert stopped.history["loss"] == whole.history["loss"]
    finally:
        cr.set_num_threads(before)


def test_a_second_ctrl_c_raises_at_once():
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()


def test_a_second_ctrl_c_in_the_middle_of_a_stretch_goes_back_to_its_start(monkeypatch):
    whole, stopped = make(), make()
    fit(whole, 30)
    fit(stopped, 10)
    run = stretch.Stretch.run

    def broken(self):
        self.whole.advance(3)
        raise KeyboardInterrupt

    monkeypatch.setattr(stretch.Stretch, "run", broken)
    assert fit(stopped, 30, resume=True).interrupted
    assert stopped.position.done == 70
    monkeypatch.setattr(stretch.Stretch, "run", run)
    fit(stopped, 30, resume=True)
    assert bits(stopped) == bits(whole)
    assert stopped.history["loss"] == whole.history["loss"]


# -- laps -----------------------------------------------------------------------------------------------


def test_the_first_steps_of_laps():
    laps = [Lap(3, 5, 7), Lap(4, 0, 7), Lap(5, 0, 2)]
    assert stretch.first(laps, 0) == []
    assert stretch.first(laps, 1) == [Lap(3, 5, 6)]
    assert stretch.first(laps, 9) == laps[:2]
    assert stretch.first(laps, 10) == [*laps[:2], Lap(5, 0, 1)]
    assert stretch.first(laps, 99) == laps


@pytest.mark.parametrize(("rows", "size", "expected"), [(103, 16, (6, 7, 7)), (96, 16, (6, 6, 0)), (5, 5, (1, 1, 0))])
def test_an_epoch_is_cut_into_batches(rows, size, expected):
    cut = Batching(rows, size)
    assert (cut.whole, cut.steps, cut.rest) == expected


class Renaming(nn.Module):
    """Puts another tensor under a plain attribute at each step of training."""

    def __init__(self):
        super().__init__()
        self.linear, self.mean = nn.Linear(6, 2), cr.zeros(6)

    def forward(self, x):
        if self.training:
            with cr.no_grad():
                self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
        return self.linear(x - self.mean.detach())


def test_validation_between_epochs_of_a_stretch_is_made_in_evaluation_mode(stretches):
    """Also where each pass needs another program than the one before, as a step put another tensor in its place."""

    def trained(callbacks):
        cr.manual_seed(0)
        model = Renaming()
        trainer = Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.1))
        fit(trainer, 20, validation_data=(X[:40], y[:40]), callbacks=callbacks)
        return trainer

    together = trained([])
    assert max(map(len, stretches)) > 1
    one_by_one = trained([Listening()])
    assert bits(together) == bits(one_by_one)
    assert measures(together) == measures(one_by_one)
    assert together.model.mean.numpy().tobytes() == one_by_one.model.mean.numpy().tobytes()


def layered():
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.LinearLR(optimizer, total_iters=100)
    return Trainer(model, F.cross_entropy, optimizer, ["accuracy", "f1"], scheduler={"step": schedule}, max_norm=1.0)


@pytest.mark.parametrize("build", [make, layered])
@pytest.mark.parametrize(("callbacks", "laps"), [([], 2), ([EMA(0.9)], 2), ([StopAfter(35)], 1)])
def test_one_native_call_for_many_laps_changes_no_bit(monkeypatch, build, callbacks, laps):
    calls = []

    class Seen(stretch.Turns):
        def attempt(self, count):
            calls.append(count)
            return super().attempt(count)

    class Never(stretch.Turns):
        def __init__(self, *turns):
            super().__init__(*turns)
            self.native = False

    together, one_by_one = build(), build()
    options = {"validation_data": (X[:50], y[:50]), "sample_weight": np.linspace(0.5, 2, 103), "callbacks": callbacks}
    monkeypatch.setattr(stretch, "Turns", Seen)
    fit(together, **options)
    assert max(calls) >= 3 * laps  # whole batches, a short one, and a pass of validation
    monkeypatch.setattr(stretch, "Turns", Never)
    fit(one_by_one, **options)
    assert bits(together) == bits(one_by_one)
    assert measures(together) == measures(one_by_one)
    assert all(seconds > 0 for seconds in together.history["seconds"])


SCHEDULES = {
    "StepLR": lambda o: optim.lr_scheduler.StepLR(o, 3, 0.5),
    "MultiStepLR": lambda o: optim.lr_scheduler.MultiStepLR(o, [2, 5], 0.3),
    "CosineAnnealingLR": lambda o: optim.lr_scheduler.CosineAnnealingLR(o, 20),
    "two": lambda o: [optim.lr_scheduler.ExponentialLR(o, 0.9), optim.lr_scheduler.LinearLR(o, total_iters=5)],
    "both": lambda o: {"step": optim.lr_scheduler.LinearLR(o, total_iters=50), "epoch": optim.lr_scheduler.StepLR(o, 4)},
}  # fmt: skip


def scheduled(schedule):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.02}]
    optimizer = optim.Adam(groups, lr=0.01)
    return Trainer(model, F.cross_entropy, optimizer, scheduler=schedule(optimizer))


class Plateau(optim.lr_scheduler.ReduceLROnPlateau):
    """One that changes no rate, but asks what every epoch measured, so that Python has the floor then."""

    def step(self, metrics):
        pass


def unforeseen(schedule):
    """The same schedules, and one beside them that goes by what an epoch measured."""

    def made(optimizer):
        given = schedule(optimizer)
        by = dict(given) if isinstance(given, dict) else {"epoch": given}
        epoch = by["epoch"] if isinstance(by["epoch"], list) else [by["epoch"]]
        return {**by, "epoch": [*epoch, Plateau(optimizer)]}

    return made


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_of_every_epoch_make_no_pause_and_change_no_bit(stretches, name):
    ahead, one_by_one = scheduled(SCHEDULES[name]), scheduled(unforeseen(SCHEDULES[name]))
    fit(ahead, 30)
    assert max(map(len, stretches)) > 3
    stretches.clear()
    fit(one_by_one, 30)
    assert max(map(len, stretches)) == 1
    assert bits(ahead) == bits(one_by_one)
    assert measures(ahead) == measures(one_by_one)
    assert ahead.optimizer.param_groups[1]["lr"] == one_by_one.optimizer.param_groups[1]["lr"]
    assert len(set(measures(ahead)["lr"])) > 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_training_that_stops_amid_a_stretch_leaves_its_schedules_there(stretches, name):
    stopped, short = scheduled(SCHEDULES[name]), scheduled(SCHEDULES[name])
    with stretches_of(LONGEST):  # whatever the clock says
        fit(stopped, 100, callbacks=[StopAfter(4)])
        assert len(stretches[-1]) > 1
        fit(short, stopped.history.epochs)
        assert [s.state_dict() for s in stopped.session.schedules.all] == [
            s.state_dict() for s in short.session.schedules.all
        ]
        fit(stopped, 12, resume=True)
        fit(short, 12, resume=True)
        assert bits(stopped) == bits(short)
        assert measures(stopped) == measures(short)


def test_a_function_of_the_user_is_asked_when_its_epoch_is_over(stretches):
    trainer = scheduled(lambda o: optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch))
    fit(trainer, 10)
    assert max(map(len, stretches)) == 1


def test_an_end_after_a_lap_of_the_short_batch_alone(monkeypatch, stretches):
    monkeypatch.setattr(
        "chainrule.training.steps.StepProgram.took", lambda self, steps, seconds: setattr(self, "chunk", 8)
    )
    stopped, short = make(), make()
    fit(stopped, 1), fit(short, 1), fit(short, 1)  # each begins with the weights that stand
    stopped.session.programs["training"].chunk = 6  # all whole batches of an epoch
    stretches.clear()
    fit(stopped, 5, callbacks=[StopAfter(1)])
    assert [lap.length for lap in stretches[-1]] == [1, 7]  # of which the second was not taken
    assert bits(stopped) == bits(short) and measures(stopped) == measures(short)


def test_a_stretch_goes_on_in_native_calls_once_one_thread_is_known_to_be_enough(monkeypatch, stretches):
    """Until then several threads may run a step, which a native call of many laps cannot."""
    alone, calls = [False] * 3, []
    monkeypatch.setattr("chainrule.compiler.runtime.run.Run.on_one", lambda self, most: not alone or alone.pop())
    advance = stretch.Turns.advance
    monkeypatch.setattr(stretch.Turns, "advance", lambda self, count: (calls.append(count), advance(self, count)))
    one, other = make(), make()
    found = fit(one)
    assert calls
    monkeypatch.setattr("chainrule.compiler.runtime.run.Run.on_one", lambda self, most: False)
    before = len(calls)
    fit(other)
    assert len(calls) == before and bits(one) == bits(other) and found.epochs == 40


def test_behind_whole_epochs_none_is_begun(stretches):
    fit(make(), 60)
    several = [laps for laps in stretches if len(laps) > 1]
    assert several and all(lap.stop == 7 for laps in several for lap in laps)
