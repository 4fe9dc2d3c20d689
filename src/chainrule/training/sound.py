"""Is a trained model of use? What it gives must be finite; where it is not, its weights say why."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import NonFiniteError
from chainrule.nn import Module
from chainrule.tensor.core import numbers
from chainrule.tensor.creation import zeros
from chainrule.tensor.functions import no_grad
from chainrule.training.inputs import evaluating, model_dtype

Array = np.ndarray[Any, Any]
_REMEDY = "Train again, with a lower learning rate"


def check_run(who: str, model: Module, width: int) -> None:
    """Raise `NonFiniteError` where the network of a run has weights that are not finite, or so large that nothing follows.

    Args:
        who: asks.
        model: layers that give a finite number for 0, as those of ``chainrule train`` do.
        width: the numbers of a row.
    """
    weight = _not_finite(model)
    if weight:
        raise NonFiniteError(f"{who}: the model says nothing: {weight}. {_REMEDY}.")
    with evaluating(model), no_grad():
        output: Array = numbers(model(zeros(1, width, dtype=model_dtype(model))))
    if not np.isfinite(output).all():
        raise NonFiniteError(f"{who}: the model gives {_first(output)} for a row of zeros: {_large(model)}. {_REMEDY}.")


def check_outputs(who: str, model: Module, outputs: Array) -> None:
    """Raise `NonFiniteError` where outputs for finite rows are not finite."""
    bad = ~np.isfinite(outputs)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        why = _not_finite(model) or _large(model)
        raise NonFiniteError(
            f"{who}: the model gives {_first(outputs)} for row {row}, counted from 0: {why}. {_REMEDY}, or look at "
            f"that row."
        )


def _first(values: Array) -> str:
    return f"{values[~np.isfinite(values)].flat[0]:g}"


def _not_finite(model: Module) -> str:
    """The first weight that is not finite, in words; empty where all are."""
    for name, parameter in model.named_parameters():
        values = numbers(parameter)
        if not np.isfinite(values).all():
            at = list(map(int, np.argwhere(~np.isfinite(values))[0]))
            return f"its weight {name}{at if at else ''} is {_first(values)}"
    return ""


def _large(model: Module) -> str:
    """How large finite weights are."""
    largest = {name: float(np.abs(numbers(p)).max(initial=0)) for name, p in model.named_parameters() if p.numel()}
    if not largest:
        return "it has no weights, so its own operations do it"
    name = max(largest, key=lambda name: largest[name])
    return f"all weights are finite, the largest is {largest[name]:.3g}, in {name}"
