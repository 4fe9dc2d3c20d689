"""Rows of a known kind are not tried again, and whatever is wrong with them or the model is said as the first time."""

import itertools
import warnings

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.training.checked import KINDS, Checked

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)
shares = (X[:, :1] > 0).astype(np.float32)
values = X[:, :1] * 2
setting = {"bound": 3, "axes": 0}


class Centred(nn.Module):
    """Subtracts a running mean."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", cr.zeros(5))

    def forward(self, x):
        if self.training:
            self.mean.copy_(self.mean * 0.9 + x.detach().mean(0) * 0.1)
        return x - self.mean


class Embedding(nn.Module):
    """A row for each of five numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(cr.ones(5, 3))

    def forward(self, x):
        return F.one_hot(x, 5).float() @ self.weight


class Net(nn.Module):
    """Counts how often Python runs it, and ends in another layer when it is evaluated."""

    def __init__(self, outputs=2):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), Centred(), nn.Dropout(0.1), nn.Tanh())
        self.head, self.other = nn.Linear(5, outputs), nn.Linear(5, outputs)
        self.last = None
        self.calls = itertools.count()  # no guard sees it move

    def forward(self, x):
        next(self.calls)
        if x.shape[1] > setting["bound"] + 1:
            raise cr.errors.ShapeError("too wide")
        found = (self.head if self.training else self.other)(self.body(x))
        return found if self.last is None else self.last(found)


def make(loss=F.cross_entropy, outputs=2, metrics=(), **options):
    cr.manual_seed(0)
    model = Net(outputs)
    return cr.Trainer(model, loss, optim.Adam(model.parameters()), metrics, **options)


def fit(trainer, rows=X, targets=y, **options):
    return trainer.fit(rows, targets, epochs=1, progress=False, **options)


def outcome(call):
    """The error that a call ends with, or its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call()
        except Exception as error:
            return type(error), str(error)
    return [str(w.message) for w in caught]


def both(trainer, call):
    """The outcome for a trainer that knows these rows, and for the same one that knows nothing."""
    known = outcome(lambda: call(trainer))
    trainer.checked = Checked(trainer.session)
    return known, outcome(lambda: call(trainer))


def test_rows_of_a_known_kind_are_not_tried_again():
    trainer = make(metrics=["accuracy"])
    fit(trainer, validation_data=(X, y))
    before = next(trainer.model.calls)
    for _ in range(3):
        fit(trainer, X[::-1] * 2, 1 - y, validation_data=(X, y))
    assert next(trainer.model.calls) == before + 1
    fit(trainer, X[::-1] * 2, (1 - y).astype(np.int32))
    assert next(trainer.model.calls) > before + 2


def test_what_is_known_moves_no_bit():
    known, new = make(), make()
    for _ in range(3):
        fit(known)
        fit(new)
        new.checked = Checked(new.session)
    for a, b in zip(known.model.state_dict().values(), new.model.state_dict().values(), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def _labels(label):
    targets = y.copy()
    targets[-1] = label
    return targets


def _with(number, place=(20, 1)):
    rows = X.copy()
    rows[place] = number
    return rows


@pytest.mark.parametrize(
    ("rows", "targets"),
    [
        (_with(np.nan), y), (_with(np.inf), y), (X, _labels(2)), (X, _labels(-1)), (X, y[:-1]), (X, y + 0.5),
        (X[:, :3], y), (X[:, 0], y), (X, np.stack([y, y, y], 1)), (X, y[:, None]), (X[:0], y[:0]), (X, [None] * 24),
        (X, np.full(24, -100)), (_with(1e30).astype(np.float64) * 1e30, y), (np.concatenate([X, X], 1), y),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_in_the_same_words(rows, targets):
    trainer = make()
    fit(trainer)
    for who in (fit, lambda t, *given: fit(t, validation_data=given), lambda t, *given: t.evaluate(*given)):
        known, new = both(trainer, lambda t, who=who: who(t, rows, targets))
        assert known == new and isinstance(known, tuple)
        fit(trainer)


def _replaced(name, make_it):
    return lambda trainer: setattr(trainer.model, name, make_it())


def _wider(trainer):
    trainer.model.body[0] = nn.Linear(3, 5)


def _narrow(trainer):
    weight = trainer.model.other.weight
    weight.data = cr.zeros(2, 4)


def _bound(trainer):
    setting["bound"] = 1


def _loss(trainer):
    trainer.loss = F.mse_loss


def _own(trainer):
    trainer.loss = lambda output, target: output.mean(1)


def with_axes(output, target):
    return output[:, 0] if setting["axes"] else output.mean()


@pytest.mark.parametrize(
    "change",
    [
        _replaced("head", lambda: nn.Linear(4, 2)), _replaced("other", lambda: nn.Linear(4, 2)),
        _replaced("last", lambda: nn.Linear(3, 2)), _wider, _narrow, _bound, _loss, _own,
    ],
)  # fmt: skip
def test_a_changed_model_or_loss_is_noticed(change, monkeypatch):
    monkeypatch.setitem(setting, "bound", 3)
    trainer = make()
    fit(trainer)
    change(trainer)
    known, new = both(trainer, fit)
    assert known == new and isinstance(known, tuple)


def test_fewer_outputs_than_before_are_noticed():
    trainer = make(outputs=3)
    fit(trainer, targets=_labels(2))
    trainer.model.head, trainer.model.other = nn.Linear(5, 2), nn.Linear(5, 2)
    known, new = both(trainer, lambda t: fit(t, targets=_labels(2)))
    assert known == new and "labels 0 to 1" in known[1]


@pytest.mark.parametrize("as_metric", [False, True])
def test_what_a_loss_or_metric_reads_by_name_is_noticed(as_metric, monkeypatch):
    trainer = make(F.mse_loss, 1, [with_axes]) if as_metric else make(with_axes, 1)
    fit(trainer, targets=values)
    monkeypatch.setitem(setting, "axes", 1)
    known, new = both(trainer, lambda t: fit(t, targets=values))
    assert known == new and "without axes" in known[1]


def test_another_setting_of_a_loss_is_noticed():
    trainer = make(nn.CrossEntropyLoss())
    fit(trainer)
    trainer.loss.ignore_index = 1
    known, new = both(trainer, lambda t: fit(t, targets=np.ones(24, np.int64)))
    assert known == new and "ignore_index" in known[1]
    trainer.loss.reduction = "none"
    known, new = both(trainer, fit)
    assert known == new and isinstance(known, tuple)


def test_another_dtype_of_the_model_is_noticed():
    trainer = make()
    fit(trainer)
    trainer.model.double()
    known, new = both(trainer, fit)
    assert known == new
    assert trainer.checked(X, y, "fit")[0].dtype == np.float64


def test_the_dtype_of_a_parameter_that_no_row_meets_is_noticed():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.layer = nn.Parameter(cr.ones(1)), nn.Linear(4, 2)

        def forward(self, x):
            return self.layer(x)

    model = Scaled()
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.layer.parameters(), lr=0.1))
    trainer.evaluate(X, y)
    model.unused = nn.Parameter(cr.ones(1, dtype=cr.float64))
    known, new = both(trainer, lambda t: t.checked(X, y, "fit"))
    assert known == new and isinstance(known, tuple)


def _unwrapped(output, target):
    return F.binary_cross_entropy(output.sigmoid(), target)


def _of_two(output, target):
    return ((output.sum(1, keepdim=True) - F.one_hot(target, 2)) ** 2).mean()


@pytest.mark.parametrize(
    ("loss", "outputs", "good", "bad", "options"),
    [
        (nn.BCELoss(), 1, shares, shares + 1, {}),
        (_unwrapped, 1, shares, shares + 1, {}),
        (_of_two, 3, y, y + 1, {"output": "logits"}),
        (_of_two, 3, y, y + 1, {}),
    ],
)
def test_what_only_values_tell_is_looked_at_each_time(loss, outputs, good, bad, options):
    trainer = make(loss, outputs, **options)
    if isinstance(loss, nn.BCELoss):
        trainer.model.last = nn.Sigmoid()
    fit(trainer, targets=good)
    known, new = both(trainer, lambda t: fit(t, targets=bad))
    assert known == new and isinstance(known, tuple)


def test_a_loss_that_compares_all_rows_is_named_each_time():
    trainer = make(lambda output, target: ((output - target) ** 2).mean(), 1)
    fit(trainer, targets=values)
    outcome(lambda: fit(trainer, targets=values[:, 0]))
    known, new = both(trainer, lambda t: fit(t, targets=values[:, 0]))
    assert known == new and "a square of 24 x 24" in known[0]


def test_whole_numbers_are_tried_each_time():
    model = nn.Sequential(Embedding(), nn.Flatten(), nn.Linear(6, 2))
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    rows = rng.integers(0, 5, (24, 2))
    fit(trainer, rows)
    known, new = both(trainer, lambda t: fit(t, rows + 1))
    assert known == new and isinstance(known, tuple)


def test_only_so_many_kinds_are_kept():
    trainer = make(lambda output, target: ((output.mean() - target) ** 2).mean(), 1)
    for width in range(1, 2 * KINDS):
        trainer.evaluate(X, np.zeros((24, width), np.float32))
    assert len(trainer.checked._kinds) <= KINDS
