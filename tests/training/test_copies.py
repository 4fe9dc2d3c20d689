"""A fitted trainer is pickled and copied, and the copy trains on by itself with the same bits."""

import copy
import pickle

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
def test_a_copy_of_a_fitted_trainer_goes_on_alone(again):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.01))
    trainer.fit(X, y, epochs=2, batch_size=16, progress=False)
    made = again(trainer)
    before = trainer.predict(X)
    assert made.predict(X).tobytes() == before.tobytes()
    made.fit(X, y, epochs=2, batch_size=16, progress=False)
    assert trainer.predict(X).tobytes() == before.tobytes()
    assert made.predict(X).tobytes() != before.tobytes()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))])
def test_a_copy_that_a_callback_takes_goes_on_as_the_training_would(again):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 2))
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.01), metrics=["accuracy"])
    taken = []
    trainer.fit(
        X, y, epochs=4, batch_size=16, validation_split=0.25, progress=False,
        callbacks=lambda trainer, epoch, measured: taken.append(again(trainer)),
    )  # fmt: skip
    for epoch, made in enumerate(taken, 1):
        assert made.history.epochs == epoch
        made.fit(X, y, epochs=4, batch_size=16, validation_split=0.25, resume=True, progress=False)
        assert made.predict(X).tobytes() == trainer.predict(X).tobytes()
        assert made.history["val_loss"] == trainer.history["val_loss"]
