"""Metrics of an epoch are those of scikit-learn on all of its rows, however the rows were cut into batches."""

import math

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import Callback, EarlyStopping
from chainrule.errors import DataError, SettingError, UnknownNameError
from chainrule.training import Trainer

metrics = pytest.importorskip("sklearn.metrics")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")

rng = np.random.default_rng(0)
AVERAGED = ["precision", "recall", "f1"]
FUNCTIONS = {"precision": metrics.precision_score, "recall": metrics.recall_score, "f1": metrics.f1_score}


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def rows(count, features, seed=0):
    return np.random.default_rng(seed).standard_normal((count, features)).astype(np.float32)


def measured(outputs, y, loss, names, batch_size=7, **options):
    """What `evaluate` and the validation of a training measure of a model that gives its inputs, which must be the same."""
    model = nn.Sequential(nn.Identity())
    scale = nn.Parameter(cr.ones(()))
    trainer = Trainer(model, loss, optim.SGD([scale], lr=0.0), names, **options)
    found = trainer.evaluate(outputs, y, batch_size=batch_size)
    for name in names:
        assert trainer.evaluate(outputs, y, batch_size=len(y))[name] == pytest.approx(found[name], rel=1e-12, abs=1e-12)
    return found


# -- classes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_of_several_classes(seed):
    outputs = rows(101, 5, seed)
    y = np.where(rng.random(101) < 0.5, outputs.argmax(1), rng.integers(0, 4, 101))  # of class 4 there are few or none
    names = [f"{of}_{average}" for of in AVERAGED for average in ("macro", "micro", "weighted")]
    others = ["accuracy", "balanced_accuracy", "log_loss", "perplexity", "brier", "top_2_accuracy", "average_precision"]
    found = measured(outputs, y, F.cross_entropy, [*names, *others])
    said, p = outputs.argmax(1), softmax(outputs.astype(np.float64))
    for of in AVERAGED:
        for average in ("macro", "micro", "weighted"):
            expected = FUNCTIONS[of](y, said, average=average, zero_division=0)
            assert found[f"{of}_{average}"] == pytest.approx(expected, abs=1e-9)
    loss = metrics.log_loss(y, p, labels=range(5))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, said), abs=1e-12)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, said), abs=1e-9)
    assert found["log_loss"] == pytest.approx(loss, rel=1e-9)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-9)
    assert found["brier"] == pytest.approx(((p - np.eye(5)[y]) ** 2).sum(1).mean(), rel=1e-9)
    top = metrics.top_k_accuracy_score(y, outputs, k=2, labels=range(5))
    assert found["top_2_accuracy"] == pytest.approx(top, abs=1e-12)
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(np.eye(5)[y], p), abs=1e-9)


@pytest.mark.parametrize("over", ["ovr", "ovo"])
def test_the_area_under_the_curves_of_several_classes(over):
    outputs, y = rows(80, 4), rng.integers(0, 4, 80)
    found = measured(outputs, y, F.cross_entropy, [f"roc_auc_{over}"])
    expected = metrics.roc_auc_score(y, softmax(outputs.astype(np.float64)), multi_class=over)
    assert found[f"roc_auc_{over}"] == pytest.approx(expected, abs=1e-9)


def test_equal_outputs_are_in_scikit_learns_order_among_the_first():
    outputs = rng.integers(0, 3, (200, 6)).astype(np.float32)
    y = rng.integers(0, 6, 200)
    for k in (1, 2, 5):
        name = f"top_{k}_accuracy"
        expected = metrics.top_k_accuracy_score(y, outputs, k=k, labels=range(6))
        assert measured(outputs, y, F.cross_entropy, [name])[name] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["two", "binary_logits", "binary_probabilities"])
@pytest.mark.parametrize("tied", [False, True])
def test_of_two_classes(kind, tied):
    z = rng.integers(-2, 3, 90).astype(np.float32) if tied else rows(90, 1)[:, 0]
    z += np.float32(0.25)
    y = (z + rng.standard_normal(90) > 0).astype(np.int64)
    p = 1 / (1 + np.exp(-z.astype(np.float64)))
    loss, outputs, target = {
        "two": (F.cross_entropy, np.stack([z * 0, z], 1), y),
        "binary_logits": (F.binary_cross_entropy_with_logits, z[:, None], y[:, None].astype(np.float32)),
        "binary_probabilities": (F.binary_cross_entropy, p[:, None].astype(np.float32), y[:, None].astype(np.float32)),
    }[kind]
    names = [*AVERAGED, "accuracy", "balanced_accuracy", "log_loss", "brier", "roc_auc", "average_precision"]
    found = measured(outputs, target, loss, names)
    said = p > 0.5
    for of in AVERAGED:
        assert found[of] == pytest.approx(FUNCTIONS[of](y, said), abs=1e-9)
    tolerance = 1e-6 if kind == "binary_probabilities" else 1e-9
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, said), abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, said), abs=1e-9)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, p), rel=tolerance)
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(y, p), rel=tolerance)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(y, z), abs=1e-9)
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(y, z), abs=1e-9)


def test_of_several_yes_or_no_questions():
    z = rows(60, 3)
    y = (z + rng.standard_normal((60, 3)) > 0).astype(np.float32)
    names = [f"{of}_{average}" for of in AVERAGED for average in ("macro", "micro", "weighted")]
    found = measured(z, y, F.binary_cross_entropy_with_logits, [*names, "roc_auc"])
    for of in AVERAGED:
        for average in ("macro", "micro", "weighted"):
            expected = FUNCTIONS[of](y, z > 0, average=average, zero_division=0)
            assert found[f"{of}_{average}"] == pytest.approx(expected, abs=1e-9)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(y, z), abs=1e-9)


def test_labels_that_the_loss_ignores_do_not_count():
    outputs, y = rows(50, 3), rng.integers(0, 3, 50)
    y[::4] = -100
    kept = y != -100
    names = ["accuracy", "f1_macro", "balanced_accuracy", "log_loss", "brier", "top_2_accuracy", "roc_auc_ovr"]
    found = measured(outputs, y, F.cross_entropy, names)
    alone = measured(outputs[kept], y[kept], F.cross_entropy, names)
    for name in names:
        assert found[name] == pytest.approx(alone[name], abs=1e-9)


def test_outputs_with_more_axes_are_so_many_rows():
    outputs, y = rng.standard_normal((20, 4, 3)).astype(np.float32), rng.integers(0, 4, (20, 3))
    names = ["accuracy", "f1_macro", "log_loss", "top_2_accuracy", "roc_auc_ovr"]
    found = measured(outputs, y, F.cross_entropy, names, batch_size=6)
    flat = measured(np.moveaxis(outputs, 1, 2).reshape(60, 4), y.reshape(60), F.cross_entropy, names)
    for name in names:
        assert found[name] == pytest.approx(flat[name], abs=1e-9)


def test_a_log_loss_in_the_tails_keeps_its_digits():
    z = np.array([[60.0, 0.0], [0.0, 1e30]], np.float32)
    assert measured(z, np.array([0, 1]), F.cross_entropy, ["log_loss"])["log_loss"] == pytest.approx(
        np.exp(-60.0) / 2, rel=1e-6
    )
    assert measured(z, np.array([1, 1]), F.cross_entropy, ["log_loss"])["log_loss"] == pytest.approx(30.0)


# -- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 3])
def test_of_values(outputs):
    output, target = rows(77, outputs), rows(77, outputs, seed=1) + 1e3
    target[::5] = 0.0
    names = ["mse", "mae", "rmse", "mape", "r2"]
    found = measured(output, target, F.mse_loss, names, batch_size=10)
    expected = {
        "mse": metrics.mean_squared_error, "mae": metrics.mean_absolute_error, "r2": metrics.r2_score,
        "rmse": metrics.root_mean_squared_error, "mape": metrics.mean_absolute_percentage_error,
    }  # fmt: skip
    for name in names:
        assert found[name] == pytest.approx(expected[name](target, output), rel=1e-6)


def test_r2_of_targets_that_are_all_the_same():
    target = np.full((20, 1), 0.1, np.float32)
    assert measured(target, target, F.mse_loss, ["r2"])["r2"] == metrics.r2_score(target, target) == 1.0
    assert measured(target + 1, target, F.mse_loss, ["r2"])["r2"] == metrics.r2_score(target, target + 1) == 0.0


# -- in a training ----------------------------------------------------------------------------------------


def make(names):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    return Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.02), names)


def test_validation_in_a_long_native_call_is_that_of_all_rows_and_early_stopping_hears_of_it(tmp_path):
    x = rows(95, 6)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)
    names = ["f1_macro", "roc_auc_ovr", "top_2_accuracy"]
    held_out = x[:300:2] + np.float32(0.3), y[:300:2]
    for monitor in ("val_roc_auc_ovr", "val_f1_macro", "f1_macro"):
        trainers = []
        for more in ([], [lambda trainer, epoch, measured: None]):
            trainer = make(names)
            stopping = EarlyStopping(monitor, patience=6, restore_best_weights=True)
            trainer.fit(x, y, 80, 16, held_out, progress=False, callbacks=[stopping, *more])
            trainers.append((trainer, stopping))
        (together, a), (_, b) = trainers
        shown = [{k: v for k, v in trainer.history.items() if k != "seconds"} for trainer, _ in trainers]
        assert shown[0] == shown[1]
        assert (a.stopped_epoch, a.best_epoch) == (b.stopped_epoch, b.best_epoch)
        assert max(together.history[monitor]) == a.best
        outputs = together.predict(held_out[0])
        scores = metrics.roc_auc_score(held_out[1], softmax(outputs.astype(np.float64)), multi_class="ovr")
        assert together.history["val_roc_auc_ovr"][a.best_epoch - 1] == pytest.approx(scores, abs=1e-9)
        said = outputs.argmax(1)
        assert together.history["val_f1_macro"][a.best_epoch - 1] == pytest.approx(
            metrics.f1_score(held_out[1], said, average="macro"), abs=1e-9
        )
        assert "roc_auc_ovr" not in together.history


def test_an_epoch_that_is_cut_in_two_measures_the_same(tmp_path, monkeypatch):
    x = rows(95, 6)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0.5)
    names = ["f1_macro", "log_loss"]
    whole, parts = make(names), make(names)
    whole.fit(x, y, 3, 16, progress=False)
    monkeypatch.setattr("chainrule.training.steps.StepProgram.took", lambda self, *_: None)

    class Saving(Callback):
        def on_pause(self, trainer):
            trainer.save(tmp_path / f"{trainer.history.steps}")

    parts.fit(x, y, 3, 16, progress=False, callbacks=Saving())
    for path in tmp_path.iterdir():
        again = make(names)
        again.load(path)
        again.fit(x, y, 3, 16, progress=False, resume=True)
        for name in ("loss", *names):
            assert again.history[name] == whole.history[name]


def test_a_metric_of_ones_own_may_be_made_of_means():
    class Largest:
        """The largest of the means of the outputs."""

        __name__ = "largest"

        def statistics(self, output, target):
            return output.mean(0)

        def result(self, means):
            return means.max()

    outputs, y = rows(33, 3), np.zeros(33, np.int64)
    trainer = Trainer(nn.Sequential(nn.Identity()), F.cross_entropy, optim.SGD([nn.Parameter(cr.ones(1))]), [Largest()])
    assert trainer.evaluate(outputs, y, batch_size=5)["largest"] == pytest.approx(outputs.mean(0).max(), rel=1e-6)


def test_a_binary_measure_of_three_classes_is_refused():
    with pytest.raises(SettingError) as caught:
        measured(rows(10, 3), np.arange(10) % 3, F.cross_entropy, ["f1"])
    assert str(caught.value) == (
        "Trainer: the metric 'f1' is about two classes, and the outputs are about 3 classes. Take 'f1_macro', 'f1_micro' or "
        "'f1_weighted'."
    )
    with pytest.raises(SettingError, match="Take 'roc_auc_ovr' or 'roc_auc_ovo'"):
        measured(rows(10, 3), np.arange(10) % 3, F.cross_entropy, ["roc_auc"])
    with pytest.raises(SettingError, match="'log_loss' is about classes, and under mse_loss the outputs are values"):
        measured(rows(10, 1), rows(10, 1), F.mse_loss, ["log_loss"])
    with pytest.raises(
        SettingError, match="'log_loss' is about probabilities, and under multi_margin_loss the outputs are scores"
    ):
        measured(rows(10, 3), np.arange(10) % 3, F.multi_margin_loss, ["log_loss"])
    with pytest.raises(UnknownNameError):
        measured(rows(10, 1), rows(10, 1), F.mse_loss, ["top_0_accuracy"])


# -- which class was taken for which ------------------------------------------------------------------------


def of(loss, **options):
    model = nn.Sequential(nn.Identity())
    return Trainer(model, loss, optim.SGD([nn.Parameter(cr.ones(()))], lr=0.0), **options)


@pytest.mark.parametrize("weighed", [False, True])
def test_the_confusion_matrix_is_scikit_learn_s(weighed):
    outputs, y = rows(101, 5), rng.integers(0, 4, 101)  # nothing is of class 4
    weight = rng.random(101) if weighed else None
    found = of(F.cross_entropy).confusion_matrix(outputs, y, batch_size=7, sample_weight=weight)
    expected = metrics.confusion_matrix(y, outputs.argmax(1), labels=range(5), sample_weight=weight)
    assert found.shape == (5, 5)
    assert found.dtype == (np.float64 if weighed else np.int64)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    hot = np.eye(5, dtype=np.float32)[y]
    np.testing.assert_array_equal(of(F.cross_entropy).confusion_matrix(outputs, hot, sample_weight=weight), found)


@pytest.mark.parametrize("shape", [(60,), (60, 1), (20, 3)])
def test_the_confusion_matrix_of_yes_or_no(shape):
    outputs, y = rng.standard_normal(shape).astype(np.float32), rng.integers(0, 2, shape)
    found = of(F.binary_cross_entropy_with_logits).confusion_matrix(outputs, y)
    np.testing.assert_array_equal(found, metrics.confusion_matrix(y.ravel(), outputs.ravel() > 0))


def test_labels_that_the_loss_ignores_and_classes_at_places():
    outputs = rng.standard_normal((30, 3, 4)).astype(np.float32)
    y, weight = rng.integers(0, 3, (30, 4)), rng.random(30)
    y[rng.random(y.shape) < 0.3] = -100
    counted = y != -100
    for each in (None, weight):
        found = of(F.cross_entropy).confusion_matrix(outputs, y, sample_weight=each)
        spread = None if each is None else np.repeat(each, 4).reshape(30, 4)[counted]
        expected = metrics.confusion_matrix(y[counted], outputs.argmax(1)[counted], sample_weight=spread)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_has_no_confusion_matrix_is_refused():
    outputs = rows(10, 3)
    with pytest.raises(SettingError, match="^confusion_matrix: under mse_loss the outputs are values and no classes. "):
        of(F.mse_loss).confusion_matrix(outputs, outputs)
    shares = softmax(outputs)
    text = "confusion_matrix: y must say one class for each row, got probabilities of shape (10, 3). Pass the classes."
    for loss in (F.cross_entropy, F.binary_cross_entropy_with_logits):
        with pytest.raises(DataError) as caught:
            of(loss).confusion_matrix(outputs, shares)
        assert str(caught.value) == text
