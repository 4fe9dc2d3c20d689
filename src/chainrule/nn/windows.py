"""Windows of images as columns, and back."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class Unfold(Module):
    """The windows of images, each as a column; arguments and shapes: ``F.unfold``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Unfold(kernel_size=(2, 3))(cr.zeros(5, 4, 6, 6)).shape
        (5, 24, 20)
    """

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        dilation: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        stride: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """Columns from images (N, C, H, W)."""
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Module):
    """Images from columns, overlapping windows added up; arguments and shapes: ``F.fold``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Fold(output_size=(6, 6), kernel_size=(2, 3))(cr.zeros(5, 24, 20)).shape
        (5, 4, 6, 6)
    """

    def __init__(
        self,
        output_size: int | Sequence[int],
        kernel_size: int | Sequence[int],
        dilation: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        stride: int | Sequence[int] = 1,
    ) -> None:
        super().__init__()
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, input: Tensor) -> Tensor:
        """Images from columns (N, C * windows' elements, number of windows)."""
        return F.fold(input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, dilation={self.dilation}, "
            f"padding={self.padding}, stride={self.stride}"
        )
