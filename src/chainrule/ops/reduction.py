"""Ops that fold axes away. `dims` are sorted, non-negative and dropped from the output's shape.

``lower`` is a pair: the value a fold starts from, and the step that folds one more element in.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.errors import ShapeError
from chainrule.graph import Node, Op, Shape, Type, tracing, who
from chainrule.ops.halves import halved


def _kept(shape: Shape, dims: tuple[int, ...]) -> Shape:
    return tuple(size for axis, size in enumerate(shape) if axis not in dims)


def _spread(t: Any, dims: tuple[int, ...], shape: Shape) -> Any:
    """A reduced tensor, back over the shape it was reduced from."""
    if len(dims) == len(shape) and not tracing():
        return t.expand(shape)
    keepdim = tuple(1 if axis in dims else size for axis, size in enumerate(shape))
    return t.reshape(keepdim).expand(shape)


def _infer_sum(x: Node, *, dims: tuple[int, ...]) -> Type:
    return Type(_kept(x.shape, dims), x.dtype if x.dtype.is_floating_point else dtypes.int64)


def _infer_extremum(x: Node, *, dims: tuple[int, ...]) -> Type:
    _refuse_empty("max/min", x, dims)
    return Type(_kept(x.shape, dims), x.dtype)


def _infer_arg(x: Node, *, dims: tuple[int, ...]) -> Type:
    _refuse_empty("argmax/argmin", x, dims)
    return Type(_kept(x.shape, dims), dtypes.int64)


def _refuse_empty(name: str, x: Node, dims: tuple[int, ...]) -> None:
    if any(x.shape[axis] == 0 for axis in dims):
        raise ShapeError(
            f"{who(name)}: the reduced axes must not be empty, got shape {x.shape}. "
            f"An extremum of nothing has no value; check the size first."
        )


def _share(dY: Any, Y: Any, x: Any, dims: tuple[int, ...]) -> Any:
    """The gradient of an extremum, shared equally among the elements that tie for it."""
    ties = (x == _spread(Y, dims, x.shape)).to(x.dtype)
    return ties * _spread(dY / ties.sum(dims), dims, x.shape)


def in_halves(shape: Shape, dims: tuple[int, ...]) -> bool:
    """Are the terms of a sum added up in halves, see `ops.halves`? Where the first axis, the rows of a batch, is summed, and long.

    Of a row's own terms the order does not depend on the rows beside it: the axis must be the first, and not just the
    first that is longer than 1.
    """
    return dims[:1] == (0,) and halved(shape[0])


def _arg(function: Any) -> Any:
    def numpy(x: Any, dims: tuple[int, ...]) -> Any:
        rest = [axis for axis in range(x.ndim) if axis not in dims]
        kept = [x.shape[axis] for axis in rest]
        folded = math.prod(x.shape[axis] for axis in dims)
        return function(x.transpose(*rest, *dims).reshape([*kept, folded]), axis=-1)

    return numpy


sum = Op(
    "sum", "reduction", _infer_sum,
    numpy=lambda x, dims: np.add.reduce(x, dims, None if x.dtype.kind in "fc" else np.int64),
    vjp=(lambda dY, Y, x, dims: _spread(dY, dims, x.shape),),
    lower=(lambda e: e.zero(), lambda e, total, x: e.add(total, x)),
)  # fmt: skip
amax = Op(
    "amax", "reduction", _infer_extremum,
    numpy=lambda x, dims: np.maximum.reduce(x, dims),
    vjp=(lambda dY, Y, x, dims: _share(dY, Y, x, dims),),
    lower=(lambda e: e.lowest(), lambda e, best, x: e.maximum(best, x)),
)  # fmt: skip
amin = Op(
    "amin", "reduction", _infer_extremum,
    numpy=lambda x, dims: np.minimum.reduce(x, dims),
    vjp=(lambda dY, Y, x, dims: _share(dY, Y, x, dims),),
    lower=(lambda e: e.highest(), lambda e, best, x: e.minimum(best, x)),
)  # fmt: skip
# The first position of the extremum, counted through the reduced axes in order; NaN counts as extreme.
argmax = Op("argmax", "reduction", _infer_arg, numpy=_arg(np.argmax), vjp=(None,), lower="gt")
argmin = Op("argmin", "reduction", _infer_arg, numpy=_arg(np.argmin), vjp=(None,), lower="lt")

OPS = [sum, amax, amin, argmax, argmin]
