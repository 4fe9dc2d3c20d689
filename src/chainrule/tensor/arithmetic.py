"""Tensor's operators and functions of one element at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from chainrule import dtypes
from chainrule.dtypes import DType
from chainrule.errors import DtypeError
from chainrule.graph import who
from chainrule.ops import contraction
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import (
    Handle,
    Operand,
    apply,
    as_dtype_tensor,
    as_operand,
    common_dtype,
    elementwise,
)

if TYPE_CHECKING:
    from chainrule.tensor import Tensor


class Arithmetic(Handle):
    """Elementwise arithmetic, comparisons, logic and functions."""

    __slots__ = ()
    __hash__ = object.__hash__  # `==` compares elements, so identity is what hashes, as in PyTorch

    # -- operators ------------------------------------------------------------------------
    def __add__(self, other: Operand) -> Tensor:
        return elementwise(ew.add, self, other)

    def __radd__(self, other: Operand) -> Tensor:
        return elementwise(ew.add, other, self)

    def __sub__(self, other: Operand) -> Tensor:
        return elementwise(ew.sub, self, other)

    def __rsub__(self, other: Operand) -> Tensor:
        return elementwise(ew.sub, other, self)

    def __mul__(self, other: Operand) -> Tensor:
        return elementwise(ew.mul, self, other)

    def __rmul__(self, other: Operand) -> Tensor:
        return elementwise(ew.mul, other, self)

    def __truediv__(self, other: Operand) -> Tensor:
        return elementwise(ew.div, self, other)

    def __rtruediv__(self, other: Operand) -> Tensor:
        return elementwise(ew.div, other, self)

    def __floordiv__(self, other: Operand) -> Tensor:
        return elementwise(ew.floor_divide, self, other)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return elementwise(ew.floor_divide, other, self)

    def __mod__(self, other: Operand) -> Tensor:
        return elementwise(ew.remainder, self, other)

    def __rmod__(self, other: Operand) -> Tensor:
        return elementwise(ew.remainder, other, self)

    def __pow__(self, exponent: Operand) -> Tensor:
        return self.pow(exponent)

    def __rpow__(self, base: Operand) -> Tensor:
        return elementwise(ew.pow, base, self)

    def __neg__(self) -> Tensor:
        return apply(ew.neg, self)

    def __pos__(self) -> Tensor:
        return self  # type: ignore[return-value]

    def __abs__(self) -> Tensor:
        return self.abs()

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.matmul(other)

    def __rmatmul__(self, other: Operand) -> Tensor:
        left = as_operand(other, "matmul")
        return left.matmul(self) if isinstance(left, Arithmetic) else NotImplemented

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return elementwise(ew.eq, self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return elementwise(ew.ne, self, other)

    def __lt__(self, other: Operand) -> Tensor:
        return elementwise(ew.lt, self, other)

    def __le__(self, other: Operand) -> Tensor:
        return elementwise(ew.le, self, other)

    def __gt__(self, other: Operand) -> Tensor:
        return elementwise(ew.gt, self, other)

    def __ge__(self, other: Operand) -> Tensor:
        return elementwise(ew.ge, self, other)

    def __and__(self, other: Operand) -> Tensor:
        return _bits(ew.bitwise_and, self, other)

    def __rand__(self, other: Operand) -> Tensor:
        return _bits(ew.bitwise_and, other, self)

    def __or__(self, other: Operand) -> Tensor:
        return _bits(ew.bitwise_or, self, other)

    def __ror__(self, other: Operand) -> Tensor:
        return _bits(ew.bitwise_or, other, self)

    def __xor__(self, other: Operand) -> Tensor:
        return _bits(ew.bitwise_xor, self, other)

    def __rxor__(self, other: Operand) -> Tensor:
        return _bits(ew.bitwise_xor, other, self)

    def __lshift__(self, other: Operand) -> Tensor:
        return _bits(ew.shift_left, self, other)

    def __rshift__(self, other: Operand) -> Tensor:
        return _bits(ew.shift_right, self, other)

    def __invert__(self) -> Tensor:
        _refuse_float("bitwise_not", self.dtype)
        return apply(ew.bitwise_not, self)

    def logical_and(self, other: Tensor) -> Tensor:
        return self.bool() & other.bool()

    def logical_or(self, other: Tensor) -> Tensor:
        return self.bool() | other.bool()

    def logical_xor(self, other: Tensor) -> Tensor:
        return self.bool() ^ other.bool()

    def logical_not(self) -> Tensor:
        return ~self.bool()

    # -- named forms ----------------------------------------------------------------------
    def add(self, other: Operand, *, alpha: float = 1) -> Tensor:
        return self + (other if alpha == 1 else other * alpha)

    def sub(self, other: Operand, *, alpha: float = 1) -> Tensor:
        return self - (other if alpha == 1 else other * alpha)

    def mul(self, other: Operand) -> Tensor:
        return self * other

    def div(self, other: Operand) -> Tensor:
        return self / other

    def eq(self, other: Operand) -> Tensor:
        return self == other

    def ne(self, other: Operand) -> Tensor:
        return self != other

    def lt(self, other: Operand) -> Tensor:
        return self < other

    def le(self, other: Operand) -> Tensor:
        return self <= other

    def gt(self, other: Operand) -> Tensor:
        return self > other

    def ge(self, other: Operand) -> Tensor:
        return self >= other

    def neg(self) -> Tensor:
        return -self

    def pow(self, exponent: Operand) -> Tensor:
        """Elementwise power; the exponents 0.5, 1, 2, 3 and -1 are their cheaper exact forms."""
        if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
            cheap = {1: lambda x: x + 0, 2: lambda x: x * x, 3: lambda x: x * x * x}
            if exponent in cheap:
                return cheap[exponent](self if self.dtype.is_floating_point or isinstance(exponent, int) else self * 1.0)
            if exponent == 0.5:
                return self.sqrt()
            if exponent == -1 and self.dtype.is_floating_point:
                return self.reciprocal()
        return elementwise(ew.pow, self, exponent)

    def abs(self) -> Tensor:
        return apply(ew.abs, self)

    def sign(self) -> Tensor:
        return apply(ew.sign, self)

    def floor(self) -> Tensor:
        return apply(ew.floor, self)

    def ceil(self) -> Tensor:
        return -(-self).floor()

    def round(self) -> Tensor:
        """To the nearest integer; halves go to the even one."""
        return apply(ew.round, self)

    def trunc(self) -> Tensor:
        return self.ceil().where(self < 0, self.floor())

    def exp(self) -> Tensor:
        return apply(ew.exp, self)

    def expm1(self) -> Tensor:
        return apply(ew.expm1, self)

    def log(self) -> Tensor:
        return apply(ew.log, self)

    def log1p(self) -> Tensor:
        return apply(ew.log1p, self)

    def log2(self) -> Tensor:
        return self.log() / math.log(2)

    def sqrt(self) -> Tensor:
        return apply(ew.sqrt, self)

    def rsqrt(self) -> Tensor:
        return apply(ew.rsqrt, self)

    def reciprocal(self) -> Tensor:
        return 1 / self

    def square(self) -> Tensor:
        return self * self

    def sin(self) -> Tensor:
        return apply(ew.sin, self)

    def cos(self) -> Tensor:
        return apply(ew.cos, self)

    def tanh(self) -> Tensor:
        return apply(ew.tanh, self)

    def sigmoid(self) -> Tensor:
        return apply(ew.sigmoid, self)

    def erf(self) -> Tensor:
        return apply(ew.erf, self)

    def relu(self) -> Tensor:
        return apply(ew.relu, self)

    # -- choosing and testing ---------------------------------------------------------------
    def maximum(self, other: Operand) -> Tensor:
        return elementwise(ew.maximum, self, other)

    def minimum(self, other: Operand) -> Tensor:
        return elementwise(ew.minimum, self, other)

    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> Tensor:
        """Held within [min, max]; at the bounds the gradient passes, as in PyTorch."""
        if min is None and max is None:
            raise ValueError("clamp: needs min, max or both, got neither. Give at least one bound.")
        result: Any = self
        if min is not None:
            result = elementwise_where(result < min, min, result)
        if max is not None:
            result = elementwise_where(result > max, max, result)
        tensor: Tensor = result
        return tensor

    clip = clamp

    def where(self, condition: Tensor, other: Operand) -> Tensor:
        """This tensor where `condition` holds, `other` elsewhere."""
        return elementwise_where(condition, self, other)

    def masked_fill(self, mask: Tensor, value: Operand) -> Tensor:
        """This tensor with `value` where `mask` holds."""
        value_in = value if isinstance(value, Handle) else as_dtype_tensor(as_operand(value, "masked_fill"), self.dtype)
        return elementwise_where(mask, value_in, self)

    def isnan(self) -> Tensor:
        return self != self

    def isinf(self) -> Tensor:
        return self.abs() == math.inf

    def isfinite(self) -> Tensor:
        return self.abs() < math.inf

    # -- dtype ------------------------------------------------------------------------------
    def to(self, dtype: Any) -> Tensor:
        """This tensor in another dtype (or in that of another tensor); itself where nothing changes."""
        target = dtype.dtype if isinstance(dtype, Handle) else dtypes.as_dtype(dtype)
        return self if target == self.dtype else apply(ew.cast, self, dtype=target)  # type: ignore[return-value]

    def type_as(self, other: Tensor) -> Tensor:
        return self.to(other.dtype)

    def float(self) -> Tensor:
        return self.to(dtypes.float32)

    def double(self) -> Tensor:
        return self.to(dtypes.float64)

    def int(self) -> Tensor:
        return self.to(dtypes.int32)

    def long(self) -> Tensor:
        return self.to(dtypes.int64)

    def bool(self) -> Tensor:
        return self.to(dtypes.bool_)

    def is_floating_point(self) -> Any:
        return self.dtype.is_floating_point

    # -- products ---------------------------------------------------------------------------
    def matmul(self, other: Operand) -> Tensor:
        """The matrix product, with PyTorch's treatment of vectors and batch axes."""
        right = as_operand(other, "matmul")
        if not isinstance(right, Handle) or not right.ndim or not self.ndim:
            raise DtypeError(
                f"{who('matmul')}: both factors must be tensors with at least one axis, got a number. "
                f"Use * to multiply by a number."
            )
        return _matmul(self, right)  # type: ignore[arg-type]

    mm = matmul

    def dot(self, other: Tensor) -> Tensor:
        return (self * other).sum()


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    if a.ndim == 1:
        return _matmul(a.unsqueeze(0), b).squeeze(-2 if b.ndim > 1 else 0)
    if b.ndim == 1:
        return _matmul(a, b.unsqueeze(1)).squeeze(-1)
    if a.ndim > 2 and b.ndim == 2:  # one product of many rows, rather than a batch of small ones
        return apply(contraction.matmul, a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    rank = max(a.ndim, b.ndim)
    pad_a, pad_b = (t.reshape((1,) * (rank - t.ndim) + t.shape) if t.ndim < rank else t for t in (a, b))
    return apply(contraction.matmul, pad_a, pad_b)


def elementwise_where(condition: Tensor, a: Operand, b: Operand) -> Tensor:
    """`a` where `condition` holds, `b` elsewhere, promoted to one dtype."""
    if condition.dtype != dtypes.bool_:
        raise DtypeError(
            f"{who('where')}: the condition must be bool, got {condition.dtype.name}. Compare it with something, "
            f"or convert it with .bool()."
        )
    values = [as_operand(a, "where"), as_operand(b, "where")]
    dtype = common_dtype(values)
    return apply(ew.where, condition, *(as_dtype_tensor(value, dtype) for value in values))


def _bits(op: Any, *operands: Any) -> Tensor:
    values = [as_operand(operand, op.name) for operand in operands]
    _refuse_float(op.name, common_dtype(values))
    return elementwise(op, *values)


def _refuse_float(name: str, dtype: DType) -> None:
    if dtype.is_floating_point:
        raise DtypeError(
            f"{who(name)}: works on integers and bool, got {dtype.name}. Compare first, or convert with .bool() or .long()."
        )
