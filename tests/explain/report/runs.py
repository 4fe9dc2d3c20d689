"""Small recorded trainings that the tests of the report look at."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import Any

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

TITLE = "<script>alert(1)</script> & digits"
LAYER = "<img src=x onerror=alert(2)>"
CLASSES = [f"<b>{i}</b>" for i in range(10)]


@lru_cache(maxsize=1)
def digits() -> Any:
    """A digits network with dropout after 3 recorded epochs, and with names that would be markup."""
    cr.manual_seed(0)
    data = cr.data.load("digits")
    layers = OrderedDict(
        [(LAYER, nn.Linear(64, 16)), ("act", nn.ReLU()), ("drop", nn.Dropout(0.2)), ("out", nn.Linear(16, 10))]
    )
    model = nn.Sequential(layers)
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.01), ["accuracy"])
    trainer.fit(*data.train, epochs=3, batch_size=64, validation_data=data.test, progress=False, record=True)
    return trainer


def report(**options: Any) -> Any:
    """Its page."""
    given = {"title": TITLE, "class_names": CLASSES, "image_shape": (8, 8), "frames": 6, **options}
    return digits().report(**given)


# The loss, the layers behind the last Linear, its outputs, and the targets that this loss takes of two classes.
READINGS: dict[str, Any] = {
    "logits": (F.cross_entropy, [], 2, lambda y: y),
    "one_hot": (F.cross_entropy, [], 2, lambda y: np.eye(2, dtype=np.float32)[y]),
    "log_probabilities": (F.nll_loss, [nn.LogSoftmax(1)], 2, lambda y: y),
    "binary_logits": (F.binary_cross_entropy_with_logits, [], 1, lambda y: y[:, None]),
    "binary_probabilities": (nn.BCELoss(), [nn.Sigmoid()], 1, lambda y: y[:, None]),
    "values": (F.mse_loss, [], 1, lambda y: y[:, None]),
}


def reading(name: str) -> tuple[Any, Any, Any]:
    """A small training under the loss of `READINGS`, its rows, and the class of each."""
    loss, last, outputs, targets = READINGS[name]
    rng = np.random.default_rng(2)
    x = rng.normal(size=(80, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    cr.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, outputs), *last)
    trainer = cr.Trainer(model, loss, optim.Adam(model.parameters(), lr=0.1))
    pair = (x, targets(y))
    trainer.fit(*pair, epochs=8, batch_size=16, validation_data=pair, progress=False)
    return trainer, x, y
