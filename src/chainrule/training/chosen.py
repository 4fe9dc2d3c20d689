"""What a `Trainer` is given for its loss and its optimizer: by name, or as they are."""

from __future__ import annotations

from typing import Any

from chainrule.errors import SettingError
from chainrule.nn import Module, loss_by_name
from chainrule.optim import OPTIMIZERS, Optimizer, by_name
from chainrule.training import several
from chainrule.training.metrics import Metric, check_order
from chainrule.training.session import check_module


def chosen_loss(given: Any, weights: Any) -> Metric:
    """The loss: the one given, the one of that name, or one for each of several outputs.

    Raises:
        UnknownNameError: no loss of that name.
        SettingError: an optimizer's name, a list, a function that takes targets first, or weights of one loss.
    """
    if isinstance(given, (dict, tuple)):
        for one in given.values() if isinstance(given, dict) else given:
            check_order("loss", one)
        return several.Losses(given, weights)
    if isinstance(given, list):
        raise SettingError(
            f"Trainer: a loss for each output goes as a tuple, by position, or as a dict, by name, got a list of {len(given)}. "
            f"Write tuple(losses)."
        )
    if weights is not None:
        raise SettingError(
            "Trainer: loss_weights are for a dict or tuple of losses. Give each output its loss, or leave them out."
        )
    if not isinstance(given, str):
        check_order("loss", given)
        found: Metric = given
        return found
    if given.lower() in OPTIMIZERS:
        raise SettingError(
            f"Trainer: the loss must be a loss, got the optimizer {given!r}. The loss comes first: Trainer(model, loss, "
            f"optimizer)."
        )
    return loss_by_name(given)


def chosen_optimizer(given: Optimizer | str, model: Module, lr: float | None) -> Optimizer:
    """The optimizer, made over the model's parameters where a name was given."""
    if isinstance(given, str):
        kind: Any = by_name(given)
        check_module(model)
        made: Optimizer = kind(model.parameters(), **({} if lr is None else {"lr": lr}))
        return made
    if lr is not None:
        raise SettingError(
            f"Trainer: lr is for an optimizer given by its name, got lr={lr!r} beside {type(given).__name__}. "
            f"Give the rate to the optimizer, or write optimizer='adam'."
        )
    return given
