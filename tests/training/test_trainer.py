"""Trainer: it learns, repeats to the bit, resumes exactly, loses nothing."""

import re
import signal

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DamagedFileError, DataError, NonFiniteError, SettingError
from chainrule.training import Callback, Trainer

rng = np.random.default_rng(0)
X = rng.standard_normal((103, 6)).astype(np.float32)
y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def make(lr=0.01, dropout=0.2, seed=0):
    cr.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2))
    return Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=lr), ["accuracy"])


def bits(trainer):
    return b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())


def fit(trainer, epochs=5, **options):
    return trainer.fit(X, y, epochs=epochs, batch_size=16, progress=False, **options)


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_it_learns_and_says_so():
    history = fit(make(), epochs=40, validation_data=(X, y))
    assert history["loss"][-1] < 0.25 * history["loss"][0]
    assert history["val_accuracy"][-1] > 0.95
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"}
    assert (history.epochs, history.steps) == (40, 40 * 7)  # the short last batch is trained too


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows():
    trainer = make(lr=0.0, dropout=0.0)
    assert fit(trainer, epochs=1)["loss"][0] == pytest.approx(trainer.evaluate(X, y)["loss"], rel=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    first, second, third = make(), make(), make()
    fit(first)
    fit(second)
    fit(third, seed=1)
    assert bits(first) == bits(second) != bits(third)


def test_training_equals_the_same_steps_written_out_eagerly():
    trainer, written = make(dropout=0.0), make(dropout=0.0)
    fit(trainer, epochs=1, shuffle=False)
    for start in range(0, len(X), 16):
        xb, yb = cr.tensor(X[start : start + 16]), cr.tensor(y[start : start + 16])
        written.optimizer.zero_grad()
        F.cross_entropy(written.model(xb), yb).backward()
        written.optimizer.step()
    for a, b in zip(trainer.model.parameters(), written.model.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-4, atol=2e-6)


def test_a_training_that_was_saved_and_resumed_has_the_same_bits(tmp_path):
    whole = make()
    fit(whole, epochs=6)
    part = make()
    fit(part, epochs=2)
    part.save(tmp_path / "training.safetensors")
    fresh = make(seed=99)
    fresh.load(tmp_path / "training.safetensors")
    history = fit(fresh, epochs=6, resume=True)
    assert bits(fresh) == bits(whole)
    assert history["loss"] == whole.history["loss"]


class Interrupting(Callback):
    def on_steps(self, trainer, step, loss):
        if trainer.position.epoch == 1:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stops_at_a_step_and_resume_goes_on_from_there():
    whole, stopped = make(), make()
    fit(whole, epochs=4)
    history = fit(stopped, epochs=4, callbacks=[Interrupting()])
    assert history.interrupted
    assert history.epochs == 1
    assert np.isfinite(stopped.predict(X)).all()
    fit(stopped, epochs=4, resume=True)
    assert bits(stopped) == bits(whole)


def test_a_loss_that_is_not_finite_names_its_origin_and_keeps_the_last_good_weights():
    class Overflowing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))

        def forward(self, x):
            return (self.layers(x) * 50).exp()

    cr.manual_seed(0)
    model = Overflowing()
    trainer = Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.05))
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(X, np.zeros((103, 2), np.float32), epochs=3, batch_size=16, progress=False)
    text = str(caught.value)
    assert text.startswith("training stopped in epoch 1 at step ")
    assert "The first value that is not finite came in the " in text
    assert text.endswith("The model keeps the weights from before this step.")
    assert all(np.isfinite(p.detach().numpy()).all() for p in model.parameters())


def test_the_layer_where_it_stopped_being_finite_is_named():
    trainer = make(dropout=0.0)
    with cr.no_grad():
        trainer.model[3].weight.fill_(3e38)
    with pytest.raises(NonFiniteError) as caught:
        fit(trainer)
    pattern = (
        r"training stopped in epoch 1 at step 1: the loss became (nan|inf)\. The first value that is not finite came in "
        r"the forward pass: op '\w+' in layer 'Sequential\.3' \(test_trainer\.py:\d+ in fit\)\. The result is beyond float32\. "
        r"The training began with weights of up to 3e\+38\. Draw them anew \(nn\.init\)\. The model keeps the weights from "
        r"before this step\."
    )
    assert re.fullmatch(pattern, str(caught.value)), str(caught.value)


def test_evaluate_and_predict():
    trainer = make(dropout=0.5)
    logits = trainer.predict(X)
    assert logits.shape == (103, 2)
    np.testing.assert_allclose(trainer.predict(X, batch_size=10), logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trainer.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
    accuracy = (trainer.predict_classes(X) == y).mean()
    assert trainer.evaluate(X, y)["accuracy"] == pytest.approx(accuracy)
    assert trainer.model.training  # as it was before


def test_callbacks_and_stopping():
    seen = []

    def every_epoch(trainer, epoch, measured):
        seen.append((epoch, measured["loss"]))
        if epoch == 3:
            trainer.stop()

    history = fit(make(), epochs=9, callbacks=[every_epoch])
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert history["loss"] == [loss for _, loss in seen]


def test_a_schedule_changes_the_rate_without_a_new_trace():
    trainer = make()
    schedule = optim.lr_scheduler.StepLR(trainer.optimizer, step_size=1, gamma=0.5)
    history = fit(trainer, epochs=3, callbacks=[lambda trainer, epoch, measured: schedule.step()])
    assert history["lr"] == [0.01, 0.005, 0.0025]
    (variants,) = ([v for vs in p._step._variants.values() for v in vs] for p in [trainer.session.programs["training"]])
    assert len(variants) == 2  # the whole batches and the short one


def test_progress_lines(capsys):
    trainer = make()
    trainer.fit(X, y, epochs=2, batch_size=16)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


# -- bad input -------------------------------------------------------------------------------------------


def with_value(row, column, value):
    changed = X.copy()
    changed[row, column] = value
    return changed


BAD = [
    ((X, y[:5]), "fit: X and y must have the same number of rows, got 103 and 5. Row i of y is the target of row i of X."),
    ((X[:0], y[:0]), "fit: X must have at least one row, got shape (0, 6). Check how the data was loaded."),
    ((with_value(2, 3, np.nan), y), "fit: X must be finite, got 1 NaN and 0 infinite values in shape (103, 6), the first at row 2, column 3. Drop these rows, or fill them (numpy.nan_to_num)."),
    ((with_value(1, 1, np.inf), y), "fit: X must be finite, got 0 NaN and 1 infinite values in shape (103, 6), the first at row 1, column 1. Drop these rows, or fill them (numpy.nan_to_num)."),
    ((X, y * 0 + 5), "fit: y must hold labels 0 to 1, because the model has 2 outputs, got 5 at row 0 (labels run from 5 to 5). Give the model 6 outputs, or number the classes from 0."),
    ((X, y * 0 - 1), "fit: y must hold labels 0 to 1, because the model has 2 outputs, got -1 at row 0 (labels run from -1 to -1). Number the classes from 0."),
    ((X, y * 0 + 0.5), "fit: y must hold integer class labels 0 to 1 for this loss, got float64 with the value 0.5 at row 0. For regression use a loss such as F.mse_loss; for classes encode them as integers."),
    ((X.astype(str), y), "fit: X must hold numbers, got dtype <U32. Convert it to float32 or int64 first (categories: one integer each)."),
]  # fmt: skip


@pytest.mark.parametrize(("data", "text"), BAD)
def test_data_that_cannot_be_trained_on_is_refused_before_any_step(data, text):
    trainer = make()
    before = bits(trainer)
    with raises(DataError, text):
        trainer.fit(*data, epochs=1, batch_size=16, progress=False)
    assert bits(trainer) == before


def test_arguments_that_cannot_be():
    with raises(SettingError, "fit: epochs must be a whole number, 0 or more, got -1."):
        fit(make(), epochs=-1)
    with raises(SettingError, "fit: resume=True needs an earlier fit or load, got a new Trainer. Leave resume out."):
        fit(make(), resume=True)
    with raises(SettingError, "fit: progress must be True, False or a stream to write to, got 3."):
        make().fit(X, y, progress=3)
    with raises(
        SettingError,
        "Trainer: model must be an nn.Module, got str. Pass an object such as nn.Sequential(...).",
    ):
        Trainer("model", F.cross_entropy, make().optimizer)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_file_that_was_cut_off(tmp_path, keep):
    trainer = make()
    path = tmp_path / "training.safetensors"
    trainer.save(path)
    path.write_bytes(path.read_bytes()[:keep])
    before = bits(trainer)
    with pytest.raises(DamagedFileError, match="not a complete safetensors file"):
        trainer.load(path)
    assert bits(trainer) == before


def test_a_file_with_one_changed_bit(tmp_path):
    trainer = make()
    path = tmp_path / "training.safetensors"
    trainer.save(path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with raises(
        DamagedFileError,
        f"{path}: the contents do not match the hash stored with them, so bits have changed since the file was "
        f"written. Copy it again, or train again.",
    ):
        trainer.load(path)


@pytest.mark.parametrize("lie", ["C", "F", "every second row", "unaligned"])
def test_rows_changed_in_place_between_two_calls_are_the_new_ones(lie):
    rows = {"C": np.array(X), "F": np.array(X, order="F"), "every second row": np.repeat(X, 2, 0)[::2]}
    raw = np.zeros(X.nbytes + 1, np.uint8)
    rows["unaligned"] = raw[1:].view(np.float32).reshape(X.shape)
    rows["unaligned"][:] = X
    given, trainers = rows[lie], [make(dropout=0.0), make(dropout=0.0)]
    for trainer in trainers:
        trainer.fit(given if trainer is trainers[0] else np.array(given), y, 2, 16, progress=False)
    given *= -3
    for trainer in trainers:
        trainer.fit(given if trainer is trainers[0] else np.array(given), y, 2, 16, progress=False)
    assert bits(trainers[0]) == bits(trainers[1])
    given /= 2
    assert trainers[0].evaluate(given, y) == trainers[1].evaluate(np.array(given), y)
