"""What a step makes small: the loss of a batch, its rows weighed where weights were given."""

from __future__ import annotations

from typing import Any

from chainrule.autodiff import trees
from chainrule.errors import SettingError
from chainrule.nn.functional.reduction import noting_masses, weighing_rows, weighted
from chainrule.nn.meaning import name_of, option_of
from chainrule.tensor import Tensor
from chainrule.tensor.creation import ones
from chainrule.training.metrics import Metric
from chainrule.training.several import Losses


def objective(loss: Metric, output: Any, target: Any = None, weight: Tensor | None = None) -> Tensor:
    """The loss of a batch: as the loss says, or with weights w of the rows ``sum(w l) / sum(w)``.

    Without targets (None) the loss is one of the outputs alone.

    The losses of this library weigh their rows themselves (with the classes' factors and without the ignored, as
    their mean does); any other has to give a number for each row.

    Raises:
        SettingError: a loss of the user's own that gives one number for all.
    """
    if isinstance(loss, Losses):
        return loss.total(lambda part, one, of: objective(part, one, of, weight), output, target)
    if weight is None:
        return measured(loss, output, target)
    if option_of(loss, "weighs_rows", False):
        with weighing_rows(weight) as rows:
            value = measured(loss, output, target)
        if rows.used:
            return value
    else:
        with noting_masses():  # whatever it takes means of
            value = measured(loss, output, target)
    if not isinstance(value, Tensor) or value.shape != weight.shape:
        came = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
        raise SettingError(
            f"fit: with weights of rows, a loss of your own must give a number for each row, shape {weight.shape}, "
            f"and {name_of(loss)} gives {came}. Leave out its last .mean(); the mean by the weights is taken for you."
        )
    return weighted(value, weight)


def objective_and_mass(
    loss: Metric, output: Any, target: Any = None, weight: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The loss of a batch, and what it counts for in that of all rows; None: as many rows as it has."""
    with noting_masses() as masses:
        value = objective(loss, output, target, weight)
    if masses.only is None and weight is not None:
        return value, weight.mean()
    return value, masses.only


def measured(metric: Metric, output: Any, target: Any) -> Tensor:
    """A metric of a batch; without targets (None) one of the outputs alone."""
    return metric(output) if target is None else metric(output, target)  # type: ignore[call-arg]


def weighing(loss: Metric) -> Metric:
    """The loss as it is with weights of rows, all of them 1."""

    def weighed(output: Any, target: Any = None) -> Tensor:
        first = trees.leaves(output)[0]
        return objective(loss, output, target, ones(len(first), dtype=first.dtype))

    return weighed
