"""Linear, Bilinear, Flatten and its inverse, Identity, the dropouts and pads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chainrule import graph
from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32
from chainrule.errors import ShapeError
from chainrule.graph import current_layer
from chainrule.lines import user_line
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.layers import linear_formula, probability
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.nn.whole import pure
from chainrule.tape.doors import again
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given, zeros


class Linear(Module):
    """``y = x W^T + b``: the fully connected layer.

    Args:
        in_features: the length of the input's last axis.
        out_features: the length of the output's last axis.
        bias: learn an additive b.
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Shapes: input (..., in_features), output (..., out_features), ``weight`` (out_features, in_features),
    ``bias`` (out_features,). Both start uniform in +-1/sqrt(in_features), as PyTorch's do.

    Raises:
        ShapeError: when called, if the last axis of the input is not in_features.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Linear(3, 2)(cr.zeros(5, 3)).shape
        (5, 2)
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, device: Any = None, dtype: Any = None
    ) -> None:
        on_cpu(device)
        super().__init__()
        self.in_features, self.out_features = (
            size("Linear", "in_features", in_features),
            size("Linear", "out_features", out_features),
        )
        wanted = float32 if dtype is None else as_dtype(dtype)
        self.weight = Parameter(zeros(self.out_features, self.in_features, dtype=wanted))
        self.register_parameter("bias", Parameter(zeros(self.out_features, dtype=wanted)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        if self.weight.numel():
            init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None and self.in_features:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to an input of shape (..., in_features)."""
        tape = graph.waiting()
        if tape is not None:  # of these types before, which fitted
            own = self._parameters
            found = again(tape, linear_formula, (input, own.get("weight"), own.get("bias")))
            if found is not None:
                return found
        if not isinstance(input, Tensor):
            input = given(input, "Linear")
        shape = input._node.shape
        if not shape or shape[-1] != self.in_features:
            raise self._wrong_shape(input)
        return F.linear(input, self.weight, self.bias)

    def _wrong_shape(self, input: Tensor) -> ShapeError:
        _, _, path = current_layer().partition(".")
        line = user_line()
        if input.numel() and input.ndim > 1 and math.prod(input.shape[1:]) == self.in_features:
            remedy = "Flatten the input first: put nn.Flatten() before this layer."
        elif input.ndim:
            remedy = f"Make in_features={input.shape[-1]}, or change what comes before this layer."
        else:
            remedy = "Give it an axis of features: x.reshape(1, -1)."
        return ShapeError(
            f"Linear{f' {path!r}' if path else ''} (in_features={self.in_features}): the last axis of "
            "its input "
            f"must be {self.in_features}, got shape {input.shape}. {remedy}{f' ({line})' if line else ''}"
        )

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """The input as it is; takes and ignores any arguments, to stand in for another layer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return the input."""
        return input


class Flatten(Module):
    """Make one axis of the axes ``start_dim`` to ``end_dim``; by default everything but the batch.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Flatten()(cr.zeros(5, 2, 3)).shape
        (5, 6)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Flatten an input of any shape with at least start_dim axes."""
        return given(input, "Flatten").flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """While training: each element 0 with probability p, the others divided by ``1 - p``.

    Args:
        p: the share of elements to drop, in [0, 1].
        inplace: write the result to the input, too.

    Raises:
        SettingError: p outside [0, 1].
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p, self.inplace = probability(type(self).__name__, p), inplace

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training, pass the input through in evaluation."""
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout1d(Dropout):
    """While training: each channel 0 with probability p, the others divided by ``1 - p``; see ``F.dropout1d``."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels of an input (N, C, L) or (C, L) in training."""
        return F.dropout1d(input, self.p, self.training, self.inplace)


class Dropout2d(Dropout):
    """While training: each channel 0 with probability p, the others divided by ``1 - p``; see ``F.dropout2d``."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels of an input (N, C, H, W) or (C, H, W) in training."""
        return F.dropout2d(input, self.p, self.training, self.inplace)


class Dropout3d(Dropout):
    """While training: each channel 0 with probability p, the others divided by ``1 - p``; see ``F.dropout3d``."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop channels of an input (N, C, D, H, W) or (C, D, H, W) in training."""
        return F.dropout3d(input, self.p, self.training, self.inplace)


class AlphaDropout(Dropout):
    """A dropout that keeps mean 0 and variance 1, for networks of ``SELU``; see ``F.alpha_dropout``."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop in training, pass the input through in evaluation."""
        return F.alpha_dropout(input, self.p, self.training, self.inplace)


class Unflatten(Module):
    """Make several axes of the axis ``dim``: the inverse of ``Flatten``.

    Args:
        dim: the axis.
        unflattened_size: the sizes to give it; one of them may be -1.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Unflatten(1, (2, 3))(cr.zeros(5, 6)).shape
        (5, 2, 3)
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        """Unflatten an input whose axis dim is as long as the sizes' product."""
        return given(input, "Unflatten").unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class ConstantPad1d(Module):
    """Put a border of one value around the last axis; see ``F.pad``.

    Args:
        padding: how much before and after, or one number for both.
        value: what the border holds.
    """

    def __init__(self, padding: int | tuple[int, int], value: float) -> None:
        super().__init__()
        self.padding = (padding, padding) if isinstance(padding, int) else tuple(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """Pad an input of shape (..., L)."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad1d(ConstantPad1d):
    """Put a border of zeros around the last axis; see ``F.pad``."""

    def __init__(self, padding: int | tuple[int, int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class Bilinear(Module):
    """``y[k] = x1^T W[k] x2 + b[k]``; see ``F.bilinear``.

    Args:
        in1_features: the length of the first input's last axis.
        in2_features: that of the second's.
        out_features: the length of the output's last axis.
        bias: learn an additive b.
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Shapes: ``weight`` (out_features, in1_features, in2_features), ``bias`` (out_features,). Both start uniform in
    +-1/sqrt(in1_features), as PyTorch's do.

    Raises:
        ShapeError: when called, if the inputs do not fit.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        on_cpu(device)
        super().__init__()
        self.in1_features = size("Bilinear", "in1_features", in1_features)
        self.in2_features = size("Bilinear", "in2_features", in2_features)
        self.out_features = size("Bilinear", "out_features", out_features)
        wanted = float32 if dtype is None else as_dtype(dtype)
        self.weight = Parameter(zeros(self.out_features, self.in1_features, self.in2_features, dtype=wanted))
        self.register_parameter("bias", Parameter(zeros(self.out_features, dtype=wanted)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        if self.in1_features:
            bound = 1 / math.sqrt(self.in1_features)
            init.uniform_(self.weight, -bound, bound)
            if self.bias is not None:
                init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Apply the layer to inputs of shapes (..., in1_features) and (..., in2_features)."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


pure(Linear, Identity, Flatten)
