"""Copies that lay a matrix out anew: side by side, or transposed through registers."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.compiler.emit import Emitter, Value, lanes_of, vector

_BYTES = {"float": 4, "double": 8}


def emit_copy(e: Emitter, rows: int, cols: int, scalar: str, src: Value, stride: int, dst: Value, lanes: int) -> None:
    """dst[r, c] = src[r, c]: rows `stride` elements apart become rows side by side."""
    with e.loop(rows) as r:
        source = offset(e, src, r, stride, scalar)
        target = offset(e, dst, r, cols, scalar)
        for first in range(0, cols, lanes):
            mask, type = lane_mask(min(lanes, cols - first), lanes), vector(scalar, lanes)
            value = e.masked_load(at(e, source, first, scalar), type, mask)
            e.masked_store(value, at(e, target, first, scalar), mask)


def emit_transpose(
    e: Emitter,
    rows: int,
    cols: int,
    scalar: str,
    src: Value,
    src_strides: tuple[int, int],
    dst: Value,
    lanes: int,
) -> None:
    """dst[c, r] = src[r, c], dst being contiguous: (cols, rows).

    Where src's rows are contiguous, blocks of lanes x lanes are transposed in registers: log2(lanes) rounds
    of exchanges between rows (Eklundh, "A fast computer method for matrix transposing", 1972).
    """
    if src_strides[1] != 1:
        _transpose_scalars(e, rows, cols, scalar, src, src_strides, dst)
        return
    lanes = max(lanes, 2)

    def strip(first_row: Value, height: int) -> None:
        def block(first_col: Value, width: int) -> None:
            source = offset(e, offset(e, src, first_row, src_strides[0], scalar), first_col, 1, scalar)
            target = offset(e, offset(e, dst, first_col, rows, scalar), first_row, 1, scalar)
            _block(e, height, width, scalar, source, src_strides[0], target, rows, lanes)

        _blocks(e, cols, lanes, block)

    _blocks(e, rows, lanes, strip)


def _blocks(e: Emitter, extent: int, size: int, body: Callable[[Value, int], None]) -> None:
    """body(first, size) for every full block, and for what is left over."""
    full = extent // size
    if full == 1:
        body(e.const(0, "i64"), size)
    elif full > 1:
        with e.loop(full) as i:
            body(e.binary("mul", i, e.const(size, "i64")), size)
    if extent % size:
        body(e.const(full * size, "i64"), extent % size)


def _block(
    e: Emitter,
    height: int,
    width: int,
    scalar: str,
    src: Value,
    src_stride: int,
    dst: Value,
    dst_stride: int,
    lanes: int,
) -> None:
    """One block of at most lanes x lanes."""
    type = vector(scalar, lanes)
    nothing = Value("poison", type)
    values = [nothing] * lanes
    for r in range(height):
        values[r] = e.masked_load(at(e, src, r * src_stride, scalar), type, lane_mask(width, lanes))
    distance = 1
    while distance < lanes:
        for low in range(lanes):
            if not low & distance:
                a, b = values[low], values[low + distance]
                values[low] = _exchange(e, a, b, distance, lanes, 0)
                values[low + distance] = _exchange(e, a, b, distance, lanes, distance)
        distance *= 2
    for c in range(width):
        e.masked_store(values[c], at(e, dst, c * dst_stride, scalar), lane_mask(height, lanes))


def _exchange(e: Emitter, a: Value, b: Value, distance: int, lanes: int, part: int) -> Value:
    """Of each 2 x 2 square of blocks, the upper (part 0) or lower row after transposing it."""
    if a.name == b.name == "poison":
        return a
    picks = []
    for lane in range(lanes):
        block = lane & ~distance
        picks.append(block + part + (lanes if lane & distance else 0))
    indices = ", ".join(f"i32 {p}" for p in picks)
    return e.assign(a.type, f"shufflevector {a.typed}, {b.typed}, <{lanes} x i32> <{indices}>")


def _transpose_scalars(
    e: Emitter, rows: int, cols: int, scalar: str, src: Value, strides: tuple[int, int], dst: Value
) -> None:
    with e.loop(cols) as c, e.loop(rows) as r:
        source = offset(e, offset(e, src, c, strides[1], scalar), r, strides[0], scalar)
        target = offset(e, offset(e, dst, c, rows, scalar), r, 1, scalar)
        e.store(e.load(source, scalar, _BYTES[scalar]), target, _BYTES[scalar])


def lane_mask(count: int, lanes: int) -> Value | None:
    """The first `count` of so many lanes; None for all of them."""
    if count == lanes:
        return None
    bits = ", ".join(f"i1 {'true' if lane < count else 'false'}" for lane in range(lanes))
    return Value(f"<{bits}>", vector("i1", lanes))


def lanes_on(type: str, mask: Value | None) -> int:
    """How many lanes a `lane_mask` lets through."""
    return lanes_of(type) if mask is None else mask.name.count("true")


def offset(e: Emitter, base: Value, index: Value, stride: int, scalar: str) -> Value:
    """The address `index` strides on."""
    if stride == 0:
        return base
    scaled = index if stride == 1 else e.binary("mul", index, e.const(stride, "i64"))
    return e.address(base, scaled, scalar)


def at(e: Emitter, base: Value, elements: int, scalar: str) -> Value:
    """The address a known number of elements on."""
    return base if elements == 0 else e.address(base, e.const(elements, "i64"), scalar)
