"""What was made last, by what it was made from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The `most` values that were asked for last, by their keys.

    Threads may ask at once: each line below leaves it in order, and what two of them miss both make.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._found: OrderedDict[Hashable, T] = OrderedDict()

    def find(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of this key, made now if it is not among the latest."""
        found = self._found.pop(key, None)
        if found is None:
            found = make()
        self._found[key] = found
        while len(self._found) > self.most:
            self._found.popitem(last=False)
        return found

    def clear(self) -> None:
        """Forget all."""
        self._found.clear()
