"""What Python's containers, buffers and the like hold, as it is compared at every call."""

from __future__ import annotations

import os
import weakref
from collections import ChainMap, UserDict, UserList, UserString, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

ITEMS = 64  # of a list, tuple or dict that are looked at one by one
ELEMENTS = 4096  # of an array that is compared at every call, and of a longer list, of which nothing else is looked at

COMPARED = (list, dict, set, deque)  # compared at every call, and put back where the function changed them
BEHIND: dict[type, str] = {  # containers that keep what they hold in another one
    ChainMap: "maps", UserDict: "data", UserList: "data", UserString: "data",
    weakref.WeakValueDictionary: "data", weakref.WeakKeyDictionary: "data", weakref.WeakSet: "data",
}  # fmt: skip
VIEWS = tuple(type(getattr(kind(), part)()) for kind in (dict,) for part in ("keys", "values", "items"))


def items_of(value: Any) -> list[Any]:
    """What a container holds, in order."""
    if isinstance(value, (dict, MappingProxyType)):
        return [*value, *value.values()]
    return [*value.flat] if isinstance(value, np.ndarray) else [*value]


def inside(value: Any) -> list[Any]:
    """What may be changed in turn: the items of a container, the values of a mapping."""
    return [*value.values()] if isinstance(value, Mapping) else items_of(value)


def behind(value: Any) -> Any:
    """The container in which another one keeps what it holds; None where there is none."""
    for kind, name in BEHIND.items():
        if isinstance(value, kind):
            return getattr(value, name, None)
    return value.mapping if isinstance(value, VIEWS) else None


def bytes_in(value: Any) -> int:
    """How many bytes lie in an array of the standard library, a bytearray and the like; -1 where there is no buffer."""
    try:
        return memoryview(value).nbytes
    except (TypeError, ValueError, BufferError):
        return -1


def look(value: Any) -> tuple[Any, ...]:
    """What an array is now."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, value.tobytes()
    return (memoryview(value).tobytes(),)


def environment() -> Any:
    """The variables of the process as they are kept, without making text of each."""
    return getattr(os.environ, "_data", os.environ)


class Equal:
    """Does a long container hold what it held? By equality, which for the same objects takes 2 ns each; beyond `ELEMENTS` its length."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.held = items_of(value) if len(value) <= ELEMENTS else len(value)

    def __call__(self) -> bool:
        now = items_of(self.value) if isinstance(self.held, list) else len(self.value)
        try:
            return bool(now == self.held)
        except Exception:  # of what is compared there
            return False
