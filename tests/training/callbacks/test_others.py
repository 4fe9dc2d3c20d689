"""The other callbacks: logs, limits of time, frozen layers, averaged weights; and the history as a table and a picture."""

import csv
import io
import math

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import (
    EMA,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    EpochLog,
    Freeze,
    MLflow,
    TensorBoard,
    TimeLimit,
    WandB,
)  # fmt: skip
from chainrule.errors import SettingError
from chainrule.training import History, Trainer, stretch
from chainrule.training.progress import Lines

rng = np.random.default_rng(0)
X = rng.standard_normal((103, 6)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


def make(seed=0):
    cr.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    return Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.02), ["accuracy"])


def fit(trainer, epochs=30, **options):
    return trainer.fit(X, y, epochs, **{"batch_size": 16, "progress": False, **options})


def bits(trainer):
    return [handle._node.value.tobytes() for handle in trainer.session.handles()]


@pytest.fixture
def longest(monkeypatch):
    """How many epochs each stretch was of."""
    found = []
    run = stretch.Stretch.run
    monkeypatch.setattr(stretch.Stretch, "run", lambda self: (found.append(len(self.laps)), run(self))[1])
    return found


# -- logs -------------------------------------------------------------------------------------------------


def test_a_csv_file_has_a_row_for_each_epoch_and_none_twice(tmp_path, longest):
    path = tmp_path / "epochs.csv"
    trainer = make()
    fit(trainer, 20, callbacks=[CSVLogger(path)])
    assert max(longest) > 1
    trainer.save(tmp_path / "saved")
    fit(trainer, 25, callbacks=[CSVLogger(path)], resume=True)
    other = make()
    other.load(tmp_path / "saved")
    fit(other, 30, callbacks=[CSVLogger(path)], resume=True)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(1, 31)]
    assert [float(row["loss"]) for row in rows] == other.history["loss"]


def test_a_csv_file_that_cannot_be_written_is_warned_of_once(tmp_path):
    with pytest.warns(UserWarning, match=r"CSVLogger: .*The training goes on\.") as caught:
        fit(make(), 5, callbacks=[CSVLogger(tmp_path / "nowhere" / "epochs.csv")])
    assert len(caught) == 1


def test_trackers_hear_of_every_epoch(longest):
    heard = []

    class Anything:
        """Stands for a SummaryWriter, the module mlflow, a run of wandb."""

        def add_scalar(self, name, value, step):
            heard.append(("tensorboard", step, name, value))

        def flush(self):
            heard.append("flush")

        def log_metrics(self, measured, step):
            heard.append(("mlflow", step, measured["loss"]))

        def log(self, measured, step):
            heard.append(("wandb", step, measured["loss"]))

    trainer, one = make(), Anything()
    fit(trainer, 20, callbacks=[TensorBoard(writer=one), MLflow(one), WandB(one)])
    assert max(longest) > 1
    loss = trainer.history["loss"]
    for name in ("mlflow", "wandb"):
        assert [told[1:] for told in heard if told[0] == name] == [(i + 1, loss[i]) for i in range(20)]
    assert [told[3] for told in heard if told[0] == "tensorboard" and told[2] == "loss"] == loss
    assert "flush" in heard


def test_a_tracker_that_is_not_installed_says_how(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr("chainrule.training.callbacks.logs.import_module", missing)
    with pytest.raises(SettingError) as caught:
        MLflow()
    assert str(caught.value) == "MLflow: this callback needs mlflow, which is not installed. Run: pip install mlflow"


def test_a_log_of_ones_own():
    class Seen(EpochLog):
        def begin(self, trainer):
            self.rows = []

        def log(self, epoch, measured):
            self.rows.append((epoch, measured["loss"]))

    trainer, seen = make(), Seen()
    fit(trainer, 12, callbacks=[seen])
    assert seen.rows == list(enumerate(trainer.history["loss"], 1))


# -- limits -----------------------------------------------------------------------------------------------


def test_a_limit_of_time_ends_after_an_epoch_and_the_training_can_go_on():
    limited, whole = make(), make()
    fit(limited, 10**7, callbacks=[TimeLimit(0.2)])
    epochs = limited.history.epochs
    assert 0 < epochs < 10**7
    assert limited.position.step == 0
    fit(limited, epochs + 5, resume=True)
    fit(whole, epochs + 5)
    assert bits(limited) == bits(whole)


def test_frozen_layers_stay_as_they_are_until_their_epoch(longest):
    seen = {}

    class Look(Callback):
        def wants(self, epoch):
            return epoch in (3, 5)

        def on_epoch_end(self, trainer, epoch, measured):
            seen[epoch] = trainer.model[0].weight.detach().numpy().copy()

    trainer = make()
    first = trainer.model[0].weight.detach().numpy().copy()
    fit(trainer, 12, callbacks=[Look(), Freeze("0", until=5)])
    np.testing.assert_array_equal(seen[3], first)
    np.testing.assert_array_equal(seen[5], first)
    assert not np.array_equal(trainer.model[0].weight.detach().numpy(), first)
    assert max(longest) > 1


@pytest.mark.parametrize("at", [2, 4, 5, 8])
def test_a_training_with_frozen_layers_goes_on_exactly(tmp_path, at):
    parts, whole = make(), make()
    fit(parts, at, callbacks=[Freeze(["0", "3.bias"], until=5)])
    assert all(p.requires_grad for p in parts.model.parameters())
    parts.save(tmp_path / "saved")
    again = make(seed=3)
    again.load(tmp_path / "saved")
    fit(again, 12, callbacks=[Freeze(["0", "3.bias"], until=5)], resume=True)
    fit(whole, 12, callbacks=[Freeze(["0", "3.bias"], until=5)])
    assert bits(again) == bits(whole)


def test_a_training_that_was_saved_before_freeze_heard_of_its_epoch_goes_on_and_thaws(tmp_path):
    class Save(Callback):
        def on_epoch_end(self, trainer, epoch, measured):
            if epoch == 3:
                trainer.save(tmp_path / "saved")

    whole, again = make(), make()
    fit(whole, 6, callbacks=[Save(), Freeze("0", until=3)])
    again.load(tmp_path / "saved")
    fit(again, 6, callbacks=[Save(), Freeze("0", until=3)], resume=True)
    assert bits(again) == bits(whole) and all(p.requires_grad for p in again.model.parameters())


@pytest.mark.parametrize("turned", [False, True])
def test_a_parameter_waits_for_the_last_that_freezes_it(turned):
    moved = []

    class Look(Callback):
        def on_fit_start(self, trainer):
            self.before = [trainer.model[i].weight.detach().numpy().copy() for i in (0, 3)]

        def on_epoch_end(self, trainer, epoch, measured):
            now = [trainer.model[i].weight.detach().numpy().copy() for i in (0, 3)]
            moved.append([not np.array_equal(a, b) for a, b in zip(now, self.before, strict=True)])
            self.before = now

    both = [Freeze(["0", "3.weight"], until=2), Freeze("0", until=4)]
    trainer = make()
    fit(trainer, 6, callbacks=[Look(), *(both[::-1] if turned else both)])
    assert moved == [[False, False]] * 2 + [[False, True]] * 2 + [[True, True]] * 2
    assert all(p.requires_grad for p in trainer.model.parameters())
    parts, whole = make(), make()
    for epochs in (1, 3, 6):
        fit(parts, epochs, callbacks=[Freeze(["0", "3.weight"], until=2), Freeze("0", until=4)], resume=epochs > 1)
    fit(whole, 6, callbacks=[Freeze(["0", "3.weight"], until=2), Freeze("0", until=4)])
    assert bits(parts) == bits(whole)


def test_an_error_gives_the_model_back_as_it_came():
    def fail(trainer, epoch, measured):
        if epoch == 2:
            raise RuntimeError("an error of the user's")

    trainer, whole = make(), make()
    trainer.model[3].bias.requires_grad_(False)  # which is the user's own
    with pytest.raises(RuntimeError, match="of the user's"):
        fit(trainer, 6, callbacks=[Freeze("0", until=4), fail])
    assert [p.requires_grad for p in trainer.model.parameters()] == [True, True, True, False]
    fit(trainer, 6, callbacks=[Freeze("0", until=4)], resume=True)
    whole.model[3].bias.requires_grad_(False)
    fit(whole, 6, callbacks=[Freeze("0", until=4)])
    assert bits(trainer) == bits(whole)


def test_what_cannot_be_frozen():
    with pytest.raises(SettingError, match=r"Freeze: the model has no parameter or module '7'\. It has: 0\.weight"):
        fit(make(), 2, callbacks=[Freeze("7", until=1)])


# -- averages ---------------------------------------------------------------------------------------------


def test_averages_are_those_of_the_formula_and_the_model_ends_with_them(longest):
    decay, trainer, plain = 0.9, make(), make()
    expected = plain.model[0].weight.detach().numpy().astype(np.float64)
    snapshots = []

    class Each(Callback):
        def on_pause(self, trainer):
            snapshots.append(trainer.model[0].weight.detach().numpy().astype(np.float64))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chainrule.training.steps.StepProgram.took", lambda self, *_: None)  # a pause after each step
        fit(plain, 12, callbacks=[Each()])
    assert len(snapshots) == 12 * 7
    for now in snapshots:
        expected = decay * expected + (1 - decay) * now
    longest.clear()
    average = EMA(decay)
    fit(trainer, 12, callbacks=[average])
    assert max(longest) > 1
    np.testing.assert_allclose(trainer.model[0].weight.detach().numpy(), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(trainer.model[0].weight.detach().numpy(), average.averages["0.weight"].numpy())
    assert trainer.history["loss"] == plain.history["loss"]


def test_a_training_with_averages_goes_on_exactly(tmp_path):
    parts, whole = make(), make()
    fit(parts, 4, callbacks=[EMA(0.9)], checkpoint=tmp_path)
    again = make(seed=4)
    fit(again, 9, callbacks=[EMA(0.9)], checkpoint=tmp_path)
    fit(whole, 9, callbacks=[EMA(0.9)])
    assert bits(again) == bits(whole)
    fit(parts, 9, callbacks=[EMA(0.9)], resume=True)
    assert bits(parts) == bits(whole)


@pytest.mark.parametrize("first", [0, 1])
def test_averages_and_restored_weights_are_both_taken_back_where_a_training_goes_on(tmp_path, first):
    def callbacks():
        both = [EarlyStopping("loss", mode="max", patience=20, restore_best_weights=True), EMA(0.9)]
        return [both[first], both[1 - first]]

    parts, whole = make(), make()
    fit(parts, 5, callbacks=callbacks())
    parts.save(tmp_path / "saved")
    again = make(seed=4)
    again.load(tmp_path / "saved")
    for trainer in (parts, again):
        fit(trainer, 9, callbacks=callbacks(), resume=True)
    fit(whole, 9, callbacks=callbacks())
    assert bits(parts) == bits(whole)
    assert bits(again) == bits(whole)


def test_validation_may_be_of_the_averages(longest, tmp_path):
    """Each epoch's is that of another model which holds them, and the training itself is as without."""
    seen, other = [], make()

    def look(trainer, epoch, measured):
        other.model.load_state_dict({**trainer.model.state_dict(), **ema.averages})
        seen.append((other.evaluate(X[:50], y[:50])["loss"], measured["val_loss"]))

    ema = EMA(0.9, validate=True)
    fit(make(), 6, validation_data=(X[:50], y[:50]), callbacks=[ema, look])
    assert [own for own, _ in seen] == pytest.approx([found for _, found in seen], rel=1e-6)
    longest.clear()
    together, ema, stopping = make(), EMA(0.9, validate=True), EarlyStopping(patience=90, restore_best_weights=True)
    best = Checkpoint(tmp_path, "best")
    fit(together, validation_data=(X[:50], y[:50]), callbacks=[ema, stopping, best])
    assert max(longest) > 1
    assert together.history["val_loss"][:6] == [found for _, found in seen]
    assert together.evaluate(X[:50], y[:50])["loss"] == pytest.approx(stopping.best, rel=1e-6)
    other.model.load_state_dict(cr.load(best.latest))
    assert other.evaluate(X[:50], y[:50])["loss"] == pytest.approx(stopping.best, rel=1e-6)
    plain, of_parameters = make(), EMA(0.9)
    fit(plain, validation_data=(X[:50], y[:50]), callbacks=[of_parameters])
    assert plain.history["loss"] == together.history["loss"]
    assert plain.history["val_loss"] != together.history["val_loss"]
    assert all(np.array_equal(a.numpy(), ema.averages[name].numpy()) for name, a in of_parameters.averages.items())


def test_one_average_serves_one_training_after_another():
    average, first, second, alone = EMA(0.9), make(), make(seed=1), make(seed=1)
    fit(first, 3, callbacks=[average])
    fit(second, 3, callbacks=[average])
    fit(alone, 3, callbacks=[EMA(0.9)])
    assert bits(second) == bits(alone)
    fit(second, 3, callbacks=[average])
    fit(alone, 3, callbacks=[EMA(0.9)])
    assert bits(second) == bits(alone)


def test_everything_at_once_in_long_native_calls_and_epoch_by_epoch(tmp_path, longest):
    def callbacks(name, *more):
        return [
            EMA(0.95), EarlyStopping("val_accuracy", patience=40), Checkpoint(tmp_path / name, save="best"),
            Checkpoint(tmp_path / name, seconds=0.05), CSVLogger(tmp_path / f"{name}.csv"), Freeze("3", until=4), *more,
        ]  # fmt: skip

    held_out = {"validation_data": (X[:30], y[:30])}
    together, one_by_one = make(), make()
    fit(together, 40, callbacks=callbacks("a"), **held_out)
    assert max(longest) > 1
    fit(one_by_one, 40, callbacks=callbacks("b", lambda *_: None), **held_out)
    assert bits(together) == bits(one_by_one)


# -- the history ------------------------------------------------------------------------------------------


def test_the_history_is_a_table():
    pandas = pytest.importorskip("pandas")
    history = fit(make(), 3, validation_data=(X, y))
    rows = history.rows()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["val_loss"] for row in rows] == history["val_loss"]
    table = history.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table["val_loss"].tolist() == history["val_loss"]
    assert History().rows() == []
    assert len(History().to_pandas()) == 0


def test_the_history_is_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    history = fit(make(), 3, validation_data=(X, y))
    figure = history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy"]
    lines = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert lines == {"training": history["loss"], "validation": history["val_loss"]}
    assert not math.isnan(lines["training"][0])
    with pytest.raises(SettingError, match="there is no epoch yet"):
        History().plot()


def test_infinite_measures_come_back_as_they_are(tmp_path):
    def infinite(output, target):
        return output.abs().sum() * 1e38 * 1e38

    def trainer():
        model = nn.Linear(6, 2)
        return Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1), [infinite])

    one, other = trainer(), trainer()
    fit(one, 2)
    assert one.history["infinite"] == [math.inf, math.inf]
    one.save(tmp_path / "saved")
    other.load(tmp_path / "saved")
    assert other.history["infinite"] == [math.inf, math.inf]


def test_lines_tell_how_much_time_is_left(monkeypatch):
    shown = io.StringIO()
    clock = iter([0.0, 90.0, 180.0, 270.0])
    monkeypatch.setattr("chainrule.training.progress.time.perf_counter", lambda: next(clock))
    lines = Lines(shown)
    lines.start(100, 0, 7)
    lines.epoch(0, {"loss": 0.5, "seconds": 90.0})
    assert shown.getvalue() == "epoch   1/100  loss 0.5000  90.00 s  2:28:30 left\n"


def test_two_callbacks_do_not_write_to_one_file(tmp_path):
    trainer = cr.Trainer(cr.nn.Linear(2, 1), "mse", "sgd")
    (tmp_path / "same").symlink_to(tmp_path)
    one, other = CSVLogger(tmp_path / "log.csv"), CSVLogger(tmp_path / "same" / "log.csv")
    for callbacks in ([one, other], [one, one]):
        with pytest.raises(
            SettingError,
            match=r"fit: two callbacks must not write to one file, got two for .*log\.csv\. Give each a file",
        ):
            trainer.fit(cr.ones(4, 2), cr.ones(4, 1), callbacks=callbacks, progress=False)
    assert not (tmp_path / "log.csv").exists()
    trainer.fit(cr.ones(4, 2), cr.ones(4, 1), epochs=2, callbacks=[one, CSVLogger(tmp_path / "b.csv")], progress=False)
    assert (tmp_path / "log.csv").read_text() == (tmp_path / "b.csv").read_text()
