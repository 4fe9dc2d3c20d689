"""Derivative rules that are wrong, each in one subtle way: what a check of rules is worth is how many it finds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from chainrule import Tensor, ops
from chainrule.graph import Op
from chainrule.ops.reduction import _spread

Rule = Any


@dataclass(frozen=True)
class Wrong:
    """A rule for one argument of an op, and what is wrong with it."""

    op: str
    argument: int
    what: str
    rule: Rule

    def __str__(self) -> str:
        return f"{self.op}[{self.argument}]: {self.what}"


def mutant(wrong: Wrong) -> Op:
    """The op with this rule instead of its own."""
    op = ops.ALL[wrong.op]
    if callable(op.vjp):
        right = op.vjp
        return replace(op, vjp=lambda i: wrong.rule if i == wrong.argument else right(i))
    return replace(op, vjp=tuple(wrong.rule if i == wrong.argument else rule for i, rule in enumerate(op.vjp)))


def _keep(dY: Tensor, condition: Tensor) -> Tensor:
    return dY.where(condition, 0)


WRONG: list[Wrong] = [
    # a sign
    Wrong("sub", 1, "sign", lambda dY, Y, a, b: dY),
    Wrong("cos", 0, "sign", lambda dY, Y, x: dY * x.sin()),
    Wrong("div", 1, "sign", lambda dY, Y, a, b: dY * (Y / b)),
    Wrong("remainder", 1, "sign", lambda dY, Y, a, b: dY * (a // b)),
    Wrong("rsqrt", 0, "sign", lambda dY, Y, x: dY * (0.5 * Y * Y * Y)),
    # a sign in one branch
    Wrong("abs", 0, "sign where negative", lambda dY, Y, x: dY),
    Wrong("sin", 0, "sign where cos is negative", lambda dY, Y, x: dY * x.cos().abs()),
    Wrong("pow", 0, "sign for negative bases", lambda dY, Y, a, b: (dY * (b * a.abs() ** (b - 1))).where(b != 0, 0)),
    Wrong("maximum", 0, "branches swapped", lambda dY, Y, a, b: (dY / 2).where(a == b, dY.masked_fill(a > b, 0))),
    # a factor
    Wrong("sqrt", 0, "factor 2", lambda dY, Y, x: dY / Y),
    Wrong("rsqrt", 0, "power", lambda dY, Y, x: dY * (-0.5 * Y * Y)),
    Wrong("erf", 0, "factor 2 / sqrt(pi) rounded", lambda dY, Y, x: dY * (1.12838 * (-x * x).exp())),
    Wrong("erf", 0, "exponent halved", lambda dY, Y, x: dY * (2 / math.sqrt(math.pi) * (-x * x / 2).exp())),
    Wrong("pow", 0, "factor b", lambda dY, Y, a, b: (dY * a ** (b - 1)).where(b != 0, 0)),
    Wrong("pow", 0, "exponent", lambda dY, Y, a, b: (dY * (b * Y)).where(b != 0, 0)),
    Wrong("pow", 1, "log missing", lambda dY, Y, a, b: (dY * Y).masked_fill((a == 0) & (b >= 0), 0)),
    Wrong("tanh", 0, "one Y", lambda dY, Y, x: dY * (1 - Y)),
    Wrong("tanh", 0, "input for output", lambda dY, Y, x: dY * (1 - x * x)),
    Wrong("sigmoid", 0, "Y squared", lambda dY, Y, x: dY * (Y * (1 - Y * Y))),
    Wrong("expm1", 0, "the 1", lambda dY, Y, x: dY * Y),
    Wrong("log1p", 0, "the 1", lambda dY, Y, x: dY / x),
    Wrong("mul", 0, "operands swapped", lambda dY, Y, a, b: dY * a),
    Wrong("div", 0, "multiplied", lambda dY, Y, a, b: dY * b),
    Wrong("div", 1, "one b", lambda dY, Y, a, b: -dY * Y),
    Wrong("exp", 0, "upstream missing", lambda dY, Y, x: Y),
    Wrong("log", 0, "absolute value", lambda dY, Y, x: dY.abs() / x),
    # one part in a million, or a billion
    Wrong("sigmoid", 0, "a millionth", lambda dY, Y, x: dY * (Y * (1 - Y)) * (1 + 1e-6)),
    Wrong("exp", 0, "a billionth", lambda dY, Y, x: dY * Y * (1 + 1e-9)),
    Wrong("matmul", 0, "a ten millionth", lambda dY, Y, a, b: dY @ b.mT * (1 + 1e-7)),
    Wrong("tanh", 0, "added a little", lambda dY, Y, x: dY * (1 - Y * Y + 1e-8)),
    # saturation cut off, poles moved
    Wrong("sigmoid", 0, "0 beyond 12", lambda dY, Y, x: _keep(dY * (Y * (1 - Y)), x.abs() < 12)),
    Wrong("tanh", 0, "0 beyond 9", lambda dY, Y, x: _keep(dY * (1 - Y * Y), x.abs() < 9)),
    Wrong("sigmoid", 0, "0 below -30", lambda dY, Y, x: _keep(dY * (Y * (1 - Y)), x > -30)),
    Wrong("erf", 0, "0 beyond 3", lambda dY, Y, x: _keep(dY * (2 / math.sqrt(math.pi) * (-x * x).exp()), x.abs() < 3)),
    Wrong("exp", 0, "at most 1e6", lambda dY, Y, x: dY * Y.clamp(max=1e6)),
    Wrong("log", 0, "epsilon in the divisor", lambda dY, Y, x: dY / (x + 1e-8)),
    Wrong("sqrt", 0, "epsilon in the divisor", lambda dY, Y, x: dY / (2 * Y + 1e-7)),
    Wrong("log1p", 0, "clipped at -0.9", lambda dY, Y, x: dY / (x + 1).clamp(min=0.1)),
    Wrong("expm1", 0, "0 below -20", lambda dY, Y, x: _keep(dY * (Y + 1), x > -20)),
    # kinks and ties
    Wrong("relu", 0, "1 at 0", lambda dY, Y, x: dY.masked_fill(x < 0, 0)),
    Wrong("relu", 0, "half at 0", lambda dY, Y, x: (dY / 2).where(x == 0, dY.masked_fill(x < 0, 0))),
    Wrong("relu", 0, "leaks a thousandth", lambda dY, Y, x: (dY * 1e-3).where(Y <= 0, dY)),
    Wrong("abs", 0, "1 at 0", lambda dY, Y, x: dY.where(x >= 0, -dY)),
    Wrong("maximum", 0, "all at a tie", lambda dY, Y, a, b: dY.masked_fill(a < b, 0)),
    Wrong("minimum", 1, "nothing at a tie", lambda dY, Y, a, b: dY.masked_fill(b >= a, 0)),
    Wrong("amax", 0, "all of it to every tie", lambda dY, Y, x, dims: _keep(_spread(dY, dims, x.shape), x == _spread(Y, dims, x.shape))),
    Wrong("amin", 0, "to the largest", lambda dY, Y, x, dims: _keep(_spread(dY, dims, x.shape), x == _spread(x.amax(dims), dims, x.shape))),
    Wrong("floor", 0, "straight through", lambda dY, Y, x: dY),
    Wrong("floor_divide", 0, "as true division", lambda dY, Y, a, b: dY / b),
    # axes and shapes
    Wrong("sum", 0, "mean", lambda dY, Y, x, dims: _spread(dY, dims, x.shape) / math.prod(x.shape[d] for d in dims)),
    Wrong("sum", 0, "not spread", lambda dY, Y, x, dims: dY),
    Wrong("permute", 0, "not inverted", lambda dY, Y, x, dims: dY.permute(dims) if dY.permute(dims).shape == x.shape else dY.reshape(x.shape)),
    Wrong("reshape", 0, "column order", lambda dY, Y, x, shape: dY.reshape(x.shape[::-1]).permute(tuple(range(len(x.shape)))[::-1])),
    Wrong("flip", 0, "not flipped back", lambda dY, Y, x, dims: dY),
    Wrong("flip", 0, "one axis only", lambda dY, Y, x, dims: dY.flip(dims[:1])),
    Wrong("expand", 0, "one of the copies", lambda dY, Y, x, shape: dY / (math.prod(shape) / max(1, math.prod(x.shape)))),
    Wrong("slice", 0, "start forgotten", lambda dY, Y, x, start, stop, step: _unsliced(dY, x, step)),
    Wrong("pad", 0, "low for high", lambda dY, Y, x, low, high, interior: _unpadded(dY, x, high, interior)),
    Wrong("cat", 1, "the first part", lambda dY, Y, *xs, dim: dY.narrow(dim, 0, xs[1].shape[dim])),
    Wrong("matmul", 0, "not transposed", lambda dY, Y, a, b: (dY @ b.reshape(b.mT.shape))),
    Wrong("matmul", 1, "factors swapped", lambda dY, Y, a, b: (dY.mT @ a).reshape(_batched(dY, b))),
    Wrong("matmul", 1, "the batch averaged", lambda dY, Y, a, b: a.mT @ dY / math.prod(dY.shape[:-2])),
    # choices and positions
    Wrong("where", 1, "condition ignored", lambda dY, Y, c, a, b: dY),
    Wrong("where", 2, "condition not inverted", lambda dY, Y, c, a, b: dY.where(c, 0)),
    Wrong("take", 0, "the last of equal positions", lambda dY, Y, x, *i: dY.new_zeros(x.shape)._put(i, dY)),
    Wrong("put_add", 0, "cleared where written", lambda dY, Y, base, source, *i: dY._put(i, dY.new_zeros(source.shape))),
    Wrong("put", 0, "kept where written", lambda dY, Y, base, source, *i: dY),
    Wrong("put_add", 1, "doubled", lambda dY, Y, base, source, *i: dY._take(i) * 2),
    # no derivative where there is one
    Wrong("remainder", 1, "None", None),
    Wrong("cast", 0, "None", None),
]  # fmt: skip


def _unsliced(dY: Tensor, x: Tensor, step: tuple[int, ...]) -> Tensor:
    spans = [max(0, (size - 1) * every + 1) for size, every in zip(dY.shape, step, strict=True)]
    high = tuple(size - span for size, span in zip(x.shape, spans, strict=True))
    return dY._pad((0,) * x.ndim, high, tuple(every - 1 for every in step))


def _unpadded(dY: Tensor, x: Tensor, first: tuple[int, ...], interior: tuple[int, ...]) -> Tensor:
    stop = tuple(f + (size - 1) * (gap + 1) + 1 for f, size, gap in zip(first, x.shape, interior, strict=True))
    return dY._slice(first, tuple(map(min, stop, dY.shape)), tuple(gap + 1 for gap in interior))


def _batched(dY: Tensor, b: Tensor) -> tuple[int, ...]:
    return (*dY.shape[:-2], *b.shape[-2:])
