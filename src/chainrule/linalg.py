"""``torch.linalg``'s names, as far as they are here: norms and products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule import graph
from chainrule.errors import SettingError, ShapeError
from chainrule.names import module_getattr
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given
from chainrule.tensor.functions import matmul as matmul
from chainrule.tensor.joining import chain_matmul


def vector_norm(x: Tensor, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """``(sum of |x|^ord)^(1/ord)`` along `dim`, or of all elements; see ``Tensor.norm``.

    >>> import chainrule as cr
    >>> cr.linalg.vector_norm(cr.tensor([[3.0], [-4.0]]))
    tensor(5.)
    """
    value = given(x, "linalg.vector_norm", "x")
    return (value if dtype is None else value.to(dtype)).norm(ord, dim, keepdim)


def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The norm of matrices: Frobenius's, or the largest (smallest) sum of sizes of a column (ord 1, -1) or row (inf, -inf).

    Raises:
        SettingError: a norm that takes singular values (2, -2, "nuc"), which are not here.
    """
    value = given(A, "linalg.matrix_norm", "A")
    value = value if dtype is None else value.to(dtype)
    if ord == "fro":
        return value.norm(2, tuple(dim), keepdim)
    if ord not in (1, -1, float("inf"), float("-inf")):
        raise SettingError(
            f"{graph.who('linalg.matrix_norm')}: ord must be 'fro', 1, -1, inf or -inf, got {ord!r}. Singular values are not "
            f"in chainrule."
        )
    rows, columns = (d % value.ndim for d in dim)
    summed, kept = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = value.abs().sum(summed, keepdim=True)
    found = sums.amax(kept, keepdim=True) if ord > 0 else sums.amin(kept, keepdim=True)
    return found if keepdim else found.squeeze((rows, columns))


def norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """`matrix_norm` where `ord` is given for two axes, else `vector_norm`.

    Raises:
        ShapeError: an `ord` without `dim` for a tensor that is neither a vector nor a matrix.

    >>> import chainrule as cr
    >>> cr.linalg.norm(cr.tensor([3.0, 4.0])), cr.linalg.norm(cr.tensor([[1.0, -2.0], [3.0, 4.0]]), 1)
    (tensor(5.), tensor(6.))
    """
    value = given(A, "linalg.norm", "A")
    if ord is not None and dim is None and value.ndim not in (1, 2):
        raise ShapeError(
            f"{graph.who('linalg.norm')}: without dim, ord is the norm of a vector or of a matrix, got shape {value.shape}. "
            f"Name one axis or two by dim, or use linalg.vector_norm for all elements."
        )
    axes = dim if dim is not None else tuple(range(value.ndim))
    if ord is not None and (isinstance(ord, str) or (isinstance(axes, (tuple, list)) and len(axes) == 2)):
        return matrix_norm(value, ord, axes, keepdim, dtype=dtype)
    return vector_norm(value, 2 if ord is None else ord, dim, keepdim, dtype=dtype)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The inner products along `dim`."""
    return (given(x, "linalg.vecdot", "x") * given(y, "linalg.vecdot", "y")).sum(dim)


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross products of vectors of 3 along `dim`: the last axis, where ``cr.cross`` takes the first one of size 3.

    >>> import chainrule as cr
    >>> cr.linalg.cross(cr.tensor([1.0, 0.0, 0.0]), cr.tensor([0.0, 1.0, 0.0]))
    tensor([0., 0., 1.])
    """
    return given(input, "linalg.cross").cross(other, dim)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonals of the last two axes, where ``cr.diagonal`` takes the first two; a view, as that is.

    >>> import chainrule as cr
    >>> cr.linalg.diagonal(cr.arange(8).reshape(2, 2, 2))
    tensor([[0, 3],
            [4, 7]])
    """
    return given(A, "linalg.diagonal", "A").diagonal(offset, dim1, dim2)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of the matrices, from the left."""
    return chain_matmul(*tensors)


__getattr__ = module_getattr("linalg", __name__)
