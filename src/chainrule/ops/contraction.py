"""Products summed over shared axes."""

from __future__ import annotations

import numpy as np

from chainrule.errors import DtypeError
from chainrule.graph import Node, Op, Type, shape_error, who
from chainrule.ops.elementwise import broadcast_shapes
from chainrule.ops.halves import halved


def _infer_matmul(a: Node, b: Node, *, rows: bool = False) -> Type:
    if a.dtype != b.dtype:
        raise DtypeError(
            f"{who('matmul')}: both factors must have one dtype, got {a.dtype.name} and {b.dtype.name}. "
            f"Convert one with .to(dtype)."
        )
    if a.shape[-1] != b.shape[-2]:
        raise shape_error(
            "matmul", "the inner sizes must be equal", f"{a.shape} @ {b.shape}",
            "Transpose one factor (.mT), or check the number of features.",
        )  # fmt: skip
    batch = broadcast_shapes("matmul (batch axes)", a.shape[:-2], b.shape[:-2])
    return Type((*batch, a.shape[-2], b.shape[-1]), a.dtype)


# Y[..., m, n] = sum over k of a[..., m, k] * b[..., k, n]; the batch axes in front broadcast. `rows`: k are the rows of
# a batch, whose halves add up by themselves. The gradient of b is such a sum, over the rows of a and Y, if no axis is in front.
matmul = Op(
    "matmul", "contraction", _infer_matmul,
    numpy=lambda a, b, rows=False: np.matmul(a, b),  # in NumPy's own order, as all that it adds up
    vjp=(lambda dY, Y, a, b, rows=False: dY @ b.mT, lambda dY, Y, a, b, rows=False: a.mT._matmul_over_rows(dY)),
)  # fmt: skip


def in_halves(k: int, rows: bool = False) -> bool:
    """Are the terms of a product added up in halves, see `ops.halves`? Where they are the rows of a batch, and enough."""
    return rows and halved(k)


LONG = 16  # terms from which on an element of one column is summed in lanes


def in_lanes(n: int, k: int) -> bool:
    """Is each element of a product (..., m, k) @ (..., k, n) summed in lanes along k, rather than term by term in order?

    Of the shape alone, so that a product has the same bits wherever its factors lie and whoever computes it. Not of m:
    what a network says of one row does not depend on the rows beside it. With several columns a vector holds elements
    of C, each in order; a single column has nothing else to fill one than the terms of its sums.
    """
    return n == 1 and k >= LONG


OPS = [matmul]
