"""Numbers that are written out, and the dtypes that hold them."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.dtypes import DType
from chainrule.errors import DtypeError
from chainrule.graph import Array
from chainrule.tensor.core import Number

EVERYWHERE = 127  # numbers up to it are held by every dtype


def check_fits(value: Any, dtype: DType, name: str) -> None:
    """Raise unless a number can be held by a dtype, as where PyTorch converts one that is written out.

    Unsigned integers take an integer that is negative around the end, as there.

    Args:
        value: a number, or an array of some.

    Raises:
        DtypeError: it is beyond the dtype's range, or no number where the dtype holds integers.
    """
    is_int = type(value) is int
    low = -EVERYWHERE if is_int or dtype is not dtypes.uint8 else 0
    if (is_int or type(value) is float) and low <= value <= EVERYWHERE:
        return
    wrong = _not_held(value, dtype)
    if wrong is not None:
        raise DtypeError(
            f"{graph.who(name)}: the number {wrong} does not fit {dtype.name}. Use another dtype, or bring it into the range."
        )


def check_span(low: int, high: int, dtype: DType, name: str) -> None:
    """Raise unless integers can hold each number of [low, high), from which some are drawn.

    Raises:
        DtypeError: the first or the last is beyond the dtype's range.
    """
    if not dtype.is_integer:
        return
    least, most = _ends(dtype)
    if low < least or high - 1 > most:
        raise DtypeError(
            f"{graph.who(name)}: the numbers drawn must fit {dtype.name}, got those from {low} to {high - 1}. Use another dtype, or "
            f"narrow the range."
        )


def _not_held(value: Any, dtype: DType) -> Number | None:
    """The first number that is out of the dtype's range; infinity and NaN are floats, but no integers."""
    if not dtype.is_integer:
        return _beyond(np.asarray(value), dtypes.limits(dtype).max) if dtype.is_floating_point else None
    least, most = _ends(dtype)
    if type(value) is int:
        return None if min(least, -most) <= value <= most else value
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        return _first(array, ~((array >= min(least, -most)) & (array <= most)))
    if array.dtype.kind != "f":
        return None
    # Twice the upper end: that of int64 is rounded up to 2 ** 63, which is too much.
    with np.errstate(invalid="ignore"):
        return _first(array, ~((array >= least) & (array <= most) & (array < most + 1)))


@cache
def _ends(dtype: DType) -> tuple[int, int]:
    return int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max)


def _beyond(array: Array, most: float) -> Number | None:
    if array.dtype.kind not in "iuf":
        return None
    with np.errstate(invalid="ignore"):
        return _first(array, np.isfinite(array) & (np.abs(array) > most))


def _first(array: Array, wrong: Array) -> Number | None:
    found: Number | None = array[wrong].flat[0].item() if wrong.any() else None
    return found
