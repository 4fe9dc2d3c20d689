"""Copies of memory that native code moves on, made by native code: at each of many moments, or to go back to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chainrule.compiler.runtime.buffers import address, aligned
from chainrule.errors import SettingError
from chainrule.graph import Array
from chainrule.tensor.memory import lines

PIECES = 2  # links before the first piece (`entry._COPY`)


class Copies:
    """Room for some copies of pieces of memory, one behind the other.

    Args:
        copying: the address of a program's `copy`, and a way to call it.
        pieces: where each lies, and of how many bytes it is.
        most: for so many copies there is room.
        memory: of others, which are of no use any more; what a process has written to is there at once.

    Attributes:
        memory: where they are.
    """

    def __init__(
        self, copying: tuple[int, Callable[[int], int]], pieces: Sequence[tuple[int, int]], most: int,
        memory: Array | None = None,
    ) -> None:  # fmt: skip
        self._function, self._call = copying
        self._most = most
        sizes = np.array([size for _, size in pieces], np.int64)
        self._starts = np.concatenate([[0], np.cumsum([lines(int(size)) for size in sizes])]).astype(np.int64)
        self.bytes = int(self._starts[-1])  # of one copy
        enough = memory is not None and memory.nbytes >= most * self.bytes
        self.memory = memory if memory is not None and enough else aligned(most * self.bytes)
        self._first = address(self.memory) + self._starts[:-1]
        self._there = _frame([where for where, _ in pieces], self._first, sizes, self.bytes)
        self._back = _frame(self._first, [where for where, _ in pieces], sizes, 0)

    def again(self, count: int) -> None:
        """So many come, of which the next is the first.

        Raises:
            SettingError: there is no room for them.
        """
        if count > self._most:
            raise SettingError(f"copies: there is room for {self._most}, got {count}. Take fewer turns at once.")
        self._there[PIECES:, 1] = self._first

    @property
    def link(self) -> tuple[int, int]:
        """What a chain needs to make one."""
        return self._function, address(self._there)

    def make(self) -> None:
        """The first, now."""
        self.again(1)
        self._call(address(self._there))

    def restore(self) -> None:
        """The memory itself as it was at the first."""
        self._call(address(self._back))

    def pieces(self, copy: int, like: Sequence[Array]) -> list[Array]:
        """What a copy holds, as arrays of the shapes and dtypes of others, in memory of their own."""
        held = self.memory[copy * self.bytes : (copy + 1) * self.bytes].copy()
        starts = self._starts.tolist()
        return [np.ndarray(array.shape, array.dtype, held, start) for start, array in zip(starts, like, strict=False)]


def _frame(source: Sequence[int] | Array, target: Sequence[int] | Array, sizes: Array, stride: int) -> Array:
    frame = np.zeros((PIECES + len(sizes), 4), np.int64)
    frame[0, 0], frame[PIECES:, 0], frame[PIECES:, 1], frame[PIECES:, 2] = len(sizes), source, target, sizes
    frame[PIECES:, 3] = stride
    return frame
