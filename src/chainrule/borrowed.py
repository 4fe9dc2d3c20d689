"""Memory that belongs to somebody else: arrays that a tensor reads where they lie.

Every other value is immutable, so handles may share it freely. What `lend` gives may change under our hands: its
owner writes to it. Views of it look on, as PyTorch's do; whatever keeps a value of its own (a clone, a tensor that
was written to) takes a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class _Owner:
    """At the root of a lent array and of all its views; keeps the owner's array alive."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


def lend(array: Array) -> Array:
    """The same memory, marked as somebody else's."""
    return np.asarray(_Owner(array))


def borrowed(value: Array) -> bool:
    """Is it, or does it view, memory that somebody else may write to?"""
    base = value.base
    while base is not None and isinstance(base, np.ndarray):
        base = base.base
    return base is not None and isinstance(base, _Owner)


def own(value: Array) -> Array:
    """The value in memory that only we have: itself, or a copy."""
    return value.copy() if borrowed(value) else value
