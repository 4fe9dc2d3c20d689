"""What a step makes small: the loss of a batch, its rows weighed where weights were given."""

from __future__ import annotations

from typing import Any

from chainrule.errors import SettingError
from chainrule.nn.functional.reduction import weighing_rows, whole
from chainrule.nn.meaning import name_of, option_of
from chainrule.tensor import Tensor
from chainrule.tensor.creation import ones
from chainrule.training.metrics import Metric


def objective(loss: Metric, output: Any, target: Any, weight: Tensor | None) -> Tensor:
    """The loss of a batch: as the loss says, or with weights w of the rows ``sum(w l) / sum(w)``.

    The losses of this library weigh their rows themselves (with the classes' factors and without the ignored, as
    their mean does); any other has to give a number for each row.

    Raises:
        SettingError: a loss of the user's own that gives one number for all.
    """
    if weight is None:
        return loss(output, target)
    if option_of(loss, "weighs_rows", False):
        with weighing_rows(weight) as rows:
            value = loss(output, target)
        if rows.used:
            return value
    else:
        value = loss(output, target)
    if not isinstance(value, Tensor) or value.shape != weight.shape:
        came = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
        raise SettingError(
            f"fit: with weights of rows, a loss of your own must give a number for each row, shape {weight.shape}, "
            f"and {name_of(loss)} gives {came}. Leave out its last .mean(); the mean by the weights is taken for you."
        )
    weight = weight.to(value.dtype)
    return (value * weight).sum() / whole(weight.sum())


def weighing(loss: Metric) -> Metric:
    """The loss as it is with weights of rows, all of them 1."""

    def weighed(output: Tensor, target: Tensor) -> Tensor:
        return objective(loss, output, target, ones(len(output), dtype=output.dtype))

    return weighed
