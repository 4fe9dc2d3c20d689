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
