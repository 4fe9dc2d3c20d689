"""Layers whose form sets how fast they learn: the NTK parametrisation of Linear, and a learned factor for each feature."""

from __future__ import annotations

import math
from typing import Any

from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32
from chainrule.errors import ShapeError
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given, ones, zeros


class NTKLinear(Module):
    """``y = x W^T / sqrt(in_features) + b``: a Linear whose weights are of size 1 whatever its width.

    The function and its gradient are those of a Linear with the weights ``W / sqrt(in_features)``; but an optimizer that
    moves each weight by about its rate, as Adam does, moves the output ``sqrt(in_features)`` times less than there. So
    one rate suits layers of any width.

    Args:
        in_features: the length of the input's last axis.
        out_features: the length of the output's last axis.
        bias: learn an additive b.
        zero: start with weights and bias 0, as is usual for a last layer (all classes alike, or the mean, at first).
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Shapes: as for `Linear`. Weights and bias start normal with mean 0 and standard deviation 1.

    Raises:
        ShapeError: when called, if the last axis of the input is not in_features.

    Source: Jacot, Gabriel, Hongler, "Neural tangent kernel: convergence and generalization in neural networks", NeurIPS 2018.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> layer = nn.NTKLinear(4, 1, bias=False)
        >>> _ = layer.load_state_dict({"weight": cr.ones(1, 4)})
        >>> layer(cr.ones(1, 4)).item()
        2.0
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, zero: bool = False, *, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        on_cpu(device)
        super().__init__()
        self.in_features = size("NTKLinear", "in_features", in_features)
        self.out_features = size("NTKLinear", "out_features", out_features)
        self.zero = bool(zero)
        wanted = float32 if dtype is None else as_dtype(dtype)
        self.weight = Parameter(zeros(self.out_features, self.in_features, dtype=wanted))
        self.register_parameter("bias", Parameter(zeros(self.out_features, dtype=wanted)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, or set them to 0."""
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                init.zeros_(parameter) if self.zero else init.normal_(parameter)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to an input of shape (..., in_features)."""
        input = _checked(input, "NTKLinear", self.in_features)
        # The inputs are scaled, and not the outputs: so the gradient of the outputs, as it is, makes those of weight, bias and input.
        if input.dtype.is_floating_point:  # other numbers are refused as they came
            input = input * (1 / math.sqrt(max(1, self.in_features)))
        found = F.linear(input, self.weight)
        return found if self.bias is None else found + self.bias

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Scale(Module):
    """``y = x s``: a learned factor for each feature, 1 at first.

    In front of a network and with a high rate of its own, it lets a training turn features up and down.

    Args:
        features: the length of the input's last axis.
        device: the CPU, or left out.
        dtype: of the factors (float32).

    Raises:
        ShapeError: when called, if the last axis of the input is not `features`.

    Source: Holzmueller, Grinsztajn, Steinwart, "Better by default", NeurIPS 2024, arXiv 2407.04491.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Scale(3)(cr.tensor([[1.0, 2.0, 3.0]])).tolist()
        [[1.0, 2.0, 3.0]]
    """

    weight: Parameter

    def __init__(self, features: int, *, device: Any = None, dtype: Any = None) -> None:
        on_cpu(device)
        super().__init__()
        self.features = size("Scale", "features", features)
        self.weight = Parameter(ones(self.features, dtype=float32 if dtype is None else as_dtype(dtype)))

    def reset_parameters(self) -> None:
        """All factors 1."""
        init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Scale an input of shape (..., features)."""
        return _checked(input, "Scale", self.features) * self.weight

    def extra_repr(self) -> str:
        return f"features={self.features}"


def _checked(input: Tensor, layer: str, features: int) -> Tensor:
    input = given(input, layer)
    if not input.ndim or input.shape[-1] != features:
        raise ShapeError(
            f"{layer}: the last axis of the input must be {features}, got shape {input.shape}. Pass rows of {features} features."
        )
    return input
