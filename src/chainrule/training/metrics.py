"""What is measured beside the loss, by name or as a function ``(output, target) -> Tensor`` without axes.

Those by name are exact over the rows of an epoch (`training.exact`). A function gives the mean over the rows of a batch;
an epoch's value is the mean over its rows.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Union

import numpy as np

from chainrule.errors import SettingError, ShapeError, unknown_name
from chainrule.graph import who
from chainrule.nn.meaning import CLASSES, MEANINGS, SCORES, VALUES, Meaning, name_of, option_of
from chainrule.tensor import Tensor
from chainrule.tensor.functions import stack
from chainrule.training.exact import (
    AveragePrecision,
    Brier,
    ClassCounts,
    Errors,
    LogLoss,
    RocAuc,
    TopK,
    is_exact,
    is_ranked,
)  # fmt: skip
from chainrule.training.exact.base import ratio
from chainrule.training.exact.classes import AVERAGES

Array = np.ndarray[Any, Any]
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
        right, counted = self._rows(output, target)
        return (
            right.float().mean() if counted is None else (right.float() * counted.float()).sum() / counted.float().sum()
        )

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The shares of rows that are right, and that count."""
        right, counted = self._rows(output, target)
        if counted is None:
            return right.double().mean().reshape(1)
        return stack([(right.double() * counted.double()).mean(), counted.double().mean()])

    def result(self, means: Array) -> float:
        """The accuracy of all rows."""
        return float(means[0]) if len(means) == 1 else ratio(means[0], means[1])

    def _rows(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """Which rows are right, and which count; None where all do."""
        if not self.meaning.over_classes:
            _same_shape("accuracy", output, target)
            yes = 0.0 if self.meaning.name == "binary_logits" else 0.5
            return (output > yes) == (target > 0.5), None
        if target.dtype.is_floating_point:
            _same_shape("accuracy", output, target)
            return output.argmax(CLASSES) == target.argmax(CLASSES), None
        if output.shape[:CLASSES] + output.shape[CLASSES + 1 :] != target.shape:
            raise ShapeError(
                f"{who('accuracy')}: class numbers must have the shape of the outputs (N, C, ...) without axis 1, got "
                f"outputs of shape {output.shape} and targets of shape {target.shape}. Reshape one of them."
            )
        return output.argmax(CLASSES) == target, None if self.ignore_index is None else target != self.ignore_index


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


Maker = Callable[[Any, Union[Meaning, None]], Any]


def _of_classes(
    name: str, make: Callable[[Meaning, int | None], Any], choice: bool = False, certain: bool = False
) -> Maker:
    """A measure of classes or their probabilities; `choice`: of one among several, not of yes or no;
    `certain`: of their probabilities, which scores have none of.
    """

    def maker(loss: Any, meaning: Meaning | None) -> Any:
        known = told(loss, meaning, f"Trainer: the metric {name!r}")
        if known == VALUES or (choice and not known.over_classes):
            raise SettingError(
                f"Trainer: {name!r} is about {'one of several classes' if choice else 'classes'}, and under {name_of(loss)} "
                f"the outputs are {known.words}. Use another metric, or a loss for classes such as F.cross_entropy."
            )
        if certain and known == SCORES:
            raise SettingError(
                f"Trainer: {name!r} is about probabilities, and under {name_of(loss)} the outputs are {known.words}. Use "
                f"'accuracy' or 'f1_macro', or a loss of logits such as F.cross_entropy."
            )
        return make(known, option_of(loss, "ignore_index"))

    return maker


def _counts(of: str, average: str) -> Maker:
    name = of if average in ("binary", "") else f"{of}_{average}"
    return _of_classes(name, lambda meaning, ignored: ClassCounts(of, meaning, average or "binary", ignored))


def _errors(of: str) -> Maker:
    return lambda loss, meaning: Errors(of)


METRICS: dict[str, Maker] = {
    "accuracy": accuracy,
    "balanced_accuracy": _counts("balanced_accuracy", ""),
    **{
        of if average == "binary" else f"{of}_{average}": _counts(of, average)
        for of in ("precision", "recall", "f1")
        for average in AVERAGES
    },
    "roc_auc": _of_classes("roc_auc", lambda meaning, ignored: RocAuc(meaning, None, ignored)),
    "roc_auc_ovr": _of_classes(
        "roc_auc_ovr", lambda meaning, ignored: RocAuc(meaning, "ovr", ignored), choice=True, certain=True
    ),
    "roc_auc_ovo": _of_classes(
        "roc_auc_ovo", lambda meaning, ignored: RocAuc(meaning, "ovo", ignored), choice=True, certain=True
    ),
    "average_precision": _of_classes("average_precision", AveragePrecision, certain=True),
    "log_loss": _of_classes("log_loss", LogLoss, certain=True),
    "perplexity": _of_classes(
        "perplexity", lambda meaning, ignored: LogLoss(meaning, ignored, True), choice=True, certain=True
    ),
    "brier": _of_classes("brier", Brier, certain=True),
    "mse": _errors("mse"),
    "mae": _errors("mae"),
    "rmse": _errors("rmse"),
    "mape": _errors("mape"),
    "r2": _errors("r2"),
}
_TOP = re.compile(r"top_([1-9][0-9]{0,5})_accuracy")
_ELSEWHERE = {  # Keras's and scikit-learn's names, in lower case without underscores
    letters: f"Here it is {ours}."
    for ours, names in {
        "'accuracy'": "binaryaccuracy categoricalaccuracy sparsecategoricalaccuracy",
        "'top_5_accuracy', of any number": "topkcategoricalaccuracy sparsetopkcategoricalaccuracy topkaccuracy",
        "'roc_auc'": "auc auroc rocaucscore",
        "'average_precision'": "auprc prauc averageprecisionscore",
        "'mae'": "meanabsoluteerror",
        "'mse'": "meansquarederror",
        "'rmse'": "rootmeansquarederror",
        "'mape'": "meanabsolutepercentageerror",
        "'r2'": "r2score",
        "'f1' of two classes, 'f1_macro', 'f1_micro' or 'f1_weighted' of several": "f1score fbetascore",
        "'log_loss'": "crossentropy binarycrossentropy categoricalcrossentropy sparsecategoricalcrossentropy",
    }.items()
    for letters in names.split()
}
LESS = ("loss", "log_loss", "perplexity", "brier", "mse", "mae", "rmse", "mape")


def by_name(name: str) -> Maker:
    """What makes the metric of this name, for a loss and what the outputs mean.

    Raises:
        UnknownNameError: there is none.
    """
    top = _TOP.fullmatch(name)
    if top:
        return _of_classes(name, lambda meaning, ignored: TopK(int(top[1]), meaning, ignored), choice=True)
    if name not in METRICS:
        raise unknown_name(
            "metric", name, [*METRICS, "top_5_accuracy"], _ELSEWHERE.get(name.replace("_", "").lower(), "")
        )
    return METRICS[name]


def direction(name: str) -> str | None:
    """Whether less or more of a measure is better, ``"min"`` or ``"max"``; None where its name does not tell."""
    if name in LESS:
        return "min"
    return "max" if name in METRICS or _TOP.fullmatch(name) else None


def told(loss: Any, meaning: Meaning | None, asker: str) -> Meaning:
    """The meaning of the outputs, which `asker` cannot do without.

    Raises:
        SettingError: it is not known.
    """
    outputs = getattr(loss, "losses", None)
    if meaning is None and isinstance(outputs, dict):
        raise SettingError(
            f"{asker} is for a model of one output, and here there is a loss for each of {', '.join(map(repr, outputs))}. "
            f"Use predict, which gives all outputs, and .argmax(axis=1) of one with classes."
        )
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
            name, function = metric, by_name(metric)(loss, meaning)
        elif callable(metric) or is_ranked(metric) or is_exact(metric):
            check_order("metric", metric)
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


def check_order(what: str, function: object) -> None:
    """Refuse Keras's and scikit-learn's order of arguments where a function of the user's names them so.

    Called in our order it would give numbers all the same, which are wrong wherever the two are not alike.
    """
    try:
        first = [*inspect.signature(function).parameters][:2]  # type: ignore[arg-type]
    except (TypeError, ValueError):  # some of C's tell nothing of themselves
        return
    if first == ["y_true", "y_pred"]:
        raise SettingError(
            f"Trainer: a {what} takes outputs first, then targets, and {name_of(function)} takes (y_true, y_pred). Change the "
            f"order, and the names to (output, target)."
        )


def _same_shape(name: str, output: Tensor, target: Tensor) -> None:
    if output.shape != target.shape:
        raise ShapeError(
            f"{who(name)}: output and target must have the same shape, got {output.shape} and {target.shape}. "
            f"Reshape one of them: broadcasting would compare every row with every other."
        )
