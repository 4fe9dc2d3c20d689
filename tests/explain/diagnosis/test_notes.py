"""Runs whose scores and whose own loss disagree, and what a report says beside its findings."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim


def fitted(loss, lr, X, y, test, outputs=10, epochs=8):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs))
    trainer = cr.Trainer(model, loss, optim.Adam(model.parameters(), lr=lr))
    trainer.fit(X, y, epochs=epochs, validation_data=test, progress=False, seed=0)
    return trainer


@pytest.fixture(scope="module")
def digits():
    return cr.data.load("digits")


@pytest.mark.parametrize("lr", [1000.0, 1e6])
def test_an_absurd_rate_is_named_first_and_led_down_to_where_it_learns(digits, lr):
    found = fitted(F.cross_entropy, lr, *digits.train, digits.test).diagnose()
    first = found.findings[0]
    assert first.name == "learning_rate_too_high"
    assert first.change == "optim.Adam(model.parameters(), lr=0.1)."
    assert first.remedy.after["training"]["own"] < 0.5
    for _, other in first.alternatives:  # more right rows at a loss far above that of the untrained network
        assert other.gain <= 0 or other.after["training"]["own"] < 10 * other.before["training"]["own"]


def test_training_rows_that_are_harder_are_named(digits):
    X, y = digits.train[0], np.array(digits.train[1])
    random = np.random.default_rng(0)
    wrong = random.random(len(y)) < 0.3
    y[wrong] = random.integers(0, 10, wrong.sum())
    found = fitted(F.cross_entropy, 3e-3, X, y, digits.test).diagnose()
    (note,) = found.notes
    assert note == (
        "The training rows are harder for the network than the validation rows (loss 1.303, accuracy 71.1% against loss "
        "0.7441, accuracy 89.2%, both in evaluation mode, without dropout). Labels that are wrong in a part of the training "
        "rows do that, and so does augmentation or noise that only the training rows have; or the validation rows are easier "
        "ones. Look at the training rows with the largest loss."
    )
    assert note.split()[-1] in str(found)


def test_class_numbers_under_a_loss_of_values_are_named(digits):
    column = [np.asarray(part[1], np.float32)[:, None] for part in (digits.train, digits.test)]
    found = fitted(F.mse_loss, 3e-3, digits.train[0], column[0], (digits.test[0], column[1]), 1, epochs=3).diagnose()
    assert found.notes == [
        "The targets are the whole numbers 0 to 9, and the loss is one of values. If they are the numbers of classes, the loss "
        "is the likeliest fault: it takes class 9 for far from class 0 and near to class 8. Use F.cross_entropy with 10 outputs "
        "and targets of shape (rows,) and dtype int64."
    ]


def test_ordinary_runs_get_no_such_note(digits):
    assert fitted(F.cross_entropy, 3e-3, *digits.train, digits.test).diagnose().notes == []
    halves = [np.asarray(part[1], np.float32)[:, None] / 2 for part in (digits.train, digits.test)]
    assert (
        fitted(F.mse_loss, 3e-3, digits.train[0], halves[0], (digits.test[0], halves[1]), 1, epochs=3).diagnose().notes
        == []
    )
