"""Small recorded trainings that the tests of the report look at."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import Any

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
