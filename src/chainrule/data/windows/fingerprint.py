"""A short text that stands for data: where it is another, the data is."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
WHOLE = 1 << 26  # bytes of an array or file that are read whole (64 MB: a tenth of a second)
SAMPLES, BLOCK = 256, 1 << 16  # of a larger one, so many blocks of so many bytes


def digest(*parts: Any) -> str:
    """32 hexadecimal digits for texts, numbers, bytes and arrays, in this order."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = (
            _bytes(part) if isinstance(part, np.ndarray) else part if isinstance(part, bytes) else repr(part).encode()
        )
        found.update(len(data).to_bytes(8, "little"))
        found.update(data)
    return found.hexdigest()


def sampled(array: Array) -> list[Any]:
    """An array for `digest`: whole, or 256 stretches of rows of it, the first and the last among them, where it is large."""
    if array.nbytes <= WHOLE:
        return [array.dtype.str, array.shape, array]
    rows = max(1, BLOCK // max(1, array.nbytes // len(array)))
    starts = _spread(len(array), rows)
    return [array.dtype.str, array.shape, *(np.asarray(array[start : start + rows]) for start in starts)]


def sampled_file(path: str) -> list[Any]:
    """A file for `digest`, likewise; its name and age are no part of it."""
    size = os.path.getsize(path)
    starts = range(0, size, BLOCK) if size <= WHOLE else _spread(size, BLOCK)
    found: list[Any] = [size]
    with open(path, "rb") as file:
        for start in starts:
            file.seek(start)
            found.append(file.read(BLOCK))
    return found


def _spread(length: int, block: int) -> list[int]:
    """Where evenly spread blocks start."""
    return sorted(set(np.linspace(0, max(0, length - block), SAMPLES).astype(int).tolist()))


def _bytes(array: Array) -> bytes:
    if array.dtype.hasobject:
        return repr(array.tolist()).encode()
    return np.ascontiguousarray(array).tobytes()
