"""Copies that lay a matrix out anew: side by side, or transposed through registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, scalar_of, vector
from chainrule.compiler.plan.target import BYTES

_HALVED = 32  # bytes from which on a vector's upper half is read into its place
_SHARED = 8  # lanes from which on a block is a function of its own


@dataclass(frozen=True)
class Column:
    """One vector of a panel's columns: where it begins, its type, and which lanes count."""

    first: int
    type: str
    mask: Register | None


def emit_copy(
    e: Emitter,
    rows: Register | int,
    parts: list[Column],
    scalar: str,
    src: Register,
    stride: int,
    dst: Register,
    wide: int,
    ahead: int = 0,
) -> None:
    """dst[r, c] = src[r, c]: rows `stride` elements apart become rows of `wide` elements.

    A part whose vectors are not all used is padded with zeros, where `wide` has room for them. Memory is asked for
    `ahead` rows before it is read.
    """
    with e.loop(rows) as r:
        source = offset(e, src, r, stride, scalar)
        target = offset(e, dst, r, wide, scalar)
        for part in parts:
            place = at(e, source, part.first, scalar)
            if ahead:
                e.prefetch(at(e, place, ahead * stride, scalar))
            value = e.masked_load(place, part.type, part.mask)
            room = part.first + lanes_of(part.type) <= wide
            e.masked_store(value, at(e, target, part.first, scalar), None if room else part.mask)


def emit_transpose(
    e: Emitter,
    rows: int,
    cols: int,
    scalar: str,
    src: Register,
    src_strides: tuple[int, int],
    dst: Register,
    lanes: int,
    wide: int | None = None,
    count: Register | None = None,
    ahead: int = 0,
    called: bool = False,
) -> None:
    """dst[c, r] = src[r, c], dst being contiguous: (cols, rows).

    With `wide`, dst's rows have so many elements, a multiple of `lanes`, and zeros beyond `rows`. With `count`,
    only so many columns count: a multiple of `lanes`, or that and what `cols` leaves over; or, if `cols` is 0, any
    number from `lanes` on.

    Where src's rows are contiguous, blocks of lanes x lanes are transposed in registers: log2(lanes) rounds
    of exchanges between rows (Eklundh, "A fast computer method for matrix transposing", 1972). With `called`, large
    blocks are functions that are compiled once for all kernels.
    """
    stride = wide or rows
    if src_strides[1] != 1:
        _transpose_scalars(e, rows, cols if count is None else count, scalar, src, src_strides, dst, stride)
        return
    lanes = max(lanes, 2)

    def panel(first_row: Register, height: int) -> None:
        def block(first_col: Register, width: int) -> None:
            source = offset(e, offset(e, src, first_row, src_strides[0], scalar), first_col, 1, scalar)
            target = offset(e, offset(e, dst, first_col, stride, scalar), first_row, 1, scalar)
            _block(
                e, height, width, scalar, source, src_strides[0], target, stride, lanes, wide is not None, ahead, called
            )

        _blocks(e, cols, lanes, block, count)

    _blocks(e, rows, lanes, panel)


def _blocks(
    e: Emitter, extent: int, size: int, body: Callable[[Register, int], None], count: Register | None = None
) -> None:
    """body(first, size) for every full block, and for what is left over; of the first `count`, if given."""
    full, left = divmod(extent, size)
    if count is not None:
        if not extent:
            _overlapping(e, count, size, body)
            return
        with e.loop(e.binary("sdiv", count, e.const(size, "i64"))) as i:
            body(e.binary("mul", i, e.const(size, "i64")), size)
        if left:
            first = e.binary("sub", count, e.const(left, "i64"))
            rest = e.binary("srem", count, e.const(size, "i64"))
            with e.loop(e.call("llvm.smin.i64", "i64", rest, e.const(1, "i64"))):
                body(first, left)
        return
    if full == 1:
        body(e.const(0, "i64"), size)
    elif full > 1:
        with e.loop(full) as i:
            body(e.binary("mul", i, e.const(size, "i64")), size)
    if left:
        body(e.const(full * size, "i64"), left)


def _overlapping(e: Emitter, count: Register, size: int, body: Callable[[Register, int], None]) -> None:
    """body(first, size) for blocks that cover `count`: the last begins where it is full, within the one before it."""
    with e.loop(count, size) as start:
        last = e.binary("sub", count, e.const(size, "i64"))
        body(e.call("llvm.smin.i64", "i64", start, last), size)


def _block(
    e: Emitter,
    height: int,
    width: int,
    scalar: str,
    src: Register,
    src_stride: int,
    dst: Register,
    dst_stride: int,
    lanes: int,
    fill: bool,
    ahead: int,
    called: bool,
) -> None:
    """One block of at most lanes x lanes; with `fill`, zeros make it up to `lanes` rows.

    LLVM takes longer for the exchanges of a large one than for the product that reads it, so it may be a function of its own.
    """
    shape = Block(height, width, scalar, lanes, fill, ahead > 0)
    strides = (e.const(stride, "i64") for stride in (src_stride, dst_stride, ahead))
    if lanes < _SHARED or not called:
        shape.write(e, src, dst, *strides)
        return
    name = f"transpose.{scalar}.{lanes}.{height}.{width}{'.fill' * fill}{'.ahead' * (ahead > 0)}"
    e.shared(name, shape.write, src, dst, *strides)


class Block(NamedTuple):
    """The shape of a block, all that its code depends on."""

    height: int
    width: int
    scalar: str
    lanes: int
    fill: bool
    asks: bool  # for memory that is read later

    def write(
        self, e: Emitter, src: Register, dst: Register, src_stride: Register, dst_stride: Register, ahead: Register
    ) -> None:
        """dst[c, r] = src[r, c], rows so many elements apart."""
        scalar, lanes = self.scalar, self.lanes
        places = list(_apart(e, src, src_stride, self.height, scalar))
        if self.asks:
            for place in places:
                e.prefetch(e.address(place, ahead, scalar))
        values = transposed_rows(e, places, self.width, lanes, scalar, self.fill)
        mask = None if self.fill else lane_mask(self.height, lanes)
        for value, place in zip(values, _apart(e, dst, dst_stride, self.width, scalar), strict=False):
            e.masked_store(value, place, mask)


def transposed_rows(
    e: Emitter, places: list[Register], width: int, lanes: int, scalar: str, fill: bool = False
) -> list[Register]:
    """The columns of a block in vectors of so many lanes, from where its rows of `width` elements begin.

    In squares of half as many columns, whose rows are joined as they are read: the longest exchange is then not only for
    the port that shuffles. What is left over is squares of 8 and 4. With `fill` the lanes beyond the rows are zero.
    """
    largest = lanes // 2 if lanes * BYTES[scalar] >= _HALVED else lanes
    values: list[Register] = []
    while len(values) < width:
        left = width - len(values)
        size = min(largest, max(4, 1 << (left.bit_length() - 1)))
        part = Column(len(values), vector(scalar, size), lane_mask(min(left, size), size))
        rows = _rows(e, places, part, lanes, fill)
        values += in_registers(e, [e.join(rows[first::size]) for first in range(size)])[:left]
    return values


def _rows(e: Emitter, places: list[Register], part: Column, count: int, fill: bool) -> list[Register]:
    """One vector of each row, made up to so many."""
    values = [e.masked_load(at(e, place, part.first, scalar_of(part.type)), part.type, part.mask) for place in places]
    return values + [Register("zeroinitializer" if fill else "poison", part.type)] * (count - len(places))


def _apart(e: Emitter, start: Register, stride: Register, count: int, scalar: str) -> Iterator[Register]:
    """The first elements of so many rows."""
    for row in range(count):
        if row:
            start = e.address(start, stride, scalar)
        yield start


def in_registers(e: Emitter, rows: list[Register]) -> list[Register]:
    """The columns of squares that lie side by side in vectors, as high as there are vectors."""
    values, size, lanes = list(rows), len(rows), lanes_of(rows[0].type)
    distance = 1
    while distance < size:
        for low in range(size):
            if not low & distance:
                a, b = values[low], values[low + distance]
                values[low] = _exchange(e, a, b, distance, lanes, 0)
                values[low + distance] = _exchange(e, a, b, distance, lanes, distance)
        distance *= 2
    return values


def resized(e: Emitter, value: Register, lanes: int) -> Register:
    """The first so many lanes of a vector; any beyond its own are unspecified."""
    have, scalar = lanes_of(value.type), scalar_of(value.type)
    if have == lanes:
        return value
    if have == 1:
        return e.assign(vector(scalar, lanes), f"insertelement {vector(scalar, lanes)} poison, {value.typed}, i64 0")
    if lanes == 1:
        return e.assign(scalar, f"extractelement {value.typed}, i64 0")
    picks = ", ".join(f"i32 {i}" if i < have else "i32 poison" for i in range(lanes))
    return e.assign(
        vector(scalar, lanes), f"shufflevector {value.typed}, {value.type} poison, <{lanes} x i32> <{picks}>"
    )


def _exchange(e: Emitter, a: Register, b: Register, distance: int, lanes: int, part: int) -> Register:
    """Of each 2 x 2 square of blocks, the upper (part 0) or lower row after transposing it."""
    if a.name == b.name and not a.name.startswith("%"):  # both zero, or both unused
        return a
    picks = []
    for lane in range(lanes):
        block = lane & ~distance
        picks.append(block + part + (lanes if lane & distance else 0))
    indices = ", ".join(f"i32 {p}" for p in picks)
    return e.assign(a.type, f"shufflevector {a.typed}, {b.typed}, <{lanes} x i32> <{indices}>")


def _transpose_scalars(
    e: Emitter,
    rows: int,
    cols: Register | int,
    scalar: str,
    src: Register,
    strides: tuple[int, int],
    dst: Register,
    wide: int,
) -> None:
    size = BYTES[scalar]
    with e.loop(cols) as c:
        target = offset(e, dst, c, wide, scalar)
        with e.loop(rows) as r:
            source = offset(e, offset(e, src, c, strides[1], scalar), r, strides[0], scalar)
            e.store(e.load(source, scalar, size), offset(e, target, r, 1, scalar), size)
        for empty in range(rows, wide):
            e.store(e.const(0.0, scalar), at(e, target, empty, scalar), size)


def lane_mask(count: int, lanes: int) -> Register | None:
    """The first `count` of so many lanes; None for all of them."""
    if count == lanes:
        return None
    bits = ", ".join(f"i1 {'true' if lane < count else 'false'}" for lane in range(lanes))
    return Register(f"<{bits}>", vector("i1", lanes))


def first_lanes(e: Emitter, count: Register, lanes: int) -> Register:
    """The mask of so many of the first lanes, a number that is not known yet."""
    steps = ", ".join(f"i64 {lane}" for lane in range(lanes))
    return e.compare("slt", Register(f"<{steps}>", vector("i64", lanes)), e.splat(count, lanes))


def lanes_on(type: str, mask: Register | None) -> int:
    """How many lanes a `lane_mask` lets through."""
    return lanes_of(type) if mask is None else mask.name.count("true")


def offset(e: Emitter, base: Register, index: Register, stride: int, scalar: str) -> Register:
    """The address `index` strides on."""
    if stride == 0:
        return base
    scaled = index if stride == 1 else e.binary("mul", index, e.const(stride, "i64"))
    return e.address(base, scaled, scalar)


def at(e: Emitter, base: Register, elements: int, scalar: str) -> Register:
    """The address a known number of elements on."""
    return base if elements == 0 else e.address(base, e.const(elements, "i64"), scalar)
