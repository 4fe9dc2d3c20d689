"""The faults that are put into a run, and the names of rules that count as the right cause of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Data
from specs import Spec

import chainrule as cr
from chainrule import nn


@dataclass(frozen=True)
class Fault:
    """A fault, and who it can befall.

    Attributes:
        inject: ``inject(spec, draw)`` gives the faulty spec; ``draw(*choices)`` picks one by the seed.
        causes: the names of rules that are right about it.
        applies: ``applies(spec, classes)``, whether the case can have it.
        without: the faulty spec without the fault but with its rows, where the case without any change has others.
    """

    inject: Callable[[Spec, Callable[..., Any]], Spec]
    causes: tuple[str, ...]
    applies: Callable[[Spec, bool], bool] = lambda spec, classes: True
    without: Callable[[Spec], Spec] | None = None


def _set(parameter: Any, value: Any) -> None:
    with cr.no_grad():
        parameter.copy_(cr.tensor(np.asarray(value, np.float32)))


def scaled(factor: float, only: str = "") -> Callable[[nn.Module, Any], None]:
    """Weights (of layers whose name contains `only`) times a factor."""

    def change(model: nn.Module, rng: Any) -> None:
        for name, p in model.named_parameters():
            if (p.ndim == 2 and only in name) or factor < 1:
                _set(p, p.detach().numpy() * factor)

    return change


def constant(value: float) -> Callable[[nn.Module, Any], None]:
    def change(model: nn.Module, rng: Any) -> None:
        for p in model.parameters():
            _set(p, np.full(p.shape, value if p.ndim == 2 else 0.0))

    return change


def biased(size: float, signs: bool) -> Callable[[nn.Module, Any], None]:
    """Hidden biases far from 0, of one sign or of both."""

    def change(model: nn.Module, rng: Any) -> None:
        vectors = [p for p in model.parameters() if p.ndim == 1]
        for p in vectors[:-1]:
            _set(p, np.where(rng.random(p.shape) < 0.5, size, -size) if signs else np.full(p.shape, size))

    return change


def inputs(kind: str) -> Callable[[Data, Any], None]:
    def change(data: Data, rng: Any) -> None:
        features = data.x.shape[1]
        scale, shift = {
            "times 100": (100.0, 0.0), "times 1000": (1000.0, 0.0), "offset": (1.0, 60.0), "tiny": (1e-3, 0.0),
            "unequal": (10 ** rng.uniform(-2, 3, features), 0.0),
        }[kind]  # fmt: skip
        data.each("x", lambda x: x * scale + shift)

    return change


def targets(scale: float, shift: float) -> Callable[[Data, Any], None]:
    def change(data: Data, rng: Any) -> None:
        data.each("y", lambda y: y * scale + shift)

    return change


def wrong_labels(share: float) -> Callable[[Data, Any], None]:
    """This share of the labels drawn at random, of training and validation rows; 1 shuffles them."""

    def change(data: Data, rng: Any) -> None:
        for name in ("y", "y_val"):
            y = getattr(data, name).copy()
            chosen = rng.permutation(len(y))[: round(share * len(y))]
            y[chosen] = rng.permutation(y) if share == 1 else rng.integers(0, data.classes, len(chosen))
            setattr(data, name, y)

    return change


def rare(share: float) -> Callable[[Data, Any], None]:
    """All classes but one keep this share of their rows, in training and validation."""

    def change(data: Data, rng: Any) -> None:
        for x, y, least in (("x", "y", 3), ("x_val", "y_val", 5)):
            labels = getattr(data, y)
            keep = np.zeros(len(labels), bool)
            for k in range(data.classes):
                rows = np.flatnonzero(labels == k)
                keep[rows if k == 0 else rows[: max(least, round(share * len(rows)))]] = True
            setattr(data, x, getattr(data, x)[keep])
            setattr(data, y, labels[keep])

    return change


def balanced(data: Data, rng: Any) -> None:
    """As many training rows as before, those of rare classes repeated until all are equally frequent."""
    most = np.bincount(data.y).max()
    rows = np.concatenate([np.resize(np.flatnonzero(data.y == k), most) for k in range(data.classes)])
    rows = rng.permutation(rows)[: len(data.y)]
    data.x, data.y = data.x[rows], data.y[rows]


def few(rows: int) -> Callable[[Data, Any], None]:
    def change(data: Data, rng: Any) -> None:
        data.x, data.y = data.x[:rows], data.y[:rows]

    return change


def noisy(size: float) -> Callable[[Data, Any], None]:
    """Inputs with noise, so that classes overlap and values cannot be met exactly."""

    def change(data: Data, rng: Any) -> None:
        deviation = size * data.x.std()
        data.each("x", lambda x: x + rng.normal(0, deviation, x.shape))

    return change


def _mlp(spec: Spec, classes: bool) -> bool:
    return spec.family == "mlp"


def _classes(spec: Spec, classes: bool) -> bool:
    return classes


def _values(spec: Spec, classes: bool) -> bool:
    return not classes


FAULTS = {
    "lr_high": Fault(lambda s, d: s.but(lr=s.lr * d(30, 100, 300)), ("learning_rate_too_high",)),
    "lr_low": Fault(lambda s, d: s.but(lr=s.lr * d(1e-3, 3e-3, 1e-2)), ("learning_rate_too_low",)),
    "init_large": Fault(lambda s, d: s.but(model=(scaled(d(8, 12, 20)),)), ("initialisation_too_large",)),
    "init_small": Fault(lambda s, d: s.but(model=(scaled(d(1e-3, 1e-4, 1e-5)),)), ("initialisation_too_small",)),
    "init_constant": Fault(lambda s, d: s.but(model=(constant(d(0.0, 0.1, 0.5)),)), ("symmetric_initialisation",)),
    "vanishing": Fault(lambda s, d: s.but(act="sigmoid", depth=d(6, 7, 8)), ("vanishing_gradients",), _mlp),
    "exploding": Fault(
        lambda s, d: s.but(depth=10, model=(scaled(d(6, 7, 8)),)) if s.family == "mlp"
        else s.but(act="relu", model=(scaled(d(6, 8, 10), "around"),)),
        ("exploding_gradients", "initialisation_too_large"),
        lambda s, classes: s.family in ("mlp", "recurrent"),
    ),
    "dead_relu": Fault(
        lambda s, d: s.but(act="relu", model=(biased(d(-4.0, -6.0, -10.0), False),)), ("dead_units",),
        lambda s, classes: s.family in ("mlp", "cnn"),
    ),
    "saturation": Fault(
        lambda s, d: s.but(act=d("tanh", "sigmoid", "tanh"), model=(biased(d(12.0, 15.0, 20.0), True),)), ("saturation",),
        lambda s, classes: s.family != "attention",
    ),
    "inputs": Fault(
        lambda s, d: s.but(data=(inputs(d("times 100", "unequal", "offset", "tiny", "times 1000")),)), ("unnormalised_inputs",)
    ),
    "targets": Fault(
        lambda s, d: s.but(data=(targets(*d((1000.0, 0.0), (1.0, 300.0), (200.0, 5000.0))),)), ("unnormalised_targets",), _values
    ),
    "shuffled_labels": Fault(lambda s, d: s.but(data=(wrong_labels(1.0),)), ("shuffled_labels",), _classes),
    "label_noise": Fault(lambda s, d: s.but(epochs=3 * s.epochs, data=(wrong_labels(d(0.35, 0.45, 0.55)),)), ("label_noise",), _classes),
    "imbalance": Fault(
        lambda s, d: s.but(data=(rare(d(0.03, 0.04, 0.05)),)), ("class_imbalance",), _classes,
        lambda s: s.but(data=(*s.data, balanced)),
    ),
    "doubled_softmax": Fault(lambda s, d: s.but(output=d("softmax", "F.softmax")), ("doubled_softmax",), _classes),
    "missing_softmax": Fault(lambda s, d: s.but(loss="nll"), ("missing_softmax",), _classes),
    "squashed_output": Fault(lambda s, d: s.but(output=d("relu", "sigmoid", "tanh")), ("squashed_output",)),
    "wrong_loss": Fault(lambda s, d: s.but(loss="l1", one_hot=True), ("wrong_loss",), _classes),
    "overfitting": Fault(
        lambda s, d: s.but(epochs=60 * s.epochs, batch=16, data=(noisy(0.6), few(d(40, 50, 60)))), ("overfitting",)
    ),
    "dropout": Fault(lambda s, d: s.but(dropout=d(0.93, 0.96, 0.98)), ("train_eval_difference",)),
    "batch_size": Fault(lambda s, d: s.but(batch=10**6), ("bad_batch_size",)),
    "frozen": Fault(lambda s, d: s.but(trained=d("vectors", "last")), ("frozen_parameters",)),
    "decay": Fault(lambda s, d: s.but(decay=d(0.3, 1.0, 3.0)), ("regularisation_too_strong",)),
}  # fmt: skip
