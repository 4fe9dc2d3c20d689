"""Where the elements of a view would lie in PyTorch: whether ``reshape`` is a view or a copy hangs on that.

Our own layout is the compiler's concern. The strides counted here are those of a view whose root is contiguous;
they decide nothing but which tensors look at the same elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from chainrule.graph import Op, Shape
from chainrule.ops import elementwise as ew
from chainrule.ops import shaping

if TYPE_CHECKING:
    from chainrule.tensor.core import Handle

Layout = tuple[Shape, Shape]  # shape, strides


def contiguous(shape: Shape) -> Shape:
    """The strides of elements in row-major order."""
    return tuple(math.prod(max(size, 1) for size in shape[a + 1 :]) for a in range(len(shape)))


def layout(handle: Handle) -> Layout:
    """The shape and the strides of a tensor."""
    views = handle._views
    if views is None:
        return handle.shape, contiguous(handle.shape)
    found = layout(views.family.root)
    for op, params in views.path:
        found = _STEP[op](*found, **params)
    return found


def is_contiguous(handle: Handle) -> bool:
    """Do the elements lie in row-major order? (Where an axis has one element or none, its stride says nothing.)"""
    if handle._views is None or not math.prod(handle.shape):
        return True
    shape, strides = layout(handle)
    return all(size == 1 or a == b for size, a, b in zip(shape, strides, contiguous(shape), strict=True))


def can_view(handle: Handle, shape: Shape) -> bool:
    """Can the same elements be seen in this shape without a copy?"""
    return handle._views is None or reshaped(*layout(handle), shape) is not None


def reshaped(shape: Shape, strides: Shape, wanted: Shape) -> Shape | None:
    """The strides of the same elements in another shape; None where none fit.

    Axes that lie in memory as one (a block) may be divided anew; each block of old axes must be a block of new ones.
    """
    if not shape or not math.prod(shape):
        return contiguous(wanted)
    result: list[int] = [0] * len(wanted)
    at, base, old, new = len(wanted) - 1, strides[-1], 1, 1
    for a in reversed(range(len(shape))):
        old *= shape[a]
        if a and (shape[a - 1] == 1 or strides[a - 1] == old * base):
            continue
        while at >= 0 and (new < old or wanted[at] == 1):
            result[at] = new * base
            new *= wanted[at]
            at -= 1
        if new != old:
            return None
        base, old, new = strides[a - 1], 1, 1
    return tuple(result) if at < 0 else None


def _expanded(old: Shape, strides: Shape, shape: Shape) -> Layout:
    extra = len(shape) - len(old)
    kept = (s if size == wanted else 0 for s, size, wanted in zip(strides, old, shape[extra:], strict=True))
    return shape, ((0,) * extra) + tuple(kept)


def _sliced(old: Shape, strides: Shape, start: Shape, stop: Shape, step: Shape) -> Layout:
    shape = tuple(len(range(*span)) for span in zip(start, stop, step, strict=True))
    return shape, tuple(s * every for s, every in zip(strides, step, strict=True))


def _unfolded(old: Shape, strides: Shape, dim: int, size: int, step: int, dilation: int) -> Layout:
    count, own = shaping.places(old[dim], size, step, dilation), strides[dim]
    shape = (*old[:dim], count, *old[dim + 1 :], size)
    return shape, (*strides[:dim], own * step, *strides[dim + 1 :], own * dilation)


_STEP: dict[Op, Callable[..., Layout]] = {
    shaping.reshape: lambda old, strides, shape: (shape, reshaped(old, strides, shape) or contiguous(shape)),
    shaping.permute: lambda old, strides, dims: (tuple(old[d] for d in dims), tuple(strides[d] for d in dims)),
    shaping.expand: _expanded,
    shaping.slice: _sliced,
    shaping.unfold: _unfolded,
    ew.alias: lambda old, strides: (old, strides),
}
