"""Arrays that start on a cache line, where vectors read and write them fastest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from ctypes import addressof, c_char
from typing import Any

import numpy as np

from chainrule.graph import Array

LINE = 64  # bytes of a cache line: a vector that crosses into the next is read and written at half the speed
SMALL = 4096  # bytes of the largest array that shares its memory with others, which it keeps alive

_type: Any = c_char  # an array is a buffer, which the types of ctypes do not know
_first = _type.from_buffer  # looked up once: addresses are asked for at each call of a compiled function


def address(array: Array) -> int:
    """Where an array's elements lie."""
    try:
        return addressof(_first(array))  # six times faster than NumPy's own ways, which build objects
    except (TypeError, ValueError):  # read-only, or empty
        pointer: int = array.__array_interface__["data"][0]
        return pointer


def addresses(arrays: Sequence[Array]) -> list[int]:
    """Where each array's elements lie; faster than one by one."""
    try:
        return [addressof(_first(array)) for array in arrays]
    except (TypeError, ValueError):
        return [address(array) for array in arrays]


def aligned(size: int) -> Array:
    """Working memory that starts on a cache line."""
    raw = np.empty(size + LINE, np.uint8)
    start = -address(raw) % LINE
    return raw[start : start + max(size, 1)]


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array that starts on a cache line, if it is large enough to matter."""
    return placed(shape, dtype)[0]


def placed(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, int]:
    """Likewise, and where its elements lie."""
    size = math.prod(shape) * dtype.itemsize
    if size < LINE:
        small = np.empty(shape, dtype)
        return small, address(small)
    raw = np.empty(size + LINE, np.uint8)
    where = address(raw)
    start = -where % LINE
    return np.ndarray(shape, dtype, raw, start), where + start


class Room:
    """Memory for small arrays that are made together: one piece for all of them costs a third of a piece for each.

    Args:
        size: as `room_for` the arrays that may be made.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._raw: Array | None = None

    def copy(self, array: Array) -> tuple[Array, int]:
        """A copy in row-major order on a cache line, and where its elements lie."""
        size = array.nbytes
        if self._raw is None:
            self._raw = np.empty(self._size, np.uint8)
            self._where = address(self._raw)
            self._at = -self._where % LINE
        at = self._at
        end = at + lines(size)
        if size > SMALL or end > self._size:
            made, where = placed(array.shape, array.dtype)
        else:
            self._at = end
            made, where = np.ndarray(array.shape, array.dtype, self._raw, at), self._where + at
        made[...] = array
        return made, where


def room_for(sizes: Iterable[int]) -> int:
    """Bytes of the room for arrays of so many bytes; large ones have their own."""
    return LINE + sum(map(lines, filter(SMALL.__ge__, sizes)))


def lines(size: int) -> int:
    """Bytes of the cache lines that so many bytes touch."""
    return -(-size // LINE) * LINE


def copied(array: Array, dtype: np.dtype[Any]) -> Array:
    """A copy in row-major order."""
    copy = empty(array.shape, dtype)
    copy[...] = array
    return copy
