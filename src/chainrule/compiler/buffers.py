"""Arrays as native code sees them: addresses of elements in row-major order."""

from __future__ import annotations

import math
from ctypes import addressof, c_char
from typing import Any

import numpy as np

from chainrule.graph import Array


def contiguous(array: Array) -> Array:
    """The array in row-major order, itself if it is so already (NumPy's own function adds an axis to numbers)."""
    return array if array.flags.c_contiguous else array.copy(order="C")


def address(array: Array) -> int:
    """Where an array's elements lie."""
    try:
        return addressof(c_char.from_buffer(array.data))  # six times faster than NumPy's own ways, which build objects
    except (TypeError, ValueError):  # read-only, or empty
        pointer: int = array.__array_interface__["data"][0]
        return pointer


LINE = 64  # bytes of a cache line: a vector that crosses into the next is read and written at half the speed


def aligned(size: int) -> Array:
    """Working memory that starts on a cache line."""
    raw = np.empty(size + LINE, np.uint8)
    start = -address(raw) % LINE
    return raw[start : start + max(size, 1)]


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array that starts on a cache line, if it is large enough to matter."""
    size = math.prod(shape) * dtype.itemsize
    return np.empty(shape, dtype) if size < LINE else aligned(size)[:size].view(dtype).reshape(shape)


def lies_well(array: Array) -> bool:
    """Does it start where `empty` would have it?"""
    return array.nbytes < LINE or address(array) % LINE == 0
