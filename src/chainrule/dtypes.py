"""The six dtypes and PyTorch's promotion rules between them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from chainrule.errors import DtypeError

_BOOL, _INTEGER, _FLOATING = range(3)


class DType:
    """One element type: its PyTorch name, its NumPy dtype and its category."""

    __slots__ = ("category", "is_floating_point", "is_integer", "itemsize", "name", "numpy", "short")

    def __init__(self, name: str, short: str, category: int) -> None:
        self.name, self.short, self.category = name, short, category
        self.numpy = np.dtype(name)
        self.itemsize = self.numpy.itemsize
        self.is_floating_point = category == _FLOATING
        self.is_integer = category == _INTEGER

    def __repr__(self) -> str:
        return f"chainrule.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:  # a dtype is one of six objects, also after copying
        return (as_dtype, (self.name,))


bool_ = DType("bool", "bool", _BOOL)
uint8 = DType("uint8", "u8", _INTEGER)
int32 = DType("int32", "i32", _INTEGER)
int64 = DType("int64", "i64", _INTEGER)
float32 = DType("float32", "f32", _FLOATING)
float64 = DType("float64", "f64", _FLOATING)

ALL = (bool_, uint8, int32, int64, float32, float64)
_RANK = {dtype: rank for rank, dtype in enumerate(ALL)}
_BY_NUMPY = {dtype.numpy: dtype for dtype in ALL}
_BY_PYTHON: dict[object, DType] = {bool: bool_, int: int64, float: float32}
# NumPy dtypes that are not ours but hold values ours can: where an array comes in, it becomes this.
_WIDENED = {"int8": int32, "int16": int32, "uint16": int32, "uint32": int64, "float16": float32}


def as_dtype(spec: object) -> DType:
    """The dtype a user names: ours, a NumPy dtype, a name, or Python's float, int, bool."""
    if isinstance(spec, DType):
        return spec
    if spec in _BY_PYTHON:
        return _BY_PYTHON[spec]
    try:
        found = np.dtype(spec)  # type: ignore[call-overload]
    except TypeError:
        found = None
    if found is not None:
        found = found.newbyteorder("=")
    if found in _BY_NUMPY:
        return _BY_NUMPY[found]
    if found is not None and found.name in _WIDENED:
        return _WIDENED[found.name]
    known = ", ".join(dtype.name for dtype in ALL)
    raise DtypeError(f"unknown dtype {spec!r}. chainrule has {known}: convert the data to one of them.")


def promote(dtypes: Iterable[DType]) -> DType:
    """The smallest dtype that holds all of `dtypes` (``uint8`` with ``int32`` is ``int32``)."""
    return max(dtypes, key=_RANK.__getitem__)


def result_type(dimensioned: list[DType], zero_dim: list[DType], scalars: list[DType]) -> DType:
    """PyTorch's promotion: a lower-priority operand only counts if its category is higher.

    Priorities: tensors with dimensions, then zero-dimensional tensors, then Python numbers.
    """
    result: DType | None = None
    for group in (dimensioned, zero_dim, scalars):
        if group:
            candidate = promote(group)
            if result is None or candidate.category > result.category:
                result = candidate
    if result is None:
        raise ValueError("result_type needs at least one dtype")
    return result
