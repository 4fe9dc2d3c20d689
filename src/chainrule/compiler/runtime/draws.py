"""Random bits in one native call: the words of `ops.random`, bit for bit, without NumPy's hundred passes over them.

    run(frame of FRAME) -> 0

A small draw takes 3 microseconds in place of 50, a million words 0.8 ms in place of 26 (a Xeon with AVX-512); and Python's lock
is let go of once, where NumPy does so at each pass: threads that build networks stood in each other's way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.compiler.codegen.entry import fields
from chainrule.compiler.runtime.buffers import address
from chainrule.compiler.runtime.native import Code, cached, compiled
from chainrule.ops.random import threefry

Array = np.ndarray[Any, Any]
FRAME = ("vectors", "low", "high", "word", "drawn")
LANES = 16  # words at a time; LLVM cuts them to what the processor has


def draw(count: int, key: tuple[int, int], word: int) -> Array:
    """The words of positions 0 to `count`, uint32.

    Args:
        key: its two halves.
        word: which of the words that each position has.
    """
    vectors = -(-count // LANES)
    drawn = np.empty(vectors * LANES, np.uint32)
    frame = np.array([vectors, *key, word, address(drawn)], np.uint64)
    code = _code()  # held: where two threads ask first at once, only one of theirs is kept for others
    code.run(address(frame))
    return drawn[:count]


@lru_cache(maxsize=1)
def _code() -> Code:
    text = _text()
    return cached(text, lambda: [compiled(text)])


class _Words:
    """32-bit words, a vector of them, as lines of IR."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _line(self, text: str) -> str:
        name = f"%w.{len(self.lines)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def const(self, value: int) -> str:
        return self.splat(str(value))

    def splat(self, value: str) -> str:
        first = self._line(f"insertelement {_VECTOR} poison, i32 {value}, i64 0")
        return self._line(f"shufflevector {_VECTOR} {first}, {_VECTOR} poison, <{LANES} x i32> zeroinitializer")

    def add(self, a: str, b: str) -> str:
        return self._line(f"add {_VECTOR} {a}, {b}")

    def xor(self, a: str, b: str) -> str:
        return self._line(f"xor {_VECTOR} {a}, {b}")

    def rotate(self, x: str, by: int) -> str:
        return self._line(
            f"call {_VECTOR} @llvm.fshl.v{LANES}i32({_VECTOR} {x}, {_VECTOR} {x}, {_VECTOR} {self.const(by)})"
        )


_VECTOR = f"<{LANES} x i32>"


def _text() -> str:
    words = _Words()
    key, word = (words.splat("%key.low"), words.splat("%key.high")), words.splat("%word.32")
    bits = threefry(words, key, ("%position", word))[0]
    return _RUN % {
        "frame": fields("frame", FRAME, ("drawn",)), "cipher": "\n".join(words.lines), "bits": bits, "vector": _VECTOR,
        "lanes": LANES, "first": ", ".join(f"i32 {i}" for i in range(LANES)),
        "step": ", ".join(f"i32 {LANES}" for _ in range(LANES)),
    }  # fmt: skip


_RUN = """declare %(vector)s @llvm.fshl.v%(lanes)di32(%(vector)s, %(vector)s, %(vector)s)

define i64 @run(ptr %%frame) nounwind {
entry:
%(frame)s
  %%key.low = trunc i64 %%low to i32
  %%key.high = trunc i64 %%high to i32
  %%word.32 = trunc i64 %%word to i32
  br label %%head
head:
  %%i = phi i64 [ 0, %%entry ], [ %%next, %%body ]
  %%position = phi %(vector)s [ <%(first)s>, %%entry ], [ %%following, %%body ]
  %%more = icmp ult i64 %%i, %%vectors
  br i1 %%more, label %%body, label %%done
body:
%(cipher)s
  %%to = getelementptr %(vector)s, ptr %%drawn, i64 %%i
  store %(vector)s %(bits)s, ptr %%to, align 4
  %%following = add %(vector)s %%position, <%(step)s>
  %%next = add i64 %%i, 1
  br label %%head
done:
  ret i64 0
}
"""
