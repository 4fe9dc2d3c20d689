"""Accuracy, probabilities and classes by what the loss says of the outputs, beside scikit-learn's and by hand."""

import functools
import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import SettingError, UnknownNameError
from chainrule.nn.meaning import LOGITS
from chainrule.training.metrics import Accuracy

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)
three = np.digitize(X[:, 0], [-0.5, 0.5])


def fitted(loss, targets, *last, outputs=1, metrics=("accuracy",), epochs=10, **options):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, outputs), *last)
    trainer = cr.Trainer(model, loss, optim.Adam(model.parameters(), lr=0.02), metrics, **options)
    trainer.fit(X, targets, epochs=epochs, progress=False, validation_data=(X, targets))
    return trainer


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def own(output, target):
    return F.cross_entropy(output, target) + 0.0


def sigmoid(z):
    return 1 / (1 + np.exp(-z.astype(np.float64)))


def softmax(z):
    powers = np.exp(z.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


column, one_hot, few = y[:, None], np.eye(3)[three], np.where(np.arange(200) % 4 == 0, -100, three)
soft = 0.8 * one_hot + 0.2 / 3
pairs = np.stack([y, X[:, 1] > 0], axis=1)
# loss, targets, last layers, outputs, probabilities of what `predict` gives, class numbers of the targets
CASES = {
    "probabilities of yes": (nn.BCELoss(), column, [nn.Sigmoid()], 1, lambda p: p, column),
    "logits of yes": (nn.BCEWithLogitsLoss(), column, [], 1, sigmoid, column),
    "one-dimensional logits": (F.binary_cross_entropy_with_logits, y, [nn.Flatten(0)], 1, sigmoid, y),
    "two questions": (F.binary_cross_entropy_with_logits, pairs, [], 2, sigmoid, pairs),
    "class numbers": (F.cross_entropy, three, [], 3, softmax, three),
    "smoothed, weighted": (
        functools.partial(nn.CrossEntropyLoss(cr.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1)), three, [], 3, softmax, three,
    ),
    "one-hot rows": (F.cross_entropy, one_hot, [], 3, softmax, three),
    "one-hot integers": (nn.CrossEntropyLoss(), one_hot.astype(np.uint8), [], 3, softmax, three),
    "class probabilities": (F.cross_entropy, soft, [], 3, softmax, three),
    "log-probabilities": (F.nll_loss, three, [nn.LogSoftmax(1)], 3, lambda z: np.exp(z.astype(np.float64)), three),
    "a loss of one's own": (own, three, [], 3, softmax, three),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_accuracy_probabilities_and_classes(name):
    loss, targets, last, outputs, probability, labels = CASES[name]
    trainer = fitted(loss, targets, *last, outputs=outputs, output="logits" if loss is own else None)
    p = probability(trainer.predict(X))
    np.testing.assert_allclose(trainer.predict_proba(X), p, rtol=1e-5)
    classes = p.argmax(axis=1) if outputs == 3 else p > 0.5
    answers = classes.ravel() if outputs == 1 else classes
    np.testing.assert_array_equal(trainer.predict_classes(X), answers)
    assert trainer.predict_classes(X).dtype == np.int64
    right = float((classes == labels).mean())
    assert right > 0.8  # it has learned something, so that a wrong reading shows
    assert trainer.evaluate(X, targets)["accuracy"] == pytest.approx(right)
    assert trainer.history["val_accuracy"][-1] == pytest.approx(right)


def test_one_hot_rows_train_like_their_class_numbers():
    by_number, by_row = fitted(F.cross_entropy, three, outputs=3), fitted(F.cross_entropy, one_hot, outputs=3)
    np.testing.assert_allclose(by_number.history["loss"], by_row.history["loss"], rtol=1e-4)
    np.testing.assert_allclose(by_number.history["accuracy"], by_row.history["accuracy"], atol=0.02)


def test_scikit_learn_counts_the_same():
    metrics = pytest.importorskip("sklearn.metrics")
    trainer = fitted(nn.BCELoss(), column, nn.Sigmoid())
    assert trainer.evaluate(X, column)["accuracy"] == pytest.approx(
        metrics.accuracy_score(y, trainer.predict_classes(X))
    )


def test_ignored_labels_do_not_count():
    trainer = fitted(F.cross_entropy, few, outputs=3)
    counted = few >= 0
    right = (trainer.predict_classes(X) == few)[counted].mean()
    assert trainer.evaluate(X, few, batch_size=200)["accuracy"] == pytest.approx(right)
    zero = Accuracy(LOGITS, ignore_index=0)(cr.tensor([[3.0, 1.0], [0.0, 1.0], [2.0, 1.0]]), cr.tensor([0, 1, 1]))
    assert zero.item() == 0.5  # a right answer of the ignored class is none


def test_classes_lie_along_axis_1():
    output = rng.normal(size=(5, 3, 2, 4)).astype(np.float32)
    labels = rng.integers(0, 3, (5, 2, 4))
    assert Accuracy(LOGITS)(cr.tensor(output), cr.tensor(labels)).item() == pytest.approx(
        (output.argmax(axis=1) == labels).mean()
    )


def test_a_regression_has_no_accuracy_no_probabilities_and_no_classes():
    text = (
        "Trainer: 'accuracy' is a share of right classes, and mse_loss makes the outputs values. Use 'mse' or 'mae', or a "
        "loss for classes such as F.cross_entropy."
    )
    with raises(SettingError, text):
        fitted(F.mse_loss, X[:, :1])
    trainer = fitted(nn.MSELoss(), X[:, :1], metrics=["mse", "mae"])
    for name in ("predict_proba", "predict_classes"):
        text = (
            f"{name}: under MSELoss the outputs are values and no classes. Use predict, or train with a loss for classes "
            f"such as F.cross_entropy."
        )
        with raises(SettingError, text):
            getattr(trainer, name)(X)


def test_what_is_not_known_is_asked_for():
    rest = (
        "needs to know what the outputs mean, and the loss own does not say. Build the trainer with Trainer(..., "
        "output='logits') or another of: logits, probabilities, log_probabilities, binary_logits, binary_probabilities, "
        "scores, values."
    )
    with raises(SettingError, f"Trainer: the metric 'accuracy' {rest}"):
        fitted(own, three, outputs=3)
    trainer = fitted(own, three, outputs=3, metrics=())
    for name in ("predict_proba", "predict_classes"):
        with raises(SettingError, f"{name} {rest}"):
            getattr(trainer, name)(X)
    with pytest.raises(UnknownNameError, match=r"^unknown meaning of outputs in Trainer\(output=\) 'logit'\. Did you"):
        fitted(own, three, outputs=3, output="logit")


def test_a_loss_of_ones_own_may_say_it_itself():
    def loss(output, target):
        return F.cross_entropy(output, target)

    loss.reads = "logits"
    trainer = fitted(loss, three, outputs=3)
    assert trainer.evaluate(X, three)["accuracy"] == pytest.approx((trainer.predict(X).argmax(1) == three).mean())
    assert (
        fitted(loss, three, outputs=3, output="values", metrics=()).meaning.name == "values"
    )  # the trainer knows better


def test_the_meaning_follows_the_loss_when_that_changes():
    trainer = fitted(F.binary_cross_entropy_with_logits, column)
    logits = trainer.predict(X)
    trainer.loss = F.mse_loss
    with pytest.raises(SettingError, match="^predict_proba: under mse_loss the outputs are values"):
        trainer.predict_proba(X)
    trainer.loss = nn.BCELoss()
    assert (trainer.predict_classes(X) == (logits > 0.5)[:, 0]).all()


def test_outputs_that_are_not_what_the_loss_reads():
    trainer = fitted(F.nll_loss, three, outputs=3)  # no log-softmax
    with pytest.raises(SettingError) as caught:
        trainer.predict_proba(X)
    assert re.fullmatch(
        r"predict_proba: under nll_loss the outputs are log-probabilities of the classes of axis 1, but of the "
        r"probabilities (\S+ is not in \[0, 1\]|those of one row sum to \S+)\. Give the model the last layer that this "
        r"loss needs, or take a loss of logits\.",
        str(caught.value),
    )
