"""Activations that write to their input: ``relu_(x)`` is ``relu(x, inplace=True)``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from chainrule.nn.functional.activations import celu, elu, leaky_relu, relu, selu
from chainrule.nn.functional.pieces import hardtanh, rrelu, threshold
from chainrule.tensor import Tensor


def _writing(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(function)
    def write(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(input, *args, **kwargs, inplace=True)

    write.__name__ = write.__qualname__ = f"{function.__name__}_"
    write.__doc__ = f"``{function.__name__}``, in place."
    return write


celu_ = _writing(celu)
elu_ = _writing(elu)
hardtanh_ = _writing(hardtanh)
leaky_relu_ = _writing(leaky_relu)
relu_ = _writing(relu)
rrelu_ = _writing(rrelu)
selu_ = _writing(selu)
threshold_ = _writing(threshold)
