"""Tensors from data, from a constant, from counting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.dtypes import DType
from chainrule.errors import DtypeError
from chainrule.graph import Array, Shape
from chainrule.ops import random
from chainrule.ops import shaping as shaping_ops
from chainrule.tensor.core import Handle, Number, apply, scalar, wrap

if TYPE_CHECKING:
    from chainrule.tensor import Tensor


def _sizes(shape: tuple[Any, ...]) -> Shape:
    from chainrule.tensor.shaping import sizes

    return sizes(shape)


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor holding a copy of `data`.

    Args:
        data: a number, nested sequences of numbers, a NumPy array, or a tensor.
        dtype: default: of the data; Python floats become float32, Python ints int64.
        requires_grad: record operations on it, so that backward fills its ``grad``.

    Raises:
        DtypeError: the data are not numbers (text, objects, ragged lists).

    >>> import chainrule as cr
    >>> cr.tensor([[1, 2], [3, 4.5]])
    tensor([[1.0000, 2.0000],
            [3.0000, 4.5000]])
    """
    array, wanted = _as_array(data, dtype)
    if not array.flags.owndata or array is data or array.flags.writeable:
        array = np.array(array, wanted.numpy, order="C")
    result = wrap(graph.leaf(array, wanted))
    return result.requires_grad_() if requires_grad else result


def _as_array(data: Any, dtype: Any) -> tuple[Array, DType]:
    if isinstance(data, Handle):
        data = data._node.value
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise DtypeError(f"tensor: nested sequences must have equal lengths ({error}). Pad them first.") from error
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"tensor: the data must be numbers, got {array.dtype} from {type(data).__name__}. "
            f"Convert text or objects to numbers first."
        )
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype)
    elif isinstance(data, (np.ndarray, np.generic)) or array.dtype.kind == "b":
        wanted = dtypes.as_dtype(array.dtype)
    else:
        wanted = dtypes.float32 if array.dtype.kind == "f" else dtypes.int64
    return array.astype(wanted.numpy, order="C", copy=False), wanted


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """`data` itself where it is a tensor of that dtype, else a new tensor with a copy."""
    if isinstance(data, Handle):
        return data if dtype is None else data.to(dtype)  # type: ignore[return-value, attr-defined]
    return tensor(data, dtype)


def from_numpy(array: Array) -> Tensor:
    """A tensor with the array's values and dtype (a copy; PyTorch's would share memory)."""
    return tensor(np.asarray(array))


def full(*shape: Any, fill_value: Number | None = None, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of one number: ``full((2, 3), 7.0)``."""
    if fill_value is None:
        *shape_given, fill_value = shape
        shape = tuple(shape_given)
    wanted = dtypes.as_dtype(dtype if dtype is not None else type(fill_value))
    size = _sizes(shape)
    if graph.tracing():
        number = scalar(fill_value, wanted)
        result = apply(shaping_ops.expand, number, shape=size) if size else number
    else:
        result = wrap(graph.leaf(np.full(size, fill_value, wanted.numpy), wanted))
    return result.requires_grad_() if requires_grad else result


def zeros(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros, float32 unless said otherwise."""
    return full(*shape, fill_value=0.0, dtype=dtype, requires_grad=requires_grad)


def ones(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones, float32 unless said otherwise."""
    return full(*shape, fill_value=1.0, dtype=dtype, requires_grad=requires_grad)


def empty(*shape: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros (PyTorch leaves it undefined; here every run gives the same bits)."""
    return zeros(*shape, dtype=dtype, requires_grad=requires_grad)


def full_like(x: Tensor, fill_value: Number, dtype: Any = None) -> Tensor:
    return full(x.shape, fill_value=fill_value, dtype=dtype or x.dtype)


def zeros_like(x: Tensor, dtype: Any = None) -> Tensor:
    return full_like(x, 0.0, dtype)


def ones_like(x: Tensor, dtype: Any = None) -> Tensor:
    return full_like(x, 1.0, dtype)


def empty_like(x: Tensor, dtype: Any = None) -> Tensor:
    return zeros_like(x, dtype)


def arange(start: Number, end: Number | None = None, step: Number = 1, dtype: Any = None) -> Tensor:
    """``start, start + step, ...`` up to but without `end`."""
    if end is None:
        start, end = 0, start
    floating = any(isinstance(value, float) for value in (start, end, step))
    wanted = dtypes.as_dtype(dtype if dtype is not None else float if floating else int)
    size = max(0, math.ceil((end - start) / step))
    if not graph.tracing():
        return wrap(graph.leaf((start + np.arange(size) * step).astype(wanted.numpy), wanted))
    count = apply(random.iota, size=size, dtype=wanted)
    scaled = count if step == 1 else count * step
    return scaled if start == 0 else scaled + start


def linspace(start: float, end: float, steps: int, dtype: Any = None) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included."""
    return tensor(np.linspace(start, end, steps), dtype or dtypes.float32)


def eye(n: int, m: int | None = None, dtype: Any = None) -> Tensor:
    """The identity matrix, or its n x m corner."""
    return (arange(n).unsqueeze(1) == arange(m or n)).to(dtype or dtypes.float32)


