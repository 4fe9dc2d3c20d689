"""Measures of the probabilities that the outputs mean: log loss, perplexity and the Brier score, in float64 and exact in the tails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import chainrule.nn.functional as F
from chainrule.nn.meaning import Meaning
from chainrule.tensor import Tensor
from chainrule.tensor.functions import stack
from chainrule.training.exact.base import one_hot, questions, ratio, rows_of_classes

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LogLoss:
    """The mean of ``-log p`` of what came true, ``sklearn.metrics.log_loss``; or its exponential, the perplexity.

    Attributes:
        meaning, ignore_index: as for `ClassCounts`.
        perplexity: of the choice among classes, in place of the log loss.
    """

    meaning: Meaning
    ignore_index: int | None = None
    perplexity: bool = False

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean of the losses, and the share of rows that count."""
        if not self.meaning.over_classes:
            output, target = questions(output.double(), target.double(), "log_loss")
            logits = self.meaning.name == "binary_logits"
            loss = F.binary_cross_entropy_with_logits if logits else F.binary_cross_entropy
            value = loss(output, target)
            return stack([value, value * 0 + 1])
        output, target = rows_of_classes(self.meaning, output, target, "log_loss")
        logs = _logarithms(self.meaning, output.double())
        true = _counted(one_hot(target, output.shape[1]), target, self.ignore_index)
        # Of a probability of 0 that did not come true the logarithm must not be multiplied by 0.
        losses = -logs.masked_fill(true == 0, 0.0).sum(1)
        return stack([losses.mean(), true.sum(1).mean()])

    def result(self, means: Array) -> float:
        """The measure of all rows."""
        loss = ratio(means[0], means[1])
        try:
            return math.exp(loss) if self.perplexity else loss
        except OverflowError:
            return math.inf


@dataclass(frozen=True)
class Brier:
    """The mean of squared errors of probabilities: of the second of two classes, or of yes; of more, summed over the classes.

    ``sklearn.metrics.brier_score_loss``.

    Attributes:
        meaning, ignore_index: as for `ClassCounts`.
    """

    meaning: Meaning
    ignore_index: int | None = None

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean of the squares, and the share of rows that count."""
        if not self.meaning.over_classes:
            output, target = questions(output.double(), target.double(), "brier")
            p = output.sigmoid() if self.meaning.name == "binary_logits" else output
            value = ((p - target) ** 2).mean()
            return stack([value, value * 0 + 1])
        output, target = rows_of_classes(self.meaning, output, target, "brier")
        true = _counted(one_hot(target, output.shape[1]), target, self.ignore_index)
        counted = true.sum(1)
        p = _logarithms(self.meaning, output.double()).exp() if "log" in self.meaning.name else output.double()
        squares = ((p - true) ** 2).sum(1) * counted
        return stack([squares.mean() * (0.5 if output.shape[1] == 2 else 1.0), counted.mean()])

    def result(self, means: Array) -> float:
        """The measure of all rows."""
        return ratio(means[0], means[1])


def _logarithms(meaning: Meaning, output: Tensor) -> Tensor:
    """Of the probabilities of the classes."""
    if meaning.name == "logits":
        return F.log_softmax(output, dim=1)
    return output if meaning.name == "log_probabilities" else output.log()


def _counted(true: Tensor, target: Tensor, ignored: int | None) -> Tensor:
    return true if ignored is None else true * (target != ignored).double().reshape(-1, 1)
