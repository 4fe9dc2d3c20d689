"""Small trainings that the tests of `explain` record and look back at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

rng = np.random.default_rng(3)
X = rng.standard_normal((70, 5)).astype(np.float32)
y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)

Optimizer = Callable[[Any], optim.Optimizer]
adam: Optimizer = partial(optim.Adam, lr=0.01)


def network(sizes: tuple[int, ...] = (5, 8, 2), dropout: float = 0.0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers, nn.Linear(*sizes[-2:]))


def trainer(
    sizes: tuple[int, ...] = (5, 8, 2), optimizer: Optimizer = adam, dropout: float = 0.0, **options: Any
) -> cr.Trainer:
    cr.manual_seed(0)
    model = network(sizes, dropout)
    return cr.Trainer(model, F.cross_entropy, optimizer(model.parameters()), **options)


def fit(trainer: cr.Trainer, epochs: int = 4, **options: Any) -> Any:
    options = {"batch_size": 16, "record": True, **options}
    trainer.fit(X, y, epochs=epochs, progress=False, **options)
    return trainer.run if options["record"] else None


def bits(arrays: dict[str, Any]) -> dict[str, bytes]:
    return {name: np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}


def weights(trainer: cr.Trainer) -> dict[str, Any]:
    return {name: p.detach().numpy() for name, p in trainer.model.named_parameters()}
