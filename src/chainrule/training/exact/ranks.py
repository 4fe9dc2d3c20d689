"""Measures for which the rows are put in order: the area under the ROC curve, and the average precision."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.errors import SettingError
from chainrule.nn.meaning import CLASSES, Meaning

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RocAuc:
    """The area under the ROC curve, ``sklearn.metrics.roc_auc_score``: the share of pairs of a yes and a no that are in order.

    Attributes:
        meaning, ignore_index: as for `ClassCounts`.
        over: of more than two classes: ``"ovr"`` (each against the rest) or ``"ovo"`` (each against each), averaged.
    """

    meaning: Meaning
    over: str | None = None
    ignore_index: int | None = None

    def ranked(self, output: Array, target: Array) -> float:
        """The measure of all rows; NaN where one of the classes is missing."""
        if self.over is None:
            scores, true = _of_two(self.meaning, output, target, self.ignore_index, "roc_auc", "'roc_auc_ovr'")
            return float(np.mean([area(s, t) for s, t in zip(scores.T, true.T, strict=True)]))
        p, true = _of_classes(self.meaning, output, target, self.ignore_index)
        classes = range(p.shape[1])
        if self.over == "ovr":
            return float(np.mean([area(p[:, c], true == c) for c in classes]))
        return float(np.mean([self._pair(p, true, a, b) for a, b in itertools.combinations(classes, 2)]))

    @staticmethod
    def _pair(p: Array, true: Array, a: int, b: int) -> float:
        kept = (true == a) | (true == b)
        return (area(p[kept, a], true[kept] == a) + area(p[kept, b], true[kept] == b)) / 2


@dataclass(frozen=True)
class AveragePrecision:
    """The mean precision over the recalls, ``sklearn.metrics.average_precision_score``, averaged over several questions.

    Attributes:
        meaning, ignore_index: as for `ClassCounts`.
    """

    meaning: Meaning
    ignore_index: int | None = None

    def ranked(self, output: Array, target: Array) -> float:
        """The measure of all rows; 0 where nothing is true."""
        if self.meaning.over_classes and output.shape[CLASSES] > 2:
            p, true = _of_classes(self.meaning, output, target, self.ignore_index)
            return float(np.mean([precision(p[:, c], true == c) for c in range(p.shape[1])]))
        scores, true = _of_two(self.meaning, output, target, self.ignore_index, "average_precision", "")
        return float(np.mean([precision(s, t) for s, t in zip(scores.T, true.T, strict=True)]))


def area(scores: Array, true: Array) -> float:
    """The area under the ROC curve; ties count half."""
    order = np.argsort(scores, kind="stable")
    _, first, counts = np.unique(scores[order], return_index=True, return_counts=True)
    ranks = np.repeat(first + (counts + 1) / 2, counts)  # of ties the mean, counted from 1
    yes = int(true.sum())
    no = len(true) - yes
    if not yes or not no:
        return math.nan
    return float((ranks[true[order]].sum() - yes * (yes + 1) / 2) / (yes * no))


def precision(scores: Array, true: Array) -> float:
    """The average precision: the precision at each threshold, times the recall that it adds."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(true[order])
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])  # ties come at once
    if not hits[-1]:
        return 0.0
    return float((np.diff(np.r_[0, hits[ends]]) * hits[ends] / (ends + 1)).sum() / hits[-1])


def _of_two(
    meaning: Meaning, output: Array, target: Array, ignored: int | None, name: str, remedy: str
) -> tuple[Array, Array]:
    """A number for each question that is larger the likelier yes is, and whether it is yes: (N, L)."""
    if not meaning.over_classes:
        return output.reshape(len(output), -1).astype(np.float64), target.reshape(len(target), -1) > 0.5
    if output.shape[CLASSES] != 2:
        raise SettingError(
            f"Trainer: the metric {name!r} is about two classes, and the outputs are about {output.shape[CLASSES]}. "
            f"Take {remedy} or 'roc_auc_ovo'."
        )
    rows, true = _rows(meaning, output, target, ignored)
    # Not by the probability, which is 1 for many a logit.
    scores = rows[:, 1] if meaning.name == "probabilities" else rows[:, 1] - rows[:, 0]
    return scores[:, None], (true == 1)[:, None]


def _of_classes(meaning: Meaning, output: Array, target: Array, ignored: int | None) -> tuple[Array, Array]:
    """The probabilities of the classes (N, C), and the class numbers (N,)."""
    rows, true = _rows(meaning, output, target, ignored)
    return meaning.probabilities(rows), true


def _rows(meaning: Meaning, output: Array, target: Array, ignored: int | None) -> tuple[Array, Array]:
    labels = meaning.labels(target).reshape(-1)
    rows = np.moveaxis(output, CLASSES, -1).reshape(-1, output.shape[CLASSES]).astype(np.float64)
    kept = labels != ignored if ignored is not None else slice(None)
    return rows[kept], labels[kept]
