"""What a run is to learn, and how much of it a set of outputs has learned, whatever loss it was trained with."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.errors import SettingError
from chainrule.nn import functional as F
from chainrule.nn.meaning import CLASSES, LOGITS, PROBABILITIES, VALUES, Meaning, name_of
from chainrule.training import inputs
from chainrule.training.metrics import told

Array = np.ndarray[Any, Any]
TINY = 1e-12

_LOSSES = {
    F.cross_entropy: "cross_entropy", F.nll_loss: "nll", F.binary_cross_entropy: "bce",
    F.binary_cross_entropy_with_logits: "bce_logits", F.mse_loss: "mse", F.l1_loss: "l1",
    F.smooth_l1_loss: "huber", F.huber_loss: "huber",
}  # fmt: skip
_MODULES = {
    "CrossEntropyLoss": "cross_entropy", "NLLLoss": "nll", "BCELoss": "bce", "BCEWithLogitsLoss": "bce_logits",
    "MSELoss": "mse", "L1Loss": "l1", "SmoothL1Loss": "huber", "HuberLoss": "huber",
}  # fmt: skip


def loss_name(loss: Any) -> str:
    """The plain name of a loss of this library; "other" for the user's own."""
    function = loss.func if isinstance(loss, functools.partial) else loss
    return _LOSSES.get(function) or _MODULES.get(type(function).__name__, "other")


@dataclass(frozen=True)
class Score:
    """How much was learned, as shares of what there is to learn: 1 all of it, 0 no more than a constant output.

    Attributes:
        loss: the share of the constant's loss that the outputs save (for values: R squared), at least -1.
        right: the share of the constant's mistakes that they avoid (for values: R squared again).
        recall: the same for the mean recall of the classes, which a constant has at 1/K.
        raw: what `loss` is a share of, in its own units (nats, or squared targets).
        accuracy: the share of right rows; NaN for values.
        recalled: the mean recall of the classes; NaN for values.
        own: the user's loss on these rows, in evaluation mode; NaN where a remedy took another one or other targets.
        by_row: what each row says of `learned`, `right` and `recall`, which are the means (at the bound each row says
            -1): two scores of the same rows are compared row by row, and the spread tells how far to trust that.
    """

    loss: float
    right: float
    recall: float
    raw: float
    accuracy: float
    recalled: float = np.nan
    own: float = np.nan
    by_row: dict[str, Array] = field(repr=False, compare=False, default_factory=dict)

    @property
    def learned(self) -> float:
        """The mean of `loss` and `right`: what effects are measured in."""
        return (self.loss + self.right) / 2

    def __str__(self) -> str:
        return self.text()

    def text(self, measure: str = "learned") -> str:
        """What a reader compares: the user's loss, accuracy (or R squared), and the mean recall where that is the measure."""
        values = np.isnan(self.accuracy)
        parts = [
            f"mean recall of the classes {self.recalled:.1%}" if measure == "recall" and not values else "",
            "" if np.isnan(self.own) else f"loss {self.own:.4g}",
            f"R squared {self.right:.3f}" if values else f"accuracy {self.accuracy:.1%}",
        ]
        return ", ".join(part for part in parts if part)

    def as_dict(self) -> dict[str, float | None]:
        names = ("loss", "right", "recall", "raw", "accuracy", "recalled", "own", "learned")
        values = {name: float(getattr(self, name)) for name in names}
        return {name: value if np.isfinite(value) else None for name, value in values.items()}


@dataclass(frozen=True)
class Task:
    """The kind of targets, and the loss they are trained with.

    Attributes:
        kind: "classes" (numbers), "binary" (0 and 1), "one_hot" (classes as rows of a unit matrix) or "values".
        loss: as `loss_name` gives it.
        classes: how many; 0 for values.
        output: what the outputs mean.
        by_row: a row has one class.
    """

    kind: str
    loss: str
    classes: int
    output: Meaning
    by_row: bool = True

    @classmethod
    def of(cls, loss: Any, meaning: Meaning | None, output_shape: tuple[int, ...], y: Array) -> Task:
        """The task of a run, from its loss, what its outputs mean and its targets.

        Raises:
            SettingError: it is not known what the outputs mean, or values and targets differ in shape.
        """
        outputs = (len(y), *output_shape[1:])
        if {outputs[1:], y.shape[1:]} == {(), (1,)} and inputs.broadcasts(loss, np.empty(outputs, np.float32), y):
            raise SettingError(
                f"diagnose: the loss {name_of(loss)} makes a square of {len(y)} x {len(y)} of outputs of shape {outputs} "
                f"and targets of shape {y.shape}: it compares every row with every other, and not with its own "
                f"target alone. Train on y.reshape{outputs}."
            )
        meaning, name = told(loss, meaning, "diagnose"), loss_name(loss)
        if meaning.over_classes:
            return cls("classes", name, outputs[CLASSES], meaning, meaning.labels(y).size == len(y))
        if outputs != y.shape:
            raise SettingError(
                f"diagnose: the loss {name_of(loss)} takes outputs of shape {outputs} with targets of shape {y.shape}, so "
                f"there is no one target for each output to score it by. Use targets of the outputs' shape, or class "
                f"numbers with Trainer(..., output='logits')."
            )
        if meaning.binary:
            return cls("binary", name, 2, meaning, y.size == len(y))
        return cls("one_hot", name, y.shape[1], meaning) if _one_hot(y) else cls("values", name, 0, meaning)

    def score(self, output: Array, y: Array, reference: Array) -> Score:
        """The score of these outputs; `reference` holds the training targets, which the best constant is made of."""
        with np.errstate(all="ignore"):
            if self.kind == "values":
                return _of_values(output, y, reference)
            p = self.probabilities(output)
            labels, known = self.labels(y), self.labels(reference)
            keep = labels >= 0
            return _of_classes(p[keep], labels[keep], np.bincount(known[known >= 0], minlength=self.classes))

    def labels(self, y: Array) -> Array:
        """The class of each target, one axis; negative where it is to be ignored."""
        if self.kind == "values":
            raise ValueError("values have no classes")
        return np.asarray(y.argmax(axis=1) if self.kind == "one_hot" else self.output.labels(y)).reshape(-1)

    def probabilities(self, output: Array) -> Array:
        """What the outputs mean under the loss they are trained with, (rows, classes)."""
        output = output.astype(np.float64)
        if self.output == VALUES:  # one-hot rows under a loss of values: these are meant to become the probabilities
            return _shares(output)
        if self.output.binary:
            p = self.output.probabilities(output).reshape(-1)
            return np.stack([1 - p, p], axis=1)
        # Of a model without the last layer that its loss needs, neither powers nor probabilities sum to 1.
        p = _shares(output) if self.output == PROBABILITIES else LOGITS.probabilities(output)
        return np.asarray(np.moveaxis(p, CLASSES, -1).reshape(-1, self.classes))


def _shares(output: Array) -> Array:
    clipped = np.clip(output, TINY, None)
    return np.asarray(clipped / clipped.sum(axis=CLASSES, keepdims=True))


def _one_hot(y: Array) -> bool:
    return y.ndim == 2 and y.shape[1] > 1 and bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())


def _bounded(rows: Array) -> Array:
    return rows if rows.mean() > -1 else np.full(len(rows), -1.0)  # NaN is at the bound, too


def _of_values(output: Array, y: Array, reference: Array) -> Score:
    y64 = y.astype(np.float64)
    constant = max(float(((y64 - reference.astype(np.float64).mean(axis=0)) ** 2).mean()), TINY)
    errors = ((output.astype(np.float64) - y64) ** 2).reshape(len(y), -1).mean(axis=1)
    rows = _bounded(1 - errors / constant)
    share = float(rows.mean())
    by_row = dict.fromkeys(("learned", "right", "recall"), rows)
    return Score(share, share, share, float(errors.mean()), np.nan, by_row=by_row)


def _of_classes(p: Array, labels: Array, counts: Array) -> Score:
    if not np.isfinite(p).all():
        lost = np.full(len(labels), -1.0)
        by_row = dict.fromkeys(("learned", "right", "recall"), lost)
        return Score(-1.0, -1.0, -1.0, np.nan, 0.0, 0.0, by_row=by_row)
    prior = (counts + 1e-3) / (counts + 1e-3).sum()
    constant = max(float(-np.log(prior[labels]).mean()), TINY)
    nll = -np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-7))
    correct = p.argmax(axis=1) == labels
    mistakes = max(float((labels != counts.argmax()).mean()), 1 / len(labels))
    loss, right, recall = _bounded(1 - nll / constant), _bounded(1 - ~correct / mistakes), _recall(correct, labels)
    chance = 1 / max(1, len(np.unique(labels)))
    return Score(
        float(loss.mean()), float(right.mean()), float(recall.mean()), float(nll.mean()), float(correct.mean()),
        recalled=chance + (1 - chance) * float(recall.mean()),
        by_row={"learned": (loss + right) / 2, "right": right, "recall": recall},
    )  # fmt: skip


def _recall(correct: Array, labels: Array) -> Array:
    """What each row adds to the mean recall of the classes, as a share between chance and 1."""
    present, index = np.unique(labels, return_inverse=True)
    chance = 1 / len(present)
    if chance == 1:  # of a single class there is no recall to be gained or lost
        return np.zeros(len(labels))
    weight = len(labels) / (np.bincount(index)[index] * len(present))
    return np.asarray((correct * weight - chance) / max(1 - chance, TINY))
