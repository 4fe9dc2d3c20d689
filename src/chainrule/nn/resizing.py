"""Adaptive pools, upsampling, pixel shuffles, borders: the layers of `chainrule.nn.functional`'s functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from chainrule.errors import SettingError
from chainrule.nn import functional as F
from chainrule.nn.functional.resizing import Wanted
from chainrule.nn.module import Module
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer


class _Adaptive(Module):
    _formula: ClassVar[Callable[..., Tensor]]

    def __init__(self, output_size: Wanted) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """Pool an input with an axis of channels before the spatial ones, and a batch before that or none."""
        return type(self)._formula(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveMax(_Adaptive):
    def __init__(self, output_size: Wanted, return_indices: bool = False) -> None:
        super().__init__(output_size)
        if return_indices:
            raise SettingError(
                f"{type(self).__name__}: return_indices must be False. Where the largest are is not given in chainrule."
            )
        self.return_indices = False


class AdaptiveAvgPool1d(_Adaptive):
    """The means of as many windows as output_size says; see `AdaptiveAvgPool2d`."""

    _formula = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_Adaptive):
    """The means of as many windows as output_size says, whatever the input's size; see ``F.adaptive_avg_pool2d``.

    Args:
        output_size: (P, Q), or one number for both; None keeps a size.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.AdaptiveAvgPool2d((1, 1))(cr.zeros(5, 16, 7, 9)).shape
        (5, 16, 1, 1)
    """

    _formula = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_Adaptive):
    """The means of as many windows as output_size says; see `AdaptiveAvgPool2d`."""

    _formula = staticmethod(F.adaptive_avg_pool3d)


class AdaptiveMaxPool1d(_AdaptiveMax):
    """The largest elements of as many windows as output_size says; see `AdaptiveAvgPool2d`."""

    _formula = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMax):
    """The largest elements of as many windows as output_size says; see `AdaptiveAvgPool2d`."""

    _formula = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMax):
    """The largest elements of as many windows as output_size says; see `AdaptiveAvgPool2d`."""

    _formula = staticmethod(F.adaptive_max_pool3d)


class Upsample(Module):
    """The input at another size; arguments and formula: ``F.interpolate``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Upsample(scale_factor=2)(cr.zeros(5, 3, 4, 4)).shape
        (5, 3, 8, 8)
    """

    def __init__(
        self, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.scale_factor, self.mode = size, scale_factor, mode
        self.align_corners, self.recompute_scale_factor = align_corners, recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        """Resize an input (N, C, ...)."""
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        what = f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"
        return f"{what}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """`Upsample` of images with ``mode="nearest"``."""

    def __init__(
        self, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """`Upsample` of images with ``mode="bilinear"`` and ``align_corners=True``."""

    def __init__(
        self, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class PixelShuffle(Module):
    """Channels to places; see ``F.pixel_shuffle``."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = integer(upscale_factor, "PixelShuffle", "upscale_factor")

    def forward(self, input: Tensor) -> Tensor:
        """Shuffle an input (..., C r^2, H, W)."""
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Places to channels; see ``F.pixel_unshuffle``."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = integer(downscale_factor, "PixelUnshuffle", "downscale_factor")

    def forward(self, input: Tensor) -> Tensor:
        """Unshuffle an input (..., C, H r, W r)."""
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """The channels of the groups in turn; see ``F.channel_shuffle``."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = integer(groups, "ChannelShuffle", "groups")

    def forward(self, input: Tensor) -> Tensor:
        """Shuffle an input (N, C, ...)."""
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class Softmax2d(Module):
    """The softmax over the channels at each place of an image (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        """Shares of the channels."""
        return F.softmax(input, -3)


# -- borders ---------------------------------------------------------------------------------------------------------


class _Border(Module):
    """What borders have in common: how far they reach, as two numbers for each spatial axis, the last first."""

    _rank: ClassVar[int]
    _mode: ClassVar[str]

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        both = (padding,) * (2 * self._rank) if isinstance(padding, int) else tuple(padding)
        if len(both) != 2 * self._rank:
            raise SettingError(
                f"{type(self).__name__}: padding must be one number, or {2 * self._rank}, got {padding!r}."
            )
        self.padding = both

    def forward(self, input: Tensor) -> Tensor:
        """Pad an input with an axis of channels before the spatial ones, and a batch before that or none."""
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _Constant(_Border):
    _mode = "constant"

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        """Pad an input with an axis of channels before the spatial ones, and a batch before that or none."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(_Constant):
    """A border of one value around images: (left, right, top, bottom), or one number for all."""

    _rank = 2


class ConstantPad3d(_Constant):
    """A border of one value around volumes: two numbers for each axis, the last first, or one for all."""

    _rank = 3


class ZeroPad2d(_Border):
    """A border of zeros around images: (left, right, top, bottom), or one number for all."""

    _rank, _mode = 2, "constant"


class ZeroPad3d(_Border):
    """A border of zeros around volumes."""

    _rank, _mode = 3, "constant"


class ReflectionPad1d(_Border):
    """A border that reflects the input, without its outermost element."""

    _rank, _mode = 1, "reflect"


class ReflectionPad2d(_Border):
    """A border that reflects images, without their outermost elements: (left, right, top, bottom), or one number."""

    _rank, _mode = 2, "reflect"


class ReflectionPad3d(_Border):
    """A border that reflects volumes, without their outermost elements."""

    _rank, _mode = 3, "reflect"


class ReplicationPad1d(_Border):
    """A border of the outermost element."""

    _rank, _mode = 1, "replicate"


class ReplicationPad2d(_Border):
    """A border of the outermost elements of images: (left, right, top, bottom), or one number."""

    _rank, _mode = 2, "replicate"


class ReplicationPad3d(_Border):
    """A border of the outermost elements of volumes."""

    _rank, _mode = 3, "replicate"


class CircularPad1d(_Border):
    """A border with what stands at the other end."""

    _rank, _mode = 1, "circular"


class CircularPad2d(_Border):
    """A border of images with what stands at the other end: (left, right, top, bottom), or one number."""

    _rank, _mode = 2, "circular"


class CircularPad3d(_Border):
    """A border of volumes with what stands at the other end."""

    _rank, _mode = 3, "circular"
