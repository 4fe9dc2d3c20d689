"""A tile of a matrix product whose sums run along vectors of the summed axis: for few rows or few columns."""

from __future__ import annotations

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of, scalar_of, vector
from chainrule.compiler.codegen.halves import over
from chainrule.compiler.codegen.matmul.transpose import at, first_lanes, lane_mask
from chainrule.compiler.plan.target import power_of_two_above

Operand = tuple[Register, int, int]  # address, distance between its rows, and how many rows


def dot_tile(e: Emitter, k: Register | int, lanes: int, scalar: str, a: Operand, b: Operand) -> list[Register]:
    """For each row of a, the vector of its dot products with the rows of b; all contiguous along k.

    A vector as wide as the next power of two; what lies beyond b's rows is zero. Lane i sums the elements
    i, i + lanes, ... of k, and then the lanes are summed in halves: one fixed order for a given k.
    """
    rows, columns = a[2], b[2]
    type = vector(scalar, lanes)
    sums = [e.const(0.0, type)] * (rows * columns)
    whole, left = over(e, k, lanes)
    if isinstance(whole, Register) or whole:
        with e.fold(whole, sums) as state:
            start = e.binary("mul", state.index, e.const(lanes, "i64"))
            state.values = _step(e, type, a, b, start, None, state.values)
        sums = state.values
    if isinstance(whole, Register) and isinstance(left, Register):
        with e.fold(e.call("llvm.smin.i64", "i64", left, e.const(1, "i64")), sums) as state:
            start = e.binary("mul", whole, e.const(lanes, "i64"))
            state.values = _step(e, type, a, b, start, first_lanes(e, left, lanes), state.values)
        sums = state.values
    elif left and isinstance(k, int):
        sums = _step(e, type, a, b, e.const(k - k % lanes, "i64"), lane_mask(k % lanes, lanes), sums)
    return _sum_rows(e, sums, rows, columns)


def _step(
    e: Emitter, type: str, a: Operand, b: Operand, start: Register, mask: Register | None, sums: list[Register]
) -> list[Register]:
    scalar = scalar_of(type)

    def rows_of(operand: Operand) -> list[Register]:
        base = e.address(operand[0], start, scalar)
        places = (at(e, base, i * operand[1], scalar) for i in range(operand[2]))
        return [e.masked_load(place, type, mask) for place in places]

    right = rows_of(b)
    pairs = [(x, y) for x in rows_of(a) for y in right]
    return [e.fma(x, y, total) for (x, y), total in zip(pairs, sums, strict=True)]


def _sum_rows(e: Emitter, sums: list[Register], rows: int, columns: int) -> list[Register]:
    """`rows` vectors of dot products; several rows are folded at once while they fit in a vector."""
    lanes, scalar = lanes_of(sums[0].type), scalar_of(sums[0].type)
    wide = power_of_two_above(columns)
    zero = e.const(0.0, sums[0].type)
    together = max(1, lanes // wide)
    out = []
    for first in range(0, rows, together):
        count = min(together, rows - first)
        vectors = []
        for r in range(first, first + power_of_two_above(count)):
            row = sums[r * columns : (r + 1) * columns] if r < rows else []
            vectors += row + [zero] * (wide - len(row))
        folded = _fold_lanes(e, vectors)
        for r in range(count):
            out.append(folded if len(vectors) == wide else _part(e, folded, r * wide, wide, scalar))
    return out


def _fold_lanes(e: Emitter, vectors: list[Register]) -> Register:
    """One vector of the sums over each vector's lanes; their number a power of two, at most the lanes."""
    lanes = lanes_of(vectors[0].type)
    group = lanes
    while len(vectors) > 1:
        vectors = [_add_halves(e, x, y, group) for x, y in zip(vectors[::2], vectors[1::2], strict=True)]
        group //= 2
    folded = vectors[0]
    while group > 1:
        folded = _add_halves(e, folded, None, group)
        group //= 2
    return folded


def _add_halves(e: Emitter, x: Register, y: Register | None, group: int) -> Register:
    """In every group of lanes, its first half plus its second; of x, followed by those of y."""
    scalar, lanes = scalar_of(x.type), lanes_of(x.type)
    total = lanes if y is None else 2 * lanes
    low = [start + i for start in range(0, total, group) for i in range(group // 2)]
    other = Register("poison", x.type) if y is None else y
    if len(low) == 1:
        parts = [e.assign(scalar, f"extractelement {x.typed}, i64 {i}") for i in (0, 1)]
        return e.binary("fadd", *parts)
    type = vector(scalar, len(low))
    halves = []
    for shift in (0, group // 2):
        picks = ", ".join(f"i32 {i + shift}" for i in low)
        halves.append(e.assign(type, f"shufflevector {x.typed}, {other.typed}, <{len(low)} x i32> <{picks}>"))
    return e.binary("fadd", *halves)


def _part(e: Emitter, x: Register, first: int, count: int, scalar: str) -> Register:
    if count == 1:
        return e.assign(scalar, f"extractelement {x.typed}, i64 {first}")
    picks = ", ".join(f"i32 {first + i}" for i in range(count))
    return e.assign(vector(scalar, count), f"shufflevector {x.typed}, {x.typed}, <{count} x i32> <{picks}>")
