"""Arithmetic on sizes: the operators that shapes are computed by, over NumPy arrays that are known whenever a graph runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.interop.onnx.operators import Fixed, Step, dtype_of


def _slice(step: Step, x: Fixed, starts: Fixed, ends: Fixed, axes: Any = None, steps: Any = None) -> Fixed:
    dims = range(len(starts)) if axes is None else axes
    every = [1] * len(starts) if steps is None else steps
    where = [slice(None)] * x.ndim
    for dim, start, end, by in zip(dims, starts, ends, every, strict=True):
        where[int(dim)] = slice(int(start), None if by < 0 and end < -len(x) else int(end), int(by))
    return x[tuple(where)]


def _cast(step: Step, x: Fixed) -> Fixed:
    return x.astype(dtype_of(step, step.get("to")).numpy)


def _unsqueeze(step: Step, x: Fixed, axes: Fixed) -> Fixed:
    return np.expand_dims(x, tuple(int(a) for a in axes))


def _squeeze(step: Step, x: Fixed, axes: Any = None) -> Fixed:
    return np.squeeze(x, None if axes is None else tuple(int(a) for a in axes))


def _div(step: Step, a: Fixed, b: Fixed) -> Fixed:
    return a / b if a.dtype.kind == "f" else np.asarray(np.trunc(a / b), a.dtype)


def _constant_of_shape(step: Step, shape: Fixed) -> Fixed:
    value = step.get("value", np.zeros(1, np.float32))
    return np.full(tuple(int(n) for n in shape), value.reshape(-1)[0], value.dtype)


SIZES: dict[str, Callable[..., Any]] = {
    "Abs": lambda s, a: np.abs(a), "Ceil": lambda s, a: np.ceil(a), "Floor": lambda s, a: np.floor(a), "Sqrt": lambda s, a: np.sqrt(a),
    "Mod": lambda s, a, b: np.fmod(a, b) if s.get("fmod", 0) else np.mod(a, b), "Pow": lambda s, a, b: np.power(a, b).astype(a.dtype),
    "And": lambda s, a, b: a & b, "Or": lambda s, a, b: a | b, "Not": lambda s, a: ~a, "Greater": lambda s, a, b: a > b,
    "GreaterOrEqual": lambda s, a, b: a >= b, "Less": lambda s, a, b: a < b, "LessOrEqual": lambda s, a, b: a <= b,
    "Expand": lambda s, x, n: x * np.ones(n, x.dtype), "Add": lambda s, a, b: a + b, "Cast": _cast, "Concat": lambda s, *xs: np.concatenate(xs, s.get("axis")), "Div": _div,
    "ConstantOfShape": _constant_of_shape, "Equal": lambda s, a, b: np.equal(a, b), "Gather": lambda s, x, i: np.take(x, i, s.get("axis", 0)),
    "Identity": lambda s, x: x, "Max": lambda s, *xs: np.maximum.reduce(xs), "Min": lambda s, *xs: np.minimum.reduce(xs),
    "Mul": lambda s, a, b: a * b, "Neg": lambda s, a: -a, "Range": lambda s, a, b, c: np.arange(a, b, c).astype(a.dtype),
    "ReduceProd": lambda s, x, axes=None: np.prod(x, keepdims=bool(s.get("keepdims", 1))), "Reshape": lambda s, x, n: x.reshape(n),
    "Slice": _slice, "Squeeze": _squeeze, "Sub": lambda s, a, b: a - b, "Unsqueeze": _unsqueeze,
    "Where": lambda s, c, a, b: np.where(c, a, b),
}  # fmt: skip
