"""Derivative rules that are right, each written otherwise than in the op's declaration: none may be accused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tests.explain.wrong_rules import Wrong

import chainrule as cr
from chainrule import Tensor
from chainrule.ops.reduction import _spread

SQRT_PI = math.sqrt(math.pi)


def _ties(condition: Tensor, dY: Tensor, dims: tuple[int, ...]) -> Tensor:
    """A share for every element that ties, by choice instead of by product."""
    count = condition.to(dY.dtype).sum(dims)
    return (_spread(dY, dims, condition.shape) / _spread(count, dims, condition.shape)).where(condition, 0)


def _grid(shape: tuple[int, ...], start: Any, step: Any) -> tuple[Tensor, ...]:
    """Where the elements of a slice stand, axis by axis."""
    axes = (low + every * np.arange(size) for size, low, every in zip(shape, start, step, strict=True))
    return tuple(cr.tensor(axis) for axis in np.ix_(*axes)) if shape else ()


def _placed(dY: Tensor, x: Tensor, start: Any, step: Any) -> Tensor:
    return dY.new_zeros(x.shape)._put(_grid(dY.shape, start, step), dY) if x.ndim else dY


def _one_hot(x: Tensor, dY: Tensor, indices: tuple[Tensor, ...]) -> Tensor:
    """The adjoint of `take` as one product of matrices."""
    position = indices[0] * 0
    for axis, index in enumerate(indices):
        position = position * x.shape[axis] + index % x.shape[axis]
    rows = math.prod(x.shape[: len(indices)])
    hot = (cr.arange(rows).unsqueeze(1) == position.reshape(-1)).to(dY.dtype)
    return (hot @ dY.reshape(hot.shape[1], math.prod(x.shape[len(indices) :]))).reshape(x.shape)


def _from_front(base: Tensor, indices: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(index % base.shape[axis] for axis, index in enumerate(indices))


def _columns(dY: Tensor, b: Tensor) -> Tensor:
    """dY @ b.mT, summed by hand."""
    return (dY.unsqueeze(-2) * b.unsqueeze(-3)).sum(-1)


def _one_axis_after_another(dY: Tensor, dims: tuple[int, ...]) -> Tensor:
    for axis in dims:
        dY = dY.flip((axis,))
    return dY


EQUAL: list[Wrong] = [
    Wrong("add", 0, "summed by the rule", lambda dY, Y, a, b: dY.sum_to_size(a.shape)),
    Wrong("add", 1, "times 1", lambda dY, Y, a, b: 1 * dY),
    Wrong("sub", 1, "summed, then negated", lambda dY, Y, a, b: -dY.sum_to_size(b.shape)),
    Wrong("sub", 1, "from 0", lambda dY, Y, a, b: 0 - dY),
    Wrong("mul", 0, "order", lambda dY, Y, a, b: b * dY),
    Wrong("mul", 1, "summed by the rule", lambda dY, Y, a, b: (a * dY).sum_to_size(b.shape)),
    Wrong("div", 0, "reciprocal", lambda dY, Y, a, b: dY * b.reciprocal()),
    Wrong("div", 1, "other order", lambda dY, Y, a, b: -(dY / b) * Y),
    Wrong("div", 1, "divided twice", lambda dY, Y, a, b: -(dY / b) * (a / b)),
    Wrong("neg", 0, "times -1", lambda dY, Y, x: dY * -1),
    Wrong("pow", 0, "other order", lambda dY, Y, a, b: (dY * b * a ** (b - 1)).masked_fill(b == 0, 0)),
    Wrong("pow", 1, "a safe base", lambda dY, Y, a, b: dY * Y * a.masked_fill((a == 0) & (b >= 0), 1).log()),
    Wrong("remainder", 1, "from the output", lambda dY, Y, a, b: dY * ((Y - a) / b).round()),
    Wrong("remainder", 1, "floor of the quotient", lambda dY, Y, a, b: dY * -((a - Y) / b).round()),
    Wrong("floor", 0, "zeros", lambda dY, Y, x: dY * 0),
    Wrong("sign", 0, "zeros", lambda dY, Y, x: dY.new_zeros(x.shape)),
    Wrong("floor_divide", 1, "zeros", lambda dY, Y, a, b: dY.new_zeros(b.shape)),
    Wrong("abs", 0, "by cases", lambda dY, Y, x: dY.where(x > 0, -dY).masked_fill(x == 0, 0)),
    Wrong("abs", 0, "x / |x|, guarded", lambda dY, Y, x: (dY * (x / Y)).masked_fill(x == 0, 0)),
    Wrong("exp", 0, "of the input", lambda dY, Y, x: x.exp() * dY),
    Wrong("expm1", 0, "exp", lambda dY, Y, x: dY * x.exp()),
    Wrong("log", 0, "reciprocal", lambda dY, Y, x: dY * x.reciprocal()),
    # 700 eps at most: Y is rounded to eps |Y|, and exp turns that into a relative error
    Wrong("log", 0, "exp of -Y", lambda dY, Y, x: dY * (-Y).exp()),
    Wrong("log1p", 0, "exp of -Y", lambda dY, Y, x: dY * (-Y).exp()),
    Wrong("log1p", 0, "reciprocal", lambda dY, Y, x: dY * (1 + x).reciprocal()),
    Wrong("sqrt", 0, "halved first", lambda dY, Y, x: 0.5 * dY / Y),
    Wrong("sqrt", 0, "rsqrt", lambda dY, Y, x: 0.5 * dY * x.rsqrt()),
    Wrong("rsqrt", 0, "Y / x", lambda dY, Y, x: -0.5 * dY * (Y / x)),
    Wrong("rsqrt", 0, "x sqrt(x)", lambda dY, Y, x: -dY / (2 * x * x.sqrt())),
    Wrong("sin", 0, "even", lambda dY, Y, x: dY * (-x).cos()),
    # where cos is 0, 1 - 2 sin^2(x / 2) is right to an eps of 1 and not to an eps of itself
    Wrong("sin", 0, "half the angle", lambda dY, Y, x: dY * (1 - 2 * (x / 2).sin() ** 2)),
    Wrong("cos", 0, "half the angle", lambda dY, Y, x: -2 * dY * (x / 2).sin() * (x / 2).cos()),
    Wrong("tanh", 0, "(1 - Y) (1 + Y)", lambda dY, Y, x: dY * (1 - Y) * (1 + Y)),
    Wrong("tanh", 0, "1 / cosh^2", lambda dY, Y, x: dY * (2 / (x.exp() + (-x).exp())) ** 2),
    Wrong("tanh", 0, "0 beyond 20, where Y is 1", lambda dY, Y, x: (dY * (1 - Y * Y)).masked_fill(x.abs() > 20, 0)),
    Wrong("sigmoid", 0, "Y - Y^2", lambda dY, Y, x: dY * (Y - Y * Y)),
    # right to the last digit where the declared rule has none left: tensorflow#126060
    Wrong("sigmoid", 0, "sigmoid(-x)", lambda dY, Y, x: dY * (Y * (-x).sigmoid())),
    Wrong("sigmoid", 0, "of |x|", lambda dY, Y, x: dY * ((-x.abs()).exp() / (1 + (-x.abs()).exp()) ** 2)),
    Wrong("sigmoid", 0, "by tanh", lambda dY, Y, x: dY * (1 - (x / 2).tanh() ** 2) / 4),
    Wrong("erf", 0, "x ** 2", lambda dY, Y, x: dY * (2 / SQRT_PI) * (-(x**2)).exp()),
    Wrong("erf", 0, "divided", lambda dY, Y, x: dY * (2 / SQRT_PI) / (x * x).exp()),
    Wrong("relu", 0, "by product", lambda dY, Y, x: dY * (x > 0).to(dY.dtype)),
    Wrong("relu", 0, "by choice", lambda dY, Y, x: dY.where(x > 0, 0)),
    Wrong("maximum", 0, "by sign", lambda dY, Y, a, b: dY * ((1 + (a - b).sign()) / 2)),
    Wrong("maximum", 1, "counted", lambda dY, Y, a, b: dY * ((b > a).to(dY.dtype) + 0.5 * (b == a).to(dY.dtype))),
    Wrong("minimum", 0, "by output", lambda dY, Y, a, b: (dY.where(a == Y, 0) / 2).where(a == b, dY.where(a == Y, 0))),
    Wrong("minimum", 1, "by sign", lambda dY, Y, a, b: dY * ((1 - (b - a).sign()) / 2)),
    Wrong("where", 1, "by product", lambda dY, Y, c, a, b: dY * c.to(dY.dtype)),
    Wrong("where", 2, "the rest", lambda dY, Y, c, a, b: dY - dY.where(c, 0)),
    Wrong("cast", 0, "by way of float64", lambda dY, Y, x, dtype: dY.double().to(x.dtype)),
    Wrong("alias", 0, "plus 0", lambda dY, Y, x: dY + 0),
    Wrong("sum", 0, "times ones", lambda dY, Y, x, dims: _spread(dY, dims, x.shape) * x.new_ones(x.shape)),
    Wrong("amax", 0, "not below", lambda dY, Y, x, dims: _ties(x >= _spread(Y, dims, x.shape), dY, dims)),
    Wrong("amin", 0, "difference 0", lambda dY, Y, x, dims: _ties(x - _spread(Y, dims, x.shape) == 0, dY, dims)),
    Wrong("reshape", 0, "flat first", lambda dY, Y, x, shape: dY.reshape(-1).reshape(x.shape)),
    Wrong("permute", 0, "sorted", lambda dY, Y, x, dims: dY.permute(tuple(int(a) for a in np.argsort(dims)))),
    Wrong("expand", 0, "summed by the rule", lambda dY, Y, x, shape: dY.sum_to_size(x.shape)),
    Wrong("slice", 0, "put", lambda dY, Y, x, start, stop, step: _placed(dY, x, start, step)),
    Wrong("flip", 0, "axis by axis", lambda dY, Y, x, dims: _one_axis_after_another(dY, dims)),
    Wrong("pad", 0, "taken", lambda dY, Y, x, low, high, interior: dY._take(_grid(x.shape, low, [g + 1 for g in interior])) if x.ndim else dY),
    Wrong("cat", 1, "split", lambda dY, Y, *xs, dim: dY.split([x.shape[dim] for x in xs], dim)[1]),
    Wrong("matmul", 0, "transposed", lambda dY, Y, a, b: (b @ dY.mT).mT),
    Wrong("matmul", 0, "by hand", lambda dY, Y, a, b: _columns(dY, b)),
    Wrong("matmul", 1, "transposed", lambda dY, Y, a, b: (dY.mT @ a).mT),
    Wrong("take", 0, "one-hot", lambda dY, Y, x, *indices: _one_hot(x, dY, indices)),
    Wrong("put_add", 0, "times 1", lambda dY, Y, base, source, *indices: dY * 1),
    Wrong("put_add", 1, "from the front", lambda dY, Y, base, source, *indices: dY._take(_from_front(base, indices))),
    Wrong("put", 0, "by mask", lambda dY, Y, base, source, *indices: dY * base.new_ones(base.shape)._put(indices, source.new_zeros(source.shape))),
    Wrong("put", 1, "from the front", lambda dY, Y, base, source, *indices: dY._take(_from_front(base, indices))),
]  # fmt: skip
