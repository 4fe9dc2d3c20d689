"""From the user's arrays to what a step can gather from, with every complaint made before the first step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.data.checks import as_array, as_labels, check_finite, check_same_length
from chainrule.dtypes import DType
from chainrule.errors import SettingError, ShapeError
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad

Array = np.ndarray[Any, Any]
Function = Callable[[Tensor, Tensor], Tensor]


@contextmanager
def mode(model: Module, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode inside the block; each of its layers as it was afterwards."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was in before:
            module.training = was


def model_dtype(model: Module) -> DType:
    """The dtype of the first floating parameter (float32 for a model without any)."""
    return next((p.dtype for p in model.parameters() if p.dtype.is_floating_point), dtypes.float32)


def features(model: Module, X: object, who: str, name: str = "X") -> Array:
    """X checked; floating-point and boolean values in the model's dtype, integers (for an embedding) as they are."""
    array = as_array(X, f"{who}: {name}")
    check_finite(array, f"{who}: {name}")
    if array.dtype.kind in "fb":
        return array.astype(model_dtype(model).numpy, copy=False)
    return array.astype(dtypes.as_dtype(array.dtype if array.dtype.kind == "i" else _signed(array)).numpy, copy=False)


def rows(
    model: Module, loss: Function, metrics: Mapping[str, Function], X: object, y: object, who: str,
    names: tuple[str, str] = ("X", "y"),
) -> tuple[Array, Array]:  # fmt: skip
    """X and y checked against each other and, by one small eager pass, against the model, loss and metrics."""
    x_array = features(model, X, who, names[0])
    y_array = as_array(y, f"{who}: {names[1]}")
    check_same_length(x_array, y_array, who, *names)
    check_finite(y_array, f"{who}: {names[1]}")
    with mode(model, False), no_grad():
        output = output_of(model, x_array[:2], who)
        y_array = _targets(model, loss, output, y_array, f"{who}: {names[1]}")
        _check_scalars(loss, metrics, output, tensor(y_array[: output.shape[0]]), who)
    return x_array, y_array


def output_of(model: Module, x: Array, who: str) -> Tensor:
    output = model(tensor(x))
    if not isinstance(output, Tensor) or output.ndim == 0 or output.shape[0] != x.shape[0]:
        came = f"shape {output.shape}" if isinstance(output, Tensor) else type(output).__name__
        raise ShapeError(
            f"{who}: the model must return one tensor with a row for each of the {x.shape[0]} input rows, got {came}. "
            f"Keep the first axis for the rows."
        )
    return output


def _targets(model: Module, loss: Function, output: Tensor, y: Array, who: str) -> Array:
    """Labels as int64 for losses over classes; floats in the model's dtype for the others."""
    classes = output.shape[1] if output.ndim > 1 else output.shape[0]
    probabilities = y.dtype.kind == "f" and y.ndim > 1 and y.shape[1:] == output.shape[1:]
    if _is_over_classes(loss) and not probabilities:
        return as_labels(y, classes, who, _option(loss, "ignore_index", -100))
    if y.dtype.kind == "f" or (y.dtype.kind in "biu" and y.shape[1:] == output.shape[1:]):
        return y.astype(model_dtype(model).numpy, copy=False)  # regression on whole numbers is regression
    return y.astype(np.int64, copy=False)


def _check_scalars(loss: Function, metrics: Mapping[str, Function], output: Tensor, y: Tensor, who: str) -> None:
    for name, function in {"loss": loss, **metrics}.items():
        value = function(output, y)
        if not isinstance(value, Tensor) or value.ndim:
            came = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(
                f"{who}: {name} must be a tensor without axes (the mean over the batch), got {came}. "
                f"Reduce it, for example with .mean() or reduction='mean'."
            )
    if _option(loss, "reduction", "mean") == "none":
        raise SettingError(f"{who}: the loss must be reduced over the batch, got reduction='none'. Use 'mean'.")


def _signed(array: Array) -> Any:
    return np.uint8 if array.dtype == np.uint8 else np.int64


def _is_over_classes(loss: Function) -> bool:
    function = loss.func if isinstance(loss, functools.partial) else loss
    return function in (F.cross_entropy, F.nll_loss) or type(function).__name__ in ("CrossEntropyLoss", "NLLLoss")


def _option(loss: Function, name: str, default: Any) -> Any:
    if isinstance(loss, functools.partial):
        return loss.keywords.get(name, default)
    return getattr(loss, name, default)
