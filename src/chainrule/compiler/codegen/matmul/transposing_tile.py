"""A tile of a matrix product whose columns lie along the summed axis: they become vectors across them as they are read.

For few rows: what is read once is not worth being packed first.
"""

from __future__ import annotations

from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.matmul.transpose import Column, at, lanes_on, offset, transposed_rows
from chainrule.compiler.plan.target import BYTES

Rows = tuple[Register, tuple[int, int], int]  # address, strides (row, term), and how many


def transposing_tile(
    e: Emitter, k: int, lanes: int, scalar: str, a: Rows, b: tuple[Register, int], columns: list[Column]
) -> list[Register]:
    """For each row of a the vectors of its sums, in the order of the terms; b's columns lie so far apart."""
    sums = [e.const(0.0, part.type) for part in columns] * a[2]
    with e.fold(k // lanes, sums) as state:
        start = e.binary("mul", state.index, e.const(lanes, "i64"))
        state.values = _block(e, start, lanes, lanes, scalar, a, b, columns, state.values)
    if k % lanes == 0:
        return state.values
    start = e.const(k - k % lanes, "i64")
    return _block(e, start, k % lanes, lanes, scalar, a, b, columns, state.values)


def _block(
    e: Emitter, start: Register, terms: int, lanes: int, scalar: str, a: Rows, b: tuple[Register, int],
    columns: list[Column], before: list[Register],
) -> list[Register]:  # fmt: skip
    """The sums with so many more terms, at most as many as a vector has lanes."""
    (left, strides, rows), sums = a, list(before)
    left, right = offset(e, left, start, strides[1], scalar), offset(e, b[0], start, 1, scalar)
    for c, part in enumerate(columns):
        numbers = range(part.first, part.first + lanes_on(part.type, part.mask))
        places = [at(e, right, number * b[1], scalar) for number in numbers]
        for term, values in enumerate(transposed_rows(e, places, terms, lanes, scalar)):
            for row in range(rows):
                factor = e.load(at(e, left, row * strides[0] + term * strides[1], scalar), scalar, BYTES[scalar])
                own = row * len(columns) + c
                sums[own] = e.fma(e.splat(factor, lanes), values, sums[own])
    return sums
