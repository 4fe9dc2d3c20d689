"""Measures of which class was said: precision, recall, F1, balanced accuracy, and whether the right one was among the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.errors import SettingError
from chainrule.nn.meaning import Meaning
from chainrule.tensor import Tensor
from chainrule.tensor.functions import cat, stack
from chainrule.training.exact.base import one_hot, questions, ratio, rows_of_classes

Array = np.ndarray[Any, Any]
AVERAGES = ("binary", "macro", "micro", "weighted")


@dataclass(frozen=True)
class ClassCounts:
    """A measure of how many rows are of each class, were said to be, and both: as scikit-learn's of that name.

    Attributes:
        of: ``"precision"``, ``"recall"``, ``"f1"`` or ``"balanced_accuracy"``.
        meaning: of the outputs.
        average: over the classes: ``"binary"`` (the second of two, or yes), ``"macro"``, ``"micro"``, ``"weighted"``.
        ignore_index: targets of this class number do not count.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn.meaning import BINARY_LOGITS
        >>> recall = ClassCounts("recall", BINARY_LOGITS)
        >>> means = recall.statistics(cr.tensor([2.0, -1.0, 3.0, 1.0]), cr.tensor([1.0, 1.0, 1.0, 0.0]))
        >>> round(recall.result(means.numpy()), 4)
        0.6667
    """

    of: str
    meaning: Meaning
    average: str = "binary"
    ignore_index: int | None = None

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """Of each class the shares of rows that are of it and said to be, said to be, and are: (3 C,)."""
        if self.meaning.over_classes:
            output, target = rows_of_classes(self.meaning, output, target, self.of)
            count = output.shape[1]
            said, true = one_hot(output.argmax(1), count), one_hot(target, count)
            if self.ignore_index is not None:
                said = said * (target != self.ignore_index).double().reshape(-1, 1)
                true = true * (target != self.ignore_index).double().reshape(-1, 1)
            self._check(count, 2)
        else:
            output, target = questions(output, target, self.of)
            said = (output > (0.0 if self.meaning.name == "binary_logits" else 0.5)).double()
            true = (target > 0.5).double()
            self._check(output.shape[1], 1)
        return cat([(said * true).mean(0), said.mean(0), true.mean(0)])

    def _check(self, count: int, binary: int) -> None:
        if self.average == "binary" and self.of != "balanced_accuracy" and count != binary:
            what = "classes" if self.meaning.over_classes else "questions a row"
            raise SettingError(
                f"Trainer: the metric {self.of!r} is about two classes, and the outputs are about {count} {what}. Take "
                f"{self.of + '_macro'!r}, {self.of + '_micro'!r} or {self.of + '_weighted'!r}."
            )

    def result(self, means: Array) -> float:
        """The measure of all rows."""
        both, said, true = means.reshape(3, -1)
        if self.of == "balanced_accuracy":
            return self._balanced(both, said, true)
        if self.average == "binary":
            return self._one(both[-1], said[-1], true[-1])
        if self.average == "micro":
            return self._one(both.sum(), said.sum(), true.sum())
        # Of a choice, classes that nobody has or says are no classes of these rows.
        kept = (said + true > 0) | (not self.meaning.over_classes)
        each = np.array([self._one(*of) for of in zip(both[kept], said[kept], true[kept], strict=True)])
        weights = true[kept] if self.average == "weighted" else np.ones(len(each))
        return ratio(float((each * weights).sum()), float(weights.sum()))

    def _balanced(self, both: Array, said: Array, true: Array) -> float:
        """The mean of the recall of the classes that there are."""
        if not self.meaning.over_classes:  # no is a class, too
            both, true = np.stack([both, 1 - said - true + both]), np.stack([true, 1 - true])
        there = true > 0
        return float((both[there] / true[there]).mean()) if there.any() else 0.0

    def _one(self, both: float, said: float, true: float) -> float:
        if self.of == "f1":
            return ratio(2 * both, said + true)
        return ratio(both, said if self.of == "precision" else true)


@dataclass(frozen=True)
class TopK:
    """The share of rows whose class is among the k likeliest: ``sklearn.metrics.top_k_accuracy_score``.

    Among outputs that are equal, those of later classes come first, as there.

    Attributes:
        k: how many.
        meaning, ignore_index: as for `ClassCounts`.
    """

    k: int
    meaning: Meaning
    ignore_index: int | None = None

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The shares of rows that are right, and that count."""
        output, target = rows_of_classes(self.meaning, output, target, f"top_{self.k}_accuracy")
        true = one_hot(target, output.shape[1])
        own = (output.double() * true).sum(1, keepdim=True)  # exact: one term that is not 0
        later = true.cumsum(1) - true  # 1 behind the row's class
        before = (output > own).double() + (output == own).double() * later
        counted = true.sum(1)
        if self.ignore_index is not None:
            counted = counted * (target != self.ignore_index).double()
        right = (before.sum(1) < self.k).double() * counted
        return stack([right.mean(), counted.mean()])

    def result(self, means: Array) -> float:
        """The measure of all rows."""
        return ratio(means[0], means[1])
