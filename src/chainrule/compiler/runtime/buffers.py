"""Arrays as native code sees them: addresses of elements in row-major order."""

from __future__ import annotations

from chainrule.graph import Array
from chainrule.tensor.memory import LINE, Room, address, addresses, aligned, empty, placed, room_for

__all__ = ["Room", "address", "addresses", "aligned", "contiguous", "empty", "lies_well", "placed", "room_for"]


def contiguous(array: Array) -> Array:
    """The array in row-major order, itself if it is so already (NumPy's own function adds an axis to numbers)."""
    return array if array.flags.c_contiguous else array.copy(order="C")


def lies_well(array: Array) -> bool:
    """Does it start where `empty` would have it?"""
    return array.nbytes < LINE or address(array) % LINE == 0
