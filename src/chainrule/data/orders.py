"""The orders of many epochs in one native call, without Python in between.

    run(frame of FRAME) -> 0

Each order is that of `batches.shuffled_indices`: places, sorted by the words that Philox-4x64 gives them. The words
are spread over bins by their highest bits, each bin in order, and an insertion sort ends it: a word has few others before it
that are greater, for it has few in its bin. One or two bins a row, while they stay in the cache; of many rows, half as many.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from chainrule.compiler.codegen.entry import fields
from chainrule.compiler.runtime.buffers import address
from chainrule.compiler.runtime.native import Code, cached, compiled
from chainrule.data.batches import shuffled_indices
from chainrule.data.checks import counter
from chainrule.errors import DataError

Array = np.ndarray[Any, Any]
FRAME = ("n", "seed", "epoch", "count", "orders", "words", "keys", "starts", "bins", "shift")
_POINTERS = ("orders", "words", "keys", "starts")
FEW = 1 << 17  # rows, whose bins take at most twice 1 MiB
MOST = 1 << 20  # rows; of more, an epoch lasts so long that its order costs nothing beside it

# Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
_FACTORS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_BUMPS = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_ROUNDS = 10


def shuffled_orders(n: int, seed: int, epoch: int, count: int, into: Array | None = None) -> Array:
    """The orders of `count` epochs, the first of them `epoch`: what `shuffled_indices` gives for each.

    Args:
        n, seed, epoch: as for `shuffled_indices`.
        count: how many epochs.
        into: where to write them, an int64 array of that shape in row-major order; None: to a new one.

    Returns:
        int64 array of shape (count, n).

    Raises:
        DataError: a negative or too large argument, or another array to write to.

    Example:
        >>> shuffled_orders(5, seed=0, epoch=0, count=2)[1].tolist()
        [3, 2, 4, 1, 0]
    """
    if into is not None and (into.shape != (count, n) or into.dtype != np.int64 or not into.flags.c_contiguous):
        raise DataError(
            f"shuffled_orders: into must be an int64 array of shape {(count, n)} in row-major order, got {into.dtype} of shape "
            f"{into.shape} with strides {into.strides}. Pass np.empty({(count, n)}, np.int64)."
        )
    if count == 1:
        return _put([shuffled_indices(n, seed, epoch)], into)
    for name, value in (
        ("n", n),
        ("seed", seed),
        ("count", count),
        ("epoch", epoch),
        ("epoch", epoch + max(count, 1) - 1),
    ):
        counter(name, value)
    if not 1 < n <= MOST:
        each = [shuffled_indices(n, seed, one) for one in range(epoch, epoch + count)]
        return _put(each, into) if each else np.empty((0, n), np.int64)
    bits = int(n).bit_length() - (n > FEW)
    orders = np.empty((count, n), np.int64) if into is None else into
    words, keys, starts = (np.empty(size, np.uint64) for size in (-(-n // 4) * 4, n, (1 << bits) + 1))
    told = n, seed, epoch, count, *map(address, (orders, words, keys, starts)), 1 << bits, 64 - bits
    frame = np.array(told, np.uint64)
    code = _code()  # held: where two threads ask first at once, only one of theirs is kept for others
    code.run(address(frame))
    return orders


def _put(orders: list[Array], into: Array | None) -> Array:
    """One behind the other."""
    if into is None:
        return np.stack(orders)
    for row, order in zip(into, orders, strict=True):
        row[:] = order
    return into


@lru_cache(maxsize=1)
def _code() -> Code:
    text = _text()
    return cached(text, lambda: [compiled(text)])


def _text() -> str:
    return _RUN % {"frame": fields("frame", FRAME, _POINTERS), "philox": "\n".join(_philox())}


def _philox() -> list[str]:
    """The four words of a block, of the counter ``%block`` and the key (``%seed``, ``%key``)."""
    lines, words = [], ["%block", "0", "0", "0"]
    for i in range(_ROUNDS):
        keys = []
        for k, (key, bump) in enumerate(zip(("%seed", "%key"), _BUMPS, strict=True)):
            lines.append(f"  %key.{i}.{k} = add i64 {key}, {bump * i % (1 << 64)}")
            keys.append(f"%key.{i}.{k}")
        for k, (word, factor) in enumerate(zip(words[::2], _FACTORS, strict=True)):
            lines += [
                f"  %wide.{i}.{k} = zext i64 {word} to i128",
                f"  %product.{i}.{k} = mul i128 %wide.{i}.{k}, {factor}",
                f"  %low.{i}.{k} = trunc i128 %product.{i}.{k} to i64",
                f"  %shifted.{i}.{k} = lshr i128 %product.{i}.{k}, 64",
                f"  %high.{i}.{k} = trunc i128 %shifted.{i}.{k} to i64",
            ]
        for k in range(2):
            lines.append(f"  %mixed.{i}.{k} = xor i64 %high.{i}.{1 - k}, {words[2 * k + 1]}")
            lines.append(f"  %word.{i}.{k} = xor i64 %mixed.{i}.{k}, {keys[k]}")
        words = [f"%word.{i}.0", f"%low.{i}.1", f"%word.{i}.1", f"%low.{i}.0"]
    for k, word in enumerate(words):
        lines.append(
            f"  %to.{k} = getelementptr i64, ptr %first.word, i64 {k}\n  store i64 {word}, ptr %to.{k}, align 8"
        )
    return lines


_RUN = """define i64 @run(ptr %%frame) nounwind {
entry:
%(frame)s
  %%padded = add i64 %%n, 3
  %%blocks = lshr i64 %%padded, 2
  br label %%epochs
epochs:
  %%e = phi i64 [ 0, %%entry ], [ %%e.next, %%sorted ]
  %%e.more = icmp ult i64 %%e, %%count
  br i1 %%e.more, label %%begin, label %%done
begin:
  %%key = add i64 %%epoch, %%e
  %%skipped = mul i64 %%e, %%n
  %%order = getelementptr i64, ptr %%orders, i64 %%skipped
  br label %%clear
clear:
  %%c = phi i64 [ 0, %%begin ], [ %%c.next, %%clear ]
  %%c.at = getelementptr i64, ptr %%starts, i64 %%c
  store i64 0, ptr %%c.at, align 8
  %%c.next = add i64 %%c, 1
  %%c.more = icmp ule i64 %%c.next, %%bins
  br i1 %%c.more, label %%clear, label %%draw
draw:
  %%b = phi i64 [ 0, %%clear ], [ %%block, %%draw ]
  %%block = add i64 %%b, 1
  %%b.words = shl i64 %%b, 2
  %%first.word = getelementptr i64, ptr %%words, i64 %%b.words
%(philox)s
  %%b.more = icmp ult i64 %%block, %%blocks
  br i1 %%b.more, label %%draw, label %%counting
counting:
  %%h = phi i64 [ 0, %%draw ], [ %%h.next, %%counting ]
  %%h.at = getelementptr i64, ptr %%words, i64 %%h
  %%h.word = load i64, ptr %%h.at, align 8
  %%h.bin = lshr i64 %%h.word, %%shift
  %%h.after = add i64 %%h.bin, 1
  %%h.start = getelementptr i64, ptr %%starts, i64 %%h.after
  %%h.before = load i64, ptr %%h.start, align 8
  %%h.now = add i64 %%h.before, 1
  store i64 %%h.now, ptr %%h.start, align 8
  %%h.next = add i64 %%h, 1
  %%h.more = icmp ult i64 %%h.next, %%n
  br i1 %%h.more, label %%counting, label %%sum
sum:
  %%s = phi i64 [ 1, %%counting ], [ %%s.next, %%sum ]
  %%s.total = phi i64 [ 0, %%counting ], [ %%s.now, %%sum ]
  %%s.at = getelementptr i64, ptr %%starts, i64 %%s
  %%s.own = load i64, ptr %%s.at, align 8
  %%s.now = add i64 %%s.total, %%s.own
  store i64 %%s.now, ptr %%s.at, align 8
  %%s.next = add i64 %%s, 1
  %%s.more = icmp ule i64 %%s.next, %%bins
  br i1 %%s.more, label %%sum, label %%spread
spread:
  %%p = phi i64 [ 0, %%sum ], [ %%p.next, %%spread ]
  %%p.at = getelementptr i64, ptr %%words, i64 %%p
  %%p.word = load i64, ptr %%p.at, align 8
  %%p.bin = lshr i64 %%p.word, %%shift
  %%p.start = getelementptr i64, ptr %%starts, i64 %%p.bin
  %%p.place = load i64, ptr %%p.start, align 8
  %%p.after = add i64 %%p.place, 1
  store i64 %%p.after, ptr %%p.start, align 8
  %%p.key = getelementptr i64, ptr %%keys, i64 %%p.place
  store i64 %%p.word, ptr %%p.key, align 8
  %%p.to = getelementptr i64, ptr %%order, i64 %%p.place
  store i64 %%p, ptr %%p.to, align 8
  %%p.next = add i64 %%p, 1
  %%p.more = icmp ult i64 %%p.next, %%n
  br i1 %%p.more, label %%spread, label %%insert
insert:
  %%i = phi i64 [ 1, %%spread ], [ %%i.next, %%put ]
  %%i.key = getelementptr i64, ptr %%keys, i64 %%i
  %%i.word = load i64, ptr %%i.key, align 8
  %%i.to = getelementptr i64, ptr %%order, i64 %%i
  %%i.row = load i64, ptr %%i.to, align 8
  br label %%look
look:
  %%j = phi i64 [ %%i, %%insert ], [ %%j.before, %%move ]
  %%j.first = icmp eq i64 %%j, 0
  br i1 %%j.first, label %%put, label %%compare
compare:
  %%j.before = sub i64 %%j, 1
  %%j.key = getelementptr i64, ptr %%keys, i64 %%j.before
  %%j.word = load i64, ptr %%j.key, align 8
  %%j.greater = icmp ugt i64 %%j.word, %%i.word
  br i1 %%j.greater, label %%move, label %%put
move:
  %%j.to = getelementptr i64, ptr %%keys, i64 %%j
  store i64 %%j.word, ptr %%j.to, align 8
  %%j.from = getelementptr i64, ptr %%order, i64 %%j.before
  %%j.row = load i64, ptr %%j.from, align 8
  %%j.row.to = getelementptr i64, ptr %%order, i64 %%j
  store i64 %%j.row, ptr %%j.row.to, align 8
  br label %%look
put:
  %%j.last = getelementptr i64, ptr %%keys, i64 %%j
  store i64 %%i.word, ptr %%j.last, align 8
  %%j.place = getelementptr i64, ptr %%order, i64 %%j
  store i64 %%i.row, ptr %%j.place, align 8
  %%i.next = add i64 %%i, 1
  %%i.more = icmp ult i64 %%i.next, %%n
  br i1 %%i.more, label %%insert, label %%sorted
sorted:
  %%e.next = add i64 %%e, 1
  br label %%epochs
done:
  ret i64 0
}
"""
