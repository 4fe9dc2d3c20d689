"""What an exact measure is, and how targets and outputs over classes become rows and classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from chainrule.errors import ShapeError
from chainrule.graph import who
from chainrule.nn.meaning import CLASSES, Meaning
from chainrule.tensor import Tensor
from chainrule.tensor.creation import arange

Array = np.ndarray[Any, Any]


class Exact(Protocol):
    """A measure made of means over the rows. Your own metrics may be such objects, too."""

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """Some means over the rows of a batch, shape (S,); compiled into the step."""

    def result(self, means: Array) -> float:
        """The measure, of the same means over all rows, float64 (S,)."""


class Ranked(Protocol):
    """A measure for which the rows have to be put in order: of validation and `evaluate`, not of training."""

    def ranked(self, output: Array, target: Array) -> float:
        """The measure, of the outputs and targets of all rows."""


def is_ranked(metric: object) -> bool:
    """Does it need all outputs at once?"""
    return hasattr(metric, "ranked")


def is_exact(metric: object) -> bool:
    """Is it made of means?"""
    return hasattr(metric, "statistics")


def statistics_of(metric: Any) -> Callable[..., Tensor]:
    """What a step computes for a metric: the means that it is made of, or the metric itself."""
    found: Callable[..., Tensor] = metric.statistics if is_exact(metric) else metric
    return found


def ratio(above: float, below: float) -> float:
    """Their quotient; 0 where there is nothing below, as scikit-learn has it."""
    return float(above / below) if below else 0.0


def one_hot(classes: Tensor, count: int) -> Tensor:
    """1 at the class of each row, 0 elsewhere, float64 (N, C); nothing at a class that is none of them."""
    return (classes.reshape(-1, 1) == arange(count).reshape(1, -1)).double()


def rows_of_classes(meaning: Meaning, output: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Outputs (N, C) and class numbers (N,): axes behind the classes become rows; probabilities, the likeliest class."""
    if target.dtype.is_floating_point:
        same_shape(output, target, name)
        target = target.argmax(CLASSES)
    elif output.shape[:CLASSES] + output.shape[CLASSES + 1 :] != target.shape:
        raise ShapeError(
            f"{who(name)}: class numbers must have the shape of the outputs (N, C, ...) without axis 1, got outputs of shape "
            f"{output.shape} and targets of shape {target.shape}. Reshape one of them."
        )
    return output.movedim(CLASSES, -1).reshape(-1, output.shape[CLASSES]), target.reshape(-1)


def questions(output: Tensor, target: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Outputs and targets of yes-or-no questions, or values: (N, L)."""
    same_shape(output, target, name)
    return output.reshape(output.shape[0], -1), target.reshape(output.shape[0], -1)


def same_shape(output: Tensor, target: Tensor, name: str) -> None:
    """Raise `ShapeError` unless it is so."""
    if output.shape != target.shape:
        raise ShapeError(
            f"{who(name)}: output and target must have the same shape, got {output.shape} and {target.shape}. "
            f"Reshape one of them: broadcasting would compare every row with every other."
        )
