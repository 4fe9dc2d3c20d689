"""Measures of values, as in a regression, from means in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.tensor import Tensor
from chainrule.tensor.functions import cat, maximum
from chainrule.training.exact.base import questions

Array = np.ndarray[Any, Any]
EPSILON = float(np.finfo(np.float64).eps)  # the least that MAPE divides by, in scikit-learn


@dataclass(frozen=True)
class Errors:
    """A measure of the errors of values, averaged over the outputs of a row, as scikit-learn's of that name.

    Attributes:
        of: ``"mse"``, ``"rmse"``, ``"mae"``, ``"mape"`` or ``"r2"``.

    Example:
        >>> import chainrule as cr
        >>> r2 = Errors("r2")
        >>> means = r2.statistics(cr.tensor([[1.0], [2.0], [4.0]]), cr.tensor([[1.0], [2.0], [3.0]]))
        >>> round(r2.result(means.numpy()), 6)
        0.5
    """

    of: str

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """For each output a mean over the rows; for R2 three."""
        output, target = questions(output.double(), target.double(), self.of)
        error = output - target
        if self.of == "mae":
            return error.abs().mean(0)
        if self.of == "mape":
            return (error.abs() / maximum(target.abs(), target.abs() * 0 + EPSILON)).mean(0)
        squares = (error**2).mean(0)
        return cat([squares, target.mean(0), (target**2).mean(0)]) if self.of == "r2" else squares

    def result(self, means: Array) -> float:
        """The measure of all rows."""
        if self.of == "r2":
            return self._r2(*means.reshape(3, -1))
        return float((np.sqrt(means) if self.of == "rmse" else means).mean())

    @staticmethod
    def _r2(error: Array, mean: Array, square: Array) -> float:
        """``1 - error / variance``; of targets that are all the same 1 without error, else 0."""
        spread = square - mean**2
        constant = spread <= square * 4 * EPSILON  # no more than rounding
        with np.errstate(all="ignore"):
            found = 1 - error / spread
        return float(np.where(constant, np.where(error == 0, 1.0, 0.0), found).mean())
