"""Normalisations: mean 0 and variance 1 over some axes, then a learned scale and shift.

The variance is that of the centred values (two passes), never a difference of large sums: a constant added to all
inputs costs no digits beyond those of the inputs themselves. Where a square is beyond the dtype (float32: above 1e19) the
result is NaN.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from chainrule.dtypes import limits
from chainrule.errors import DataError, GradientError, SettingError
from chainrule.graph import shape_error, who
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer, number
from chainrule.tensor.creation import given
from chainrule.tensor.functions import no_grad
from chainrule.tensor.rounding import rounded_once
from chainrule.tensor.whole import whole

CHANNELS = 1  # the axis of the channels in inputs (N, C, ...)
Factor = float | Tensor  # a number, or inside a compiled function a tensor without axes


class _Cutting(threading.local):
    """Who cuts the batches of this thread in parts now, if anybody does, and how it is told not to."""

    who = whole = ""


_cutting = _Cutting()


@contextmanager
def cutting_batches(who: str, whole: str) -> Iterator[None]:
    """Inside the block inputs are parts of a batch that is meant as a whole: what normalises by the batch is refused.

    Args:
        who: cuts it.
        whole: what to write that it does not.
    """
    outer = _cutting.who, _cutting.whole
    _cutting.who, _cutting.whole = who, whole
    try:
        yield
    finally:
        _cutting.who, _cutting.whole = outer


@takes_keywords("functional")
@rounded_once
@whole
def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, mean and variance over the last axes.

    Args:
        input: shape (..., *normalized_shape), floating.
        normalized_shape: the sizes of the axes to normalise over.
        weight: shape normalized_shape, or None.
        bias: shape normalized_shape, or None.
        eps: keeps the division finite.

    Raises:
        ShapeError: input, weight or bias do not end in normalized_shape.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.layer_norm(cr.tensor([[1.0, 3.0], [10.0, 30.0]]), (2,))
        tensor([[-1.0000,  1.0000],
                [-1.0000,  1.0000]])

    Source: Ba, Kiros, Hinton, "Layer normalization", 2016.
    """
    input = given(input, "layer_norm")
    dims = _last_axes("layer_norm", input, normalized_shape, {"weight": weight, "bias": bias})
    return affine(standardised(input, dims, number(eps, "layer_norm", "eps"))[0], weight, bias)


@takes_keywords("functional")
@rounded_once
@whole
def rms_norm(
    input: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """``x / sqrt(mean(x^2) + eps) * weight``, the mean over the last axes.

    Args:
        input: shape (..., *normalized_shape), floating.
        normalized_shape: the sizes of the axes to normalise over.
        weight: shape normalized_shape, or None.
        eps: keeps the division finite; None is the dtype's rounding unit, as in PyTorch.

    Raises:
        ShapeError: input or weight do not end in normalized_shape.

    Source: Zhang, Sennrich, "Root mean square layer normalization", NeurIPS 2019.
    """
    input = given(input, "rms_norm")
    dims = _last_axes("rms_norm", input, normalized_shape, {"weight": weight})
    least = limits(input.dtype).eps if eps is None else number(eps, "rms_norm", "eps")
    return affine(input * _per_deviation((input * input).mean(dims, keepdim=True), least), weight, None)


@takes_keywords("functional")
@rounded_once
@whole
def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias``, mean and variance over each row's groups of channels.

    Args:
        input: shape (N, C, ...), floating.
        num_groups: how many groups the C channels form; divides C.
        weight: shape (C,), or None.
        bias: shape (C,), or None.
        eps: keeps the division finite.

    Raises:
        ShapeError: the channels do not divide into the groups, or weight or bias do not fit them.

    Source: Wu, He, "Group normalization", ECCV 2018.
    """
    input, groups = given(input, "group_norm"), integer(num_groups, "group_norm", "num_groups")
    channels = _channels("group_norm", input, {"weight": weight, "bias": bias})
    if groups < 1 or channels % groups:
        raise shape_error(
            "group_norm", f"num_groups must divide the {channels} channels of the input", f"{groups} groups",
            "Choose another number of groups.",
        )  # fmt: skip
    rows = len(input)
    grouped = input.reshape(rows, groups, math.prod(input.shape[1:]) // groups)
    normal = standardised(grouped, (2,), number(eps, "group_norm", "eps"))[0]._copied(input.shape)
    return affine(normal, _per_channel(weight, input), _per_channel(bias, input))


@takes_keywords("functional")
@rounded_once
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: Factor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel, over the batch.

    While training, mean and variance are the batch's, and the running ones follow them:
    ``running <- (1 - momentum) running + momentum batch`` (with the unbiased variance). Else they are the running ones.

    Args:
        input: shape (N, C, ...), floating.
        running_mean: shape (C,), changed in training; None keeps none.
        running_var: likewise.
        weight: shape (C,), or None.
        bias: shape (C,), or None.
        training: normalise by the batch.
        momentum: the share of the batch in the running mean and variance.
        eps: keeps the division finite.

    Raises:
        ShapeError: one of the tensors does not fit the channels.
        DataError: in training, a batch with one value for each channel, whose variance says nothing.
        SettingError: neither training nor a running mean and variance.
        GradientError: in training, on one micro-batch of several (`cr.backward_in_micro_batches`).

    Source: Ioffe, Szegedy, "Batch normalization", ICML 2015.
    """
    input = given(input, "batch_norm")
    per_channel = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    channels = _channels("batch_norm", input, per_channel)
    scale, shift = _per_channel(weight, input), _per_channel(bias, input)
    eps = number(eps, "batch_norm", "eps")
    if not training:
        mean, var = _running("batch_norm", running_mean, running_var, input)
        return affine((input - mean) * (var + eps).rsqrt(), scale, shift)
    if _cutting.who:
        raise GradientError(
            f"{who('batch_norm')}: in training it normalises by the mean and variance of the whole batch, and "
            f"{_cutting.who} gives it one part of the batch after the other, whose gradients are others. Use "
            f"{_cutting.whole}, a normalization of each row (nn.GroupNorm, nn.LayerNorm), or call eval() on this layer to "
            f"go by its running mean and variance."
        )
    count = input.numel() // channels if channels else 0
    if count == 1:
        raise DataError(
            f"{who('batch_norm')}: in training it needs more than one value for each channel, got an input of shape "
            f"{input.shape}. Choose a batch size that leaves no batch of one row, or call model.eval() first."
        )
    dims = tuple(axis for axis in range(input.ndim) if axis != CHANNELS)
    normal, mean, var = standardised(input, dims, eps)
    if count:
        follow(running_mean, mean, momentum)
        follow(running_var, var * (count / (count - 1)), momentum)
    return affine(normal, scale, shift)


@takes_keywords("functional")
@rounded_once
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel of each row, over what lies behind it.

    Args:
        input: shape (N, C, L, ...), floating.
        running_mean: shape (C,), follows the rows' means as in ``batch_norm``; None keeps none.
        running_var: likewise.
        weight: shape (C,), or None.
        bias: shape (C,), or None.
        use_input_stats: normalise by the input, not by the running mean and variance.
        momentum: the share of the batch in the running mean and variance.
        eps: keeps the division finite.

    Raises:
        ShapeError: one of the tensors does not fit the channels.
        DataError: one value for each channel and row, whose variance says nothing.

    Source: Ulyanov, Vedaldi, Lempitsky, "Instance normalization", 2016.
    """
    input = given(input, "instance_norm")
    per_channel = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _channels("instance_norm", input, per_channel)
    scale, shift = _per_channel(weight, input), _per_channel(bias, input)
    eps = number(eps, "instance_norm", "eps")
    if not use_input_stats:
        mean, var = _running("instance_norm", running_mean, running_var, input)
        return affine((input - mean) * (var + eps).rsqrt(), scale, shift)
    count = math.prod(input.shape[2:])
    if count == 1:
        raise DataError(
            f"{who('instance_norm')}: it needs more than one value for each channel of a row, got an input of shape "
            f"{input.shape}. Use batch_norm, which normalises over the rows."
        )
    normal, mean, var = standardised(input, tuple(range(2, input.ndim)), eps)
    if input.numel():
        follow(running_mean, mean.mean(0), momentum)
        follow(running_var, var.mean(0) * (count / (count - 1)), momentum)
    return affine(normal, scale, shift)


# ---------------------------------------------------------------- pieces


def standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """``(x - mean) / sqrt(var + eps)`` over the axes, with the mean and the variance, whose axes stay with size 1."""
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    var = (centred * centred).mean(dims, keepdim=True)
    return centred * _per_deviation(var, eps), mean, var


def _per_deviation(var: Tensor, eps: float) -> Tensor:
    """``1 / sqrt(var + eps)``; NaN where the squares are beyond the dtype: nothing is known there, least of all 0."""
    return (var + eps).rsqrt() + var.detach() * 0.0


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """``x * weight + bias``, as far as they are there."""
    scaled = x if weight is None else x * weight
    return scaled if bias is None else scaled + bias


def follow(running: Tensor | None, batch: Tensor, momentum: Factor) -> None:
    """Move a running statistic towards the batch's."""
    if running is None:
        return
    with no_grad():
        now = batch.detach().reshape(running.shape).to(running.dtype)
        running.copy_(running * (1 - momentum) + now * momentum)


def _running(name: str, mean: Tensor | None, var: Tensor | None, input: Tensor) -> tuple[Tensor, Tensor]:
    along_mean, along_var = _per_channel(mean, input), _per_channel(var, input)
    if along_mean is None or along_var is None:
        raise SettingError(
            f"{who(name)}: without the statistics of the input it needs running_mean and running_var, got None. "
            f"Give both, or normalise by the input (training=True)."
        )
    return along_mean, along_var


def _per_channel(values: Tensor | None, input: Tensor) -> Tensor | None:
    """A value for each channel, laid along the channel axis."""
    if values is None or input.ndim == CHANNELS + 1:
        return values
    return values.reshape(-1, *(1,) * (input.ndim - 2))


def _channels(name: str, input: Tensor, per_channel: dict[str, Tensor | None]) -> int:
    if input.ndim < 2 or not input.dtype.is_floating_point:
        raise shape_error(
            name, "the input must be floating of shape (N, C, ...)", f"{input.dtype.name} of shape {input.shape}",
            "Give it an axis of rows and one of channels.",
        )  # fmt: skip
    channels = input.shape[CHANNELS]
    for what, tensor in per_channel.items():
        if tensor is not None and tensor.shape != (channels,):
            raise shape_error(
                name, f"{what} must have shape ({channels},), one value for each channel of the input {input.shape}",
                f"shape {tensor.shape}", "Give as many values as axis 1 of the input has.",
            )  # fmt: skip
    return channels


def _last_axes(name: str, input: Tensor, shape: Any, parameters: dict[str, Tensor | None]) -> tuple[int, ...]:
    sizes = sizes_of(name, shape)
    if not input.dtype.is_floating_point or input.shape[-len(sizes) :] != sizes or input.ndim < len(sizes):
        raise shape_error(
            name, f"the input must be floating and its last axes must be {sizes}",
            f"{input.dtype.name} of shape {input.shape}", "Change normalized_shape, or reshape the input.",
        )  # fmt: skip
    for what, tensor in parameters.items():
        if tensor is not None and tensor.shape != sizes:
            raise shape_error(
                name, f"{what} must have the shape {sizes} that is normalised over", f"shape {tensor.shape}",
                "Give one value for each element.",
            )  # fmt: skip
    return tuple(range(input.ndim - len(sizes), input.ndim))


def sizes_of(name: str, shape: Any) -> tuple[int, ...]:
    """normalized_shape as a tuple."""
    single = hasattr(shape, "__index__")
    sizes = tuple(integer(size, name, "normalized_shape") for size in ([shape] if single else shape))
    if not sizes or min(sizes) < 0:
        raise SettingError(f"{name}: normalized_shape must name one axis or more, got {shape!r}.")
    return sizes
