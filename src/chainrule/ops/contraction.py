"""Products summed over shared axes."""

from __future__ import annotations

import numpy as np

from chainrule.errors import DtypeError
from chainrule.graph import Node, Op, Type, shape_error, who
from chainrule.ops.elementwise import broadcast_shapes


def _infer_matmul(a: Node, b: Node) -> Type:
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


# Y[..., m, n] = sum over k of a[..., m, k] * b[..., k, n]; the batch axes in front broadcast.
matmul = Op(
    "matmul", "contraction", _infer_matmul,
    numpy=np.matmul,
    vjp=(lambda dY, Y, a, b: dY @ b.mT, lambda dY, Y, a, b: a.mT @ dY),
)  # fmt: skip

LONG = 16  # terms from which on an element of one column is summed in lanes


def in_lanes(n: int, k: int) -> bool:
    """Is each element of a product (..., m, k) @ (..., k, n) summed in lanes along k, rather than term by term in order?

    Of the shape alone, so that a product has the same bits wherever its factors lie and whoever computes it. Not of m:
    what a network says of one row does not depend on the rows beside it. With several columns a vector holds elements
    of C, each in order; a single column has nothing else to fill one than the terms of its sums.
    """
    return n == 1 and k >= LONG


OPS = [matmul]
