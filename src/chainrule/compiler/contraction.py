"""Matrix products as register-tiled micro-kernels with explicit vectors.

C[i, j] = sum over l of A[i, l] B[l, j], for shapes and strides known when the kernel is written. A tile of
C, `rows` by `vectors` vectors of columns, stays in registers while l runs; A is read one scalar at a time
and broadcast, B a vector at a time (Goto & van de Geijn, "Anatomy of high-performance matrix
multiplication", 2008, without the outer blocking: at the sizes of small networks the operands lie in L2).
Every sum runs over l in one order, whatever the tile and the thread.

Where B's columns are not contiguous, or its rows lie so far apart that they share cache sets, the strip of
B under a tile's columns is first copied side by side into scratch memory that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from chainrule.compiler.dot_tile import dot_tile
from chainrule.compiler.emit import Emitter, Value, lanes_of, scalar_of, vector
from chainrule.compiler.transpose import (
    at,
    emit_copy,
    emit_transpose,
    lane_mask,
    lanes_on,
    offset,
)

# emitter, row, first column, sums (a vector of columns, or one), mask (None: all lanes), batch indices
Epilogue = Callable[[Emitter, Value, Value, Value, "Value | None", "Indices"], None]
Indices = tuple[Value, ...]
Range = tuple[Value, Value]

_BYTES = {"float": 4, "double": 8}
_INLINE = 12  # lines of an epilogue that are written out for every row rather than put in a loop
_PAGE = 4096  # rows this far apart share a set of the first-level cache


@dataclass(frozen=True)
class Target:
    """The vector registers of the machine that code is written for.

    >>> Target.of("x86_64", {"avx2": True, "avx512f": False})
    Target(vector_bytes=32, registers=16)
    """

    vector_bytes: int = 16
    registers: int = 16

    @classmethod
    def of(cls, architecture: str, features: Mapping[str, bool]) -> Target:
        """The registers of an architecture with some features, both as LLVM names them."""
        if architecture in ("aarch64", "arm64"):
            return cls(16, 32)
        if features.get("avx512f"):
            return cls(64, 32)
        return cls(32 if features.get("avx2") else 16, 16)

    def lanes(self, scalar: str) -> int:
        return self.vector_bytes // _BYTES[scalar]


@dataclass(frozen=True)
class Contraction:
    """C[i, j] = sum over l of A[i, l] B[l, j]: extents, and strides in elements, all known.

    A dense layer's x W^T, with x of (64, 128) and W of (10, 128), both row-major:

    >>> layer = Contraction(64, 10, 128, "float", a_strides=(128, 1), b_strides=(1, 128))
    >>> plan(layer, Target(64, 32)).dot
    True

    `batch` holds (size, stride of A, stride of B) of each loop around the product, the outermost first;
    a stride of 0 uses one matrix for all.
    """

    m: int
    n: int
    k: int
    scalar: str
    a_strides: tuple[int, int]  # (row m, column k)
    b_strides: tuple[int, int]  # (row k, column n)
    batch: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class Plan:
    """How C is cut into tiles, and how a tile is computed.

    `large` row tiles of `rows` rows come first, then `small` of one row less; `strips` strips of `width`
    columns, then one of the `ragged` columns left over. With `dot`, a tile's sums run over vectors of l.
    """

    rows: int
    large: int
    small: int
    width: int
    strips: int
    ragged: int
    lanes: int
    pack: bool
    dot: bool

    @property
    def row_tiles(self) -> int:
        return self.large + self.small

    @property
    def column_strips(self) -> int:
        return self.strips + (self.ragged > 0)


def plan(spec: Contraction, target: Target) -> Plan:
    """The tiles for a shape: what threads divide among them."""
    spec = _swapped(spec) if is_column(spec) else spec
    size = _BYTES[spec.scalar]
    dot = _sums_along_k(spec, target)
    most = 8 if target.registers >= 32 else 6
    if dot:
        lanes = min(target.lanes(spec.scalar), _power_of_two_above(spec.k))
        widest = min(8 if target.registers >= 32 else 4, target.lanes(spec.scalar))
        width = min(widest, _power_of_two_above(spec.n))
        most = (16 if target.registers >= 32 else 8) // width
    else:
        lanes = min(target.lanes(spec.scalar), _power_of_two_above(spec.n))
        vectors = {1: 8, 2: 4, 3: 3}.get(spec.m, 2)
        width = lanes * max(1, min(vectors, -(-spec.n // lanes)))
    rows = _even(spec.m, most) if dot else _tile_rows(spec.m, most)
    tiles = -(-spec.m // rows)
    small = tiles * rows - spec.m
    far = spec.b_strides[0] * size
    crowded = far % 1024 == 0 and far * spec.k > 32 * _PAGE and spec.m >= 4 * rows
    pack = not dot and spec.k > 0 and spec.n > 1 and (spec.b_strides[1] != 1 or crowded)
    return Plan(rows, tiles - small, small, width, spec.n // width, spec.n % width, lanes, pack, dot)


def _tile_rows(m: int, most: int) -> int:
    """A divisor of m near `most` where there is one, so that one tile serves; else the most even split."""
    if most == 8:  # with 32 registers up to 14 rows fit, but 8 keep the unit busy and spare the cache
        for rows in (8, 7, 9, 10, 12, 11, 13, 14):
            if m % rows == 0:
                return rows
        most = 10
    for rows in range(most, most * 3 // 4, -1):
        if m % rows == 0:
            return rows
    return _even(m, most)


def _even(m: int, most: int) -> int:
    """The larger size where m is cut into as few parts as `most` allows, none two longer than another."""
    return -(-m // -(-m // most))


def _sums_along_k(spec: Contraction, target: Target) -> bool:
    """Both operands contiguous along l, and too few outputs for packing B to pay (bounds measured)."""
    lanes = target.lanes(spec.scalar)
    if spec.a_strides[1] != 1 or spec.b_strides[0] != 1 or spec.k < lanes:
        return False
    few = 4 * spec.m <= min(spec.k, 512) or (spec.n < lanes and spec.k >= 2 * lanes)
    return spec.n == 1 or few


def is_column(spec: Contraction) -> bool:
    """A matrix contiguous along its rows times one column: better as a row times that matrix transposed."""
    return spec.n == 1 and spec.a_strides[0] == 1 and spec.a_strides[1] != 1 and spec.m > 1


def _swapped(spec: Contraction) -> Contraction:
    batch = tuple((size, b_stride, a_stride) for size, a_stride, b_stride in spec.batch)
    a_strides, b_strides = (spec.b_strides[1], spec.b_strides[0]), (spec.a_strides[1], spec.a_strides[0])
    return replace(spec, m=1, n=spec.m, a_strides=a_strides, b_strides=b_strides, batch=batch)


def scratch_elements(spec: Contraction, target: Target) -> int:
    """How many elements of scratch memory each thread gives to the kernel; 0 where it needs none."""
    chosen = plan(spec, target)
    return spec.k * chosen.width if chosen.pack else 0


def emit_contraction(
    e: Emitter,
    spec: Contraction,
    a: Value,
    b: Value,
    epilogue: Epilogue,
    target: Target,
    scratch: Value | None = None,
    rows: Range | None = None,
    columns: Range | None = None,
) -> None:
    """Write the loops of one product; `epilogue` transforms and stores each vector of C.

    `scratch` has room for `scratch_elements`. `rows` and `columns` limit the work to a range of row tiles
    and column strips, counted as in `plan`: so threads share a product, and no sum depends on how they do.
    """
    chosen = plan(spec, target)
    if chosen.pack and scratch is None:
        raise ValueError(f"{spec} needs scratch memory of {scratch_elements(spec, target)} elements")
    if is_column(spec):
        spec, a, b, epilogue = _swapped(spec), b, a, partial(_lane_by_lane, epilogue)
    with ExitStack() as stack:
        batch = []
        for size, a_stride, b_stride in spec.batch:
            index = stack.enter_context(e.loop(size))
            a = offset(e, a, index, a_stride, spec.scalar)
            b = offset(e, b, index, b_stride, spec.scalar)
            batch.append(index)
        kernel = _Kernel(e, spec, chosen, a, b, epilogue, scratch, tuple(batch))
        _ranged(e, columns, 0, chosen.strips, partial(kernel.strip, chosen.width, rows))
        _ranged(e, columns, chosen.strips, int(chosen.ragged > 0), partial(kernel.strip, chosen.ragged, rows))


def _lane_by_lane(
    epilogue: Epilogue, e: Emitter, row: Value, column: Value, sums: Value, mask: Value | None, batch: Indices
) -> None:
    """The epilogue of a swapped product: what it computes as columns are the caller's rows."""
    count = lanes_on(sums.type, mask)
    room = e.local(sums.type, 1)
    e.store(sums, room, 4)
    with e.loop(count) as lane:
        value = e.load(e.address(room, lane, scalar_of(sums.type)), scalar_of(sums.type), 4)
        epilogue(e, e.binary("add", column, lane), row, value, None, batch)


def _ranged(e: Emitter, limits: Range | None, first: int, count: int, body: Callable[[Value], None]) -> None:
    """body(i) for i in first, ..., first + count - 1, as far as they lie within `limits`."""
    if count == 0:
        return
    start = e.const(first, "i64")
    if limits is None:
        if count == 1:
            body(start)
            return
        with e.loop(count) as i:
            body(e.binary("add", i, start) if first else i)
        return
    stop = e.const(first + count, "i64")
    start = e.call("llvm.smax.i64", "i64", limits[0], start)
    stop = e.call("llvm.smin.i64", "i64", limits[1], stop)
    with e.loop(e.binary("sub", stop, start)) as i:
        body(e.binary("add", i, start))


class _Kernel:
    """The loops over tiles, and the tile itself."""

    def __init__(
        self,
        e: Emitter,
        spec: Contraction,
        chosen: Plan,
        a: Value,
        b: Value,
        epilogue: Epilogue,
        scratch: Value | None,
        batch: tuple[Value, ...],
    ) -> None:
        self.e, self.spec, self.plan, self.a, self.b = e, spec, chosen, a, b
        self.epilogue, self.scratch, self.batch = epilogue, scratch, batch
        self.inline = self._lines_of_epilogue() <= _INLINE

    def _lines_of_epilogue(self) -> int:
        probe = Emitter()
        index = Value("%0", "i64")
        sums = Value("%1", vector(self.spec.scalar, self.plan.lanes))
        self.epilogue(probe, index, index, sums, None, self.batch)
        return len(probe.lines)

    def strip(self, width: int, rows: Range | None, number: Value) -> None:
        """All row tiles of one strip of columns; the strip of B packed first if the plan says so."""
        e, spec, chosen = self.e, self.spec, self.plan
        column = _scaled(e, number, chosen.width)
        source, strides = offset(e, self.b, column, spec.b_strides[1], spec.scalar), spec.b_strides
        if chosen.pack and self.scratch is not None:
            if strides[1] == 1:
                emit_copy(e, spec.k, width, spec.scalar, source, strides[0], self.scratch, chosen.lanes)
            else:
                turned = (strides[1], strides[0])
                emit_transpose(e, width, spec.k, spec.scalar, source, turned, self.scratch, chosen.lanes)
            source, strides = self.scratch, (width, 1)
        tile = partial(self.tile, _Strip(source, strides, column, _columns(width, chosen, spec.scalar)))
        _ranged(e, rows, 0, chosen.large, partial(tile, chosen.rows))
        _ranged(e, rows, chosen.large, chosen.small, partial(tile, chosen.rows - 1))

    def tile(self, strip: _Strip, rows: int, number: Value) -> None:
        e, spec = self.e, self.spec
        row = _scaled(e, number, rows)
        if rows < self.plan.rows:  # the small tiles follow the large ones, each one row longer
            row = _plus(e, row, self.plan.large)
        a = offset(e, self.a, row, spec.a_strides[0], spec.scalar)
        if self.plan.dot:
            left = (a, spec.a_strides[0], rows)
            sums = dot_tile(e, spec.k, self.plan.lanes, spec.scalar, left, strip.operand)
        else:
            sums = self._broadcast_tile(a, strip, rows)
        self.finish(row, strip.column, strip.columns, rows, sums)

    def _broadcast_tile(self, a: Value, strip: _Strip, rows: int) -> list[Value]:
        """The sums of a tile, row by row: each scalar of A times each vector of B."""
        e, spec, columns = self.e, self.spec, strip.columns
        with e.fold(spec.k, [e.const(0.0, c.type) for c in columns] * rows) as state:
            at_a = offset(e, a, state.index, spec.a_strides[1], spec.scalar)
            at_b = offset(e, strip.b, state.index, strip.strides[0], spec.scalar)
            right = [e.masked_load(at(e, at_b, c.first, spec.scalar), c.type, c.mask) for c in columns]
            sums = []
            for r in range(rows):
                place = at(e, at_a, r * spec.a_strides[0], spec.scalar)
                left = e.load(place, spec.scalar, _BYTES[spec.scalar])
                for c, values in enumerate(right):
                    factor = e.splat(left, lanes_of(values.type))
                    sums.append(e.fma(factor, values, state.values[r * len(columns) + c]))
            state.values = sums
        return state.values

    def finish(self, row: Value, column: Value, columns: list[_Column], rows: int, sums: list[Value]) -> None:
        """Hand each vector of the tile to the epilogue: written out for each if short, else in a loop."""
        e = self.e
        if self.inline or rows == 1:
            for r in range(rows):
                of_row = sums[r * len(columns) : (r + 1) * len(columns)]
                self._finish_row(_plus(e, row, r), column, columns, of_row)
            return
        saved = []
        for c, part in enumerate(columns):
            room = e.local(part.type, rows)
            saved.append(room)
            for r in range(rows):
                e.store(sums[r * len(columns) + c], e.address(room, e.const(r, "i64"), part.type), 4)
        with e.loop(rows) as r_index:
            loaded = [
                e.load(e.address(room, r_index, part.type), part.type, 4)
                for room, part in zip(saved, columns, strict=True)
            ]
            self._finish_row(e.binary("add", row, r_index), column, columns, loaded)

    def _finish_row(self, row: Value, column: Value, columns: list[_Column], sums: list[Value]) -> None:
        for part, value in zip(columns, sums, strict=True):
            self.epilogue(self.e, row, _plus(self.e, column, part.first), value, part.mask, self.batch)


@dataclass(frozen=True)
class _Column:
    """One vector of a strip's columns: where it begins, its type, and which lanes count."""

    first: int
    type: str
    mask: Value | None


@dataclass(frozen=True)
class _Strip:
    """The columns under a row of tiles, and where B has them."""

    b: Value
    strides: tuple[int, int]
    column: Value
    columns: list[_Column]

    @property
    def operand(self) -> tuple[Value, int, int]:
        last = self.columns[-1]
        return self.b, self.strides[1], last.first + lanes_on(last.type, last.mask)


def _columns(width: int, chosen: Plan, scalar: str) -> list[_Column]:
    """Vectors for `width` columns; the last as narrow as it can be, masked if it is still too wide."""
    parts = []
    lanes = chosen.width if chosen.dot else chosen.lanes
    for first in range(0, width, lanes):
        left = min(lanes, width - first)
        wide = _power_of_two_above(left)
        parts.append(_Column(first, vector(scalar, wide), lane_mask(left, wide)))
    return parts


def _power_of_two_above(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _scaled(e: Emitter, index: Value, factor: int) -> Value:
    return index if factor == 1 else e.binary("mul", index, e.const(factor, "i64"))


def _plus(e: Emitter, index: Value, more: int) -> Value:
    return index if more == 0 else e.binary("add", index, e.const(more, "i64"))
