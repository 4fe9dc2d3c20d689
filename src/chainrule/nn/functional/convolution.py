"""Convolutions over one, two and three spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule import graph
from chainrule.errors import DtypeError, SettingError
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer
from chainrule.tensor.creation import given
from chainrule.tensor.rounding import in_float32

Sizes = tuple[int, ...]
Border = tuple[tuple[int, int], ...]  # before and after each spatial axis


@takes_keywords("functional")
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0, dilation: int | Sequence[int] = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """``y[n, o, p] = b[o] + sum over c, k of w[o, c, k] x[n, c, stride p + dilation k]``: see `conv2d`.

    Args:
        input: shape (N, C, L) or (C, L), floating.
        weight: shape (O, C / groups, K), of the same dtype.
        bias: shape (O,), or None.
        stride: from one window to the next.
        padding: zeros before and after the axis; "valid" is 0, "same" as many as keep its size.
        dilation: from one element of a window to the next.
        groups: parts of the channels that are convolved by themselves.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.conv1d(cr.tensor([[1.0, 2.0, 4.0]]), cr.tensor([[[-1.0, 1.0]]]))
        tensor([[1., 2.]])
    """
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


@takes_keywords("functional")
def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0, dilation: int | Sequence[int] = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """The sum over each window of the input, times the weight.

    ``y[n, o, p, q] = b[o] + sum over c, k, l of w[o, c, k, l] x[n, c, s p + d k, s q + d l]``

    Args:
        input: shape (N, C, H, W) or (C, H, W), floating.
        weight: shape (O, C / groups, K, L), of the same dtype.
        bias: shape (O,), or None.
        stride: s, from one window to the next: one number, or one for each spatial axis.
        padding: zeros before and after each axis; "valid" is 0, "same" as many as keep the sizes.
        dilation: d, from one element of a window to the next.
        groups: parts of the channels that are convolved by themselves: part g of the input makes part g of the output.

    Returns:
        A tensor of shape (N, O, P, Q) with P = (H + 2 padding - d (K - 1) - 1) // s + 1, and Q likewise.

    Raises:
        ShapeError: the channels do not fit the weight, or a window is larger than the padded input.
        DtypeError: input and weight differ in dtype, or are not floating.
        SettingError: a stride, padding, dilation or number of groups that means nothing.

    Inside a compiled step no windows are copied: each is read where it lies. Terms are added channel by channel, each
    channel row by row. A border of zeros is multiplied like any other elements, so an infinite weight makes NaN there.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.conv2d(cr.ones(1, 1, 3, 3), cr.ones(1, 1, 2, 2)).tolist()
        [[[[4.0, 4.0], [4.0, 4.0]]]]
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


@takes_keywords("functional")
def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0, dilation: int | Sequence[int] = 1, groups: int = 1,
) -> Tensor:  # fmt: skip
    """`conv2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W), weight (O, C / groups, K, L, M)."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _conv(
    name: str, rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    groups: Any,
) -> Tensor:  # fmt: skip
    x, weight = given(input, name), given(weight, name, "weight")
    steps, apart = each(name, "stride", stride, rank, 1), each(name, "dilation", dilation, rank, 1)
    parts = integer(groups, name, "groups")
    _check(name, rank, x, weight, parts)
    border = borders(name, padding, weight.shape[2:], steps, apart)
    return _framed(name, rank, x, weight, bias, steps, border, apart, parts, (1,) * rank)


def _framed(
    name: str, rank: int, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, border: Border, dilation: Sizes,
    groups: int, spread: Sizes,
) -> Tensor:  # fmt: skip
    """The convolution of the input with zeros around it and, where it is `spread`, between its elements."""
    if bias is not None:
        bias = given(bias, name, "bias")
        _check_bias(name, weight, bias)
    if x.dtype.only_stores:
        return in_float32(_framed, name, rank, x, weight, bias, stride, border, dilation, groups, spread)
    sizes = tuple(size and (size - 1) * step + 1 for size, step in zip(x.shape[-rank:], spread, strict=True))
    _check_room(name, sizes, weight.shape[2:], border, dilation)
    local = graph._local
    outer, local.aliasing = local.aliasing, False
    try:
        batched = x if x.ndim == rank + 2 else x.unsqueeze(0)
        y = _channels_last(batched, weight, bias, stride, border, dilation, groups, spread)
        return y if x.ndim == rank + 2 else y.squeeze(0)
    finally:
        local.aliasing = outer


def _channels_last(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, border: Border, dilation: Sizes, groups: int,
    spread: Sizes,
) -> Tensor:  # fmt: skip
    """PyTorch's order as that of the primitive (groups first, channels last), and back."""
    axes = tuple(range(3, 3 + len(stride)))
    before, after = ((0, 0, *(max(0, size) for size in sides), 0) for sides in zip(*border, strict=True))
    padded = _in_groups(x, groups)._pad(before, after, (0, 0, *(step - 1 for step in spread), 0))
    kernels = weight.reshape((groups, weight.shape[0] // groups, *weight.shape[1:])).permute((0, 2, *axes, 1))
    y = _within(padded._conv(kernels, stride, dilation), border)
    if bias is not None:
        y = y + bias.reshape((groups, *(1,) * (len(stride) + 1), bias.shape[0] // groups))
    return _out_of_groups(y)


def _within(y: Tensor, border: Border) -> Tensor:
    """Without the first and last places along each axis, where the border is less than none."""
    if min(size for sides in border for size in sides) >= 0:
        return y
    start = (0, 0, *(max(0, -low) for low, _ in border), 0)
    cut = (0, 0, *(max(0, -high) for _, high in border), 0)
    return y._slice(start, tuple(size - less for size, less in zip(y.shape, cut, strict=True)), (1,) * y.ndim)


def _in_groups(x: Tensor, groups: int) -> Tensor:
    """(N, channels, *sizes) as (groups, N, *sizes, channels of a group)."""
    n, channels, *sizes = x.shape
    axes = range(2, x.ndim)
    if groups == 1:  # first in another order, so that two convolutions in a row meet without one
        return x.permute((0, *axes, 1)).reshape((1, n, *sizes, channels))
    parts = x.reshape((n, groups, channels // groups, *sizes))
    return parts.permute((1, 0, *(axis + 1 for axis in axes), 2))


def _out_of_groups(y: Tensor) -> Tensor:
    """The other way."""
    groups, n, *sizes, channels = y.shape
    last = y.ndim - 1
    if groups == 1:
        return y.reshape((n, *sizes, channels)).permute((0, last - 1, *range(1, last - 1)))
    return y.permute((1, 0, last, *range(2, last))).reshape((n, groups * channels, *sizes))


# -- what is asked for -------------------------------------------------------------------------------------


def each(name: str, what: str, value: Any, rank: int, least: int) -> Sizes:
    """A whole number for each spatial axis, from one for all of them or from as many.

    Raises:
        SettingError: a smaller one, or another count of them.
    """
    several = isinstance(value, (tuple, list))
    sizes = tuple(integer(item, name, what) for item in (value if several else (value,)))
    if len(sizes) not in (1, rank) or min(sizes) < least:
        raise SettingError(
            f"{name}: {what} must be a whole number of {least} or more, or {rank} of them, got {value!r}."
        )
    return sizes * rank if len(sizes) == 1 else sizes


def borders(name: str, padding: Any, windows: Sizes, stride: Sizes, dilation: Sizes) -> Border:
    """The zeros before and after each axis.

    Raises:
        SettingError: it is no number and neither "valid" nor "same", or "same" where windows are more than one element apart.
    """
    if not isinstance(padding, str):
        return tuple((size, size) for size in each(name, "padding", padding, len(windows), 0))
    if padding not in ("same", "valid"):
        raise SettingError(f"{name}: padding must be a number, 'same' or 'valid', got {padding!r}.")
    if padding == "valid":
        return ((0, 0),) * len(windows)
    if any(step != 1 for step in stride):
        raise SettingError(
            f"{name}: padding='same' needs a stride of 1, got {stride}. Give the padding as a number, or two."
        )
    whole = (apart * (size - 1) for size, apart in zip(windows, dilation, strict=True))
    return tuple((size // 2, size - size // 2) for size in whole)


def check_axes(name: str, rank: int, x: Tensor) -> None:
    """Has the input an axis of channels, and at most one before it?

    Raises:
        ShapeError: it has not.
    """
    if x.ndim in (rank + 1, rank + 2):
        return
    order, remedy = ("L", "H, W", "D, H, W")[rank - 1], "Reshape it."
    if x.ndim == rank:
        remedy = "One image of one channel needs an axis for the channel: x.unsqueeze(0)."
    elif x.ndim > rank + 2:
        remedy = (
            f"Make one axis of the {x.ndim - rank - 1} in front of the channels: x.flatten(0, {x.ndim - rank - 2})."
        )
    raise graph.shape_error(
        name, f"the input must have shape (N, C, {order}) or (C, {order})", f"shape {x.shape}", remedy
    )


def _check(name: str, rank: int, x: Tensor, weight: Tensor, groups: int) -> None:
    check_axes(name, rank, x)
    if weight.ndim != rank + 2:
        raise graph.shape_error(
            name, f"the weight must have {rank + 2} axes, (out_channels, in_channels / groups, windows ...)",
            f"shape {weight.shape}", "Reshape it.",
        )  # fmt: skip
    if not x.dtype.is_floating_point or x.dtype != weight.dtype:
        raise DtypeError(
            f"{graph.who(name)}: input and weight must have one floating dtype, got {x.dtype.name} and "
            f"{weight.dtype.name}. Convert the input with input.to(weight.dtype)."
        )
    if groups < 1 or weight.shape[0] % groups:
        raise SettingError(
            f"{graph.who(name)}: groups must be 1 or more and divide the {weight.shape[0]} output channels, got {groups}."
        )
    channels = x.shape[-rank - 1]
    if channels != weight.shape[1] * groups:
        raise graph.shape_error(
            name, f"the input must have {weight.shape[1] * groups} channels (weight {weight.shape}, groups {groups})",
            f"shape {x.shape} with {channels}", _of_channels(rank, x, weight.shape[1] * groups),
        )  # fmt: skip


def _of_channels(rank: int, x: Tensor, expected: int) -> str:
    """What to do about an input of other channels."""
    if (
        expected == 1 and x.ndim == rank + 1
    ):  # a batch of images without an axis for their only channel is taken for one image
        return "A batch of images of one channel needs an axis for it: x.unsqueeze(1)."
    if x.ndim == rank + 2 and x.shape[-1] == expected:
        order = ", ".join(map(str, (0, rank + 1, *range(1, rank + 1))))
        return f"Channels are axis 1 here, and the last one in Keras and in image files: x.permute({order})."
    return "Change in_channels, or what comes before."


def _check_bias(name: str, weight: Tensor, bias: Tensor) -> None:
    if bias.shape != weight.shape[:1] or bias.dtype != weight.dtype:
        raise graph.shape_error(
            name, f"the bias must have shape {weight.shape[:1]} and the dtype of the weight, {weight.dtype.name}",
            f"{bias.dtype.name} of shape {bias.shape}", "Give one number for each output channel.",
        )  # fmt: skip


def reach_of(windows: Sizes, dilation: Sizes) -> Sizes:
    """From the first element of a window to its last, both counted, along each axis."""
    return tuple(apart * (size - 1) + 1 for size, apart in zip(windows, dilation, strict=True))


def _check_room(name: str, shape: Sizes, windows: Sizes, border: Border, dilation: Sizes) -> None:
    padded = tuple(size + before + after for size, (before, after) in zip(shape, border, strict=True))
    reach = reach_of(windows, dilation)
    if any(have < need or not size for have, need, size in zip(padded, reach, windows, strict=True)):
        raise graph.shape_error(
            name, f"a window, {reach} with its dilation, must hold an element and fit in the input with its padding, "
            f"{padded}", f"input sizes {shape}", "Pad the input, or take a smaller kernel_size.",
        )  # fmt: skip


# -- the other way: what a convolution's gradient does with its output's -----------------------------------------------


@takes_keywords("functional")
def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0, groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:  # fmt: skip
    """`conv_transpose2d` over one spatial axis: input (N, C, L) or (C, L), weight (C, O / groups, K)."""
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@takes_keywords("functional")
def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0, groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:  # fmt: skip
    """The transpose of `conv2d`: each element of the input adds its multiple of the weight to a window of the output.

    Args:
        input: shape (N, C, P, Q) or (C, P, Q), floating.
        weight: shape (C, O / groups, K, L), of the same dtype: that of the convolution from O to C channels.
        bias: shape (O,), or None.
        stride, padding, dilation, groups: of that convolution.
        output_padding: how much longer each axis of the output is at its end, since several lengths have one transpose.

    Returns:
        A tensor of shape (N, O, H, W) with H = (P - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1.

    Raises:
        ShapeError: the channels do not fit the weight.
        SettingError: sizes that mean nothing.

    It is a convolution of the input, with zeros between its elements, by the weight turned around.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.conv_transpose2d(cr.ones(1, 1, 1, 2), cr.ones(1, 1, 1, 2), stride=1).tolist()
        [[[[1.0, 2.0, 1.0]]]]
    """
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@takes_keywords("functional")
def conv_transpose3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0, output_padding: int | Sequence[int] = 0, groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:  # fmt: skip
    """`conv_transpose2d` over three spatial axes."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _transposed(
    name: str, rank: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, more: Any,
    groups: Any, dilation: Any,
) -> Tensor:  # fmt: skip
    x, w, count = given(input, name), given(weight, name, "weight"), integer(groups, name, "groups")
    check_axes(name, rank, x)
    if w.ndim != rank + 2 or count < 1 or w.shape[0] % max(count, 1) or x.shape[-rank - 1] != w.shape[0]:
        raise graph.shape_error(
            name, "the weight must be (C, O / groups, ...) with as many spatial axes and C of the input's channels, which "
            "groups divide", f"{w.shape} for an input {x.shape} with groups={groups}", "Change the one or the other.",
        )  # fmt: skip
    steps, apart = each(name, "stride", stride, rank, 1), each(name, "dilation", dilation, rank, 1)
    frame, longer = each(name, "padding", padding, rank, 0), each(name, "output_padding", more, rank, 0)
    if any(extra >= max(s, d) for extra, s, d in zip(longer, steps, apart, strict=True)):
        raise SettingError(
            f"{name}: output_padding must be smaller than stride or dilation, got {more!r} with {stride!r}."
        )
    reach = (d * (k - 1) for d, k in zip(apart, w.shape[2:], strict=True))
    border = tuple((r - b, r - b + e) for r, b, e in zip(reach, frame, longer, strict=True))
    local = graph._local
    outer, local.aliasing = local.aliasing, False
    try:
        parts = w.reshape((count, w.shape[0] // count, *w.shape[1:])).transpose(1, 2)
        turned = parts.reshape((count * w.shape[1], w.shape[0] // count, *w.shape[2:])).flip(tuple(range(2, rank + 2)))
        _check(name, rank, x, turned, count)
        return _framed(name, rank, x, turned, bias, (1,) * rank, border, apart, count, steps)
    finally:
        local.aliasing = outer
