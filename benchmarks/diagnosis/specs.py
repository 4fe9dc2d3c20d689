"""What a run of the benchmark is made of, and the run itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from datasets import DATASETS, Data
from models import build

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import NonFiniteError

DataChange = Callable[[Data, Any], None]
ModelChange = Callable[[nn.Module, Any], None]


@dataclass(frozen=True)
class Spec:
    """One training: a data set, a network, an optimizer, and what was changed about them."""

    dataset: str
    family: str  # mlp, cnn, recurrent, attention
    width: int
    kind: str = ""  # of the family, see `models`
    depth: int = 2
    act: str = "relu"
    optimizer: str = "adam"
    lr: float = 3e-3
    batch: int = 32
    epochs: int = 15
    dropout: float = 0.0
    decay: float = 0.0
    momentum: float = 0.0
    loss: str = ""  # cross_entropy or mse, unless named
    smoothing: float = 0.0
    output: str = ""  # an activation put behind the last layer
    trained: str = "all"  # or "vectors", "last"
    one_hot: bool = False
    validated: bool = True
    cosine: bool = False
    data: tuple[DataChange, ...] = ()
    model: tuple[ModelChange, ...] = ()

    def but(self, **changes: Any) -> Spec:
        return replace(self, **changes)


class Behind(nn.Module):
    """A network and a function of its output that is no layer of its own."""

    def __init__(self, network: nn.Module, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.network, self.function = network, function

    def forward(self, x: Any) -> Any:
        return self.function(self.network(x))


LOSSES = {
    "cross_entropy": F.cross_entropy, "nll": F.nll_loss, "mse": F.mse_loss, "l1": F.l1_loss,
}  # fmt: skip


def make(spec: Spec, seed: int) -> tuple[Any, Data]:
    """The trainer, not yet fitted, and its data."""
    rng = np.random.default_rng([seed, 77])
    data = DATASETS[spec.dataset](rng)
    for change in spec.data:
        change(data, rng)
    if spec.one_hot:  # the test rows keep their class numbers
        data.y, data.y_val = (np.eye(data.classes, dtype=np.float32)[y] for y in (data.y, data.y_val))
    cr.manual_seed(seed)
    outputs = data.classes or data.y.shape[1]
    model = build(spec.kind or spec.family, data.x.shape[1], outputs, spec.width, spec.depth, spec.act, spec.dropout)
    for change in spec.model:
        change(model, rng)
    model = _with_output(model, spec.output)
    loss = LOSSES[spec.loss or ("cross_entropy" if data.classes else "mse")]
    if spec.smoothing:
        loss = partial(loss, label_smoothing=spec.smoothing)
    settings = {"lr": spec.lr, "weight_decay": spec.decay} | ({"momentum": spec.momentum} if spec.momentum else {})
    parameters = list(model.parameters())
    chosen = {"all": parameters, "last": parameters[-2:], "vectors": [p for p in parameters if p.ndim == 1]}
    return cr.Trainer(model, loss, optim.by_name(spec.optimizer)(chosen[spec.trained], **settings)), data


def _with_output(model: nn.Module, name: str) -> nn.Module:
    if name == "F.softmax":
        return Behind(model, lambda z: z.softmax(1))
    layers = {"softmax": nn.Softmax(1), "relu": nn.ReLU(), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh()}
    return nn.Sequential(model, layers[name]) if name else model


def fit(trainer: Any, data: Data, spec: Spec, seed: int) -> list[Outcome]:
    """Train as a user would; what the test rows say on the way and at the end, or nothing if it stopped at infinity."""
    trace: list[Outcome] = []
    looks = {round(spec.epochs * 0.7**k) for k in range(12)}

    def look(trainer: Any, epoch: int, measured: Any) -> None:
        if epoch + 1 in looks or epoch + 1 == spec.epochs:
            trace.append(outcome(trainer, data))

    callbacks = [look]
    if spec.cosine:
        schedule = optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, T_max=spec.epochs)
        callbacks.append(lambda trainer, epoch, measured: schedule.step())
    try:
        trainer.fit(
            data.x, data.y, epochs=spec.epochs, batch_size=min(spec.batch, len(data.x)), seed=seed, progress=False,
            validation_data=(data.x_val, data.y_val) if spec.validated else None, callbacks=callbacks,
        )  # fmt: skip
    except NonFiniteError:
        return []
    return trace


@dataclass(frozen=True)
class Outcome:
    """How well a model does at one moment, by a yardstick of the benchmark's own.

    Attributes:
        right: on test rows, the accuracy above that of the most frequent class, as a share (R squared for values).
        likely: on test rows, the share of a constant's negative log likelihood that is saved (R squared for values).
        trained: `right` on the training rows with the targets that the run was given.
    """

    right: float
    likely: float
    trained: float

    @property
    def learned(self) -> float:
        """The mean of accuracy and likelihood on test rows."""
        return (self.right + self.likely) / 2


FAILED = Outcome(-1.0, -1.0, -1.0)


def outcome(trainer: Any, data: Data) -> Outcome:
    """The model as it is now; a loss of its own that is no cross-entropy of logits is judged by accuracy alone."""
    test, train = trainer.predict(data.x_test), trainer.predict(data.x)
    if not (np.isfinite(test).all() and np.isfinite(train).all()):
        return FAILED
    if not data.classes:
        share = _r2(test, data.y_test)
        return Outcome(share, share, _r2(train, data.y))
    one_hot = data.y.ndim > 1
    right = _right(test, data.y_test)
    trained = _right(train, data.y.argmax(1) if one_hot else data.y)
    return Outcome(right, right if one_hot else _likely(test, data.y_test), trained)


def _likely(logits: Any, labels: Any) -> float:
    z = logits.astype(np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p = np.maximum(p / p.sum(axis=1, keepdims=True), 1e-7)[np.arange(len(p)), labels]
    prior = np.bincount(labels) / len(labels)
    return max(-1.0, 1 - float(np.log(p).mean() / np.log(prior[labels]).mean()))


def _r2(output: Any, y: Any) -> float:
    error = ((output.astype(np.float64) - y) ** 2).mean(axis=0)
    return max(-1.0, float(1 - (error / y.var(axis=0)).mean()))


def _right(output: Any, labels: Any) -> float:
    constant = np.bincount(labels).max() / len(labels)
    return float(((output.argmax(axis=1) == labels).mean() - constant) / (1 - constant))
