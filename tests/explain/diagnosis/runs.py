"""Small runs, healthy and faulty, for the tests of the diagnosis."""

from __future__ import annotations

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

rng = np.random.default_rng(5)
CENTRES = rng.normal(0, 1.3, (3, 4))
labels = rng.integers(0, 3, 360)
points = (CENTRES[labels] + rng.normal(0, 0.5, (360, 4))).astype(np.float32)
X, y, X_val, y_val = points[:240], labels[:240], points[240:], labels[240:]


def network(*between, width=16):
    """4 - width - 3, and what comes behind."""
    cr.manual_seed(1)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3), *between)


def trained(
    model=None, loss=F.cross_entropy, lr=0.01, data=(X, y), epochs=8, validation=(X_val, y_val), output=None,
    optimizer=optim.Adam, max_norm=None, **settings
):  # fmt: skip
    """A trainer after `fit`."""
    model = network() if model is None else model
    made = optimizer(model.parameters(), lr=lr, **settings)
    trainer = cr.Trainer(model, loss, made, max_norm=max_norm, output=output)
    trainer.fit(*data, epochs=epochs, batch_size=16, validation_data=validation, seed=3, progress=False)
    return trainer


def bits(trainer):
    """Everything a step may change, as bytes."""
    return [handle._node.value.tobytes() for handle in trainer.session.handles()]
