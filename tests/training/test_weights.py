"""Rows and classes that weigh: the loss, its gradients and what is kept of them, against PyTorch and closed forms."""

import functools

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DataError, SettingError
from chainrule.nn.functional.reduction import weighing_rows
from chainrule.training import Trainer
from chainrule.training.objective import objective

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 4)).astype(np.float32)
y = (X[:, 0] > 0.5).astype(int) + (X[:, 1] > 0)
w = rng.uniform(0, 2, 90) * (rng.uniform(size=90) > 0.2)


def make(loss=F.cross_entropy, outputs=3, **options):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, outputs))
    return Trainer(model, loss, optim.Adam(model.parameters(), lr=0.05), **options)


def fit(trainer, target=y, epochs=3, **options):
    return trainer.fit(X, target, epochs, 32, progress=False, **options)


def bits(trainer):
    return b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())


LOSSES = {
    "cross_entropy": (F.cross_entropy, lambda t, o, y: t.nn.functional.cross_entropy(o, y, reduction="none")),
    "smoothed": (
        functools.partial(F.cross_entropy, label_smoothing=0.1),
        lambda t, o, y: t.nn.functional.cross_entropy(o, y, reduction="none", label_smoothing=0.1),
    ),
    "module": (nn.CrossEntropyLoss(), lambda t, o, y: t.nn.functional.cross_entropy(o, y, reduction="none")),
    "mse": (F.mse_loss, lambda t, o, y: ((o - t.nn.functional.one_hot(y, 3).double()) ** 2).mean(1)),
    "huber": (
        nn.HuberLoss(),
        lambda t, o, y: t.nn.functional.huber_loss(o, t.nn.functional.one_hot(y, 3).double(), reduction="none").mean(1),
    ),
    "bce": (
        F.binary_cross_entropy_with_logits,
        lambda t, o, y: t.nn.functional.binary_cross_entropy_with_logits(
            o, t.nn.functional.one_hot(y, 3).double(), reduction="none"
        ).mean(1),
    ),
    "own": (
        lambda output, target: ((output - target) ** 2).sum(1),
        lambda t, o, y: ((o - t.nn.functional.one_hot(y, 3).double()) ** 2).sum(1),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_weighted_mean_and_its_gradient_are_pytorch_s(name):
    torch = pytest.importorskip("torch")
    loss, theirs = LOSSES[name]
    output = rng.normal(size=(90, 3))
    mine, other = cr.tensor(output, requires_grad=True), torch.tensor(output, requires_grad=True)
    over_classes = name in ("cross_entropy", "smoothed", "module")
    value = objective(loss, mine, cr.tensor(y if over_classes else np.eye(3)[y]), cr.tensor(w))
    expected = (theirs(torch, other, torch.tensor(y)) * torch.tensor(w)).sum() / w.sum()
    value.backward(), expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_classes_with_factors_and_ignored_rows_share_out_as_in_the_mean():
    factors, target = cr.tensor([1.0, 2.0, 0.5]), cr.tensor([0, 1, -100, 2])
    output = cr.tensor(rng.normal(size=(4, 3)).astype(np.float32))
    rows = cr.tensor([1.0, 0.0, 5.0, 3.0])
    with weighing_rows(rows):
        value = F.cross_entropy(output, target, factors)
    each = F.cross_entropy(output, target, factors, reduction="none").tolist()
    assert value.item() == pytest.approx((each[0] + 3 * each[3]) / (1.0 + 3 * 0.5))
    with weighing_rows(cr.ones(4)):
        assert F.cross_entropy(output, target, factors).item() == pytest.approx(
            F.cross_entropy(output, target, factors).item()
        )


def test_weights_of_one_are_no_weights_and_whole_numbers_are_copies():
    plain, ones = make(), make()
    fit(plain, shuffle=False), fit(ones, shuffle=False, sample_weight=np.ones(90))
    for a, b in zip(plain.model.parameters(), ones.model.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-4, atol=2e-5)
    counts = rng.integers(0, 4, 90)
    weighed, copied = make(), make()
    weighed.fit(X, y, 3, 90, progress=False, sample_weight=counts)
    copied.fit(np.repeat(X, counts, 0), np.repeat(y, counts), 3, counts.sum(), progress=False)
    for a, b in zip(weighed.model.parameters(), copied.model.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=2e-4, atol=2e-5)


def test_rows_without_weight_change_nothing():
    a, b = make(), make()
    other = X.copy()
    other[w == 0] = 1e6
    fit(a, sample_weight=w)
    b.fit(other, y, 3, 32, progress=False, sample_weight=w)
    assert bits(a) == bits(b)


def test_a_batch_without_any_weight_teaches_nothing_and_is_no_nan():
    trainer = make()
    before = bits(trainer)
    history = trainer.fit(X[:40], y[:40], 1, 32, shuffle=False, progress=False, sample_weight=[0] * 32 + [1] * 8)
    assert np.isfinite(history["loss"][0]) and bits(trainer) != before


def test_classes_weigh_as_scikit_learn_balances_them():
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    counts = np.bincount(y)
    by_class = dict(enumerate(len(y) / (3 * counts)))
    rows = sklearn.compute_sample_weight("balanced", y)
    found = []
    for options in ({"class_weight": "balanced"}, {"class_weight": by_class}, {"sample_weight": rows}):
        trainer = make()
        fit(trainer, **options)
        found.append(bits(trainer))
        np.testing.assert_array_equal(trainer.session.rows.weight, rows.astype(np.float32))
    assert found[0] == found[1] == found[2]


def test_classes_and_rows_are_multiplied_and_ignored_labels_count_nowhere():
    target = y.copy()
    target[:5] = -100
    trainer = make()
    fit(trainer, target, class_weight={1: 3.0}, sample_weight=w)
    np.testing.assert_allclose(trainer.session.rows.weight, (w * np.where(target == 1, 3, 1)).astype(np.float32))
    fit(trainer, target, class_weight="balanced")
    assert (trainer.session.rows.weight[:5] == 1).all()


def test_yes_or_no_has_two_classes():
    trainer = make(F.binary_cross_entropy_with_logits, 1)
    fit(trainer, (y > 1)[:, None], class_weight="balanced")
    assert len(set(trainer.session.rows.weight.tolist())) == 2


def test_validation_has_weights_of_its_own_and_a_split_takes_them_along():
    trainer = make(metrics=["accuracy"])
    history = fit(trainer, validation_data=(X[:30], y[:30], w[:30]))
    measured = trainer.evaluate(X[:30], y[:30], 30, sample_weight=w[:30])
    assert history["val_loss"][-1] == pytest.approx(measured["loss"], rel=1e-5)
    assert trainer.evaluate(X[:30], y[:30])["loss"] != pytest.approx(measured["loss"], rel=1e-3)
    fit(trainer, sample_weight=np.arange(90) + 1, validation_split=0.2)
    rows = trainer.session.rows
    pairs = {tuple(x): i + 1 for i, x in enumerate(X)}
    assert [pairs[tuple(x)] for x in rows.x] == rows.weight.tolist()
    assert [pairs[tuple(x)] for x in rows.held_out.x] == rows.held_out.weight.tolist()


def test_weights_are_part_of_what_is_resumed_recorded_and_replayed(tmp_path):
    trainer = make()
    fit(trainer, epochs=2, sample_weight=w, record=tmp_path / "run")
    assert trainer.run.at(4).proved and trainer.explain("0.weight", step=3)
    with pytest.raises(SettingError, match="the rows must be those of the earlier fit"):
        fit(trainer, epochs=4, resume=True, sample_weight=w + 1)
    fit(trainer, epochs=4, resume=True, sample_weight=w, record=tmp_path / "run")
    whole = make()
    fit(whole, epochs=4, sample_weight=w)
    assert bits(trainer) == bits(whole)
    again = cr.load_run(tmp_path / "run", make(), X, y, sample_weight=w)
    assert again.at(10).proved
    with pytest.raises(DataError, match="their hash differs"):
        cr.load_run(tmp_path / "run", make(), X, y)
    assert trainer.run.what_if(3, lr=0.5).changes and trainer.report()
    assert trainer.diagnose().replays


def test_one_program_serves_other_weights():
    trainer = make()
    fit(trainer, sample_weight=w)
    program = trainer.session.programs["training"]
    fit(trainer, sample_weight=w[::-1])
    assert trainer.session.programs["training"] is program
    fresh = make()
    fit(fresh, sample_weight=w), fit(fresh, sample_weight=w[::-1])
    assert bits(fresh) == bits(trainer)


class Doubled(nn.CrossEntropyLoss):
    def forward(self, input, target):
        return -input.log_softmax(1)[cr.arange(len(target)), target].mean()


@pytest.mark.parametrize("loss", [lambda o, t: ((o - t.unsqueeze(1)) ** 2).mean(), Doubled()])
def test_a_loss_of_one_s_own_that_gives_one_number_is_refused(loss):
    with pytest.raises(SettingError, match=r"a loss of your own must give a number for each row, shape \(2,\), and"):
        fit(make(loss), sample_weight=w)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"sample_weight": w[:-1]}, DataError, "fit: sample_weight must have a number for each of the 90 rows, shape (90,), got shape (89,)."),
        ({"sample_weight": w[:, None]}, DataError, "fit: sample_weight must have a number for each of the 90 rows, shape (90,), got shape (90, 1)."),
        ({"sample_weight": -w - 1}, DataError, "fit: sample_weight must not be negative, got "),
        ({"sample_weight": w * np.nan}, DataError, "fit: sample_weight must be finite, got 90 NaN"),
        ({"sample_weight": w * 0}, DataError, "fit: the weights of all 90 rows are 0, so there is nothing to learn."),
        ({"class_weight": "auto"}, SettingError, "fit: class_weight must be a dict from class number to weight, or 'balanced', got 'auto'."),
        ({"class_weight": {7: 1.0}}, SettingError, "fit: class_weight names the class 7, which no row has: there are 0, 1, 2."),
        ({"class_weight": {"1": 1.0}}, SettingError, "fit: class_weight names the class '1', which no row has"),
        ({"class_weight": {1: -1.0}}, SettingError, "fit: class_weight must have a finite number, 0 or more, for class 1, got -1.0."),
        ({"class_weight": [1.0, 2.0, 3.0]}, SettingError, "fit: class_weight must be a dict"),
    ],
)  # fmt: skip
def test_what_is_no_weight_is_refused(options, error, text):
    trainer = make()
    before = bits(trainer)
    with pytest.raises(error) as raised:
        fit(trainer, **options)
    assert text in str(raised.value) and bits(trainer) == before


def test_values_have_no_classes_to_weigh():
    with pytest.raises(SettingError, match="fit: class_weight needs a class number for each row"):
        fit(make(F.mse_loss), np.eye(3)[y], class_weight="balanced")


@pytest.mark.parametrize("weight", ["balanced", {0: 3.0, 2: 0.5}])
def test_one_hot_targets_have_classes_and_other_probabilities_none(weight):
    numbers, shares, targets = make(), make(), np.eye(3, dtype=np.float32)[y]
    fit(numbers, class_weight=weight)
    fit(shares, targets, class_weight=weight)
    np.testing.assert_array_equal(shares.session.rows.weight, numbers.session.rows.weight)
    np.testing.assert_allclose(shares.history["loss"], numbers.history["loss"], rtol=1e-6)
    targets[7] = [0.5, 0.5, 0.0]
    with pytest.raises(
        SettingError, match=r"one-hot, got the probabilities \[0.5, 0.5, 0.0\] in row 7. Give the rows weights"
    ):
        fit(make(), targets, class_weight=weight)
