"""Other sizes of images: adaptive pools, interpolation, pixels moved between channels and places, borders of the image's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.errors import SettingError
from chainrule.names import takes_keywords
from chainrule.nn.functional.convolution import check_axes
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer, number
from chainrule.tensor.creation import given, tensor
from chainrule.tensor.rounding import rounded_once

Sizes = tuple[int, ...]
Wanted = int | Sequence[int | None] | None


# -- adaptive pools: windows from floor(i n / m) to ceil((i + 1) n / m) ------------------------------------------------


def _wanted(name: str, rank: int, size: Wanted, shape: Sizes) -> Sizes:
    listed = list(size) if isinstance(size, (tuple, list)) else [size] * rank
    if len(listed) != rank:
        raise SettingError(f"{name}: output_size must be one number, or {rank}, got {size!r}.")
    found = tuple(n if s is None else integer(s, name, "output_size") for s, n in zip(listed, shape, strict=True))
    if min(found) < 1 or min(shape) < 1:
        raise SettingError(
            f"{name}: output_size must be at least 1, and the input not empty, got {size!r} for {shape}."
        )
    return found


def _adapted(name: str, rank: int, input: Tensor, size: Wanted, fold: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    x = given(input, name)
    check_axes(name, rank, x)
    local = graph._local
    outer, local.aliasing = local.aliasing, False
    try:
        for axis, count in zip(
            range(x.ndim - 1, x.ndim - 1 - rank, -1), reversed(_wanted(name, rank, size, x.shape[-rank:])), strict=True
        ):
            x = fold(x, axis, count)
    finally:
        local.aliasing = outer
    return x


def _windows(size: int, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """For each window its places, as many as the longest has, and which of them are in it."""
    begin = np.arange(count) * size // count
    end = -(-(np.arange(count) + 1) * size // count)
    places = begin[:, None] + np.arange((end - begin).max())
    return np.minimum(places, size - 1), places < end[:, None]


def _mean_of(x: Tensor, axis: int, count: int) -> Tensor:
    size = x.shape[axis]
    if size % count == 0:
        return x.reshape((*x.shape[:axis], count, size // count, *x.shape[axis + 1 :])).mean(axis + 1)
    places, inside = _windows(size, count)
    taken = x.index_select(axis, tensor(places.reshape(-1)))
    windows = taken.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))
    along = (*places.shape, *(1,) * (x.ndim - axis - 1))
    total = windows.masked_fill(tensor(~inside).reshape(along), 0).sum(axis + 1)
    return total / tensor(inside.sum(1)).to(x.dtype).reshape((count, *(1,) * (x.ndim - axis - 1)))


def _largest_of(x: Tensor, axis: int, count: int) -> Tensor:
    """The first of several that are largest, along one axis after the other: that is row by row, as PyTorch looks."""
    places, inside = _windows(x.shape[axis], count)
    taken = x.index_select(axis, tensor(places.reshape(-1)))
    windows = taken.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))
    along = (*places.shape, *(1,) * (x.ndim - axis - 1))
    windows = windows.masked_fill(tensor(~inside).reshape(along), -math.inf)
    return windows.gather(axis + 1, windows.detach().argmax(axis + 1, True)).squeeze(axis + 1)


def _adaptive_max(name: str, rank: int, input: Tensor, size: Wanted, return_indices: bool) -> Tensor:
    if return_indices:
        raise SettingError(f"{name}: return_indices must be False. Where the largest are is not given in chainrule.")
    return _adapted(name, rank, input, size, _largest_of)


@takes_keywords("functional")
@rounded_once
def adaptive_avg_pool1d(input: Tensor, output_size: Wanted) -> Tensor:
    """`adaptive_avg_pool2d` over one spatial axis: input (N, C, L) or (C, L)."""
    return _adapted("adaptive_avg_pool1d", 1, input, output_size, _mean_of)


@takes_keywords("functional")
@rounded_once
def adaptive_avg_pool2d(input: Tensor, output_size: Wanted) -> Tensor:
    """The means of as many windows as the output is to have, as equal as can be; they overlap where sizes do not divide.

    Args:
        input: shape (N, C, H, W) or (C, H, W), floating.
        output_size: (P, Q), or one number for both; None keeps a size.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.adaptive_avg_pool2d(cr.arange(16.0).reshape(1, 4, 4), 1).item()
        7.5
    """
    return _adapted("adaptive_avg_pool2d", 2, input, output_size, _mean_of)


@takes_keywords("functional")
@rounded_once
def adaptive_avg_pool3d(input: Tensor, output_size: Wanted) -> Tensor:
    """`adaptive_avg_pool2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""
    return _adapted("adaptive_avg_pool3d", 3, input, output_size, _mean_of)


@takes_keywords("functional")
def adaptive_max_pool1d(input: Tensor, output_size: Wanted, return_indices: bool = False) -> Tensor:
    """`adaptive_max_pool2d` over one spatial axis: input (N, C, L) or (C, L)."""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


@takes_keywords("functional")
def adaptive_max_pool2d(input: Tensor, output_size: Wanted, return_indices: bool = False) -> Tensor:
    """The largest elements of the windows of `adaptive_avg_pool2d`; of several the first gets the gradient."""
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


@takes_keywords("functional")
def adaptive_max_pool3d(input: Tensor, output_size: Wanted, return_indices: bool = False) -> Tensor:
    """`adaptive_max_pool2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)


# -- interpolation ---------------------------------------------------------------------------------------------------

_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3}


@takes_keywords("functional")
@rounded_once
def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """The input at another size: each element of the output is one of the input's, or lies between those around it.

    Args:
        input: shape (N, C, L), (N, C, H, W) or (N, C, D, H, W).
        size: of the output's spatial axes, or
        scale_factor: how many times the input's they are; one number, or one for each.
        mode: ``"nearest"``, ``"nearest-exact"``, ``"area"`` (means), or ``"linear"``, ``"bilinear"``, ``"trilinear"``
            for one, two, three spatial axes.
        align_corners: of the linear modes: the outermost elements stay where they are, not the outermost edges.
        recompute_scale_factor: measure by the output's whole sizes, not by scale_factor.
        antialias: False.

    Raises:
        SettingError: another mode, or neither a size nor a factor, or both.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.interpolate(cr.tensor([[[1.0, 3.0]]]), scale_factor=2, mode="linear", align_corners=False)
        tensor([[[1.0000, 1.5000, 2.5000, 3.0000]]])
    """
    x = given(input, "interpolate")
    rank = x.ndim - 2
    if not 1 <= rank <= 3:
        raise graph.shape_error(
            "interpolate", "the input must be (N, C, ...) with 1 to 3 spatial axes", str(x.shape), "Reshape it."
        )
    if mode not in ("nearest", "nearest-exact", "area") and _LINEAR.get(mode) != rank:
        raise SettingError(
            f"interpolate: the mode must be 'nearest', 'nearest-exact', 'area' or, for {rank} spatial axes, "
            f"{next(name for name, axes in _LINEAR.items() if axes == rank)!r}, got {mode!r}."
        )
    if antialias:
        raise SettingError("interpolate: antialias must be False; it is not in chainrule.")
    if align_corners is not None and mode not in _LINEAR:
        raise SettingError(f"interpolate: align_corners is of the linear modes, got mode={mode!r}. Leave it out.")
    sizes, steps = _sizes_and_steps(x.shape[2:], size, scale_factor, bool(recompute_scale_factor))
    if mode == "area":
        return _adapted("interpolate", rank, x, sizes, _mean_of)
    for axis, (count, step) in enumerate(zip(sizes, steps, strict=True), 2):
        x = _resized(x, axis, count, step, mode, bool(align_corners))
    return x


def _sizes_and_steps(shape: Sizes, size: Any, factor: Any, recompute: bool) -> tuple[Sizes, list[float]]:
    """The output's sizes, and how far it is in the input from one of its elements to the next."""
    rank = len(shape)
    if (size is None) == (factor is None):
        raise SettingError("interpolate: give either size or scale_factor.")
    if factor is None:
        listed = tuple(size) if isinstance(size, (tuple, list)) else (size,) * rank
        sizes = tuple(integer(s, "interpolate", "size") for s in listed)
    else:
        listed = tuple(factor) if isinstance(factor, (tuple, list)) else (factor,) * rank
        factors = [float(number(f, "interpolate", "scale_factor")) for f in listed]
        sizes = tuple(math.floor(n * f) for n, f in zip(shape, factors, strict=False))
    if len(sizes) != rank or len(listed) != rank or min(sizes) < 1:
        raise SettingError(
            f"interpolate: the sizes must be {rank}, each at least 1, got {size if factor is None else factor!r}."
        )
    if factor is not None and not recompute:
        return sizes, [1 / f for f in factors]
    return sizes, [n / s for n, s in zip(shape, sizes, strict=True)]


def _resized(x: Tensor, axis: int, count: int, step: float, mode: str, corners: bool) -> Tensor:
    size, place = x.shape[axis], np.arange(count)
    if mode not in _LINEAR:
        source = (place + (0.5 if mode == "nearest-exact" else 0.0)).astype(np.float32) * np.float32(step)
        return x.index_select(axis, tensor(np.minimum(np.floor(source).astype(np.int64), size - 1)))
    if corners:
        source = place * ((size - 1) / (count - 1)) if count > 1 else place * 0.0
    else:
        source = np.maximum((place + 0.5) * step - 0.5, 0)
    low = np.minimum(np.floor(source).astype(np.int64), size - 1)
    high = np.minimum(low + 1, size - 1)
    weight = tensor(source - low).to(x.dtype).reshape((-1, *(1,) * (x.ndim - axis - 1)))
    below, above = x.index_select(axis, tensor(low)), x.index_select(axis, tensor(high))
    return below * (1 - weight) + above * weight


@takes_keywords("functional")
def upsample(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None
) -> Tensor:
    """`interpolate` by its older name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


# -- pixels and channels -----------------------------------------------------------------------------------------------


@takes_keywords("functional")
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels to places: (..., C r^2, H, W) to (..., C, H r, W r).

    Source: Shi et al., "Real-time single image and video super-resolution", CVPR 2016.
    """
    x, r = given(input, "pixel_shuffle"), integer(upscale_factor, "pixel_shuffle", "upscale_factor")
    if x.ndim < 3 or r < 1 or x.shape[-3] % (r * r):
        raise graph.shape_error(
            "pixel_shuffle",
            f"the input must be (..., C r^2, H, W) with r={r}",
            str(x.shape),
            "Change the channels before it.",
        )
    *batch, channels, height, width = x.shape
    parts = x.reshape((*batch, channels // (r * r), r, r, height, width))
    n = len(batch)
    moved = parts.permute((*range(n + 1), n + 3, n + 1, n + 4, n + 2))
    return moved.reshape((*batch, channels // (r * r), height * r, width * r))


@takes_keywords("functional")
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Places to channels: the inverse of `pixel_shuffle`."""
    x, r = given(input, "pixel_unshuffle"), integer(downscale_factor, "pixel_unshuffle", "downscale_factor")
    if x.ndim < 3 or r < 1 or x.shape[-1] % r or x.shape[-2] % r:
        raise graph.shape_error(
            "pixel_unshuffle", f"the input must be (..., C, H r, W r) with r={r}", str(x.shape), "Crop or pad it."
        )
    *batch, channels, height, width = x.shape
    parts, n = x.reshape((*batch, channels, height // r, r, width // r, r)), len(batch)
    moved = parts.permute((*range(n + 1), n + 2, n + 4, n + 1, n + 3))
    return moved.reshape((*batch, channels * r * r, height // r, width // r))


@takes_keywords("functional")
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """The channels of the groups one after the other in turn: (N, C, ...)."""
    x, count = given(input, "channel_shuffle"), integer(groups, "channel_shuffle", "groups")
    if x.ndim < 2 or count < 1 or x.shape[1] % count:
        raise graph.shape_error(
            "channel_shuffle", f"the channels must divide by groups={count}", str(x.shape), "Change one."
        )
    parts = x.reshape((x.shape[0], count, x.shape[1] // count, *x.shape[2:]))
    return parts.transpose(1, 2).reshape(x.shape)


# -- borders of what lies within ------------------------------------------------------------------------------------------

BORDERS = ("reflect", "replicate", "circular")


def bordered(x: Tensor, sizes: Sequence[int], mode: str) -> Tensor:
    """A border of elements of the input's own, around its last axes; negative sizes take off.

    Raises:
        SettingError: there are not enough elements to reflect or go around.
    """
    for axis, before, after in zip(reversed(range(x.ndim)), sizes[::2], sizes[1::2], strict=False):
        size = x.shape[axis]
        most = {"reflect": size - 1, "circular": size, "replicate": math.inf if size else 0}[mode]
        if max(before, after) > most:
            raise SettingError(
                f"pad: with mode={mode!r} axis {axis} of {x.shape} has a border of {most} at most, got {before} and {after}."
            )
        place = np.arange(-before, size + after)
        if mode == "replicate":
            place = place.clip(0, size - 1)
        elif mode == "circular":
            place = place % size
        else:
            place = np.abs(place)
            place = np.where(place >= size, 2 * (size - 1) - place, place)
        if before or after:
            x = x.index_select(axis, tensor(place))
    return x
