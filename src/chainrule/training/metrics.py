"""What is measured beside the loss, by name or as a function ``(output, target) -> Tensor`` without axes.

A metric is the mean over the rows of a batch; an epoch's value is the mean over its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chainrule.errors import SettingError, ShapeError, unknown_name
from chainrule.graph import who
from chainrule.nn.meaning import CLASSES, MEANINGS, VALUES, Meaning, name_of, option_of
from chainrule.tensor import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Accuracy:
    """The share of right answers, for outputs that mean what the loss says.

    Over classes, an answer is right where the likeliest class is the target's: its class number, or the largest of its
    probabilities. For yes-or-no questions, where both say yes (a logit above 0, a probability above 0.5) or both no.

    Attributes:
        meaning: of the outputs.
        ignore_index: targets of this class number do not count.

    Raises:
        ShapeError: outputs and targets do not fit together.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn.meaning import LOGITS
        >>> Accuracy(LOGITS)(cr.tensor([[1.0, 2.0], [3.0, 0.0]]), cr.tensor([1, 1]))
        tensor(0.5000)
    """

    meaning: Meaning
    ignore_index: int | None = None

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        if not self.meaning.over_classes:
            _same_shape("accuracy", output, target)
            yes = 0.0 if self.meaning.name == "binary_logits" else 0.5
            return ((output > yes) == (target > 0.5)).float().mean()
        if target.dtype.is_floating_point:
            _same_shape("accuracy", output, target)
            return (output.argmax(CLASSES) == target.argmax(CLASSES)).float().mean()
        if output.shape[:CLASSES] + output.shape[CLASSES + 1 :] != target.shape:
            raise ShapeError(
                f"{who('accuracy')}: class numbers must have the shape of the outputs (N, C, ...) without axis 1, got "
                f"outputs of shape {output.shape} and targets of shape {target.shape}. Reshape one of them."
            )
        right = output.argmax(CLASSES) == target
        if self.ignore_index is None:
            return right.float().mean()
        counts = (target != self.ignore_index).float()
        return (right.float() * counts).sum() / counts.sum()


def mse(output: Tensor, target: Tensor) -> Tensor:
    """The mean of ``(output - target)^2``; both of one shape.

    Example:
        >>> import chainrule as cr
        >>> mse(cr.tensor([1.0, 3.0]), cr.tensor([1.0, 1.0]))
        tensor(2.)
    """
    _same_shape("mse", output, target)
    return ((output - target) ** 2).mean()


def mae(output: Tensor, target: Tensor) -> Tensor:
    """The mean of ``|output - target|``; both of one shape.

    Example:
        >>> import chainrule as cr
        >>> mae(cr.tensor([1.0, 3.0]), cr.tensor([1.0, 1.0]))
        tensor(1.)
    """
    _same_shape("mae", output, target)
    return (output - target).abs().mean()


def accuracy(loss: Any, meaning: Meaning | None) -> Metric:
    """The accuracy of outputs under this loss.

    Raises:
        SettingError: the loss makes them values, or it is not known what they mean.
    """
    known = told(loss, meaning, "Trainer: the metric 'accuracy'")
    if known == VALUES:
        raise SettingError(
            f"Trainer: 'accuracy' is a share of right classes, and {name_of(loss)} makes the outputs values. "
            f"Use 'mse' or 'mae', or a loss for classes such as F.cross_entropy."
        )
    return Accuracy(known, option_of(loss, "ignore_index"))


METRICS: dict[str, Callable[[Any, Meaning | None], Metric]] = {
    "accuracy": accuracy,
    "mse": lambda loss, meaning: mse,
    "mae": lambda loss, meaning: mae,
}


LESS, MORE = ("loss", "mse", "mae"), ("accuracy",)  # of which measures, known by name, which is better


def direction(name: str) -> str | None:
    """Whether less or more of a measure is better, ``"min"`` or ``"max"``; None where its name does not tell."""
    return "min" if name in LESS else "max" if name in MORE else None


def told(loss: Any, meaning: Meaning | None, asker: str) -> Meaning:
    """The meaning of the outputs, which `asker` cannot do without.

    Raises:
        SettingError: it is not known.
    """
    if meaning is None:
        raise SettingError(
            f"{asker} needs to know what the outputs mean, and the loss {name_of(loss)} does not say. Build the trainer "
            f"with Trainer(..., output='logits') or another of: {', '.join(MEANINGS)}."
        )
    return meaning


def resolve(metrics: Iterable[str | Metric], loss: Any, meaning: Meaning | None) -> dict[str, Metric]:
    """The metrics under the names they have in the history.

    Args:
        metrics: names and functions.
        loss, meaning: of the training.

    Raises:
        UnknownNameError: no metric of that name.
        SettingError: two of one name, something that is neither a name nor a function, or one that does not go with
            what the outputs mean.
    """
    found: dict[str, Metric] = {}
    for metric in [metrics] if isinstance(metrics, str) else metrics:
        if isinstance(metric, str):
            if metric not in METRICS:
                raise unknown_name("metric", metric, list(METRICS))
            name, function = metric, METRICS[metric](loss, meaning)
        elif callable(metric):
            name, function = getattr(metric, "__name__", type(metric).__name__), metric
        else:
            raise SettingError(
                f"Trainer: a metric must be a name or a function (output, target) -> Tensor, got {metric!r}. "
                f"Names: {', '.join(sorted(METRICS))}."
            )
        if name in found or name in {"loss", "lr", "seconds"}:
            raise SettingError(f"Trainer: the name {name!r} is taken in the history. Give the metric another __name__.")
        found[name] = function
    return found


def _same_shape(name: str, output: Tensor, target: Tensor) -> None:
    if output.shape != target.shape:
        raise ShapeError(
            f"{who(name)}: output and target must have the same shape, got {output.shape} and {target.shape}. "
            f"Reshape one of them: broadcasting would compare every row with every other."
        )
