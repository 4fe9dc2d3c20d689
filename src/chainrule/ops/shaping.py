"""Ops that move elements without changing them.

``lower`` of a view maps the index of an output element to the index of the input element it is.
It works alike on numbers and on the compiler's index expressions, so a view costs no kernel.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.graph import Node, Op, Shape, Type, shape_error

Index = tuple[Any, ...]
Sizes = tuple[int, ...]


# -- reshape ---------------------------------------------------------------------------------
def _infer_reshape(x: Node, *, shape: Shape) -> Type:
    if math.prod(shape) != math.prod(x.shape) or min(shape, default=0) < 0:
        raise shape_error(
            "reshape",
            f"the new shape must hold all {math.prod(x.shape)} elements of {x.shape}",
            f"{shape} with {math.prod(shape)}",
            "Use -1 for one axis to have its size computed.",
        )
    return Type(shape, x.dtype)


def ravel(index: Sequence[Any], shape: Shape) -> Any:
    """The position of an index in row-major order."""
    position: Any = 0
    for i, size in zip(index, shape, strict=True):
        position = position * size + i
    return position


def unravel(position: Any, shape: Shape) -> Index:
    """The index at a position in row-major order."""
    index = []
    for size in reversed(shape):
        index.append(position % size)
        position = position // size
    return tuple(reversed(index))


def _blocks(shape: Shape, other: Shape) -> list[tuple[Shape, Shape]]:
    """Two shapes of as many elements, cut alike wherever both can be: an axis that stays is a block of its own."""
    found, a, b = [], 0, 0
    while a < len(shape) or b < len(other):
        left, right = list(shape[a : a + 1]), list(other[b : b + 1])
        if left[:1] != right[:1] and 1 in (left[:1] + right[:1]):  # an axis of one element goes or comes by itself
            left, right = (left, []) if left[:1] == [1] else ([], right)
        while math.prod(left) != math.prod(right):
            if math.prod(left) < math.prod(right):
                left.append(shape[a + len(left)])
            else:
                right.append(other[b + len(right)])
        found.append((tuple(left), tuple(right)))
        a, b = a + len(left), b + len(right)
    return found


def _lower_reshape(index: Index, x: Node, shape: Shape) -> Index:
    """Block by block, so that an index is taken apart no further than its axis is."""
    if 0 in shape:
        return unravel(ravel(index, shape), x.shape)
    result: Index = ()
    for new, old in _blocks(shape, x.shape):
        own, index = index[: len(new)], index[len(new) :]
        result += own if new == old else _within(ravel(own, new), old)
    return result


def _within(position: Any, shape: Shape) -> Index:
    """The index at a position that lies in the shape: along its first axis no remainder is needed."""
    if shape[:1] in ((), (1,)):
        return unravel(position, shape)
    index = []
    for size in reversed(shape[1:]):
        index.append(position % size)
        position = position // size
    return (position, *reversed(index))


reshape = Op(
    "reshape", "view", _infer_reshape,
    numpy=lambda x, shape: x.reshape(shape),
    vjp=(lambda dY, Y, x, shape: dY.reshape(x.shape),),
    lower=_lower_reshape,
    moves=True,
)  # fmt: skip


# -- permute ---------------------------------------------------------------------------------
def _infer_permute(x: Node, *, dims: Sizes) -> Type:
    return Type(tuple(x.shape[axis] for axis in dims), x.dtype)


def inverse_permutation(dims: Sizes) -> Sizes:
    return tuple(dims.index(axis) for axis in range(len(dims)))


permute = Op(
    "permute", "view", _infer_permute,
    numpy=lambda x, dims: x.transpose(dims),
    vjp=(lambda dY, Y, x, dims: dY.permute(inverse_permutation(dims)),),
    lower=lambda index, x, dims: tuple(index[dims.index(axis)] for axis in range(len(dims))),
    moves=True,
)  # fmt: skip


# -- expand ----------------------------------------------------------------------------------
def _infer_expand(x: Node, *, shape: Shape) -> Type:
    offset = len(shape) - len(x.shape)
    if (
        offset < 0
        or min(shape, default=0) < 0
        or any(size not in (1, shape[offset + axis]) for axis, size in enumerate(x.shape))
    ):
        raise shape_error(
            "expand", f"{x.shape} must broadcast to the new shape (only axes of size 1 grow)", str(shape),
            "Check the order of the axes, or unsqueeze first.",
        )  # fmt: skip
    return Type(shape, x.dtype)


def _numpy_expand(x: Any, shape: Shape) -> Any:
    """``np.broadcast_to``, which takes longer than most of what is done with it here."""
    if not x.flags.c_contiguous:
        return np.broadcast_to(x, shape)
    offset = len(shape) - x.ndim
    kept = (s if size == wanted else 0 for s, size, wanted in zip(x.strides, x.shape, shape[offset:], strict=True))
    return np.ndarray(shape, x.dtype, x, 0, (0,) * offset + tuple(kept))


expand = Op(
    "expand", "view", _infer_expand,
    numpy=_numpy_expand,
    vjp=(lambda dY, Y, x, shape: dY,),  # the engine sums over the axes that grew
    lower=lambda index, x, shape: tuple(
        0 if size == 1 else i for i, size in zip(index[len(shape) - len(x.shape) :], x.shape, strict=True)
    ),
    moves=True,
)  # fmt: skip


# -- slice and flip ---------------------------------------------------------------------------
def _infer_slice(x: Node, *, start: Sizes, stop: Sizes, step: Sizes) -> Type:
    return Type(tuple(len(range(*bounds)) for bounds in zip(start, stop, step, strict=True)), x.dtype)


def _unslice(dY: Any, x: Any, start: Sizes, step: Sizes) -> Any:
    """`dY` at the places it was sliced from, zero elsewhere."""
    spans = [max(0, (size - 1) * every + 1) for size, every in zip(dY.shape, step, strict=True)]
    high = tuple(size - low - span for size, low, span in zip(x.shape, start, spans, strict=True))
    return dY._pad(start, high, tuple(every - 1 for every in step))


slice = Op(
    "slice", "view", _infer_slice,
    numpy=lambda x, start, stop, step: x[tuple(map(builtins.slice, start, stop, step))],
    vjp=(lambda dY, Y, x, start, stop, step: _unslice(dY, x, start, step),),
    lower=lambda index, x, start, stop, step: tuple(
        low + i * every for i, low, every in zip(index, start, step, strict=True)
    ),
    moves=True,
)  # fmt: skip

flip = Op(
    "flip", "view",
    infer=lambda x, *, dims: x.type,
    numpy=lambda x, dims: np.flip(x, dims),
    vjp=(lambda dY, Y, x, dims: dY.flip(dims),),
    lower=lambda index, x, dims: tuple(
        size - 1 - i if axis in dims else i for axis, (i, size) in enumerate(zip(index, x.shape, strict=True))
    ),
    moves=True,
)  # fmt: skip


# -- pad --------------------------------------------------------------------------------------
def _infer_pad(x: Node, *, low: Sizes, high: Sizes, interior: Sizes) -> Type:
    inner = (size + max(0, size - 1) * gap for size, gap in zip(x.shape, interior, strict=True))
    return Type(tuple(before + size + after for before, size, after in zip(low, inner, high, strict=True)), x.dtype)


def _numpy_pad(x: Any, low: Sizes, high: Sizes, interior: Sizes) -> Any:
    shape = [b + s + max(0, s - 1) * g + a for b, s, g, a in zip(low, x.shape, interior, high, strict=True)]
    out = np.zeros(shape, x.dtype)
    if x.size:
        out[tuple(builtins.slice(b, s - a, g + 1) for b, s, g, a in zip(low, shape, interior, high, strict=True))] = x
    return out


# Zeros around every axis (`low`, `high`) and between its elements (`interior`): the derivative of slice.
pad = Op(
    "pad", "view", _infer_pad,
    numpy=_numpy_pad,
    vjp=(lambda dY, Y, x, low, high, interior: dY._slice(
        low,
        tuple(size - after for size, after in zip(Y.shape, high, strict=True)),
        tuple(gap + 1 for gap in interior),
    ),),
    # Beyond the index, pad says where an element exists at all: 0 <= i < span and i % every == 0.
    lower=lambda index, x, low, high, interior: tuple(
        (i - before) // (gap + 1) for i, before, gap in zip(index, low, interior, strict=True)
    ),
    moves=True,
)  # fmt: skip


# -- unfold -----------------------------------------------------------------------------------
def places(size: int, window: int, step: int, dilation: int) -> int:
    """How many windows of so many elements, `dilation` apart, lie in an axis, `step` from one to the next."""
    return (size - dilation * (window - 1) - 1) // step + 1


def _infer_unfold(x: Node, *, dim: int, size: int, step: int, dilation: int) -> Type:
    count = places(x.shape[dim], size, step, dilation)
    return Type((*x.shape[:dim], count, *x.shape[dim + 1 :], size), x.dtype)


def _numpy_unfold(x: Any, dim: int, size: int, step: int, dilation: int) -> Any:
    count = places(x.shape[dim], size, step, dilation)
    shape = (*x.shape[:dim], count, *x.shape[dim + 1 :], size)
    own = x.strides[dim]
    strides = (*x.strides[:dim], own * step, *x.strides[dim + 1 :], own * dilation)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def fold(dY: Any, length: int, dim: int, size: int, step: int, dilation: int) -> Any:
    """For each of `length` elements the sum over the windows it lies in, one at most at each place of a window.

    With zeros between and around the windows, element i is at place k of window i - k * dilation, if there is one: in a
    row of windows one behind the other these are equally far apart, and so a window themselves.
    """
    reach = dilation * (size - 1)
    unread = length - (dY.shape[dim] - 1) * step - 1 - reach
    moved = dY.permute((*range(dim), *range(dim + 1, dY.ndim - 1), dim, dY.ndim - 1))
    none = (0,) * (moved.ndim - 2)
    spread = moved._pad((*none, reach, 0), (*none, reach + unread, 0), (*none, step - 1, 0))
    row = spread.flip((spread.ndim - 1,)).reshape((*spread.shape[:-2], spread.shape[-2] * size))
    total = row._unfold(row.ndim - 1, size, size, dilation * size + 1).sum(row.ndim)
    return total.permute((*range(dim), total.ndim - 1, *range(dim, total.ndim - 1)))


# Windows of `size` elements along an axis, `dilation` apart, each `step` behind the one before; they lie along a new last axis.
unfold = Op(
    "unfold", "view", _infer_unfold,
    numpy=_numpy_unfold,
    vjp=(lambda dY, Y, x, dim, size, step, dilation: fold(dY, x.shape[dim], dim, size, step, dilation),),
    lower=lambda index, x, dim, size, step, dilation: (
        *index[:dim], index[dim] * step + index[-1] * dilation, *index[dim + 1 : -1]
    ),
    moves=True,
)  # fmt: skip


# -- cat --------------------------------------------------------------------------------------
def _infer_cat(*xs: Node, dim: int) -> Type:
    first = xs[0].shape
    for x in xs[1:]:
        if len(x.shape) != len(first) or any(
            a != b for axis, (a, b) in enumerate(zip(first, x.shape, strict=True)) if axis != dim
        ):
            raise shape_error(
                "cat", f"all shapes must agree except on axis {dim}", " and ".join(str(x.shape) for x in xs),
                "Reshape the odd one, or join along another axis.",
            )  # fmt: skip
    return Type((*first[:dim], sum(x.shape[dim] for x in xs), *first[dim + 1 :]), xs[0].dtype)


def _part(i: int) -> Any:
    return lambda dY, Y, *xs, dim: dY.narrow(dim, sum(x.shape[dim] for x in xs[:i]), xs[i].shape[dim])


cat = Op(
    "cat", "join", _infer_cat,
    numpy=lambda *xs, dim: np.concatenate(xs, axis=dim),
    vjp=_part,
    moves=True,
)  # fmt: skip

OPS = [reshape, permute, expand, slice, flip, pad, unfold, cat]
