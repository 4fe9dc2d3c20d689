"""Remedies: what an experiment changes in a run, declared as values so that they can be named and combined."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Remedy:
    """A set of changes to a run; the empty one is the run as it is. ``a | b`` makes both changes.

    Attributes:
        lr: the learning rate, times this.
        rate: this learning rate wherever it is 0; 0: as the run has it.
        batch: rows a step, the passes over the data unchanged.
        init: weights drawn anew (He et al. 2015 for rectifiers, Glorot and Bengio 2010 else), biases 0.
        inputs: each feature with mean 0 and standard deviation 1 over the training rows.
        targets: likewise each target value.
        activation: every ReLU, Sigmoid and Tanh replaced by this one, the weights drawn anew to fit it.
        bare: the activation at the output left out.
        loss: "log_softmax" (put before the loss), "of_probabilities" (the outputs taken as probabilities),
            "cross_entropy" (in place of the loss).
        dropout: this p in every Dropout.
        clip: gradients scaled down to this norm, infinity for not at all; 0: as the run has it.
        balance: every class drawn equally often.
        decay: this weight decay.
        stop: only this share of the steps, or so many times as many.
        clean: rows whose labels look wrong left out.
        permute: targets shuffled among the rows (a control, not a remedy).
        thaw: every parameter given to the optimizer.
    """

    lr: float = 1.0
    rate: float = 0.0
    batch: int = 0
    init: bool = False
    inputs: bool = False
    targets: bool = False
    activation: str = ""
    bare: bool = False
    loss: str = ""
    dropout: float = -1.0
    clip: float = 0.0
    balance: bool = False
    decay: float = -1.0
    stop: float = 1.0
    clean: bool = False
    permute: bool = False
    thaw: bool = False

    def __or__(self, other: Remedy) -> Remedy:
        merged: dict[str, Any] = {}
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            merged[f.name] = mine if theirs == f.default else theirs
        merged["lr"] = self.lr * other.lr
        return Remedy(**merged)

    @property
    def structure(self) -> tuple[Any, ...]:
        """What needs another compiled program; everything else changes values only."""
        return (self.activation, self.bare, self.loss, self.dropout, self.clip, self.decay, self.thaw)

    @property
    def size(self) -> int:
        """How many things it changes."""
        return sum(getattr(self, f.name) != f.default for f in fields(self))

    def words(self, rate: float | None = None) -> str:
        """The changes in words; with the run's learning rate, the new one too."""
        words = []
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "lr" and value != f.default and rate is not None:
                words.append(f"learning rate {rate * value:.3g} instead of {rate:.3g}")
            elif f.name == "clip" and value == math.inf:
                words.append("gradients not clipped")
            elif f.name == "stop" and value > 1:
                words.append(f"{value:g} times as many steps")
            elif value != f.default:
                words.append(_WORDS[f.name].format(_LOSS_WORDS.get(value, value)))
        return ", ".join(words) or "nothing changed"

    def __str__(self) -> str:
        return self.words()


_LOSS_WORDS = {
    "log_softmax": "log-softmax put before it",
    "of_probabilities": "the outputs taken as the probabilities they are",
    "cross_entropy": "cross-entropy of the outputs as logits",
}
_WORDS = {
    "lr": "learning rate times {:g}",
    "rate": "learning rate {:.3g} wherever it is 0",
    "batch": "batches of {} rows",
    "init": "weights drawn anew (He / Glorot), biases 0",
    "inputs": "inputs standardised",
    "targets": "targets standardised",
    "activation": "activations replaced by {}, weights drawn anew",
    "bare": "no activation at the output",
    "loss": "the loss: {}",
    "dropout": "dropout {:g}",
    "clip": "gradients clipped to norm {:g}",
    "balance": "classes drawn equally often",
    "decay": "weight decay {:g}",
    "stop": "stopped after {:.0%} of the steps",
    "clean": "rows with suspicious labels left out",
    "permute": "a control: targets shuffled once more",
    "thaw": "every parameter given to the optimizer",
}
