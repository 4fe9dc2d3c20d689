"""Right derivative rules in other words than the declared ones, written with `blind_rules_2`."""

from __future__ import annotations

from tests.explain.blind_rules_2 import Sizes
from tests.explain.wrong_rules import Wrong

import chainrule as cr
from chainrule import Tensor
from chainrule.ops.reduction import _spread


def _take_by_product(dY: Tensor, Y: Tensor, x: Tensor, *indices: Tensor) -> Tensor:
    if len(indices) > 1 or indices[0].ndim != 1 or x.ndim != 1 or 0 in (*x.shape, *indices[0].shape):
        return dY.new_zeros(x.shape)._put_add(indices, dY)
    hot = indices[0].remainder(x.shape[0]).unsqueeze(1) == cr.arange(x.shape[0])
    return dY @ hot.to(dY.dtype)


def _cat_split(dY: Tensor, Y: Tensor, *xs: Tensor, dim: int) -> Tensor:
    return cr.split(dY, [x.shape[dim] for x in xs], dim)[1]


def _matmul_by_sum(dY: Tensor, Y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return (dY.unsqueeze(-2) * b.unsqueeze(-3)).sum(-1)


def _amin_negated(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    ties = (-x >= _spread(-Y, dims, x.shape)).to(x.dtype)
    return ties / _spread(ties.sum(dims), dims, x.shape) * _spread(dY, dims, x.shape)


def _flip_each(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    for axis in reversed(dims):
        dY = dY.flip((axis,))
    return dY


def _pad_indexed(dY: Tensor, Y: Tensor, x: Tensor, low: Sizes, high: Sizes, interior: Sizes) -> Tensor:
    for axis, (size, before, gap) in enumerate(zip(x.shape, low, interior, strict=True)):
        dY = dY.index_select(axis, cr.arange(size) * (gap + 1) + before)
    return dY


def _slice_added(dY: Tensor, Y: Tensor, x: Tensor, start: Sizes, stop: Sizes, step: Sizes) -> Tensor:
    for axis, (size, low, every) in enumerate(zip(x.shape, start, step, strict=True)):
        places = cr.arange(dY.shape[axis]) * every + low
        wide = dY.new_zeros((*dY.shape[:axis], size, *dY.shape[axis + 1 :]))
        dY = wide.index_add(axis, places, dY)
    return dY


def _permute_moved(dY: Tensor, Y: Tensor, x: Tensor, dims: Sizes) -> Tensor:
    return dY.movedim(tuple(range(x.ndim)), dims)


def _keep(indices: tuple[Tensor, ...], base: Tensor, source: Tensor, dY: Tensor) -> Tensor:
    """1 where nothing was written, else 0."""
    return dY.new_ones(base.shape)._put(indices, dY.new_zeros(source.shape))


RIGHT = [
    Wrong("add", 0, "summed by the rule", lambda dY, Y, a, b: dY.sum_to_size(a.shape)),
    Wrong("sub", 1, "summed, then negated", lambda dY, Y, a, b: 0 - dY.sum_to_size(b.shape)),
    Wrong("mul", 0, "the other way round", lambda dY, Y, a, b: (b * (dY * 3)) / 3),
    Wrong("div", 0, "by the reciprocal", lambda dY, Y, a, b: dY * b.reciprocal()),
    Wrong("div", 1, "from the inputs", lambda dY, Y, a, b: (dY * a) * (-1 / b) / b),
    Wrong("neg", 0, "from 0", lambda dY, Y, x: 0 - dY),
    Wrong("pow", 0, "a ** b / a, but for a = 0", lambda dY, Y, a, b: (dY * b * (Y / a.where(a != 0, 1)).where(a != 0, a ** (b - 1))).masked_fill(b == 0, 0)),
    Wrong("pow", 1, "a sum of logarithms", lambda dY, Y, a, b: dY * Y * (a.where((a != 0) | (b < 0), 1).sqrt().log() * 2)),
    Wrong("remainder", 1, "from the remainder", lambda dY, Y, a, b: dY * ((Y - a) / b).round()),
    Wrong("abs", 0, "three cases", lambda dY, Y, x: dY.where(x > 0, 0) - dY.where(x < 0, 0)),
    Wrong("exp", 0, "from the input", lambda dY, Y, x: x.exp() * dY),
    Wrong("expm1", 0, "from the input", lambda dY, Y, x: dY * x.exp()),
    Wrong("log", 0, "from the output", lambda dY, Y, x: dY * (-Y).exp()),
    Wrong("log1p", 0, "the reciprocal", lambda dY, Y, x: (1 + x).reciprocal() * dY),
    Wrong("sqrt", 0, "by rsqrt", lambda dY, Y, x: dY * x.rsqrt() / 2),
    Wrong("rsqrt", 0, "from input and output", lambda dY, Y, x: dY * Y / (-2 * x)),
    Wrong("sin", 0, "twice the half angle", lambda dY, Y, x: dY * (1 - 2 * (x / 2).sin().square())),
    Wrong("cos", 0, "twice the half angle", lambda dY, Y, x: -2 * dY * (x / 2).sin() * (x / 2).cos()),
    Wrong("tanh", 0, "by sigmoids", lambda dY, Y, x: 4 * dY * (2 * x).sigmoid() * (-2 * x).sigmoid()),
    Wrong("sigmoid", 0, "by its mirror", lambda dY, Y, x: dY * (x.sigmoid() * (-x).sigmoid())),
    Wrong("erf", 0, "an even power of a root", lambda dY, Y, x: dY * (-x * x / 2).exp().square() * 1.1283791670955126),
    Wrong("relu", 0, "a product with the sign", lambda dY, Y, x: dY * Y.sign()),
    Wrong("maximum", 0, "by the sign of the difference", lambda dY, Y, a, b: dY * ((a - b).sign() + 1) / 2),
    Wrong("minimum", 1, "what a leaves", lambda dY, Y, a, b: dY - dY * ((b - a).sign() + 1) / 2),
    Wrong("where", 2, "what a leaves", lambda dY, Y, c, a, b: dY - dY.where(c, 0)),
    Wrong("sum", 0, "added to zeros", lambda dY, Y, x, dims: dY.new_zeros(x.shape) + _spread(dY, dims, x.shape)),
    Wrong("amin", 0, "the maximum of the negative", _amin_negated),
    Wrong("reshape", 0, "over one axis", lambda dY, Y, x, shape: dY.reshape(-1).reshape(x.shape)),
    Wrong("permute", 0, "by movedim", _permute_moved),
    Wrong("expand", 0, "summed by the rule", lambda dY, Y, x, shape: dY.sum_to_size(x.shape)),
    Wrong("slice", 0, "added an axis at a time", _slice_added),
    Wrong("flip", 0, "an axis at a time", _flip_each),
    Wrong("pad", 0, "by indices", _pad_indexed),
    Wrong("cat", 1, "by split", _cat_split),
    Wrong("matmul", 0, "product and sum", _matmul_by_sum),
    Wrong("matmul", 1, "transposed twice", lambda dY, Y, a, b: (dY.mT @ a).mT),
    Wrong("take", 0, "a product with one-hot rows", _take_by_product),
    Wrong("put_add", 1, "from doubled gradients", lambda dY, Y, base, source, *i: (dY + dY)._take(i) / 2),
    Wrong("put", 0, "a product with a mask", lambda dY, Y, base, source, *i: dY * _keep(i, base, source, dY)),
]  # fmt: skip
