"""In which order a kernel adds: what reproduces a sum bit for bit outside the program.

The shape alone decides how the terms of an output element are added; where they lie, the tile, the thread and the
machine do not. `summation_of` reads what stands in the kernel, and `Summation.total` is the scalar reference of what
is written for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from chainrule.compiler.plan.vectorize import lanes_of_product, lanes_of_sum
from chainrule.compiler.schedule.kernels import Dot, Kernel, Reduce, RowFolds
from chainrule.ops import indexing, reduction
from chainrule.ops.halves import leaves, total

Scalar = Any  # a NumPy float32 or float64


@dataclass(frozen=True)
class Summation:
    """How the terms of one sum are added.

    Lane i of `lanes` adds the terms i, i + lanes, ... from zero on, and the lanes are then added in halves. `fused`:
    a product and its addition are rounded once. `count` is how many there are; None where that is data. `rows`: the
    terms are those of so many rows of a batch, which are so added leaf by leaf, and the leaves as `ops.halves` says.
    """

    count: int | None
    lanes: int = 1
    fused: bool = False
    rows: int | None = None

    def __str__(self) -> str:
        how = "one after the other" if self.lanes == 1 else f"in {self.lanes} lanes, which are then added in halves"
        if self.rows is not None:
            how += f", {len(leaves(self.rows))} parts of the {self.rows} rows each for itself, and then two and two of these"
        return f"{how}, {'each product and addition rounded once' if self.fused else 'each addition rounded'}"

    def total(self, a: Sequence[Scalar], b: Sequence[Scalar]) -> Scalar:
        """The sum of the products a[l] b[l], with the bits that the kernel gives it."""
        with np.errstate(all="ignore"):
            if self.rows is None:
                return self._total(a, b)
            each = len(a) // self.rows  # terms of a row
            return total(
                leaves(self.rows), lambda i, j: self._total(a[i * each : j * each], b[i * each : j * each]), _added
            )

    def _total(self, a: Sequence[Scalar], b: Sequence[Scalar]) -> Scalar:
        sums = [a[0].dtype.type(0)] * self.lanes
        for l in range(len(a)):  # noqa: E741 - the summed index of a product
            lane = l % self.lanes
            x, y = _flushed(a[l]), _flushed(b[l])
            sums[lane] = fma(x, y, sums[lane]) if self.fused else _flushed(sums[lane] + _flushed(x * y))
        while len(sums) > 1:
            half = len(sums) // 2
            sums = [_added(x, y) for x, y in zip(sums[:half], sums[half:], strict=True)]
        return sums[0]


def summation_of(kernel: Kernel, stage: int | None = None) -> Summation | None:
    """The order of the sum at a kernel's core, for any element of its result; None where it has none.

    Args:
        stage: which of the folds, where the kernel has several over each row.
    """
    core = kernel.core
    if kernel.stores[0].combine is indexing.put_add:
        return Summation(None)
    if isinstance(core, RowFolds):
        core = core.stages[stage or 0]
    if isinstance(core, Dot):
        return Summation(core.terms, lanes_of_product(core), fused=True, rows=core.k.size if core.halved else None)
    if isinstance(core, Reduce) and core.op is reduction.sum:
        return _of_reduction(core)
    return None


def _of_reduction(core: Reduce) -> Summation | None:
    lanes = lanes_of_sum(core)
    rows = core.halved.size if core.halved is not None else None
    return None if lanes > 1 and len(core.dims) > 1 else Summation(core.elements, lanes, rows=rows)


def _added(x: Scalar, y: Scalar) -> Scalar:
    return _flushed(x + y)


def fma(x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z, rounded once; denormals are zero, as in a compiled program.

    A product of two float32 is exact in float64; its sum with z is rounded to odd there, and so rightly once more
    (Boldo, Melquiond, "Emulation of FMA and correctly rounded sums", IEEE Transactions on Computers, 2008).
    """
    kind = type(x)
    if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
        with np.errstate(all="ignore"):
            return kind(x * y + z)
    if kind is np.float32:
        product, term = float(x) * float(y), float(z)
        total = product + term
        other = total - product
        error = (product - (total - other)) + (term - other)
        if error and not np.float64(total).view(np.int64) & 1:
            total = float(np.nextafter(total, np.inf if error > 0 else -np.inf))
        return _flushed(np.float32(total))
    exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
    return _flushed(kind(float(exact))) if exact else kind(x * y + z)


def _flushed(x: Scalar) -> Scalar:
    """Zero of the same sign for a denormal."""
    return np.copysign(type(x)(0), x) if abs(x) < np.finfo(type(x)).tiny else x
