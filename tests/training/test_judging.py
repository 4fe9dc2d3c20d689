"""Epochs that are judged together, some of them in vain, come to what each judged at its end comes to."""

from __future__ import annotations

import numpy as np
import pytest
from tests.hunters.stretches import LONGEST, stretches_of

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import Checkpoint, EarlyStopping
from chainrule.compiler.frontend.loop import Turns
from chainrule.compiler.runtime.copies import Copies
from chainrule.errors import SettingError
from chainrule.training import Trainer, judging

rng = np.random.default_rng(0)
X = rng.standard_normal((45, 6)).astype(np.float32)
y = (X[:, 0] + rng.standard_normal(45) > 0).astype(np.int64)


def make(between=nn.ReLU):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), between(), nn.Dropout(0.2), nn.Linear(12, 2))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    schedule = optim.lr_scheduler.LinearLR(optimizer, total_iters=200)
    return Trainer(model, F.cross_entropy, optimizer, ["accuracy", "roc_auc"], scheduler={"step": schedule})


def fit(trainer, callbacks, epochs=70, **options):
    options = {"batch_size": 16, "validation_data": (X[:20], y[:20]), "progress": False, **options}
    return trainer.fit(X, y, epochs=epochs, callbacks=callbacks, **options)


def everything(trainer, callbacks):
    """All that a training comes to, as text and bytes."""
    session = trainer.session
    tensors = [handle.detach().numpy().tobytes() for handle in session.handles()]
    history = {name: column for name, column in trainer.history.items() if name != "seconds"}
    return tensors, repr((history, session.position, session.settings(), [c.state_dict() for c in callbacks]))


@pytest.fixture
def sizes(monkeypatch):
    """How many epochs were judged together, time after time, and how many of them there were to be."""
    found = []
    several = judging.Judging.several

    def seen(self, epoch, values, weights):
        count = several(self, epoch, values, weights)
        found.append((len(values("loss")), count))
        return count

    monkeypatch.setattr(judging.Judging, "several", seen)
    return found


def watchers(folder, **options):
    return [EarlyStopping(**{"restore_best_weights": True, **options}), Checkpoint(folder, "best", "val_accuracy")]


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 6}, {"patience": 2, "monitor": "loss"}, {"monitor": "val_roc_auc", "start_from_epoch": 5},
        {"stop_at": [7, 24, 60]}, {"patience": 90, "monitor": "accuracy", "ties": True},
    ],
)  # fmt: skip
def test_epochs_judged_together_come_to_the_same(tmp_path, monkeypatch, sizes, options):
    with stretches_of(LONGEST):  # whatever the clock says
        together, its = make(), watchers(tmp_path / "a", **options)
        fit(together, its)
        assert max(size for size, _ in sizes) > 2
        monkeypatch.setattr(judging, "TOGETHER", 1)
        sizes.clear()
        alone, own = make(), watchers(tmp_path / "b", **options)
        fit(alone, own)
        assert not sizes
        assert everything(together, its) == everything(alone, own)
        for trainer, callbacks in ((together, its), (alone, own)):
            fit(trainer, callbacks, 90, resume=True)
        assert everything(together, its) == everything(alone, own)


class Counting(nn.Module):
    """Fails in its fifty-first step of training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", cr.zeros(1, dtype=cr.int64))
        self.register_buffer("table", cr.ones(50))

    def forward(self, x):
        if self.training:
            with cr.no_grad():
                factor = self.table[self.steps]
                self.steps += 1
            return x * factor
        return x


class Ending(EarlyStopping):
    """Ends after `patience` epochs beyond the first, which it does not tell."""

    def __init__(self, patience, **options):
        super().__init__("loss", patience=patience, mode="max", min_delta=10, **options)

    def certain(self, epoch):
        return 1


def test_what_fails_after_the_end_is_as_if_it_had_not_been(monkeypatch, sizes):
    """Epochs of three steps: that of the failure is the seventeenth."""
    monkeypatch.setattr(judging, "TRIED", 1)
    trainer = make(Counting)
    fit(trainer, [EarlyStopping("loss", patience=15, mode="max", min_delta=10)])
    assert trainer.history.epochs == 16
    trainer = make(Counting)
    fit(trainer, [Ending(15)])
    assert trainer.history.epochs == 16
    assert trainer.model[2].steps.item() == 48
    trainer = make(Counting)
    with pytest.raises(IndexError):
        fit(trainer, [Ending(17)])


def test_an_end_among_epochs_that_were_tried_takes_the_others_back(monkeypatch, sizes):
    tried, alone, its, own = make(), make(), [Ending(19)], [Ending(19)]
    with stretches_of(LONGEST):
        fit(tried, its)
    assert tried.history.epochs == 20
    assert sizes == [(2, 2), (4, 4), (8, 8), (16, 4)]
    monkeypatch.setattr(judging, "TOGETHER", 1)
    fit(alone, own)
    assert everything(tried, its) == everything(alone, own)


def test_who_judges_with_code_of_their_own_judges_each_epoch_at_its_end(sizes):
    seen = []

    class Own(EarlyStopping):
        def judge(self, epoch, value, weights):
            super().judge(epoch, value, weights)
            seen.append((epoch, trainer.model[0].weight.detach().numpy().copy(), weights().arrays["model.0.weight"]))

    trainer = make()
    fit(trainer, [Own(patience=100)], 12)
    assert not sizes
    assert [epoch for epoch, _, _ in seen] == list(range(1, 13))
    assert all(np.array_equal(now, kept) for _, now, kept in seen)
    assert len({now.tobytes() for _, now, _ in seen}) == 12


def test_weights_of_many_bytes_are_copied_where_an_epoch_is_better(monkeypatch, sizes):
    monkeypatch.setattr(judging, "ROOM", 1000)
    with stretches_of(LONGEST):
        fit(make(), [EarlyStopping(patience=50, restore_best_weights=True)], 10)
        assert not sizes
        fit(make(), [EarlyStopping(patience=50)], 10)
        assert sizes


def test_copies_of_native_code():
    total = cr.tensor([1.0, 2.0])

    @cr.compile
    def double(x):
        total.mul_(2 * x)
        return total.sum()

    loop = double.begin(cr.ones(6))
    value = total._node._value
    copies = Copies(loop.copying, [(value.ctypes.data, value.nbytes)], 2)
    turns = Turns([loop, copies], [0, 1, 0, 1, 0, 1], [1] * 6)
    turns.advance(2)
    assert copies.pieces(0, [value])[0].tolist() == [2, 4]
    turns.mark()
    turns.advance(4)
    assert [copies.pieces(i, [value])[0].tolist() for i in range(2)] == [[4, 8], [8, 16]]
    turns.back()
    assert total._node._value.tolist() == [2, 4]
    assert loop.left == 5
    turns.advance(2)
    assert total._node._value.tolist() == [4, 8]
    with pytest.raises(SettingError) as caught:
        Turns([loop, copies], [0, 1, 1, 1], [1] * 4).advance(4)
    assert str(caught.value) == "copies: there is room for 2, got 3. Take fewer turns at once."
