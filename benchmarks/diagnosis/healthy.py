"""Healthy runs, ordinary and unusual: none of them may raise an alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from datasets import Data
from faults import biased, few, noisy, rare, scaled, wrong_labels
from specs import Spec

from chainrule import nn
from chainrule.nn import init


def he(model: nn.Module, rng: Any) -> None:
    for p in model.parameters():
        if p.ndim == 2:
            init.kaiming_normal_(p, nonlinearity="relu")


def shifted(scale: float, shift: float) -> Callable[[Data, Any], None]:
    def change(data: Data, rng: Any) -> None:
        data.each("x", lambda x: x * scale + shift)

    return change


def _any(spec: Spec, classes: bool) -> bool:
    return True


def _classes(spec: Spec, classes: bool) -> bool:
    return classes


def _mlp(spec: Spec, classes: bool) -> bool:
    return spec.family == "mlp"


HEALTHY: dict[str, tuple[Callable[[Spec], Spec], Callable[[Spec, bool], bool]]] = {
    "plain": (lambda s: s, _any),
    "sgd_momentum": (lambda s: s.but(optimizer="sgd", lr=0.05, momentum=0.9, epochs=2 * s.epochs), _any),
    "rmsprop": (lambda s: s.but(optimizer="rmsprop", lr=s.lr / 2), _any),
    "adamw": (lambda s: s.but(optimizer="adamw", decay=0.01), _any),
    "high_lr": (lambda s: s.but(lr=4 * s.lr), _any),
    "low_lr_long": (lambda s: s.but(lr=s.lr / 3, epochs=4 * s.epochs), _any),
    "tiny_data": (lambda s: s.but(epochs=5 * s.epochs, batch=16, data=(few(150),)), _any),
    "large_batch": (lambda s: s.but(batch=256, lr=2 * s.lr, epochs=5 * s.epochs), _any),
    "small_batch": (lambda s: s.but(batch=8, lr=s.lr / 2, epochs=max(5, s.epochs // 2)), _any),
    "wide": (lambda s: s.but(width=2 * s.width), _any),
    "deep_narrow_tanh": (lambda s: s.but(depth=5, width=16, act="tanh", epochs=3 * s.epochs), _mlp),
    "sparse_relu": (lambda s: s.but(act="relu", model=(he, biased(-0.4, False)), epochs=2 * s.epochs), _any),
    "weight_decay": (lambda s: s.but(decay=1e-3), _any),
    "mild_dropout": (lambda s: s.but(dropout=0.3, epochs=2 * s.epochs), _any),
    "imbalanced": (lambda s: s.but(data=(rare(0.35),), epochs=3 * s.epochs), _classes),
    "label_smoothing": (lambda s: s.but(smoothing=0.1), _classes),
    "gelu": (lambda s: s.but(act="gelu"), _any),
    "tanh": (lambda s: s.but(act="tanh"), _any),
    "he_init": (lambda s: s.but(model=(he,)), _any),
    "larger_init": (lambda s: s.but(model=(scaled(2.0),)), _any),
    "shifted_inputs": (lambda s: s.but(data=(shifted(2.0, 1.0),), epochs=2 * s.epochs), _any),
    "noisy_inputs": (lambda s: s.but(data=(noisy(0.3),)), _any),
    "few_wrong_labels": (lambda s: s.but(data=(wrong_labels(0.03),)), _classes),
    "no_validation": (lambda s: s.but(validated=False), _any),
    "cosine": (lambda s: s.but(cosine=True), _any),
    "squared_error_of_classes": (lambda s: s.but(loss="mse", one_hot=True, epochs=2 * s.epochs), _classes),
}
