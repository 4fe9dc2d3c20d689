"""Arrays as native code sees them: addresses of elements in row-major order."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof

from chainrule.graph import Array
from chainrule.tensor.memory import LINE, _first, address, aligned, empty

__all__ = ["address", "addresses", "aligned", "contiguous", "empty", "lies_well"]


def contiguous(array: Array) -> Array:
    """The array in row-major order, itself if it is so already (NumPy's own function adds an axis to numbers)."""
    return array if array.flags.c_contiguous else array.copy(order="C")


def addresses(arrays: Sequence[Array]) -> list[int]:
    """Where each array's elements lie; faster than one by one."""
    try:
        return [addressof(_first.from_buffer(array)) for array in arrays]
    except (TypeError, ValueError):
        return [address(array) for array in arrays]


def lies_well(array: Array) -> bool:
    """Does it start where `empty` would have it?"""
    return array.nbytes < LINE or address(array) % LINE == 0
