"""Counter-based randomness and counting: each element is a function of its position alone.

Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3",
SC 2011). The key is (seed, step of the generator), the counter (element, word): any thread may compute
any element, in any order, and the bits are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.graph import Node, Op, Shape, Type

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
# Of each rotation, the two shifts; as arrays, which NumPy takes in half the time that its scalars take.
_SHIFTS = {by: (np.array(by, np.uint32), np.array(32 - by, np.uint32)) for four in ROTATIONS for by in four}
_BLOCK = 16384  # words at a time: a hundred operations on each, with no large array in between


def threefry(words: Any, key: tuple[Any, Any], counter: tuple[Any, Any], rounds: int = 20) -> tuple[Any, Any]:
    """The cipher, over anything that has ``add``, ``xor``, ``rotate`` and ``const`` on 32-bit words.

    The NumPy reference and the native lowering both run this one description.
    """
    keys = (key[0], key[1], words.xor(words.xor(key[0], key[1]), words.const(PARITY)))
    x, y = words.add(counter[0], keys[0]), words.add(counter[1], keys[1])
    for block in range(rounds // 4):
        for rotation in ROTATIONS[block % 2]:
            x = words.add(x, y)
            y = words.xor(words.rotate(y, rotation), x)
        x = words.add(x, keys[(block + 1) % 3])
        y = words.add(words.add(y, keys[(block + 2) % 3]), words.const(block + 1))
    return x, y


class NumpyWords:
    """32-bit words as NumPy has them."""

    const = staticmethod(np.uint32)
    add = staticmethod(np.add)
    xor = staticmethod(np.bitwise_xor)

    @staticmethod
    def rotate(x: Any, by: int) -> Any:
        left, right = _SHIFTS[by]
        return np.bitwise_or(np.left_shift(x, left), np.right_shift(x, right))


def _infer_bits(state: Node, *, shape: Shape, word: int) -> Type:
    return Type(shape, dtypes.int32)


Key = tuple[int, int]


def by_numpy(count: int, key: Key, word: int) -> Any:
    """The words of positions 0 to `count`, uint32."""
    halves = np.uint32(key[0]), np.uint32(key[1])
    drawn = np.empty(count, np.uint32)
    for first in range(0, count, _BLOCK):
        part = drawn[first : first + _BLOCK]
        position = np.arange(first, first + part.size, dtype=np.uint64).astype(np.uint32)
        part[...] = threefry(NumpyWords, halves, (position, np.full(part.size, word, np.uint32)))[0]
    return drawn


class _Drawn:
    """Who draws: NumPy, and once that has taken as long as `MANY` words take it, native code with the same bits, where there is some."""

    def __init__(self) -> None:
        self.by_numpy = 0  # so many words, and what each draw costs beside them
        self.native: Callable[[int, Key, int], Any] | None = None

    def __call__(self, count: int, key: Key, word: int) -> Any:
        if self.native is not None and self.by_numpy + count > MANY:
            try:
                return self.native(count, key, word)
            except Exception:  # LLVM cannot be had, or has no memory
                self.native = None
        self.by_numpy += count + EACH
        return by_numpy(count, key, word)


EACH = 2500  # words that NumPy draws in the 50 microseconds that it takes for the least number of them, on a Xeon
MANY = 1 << 17  # words that NumPy draws in 3 ms on a Xeon, as long as it takes to have the code from disk
draw = _Drawn()  # `compiler.runtime.draws`, which lies above, puts its code there


def _bits(state: Any, shape: Shape, word: int) -> Any:
    seed, step = map(int, state.astype(np.int64).view(np.uint64))
    # The seed's upper half joins the step's word, so that all 64 bits of a seed count.
    key = seed & 0xFFFFFFFF, (step ^ (seed >> 32)) & 0xFFFFFFFF
    return draw(math.prod(shape), key, word).view(np.int32).reshape(shape)


# 32 random bits for every element; `state` is int64 [seed, step].
random_bits = Op("random_bits", "elementwise_source", _infer_bits, _bits, vjp=(None,), cost=40)

# 0, 1, ..., size - 1.
iota = Op(
    "iota", "elementwise_source",
    infer=lambda *, size, dtype: Type((size,), dtype),
    numpy=lambda size, dtype: np.arange(size, dtype=dtype.numpy),
    vjp=(),
)  # fmt: skip

OPS = [random_bits, iota]
