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

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from chainrule.compiler.emit import Emitter, Value, lanes_of, vector
from chainrule.compiler.transpose import emit_copy, emit_transpose

# emitter, row, first column, sums (a vector of columns, or one), mask (None: all lanes), batch indices
Epilogue = Callable[[Emitter, Value, Value, Value, "Value | None", tuple[Value, ...]], None]
Range = tuple[Value, Value]

_BYTES = {"float": 4, "double": 8}
_INLINE = 12  # lines of an epilogue that are written out for every row rather than put in a loop
_PAGE = 4096  # rows this far apart share a set of the first-level cache


@dataclass(frozen=True)
class Target:
    """The vector registers of the machine that code is written for."""

    vector_bytes: int = 16
    registers: int = 16

    def lanes(self, scalar: str) -> int:
        return self.vector_bytes // _BYTES[scalar]


@dataclass(frozen=True)
class Contraction:
    """Extents and strides, in elements. `batch` holds (size, stride of A, stride of B) of each outer loop."""

    m: int
    n: int
    k: int
    scalar: str
    a_strides: tuple[int, int]  # (row m, column k)
    b_strides: tuple[int, int]  # (row k, column n)
    batch: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class Plan:
    """How C is cut into tiles: `large` row tiles of `rows` rows, `small` of one row less, and strips of columns."""

    rows: int
    large: int
    small: int
    lanes: int
    vectors: int
    strips: int  # of `vectors` full vectors
    ragged: int  # columns left over
    pack: bool

    @property
    def row_tiles(self) -> int:
        return self.large + self.small

    @property
    def column_strips(self) -> int:
        return self.strips + (self.ragged > 0)

    @property
    def strip(self) -> int:
        return self.lanes * self.vectors


def plan(spec: Contraction, target: Target) -> Plan:
    """The tiles for a shape."""
    lanes = min(target.lanes(spec.scalar), _power_of_two_above(spec.n))
    most = 14 if target.registers >= 32 else 6
    vectors = 2 if spec.m > 3 else {1: 8, 2: 4, 3: 4}[spec.m] if target.registers >= 32 else {1: 8, 2: 4, 3: 3}[spec.m]
    vectors = min(vectors, -(-spec.n // lanes))
    tiles = -(-spec.m // most)
    rows = -(-spec.m // tiles)
    small = tiles * rows - spec.m
    strip = lanes * vectors
    far = spec.b_strides[0] * _BYTES[spec.scalar]
    pack = spec.b_strides[1] != 1 and spec.n > 1
    pack = pack or (far * spec.k > 32 * _PAGE and far % 1024 == 0 and spec.m >= 4 * rows)
    return Plan(
        rows, tiles - small, small, lanes, vectors, spec.n // strip, spec.n % strip, pack
    )


def scratch_elements(spec: Contraction, target: Target) -> int:
    """How many elements of scratch memory each thread gives to the kernel; 0 where it needs none."""
    chosen = plan(spec, target)
    return spec.k * chosen.strip if chosen.pack else 0


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
    """Write the loops of one product; `epilogue` stores (and first transforms) each vector of C.

    `rows` and `columns` limit the work to a range of row tiles and column strips, counted as in `plan`:
    so threads share a product, and no sum depends on how they do.
    """
    chosen = plan(spec, target)
    with ExitStack() as stack:
        batch = []
        for size, a_stride, b_stride in spec.batch:
            index = stack.enter_context(e.loop(size))
            a = _offset(e, a, index, a_stride, spec.scalar)
            b = _offset(e, b, index, b_stride, spec.scalar)
            batch.append(index)
        kernel = _Kernel(e, spec, chosen, a, b, epilogue, scratch, tuple(batch))
        _ranged(e, columns, 0, chosen.strips, partial(kernel.strip, chosen.strip, rows))
        _ranged(e, columns, chosen.strips, chosen.ragged > 0, partial(kernel.strip, chosen.ragged, rows))


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
        column = _scaled(e, number, chosen.strip)
        source = _offset(e, self.b, column, spec.b_strides[1], spec.scalar)
        stride = spec.b_strides[0]
        if chosen.pack and self.scratch is not None:
            if spec.b_strides[1] == 1:
                emit_copy(e, spec.k, width, spec.scalar, source, stride, self.scratch, chosen.lanes)
            else:
                strides = (spec.b_strides[1], stride)
                emit_transpose(e, width, spec.k, spec.scalar, source, strides, self.scratch, chosen.lanes)
            source, stride = self.scratch, width
        columns = _columns(width, chosen.lanes, spec.scalar)
        tile = partial(self.tile, source, stride, column, columns)
        _ranged(e, rows, 0, chosen.large, partial(tile, chosen.rows))
        _ranged(e, rows, chosen.large, chosen.small, partial(tile, chosen.rows - 1))

    def tile(
        self, b: Value, stride: int, column: Value, columns: list[_Column], rows: int, number: Value
    ) -> None:
        e, spec = self.e, self.spec
        row = _scaled(e, number, rows)
        if rows < self.plan.rows:  # the small tiles follow the large ones, each one row longer
            row = e.binary("add", row, e.const(self.plan.large, "i64"))
        a = _offset(e, self.a, row, spec.a_strides[0], spec.scalar)
        zeros = [Value("zeroinitializer", c.type) if lanes_of(c.type) > 1 else e.const(0.0, c.type) for c in columns]
        with e.fold(spec.k, zeros * rows) as state:
            at_a = _offset(e, a, state.index, spec.a_strides[1], spec.scalar)
            at_b = _offset(e, b, state.index, stride, spec.scalar)
            right = [e.masked_load(_at(e, at_b, c.first, spec.scalar), c.type, c.mask) for c in columns]
            sums = []
            for r in range(rows):
                left = e.load(_at(e, at_a, r * spec.a_strides[0], spec.scalar), spec.scalar, _BYTES[spec.scalar])
                for c, (column_, values) in enumerate(zip(columns, right, strict=True)):
                    factor = e.splat(left, lanes_of(column_.type))
                    sums.append(e.fma(factor, values, state.values[r * len(columns) + c]))
            state.values = sums
        self.finish(row, column, columns, rows, state.values)

    def finish(self, row: Value, column: Value, columns: list[_Column], rows: int, sums: list[Value]) -> None:
        """Hand each vector of the tile to the epilogue: written out for each if short, else in a loop."""
        e = self.e
        if self.inline or rows == 1:
            for r in range(rows):
                self._finish_row(_plus(e, row, r), column, columns, sums[r * len(columns) : (r + 1) * len(columns)])
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


def _columns(width: int, lanes: int, scalar: str) -> list[_Column]:
    """Vectors for `width` columns; the last as narrow as it can be, masked if it is still too wide."""
    parts = []
    for first in range(0, width, lanes):
        left = min(lanes, width - first)
        wide = _power_of_two_above(left)
        mask = None
        if left < wide:
            bits = ", ".join(f"i1 {'true' if lane < left else 'false'}" for lane in range(wide))
            mask = Value(f"<{bits}>", vector("i1", wide))
        parts.append(_Column(first, vector(scalar, wide), mask))
    return parts


def _power_of_two_above(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _scaled(e: Emitter, index: Value, factor: int) -> Value:
    return index if factor == 1 else e.binary("mul", index, e.const(factor, "i64"))


def _plus(e: Emitter, index: Value, more: int) -> Value:
    return index if more == 0 else e.binary("add", index, e.const(more, "i64"))


def _offset(e: Emitter, base: Value, index: Value, stride: int, scalar: str) -> Value:
    return base if stride == 0 else e.address(base, _scaled(e, index, stride), scalar)


def _at(e: Emitter, base: Value, offset: int, scalar: str) -> Value:
    return base if offset == 0 else e.address(base, e.const(offset, "i64"), scalar)
