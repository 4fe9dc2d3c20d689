"""What may stand beside a tensor in an expression, and the dtype that an expression has."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from chainrule import dtypes, graph
from chainrule.dtypes import DType
from chainrule.errors import DtypeError, kind_of
from chainrule.graph import Op
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Handle, Number, apply, number, rounded, scalar
from chainrule.tensor.creation import tensor
from chainrule.tensor.ranges import check_fits

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

_PYTHON = {float: dtypes.float32, int: dtypes.int64, bool: dtypes.bool_}

# Arithmetic modulo 2 to the power of the bits: a number that wraps around gives the integers that the number itself gives.
# (A power is modular in its base; `Tensor.pow` sees to the exponent.)
_MODULAR = frozenset({"add", "sub", "mul", "pow", "bitwise_and", "bitwise_or", "bitwise_xor"})


def python_dtype(value: Number) -> DType:
    """What a number makes of integers beside it; NumPy's own float64 is one of Python's floats."""
    return _PYTHON.get(type(value)) or next(dtype for kind, dtype in _PYTHON.items() if isinstance(value, kind))


def as_operand(value: object, name: str) -> Handle | Number:
    """What may stand beside a tensor in an expression."""
    if isinstance(value, np.generic):  # before float, which NumPy's float64 is too
        result: Number = value.item()
        return result
    if isinstance(value, (Handle, bool, int, float)):
        return value
    if isinstance(value, numbers.Real):  # a fraction
        return number(value, name, "an operand")
    if isinstance(value, np.ndarray):
        return tensor(value)
    raise DtypeError(
        f"{graph.who(name)}: operands must be tensors, numbers or NumPy arrays, got {kind_of(value)}. "
        f"Convert it with cr.tensor(...)."
    )


def common_dtype(operands: Sequence[Handle | Number]) -> DType:
    """PyTorch's result dtype of an expression."""
    dimensioned, zero_dim, scalars = [], [], []
    for operand in operands:
        if not isinstance(operand, Handle):
            scalars.append(python_dtype(operand))
        elif operand._node.shape:
            dimensioned.append(operand._node.dtype)
        else:
            zero_dim.append(operand._node.dtype)
    return dtypes.result_type(dimensioned, zero_dim, scalars)


def as_dtype_tensor(operand: Handle | Number, dtype: DType) -> Handle:
    """The operand as a tensor of `dtype`."""
    if not isinstance(operand, Handle):
        return scalar(operand, dtype)
    return operand if operand.dtype == dtype else apply(ew.cast, operand, dtype=dtype)


def check_written(operand: object, dtype: DType, name: str) -> None:
    """Raise unless an integer that is written out fits the integers that the operation computes with.

    Raises:
        DtypeError: it does not, and would wrap around to another number.
    """
    if isinstance(operand, int) and dtype.is_integer and name not in _MODULAR:
        check_fits(operand, dtype, name)


def as_written(operand: Handle | Number, dtype: DType, name: str) -> Tensor:
    """What is written into a tensor of `dtype`: cast to it if it is a tensor; a number must fit where that holds integers.

    Raises:
        DtypeError: the number does not fit.
    """
    if not dtype.is_floating_point and not isinstance(operand, Handle):
        check_fits(operand, dtype, name)
    return as_dtype_tensor(operand, dtype)._tensor


def elementwise(op: Op, a: object, b: object) -> Tensor:
    """An elementwise primitive on anything that promotes to one dtype."""
    if isinstance(a, Handle) and isinstance(b, Handle) and a._node.dtype is b._node.dtype:
        return apply(op, a, b)
    if isinstance(a, Handle) and type(b) in _PYTHON and _PYTHON[type(b)].category <= a._node.dtype.category:
        dtype = a._node.dtype
        if dtype.only_stores and op.exact_number:
            dtype = dtypes.float32
        if dtype.is_floating_point:
            return apply(op, a, scalar(b, dtype))  # type: ignore[arg-type]
        if not op.float_only:  # else the number need not fit the integers
            check_written(b, dtype, op.name)
            return apply(op, a, scalar(b, dtype))  # type: ignore[arg-type]
    elif isinstance(b, Handle) and type(a) in _PYTHON and _PYTHON[type(a)].category <= b._node.dtype.category:
        dtype = b._node.dtype
        if dtype.is_floating_point and not dtype.only_stores:
            return apply(op, scalar(a, dtype), b)  # type: ignore[arg-type]
    values = (as_operand(a, op.name), as_operand(b, op.name))
    dtype = common_dtype(values)
    if op.float_only and not dtype.is_floating_point:
        dtype = dtypes.float32
    if dtype.only_stores and op.exact_number and not getattr(values[1], "shape", None):
        first = as_dtype_tensor(as_dtype_tensor(values[0], dtype), dtypes.float32)
        return rounded(apply(op, first, as_dtype_tensor(values[1], dtypes.float32)))
    for value in values:
        check_written(value, dtype, op.name)
    return apply(op, as_dtype_tensor(values[0], dtype), as_dtype_tensor(values[1], dtype))
