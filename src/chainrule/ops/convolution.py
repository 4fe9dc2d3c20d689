"""Convolutions: products summed over the windows of an input.

Channels come last, and groups first, so that neighbours in memory are the channels of one place; `F.conv2d` looks at
PyTorch's order as these. The compiler makes each a product of a view with windows (`passes.convolution`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.errors import DtypeError
from chainrule.graph import Node, Op, Shape, Type, shape_error, who
from chainrule.ops.shaping import Sizes, places, unfold


def _infer_conv(x: Node, w: Node, *, stride: Sizes, dilation: Sizes) -> Type:
    if x.dtype != w.dtype:
        raise DtypeError(
            f"{who('conv')}: input and weight must have one dtype, got {x.dtype.name} and {w.dtype.name}. "
            f"Convert one with .to(dtype)."
        )
    spatial = x.shape[2:-1], w.shape[2:-1], stride, dilation
    shape = tuple(places(*axis) for axis in zip(*spatial, strict=True))
    if (x.shape[0], x.shape[-1]) != w.shape[:2] or min(shape, default=1) < 1:
        raise shape_error(
            "conv", "input (groups, N, *sizes, C) and weight (groups, C, *windows, O) must fit", f"{x.shape}, {w.shape}",
            "Pad the input, or take smaller windows.",
        )  # fmt: skip
    return Type((*x.shape[:2], *shape, w.shape[-1]), x.dtype)


def windows(x: Any, sizes: Shape, stride: Sizes, dilation: Sizes) -> Any:
    """An array (G, N, *S, C) as its windows (G, N, *P, C, *K), without a copy."""
    for axis, (size, step, apart) in enumerate(zip(sizes, stride, dilation, strict=True)):
        x = unfold.numpy(x, axis + 2, size, step, apart)
    return x


def _numpy_conv(x: Any, w: Any, stride: Sizes, dilation: Sizes) -> Any:
    *kept, _ = shape = (*x.shape[:2], *map(places, x.shape[2:-1], w.shape[2:-1], stride, dilation), w.shape[-1])
    rows, terms = math.prod(kept[1:]), math.prod(w.shape[1:-1])
    found = windows(x, w.shape[2:-1], stride, dilation).reshape(x.shape[0], rows, terms)
    return np.matmul(found, w.reshape(w.shape[0], terms, w.shape[-1])).reshape(shape)


def _exchanged(t: Any) -> Any:
    """With its second axis and its last one exchanged."""
    last = t.ndim - 1
    return t.permute((0, last, *range(2, last), 1))


def _by_input(dY: Any, x: Any, w: Any, stride: Sizes, dilation: Sizes) -> Any:
    """Every window that an element lay in gives it a term: the convolution of dY, spread out, with the weight turned over."""
    reach = tuple(d * (size - 1) for d, size in zip(dilation, w.shape[2:-1], strict=True))
    spans = ((count - 1) * s + 1 + r for count, s, r in zip(dY.shape[2:-1], stride, reach, strict=True))
    unread = (size - span for size, span in zip(x.shape[2:-1], spans, strict=True))
    high = tuple(r + left for r, left in zip(reach, unread, strict=True))
    spread = dY._pad((0, 0, *reach, 0), (0, 0, *high, 0), (0, 0, *(s - 1 for s in stride), 0))
    turned = _exchanged(w).flip(tuple(range(2, 2 + len(stride))))
    return spread._conv(turned, (1,) * len(stride), dilation)


def _by_weight(dY: Any, x: Any, w: Any, stride: Sizes, dilation: Sizes) -> Any:
    """Each weight met the elements of one window each, `stride` apart: a convolution of the input with dY."""
    sizes = zip(dY.shape[2:-1], w.shape[2:-1], stride, dilation, strict=True)
    read = tuple((count - 1) * s + (window - 1) * d + 1 for count, window, s, d in sizes)
    stop = (*x.shape[:2], *read, x.shape[-1])
    return _exchanged(x._slice((0,) * x.ndim, stop, (1,) * x.ndim))._conv(dY, dilation, stride)


# Y[g, n, *p, o] = sum over c, *k of x[g, n, *(p * stride + k * dilation), c] * w[g, c, *k, o]
conv = Op(
    "conv", "contraction", _infer_conv,
    numpy=_numpy_conv,
    vjp=(
        lambda dY, Y, x, w, stride, dilation: _by_input(dY, x, w, stride, dilation),
        lambda dY, Y, x, w, stride, dilation: _by_weight(dY, x, w, stride, dilation),
    ),
)  # fmt: skip

OPS = [conv]
