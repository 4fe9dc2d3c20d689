"""The largest and the mean of each window of an input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chainrule import graph
from chainrule.errors import DtypeError, SettingError
from chainrule.names import takes_keywords
from chainrule.nn.functional.convolution import Sizes, check_axes, each, reach_of
from chainrule.nn.functional.layers import pad
from chainrule.ops import reduction
from chainrule.tensor import Tensor
from chainrule.tensor.core import apply, integer
from chainrule.tensor.creation import arange, given, ones
from chainrule.tensor.rounding import rounded_once

Window = int | Sequence[int]


@takes_keywords("functional")
def max_pool1d(
    input: Tensor, kernel_size: Window, stride: Window | None = None, padding: Window = 0, dilation: Window = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """`max_pool2d` over one spatial axis: input (N, C, L) or (C, L)."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@takes_keywords("functional")
def max_pool2d(
    input: Tensor, kernel_size: Window, stride: Window | None = None, padding: Window = 0, dilation: Window = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """The largest element of each window, channel by channel.

    Args:
        input: shape (N, C, H, W) or (C, H, W), floating.
        kernel_size: of a window: one number, or one for each spatial axis.
        stride: from one window to the next; kernel_size if left out.
        padding: how far windows reach beyond each side, at most half of one; nothing is there that could be largest.
        dilation: from one element of a window to the next.
        ceil_mode, return_indices: False; PyTorch's other ways are not there.

    Returns:
        A tensor of shape (N, C, P, Q) with P = (H + 2 padding - dilation (kernel_size - 1) - 1) // stride + 1.

    Raises:
        ShapeError: the input has other axes, or is smaller than a window.
        SettingError: sizes that mean nothing.

    The gradient goes to the largest element, of several the first, as in PyTorch.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.max_pool2d(cr.arange(16.0).reshape(1, 4, 4), 2).tolist()
        [[[5.0, 7.0], [13.0, 15.0]]]
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@takes_keywords("functional")
def max_pool3d(
    input: Tensor, kernel_size: Window, stride: Window | None = None, padding: Window = 0, dilation: Window = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Tensor:  # fmt: skip
    """`max_pool2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@takes_keywords("functional")
@rounded_once
def avg_pool1d(
    input: Tensor, kernel_size: Window, stride: Window | None = None, padding: Window = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """`avg_pool2d` over one spatial axis: input (N, C, L) or (C, L)."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@takes_keywords("functional")
@rounded_once
def avg_pool2d(
    input: Tensor, kernel_size: Window, stride: Window | None = None, padding: Window = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of each window, channel by channel.

    Args:
        input: shape (N, C, H, W) or (C, H, W), floating.
        kernel_size, stride, padding, ceil_mode: as of `max_pool2d`; what is beyond a side counts as 0.
        count_include_pad: divide by the elements of a whole window, not by those that are there.
        divisor_override: divide by this instead.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.avg_pool2d(cr.arange(16.0).reshape(1, 4, 4), 2).tolist()
        [[[2.5, 4.5], [10.5, 12.5]]]
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


@takes_keywords("functional")
@rounded_once
def avg_pool3d(
    input: Tensor, kernel_size: Window, stride: Window | None = None, padding: Window = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """`avg_pool2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _max_pool(
    name: str, rank: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any,
    return_indices: Any,
) -> Tensor:  # fmt: skip
    x = given(input, name)
    size, steps, border = _sizes(name, rank, x, kernel_size, stride, padding, ceil_mode)
    apart = each(name, "dilation", dilation, rank, 1)
    refuse(name, False, return_indices)
    local = graph._local
    outer, local.aliasing = local.aliasing, False
    try:
        padded = _beyond(x, border, -math.inf)
        seen = _windows(name, rank, padded, size, steps, apart)
        folded = tuple(range(seen.ndim - rank, seen.ndim))
        which = apply(reduction.argmax, seen.detach(), dims=folded)
        place = arange(math.prod(size)).reshape(size)
        largest = place == which.reshape((*which.shape, *(1,) * rank))
        return _channels_first(rank, seen.where(largest, 0.0).sum(folded))
    finally:
        local.aliasing = outer


def _avg_pool(
    name: str, rank: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, whole: bool,
    divisor: Any,
) -> Tensor:  # fmt: skip
    x = given(input, name)
    size, steps, border = _sizes(name, rank, x, kernel_size, stride, padding, ceil_mode)
    if divisor is not None and integer(divisor, name, "divisor_override") == 0:
        raise SettingError(f"{name}: divisor_override must not be 0.")
    local = graph._local
    outer, local.aliasing = local.aliasing, False
    try:

        def total(x: Tensor) -> Tensor:
            seen = _windows(name, rank, _beyond(x, border, 0.0), size, steps, (1,) * rank)
            return _channels_first(rank, seen.sum(tuple(range(seen.ndim - rank, seen.ndim))))

        if divisor is not None:
            return total(x) / float(divisor)
        if whole or not any(border):
            return total(x) / float(math.prod(size))
        return total(x) / total(ones((1, *x.shape[-rank:]), dtype=x.dtype))
    finally:
        local.aliasing = outer


# -- windows -----------------------------------------------------------------------------------------------


def refuse(name: str, ceil_mode: object, return_indices: object = False) -> None:
    """What PyTorch's pools do besides.

    Raises:
        SettingError: it is asked for.
    """
    if ceil_mode:
        raise SettingError(
            f"{name}: ceil_mode must be False. Windows that are cut off at the end are not in chainrule."
        )
    if return_indices:
        raise SettingError(f"{name}: return_indices must be False. Where the largest are is not given in chainrule.")


def _sizes(
    name: str, rank: int, x: Tensor, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any
) -> tuple[Sizes, Sizes, Sizes]:
    """The windows, the steps between them, and how far they reach beyond each side."""
    check_axes(name, rank, x)
    if not x.dtype.is_floating_point:
        raise DtypeError(
            f"{graph.who(name)}: the input must be floating, got {x.dtype.name}. Convert it with .float()."
        )
    refuse(name, ceil_mode)
    size = each(name, "kernel_size", kernel_size, rank, 1)
    border = each(name, "padding", padding, rank, 0)
    if any(2 * beyond > window for beyond, window in zip(border, size, strict=True)):
        raise SettingError(f"{name}: padding must be at most half of kernel_size, {size}, got {padding!r}.")
    return size, size if stride is None else each(name, "stride", stride, rank, 1), border


def _beyond(x: Tensor, border: Sizes, value: float) -> Tensor:
    return pad(x, [side for sides in reversed(border) for side in (sides, sides)], value=value) if any(border) else x


def _windows(name: str, rank: int, x: Tensor, size: Sizes, stride: Sizes, dilation: Sizes) -> Tensor:
    """(..., C, *sizes) as (..., *places, C, *windows), a view; those that meet without a gap are a reshape."""
    reach = reach_of(size, dilation)
    if any(have < need for have, need in zip(x.shape[-rank:], reach, strict=True)):
        raise graph.shape_error(
            name, f"a window, {reach} with its dilation, must fit in the input with its padding, {x.shape[-rank:]}",
            f"kernel_size {size}", "Take smaller windows, or fewer layers before.",
        )  # fmt: skip
    first = x.ndim - rank
    seen = x.permute((*range(first - 1), *range(first, x.ndim), first - 1))
    if stride == size and all(apart == 1 for apart in dilation):
        return _meeting(rank, seen, size)
    for axis, sizes in enumerate(zip(size, stride, dilation, strict=True)):
        seen = seen._unfold(first - 1 + axis, *sizes)
    return seen


def _meeting(rank: int, x: Tensor, size: Sizes) -> Tensor:
    """Windows side by side: each axis is one of places and one inside them; what is left at its end is in none."""
    first = x.ndim - rank - 1
    *batch, channels = (*x.shape[:first], x.shape[-1])
    counts = [have // window for have, window in zip(x.shape[first:-1], size, strict=True)]
    used = [count * window for count, window in zip(counts, size, strict=True)]
    part = x._slice((0,) * x.ndim, (*batch, *used, channels), (1,) * x.ndim)
    both = [number for pair in zip(counts, size, strict=True) for number in pair]
    cut = part.reshape((*batch, *both, channels))
    places, inside = (range(first + start, first + 2 * rank, 2) for start in (0, 1))
    return cut.permute((*range(first), *places, first + 2 * rank, *inside))


def _channels_first(rank: int, y: Tensor) -> Tensor:
    first = y.ndim - rank - 1
    return y.permute((*range(first), y.ndim - 1, *range(first, y.ndim - 1)))
