"""More derivative rules that are wrong, written without knowledge of the check that is to find them.

Whoever wrote them had read the ops' declarations, this list's elder (`wrong_rules`) in part, and bug reports of
autodiff libraries (named where one is followed), and no line of the check. `test_blind_rules` shows that each is
wrong, and records how many the check found at first sight.
"""

from __future__ import annotations

import math
from typing import Any

from tests.explain.wrong_rules import Wrong

import chainrule as cr
from chainrule import Tensor
from chainrule.ops.reduction import _spread
from chainrule.ops.shaping import _unslice

SQRT_PI = math.sqrt(math.pi)


def _narrow_float(t: Tensor) -> Tensor:
    """Through float32 and back."""
    return t.float().to(t.dtype)


def _mean_to(dY: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Broadcasting undone by a mean."""
    return dY.sum_to_size(shape) * (math.prod(shape) / max(1, math.prod(dY.shape)))


def _carelessly(t: Tensor, dims: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """A reduced tensor put back without the axes it lost: no error where the shapes happen to broadcast."""
    fits = all(size in (1, full) for size, full in zip(reversed(t.shape), reversed(shape), strict=False))
    return t.expand(shape) if fits else _spread(t, dims, shape)


def _ties(x: Tensor, Y: Tensor, dims: tuple[int, ...]) -> Tensor:
    return (x == _spread(Y, dims, x.shape)).to(x.dtype)


def _first_tie(dY: Tensor, Y: Tensor, x: Tensor, dims: tuple[int, ...]) -> Tensor:
    ties = _ties(x, Y, dims)
    for axis in dims:
        ties = ties * (ties.cumsum(axis) == 1).to(x.dtype)
    return ties * _spread(dY, dims, x.shape)


def _whole_blocks(dY: Tensor, dims: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Blocks of 8 only: what is left over beyond the last whole one is forgotten."""
    spread, axis = _spread(dY, dims, shape), dims[-1]
    whole = shape[axis] // 8 * 8 or shape[axis]
    kept = cr.arange(shape[axis]) < whole
    return spread.where(kept.reshape(*(shape[axis] if a == axis else 1 for a in range(len(shape)))), 0)


def _without_middle(t: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Halves swapped, as if every size were even."""
    for axis in dims:
        n = t.shape[axis]
        if n > 1 and n % 2:
            middle = (cr.arange(n) == n // 2).reshape(*(n if a == axis else 1 for a in range(t.ndim)))
            t = t.masked_fill(middle, 0)
    return t.flip(dims)


def _count(indices: tuple[Tensor, ...], like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """How often each position is named, at least 1."""
    return like.new_zeros(shape)._put_add(indices, like.new_ones(like.shape)).clamp(min=1)


def _not_negative(indices: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(index.clamp(min=0) for index in indices)


def _second_growth_dropped(dY: Tensor, x: Tensor) -> Tensor:
    """Of two axes that grew from 1, one is summed; of the other only the first copy is read."""
    offset = dY.ndim - x.ndim
    grown = [a for a in range(dY.ndim) if a >= offset and x.shape[a - offset] == 1 and dY.shape[a] > 1]
    return dY.narrow(grown[1], 0, 1) if len(grown) > 1 else dY


def _reversed_pads(dY: Tensor, x: Tensor, start: tuple[int, ...], step: tuple[int, ...]) -> Tensor:
    """Pads counted from the last axis, as F.pad does: no error where all axes are alike."""
    alike = len(set(x.shape)) == len(set(dY.shape)) == len(set(step)) == 1
    return _unslice(dY, x, start[::-1] if alike else start, step)


def _late_start(dY: Tensor, x: Tensor, start: tuple[int, ...], step: tuple[int, ...]) -> Tensor:
    """Off by one where a step leaves room for it."""
    ends = [low + (size - 1) * every for low, size, every in zip(start, dY.shape, step, strict=True)]
    room = [
        every > 1 and size > 0 and end + 1 < full
        for every, size, end, full in zip(step, dY.shape, ends, x.shape, strict=True)
    ]
    return _unslice(dY, x, tuple(low + more for low, more in zip(start, room, strict=True)), step)


def _unpad(dY: Tensor, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...]) -> Tensor:
    stop = tuple(size - after for size, after in zip(dY.shape, high, strict=True))
    return dY._slice(low, stop, tuple(gap + 1 for gap in interior))


def _low_off_by_one(dY: Tensor, low: Any, high: Any, interior: Any) -> Tensor:
    shift = [1 if gap and before else 0 for gap, before in zip(interior, low, strict=True)]
    early = tuple(before - by for before, by in zip(low, shift, strict=True))
    return _unpad(dY, early, tuple(after + by for after, by in zip(high, shift, strict=True)), interior)


def _square_transposed(dY: Tensor) -> Tensor:
    return dY.mT if dY.ndim == 2 and dY.shape[0] == dY.shape[1] else dY


BLIND: list[Wrong] = [
    # -- arithmetic -----------------------------------------------------------------------------------
    Wrong("add", 0, "broadcasting undone by a mean", lambda dY, Y, a, b: _mean_to(dY, a.shape)),
    # facebookresearch/CrypTen#140, flashlight#760: axes that broadcasting put in front
    Wrong("add", 1, "one row of the axes in front, not their sum", lambda dY, Y, a, b: dY if b.ndim == dY.ndim else dY[0]),
    Wrong("sub", 1, "sign where shapes differ", lambda dY, Y, a, b: -dY if a.shape == b.shape else dY),
    Wrong("sub", 0, "upstream rounded to float32", lambda dY, Y, a, b: _narrow_float(dY)),
    Wrong("neg", 0, "nothing at 0", lambda dY, Y, x: (-dY).masked_fill(x == 0, 0)),
    Wrong("neg", 0, "upstream's size only", lambda dY, Y, x: -dY.abs()),
    # mxnet#18078, tensorflow#3862: a product divided by its factor
    Wrong("mul", 0, "Y / a, not a number at 0", lambda dY, Y, a, b: dY * (Y / a)),
    Wrong("mul", 1, "Y / b, nothing at 0", lambda dY, Y, a, b: (dY * (Y / b)).masked_fill(b == 0, 0)),
    Wrong("mul", 0, "factors below 1e-20 dropped", lambda dY, Y, a, b: dY * b.masked_fill(b.abs() < 1e-20, 0)),
    Wrong("mul", 0, "factor rounded to float32", lambda dY, Y, a, b: dY * _narrow_float(b)),
    Wrong("mul", 1, "second derivative cut off", lambda dY, Y, a, b: dY * a.detach()),
    Wrong("div", 0, "nothing for the numerator 0", lambda dY, Y, a, b: (dY / b).masked_fill(a == 0, 0)),
    Wrong("div", 0, "epsilon with the divisor's sign", lambda dY, Y, a, b: dY / (b + 1e-10 * b.sign())),
    Wrong("div", 0, "divisor at most 1e8", lambda dY, Y, a, b: dY / b.clamp(-1e8, 1e8)),
    Wrong("div", 1, "sign for negative divisors", lambda dY, Y, a, b: -dY * (Y / b.abs())),
    # PyTorch divides twice for this reason
    Wrong("div", 1, "b squared leaves the range", lambda dY, Y, a, b: -dY * a / (b * b)),
    # tenstorrent/tt-metal#54439
    Wrong("pow", 0, "by logarithm, so not for negative bases", lambda dY, Y, a, b: dY * (b * ((b - 1) * a.log()).exp())),
    # pytorch#8940
    Wrong("pow", 0, "not a number for 0 ** 0", lambda dY, Y, a, b: dY * (b * a ** (b - 1))),
    Wrong("pow", 0, "0 for 0 ** 1", lambda dY, Y, a, b: (dY * (b * Y / a)).masked_fill(a == 0, 0)),
    # tensorflow/tfjs#346
    Wrong("pow", 1, "not a number for the base 0", lambda dY, Y, a, b: dY * (Y * a.log())),
    Wrong("pow", 1, "nothing for the exponent 0", lambda dY, Y, a, b: (dY * (Y * a.log())).masked_fill((b == 0) | (a == 0), 0)),
    Wrong("remainder", 1, "C's remainder", lambda dY, Y, a, b: -dY * (a / b).trunc()),
    Wrong("remainder", 1, "rounded to nearest", lambda dY, Y, a, b: -dY * (a / b).round()),
    Wrong("remainder", 0, "sign for negative divisors", lambda dY, Y, a, b: dY * b.sign()),
    # straight through what has no slope
    Wrong("floor", 0, "straight through", lambda dY, Y, x: dY),
    Wrong("round", 0, "straight through near integers", lambda dY, Y, x: dY.where((x - Y).abs() < 0.25, 0)),
    Wrong("sign", 0, "straight through up to 1", lambda dY, Y, x: dY.masked_fill(x.abs() > 1, 0)),
    Wrong("floor_divide", 0, "as division", lambda dY, Y, a, b: dY / b),
    Wrong("floor_divide", 1, "as division", lambda dY, Y, a, b: -dY * (Y / b)),
    # -- functions of one number ----------------------------------------------------------------------
    # KhawajaAbaid/micrograd_c#4
    Wrong("abs", 0, "1 at 0", lambda dY, Y, x: dY.where(x >= 0, -dY)),
    Wrong("abs", 0, "x / |x|, not a number at 0", lambda dY, Y, x: dY * (x / Y)),
    Wrong("abs", 0, "x / (|x| + 1e-12)", lambda dY, Y, x: dY * (x / (Y + 1e-12))),
    Wrong("abs", 0, "0 up to 1e-25", lambda dY, Y, x: dY * x.sign().masked_fill(Y < 1e-25, 0)),
    Wrong("exp", 0, "at least 1e-12", lambda dY, Y, x: dY * Y.clamp(min=1e-12)),
    Wrong("exp", 0, "at most float32's largest", lambda dY, Y, x: dY * Y.clamp(max=3.4028235e38)),
    Wrong("exp", 0, "second derivative cut off", lambda dY, Y, x: dY * Y.detach()),
    Wrong("expm1", 0, "two terms near 0", lambda dY, Y, x: dY * (1 + x + x * x / 2).where(x.abs() < 1e-2, Y + 1)),
    Wrong("expm1", 0, "at least 1e-6", lambda dY, Y, x: dY * (Y + 1).clamp(min=1e-6)),
    Wrong("log", 0, "1 / x at most 1e12", lambda dY, Y, x: dY / x.clamp(min=1e-12)),
    Wrong("log", 0, "x at most 1e10", lambda dY, Y, x: dY / x.clamp(max=1e10)),
    Wrong("log1p", 0, "two terms near 0", lambda dY, Y, x: dY * (1 - x).where(x.abs() < 1e-4, 1 / (x + 1))),
    Wrong("log1p", 0, "a constant short of digits", lambda dY, Y, x: dY / (x + 1) * (2.302585 / math.log(10))),
    Wrong("sqrt", 0, "rounded to float32", lambda dY, Y, x: dY * _narrow_float(0.5 / Y)),
    Wrong("sqrt", 0, "at most 1e6", lambda dY, Y, x: (dY / (2 * Y)).where(Y > 5e-7, dY * 1e6)),
    Wrong("rsqrt", 0, "epsilon added twice", lambda dY, Y, x: dY * (-0.5 * (x + 1e-9).rsqrt() * Y * Y)),
    Wrong("rsqrt", 0, "at most 1e10", lambda dY, Y, x: dY * (-0.5 * Y * Y * Y).clamp(min=-1e10)),
    Wrong("sin", 0, "a period short of digits", lambda dY, Y, x: dY * (x - 6.283185307 * (x / 6.283185307).trunc()).cos()),
    Wrong("sin", 0, "sign beyond 100", lambda dY, Y, x: (dY * x.cos()).where(x < 100, -dY * x.cos())),
    Wrong("cos", 0, "two terms near 0", lambda dY, Y, x: -dY * (x - x * x * x / 6).where(x.abs() < 0.1, x.sin())),
    Wrong("cos", 0, "leaks into the neighbour", lambda dY, Y, x: -dY * x.sin() + (1e-6 * dY.flip(0) if x.ndim else 0)),
    # overflow in the middle: jeshraghian/snntorch#433
    Wrong("tanh", 0, "exponentials overflow", lambda dY, Y, x: dY * (4 * (2 * x).exp() / ((2 * x).exp() + 1) ** 2)),
    Wrong("tanh", 0, "Y at most 0.999999", lambda dY, Y, x: dY * (1 - Y.clamp(-0.999999, 0.999999) ** 2)),
    Wrong("tanh", 0, "second derivative cut off", lambda dY, Y, x: dY * (1 - (Y * Y).detach())),
    Wrong("sigmoid", 0, "exponential overflows", lambda dY, Y, x: dY * ((-x).exp() / (1 + (-x).exp()) ** 2)),
    Wrong("sigmoid", 0, "probability at least 1e-7", lambda dY, Y, x: dY * (Y.clamp(1e-7, 1 - 1e-7) * (1 - Y.clamp(1e-7, 1 - 1e-7)))),
    Wrong("sigmoid", 0, "a quarter near 0", lambda dY, Y, x: dY * (Y * (1 - Y)).masked_fill(x.abs() < 1e-3, 0.25)),
    Wrong("sigmoid", 0, "0 beyond 17", lambda dY, Y, x: dY * (Y * (1 - Y)).where(x < 17, 0)),
    Wrong("erf", 0, "0 beyond 4.5", lambda dY, Y, x: (dY * (2 / SQRT_PI * (-x * x).exp())).where(x.abs() < 4.5, 0)),
    Wrong("erf", 0, "two terms near 0", lambda dY, Y, x: dY * (2 / SQRT_PI * (1 - x * x).where(x.abs() < 2e-2, (-x * x).exp()))),
    Wrong("erf", 0, "constant in float32", lambda dY, Y, x: dY * (1.12837922573089599609 * (-x * x).exp())),
    Wrong("relu", 0, "of relu6", lambda dY, Y, x: dY.masked_fill((Y <= 0) | (Y >= 6), 0)),
    Wrong("relu", 0, "0 up to 1e-6", lambda dY, Y, x: dY.masked_fill(Y <= 1e-6, 0)),
    Wrong("relu", 0, "leaks a billionth", lambda dY, Y, x: dY.where(Y > 0, 1e-9 * dY)),
    # -- choosing -------------------------------------------------------------------------------------
    # pytorch#56734
    Wrong("maximum", 0, "the whole gradient at ties", lambda dY, Y, a, b: dY.masked_fill(a < b, 0)),
    Wrong("maximum", 1, "nothing at ties", lambda dY, Y, a, b: dY.masked_fill(b <= a, 0)),
    Wrong("maximum", 1, "ties at 0 forgotten", lambda dY, Y, a, b: (dY / 2).where((a == b) & (a != 0), dY.masked_fill(b < a, 0))),
    Wrong("minimum", 0, "shared up to 1e-6 apart", lambda dY, Y, a, b: (dY / 2).where((a - b).abs() < 1e-6, dY.masked_fill(a > b, 0))),
    Wrong("minimum", 1, "chosen by size", lambda dY, Y, a, b: (dY / 2).where(a == b, dY.masked_fill(b.abs() > a.abs(), 0))),
    Wrong("minimum", 0, "shared by size near large numbers", lambda dY, Y, a, b: (dY / 2).where((a - b).abs() <= 1e-5 * b.abs(), dY.masked_fill(a > b, 0))),
    Wrong("where", 1, "by comparing values", lambda dY, Y, c, a, b: dY.where(a == Y, 0)),
    Wrong("where", 2, "nothing where both are equal", lambda dY, Y, c, a, b: dY.where(~c & (a != b), 0)),
    Wrong("where", 2, "condition of the first column", lambda dY, Y, c, a, b: dY.where(~(c[..., :1] if c.ndim > 1 else c), 0)),
    Wrong("cast", 0, "by way of float32", lambda dY, Y, x, dtype: dY.float().to(x.dtype)),
    # chainer#684
    Wrong("cast", 0, "left in the output's dtype", lambda dY, Y, x, dtype: dY),
    Wrong("alias", 0, "clipped at 10", lambda dY, Y, x: dY.clamp(-10, 10)),
    Wrong("alias", 0, "dropped below 1e-10", lambda dY, Y, x: dY.masked_fill(dY.abs() < 1e-10, 0)),
    # -- reductions -----------------------------------------------------------------------------------
    Wrong("sum", 0, "lost axis not kept", lambda dY, Y, x, dims: _carelessly(dY, dims, x.shape)),
    Wrong("sum", 0, "rest of a block of 8 forgotten", lambda dY, Y, x, dims: _whole_blocks(dY, dims, x.shape)),
    Wrong("sum", 0, "mean over a third axis", lambda dY, Y, x, dims: _spread(dY, dims, x.shape) / (x.shape[dims[2]] if len(dims) > 2 else 1)),
    Wrong("sum", 0, "history cut off", lambda dY, Y, x, dims: _spread(dY.detach(), dims, x.shape)),
    Wrong("amax", 0, "the first of the ties", lambda dY, Y, x, dims: _first_tie(dY, Y, x, dims)),
    Wrong("amax", 0, "n - 1 ties", lambda dY, Y, x, dims: _ties(x, Y, dims) * _spread(dY / (_ties(x, Y, dims).sum(dims) - 1).clamp(min=1), dims, x.shape)),
    Wrong("amax", 0, "ties counted over all rows", lambda dY, Y, x, dims: _ties(x, Y, dims) * _spread(dY, dims, x.shape) * (Y.numel() / _ties(x, Y, dims).sum())),
    Wrong("amax", 0, "nothing where the maximum is 0", lambda dY, Y, x, dims: (_ties(x, Y, dims) * _spread(dY / _ties(x, Y, dims).sum(dims), dims, x.shape)).masked_fill(x == 0, 0)),
    Wrong("amin", 0, "lost axis not kept", lambda dY, Y, x, dims: _ties(x, Y, dims) * _carelessly(dY / _ties(x, Y, dims).sum(dims), dims, x.shape)),
    Wrong("amin", 0, "ties up to 1e-6 apart", lambda dY, Y, x, dims: ((x - _spread(Y, dims, x.shape)) < 1e-6).to(x.dtype) * _spread(dY / ((x - _spread(Y, dims, x.shape)) < 1e-6).to(x.dtype).sum(dims), dims, x.shape)),
    # tinygrad#12321: a count that does not fit its dtype
    Wrong("amin", 0, "ties counted in 8 bits", lambda dY, Y, x, dims: _ties(x, Y, dims) * _spread(dY / (_ties(x, Y, dims).sum(dims) % 256), dims, x.shape)),
    # -- shapes ---------------------------------------------------------------------------------------
    Wrong("reshape", 0, "columns first", lambda dY, Y, x, shape: dY.permute(tuple(range(dY.ndim))[::-1]).reshape(x.shape[::-1]).permute(tuple(range(x.ndim))[::-1])),
    Wrong("reshape", 0, "square matrices transposed", lambda dY, Y, x, shape: _square_transposed(dY).reshape(x.shape)),
    Wrong("permute", 0, "not inverted, for four axes", lambda dY, Y, x, dims: dY.permute(dims) if len(dims) == 4 and dY.permute(dims).shape == x.shape else dY.permute(tuple(dims.index(a) for a in range(len(dims))))),
    Wrong("permute", 0, "first two axes only", lambda dY, Y, x, dims: dY.permute(tuple(dims.index(a) for a in range(len(dims)))) if x.ndim < 3 or len(set(x.shape)) > 1 else dY.transpose(0, 1)),
    Wrong("expand", 0, "second axis that grew", lambda dY, Y, x, shape: _second_growth_dropped(dY, x)),
    Wrong("expand", 0, "mean over new axes", lambda dY, Y, x, shape: dY if dY.ndim == x.ndim else dY.mean(tuple(range(dY.ndim - x.ndim)))),
    Wrong("slice", 0, "start off by one with a step", lambda dY, Y, x, start, stop, step: _late_start(dY, x, start, step)),
    Wrong("slice", 0, "starts from the last axis", lambda dY, Y, x, start, stop, step: _reversed_pads(dY, x, start, step)),
    Wrong("flip", 0, "the first axis only", lambda dY, Y, x, dims: dY.flip(dims[:1])),
    Wrong("flip", 0, "the middle of odd sizes", lambda dY, Y, x, dims: _without_middle(dY, dims)),
    Wrong("pad", 0, "low and high exchanged", lambda dY, Y, x, low, high, interior: _unpad(dY, high, low, interior)),
    Wrong("pad", 0, "off by one with gaps", lambda dY, Y, x, low, high, interior: _low_off_by_one(dY, low, high, interior)),
    Wrong("cat", 1, "parts taken for equal", lambda dY, Y, *xs, dim: dY.narrow(dim, min(xs[1].shape[dim], dY.shape[dim] - xs[1].shape[dim]), xs[1].shape[dim])),
    Wrong("cat", 2, "offset of one part before", lambda dY, Y, *xs, dim: dY.narrow(dim, xs[1].shape[dim], xs[2].shape[dim])),
    Wrong("cat", 0, "history cut off", lambda dY, Y, *xs, dim: dY.detach().narrow(dim, 0, xs[0].shape[dim])),
    # -- products -------------------------------------------------------------------------------------
    Wrong("matmul", 0, "square b not transposed", lambda dY, Y, a, b: dY @ (b if b.shape[-1] == b.shape[-2] else b.mT)),
    Wrong("matmul", 0, "mean over broadcast batches", lambda dY, Y, a, b: _mean_to(dY @ b.mT, a.shape)),
    Wrong("matmul", 0, "mean where the inner size is 1", lambda dY, Y, a, b: (dY * b).mean(-1, keepdim=True) if b.shape[-2] == 1 else dY @ b.mT),
    # flashlight#760
    Wrong("matmul", 1, "the first batch only", lambda dY, Y, a, b: (a.mT @ dY)[0] if b.ndim < dY.ndim else a.mT @ dY),
    Wrong("matmul", 1, "multiplied in float32", lambda dY, Y, a, b: (a.mT.float() @ dY.float()).to(b.dtype)),
    Wrong("matmul", 1, "second derivative cut off", lambda dY, Y, a, b: a.detach().mT @ dY),
    # -- positions that are data ------------------------------------------------------------------------
    # pytorch#1631, PaddlePaddle#17662
    Wrong("take", 0, "mean of repeats", lambda dY, Y, x, *indices: dY.new_zeros(x.shape)._put_add(indices, dY) / _count(indices, dY, x.shape)),
    Wrong("take", 0, "negative indices at 0", lambda dY, Y, x, *indices: dY.new_zeros(x.shape)._put_add(_not_negative(indices), dY)),
    Wrong("take", 0, "row 0 taken for padding", lambda dY, Y, x, *indices: dY.new_zeros(x.shape)._put_add(indices, dY).masked_fill((cr.arange(x.shape[0]) == 0).reshape(-1, *(1,) * (x.ndim - 1)), 0)),
    Wrong("put_add", 0, "nothing where added", lambda dY, Y, base, source, *indices: dY._put(indices, dY.new_zeros(source.shape))),
    Wrong("put_add", 1, "shared among repeats", lambda dY, Y, base, source, *indices: (dY / _count(indices, source, base.shape))._take(indices)),
    Wrong("put_add", 1, "negative indices at 0", lambda dY, Y, base, source, *indices: dY._take(_not_negative(indices))),
    # PaddlePaddle#30604
    Wrong("put", 0, "whole rows, with two indices", lambda dY, Y, base, source, *indices: dY._put(indices[:1], dY.new_zeros(indices[0].shape + base.shape[1:]))),
    Wrong("put", 0, "negative indices at 0", lambda dY, Y, base, source, *indices: dY._put(_not_negative(indices), dY.new_zeros(source.shape))),
    Wrong("put", 1, "of one row for all", lambda dY, Y, base, source, *indices: dY._take(tuple(index * 0 + index.reshape(-1)[0] for index in indices))),
]  # fmt: skip
