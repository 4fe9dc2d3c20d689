"""The seven dtypes and PyTorch's promotion rules between them.

bfloat16 is the upper half of a float32. It only stores numbers: its arrays lie as words that NumPy has no arithmetic for
(two bytes of no meaning), so that nobody can take the words for the numbers. What computes with them does so in float32,
see `graph.Op.moves` and `tensor.rounding`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import DtypeError

Array = np.ndarray[Any, Any]

_BOOL, _INTEGER, _FLOATING = range(3)


class DType:
    """One element type: its PyTorch name, its NumPy dtype and its category."""

    __slots__ = ("category", "is_floating_point", "is_integer", "itemsize", "name", "numpy", "only_stores", "short")

    def __init__(self, name: str, short: str, category: int, stored: str = "") -> None:
        self.name, self.short, self.category = name, short, category
        self.numpy = np.dtype(stored or name)
        self.only_stores = bool(stored)  # numbers of it are computed with in float32
        self.itemsize = self.numpy.itemsize
        self.is_floating_point = category == _FLOATING
        self.is_integer = category == _INTEGER

    def __repr__(self) -> str:
        return f"chainrule.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:  # a dtype is one of seven objects, also after copying
        return (as_dtype, (self.name,))


bool_ = DType("bool", "bool", _BOOL)
uint8 = DType("uint8", "u8", _INTEGER)
int32 = DType("int32", "i32", _INTEGER)
int64 = DType("int64", "i64", _INTEGER)
bfloat16 = DType("bfloat16", "bf16", _FLOATING, stored="V2")
float32 = DType("float32", "f32", _FLOATING)
float64 = DType("float64", "f64", _FLOATING)

ALL = (bool_, uint8, int32, int64, bfloat16, float32, float64)
# PyTorch's older names, by which a tensor's dtype is its type.
TYPES = {
    "BoolTensor": bool_,
    "ByteTensor": uint8,
    "IntTensor": int32,
    "LongTensor": int64,
    "BFloat16Tensor": bfloat16,
    "FloatTensor": float32,
    "DoubleTensor": float64,
}
_RANK = {dtype: rank for rank, dtype in enumerate(ALL)}
_BY_NUMPY = {dtype.numpy: dtype for dtype in ALL if not dtype.only_stores}
_BY_PYTHON: dict[object, DType] = {bool: bool_, int: int64, float: float32}
# NumPy dtypes that are not ours but hold values ours can: where an array comes in, it becomes this.
_WIDENED = {"int8": int32, "int16": int32, "uint16": int32, "uint32": int64, "float16": float32}


def same(dtype: np.dtype[Any]) -> DType | None:
    """Ours for a NumPy dtype whose arrays can stand as they are; None for one that is converted, or none of ours."""
    return _BY_NUMPY.get(dtype)


def as_dtype(spec: object) -> DType:
    """The dtype a user names: ours, a NumPy dtype, a name, or Python's float, int, bool."""
    if isinstance(spec, DType):
        return spec
    if spec in _BY_PYTHON:
        return _BY_PYTHON[spec]
    if is_bfloat16(spec):
        return bfloat16
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


def is_widened(spec: object) -> bool:
    """Is it a dtype that data may come in and nothing is computed in (``"float16"``), so that `as_dtype` gives a larger one?"""
    if isinstance(spec, DType):
        return False
    try:
        return np.dtype(spec).name in _WIDENED  # type: ignore[call-overload]
    except TypeError:
        return False


def type_name(dtype: DType) -> str:
    """What PyTorch's ``x.type()`` says: ``"torch.FloatTensor"``."""
    return next(f"torch.{name}" for name, known in TYPES.items() if known is dtype)


def typed(spec: object) -> DType:
    """The dtype that an older name stands for, or a class of that name, or what `as_dtype` takes.

    Raises:
        DtypeError: it stands for none that is here.
    """
    name = spec if isinstance(spec, str) else getattr(spec, "__name__", "")
    return TYPES.get(name.rpartition("torch.")[2]) or as_dtype(spec)


def is_bfloat16(spec: object) -> bool:
    """Is it a name of bfloat16, or the dtype that the package ml_dtypes gives NumPy for it?"""
    if isinstance(spec, np.dtype):  # the name of one takes longer than what is mostly done with it
        return spec.kind not in "biufc" and spec.name == "bfloat16"
    return isinstance(spec, str) and spec == "bfloat16"


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


# -- bfloat16 and its words ---------------------------------------------------------------------------


def widened(words: Array) -> Array:
    """The numbers of an array of bfloat16, as float32: their bits are the upper half."""
    bits: Array = np.asarray(words.view(np.uint16).astype(np.uint32) << np.uint32(16))
    return bits.view(np.float32)


def narrowed(numbers: Array) -> Array:
    """Numbers as an array of bfloat16, each rounded to the nearest, of two equally near to the even one. NaN stays NaN."""
    with np.errstate(all="ignore"):
        bits = np.asarray(numbers, np.float32).view(np.uint32)
    half = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
    quiet = bits | np.uint32(0x400000)  # else what is kept of a NaN's bits might be infinity
    kept = np.where((bits & np.uint32(0x7FFFFFFF)) > 0x7F800000, quiet, bits + half)
    return np.asarray((kept >> np.uint32(16)).astype(np.uint16)).view(bfloat16.numpy)


def numbers_of(array: Array) -> Array:
    """The numbers that an array of one of our dtypes holds."""
    return widened(array) if array.dtype == bfloat16.numpy else array


def as_stored(numbers: Any, dtype: DType) -> Array:
    """Numbers as an array of a dtype, as it lies in memory."""
    if dtype.only_stores:
        return narrowed(np.asarray(numbers))
    return np.asarray(numbers, dtype.numpy)


def computed(dtype: DType) -> DType:
    """What numbers of a dtype are computed in: float32 where it only stores them."""
    return float32 if dtype.only_stores else dtype


class Limits(NamedTuple):
    """The largest number of a floating dtype, the step from 1 to the next, and the smallest number of full precision."""

    max: float
    eps: float
    tiny: float


def whole_numbers(dtype: DType) -> int:
    """How far a dtype counts from 0 without leaving out a number, as far as 53 random bits reach."""
    if dtype is bool_:
        return 2
    if dtype.is_integer:
        return min(int(np.iinfo(dtype.numpy).max) + 1, 2**53)
    return {bfloat16: 2**8, float32: 2**24, float64: 2**53}[dtype] + 1


def limits(dtype: DType) -> Limits:
    """What a floating dtype can tell apart, and how far it reaches."""
    if dtype.only_stores:
        return Limits((2 - 2.0**-7) * 2.0**127, 2.0**-7, 2.0**-126)
    info = np.finfo(dtype.numpy)
    return Limits(float(info.max), float(info.eps), float(info.tiny))
