"""What each op of ours is in ONNX: the one place. An op stands in `LOWERINGS`, or in `ABSENT` with the reason.

A lowering is ``(writer, step, *inputs) -> name`` over names of values. Where ONNX, or onnxruntime, has an operator that loses
digits that ours keeps (a sigmoid that is 0 beyond -18, no erfc, no expm1), it is composed of others that keep them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.interop.onnx.writer import REST, Size, Step, TimesRows, Writer, element
from chainrule.ops.reference import CLOSED

Lowering = Callable[..., str]
_EVAL = "Export the model in evaluation mode, without it."


def _plain(kind: str, **attributes: Any) -> Lowering:
    """An operator of ONNX's that means the same."""
    return lambda w, step, *inputs: w.op(kind, *inputs, **attributes)


def _through(w: Writer, step: Step, x: str, *rest: str) -> str:
    return x


def _by_dtype(logical: str, bits: str) -> Lowering:
    """A logical operator for booleans, one of bits for whole numbers."""
    return lambda w, step, *inputs: w.op(logical if step.dtype is dtypes.bool_ else bits, *inputs)


def _wide(lower: Lowering) -> Lowering:
    """What onnxruntime has not for bfloat16: done with the same numbers as float32."""

    def lowered(w: Writer, step: Step, *inputs: str) -> str:
        if not step.dtype.only_stores:
            return lower(w, step, *inputs)
        kinds = [node.dtype for node in step.node.inputs]
        wide = element(dtypes.computed(step.dtype))
        given = [w.op("Cast", x, to=wide) if kind.only_stores else x for x, kind in zip(inputs, kinds, strict=True)]
        return w.op("Cast", lower(w, step, *given), to=element(step.dtype))

    return lowered


# -- numbers -----------------------------------------------------------------------------------------------


def _sigmoid(w: Writer, step: Step, x: str) -> str:
    """``e = exp(-|x|)``; ``1 / (1 + e)`` from 0 on, ``e / (1 + e)`` below."""
    small, one = w.op("Exp", w.op("Neg", w.op("Abs", x))), w.like(1, step)
    above = w.op("Where", w.op("GreaterOrEqual", x, w.like(0, step)), one, small)
    return w.op("Div", above, w.op("Add", small, one))


def _mish(w: Writer, step: Step, x: str) -> str:
    """``max(x, 0) + z n / d`` with ``z = -|x|``, as the reference has it."""
    low, above = w.op("LessOrEqual", x, w.like(0, step)), w.op("Greater", x, w.like(0, step))
    z = w.op("Max", w.op("Neg", w.op("Abs", x)), w.like(CLOSED, step))
    e = w.op("Exp", z)
    square, twice = w.op("Mul", e, e), w.op("Add", e, e)
    part = w.op("Add", square, w.op("Where", low, twice, square))
    rest = w.op("Where", above, w.op("Add", twice, w.like(1, step)), w.like(2, step))
    found = w.op("Add", w.op("Relu", x), w.op("Mul", z, w.op("Div", part, w.op("Add", part, rest))))
    return w.op("Where", w.op("IsNaN", x), x, found)


def _expm1(w: Writer, step: Step, x: str) -> str:
    """``tanh(x / 2) (exp(x) + 1)``, which loses no digits near 0."""
    half = w.op("Tanh", w.op("Mul", x, w.like(0.5, step)))
    return w.op("Mul", half, w.op("Add", w.op("Exp", x), w.like(1, step)))


def _log1p(w: Writer, step: Step, x: str) -> str:
    """``log(u) x / (u - 1)`` for ``u = 1 + x``, whose rounding cancels (Kahan); ``x`` where u is 1, ``log(u)`` for large x."""
    one = w.like(1, step)
    u = w.op("Add", x, one)
    log = w.op("Log", u)
    near = w.op("Mul", log, w.op("Div", x, w.op("Sub", u, one)))
    found = w.op("Where", w.op("Equal", u, one), x, near)
    return w.op("Where", w.op("Greater", x, one), log, found)


# exp(z^2) erfc(z) = t Q(t) for t = 1 / (1 + z / 2): Q of degree 10, lowest power first, within 1.2e-8 for all z >= 0. A least
# squares fit in Chebyshev polynomials at 400 Chebyshev nodes of t in (0, 1], relative to scipy.special.erfcx.
_ERFCX = (
    0.2820947959, 0.2820937001, 0.2468858334, 0.1753025977, 0.09353990496, -0.0594790287, 0.1327530917, -0.4557526255,
    0.4943373045, -0.2350290495, 0.04325348024,
)  # fmt: skip
_SHORT = 16.0  # z in sixteenths has few bits, so that its square is exact


def _erfc(w: Writer, step: Step, x: str) -> str:
    """``exp(-z^2) t Q(t)`` for ``z = |x|``, and 2 minus that below 0; in float64 as exact as in float32."""
    z = w.op("Min", w.op("Abs", x), w.like(30, step))  # beyond it is 0, and infinity would meet itself
    t = w.op("Div", w.like(1, step), w.op("Add", w.op("Mul", z, w.like(0.5, step)), w.like(1, step)))
    total = w.like(_ERFCX[-1], step)
    for coefficient in _ERFCX[-2::-1]:
        total = w.op("Add", w.op("Mul", total, t), w.like(coefficient, step))
    short = w.op("Div", w.op("Round", w.op("Mul", z, w.like(_SHORT, step))), w.like(_SHORT, step))
    rest = w.op("Mul", w.op("Sub", short, z), w.op("Add", short, z))
    power = w.op("Mul", w.op("Exp", w.op("Neg", w.op("Mul", short, short))), w.op("Exp", rest))
    above = w.op("Mul", power, w.op("Mul", t, total))
    found = w.op("Where", w.op("Less", x, w.like(0, step)), w.op("Sub", w.like(2, step), above), above)
    return w.op("Where", w.op("IsNaN", x), x, found)


def _sign(w: Writer, step: Step, x: str) -> str:
    """0 for NaN, where ONNX's is NaN."""
    zero, kind = w.like(0, step), element(step.dtype)
    above, below = (w.op("Cast", w.op(name, x, zero), to=kind) for name in ("Greater", "Less"))
    return w.op("Sub", above, below)


def _relu(w: Writer, step: Step, x: str) -> str:
    return w.op("Relu", x)


def _floor_divide(w: Writer, step: Step, a: str, b: str) -> str:
    if step.dtype.is_floating_point:
        return w.op("Floor", w.op("Div", a, b))
    return w.op("Div", w.op("Sub", a, w.op("Mod", a, b)), b)  # ONNX's own division of whole numbers rounds to 0


def _remainder(w: Writer, step: Step, a: str, b: str) -> str:
    if not step.dtype.is_floating_point:
        return w.op("Mod", a, b)
    return w.op("Sub", a, w.op("Mul", b, w.op("Floor", w.op("Div", a, b))))


def _extremum(kind: str) -> Lowering:
    """NaN where one is NaN."""

    def lower(w: Writer, step: Step, a: str, b: str) -> str:
        if not step.dtype.is_floating_point:
            return w.op("Where", w.op("Less" if kind == "Min" else "Greater", a, b), a, b)
        return w.op(kind, a, b)

    return lower


def _ne(w: Writer, step: Step, a: str, b: str) -> str:
    return w.op("Not", w.op("Equal", a, b))


def _where(w: Writer, step: Step, condition: str, a: str, b: str) -> str:
    """Of booleans, which onnxruntime's has not: ``(condition and a) or (not condition and b)``."""
    if step.dtype is not dtypes.bool_:
        return w.op("Where", condition, a, b)
    return w.op("Or", w.op("And", condition, a), w.op("And", w.op("Not", condition), b))


def _cast(w: Writer, step: Step, x: str) -> str:
    return w.op("Cast", x, to=element(step.params["dtype"]))


def _mul(w: Writer, step: Step, a: str, b: str) -> str:
    return w.op("And" if step.dtype is dtypes.bool_ else "Mul", a, b)


def _add(w: Writer, step: Step, a: str, b: str) -> str:
    return w.op("Or" if step.dtype is dtypes.bool_ else "Add", a, b)


# -- axes --------------------------------------------------------------------------------------------------


def _reduction(kind: str) -> Lowering:
    def lower(w: Writer, step: Step, x: str) -> str:
        dims = step.params["dims"]
        if kind == "ReduceSum" and not step.of_inputs().is_floating_point:
            x = w.op("Cast", x, to=element(step.dtype))
        return w.op(kind, x, w.ints(*dims), keepdims=0) if dims else x

    return lower


def _arg(kind: str) -> Lowering:
    """Counted through the folded axes in order."""

    def lower(w: Writer, step: Step, x: str) -> str:
        dims, sizes = step.params["dims"], step.inputs[0]
        rest = [axis for axis in range(len(sizes)) if axis not in dims]
        if len(dims) != 1 or dims[0] != len(sizes) - 1:
            x = w.op("Transpose", x, perm=[*rest, *dims])
            x = w.op("Reshape", x, w.sizes([*(sizes[axis] for axis in rest), -1]))
        return w.op(kind, x, axis=-1, keepdims=0)

    return lower


def _reshape(w: Writer, step: Step, x: str) -> str:
    sizes = list(step.params["shape"])
    counted = [axis for axis, size in enumerate(sizes) if isinstance(size, TimesRows)]
    if len(counted) == 1 and 0 not in sizes:
        sizes[counted[0]] = -1  # what is left
    return w.op("Reshape", x, w.sizes(sizes), allowzero=1)


def _permute(w: Writer, step: Step, x: str) -> str:
    return w.op("Transpose", x, perm=list(step.params["dims"]))


def _expand(w: Writer, step: Step, x: str) -> str:
    sizes, before = list(step.params["shape"]), step.inputs[0]
    for axis in range(1, len(before) + 1):
        if isinstance(before[-axis], TimesRows):
            sizes[-axis] = 1  # it is as long already
    return w.op("Expand", x, w.sizes(sizes))


def _slice(w: Writer, step: Step, x: str) -> str:
    start, stop, every = (list(step.params[name]) for name in ("start", "stop", "step"))
    stop = [REST if isinstance(size, TimesRows) else size for size in stop]
    return w.op("Slice", x, w.ints(*start), w.ints(*stop), w.ints(*range(len(start))), w.ints(*every))


def _flip(w: Writer, step: Step, x: str) -> str:
    dims = step.params["dims"]
    low, step_by = [-1] * len(dims), [-1] * len(dims)
    return w.op("Slice", x, w.ints(*low), w.ints(*[-REST] * len(dims)), w.ints(*dims), w.ints(*step_by))


def _pad(w: Writer, step: Step, x: str) -> str:
    low, high = step.params["low"], step.params["high"]
    if step.dtype is dtypes.bool_:
        x = w.op("Cast", x, to=element(dtypes.int32))
    x = _apart(w, step, x)
    padded = w.op("Pad", x, w.ints(*low, *high)) if any((*low, *high)) else x
    return w.op("Cast", padded, to=element(dtypes.bool_)) if step.dtype is dtypes.bool_ else padded


def _apart(w: Writer, step: Step, x: str) -> str:
    """Zeros between the elements of an axis: along a new one behind each, and without those behind the last."""
    sizes = list(step.inputs[0])
    for axis, gap in enumerate(step.params["interior"]):
        size = sizes[axis]
        if not gap:
            continue
        assert not isinstance(size, TimesRows)  # between rows of open number, the length is no multiple of theirs
        before = [0] * (len(sizes) + 1)
        spread = w.op("Unsqueeze", x, w.ints(axis + 1))
        spread = w.op("Pad", spread, w.ints(*before, *before[:axis], 0, gap, *before[axis + 2 :]))
        sizes[axis] = size * (gap + 1)
        flat = w.op("Reshape", spread, w.sizes(sizes), allowzero=1)
        x = w.op("Slice", flat, w.ints(0), w.ints(-gap), w.ints(axis))
        sizes[axis] = max(0, size * (gap + 1) - gap)
    return x


def _unfold(w: Writer, step: Step, x: str) -> str:
    dim, size, every, apart = (step.params[name] for name in ("dim", "size", "step", "dilation"))
    count, rank = step.sizes[dim], len(step.inputs[0])
    if isinstance(count, TimesRows):
        raise step.refuse("has windows along the rows, whose number is open", "Export it for one number of rows.")
    at = np.arange(count)[:, None] * every + np.arange(size) * apart
    found = w.op("Gather", x, w.constant(at), axis=dim)
    return w.op("Transpose", found, perm=[*range(dim + 1), *range(dim + 2, rank + 1), dim + 1])


def _conv(w: Writer, step: Step, x: str, weight: str) -> str:
    """ONNX has images first and channels before their sizes, the groups one behind the other."""
    (_, rows, *sizes, _), (groups, channels, *window, out) = step.inputs[0], step.node.inputs[1].shape
    axes = list(range(2, 2 + len(window)))
    images = w.op("Transpose", x, perm=[1, 0, axes[-1] + 1, *axes])
    images = w.op("Reshape", images, w.sizes([rows, groups * channels, *sizes]))
    kernels = w.op("Transpose", weight, perm=[0, axes[-1] + 1, 1, *axes])
    kernels = w.op("Reshape", kernels, w.sizes([groups * out, channels, *window]))
    strides, dilations = list(step.params["stride"]), list(step.params["dilation"])
    found = w.op("Conv", images, kernels, group=groups, strides=strides, dilations=dilations, kernel_shape=window)
    found = w.op("Reshape", found, w.sizes([rows, groups, out, *step.sizes[2:-1]]))
    return w.op("Transpose", found, perm=[1, 0, *(axis + 1 for axis in axes), 2])


def _cat(w: Writer, step: Step, *xs: str) -> str:
    return w.op("Concat", *xs, axis=step.params["dim"])


def _broadcast(shapes: list[list[Size]]) -> list[Size]:
    """The shape that they broadcast to."""
    rank = max(map(len, shapes))
    padded: list[list[Size]] = [[*[1] * (rank - len(shape)), *shape] for shape in shapes]
    return [next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True)]


def _together(w: Writer, step: Step, indices: tuple[str, ...], first: int) -> str:
    """Indices of several axes, which broadcast, as one tensor with a last axis for them."""
    shapes = step.inputs[first:]
    sizes, parts = _broadcast(shapes), []
    for index, shape in zip(indices, shapes, strict=True):
        long = w.op("Cast", index, to=element(dtypes.int64))
        wide = long if shape == sizes else w.op("Expand", long, w.sizes(sizes))
        parts.append(w.op("Unsqueeze", wide, w.ints(-1)))
    return w.op("Concat", *parts, axis=-1)


def _take(w: Writer, step: Step, x: str, *indices: str) -> str:
    if len(indices) == 1:
        index = (
            w.op("Cast", indices[0], to=element(dtypes.int64))
            if step.node.inputs[1].dtype is dtypes.uint8
            else indices[0]
        )
        return w.op("Gather", x, index, axis=0)
    return w.op("GatherND", x, _together(w, step, indices, 1))


def _scatter(reduction: str) -> Lowering:
    return lambda w, step, base, source, *indices: w.op(
        "ScatterND", base, _together(w, step, indices, 2), source, reduction=reduction
    )


def _iota(w: Writer, step: Step) -> str:
    size, kind = step.params["size"], step.params["dtype"]
    if not isinstance(size, TimesRows):
        return w.constant(np.arange(size, dtype=kind.numpy))
    found = w.counted(size)
    return found if kind is dtypes.int64 else w.op("Cast", found, to=element(kind))


def _check_index(w: Writer, step: Step, index: str) -> str:
    """Where a negative index is nothing, it becomes one behind the end, which runtimes refuse."""
    if step.params["least"] < 0:
        return index
    outside = w.constant(np.array(step.params["size"], step.dtype.numpy))
    return w.op("Where", w.op("Less", index, w.like(0, step)), outside, index)


LOWERINGS: dict[str, Lowering] = {
    "add": _add, "sub": _plain("Sub"), "mul": _mul, "div": _plain("Div"), "neg": _plain("Neg"), "pow": _plain("Pow"),
    "floor_divide": _floor_divide, "remainder": _remainder, "abs": _plain("Abs"), "sign": _sign, "floor": _plain("Floor"),
    "round": _plain("Round"), "exp": _plain("Exp"), "expm1": _expm1, "log": _plain("Log"), "log1p": _log1p,
    "sqrt": _plain("Sqrt"), "rsqrt": lambda w, step, x: w.op("Reciprocal", w.op("Sqrt", x)), "sin": _plain("Sin"),
    "cos": _plain("Cos"), "tanh": _plain("Tanh"), "sigmoid": _sigmoid, "mish": _mish, "erf": _plain("Erf"), "erfc": _erfc, "relu": _relu,
    "maximum": _extremum("Max"), "minimum": _extremum("Min"), "where": _wide(_where), "eq": _plain("Equal"), "ne": _ne,
    "lt": _plain("Less"), "le": _plain("LessOrEqual"), "gt": _plain("Greater"), "ge": _plain("GreaterOrEqual"),
    "bitwise_and": _by_dtype("And", "BitwiseAnd"), "bitwise_or": _by_dtype("Or", "BitwiseOr"),
    "bitwise_xor": _by_dtype("Xor", "BitwiseXor"), "bitwise_not": _by_dtype("Not", "BitwiseNot"), "cast": _cast,
    "alias": _through, "detach": _through, "custom": _through,
    "sum": _reduction("ReduceSum"), "amax": _reduction("ReduceMax"), "amin": _reduction("ReduceMin"),
    "argmax": _arg("ArgMax"), "argmin": _arg("ArgMin"),
    "reshape": _reshape, "permute": _permute, "expand": _wide(_expand), "slice": _slice, "flip": _flip, "pad": _wide(_pad), "cat": _cat,
    "unfold": _unfold, "conv": _conv,
    "matmul": _plain("MatMul"), "take": _take, "put": _scatter("none"), "put_add": _scatter("add"), "iota": _iota,
    "check_index": _check_index,
}  # fmt: skip

#: What ONNX cannot say, and what to do about it.
ABSENT: dict[str, tuple[str, str]] = {
    "random_bits": ("draws random numbers, which ONNX has no operator for that gives the same", _EVAL),
    "shift_left": ("shifts the bits of signed numbers, which ONNX does not", "Multiply by a power of 2."),
    "shift_right": ("shifts the bits of signed numbers, which ONNX does not", "Divide by a power of 2."),
    "frexp": ("takes numbers apart into their bits, which ONNX does not", "Leave it out of forward."),
    "bitcast": ("reads bits as another dtype, which ONNX does not", _EVAL),
}


def lower(w: Writer, step: Step, *inputs: str) -> str:
    """Write one node.

    Raises:
        SettingError: it is nothing that ONNX can say.
    """
    found = LOWERINGS.get(step.node.op.name)
    if found is None:
        raise step.refuse("has no counterpart in ONNX here", _EVAL)
    return found(w, step, *inputs)
