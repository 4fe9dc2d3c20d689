"""What a run is to learn, and how much of it a set of outputs has learned, whatever loss it was trained with."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from chainrule.errors import SettingError
from chainrule.nn import functional as F

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
_BY_KIND = {"cross_entropy": "classes", "nll": "classes", "bce": "binary", "bce_logits": "binary"}


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
        raw: the loss itself, in its own units (nats, or squared targets).
        accuracy: the share of right rows; NaN for values.
    """

    loss: float
    right: float
    recall: float
    raw: float
    accuracy: float

    @property
    def learned(self) -> float:
        """The mean of `loss` and `right`: what effects are measured in."""
        return (self.loss + self.right) / 2

    def __str__(self) -> str:
        right = "" if np.isnan(self.accuracy) else f", accuracy {self.accuracy:.1%}"
        return f"loss {self.raw:.4g}{right}"

    def as_dict(self) -> dict[str, float | None]:
        return {k: float(v) if np.isfinite(v) else None for k, v in {**asdict(self), "learned": self.learned}.items()}


@dataclass(frozen=True)
class Task:
    """The kind of targets, and the loss they are trained with.

    Attributes:
        kind: "classes" (numbers), "binary" (0 and 1), "one_hot" (classes as rows of a unit matrix) or "values".
        loss: as `loss_name` gives it.
        classes: how many; 0 for values.
        by_row: a row has one class.
    """

    kind: str
    loss: str
    classes: int
    by_row: bool = True

    @classmethod
    def of(cls, loss: Any, output_shape: tuple[int, ...], y: Array) -> Task:
        """The task of a run, from its loss, the shape of its outputs and its targets.

        A loss of the user's own is taken to be over classes where targets are class numbers.

        Raises:
            SettingError: it is neither over classes nor between an output and a target of one shape.
        """
        name = loss_name(loss)
        kind = _BY_KIND.get(name, "values")
        if name == "other" and y.dtype.kind == "i" and y.ndim == 1 and len(output_shape) == 2 and output_shape[1] > 1:
            kind = "classes"
        if kind == "classes":
            classes = output_shape[1] if len(output_shape) > 1 else output_shape[0]
            return cls(kind, name, classes, y.ndim == 1 or y.shape[1:] == output_shape[1:])
        if output_shape[1:] != y.shape[1:]:
            raise SettingError(
                f"diagnose: cannot tell what this loss of your own measures: the model gives rows of shape "
                f"{output_shape[1:]}, the targets have {y.shape[1:]}. Use class numbers of shape (N,) as targets, or "
                f"targets of the output's shape."
            )
        if kind == "binary":
            return cls(kind, name, 2, y.size == len(y))
        return cls("one_hot", name, y.shape[1]) if _one_hot(y) else cls("values", name, 0)

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
        if self.kind == "one_hot" or (self.kind == "classes" and y.dtype.kind == "f"):
            return np.asarray(y.argmax(axis=1).reshape(-1))
        return np.asarray((y > 0.5).reshape(-1).astype(np.int64) if self.kind == "binary" else y.reshape(-1))

    def probabilities(self, output: Array) -> Array:
        """What the outputs mean under the loss they are trained with, (rows, classes)."""
        output = output.astype(np.float64)
        if self.kind == "binary":
            p = output.reshape(-1) if self.loss == "bce" else _sigmoid(output.reshape(-1))
            return np.stack([1 - p, p], axis=1)
        logits = np.moveaxis(output, 1, -1).reshape(-1, self.classes) if output.ndim > 2 else output
        if self.loss == "of_probabilities" or (self.kind == "one_hot" and self.loss != "cross_entropy"):
            clipped = np.clip(logits, TINY, None)
            return np.asarray(clipped / clipped.sum(axis=1, keepdims=True))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _one_hot(y: Array) -> bool:
    return y.ndim == 2 and y.shape[1] > 1 and bool(((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all())


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _of_values(output: Array, y: Array, reference: Array) -> Score:
    y64 = y.astype(np.float64)
    constant = float(((y64 - reference.astype(np.float64).mean(axis=0)) ** 2).mean())
    mse = float(((output.astype(np.float64) - y64) ** 2).mean())
    share = max(-1.0, 1 - mse / max(constant, TINY)) if np.isfinite(mse) else -1.0
    return Score(share, share, share, mse, np.nan)


def _of_classes(p: Array, labels: Array, counts: Array) -> Score:
    if not np.isfinite(p).all():
        return Score(-1.0, -1.0, -1.0, np.nan, np.nan)
    prior = (counts + 1e-3) / (counts + 1e-3).sum()
    constant = float(-np.log(prior[labels]).mean())
    nll = float(-np.log(np.maximum(p[np.arange(len(labels)), labels], 1e-7)).mean())
    right = p.argmax(axis=1) == labels
    mistakes = float((labels != counts.argmax()).mean())
    recalls = [float(right[labels == k].mean()) for k in np.unique(labels)]
    chance = 1 / len(recalls)
    return Score(
        loss=max(-1.0, 1 - nll / max(constant, TINY)),
        right=max(-1.0, 1 - float((~right).mean()) / max(mistakes, 1 / len(labels))),
        recall=(float(np.mean(recalls)) - chance) / max(1 - chance, TINY),
        raw=nll,
        accuracy=float(right.mean()),
    )
