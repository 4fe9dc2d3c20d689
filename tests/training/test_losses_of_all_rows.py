"""The loss of an epoch, of validation and of `evaluate` is that of all rows at once, however they were cut into batches."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import EarlyStopping

rng = np.random.default_rng(0)
ROWS, CLASSES = 101, 4
X = rng.standard_normal((ROWS, CLASSES)).astype(np.float32)
SORTED = np.sort(rng.integers(0, CLASSES, ROWS))  # so that batches differ in what they count for
IGNORED = np.where(np.arange(ROWS) < 60, SORTED, -100)  # from there on nothing counts
FACTORS = cr.tensor([0.1, 1.0, 3.0, 0.5])
LOSSES = {
    "ignored": (F.cross_entropy, IGNORED),
    "class weights": (nn.CrossEntropyLoss(weight=FACTORS), SORTED),
    "both, smoothed": (nn.CrossEntropyLoss(weight=FACTORS, label_smoothing=0.1), IGNORED),
    "log-probabilities": (nn.NLLLoss(weight=FACTORS), IGNORED),
    "of the user's own": (lambda output, y: F.cross_entropy(output, y) * 2 + 1, IGNORED),
    "all alike": (F.cross_entropy, SORTED),
}


class Shifted(nn.Module):
    """Gives its inputs, and something to train."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(cr.zeros(()))

    def forward(self, x):
        return x + self.shift


def trainer(loss):
    model = Shifted()
    return cr.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.0))


@pytest.mark.parametrize("batch_size", [1, 7, 20, 101, 1000])
@pytest.mark.parametrize("kind", LOSSES)
def test_the_loss_is_that_of_one_batch_of_all(kind, batch_size):
    loss, y = LOSSES[kind]
    expected = loss(cr.tensor(X), cr.tensor(y)).item()
    found = trainer(loss)
    assert found.evaluate(X, y, batch_size=batch_size)["loss"] == pytest.approx(expected, rel=1e-5)
    if kind in ("class weights", "all alike"):  # where nothing of a batch counts, no step can be taken
        history = found.fit(X, y, 2, batch_size, validation_data=(X, y), progress=False, shuffle=False)
        assert history["loss"] == pytest.approx([expected] * 2, rel=1e-5)
        assert history["val_loss"] == pytest.approx([expected] * 2, rel=1e-5)


def test_losses_at_several_places_of_a_row():
    outputs, y = rng.standard_normal((31, 3, 5)).astype(np.float32), rng.integers(0, 3, (31, 5))
    y[:20, 1:] = y[3, :] = -100
    expected = F.cross_entropy(cr.tensor(outputs), cr.tensor(y)).item()
    assert trainer(F.cross_entropy).evaluate(outputs, y, batch_size=4)["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_of_rows_among_ignored_ones():
    weight = rng.random(ROWS)
    weight[:15] = 0.0
    losses = F.cross_entropy(cr.tensor(X), cr.tensor(IGNORED), reduction="none").numpy().astype(np.float64)
    expected = (losses * weight).sum() / weight[IGNORED >= 0].sum()
    for batch_size in (1, 7, 101):
        found = trainer(F.cross_entropy).evaluate(X, IGNORED, batch_size, sample_weight=weight)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_of_rows_in_a_loss_of_the_user_s_own():
    weight, y = rng.random(ROWS), X[:, 0] * 3
    expected = (np.abs(X[:, 1] - y) * weight).sum() / weight.sum()
    own = trainer(lambda output, target: (output[:, 1] - target).abs())
    assert own.evaluate(X, y, 7, sample_weight=weight)["loss"] == pytest.approx(expected, rel=1e-5)


def test_windows_of_a_source_in_which_nothing_counts():
    expected = F.cross_entropy(cr.tensor(X), cr.tensor(IGNORED)).item()
    batches = [(X[i : i + 10], IGNORED[i : i + 10]) for i in range(0, ROWS, 10)]
    found = trainer(F.cross_entropy).evaluate(cr.data.as_source(lambda: iter(batches)), None)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_early_stopping_judges_a_validation_with_ignored_rows():
    model = nn.Linear(CLASSES, CLASSES)
    many = np.concatenate([X] * 6), np.concatenate([SORTED, *[np.full(ROWS, -100)] * 5])  # more than one batch of 256
    history = cr.Trainer(model, "cross_entropy", "adam", lr=0.01).fit(
        X, SORTED, 12, validation_data=many, callbacks=[EarlyStopping("val_loss", patience=2)], progress=False
    )
    assert history.epochs == 12
    assert np.isfinite(history["val_loss"]).all()
