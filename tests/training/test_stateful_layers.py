"""Layers that look up, normalise and keep statistics, in a whole training: record, resume, replay, verify, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn

RNG = np.random.default_rng(0)
X = RNG.integers(0, 7, size=(60, 2))
Y = X.sum(1) % 3


class Table(nn.Module):
    """Two categories a row."""

    def __init__(self) -> None:
        super().__init__()
        self.category = nn.Embedding(7, 4, padding_idx=0)
        self.hidden = nn.Linear(8, 12)
        self.batch = nn.BatchNorm1d(12)
        self.act = nn.Mish()
        self.layer = nn.LayerNorm(12)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(12, 3)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        h = self.act(self.batch(self.hidden(self.category(x).flatten(1))))
        return self.out(self.drop(self.layer(h)))


def trainer() -> cr.Trainer:
    cr.manual_seed(0)
    model = Table()
    return cr.Trainer(model, F.cross_entropy, cr.optim.Adam(model.parameters(), lr=0.02), metrics=["accuracy"])


def fit(made: cr.Trainer, epochs: int, **more: Any) -> cr.Trainer:
    made.fit(X, Y, **{"epochs": epochs, "batch_size": 16, "progress": False, "seed": 1, **more})
    return made


def state(made: cr.Trainer) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in made.model.state_dict().items()}


def test_it_learns_and_counts_its_batches() -> None:
    made = fit(trainer(), 30, validation_data=(X, Y))
    assert made.model.batch.num_batches_tracked.item() == 30 * 4
    assert not made.model.category.weight[0].detach().numpy().any()
    assert made.history["accuracy"][-1] > 0.85
    assert made.history["val_accuracy"][-1] > 0.85


def test_saved_and_resumed_it_has_the_same_bits(tmp_path: Path) -> None:
    whole = state(fit(trainer(), 6))
    first = fit(trainer(), 3)
    first.save(tmp_path / "half")
    fresh = trainer()
    fresh.load(tmp_path / "half")
    assert state(fit(fresh, 6, resume=True)) == whole


def test_a_recorded_step_is_brought_back_with_its_statistics_and_explained() -> None:
    made = fit(trainer(), 3, record=True)
    moment = made.run.at(5)
    assert moment.proved
    assert moment.weights["batch.num_batches_tracked"] == 5
    assert moment.after["batch.num_batches_tracked"] == 6
    assert (moment.weights["batch.running_mean"] != moment.after["batch.running_mean"]).any()
    for address in ("category.weight[3, 1]", "batch.weight[2]", "layer.bias[0]", "hidden.weight[1, 1]"):
        found = made.run.explain(address, step=5)
        assert found.adds_up, address
        assert str(found)
    assert made.run.explain("category.weight[0, 1]", step=5).gradient == 0


@pytest.mark.parametrize("training", [True, False])
def test_it_verifies_and_stays_as_it_was(training: bool) -> None:
    made = fit(trainer(), 2)
    made.model.train(training)
    before = state(made)
    found = made.model.verify(X, Y)
    assert found, str(found)
    assert state(made) == before
