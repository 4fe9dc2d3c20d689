"""fit(drop_last=): an epoch without its short last batch; and batches of one row that are too few for a layer."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DataError, SettingError
from chainrule.training import Callback, Trainer
from chainrule.training.position import Position

rng = np.random.default_rng(0)
X = rng.standard_normal((103, 6)).astype(np.float32)
y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def make(normal: bool = False) -> Trainer:
    cr.manual_seed(0)
    between: list[nn.Module] = [nn.BatchNorm1d(16)] if normal else []
    model = nn.Sequential(nn.Linear(6, 16), *between, nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    return Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.01), ["accuracy", "f1_macro"])


def fit(trainer: Trainer, epochs: int = 4, rows: int = 103, **options: Any) -> Trainer:
    trainer.fit(X[:rows], y[:rows], epochs, **{"batch_size": 16, "progress": False, **options})
    return trainer


def bits(trainer: Trainer) -> bytes:
    return b"".join(handle._node.value.tobytes() for handle in trainer.session.handles())


def measured(trainer: Trainer) -> dict[str, list[float]]:
    return {name: column for name, column in trainer.history.items() if name != "seconds"}


def test_rows_in_order_are_those_before_the_short_batch() -> None:
    dropped = fit(make(), shuffle=False, drop_last=True)
    fewer = fit(make(), rows=96, shuffle=False)
    assert bits(dropped) == bits(fewer)
    assert measured(dropped) == measured(fewer)
    assert dropped.history.steps == 4 * 6


def test_every_epoch_is_as_long_as_that_of_pytorchs_loader() -> None:
    loader = torch.utils.data.DataLoader
    for rows, size in ((103, 16), (96, 16), (16, 16), (17, 16), (5, 2)):
        for drop_last in (False, True):
            position = Position(rows, size, 0, True, drop_last=drop_last)
            batches = list(loader(range(rows), size, drop_last=drop_last))
            assert position.steps == len(batches)
            assert position.batching.visited == sum(map(len, batches))


def test_the_rows_of_an_epoch_are_the_first_of_its_order() -> None:
    trainer = make()
    model, optimizer = trainer.model, trainer.optimizer
    model[2].p = 0.0
    for epoch in range(2):
        for batch in cr.data.shuffled_indices(103, 7, epoch)[:96].reshape(6, 16):
            optimizer.zero_grad()
            F.cross_entropy(model(cr.tensor(X[batch])), cr.tensor(y[batch])).backward()
            optimizer.step()
    compiled = make()
    compiled.model[2].p = 0.0
    fit(compiled, 2, seed=7, drop_last=True)
    for ours, theirs in zip(compiled.model.parameters(), model.parameters(), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=2e-5, atol=2e-6)


class Interrupting(Callback):
    """Ctrl-C after so many steps, at the first pause."""

    def on_steps(self, trainer: Trainer, step: int, loss: float) -> None:
        if 0 < step < 6:
            signal.raise_signal(signal.SIGINT)


def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = fit(make(), drop_last=True)
    stopped = fit(make(), drop_last=True, callbacks=Interrupting())
    assert stopped.history.interrupted and stopped.position is not None
    assert 0 < stopped.position.step < 6
    stopped.save(tmp_path / "stopped")
    resumed = make()
    resumed.load(tmp_path / "stopped")
    fit(resumed, drop_last=True, resume=True)
    assert bits(resumed) == bits(whole)
    assert measured(resumed) == measured(whole)


def test_it_must_be_as_it_was_to_go_on(tmp_path: Path) -> None:
    fit(make(), 1, drop_last=True, checkpoint=tmp_path)
    text = (
        f"fit: checkpoint={str(tmp_path)!r} goes on exactly, so drop_last must be as before (True), got False. "
        f"Use the same data and arguments, or name a new folder."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        fit(make(), 2, checkpoint=tmp_path)
    assert bits(fit(make(), 2, checkpoint=tmp_path, drop_last=True)) == bits(fit(make(), 2, drop_last=True))


def test_a_record_is_replayed() -> None:
    trainer = fit(make(), drop_last=True, record=True)
    run = trainer.run
    assert len(run) == 24
    for step in (0, 5, 6, 23):
        assert run.at(step).proved
    assert run.what_if(6, steps=4, lr=0.1) is not None
    assert "<html" in trainer.report().html


def test_a_diagnosis_replays_epochs_of_the_same_length() -> None:
    trainer = fit(make(), 6, drop_last=True, validation_data=(X, y))
    found = trainer.diagnose()
    assert found is not None


def test_a_batch_is_no_larger_than_the_rows() -> None:
    text = (
        "fit: drop_last=True leaves out a batch with fewer than batch_size rows, which leaves none of 103 rows with "
        "batch_size=104. Choose a batch_size of at most 103, or leave drop_last out."
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        fit(make(), batch_size=104, drop_last=True)
    assert fit(make(), 1, batch_size=103, drop_last=True).history.steps == 1


def test_it_is_true_or_false() -> None:
    with pytest.raises(SettingError, match=r"^fit: drop_last must be True or False, got 1\.$"):
        fit(make(), drop_last=1)


def test_rows_held_out_are_not_counted() -> None:
    assert fit(make(), 2, validation_split=0.2, drop_last=True).history.steps == 2 * 5  # of 82 rows


# ---------------------------------------------------------------- batches of one row


def test_a_batch_of_one_row_is_refused_before_the_first_step_where_a_layer_needs_more() -> None:
    trainer = make(normal=True)
    before = bits(trainer)
    text = (
        "fit: 97 rows in batches of 16 leave one row for the last, which is too few for the model: leave it out with "
        "drop_last=True, or choose another batch_size. batch_norm in layer 'Sequential.1' ("
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}"):
        fit(trainer, rows=97)
    assert bits(trainer) == before
    assert trainer.position is None and len(trainer.history) == 0
    assert fit(trainer, 2, rows=97, drop_last=True).history.steps == 12
    assert fit(make(normal=True), 2, rows=97, batch_size=15).history.steps == 14
    assert fit(make(normal=True), 2, rows=98).history.steps == 14


def test_batches_of_one_row_each() -> None:
    text = "fit: every batch has one row, which is too few for the model: choose a batch_size of 2 or more. batch_norm"
    with pytest.raises(DataError, match=f"^{re.escape(text)}"):
        fit(make(normal=True), batch_size=1, drop_last=True)
    with pytest.raises(DataError, match="^fit: every batch has one row"):
        fit(make(normal=True), rows=1)


def test_one_row_does_where_no_layer_needs_more(tmp_path: Path) -> None:
    assert fit(make(), 2, rows=97).history.steps == 14
    assert fit(make(), 2, rows=1).history.steps == 2


def test_the_look_at_one_row_leaves_nothing_behind() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 2)
            self.register_buffer("calls", cr.zeros(()))

        def forward(self, x: cr.Tensor) -> Any:
            if self.training:
                self.calls.add_(1)
            return self.inner(x)

    model = Counting()
    trainer = Trainer(model, F.cross_entropy, "adam")
    fit(trainer, 2, rows=97)
    assert model.calls.item() == 14


def test_a_sweep_takes_it_for_each_training() -> None:
    found = cr.sweep(make, {"drop_last": [False, True]}, X, y, epochs=2, batch_size=16)
    assert [history.steps for history in found.histories if history is not None] == [14, 12]
