"""MaxPool, AvgPool over one, two and three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.nn import functional as F
from chainrule.nn.functional.convolution import each
from chainrule.nn.functional.pooling import refuse
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class _Pool(Module):
    """What the pools have in common: sizes as they were given, since PyTorch shows and keeps them so."""

    _rank: int

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.ceil_mode = kernel_size, padding, ceil_mode
        self.stride = kernel_size if stride is None else stride
        for what, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            each(type(self).__name__, what, getattr(self, what), self._rank, least)
        refuse(type(self).__name__, ceil_mode)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    def __init__(
        self, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0, dilation: int | Sequence[int] = 1, return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation, self.return_indices = dilation, return_indices
        each(type(self).__name__, "dilation", dilation, self._rank, 1)
        refuse(type(self).__name__, ceil_mode, return_indices)

    def forward(self, input: Tensor) -> Tensor:
        """The largest of each window of an input with an axis of channels, and a batch before that or none."""
        formula = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[self._rank]
        return formula(input, self.kernel_size, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    """The largest element of each window along one spatial axis: see `MaxPool2d`."""

    _rank = 1


class MaxPool2d(_MaxPool):
    """The largest element of each window, channel by channel; see ``F.max_pool2d``.

    Args:
        kernel_size: of a window: one number, or one for each spatial axis.
        stride: from one window to the next; kernel_size if left out.
        padding: how far windows reach beyond each side, at most half of one.
        dilation: from one element of a window to the next.
        return_indices, ceil_mode: False; PyTorch's other ways are not there.

    Raises:
        SettingError: sizes that mean nothing.
        ShapeError: when called, if the input is smaller than a window.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.MaxPool2d(2)(cr.zeros(5, 16, 24, 24)).shape
        (5, 16, 12, 12)
    """

    _rank = 2


class MaxPool3d(_MaxPool):
    """The largest element of each window over three spatial axes: see `MaxPool2d`."""

    _rank = 3


class _AvgPool(_Pool):
    def __init__(
        self, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0, ceil_mode: bool = False, count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """The mean of each window of an input with an axis of channels, and a batch before that or none."""
        formula = {2: F.avg_pool2d, 3: F.avg_pool3d}[self._rank]
        sizes = self.kernel_size, self.stride, self.padding
        return formula(input, *sizes, self.ceil_mode, self.count_include_pad, self.divisor_override)


class AvgPool1d(_Pool):
    """The mean of each window along one spatial axis: see `AvgPool2d`."""

    _rank = 1

    def __init__(
        self, kernel_size: int | Sequence[int], stride: int | Sequence[int] | None = None,
        padding: int | Sequence[int] = 0, ceil_mode: bool = False, count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad
        for what in ("kernel_size", "stride", "padding"):  # as PyTorch's keeps them, of this one layer
            least = int(what != "padding")
            setattr(self, what, each("AvgPool1d", what, getattr(self, what), 1, least))

    def forward(self, input: Tensor) -> Tensor:
        """The mean of each window of an input (N, C, L) or (C, L)."""
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class AvgPool2d(_AvgPool):
    """The mean of each window, channel by channel; see ``F.avg_pool2d``.

    Args:
        kernel_size, stride, padding, ceil_mode: as of `MaxPool2d`.
        count_include_pad: divide by the elements of a whole window, not by those that are there.
        divisor_override: divide by this instead.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.AvgPool2d(2)(cr.zeros(5, 16, 24, 24)).shape
        (5, 16, 12, 12)
    """

    _rank = 2


class AvgPool3d(_AvgPool):
    """The mean of each window over three spatial axes: see `AvgPool2d`."""

    _rank = 3
