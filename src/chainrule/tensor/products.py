"""Tensor's products summed over shared axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule import dtypes
from chainrule.errors import DtypeError
from chainrule.graph import shape_error, who
from chainrule.ops import contraction, convolution
from chainrule.ops.elementwise import broadcast_shapes
from chainrule.ops.halves import halved
from chainrule.tensor.core import Handle, Operand, apply, axis
from chainrule.tensor.creation import given
from chainrule.tensor.operands import as_operand, check_written
from chainrule.tensor.special import Special
from chainrule.tensor.whole import whole

if TYPE_CHECKING:
    from chainrule.tensor import Tensor


class Products(Special):
    """The matrix product and its kin."""

    __slots__ = ()

    def __matmul__(self, other: Operand) -> Tensor:
        return self.matmul(other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        return _factor(other)._tensor.matmul(self._tensor)

    def matmul(self, other: Operand) -> Tensor:
        """The matrix product, out[..., m, n] = sum over k of x[..., m, k] * other[..., k, n].

        A factor with one axis is a row on the left and a column on the right; batch axes in front broadcast.

        Raises:
            ShapeError: the inner sizes differ.
            DtypeError: the dtypes differ, or a factor is a number.

        >>> import chainrule as cr
        >>> cr.tensor([[1.0, 2.0]]) @ cr.tensor([[3.0], [4.0]])
        tensor([[11.]])
        """
        if isinstance(other, Handle):
            a, b = self._node, other._node
            if len(a.shape) == 2 == len(b.shape) and a.dtype is b.dtype is not dtypes.bool_:
                return apply(contraction.matmul, self, other)
        return _matmul(_factor(self)._tensor, _factor(other)._tensor)

    def _matmul_over_rows(self, other: Tensor) -> Tensor:
        """The matrix product whose inner axis are the rows of its factor: many add up in halves (`ops.halves`).

        Of two axes, the rows are the batch; of more, the batch is an axis in front, and a sum over it comes later.
        """
        batch = self.ndim == 2 and halved(self.shape[-1])
        return apply(contraction.matmul, self, other, rows=True) if batch else self @ other

    def mm(self, mat2: Tensor) -> Tensor:
        """The product of two matrices."""
        mat2 = given(mat2, "mm", "mat2")
        return _of_rank("mm", 2, self, mat2).matmul(mat2)

    def bmm(self, mat2: Tensor) -> Tensor:
        """The products of two batches of matrices, (B, m, k) @ (B, k, n)."""
        mat2 = given(mat2, "bmm", "mat2")
        if self.shape[:1] != mat2.shape[:1]:
            raise shape_error(
                "bmm", "both batches must have one size", f"{self.shape} and {mat2.shape}", "Use @ to broadcast."
            )
        return _of_rank("bmm", 3, self, mat2).matmul(mat2)

    def dot(self, tensor: Tensor) -> Tensor:
        """The inner product of two vectors.

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 2.0]).dot(cr.tensor([3.0, 4.0]))
        tensor(11.)
        """
        tensor = given(tensor, "dot", "tensor")
        if self.ndim != 1 or tensor.shape != self.shape:
            raise shape_error(
                "dot", "the factors must be vectors of one size", f"{self.shape} and {tensor.shape}",
                "Use @ for matrices.",
            )  # fmt: skip
        return self.matmul(tensor)

    def outer(self, vec2: Tensor) -> Tensor:
        """Every product of an element of one vector with an element of another, (m,) and (n,) to (m, n).

        >>> import chainrule as cr
        >>> cr.tensor([1, 2]).outer(cr.tensor([3, 4]))
        tensor([[3, 4],
                [6, 8]])
        """
        vec2 = given(vec2, "outer", "vec2")
        return _of_rank("outer", 1, self, vec2).unsqueeze(1) * vec2

    def mv(self, vec: Tensor) -> Tensor:
        """The product of a matrix and a vector."""
        vec = given(vec, "mv", "vec")
        if self.ndim != 2 or vec.ndim != 1:
            raise shape_error(
                "mv",
                "the factors must be a matrix and a vector",
                f"{self.shape} and {vec.shape}",
                "Use @, which takes any.",
            )
        return self.matmul(vec)

    def inner(self, other: Tensor) -> Tensor:
        """The sums of products along the last axis of both, one for each pair of what lies before."""
        other = given(other, "inner", "other")
        if not self.ndim or not other.ndim:
            return self * other
        if self.shape[-1] != other.shape[-1]:
            raise shape_error(
                "inner",
                "both must have one size along the last axis",
                f"{self.shape} and {other.shape}",
                "Reshape one.",
            )
        rows = self._tensor.reshape((-1, self.shape[-1])) @ other.reshape((-1, other.shape[-1])).t()
        return rows.reshape((*self.shape[:-1], *other.shape[:-1]))

    def addmm(self, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * x + alpha * (mat1 @ mat2)."""
        return _added(self._tensor, given(mat1, "addmm", "mat1").mm(mat2), beta, alpha)

    def addmv(self, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * x + alpha * (mat @ vec)."""
        return _added(self._tensor, given(mat, "addmv", "mat").mv(vec), beta, alpha)

    def addr(self, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * x + alpha * (vec1 outer vec2)."""
        return _added(self._tensor, given(vec1, "addr", "vec1").outer(vec2), beta, alpha)

    def baddbmm(self, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * x + alpha * (batch1 @ batch2), of batches of matrices."""
        return _added(self._tensor, given(batch1, "baddbmm", "batch1").bmm(batch2), beta, alpha)

    def addbmm(self, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        """beta * x + alpha * the sum of the products of two batches of matrices."""
        return _added(self._tensor, given(batch1, "addbmm", "batch1").bmm(batch2).sum(0), beta, alpha)

    def vdot(self, other: Tensor) -> Tensor:
        """The inner product of two vectors."""
        return self.dot(other)

    def ger(self, vec2: Tensor) -> Tensor:
        """`outer`."""
        return self.outer(vec2)

    def kron(self, other: Tensor) -> Tensor:
        """Every element times the whole of `other`, laid out as blocks.

        >>> import chainrule as cr
        >>> cr.tensor([1, 2]).kron(cr.tensor([1, 10]))
        tensor([ 1, 10,  2, 20])
        """
        other = given(other, "kron", "other")
        rank = max(self.ndim, other.ndim)
        a, b = ((1,) * (rank - t.ndim) + t.shape for t in (self, other))
        left = self._tensor.reshape(tuple(size for s in a for size in (s, 1)))
        right = other.reshape(tuple(size for s in b for size in (1, s)))
        return (left * right).reshape(tuple(m * n for m, n in zip(a, b, strict=True)))

    def cross(self, other: Tensor, dim: int | None = None) -> Tensor:
        """The cross product of vectors of 3 along `dim` (the first axis of size 3 if left out)."""
        other = given(other, "cross", "other")
        shape = broadcast_shapes("cross", self.shape, other.shape)
        at = axis("cross", dim, len(shape)) if dim is not None else next((a for a, s in enumerate(shape) if s == 3), 0)
        if not shape or shape[at] != 3:
            raise shape_error(
                "cross", "the vectors must be of 3 elements", f"{self.shape} and {other.shape}", "Name the axis."
            )
        a, b = self._tensor.expand(shape), other.expand(shape)
        turned = (a.roll(-1, at) * b.roll(1, at)) - (a.roll(1, at) * b.roll(-1, at))
        return turned

    def _conv(self, weight: Tensor, stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
        """The primitive's own form: groups first, channels last (`ops.convolution`)."""
        return apply(convolution.conv, self, weight, stride=stride, dilation=dilation)


def _added(x: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    check_written(alpha, product.dtype, "addmm")
    check_written(beta, x.dtype, "addmm")
    scaled = product if alpha == 1 else product * alpha
    if beta == 0:
        return scaled.expand(broadcast_shapes("addmm", x.shape, scaled.shape))
    return (x if beta == 1 else x * beta) + scaled


def _of_rank(name: str, rank: int, a: Handle, b: Handle) -> Tensor:
    """`a`, if both factors have `rank` axes."""
    if not a.ndim == b.ndim == rank:
        raise shape_error(
            name, f"both factors must have {rank} ax{'i' if rank == 1 else 'e'}s", f"{a.shape} and {b.shape}",
            "Reshape them, or use @, which takes any number of axes.",
        )  # fmt: skip
    return a._tensor


def _factor(value: Operand | Handle) -> Handle:
    factor = as_operand(value, "matmul")
    if not isinstance(factor, Handle) or not factor.ndim:
        raise DtypeError(
            f"{who('matmul')}: both factors must be tensors with at least one axis, got a number. "
            f"Use * to multiply by a number."
        )
    if factor.dtype is dtypes.bool_:
        raise DtypeError(
            f"{who('matmul')}: the factors must be numbers, got bool. Convert them with .int() or .float()."
        )
    return factor


@whole
def _matmul(a: Tensor, b: Tensor) -> Tensor:
    if a.ndim == 1:
        product = _matmul(a._copied((1, *a.shape)), b)
        return product._copied((*product.shape[:-2], product.shape[-1]) if b.ndim > 1 else ())
    if b.ndim == 1:
        product = _matmul(a, b._copied((*b.shape, 1)))
        return product._copied(product.shape[:-1])
    if a.ndim > 2 and b.ndim == 2 and a.shape[-1] == b.shape[0]:
        # One product of many rows, rather than a batch of small ones.
        rows = a.flatten(0, -2)
        return apply(contraction.matmul, rows, b)._copied((*a.shape[:-1], b.shape[-1]))
    rank = max(a.ndim, b.ndim)
    return apply(contraction.matmul, _with_batch_axes(a, rank), _with_batch_axes(b, rank))


def _with_batch_axes(t: Tensor, rank: int) -> Tensor:
    return t if t.ndim == rank else t.reshape((1,) * (rank - t.ndim) + t.shape)
