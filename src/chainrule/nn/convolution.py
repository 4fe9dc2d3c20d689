"""Conv1d, Conv2d and Conv3d."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32
from chainrule.errors import SettingError
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.convolution import borders, each
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.tensor import Tensor
from chainrule.tensor.creation import zeros


class _Conv(Module):
    """What convolutions over any number of spatial axes have in common."""

    weight: Parameter
    bias: Parameter | None
    _rank: ClassVar[int]
    _formula: ClassVar[Callable[..., Tensor]]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0, dilation: int | Sequence[int] = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", *, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        on_cpu(device)
        super().__init__()
        name, rank = type(self).__name__, self._rank
        self.in_channels = size(name, "in_channels", in_channels)
        self.out_channels = size(name, "out_channels", out_channels)
        self.kernel_size = each(name, "kernel_size", kernel_size, rank, 1)
        self.stride, self.dilation = each(name, "stride", stride, rank, 1), each(name, "dilation", dilation, rank, 1)
        self.groups = size(name, "groups", groups)
        self._check_groups()
        if padding_mode != "zeros":
            raise SettingError(
                f"{name}: padding_mode must be 'zeros', got {padding_mode!r}. Other borders are not in chainrule."
            )
        borders(name, padding, self.kernel_size, self.stride, self.dilation)
        self.padding = padding if isinstance(padding, str) else each(name, "padding", padding, rank, 0)
        self.padding_mode = padding_mode
        wanted = float32 if dtype is None else as_dtype(dtype)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(zeros(*shape, dtype=wanted))
        self.register_parameter("bias", Parameter(zeros(self.out_channels, dtype=wanted)) if bias else None)
        self.reset_parameters()

    def _check_groups(self) -> None:
        for what in ("in_channels", "out_channels"):
            count = getattr(self, what)
            if self.groups < 1 or count % self.groups:
                raise SettingError(
                    f"{type(self).__name__}: {what} must be a multiple of groups, got {count} and {self.groups}."
                )

    def reset_parameters(self) -> None:
        """Draw weight and bias anew."""
        if self.weight.numel():
            init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        terms = math.prod(self.weight.shape[1:])
        if self.bias is not None and terms:
            bound = 1 / math.sqrt(terms)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve an input with an axis of in_channels before the spatial ones, and a batch before that or none."""
        return type(self)._formula(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        if self.padding != (0,) * self._rank:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self._rank:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class Conv1d(_Conv):
    """A convolution over one spatial axis: see `Conv2d` and ``F.conv1d``.

    Shapes: input (N, in_channels, L) or (in_channels, L), ``weight`` (out_channels, in_channels / groups, kernel_size).
    """

    _rank, _formula = 1, staticmethod(F.conv1d)


class Conv2d(_Conv):
    """A convolution over images: each output channel is a sum over windows of the input; see ``F.conv2d``.

    Args:
        in_channels: of the input.
        out_channels: of the output, each with a weight of its own.
        kernel_size: of a window: one number, or one for each spatial axis.
        stride: from one window to the next.
        padding: zeros around the input; "valid" is none, "same" as many as keep its sizes.
        dilation: from one element of a window to the next.
        groups: parts of the channels that are convolved by themselves.
        bias: learn an additive number for each output channel.
        padding_mode: "zeros"; PyTorch's other borders are not there.
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Shapes: input (N, in_channels, H, W) or (in_channels, H, W), ``weight`` (out_channels, in_channels / groups,
    *kernel_size), ``bias`` (out_channels,). Both start uniform in +-1/sqrt(terms of a window), as PyTorch's do.

    Raises:
        SettingError: sizes that mean nothing, or groups that do not divide the channels.
        ShapeError: when called, if the input has other channels, or is smaller than a window.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Conv2d(3, 8, 3, padding=1)(cr.zeros(5, 3, 28, 28)).shape
        (5, 8, 28, 28)
    """

    _rank, _formula = 2, staticmethod(F.conv2d)


class Conv3d(_Conv):
    """A convolution over three spatial axes: see `Conv2d` and ``F.conv3d``.

    Shapes: input (N, in_channels, D, H, W) or (in_channels, D, H, W).
    """

    _rank, _formula = 3, staticmethod(F.conv3d)


# -- transposed ----------------------------------------------------------------------------------------------------------


class _ConvTranspose(_Conv):
    """Transposed convolutions over any number of spatial axes."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0, groups: int = 1, bias: bool = True,
        dilation: int | Sequence[int] = 1, padding_mode: str = "zeros", *, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device=device,
            dtype=dtype,
        )  # fmt: skip
        self.output_padding = each(type(self).__name__, "output_padding", output_padding, self._rank, 0)
        shape = (self.in_channels, self.out_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(zeros(*shape, dtype=self.weight.dtype))
        self.reset_parameters()

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Convolve an input with an axis of in_channels before the spatial ones, and a batch before that or none.

        Args:
            input: the input.
            output_size: of the output's spatial axes, among those that have this input's; in place of output_padding.
        """
        more = self.output_padding if output_size is None else self._more(input, tuple(output_size)[-self._rank :])
        sizes = self.stride, self.padding, more, self.groups, self.dilation
        return type(self)._formula(input, self.weight, self.bias, *sizes)

    def _more(self, input: Tensor, wanted: Sequence[int]) -> tuple[int, ...]:
        border = self.padding if not isinstance(self.padding, str) else (0,) * self._rank
        found = []
        for n, full, k, s, b, d in zip(
            input.shape[-self._rank :], wanted, self.kernel_size, self.stride, border, self.dilation, strict=True
        ):
            least = (n - 1) * s - 2 * b + d * (k - 1) + 1
            if not least <= full < least + s:
                raise SettingError(
                    f"{type(self).__name__}: output_size must be in [{least}, {least + s - 1}] for this input, got {full}."
                )
            found.append(full - least)
        return tuple(found)


class ConvTranspose1d(_ConvTranspose):
    """A transposed convolution over one spatial axis: see `ConvTranspose2d`."""

    _rank, _formula = 1, staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
    """A transposed convolution over images: what makes them larger; see ``F.conv_transpose2d``.

    Args:
        in_channels, out_channels, kernel_size, bias, padding_mode, device, dtype: as for `Conv2d`.
        stride, padding, groups, dilation: of the convolution that it is the transpose of.
        output_padding: how much longer each axis of the output is at its end.

    Shapes: input (N, in_channels, P, Q) or (in_channels, P, Q), ``weight`` (in_channels, out_channels / groups,
    *kernel_size), ``bias`` (out_channels,). Both start uniform in +-1/sqrt(out_channels / groups * window), as PyTorch's do.

    Raises:
        SettingError: sizes that mean nothing, or groups that do not divide the channels.
        ShapeError: when called, if the input has other channels.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1)(cr.zeros(5, 8, 14, 14)).shape
        (5, 3, 28, 28)
    """

    _rank, _formula = 2, staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
    """A transposed convolution over three spatial axes: see `ConvTranspose2d`."""

    _rank, _formula = 3, staticmethod(F.conv_transpose3d)
