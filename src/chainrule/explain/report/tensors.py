"""Arrays for the page: packed one behind the other, compressed, written as text.

An array is described by ``{"at": offset, "shape": [...], "type": ...}`` and its bytes are little-endian and
split into planes (all first bytes, then all second ones, ...), which compresses better. ``f32``, ``f64``, ``i32``
and ``u8`` are exact; ``q8`` is a picture only: 255 steps from ``lo`` to ``hi``, and the page never prints its numbers.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

from chainrule.graph import Array

Reference = dict[str, Any]
_EXACT = {"float32": "f32", "float64": "f64", "int32": "i32", "uint8": "u8", "bool": "u8"}


class Tensors:
    """Collects the arrays of one document."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def exact(self, array: Array) -> Reference:
        """The array bit for bit (64-bit integers as 32-bit ones)."""
        if array.dtype == np.int64:
            array = array.astype(np.int32)
        return self._add(array, _EXACT[array.dtype.name])

    def picture(self, array: Array) -> Reference:
        """The array as a picture of 256 shades; what is not finite takes the nearest end (NaN the lower one)."""
        finite = array[np.isfinite(array)]
        lo, hi = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        span = (hi - lo) or 1.0
        clean = np.nan_to_num(array, nan=lo, posinf=hi, neginf=lo)
        shades = np.round((clean.astype(np.float64) - lo) / span * 255).astype(np.uint8)
        return {**self._add(shades, "q8"), "lo": lo, "hi": hi}

    def _add(self, array: Array, type: str) -> Reference:
        raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        planes = raw.reshape(-1).view(np.uint8).reshape(-1, raw.dtype.itemsize).T.tobytes()
        reference = {"at": self._size, "shape": list(array.shape), "type": type}
        self._parts.append(planes)
        self._size += len(planes)
        return reference

    def bytes(self) -> bytes:
        """Everything collected so far."""
        return b"".join(self._parts)


def packed(data: bytes) -> str:
    """Compressed (zlib) and written in base64."""
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")
