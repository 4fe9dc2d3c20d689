"""Functions of several tensors that are no methods: stacks, grids, products along named axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.errors import SettingError, ShapeError
from chainrule.names import takes_keywords
from chainrule.ops.elementwise import broadcast_shapes as broadcast
from chainrule.tensor.core import Handle, axis, integer, number
from chainrule.tensor.creation import given, tensor, zeros
from chainrule.tensor.functions import cat, stack
from chainrule.tensor.ordering import among, searched
from chainrule.tensor.tensor import Tensor

Tensors = Sequence[Tensor]


def _all(tensors: Any, name: str) -> list[Tensor]:
    """``f(a, b)`` and ``f([a, b])`` alike."""
    listed = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    return [given(t, name, "each of the tensors") for t in listed]


# -- at least so many axes, and stacks ---------------------------------------------------------------------------


def _grown(value: Any, name: str, rank: int) -> Tensor:
    x = given(value, name)
    if x.ndim < 1:
        x = x.reshape(1)
    if rank > 1 and x.ndim < 2:
        x = x.unsqueeze(0)
    return x.unsqueeze(-1) if rank > 2 and x.ndim < 3 else x


def _each_grown(name: str, tensors: Any, rank: int) -> Any:
    if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
        return _grown(tensors[0], name, rank)
    listed = tensors[0] if len(tensors) == 1 else tensors
    return tuple(_grown(x, name, rank) for x in listed)


def atleast_1d(*tensors: Any) -> Any:
    """The tensor (or each of several) with one axis at least."""
    return _each_grown("atleast_1d", tensors, 1)


def atleast_2d(*tensors: Any) -> Any:
    """The tensor (or each of several) with two axes at least, new ones in front."""
    return _each_grown("atleast_2d", tensors, 2)


def atleast_3d(*tensors: Any) -> Any:
    """The tensor (or each of several) with three axes at least, the third behind."""
    return _each_grown("atleast_3d", tensors, 3)


@takes_keywords("torch")
def hstack(tensors: Tensors) -> Tensor:
    """The tensors side by side: along axis 1, of vectors 0."""
    parts = [_grown(t, "hstack", 1) for t in tensors]
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


@takes_keywords("torch")
def vstack(tensors: Tensors) -> Tensor:
    """The tensors below each other, vectors as rows.

    >>> import chainrule as cr
    >>> cr.vstack([cr.zeros(2), cr.ones(2)])
    tensor([[0., 0.],
            [1., 1.]])
    """
    return cat([_grown(t, "vstack", 2) for t in tensors], 0)


row_stack = vstack


@takes_keywords("torch")
def dstack(tensors: Tensors) -> Tensor:
    """The tensors behind each other, along axis 2."""
    return cat([_grown(t, "dstack", 3) for t in tensors], 2)


@takes_keywords("torch")
def column_stack(tensors: Tensors) -> Tensor:
    """The tensors side by side, vectors as columns.

    >>> import chainrule as cr
    >>> cr.column_stack([cr.tensor([1, 2]), cr.tensor([3, 4])])
    tensor([[1, 3],
            [2, 4]])
    """
    parts = [given(t, "column_stack", "each of the tensors") for t in tensors]
    return cat([t.reshape((-1, 1)) if t.ndim < 2 else t for t in parts], 1)


def block_diag(*tensors: Tensor) -> Tensor:
    """The matrices along the diagonal of one, zeros elsewhere."""
    parts = [_grown(t, "block_diag", 2) for t in tensors]
    width, column, rows = sum(t.shape[1] for t in parts), 0, []
    for part in parts:
        rows.append(part._pad((0, column), (0, width - column - part.shape[1]), (0, 0)))
        column += part.shape[1]
    return cat(rows, 0) if rows else zeros(1, 0)


# -- grids -----------------------------------------------------------------------------------------------------------


def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in their common shape."""
    parts = _all(tensors, "broadcast_tensors")
    shape = broadcast("broadcast_tensors", *(t.shape for t in parts)) if parts else ()
    return tuple(t.expand(shape) for t in parts)


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The common shape of tensors of these shapes.

    >>> import chainrule as cr
    >>> cr.broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    return broadcast("broadcast_shapes", *((s,) if isinstance(s, int) else tuple(s) for s in shapes))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid: tensor i of the results changes along axis i only, with the numbers of vector i.

    Args:
        tensors: vectors, one for each axis.
        indexing: ``"ij"``, or ``"xy"``, which exchanges the first two axes.

    >>> import chainrule as cr
    >>> cr.meshgrid(cr.arange(2), cr.arange(3), indexing="ij")[0]
    tensor([[0, 0, 0],
            [1, 1, 1]])
    """
    parts = [_grown(t, "meshgrid", 1) for t in _all(tensors, "meshgrid")]
    if indexing not in ("ij", "xy"):
        raise SettingError(f"{graph.who('meshgrid')}: indexing must be 'ij' or 'xy', got {indexing!r}.")
    odd = next((t for t in parts if t.ndim != 1), None)
    if odd is not None:
        raise ShapeError(f"{graph.who('meshgrid')}: needs vectors, got shape {odd.shape}. Flatten it.")
    swapped = indexing == "xy" and len(parts) > 1
    parts = [parts[1], parts[0], *parts[2:]] if swapped else parts
    shape = tuple(t.shape[0] for t in parts)
    grid = [t.reshape(tuple(-1 if a == i else 1 for a in range(len(parts)))).expand(shape) for i, t in enumerate(parts)]
    return (grid[1], grid[0], *grid[2:]) if swapped else tuple(grid)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Every choice of an element from each of the vectors, a row for each."""
    parts = _all(tensors, "cartesian_prod")
    if len(parts) == 1:
        return parts[0]
    return stack([t.reshape(-1) for t in meshgrid(*parts, indexing="ij")], 1)


@takes_keywords("torch")
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Every choice of `r` elements of a vector, in order, a row for each."""
    x, count = given(input, "combinations"), integer(r, "combinations", "r")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = np.array(list(choose(range(x.shape[0]), count)), np.int64).reshape(-1, count)
    return x[tensor(chosen)]


@takes_keywords("torch")
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Where the elements of a lower triangle are: their rows, and their columns."""
    return tensor(np.stack(np.tril_indices(row, offset, col)), dtype or dtypes.int64, device=device)


@takes_keywords("torch")
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Where the elements of an upper triangle are: their rows, and their columns."""
    return tensor(np.stack(np.triu_indices(row, offset, col)), dtype or dtypes.int64, device=device)


@takes_keywords("torch")
def logspace(
    start: float, end: float, steps: int, base: float = 10.0, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`steps` powers of `base`, their exponents at equal distances from `start` to `end`."""
    low, high = number(start, "logspace", "start"), number(end, "logspace", "end")
    line = np.logspace(low, high, integer(steps, "logspace", "steps"), base=base)
    return tensor(line, dtype or dtypes.float32, requires_grad, device=device)


# -- sorted sequences ---------------------------------------------------------------------------------------------------


@takes_keywords("torch")
def searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None
) -> Tensor:
    """Where `input` would stand in sequences that are in order: in front of equal elements, or behind them.

    Args:
        sorted_sequence: a vector, or one along the last axis for each of the `input`'s.
        input: any shape; a number.
        out_int32: give int32.
        right: behind equal elements.
        side: ``"left"`` or ``"right"``, in place of `right`.

    >>> import chainrule as cr
    >>> cr.searchsorted(cr.tensor([1, 3, 5]), cr.tensor([3, 4]))
    tensor([1, 2])
    """
    if side not in (None, "left", "right"):
        raise SettingError(f"{graph.who('searchsorted')}: side must be 'left' or 'right', got {side!r}.")
    place = searched(given(sorted_sequence, "searchsorted"), input, right or side == "right", "searchsorted")
    return place.int() if out_int32 else place


@takes_keywords("torch")
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Which of `elements` stand among `test_elements`; NaN stands nowhere.

    Args:
        elements: any shape, which the result has; a number.
        test_elements: any shape; a number.
        assume_unique: accepted, and without effect.
        invert: which do not.

    >>> import chainrule as cr
    >>> cr.isin(cr.tensor([1, 2, 3]), cr.tensor([3, 1]))
    tensor([ True, False,  True])
    """
    found = among(elements, test_elements)
    return ~found if invert else found


@takes_keywords("torch")
def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """In which of the intervals between `boundaries` each element lies: 0 below the first.

    Args:
        input: any shape; a number.
        boundaries: a vector in order.
        out_int32: give int32.
        right: an element equal to a boundary lies above it.

    >>> import chainrule as cr
    >>> cr.bucketize(cr.tensor([0.5, 3.0]), cr.tensor([1.0, 3.0]))
    tensor([0, 1])
    """
    place = searched(given(boundaries, "bucketize", "boundaries"), input, right, "bucketize")
    return place.int() if out_int32 else place


# -- products ----------------------------------------------------------------------------------------------------------


@takes_keywords("torch")
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """The sum of products over axes of both: the last `dims` of one and the first of the other, or two lists of axes."""
    a, b = given(a, "tensordot", "a"), given(b, "tensordot", "b")
    if isinstance(dims, Handle):
        dims = dims.tolist()
    if isinstance(dims, int):
        dims = (range(a.ndim - dims, a.ndim), range(dims))
    left, right = ([axis("tensordot", d, t.ndim) for d in given_] for t, given_ in zip((a, b), dims, strict=True))
    if [a.shape[d] for d in left] != [b.shape[d] for d in right]:
        raise graph.shape_error(
            "tensordot",
            "the axes must have equal sizes",
            f"{a.shape} along {left} and {b.shape} along {right}",
            "Reorder them.",
        )
    rest = [d for d in range(a.ndim) if d not in left], [d for d in range(b.ndim) if d not in right]
    size = math.prod(a.shape[d] for d in left)
    rows = (
        a.permute((*rest[0], *left)).reshape((-1, size))
        if size
        else a.new_zeros(math.prod(a.shape[d] for d in rest[0]), 0)
    )
    columns = (
        b.permute((*right, *rest[1])).reshape((size, -1))
        if size
        else b.new_zeros(0, math.prod(b.shape[d] for d in rest[1]))
    )
    return (rows @ columns).reshape((*(a.shape[d] for d in rest[0]), *(b.shape[d] for d in rest[1])))


@takes_keywords("torch")
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The p-norm of each row of `x1` minus each row of `x2`: (..., P, M) and (..., R, M) to (..., P, R)."""
    a, b = given(x1, "cdist", "x1"), given(x2, "cdist", "x2")
    return (a.unsqueeze(-2) - b.unsqueeze(-3)).norm(p, -1)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of the matrices, from the left."""
    first, *rest = _all(matrices, "chain_matmul")
    for matrix in rest:
        first = first @ matrix
    return first


@takes_keywords("torch")
def cov(input: Tensor, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Tensor:
    """The covariances of the rows of a matrix.

    Raises:
        SettingError: weights, which are not there.
    """
    if fweights is not None or aweights is not None:
        raise SettingError("cov: fweights and aweights must be left out; weights are not in chainrule.")
    x = given(input, "cov")
    x = x.reshape((1, -1)) if x.ndim < 2 else x
    centred = x - x.mean(1, keepdim=True)
    found = centred @ centred.t() / (x.shape[1] - correction)
    return found.reshape(()) if found.shape == (1, 1) else found


@takes_keywords("torch")
def corrcoef(input: Tensor) -> Tensor:
    """The correlations of the rows of a matrix, in [-1, 1]."""
    found = cov(input)
    if not found.ndim:
        return found / found
    spread = found.diagonal().sqrt()
    return (found / spread.unsqueeze(1) / spread).clamp(-1, 1)


@takes_keywords("torch")
def var_mean(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """``(var, mean)`` along `dim`; arguments as of ``Tensor.var``."""
    x = given(input, "var_mean")
    return x.var(dim, unbiased, keepdim, correction=correction), x.mean(dim, keepdim)


@takes_keywords("torch")
def std_mean(
    input: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """``(std, mean)`` along `dim`; arguments as of ``Tensor.std``."""
    x = given(input, "std_mean")
    return x.std(dim, unbiased, keepdim, correction=correction), x.mean(dim, keepdim)


@takes_keywords("torch")
def scalar_tensor(s: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A number as a tensor without axes, float32 unless said otherwise."""
    return tensor(s, dtype or dtypes.float32, requires_grad, device=device)
