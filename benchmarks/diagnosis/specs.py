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
    family: str
    width: int
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
    if spec.one_hot:
        data.y, data.y_val = (np.eye(data.classes, dtype=np.float32)[y] for y in (data.y, data.y_val))
    cr.manual_seed(seed)
    outputs = data.classes or data.y.shape[1]
    model = build(spec.family, data.x.shape[1], outputs, spec.width, spec.depth, spec.act, spec.dropout)
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


def fit(trainer: Any, data: Data, spec: Spec, seed: int) -> bool:
    """Train as a user would; False if it stopped at a value that is not finite."""
    callbacks = []
    if spec.cosine:
        schedule = optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, T_max=spec.epochs)
        callbacks = [lambda trainer, epoch, measured: schedule.step()]
    try:
        trainer.fit(
            data.x, data.y, epochs=spec.epochs, batch_size=min(spec.batch, len(data.x)), seed=seed, progress=False,
            validation_data=(data.x_val, data.y_val) if spec.validated else None, callbacks=callbacks,
        )  # fmt: skip
    except NonFiniteError:
        return False
    return True


@dataclass(frozen=True)
class Outcome:
    """How well a trained model does, by a yardstick of the benchmark's own: clean validation rows, and training loss.

    Attributes:
        held_out, trained: accuracy above that of the most frequent class, as a share; R squared for values.
        nll: the share of the constant's negative log likelihood that is saved (R squared for values), clean rows.
    """

    held_out: float
    trained: float
    nll: float


def outcome(trainer: Any, data: Data, finite: bool) -> Outcome:
    if not finite:
        return Outcome(-1.0, -1.0, -1.0)
    held_out, train = trainer.predict(data.x_val), trainer.predict(data.x)
    if not data.classes:
        scale = (np.abs(data.clean).max() > 0) and float(np.std(data.y_val) / np.std(data.clean))
        shift = float(data.y_val.mean() - scale * data.clean.mean())
        shares = [_r2(held_out, scale * data.clean + shift), _r2(train, data.y)]
        return Outcome(shares[0], shares[1], shares[0])
    train_labels = data.y.argmax(1) if data.y.ndim > 1 else data.y
    with np.errstate(all="ignore"):
        z = held_out.astype(np.float64)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p = np.maximum(p / p.sum(axis=1, keepdims=True), 1e-7)
        nll = float(-np.log(p[np.arange(len(p)), data.clean]).mean())
    prior = np.bincount(data.clean) / len(data.clean)
    if data.y.ndim > 1:  # the outputs are no logits
        return Outcome(_right(held_out, data.clean), _right(train, train_labels), _right(held_out, data.clean))
    return Outcome(
        _right(held_out, data.clean), _right(train, train_labels), max(-1.0, 1 + nll / (prior @ np.log(prior)))
    )


def _r2(output: Any, y: Any) -> float:
    return max(-1.0, float(1 - ((output.astype(np.float64) - y) ** 2).mean() / y.var()))


def _right(output: Any, labels: Any) -> float:
    constant = np.bincount(labels).max() / len(labels)
    return float(((output.argmax(axis=1) == labels).mean() - constant) / (1 - constant))
