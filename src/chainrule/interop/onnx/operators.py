"""What each operator of ONNX is here: functions ``(step, *inputs)`` over tensors, and over arrays of sizes.

Sizes, axes and the like are NumPy arrays (`Fixed`), known whenever the graph runs; everything else is a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper

import chainrule.nn.functional as F
from chainrule.dtypes import DType, as_dtype, bfloat16
from chainrule.errors import SettingError
from chainrule.tensor import Tensor
from chainrule.tensor import functions as fn
from chainrule.tensor.creation import arange, full, tensor

Fixed = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Step:
    """A node.

    Attributes:
        kind, name: the operator, and what the file calls the node.
        inputs, outputs: names of values; an input that is left out is empty.
        attributes: its own, as plain values.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what it is where it is left out."""
        return self.attributes.get(name, default)

    def refuse(self, why: str) -> SettingError:
        """The error for what is not supported."""
        return SettingError(f"onnx.load: the node {self.name!r} ({self.kind}) {why}. Export the model without it.")

    def fixed(self, value: Any, what: str) -> list[int]:
        """Whole numbers that are known before the graph runs."""
        if isinstance(value, Tensor):
            raise self.refuse(f"takes {what} from values that are computed; here they must be known")
        return [int(v) for v in np.asarray(value).reshape(-1)]


def as_tensor(value: Any) -> Tensor:
    """A value as a tensor."""
    return value if isinstance(value, Tensor) else tensor(np.asarray(value))


def _unary(function: Callable[[Tensor], Any]) -> Callable[..., Any]:
    return lambda step, x: function(x)


def _folded(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Any]:
    """Of any number of inputs."""

    def fold(step: Step, first: Tensor, *rest: Tensor) -> Tensor:
        for x in rest:
            first = function(first, x)
        return first

    return fold


def _div(step: Step, a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.dtype.is_floating_point else fn.div(a, b, rounding_mode="trunc")


def _mod(step: Step, a: Tensor, b: Tensor) -> Tensor:
    if step.get("fmod", 0):
        return a - fn.div(a, b, rounding_mode="trunc") * b
    return a % b


def _pow(step: Step, a: Tensor, b: Tensor) -> Tensor:
    """In the dtype of the base; a whole number to a power that is none is taken there and cut."""
    if b.dtype.is_floating_point and not a.dtype.is_floating_point:
        return (a.to(b.dtype) ** b).to(a.dtype)
    found: Tensor = a ** b.to(a.dtype)
    return found


def _selu(step: Step, x: Tensor) -> Tensor:
    if not step.attributes:
        return F.selu(x)
    alpha, gamma = step.get("alpha", 1.67326319217681884765625), step.get("gamma", 1.05070102214813232421875)
    found: Tensor = F.elu(x, alpha) * gamma
    return found


def _is_inf(step: Step, x: Tensor) -> Tensor:
    found = x.isinf()
    for name, side in (("detect_positive", x > 0), ("detect_negative", x < 0)):
        found = found if step.get(name, 1) else found & ~side
    return found


def _clip(step: Step, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    x = x if low is None else fn.maximum(x, as_tensor(low).to(x.dtype))
    return x if high is None else fn.minimum(x, as_tensor(high).to(x.dtype))


def _gemm(step: Step, a: Tensor, b: Tensor, c: Any = None) -> Tensor:
    a, b = (a.mT if step.get("transA", 0) else a), (b.mT if step.get("transB", 0) else b)
    product, alpha, beta = a @ b, step.get("alpha", 1.0), step.get("beta", 1.0)
    product = product if alpha == 1 else product * alpha
    return product if c is None else product + (c if beta == 1 else c * beta)


def _hard_sigmoid(step: Step, x: Tensor) -> Tensor:
    found: Tensor = (x * step.get("alpha", 0.2) + step.get("beta", 0.5)).clamp(0.0, 1.0)
    return found


def _prelu(step: Step, x: Tensor, slope: Any) -> Tensor:
    found: Tensor = x.where(x > 0, x * slope)
    return found


def _where(step: Step, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    found: Tensor = fn.where(condition, a, b)
    return found


# -- layers ------------------------------------------------------------------------------------------------


def _layer_norm(step: Step, x: Tensor, scale: Any = None, bias: Any = None) -> Tensor:
    first = step.get("axis", -1) % x.ndim
    return F.layer_norm(x, x.shape[first:], scale, bias, step.get("epsilon", 1e-5))


def _rms_norm(step: Step, x: Tensor, scale: Any) -> Tensor:
    first = step.get("axis", -1) % x.ndim
    return F.rms_norm(x, x.shape[first:], scale, step.get("epsilon", 1e-5))


def _batch_norm(step: Step, training: bool, x: Tensor, *state: Any) -> Tensor:
    scale, bias, mean, var = state
    momentum = 1 - step.get("momentum", 0.9)
    return F.batch_norm(x, mean, var, scale, bias, training, momentum, step.get("epsilon", 1e-5))


def _instance_norm(step: Step, x: Tensor, scale: Any, bias: Any) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=step.get("epsilon", 1e-5))


def _group_norm(step: Step, x: Tensor, scale: Any, bias: Any) -> Tensor:
    if scale.shape != (x.shape[1],):
        raise step.refuse(
            "has a scale for each group, as opset 18 had it by mistake; here there is one for each channel"
        )
    return F.group_norm(x, step.get("num_groups"), scale, bias, step.get("epsilon", 1e-5))


def _dropout(step: Step, training: bool, x: Tensor, ratio: Any = None, mode: Any = None) -> Tensor:
    share = 0.5 if ratio is None else float(np.asarray(ratio)) if not isinstance(ratio, Tensor) else None
    if share is None:
        raise step.refuse("takes its ratio from a value that is computed")
    return F.dropout(x, share, training)


# -- axes --------------------------------------------------------------------------------------------------


def _axes(step: Step, x: Tensor, axes: Any) -> tuple[int, ...]:
    """The axes to fold: an input, or an attribute; all where they are left out, unless that says none."""
    found = step.fixed(axes, "axes") if axes is not None else step.get("axes")
    if not found:
        return () if step.get("noop_with_empty_axes", 0) else tuple(range(x.ndim))
    return tuple(sorted(axis % x.ndim for axis in found))


def _reduction(function: Callable[..., Tensor]) -> Callable[..., Any]:
    def reduce(step: Step, x: Tensor, axes: Any = None) -> Tensor:
        dims = _axes(step, x, axes)
        return function(x, dims, bool(step.get("keepdims", 1))).to(x.dtype) if dims else x

    return reduce


def _mean(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    return (x if x.dtype.is_floating_point else x.double()).mean(
        dims, keepdim=keepdim
    )  # ONNX cuts one of whole numbers


def _prod(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    for dim in reversed(dims):
        x = x.prod(dim, keepdim=keepdim)
    return x


def _arg(name: str) -> Callable[..., Any]:
    def arg(step: Step, x: Tensor) -> Tensor:
        if step.get("select_last_index", 0):
            raise step.refuse("takes the last of equal elements; here it is the first")
        found: Tensor = getattr(x, name)(step.get("axis", 0), keepdim=bool(step.get("keepdims", 1)))
        return found

    return arg


def _reshape(step: Step, x: Tensor, shape: Any) -> Tensor:
    sizes = step.fixed(shape, "a shape")
    if not step.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(*sizes)


def _flatten(step: Step, x: Tensor) -> Tensor:
    axis = step.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), -1)


def _transpose(step: Step, x: Tensor) -> Tensor:
    return x.permute(*step.get("perm", range(x.ndim)[::-1]))


def _squeeze(step: Step, x: Tensor, axes: Any = None) -> Tensor:
    dims = (
        [a % x.ndim for a in step.fixed(axes, "axes")]
        if axes is not None
        else [i for i, n in enumerate(x.shape) if n == 1]
    )
    return x.reshape(*(n for i, n in enumerate(x.shape) if i not in dims))


def _unsqueeze(step: Step, x: Tensor, axes: Any) -> Tensor:
    given = step.fixed(axes, "axes")
    rank, sizes = x.ndim + len(given), iter(x.shape)
    dims = {axis % rank for axis in given}
    return x.reshape(*(1 if axis in dims else next(sizes) for axis in range(rank)))


def _expand(step: Step, x: Tensor, shape: Any) -> Tensor:
    return x.expand(*np.broadcast_shapes(tuple(x.shape), tuple(step.fixed(shape, "a shape"))))


def _concat(step: Step, *xs: Tensor) -> Tensor:
    return fn.cat(list(xs), step.get("axis"))


def _split(step: Step, x: Tensor, sizes: Any = None) -> Any:
    axis = step.get("axis", 0)
    if sizes is None:
        size, count = x.shape[axis], step.get("num_outputs", len(step.outputs))
        each = -(-size // count)
        return tuple(fn.split(x, [max(0, min(each, size - i * each)) for i in range(count)], axis))
    return tuple(fn.split(x, step.fixed(sizes, "sizes"), axis))


def _slice(step: Step, x: Tensor, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Tensor:
    first, last = step.fixed(starts, "starts"), step.fixed(ends, "ends")
    dims = step.fixed(axes, "axes") if axes is not None else list(range(len(first)))
    every = step.fixed(steps, "steps") if steps is not None else [1] * len(first)
    for dim, start, end, by in zip(dims, first, last, every, strict=True):
        x = _sliced(x, dim % x.ndim, start, end, by)
    return x


def _sliced(x: Tensor, dim: int, start: int, end: int, by: int) -> Tensor:
    size = x.shape[dim]
    chosen = range(*slice(start, None if by < 0 and end < -size else end, by).indices(size))
    if by < 0:  # the same of the axis read backwards
        x, chosen = x.flip(dim), range(size - 1 - chosen.start, size - 1 - chosen.stop, -by)
    return x[(slice(None),) * dim + (slice(chosen.start, max(chosen.start, chosen.stop), chosen.step),)]


def _pad(step: Step, x: Tensor, pads: Any, value: Any = None, axes: Any = None) -> Tensor:
    if step.get("mode", b"constant") != b"constant":
        raise step.refuse("pads by values of its input; here borders are constant")
    sizes, rank = step.fixed(pads, "sizes"), x.ndim
    dims = [a % rank for a in step.fixed(axes, "axes")] if axes is not None else list(range(rank))
    border = [0] * (2 * rank)
    for i, dim in enumerate(dims):
        border[2 * (rank - 1 - dim)], border[2 * (rank - 1 - dim) + 1] = sizes[i], sizes[i + len(dims)]
    fill = 0.0 if value is None or isinstance(value, Tensor) else float(np.asarray(value))
    if isinstance(value, Tensor):
        raise step.refuse("takes its border from a value that is computed")
    return F.pad(x, border, value=fill)


def _conv(step: Step, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    rank, formulas = x.ndim - 2, {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
    if rank not in formulas:
        raise step.refuse(f"has {rank} spatial axes; here there are 1, 2 or 3")
    if step.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise step.refuse("lets its borders be computed; here they are numbers")
    pads, ones = step.get("pads", [0] * (2 * rank)), [1] * rank
    border = [side for axis in reversed(range(rank)) for side in (pads[axis], pads[rank + axis])]
    strides, dilations = list(step.get("strides", ones)), list(step.get("dilations", ones))
    return formulas[rank](F.pad(x, border), as_tensor(weight), bias, strides, 0, dilations, step.get("group", 1))


def _conv_transpose(step: Step, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    rank, formulas = x.ndim - 2, {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
    if rank not in formulas:
        raise step.refuse(f"has {rank} spatial axes; here there are 1, 2 or 3")
    if step.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or step.get("output_shape"):
        raise step.refuse("lets its borders be computed; here they are numbers")
    pads, ones = step.get("pads", [0] * (2 * rank)), [1] * rank
    strides, dilations = list(step.get("strides", ones)), list(step.get("dilations", ones))
    found = formulas[rank](x, as_tensor(weight), None, strides, 0, 0, step.get("group", 1), dilations)
    further = step.get("output_padding", [0] * rank)
    border = [n for i in reversed(range(rank)) for n in (-pads[i], further[i] - pads[rank + i])]
    found = F.pad(found, border)
    return found if bias is None else found + bias.reshape(-1, *ones)


def _gather(step: Step, x: Tensor, index: Tensor) -> Tensor:
    axis, count = step.get("axis", 0) % x.ndim, index.ndim
    flat = index.reshape(1) if not count else index
    found = x.movedim(axis, 0)[flat.long()]
    depth = max(count, 1)
    order = [*range(depth, depth + axis), *range(depth), *range(depth + axis, found.ndim)]
    found = found.permute(*order)
    return found if count else found.squeeze(axis)


def _gather_elements(step: Step, x: Tensor, index: Tensor) -> Tensor:
    axis = step.get("axis", 0)
    return x.gather(axis, index.long().where(index >= 0, index.long() + x.shape[axis]))


def _indices(index: Tensor) -> tuple[Tensor, ...]:
    return tuple(index[..., i].long() for i in range(index.shape[-1]))


def _gather_nd(step: Step, x: Tensor, index: Tensor) -> Tensor:
    if step.get("batch_dims", 0):
        raise step.refuse("gathers by batch")
    return x[_indices(index)]


def _scatter_nd(step: Step, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    kind = step.get("reduction", b"none")
    if kind not in (b"none", b"add"):
        raise step.refuse(f"scatters by {kind.decode()!r}; here are 'none' and 'add'")
    return x._put_add(_indices(index), updates) if kind == b"add" else x._put(_indices(index), updates)


def _tile(step: Step, x: Tensor, repeats: Any) -> Tensor:
    return fn.tile(x, tuple(step.fixed(repeats, "repeats")))


def _cumsum(step: Step, x: Tensor, axis: Any) -> Tensor:
    if step.get("exclusive", 0) or step.get("reverse", 0):
        raise step.refuse("sums backwards or without the element itself")
    return x.cumsum(step.fixed(axis, "an axis")[0]).to(x.dtype)


def _range(step: Step, start: Any, limit: Any, delta: Any) -> Tensor:
    first, last, by = (step.fixed(v, "bounds")[0] for v in (start, limit, delta))
    return arange(first, last, by)


def _cast(step: Step, x: Tensor) -> Tensor:
    return x.to(dtype_of(step, step.get("to")))


def dtype_of(step: Step, kind: int) -> DType:
    """The dtype that ONNX has this number for."""
    if kind == TensorProto.BFLOAT16:
        return bfloat16
    try:
        return as_dtype(helper.tensor_dtype_to_np_dtype(kind))
    except (TypeError, KeyError, ValueError):
        raise step.refuse(f"needs ONNX's dtype {kind}, which chainrule does not have") from None


def _constant_of_shape(step: Step, shape: Any) -> Tensor:
    value = step.get("value", np.zeros(1, np.float32))
    return full(tuple(step.fixed(shape, "a shape")), value.reshape(-1)[0].item(), dtype=as_dtype(value.dtype))


OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": _unary(fn.abs), "Add": lambda s, a, b: a + b, "And": lambda s, a, b: a & b, "ArgMax": _arg("argmax"), "ArgMin": _arg("argmin"),
    "BitwiseAnd": lambda s, a, b: a & b, "BitwiseNot": lambda s, a: ~a, "BitwiseOr": lambda s, a, b: a | b,
    "BitwiseXor": lambda s, a, b: a ^ b, "Cast": _cast, "CastLike": lambda s, a, b: a.to(b.dtype), "Ceil": _unary(fn.ceil),
    "Celu": lambda s, x: F.celu(x, s.get("alpha", 1.0)), "Clip": _clip, "Concat": _concat, "ConstantOfShape": _constant_of_shape,
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Cos": _unary(fn.cos), "CumSum": _cumsum, "Div": _div, "Elu": lambda s, x: F.elu(x, s.get("alpha", 1.0)),
    "Equal": lambda s, a, b: a == b, "Erf": _unary(fn.erf), "Exp": _unary(fn.exp), "Expand": _expand, "Flatten": _flatten,
    "Floor": _unary(fn.floor), "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "Gelu": lambda s, x: F.gelu(x, s.get("approximate", b"none").decode()), "Gemm": _gemm, "Greater": lambda s, a, b: a > b,
    "GreaterOrEqual": lambda s, a, b: a >= b, "GroupNormalization": _group_norm, "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(F.hardswish), "Identity": _unary(lambda x: x), "InstanceNormalization": _instance_norm,
    "IsInf": _is_inf, "IsNaN": _unary(fn.isnan), "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda s, x: F.leaky_relu(x, s.get("alpha", 0.01)), "Less": lambda s, a, b: a < b, "LessOrEqual": lambda s, a, b: a <= b,
    "Log": _unary(fn.log), "LogSoftmax": lambda s, x: F.log_softmax(x, s.get("axis", -1)), "MatMul": lambda s, a, b: a @ b,
    "Max": _folded(fn.maximum), "Mean": lambda s, *xs: _folded(fn.add)(s, *xs) / len(xs), "Min": _folded(fn.minimum),
    "Mish": _unary(F.mish), "Mod": _mod, "Mul": lambda s, a, b: a * b, "Neg": _unary(fn.neg), "Not": lambda s, a: ~a,
    "Or": lambda s, a, b: a | b, "PRelu": _prelu, "Pad": _pad, "Pow": _pow,
    "RMSNormalization": _rms_norm, "Range": _range, "Reciprocal": _unary(fn.reciprocal),
    "ReduceL1": _reduction(lambda x, d, k: x.abs().sum(d, keepdim=k)),
    "ReduceL2": _reduction(lambda x, d, k: (x * x).sum(d, keepdim=k).sqrt()),
    "ReduceLogSumExp": _reduction(lambda x, d, k: x.logsumexp(d, keepdim=k)), "ReduceMax": _reduction(lambda x, d, k: x.amax(d, keepdim=k)),
    "ReduceMean": _reduction(_mean), "ReduceMin": _reduction(lambda x, d, k: x.amin(d, keepdim=k)),
    "ReduceProd": _reduction(_prod), "ReduceSum": _reduction(lambda x, d, k: x.sum(d, keepdim=k)),
    "ReduceSumSquare": _reduction(lambda x, d, k: (x * x).sum(d, keepdim=k)), "Relu": _unary(fn.relu), "Reshape": _reshape,
    "Round": _unary(fn.round), "ScatterND": _scatter_nd, "Selu": _selu, "Sigmoid": _unary(fn.sigmoid), "Sign": _unary(fn.sign),
    "Sin": _unary(fn.sin), "Slice": _slice, "Softmax": lambda s, x: F.softmax(x, s.get("axis", -1)), "Softplus": _unary(F.softplus),
    "Softsign": _unary(F.softsign), "Split": _split, "Sqrt": _unary(fn.sqrt), "Squeeze": _squeeze, "Sub": lambda s, a, b: a - b,
    "Sum": _folded(fn.add), "Tanh": _unary(fn.tanh), "Tile": _tile, "Transpose": _transpose, "Unsqueeze": _unsqueeze, "Where": _where,
    "Xor": lambda s, a, b: a ^ b,
}  # fmt: skip

#: Those that do something else in training.
BY_MODE: dict[str, Callable[..., Any]] = {"BatchNormalization": _batch_norm, "Dropout": _dropout}

#: Inputs that are sizes, axes or bounds, by their position: given as arrays.
FIXED: dict[str, Sequence[int]] = {
    "ConstantOfShape": (0,), "CumSum": (1,), "Dropout": (1, 2), "Expand": (1,), "Pad": (1, 2, 3), "Range": (0, 1, 2), "Reshape": (1,),
    "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Tile": (1,), "Unsqueeze": (1,),
    **{f"Reduce{name}": (1,) for name in ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")},
}  # fmt: skip
