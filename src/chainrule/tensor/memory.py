"""Arrays that start on a cache line, where vectors read and write them fastest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.graph import Array

LINE = 64  # bytes of a cache line: a vector that crosses into the next is read and written at half the speed


def aligned(size: int) -> Array:
    """Working memory that starts on a cache line."""
    raw = np.empty(size + LINE, np.uint8)
    start = -raw.__array_interface__["data"][0] % LINE
    return raw[start : start + max(size, 1)]


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array that starts on a cache line, if it is large enough to matter."""
    size = math.prod(shape) * dtype.itemsize
    return np.empty(shape, dtype) if size < LINE else aligned(size)[:size].view(dtype).reshape(shape)


def copied(array: Array, dtype: np.dtype[Any]) -> Array:
    """A copy in row-major order."""
    copy = empty(array.shape, dtype)
    copy[...] = array
    return copy
