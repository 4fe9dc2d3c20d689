"""Tensor's functions of one element at a time. Where the mathematics is floating-point, integers become float32."""

from __future__ import annotations

import builtins
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chainrule import dtypes
from chainrule.errors import DtypeError
from chainrule.graph import who
from chainrule.ops import elementwise as ew
from chainrule.tensor.arithmetic import Arithmetic
from chainrule.tensor.core import Handle, Operand, apply, apply_several, integer, scalar
from chainrule.tensor.creation import given
from chainrule.tensor.operands import as_dtype_tensor, as_operand, as_written, check_written, common_dtype, elementwise
from chainrule.tensor.rounding import in_float32
from chainrule.tensor.whole import whole

if TYPE_CHECKING:
    from chainrule.tensor import Tensor


class Frexp(NamedTuple):
    """What ``frexp`` gives."""

    mantissa: Tensor
    exponent: Tensor


class Pointwise(Arithmetic):
    """Elementary functions, choices and tests, element by element."""

    __slots__ = ()

    def abs(self) -> Tensor:
        """|x|; the derivative at 0 is 0."""
        return apply(ew.abs, self)

    absolute = abs

    def sign(self) -> Tensor:
        """-1, 0 or 1; 0 for NaN."""
        return apply(ew.sign, self)

    def floor(self) -> Tensor:
        """The largest whole number not above x."""
        return apply(ew.floor, self)

    def ceil(self) -> Tensor:
        """The smallest whole number not below x."""
        return -(-self).floor()

    def round(self, *, decimals: int = 0) -> Tensor:
        """The nearest number with so many decimals; halves go to the even one.

        >>> import chainrule as cr
        >>> cr.tensor([0.5, 1.5, -1.2]).round()
        tensor([ 0.,  2., -1.])
        """
        decimals = integer(decimals, "round", "decimals")
        if decimals and self._node.dtype.only_stores:
            return in_float32(Pointwise.round, self, decimals=decimals)
        if decimals and self.dtype.is_floating_point:
            shift = 10.0 ** abs(decimals)
            return (self * shift).round() / shift if decimals > 0 else (self / shift).round() * shift
        return apply(ew.round, self)

    def trunc(self) -> Tensor:
        """x without its fraction."""
        return self.ceil().where(self < 0, self.floor())

    def exp(self) -> Tensor:
        """e to the power x.

        >>> import chainrule as cr
        >>> cr.tensor([0.0, 1.0]).exp()
        tensor([1.0000, 2.7183])
        """
        return apply(ew.exp, self)

    def expm1(self) -> Tensor:
        """exp(x) - 1, exact for small x."""
        return apply(ew.expm1, self)

    def log(self) -> Tensor:
        """The natural logarithm: -inf at 0, NaN below.

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 0.0, -1.0]).log()
        tensor([  0., -inf,  nan])
        """
        return apply(ew.log, self)

    def log1p(self) -> Tensor:
        """log(1 + x), exact for small x."""
        return apply(ew.log1p, self)

    def log2(self) -> Tensor:
        """The logarithm to base 2."""
        return in_float32(Pointwise.log2, self) if self._node.dtype.only_stores else self.log() / math.log(2)

    def log10(self) -> Tensor:
        """The logarithm to base 10."""
        return in_float32(Pointwise.log10, self) if self._node.dtype.only_stores else self.log() / math.log(10)

    def sqrt(self) -> Tensor:
        """The square root; its derivative at 0 is infinite."""
        return apply(ew.sqrt, self)

    def rsqrt(self) -> Tensor:
        """1 / sqrt(x)."""
        return apply(ew.rsqrt, self)

    def sin(self) -> Tensor:
        """The sine of x in radians."""
        return apply(ew.sin, self)

    def cos(self) -> Tensor:
        """The cosine of x in radians."""
        return apply(ew.cos, self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent, (exp(2x) - 1) / (exp(2x) + 1)."""
        return apply(ew.tanh, self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-x)), without overflow."""
        return apply(ew.sigmoid, self)

    def erf(self) -> Tensor:
        """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
        return apply(ew.erf, self)

    def erfc(self) -> Tensor:
        """1 - erf(x), to the last digits where that is tiny.

        >>> import chainrule as cr
        >>> cr.tensor([0.0, 5.0]).erfc()
        tensor([1.0000e+00, 1.5375e-12])
        """
        return apply(ew.erfc, self)

    def frexp(self) -> Frexp:
        """``(mantissa, exponent)`` with x = mantissa * 2 ** exponent and 1/2 <= |mantissa| < 1, or 0.

        What is not finite is its own mantissa; the exponent, int32, has no gradient.

        Raises:
            DtypeError: not a floating-point tensor.

        >>> import chainrule as cr
        >>> cr.tensor([6.0, -0.25]).frexp()
        Frexp(mantissa=tensor([ 0.7500, -0.5000]), exponent=tensor([ 3, -1], dtype=chainrule.int32))
        """
        return Frexp(*apply_several(ew.frexp, self))

    def relu(self) -> Tensor:
        """max(x, 0); the derivative at 0 is 0."""
        return apply(ew.relu, self)

    # -- choosing and testing ---------------------------------------------------------------
    def maximum(self, other: Operand) -> Tensor:
        """The larger of two, or NaN where one is NaN; a tie shares the gradient equally. Of 0.0 and -0.0 the second.

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 5.0]).maximum(cr.tensor([3.0, 2.0]))
        tensor([3., 5.])
        """
        return elementwise(ew.maximum, self, other)

    def minimum(self, other: Operand) -> Tensor:
        """The smaller of two, or NaN where one is NaN; a tie shares the gradient equally."""
        return elementwise(ew.minimum, self, other)

    @whole
    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> Tensor:
        """min(max(x, min), max); at the bounds the gradient passes, as in PyTorch. A bound that is NaN gives NaN.

        Raises:
            ValueError: neither bound is given.
            DtypeError: integers, and an integer bound that does not fit their dtype.

        >>> import chainrule as cr
        >>> cr.tensor([-2.0, 0.5, 2.0]).clamp(-1, 1)
        tensor([-1.0000,  0.5000,  1.0000])
        """
        if min is None and max is None:
            raise ValueError(f"{who('clamp')}: needs min, max or both, got neither. Give at least one bound.")
        for bound in (min, max):
            check_written(bound, self._node.dtype, "clamp")
        result = self._tensor
        if min is not None:
            result = elementwise_where((result < min) | _nan(min), min, result)
        if max is not None:
            result = elementwise_where((result > max) | _nan(max), max, result)
        return result

    clip = clamp

    def clamp_min(self, min: Operand) -> Tensor:
        """max(x, min)."""
        return self.clamp(min=min)

    def clamp_max(self, max: Operand) -> Tensor:
        """min(x, max)."""
        return self.clamp(max=max)

    def where(self, condition: Tensor, other: Operand) -> Tensor:
        """This tensor where `condition` (bool) holds, `other` elsewhere."""
        return elementwise_where(condition, self._tensor, other)

    def masked_fill(self, mask: Tensor, value: Operand) -> Tensor:
        """This tensor, in its own dtype, with `value` where `mask` (bool) holds.

        >>> import chainrule as cr
        >>> x = cr.tensor([1.0, -2.0])
        >>> x.masked_fill(x < 0, 0)
        tensor([1., 0.])
        """
        filler = as_written(as_operand(value, "masked_fill"), self.dtype, "masked_fill")
        return elementwise_where(mask, filler, self._tensor)

    def isnan(self) -> Tensor:
        """True where x is not a number."""
        return self != self._tensor

    def isinf(self) -> Tensor:
        """True where x is infinite."""
        return self._magnitude() == math.inf

    def isfinite(self) -> Tensor:
        """True where x is neither infinite nor NaN."""
        return self._magnitude() < math.inf

    def isclose(self, other: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
        """True where ``|x - other| <= atol + rtol * |other|``, or both are the same infinity.

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 2.0]).isclose(cr.tensor([1.0 + 1e-7, 2.1]))
        tensor([ True, False])
        """
        there = given(other, "isclose", "other")
        if self.dtype == there.dtype == dtypes.bool_:
            return self == there
        if self.dtype.only_stores and there.dtype.only_stores:
            return in_float32(Pointwise.isclose, self, there, rtol, atol, equal_nan)
        near = ((self - there).abs() <= there.abs() * rtol + atol) & there.isfinite()
        close = (self == there) | near
        return close | (self.isnan() & there.isnan()) if equal_nan else close

    def allclose(
        self, other: Operand, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
    ) -> builtins.bool:
        """Whether `isclose` holds everywhere.

        >>> import chainrule as cr
        >>> cr.ones(2).allclose(cr.ones(2) * (1 + 1e-7))
        True
        """
        return builtins.bool(self.isclose(other, rtol, atol, equal_nan)._tensor.all())

    def equal(self, other: Tensor) -> builtins.bool:
        """Whether two tensors have one shape and equal elements."""
        other = given(other, "equal", "other")
        return self.shape == other.shape and builtins.bool((self == other).all())

    def _magnitude(self) -> Tensor:
        return self.float() if self.dtype == dtypes.bool_ else self.abs()


def _nan(bound: Operand) -> Any:
    """Whether a bound is not a number (False where it cannot be, so that no op is spent on it)."""
    if isinstance(bound, Handle):
        return bound._tensor.isnan() if bound.dtype.is_floating_point else False
    return np.isnan(bound) if isinstance(bound, np.ndarray) else bool(bound != bound)


def elementwise_where(condition: Tensor, a: Operand, b: Operand) -> Tensor:
    """`a` where `condition` holds, `b` elsewhere, promoted to one dtype."""
    condition = given(condition, "where", "condition")
    if condition.dtype is not dtypes.bool_:
        raise DtypeError(
            f"{who('where')}: the condition must be a bool tensor, got {condition.dtype.name}. Compare it with something, or convert "
            f"it with .bool()."
        )
    if isinstance(a, Handle):
        dtype = a._node.dtype
        if isinstance(b, Handle) and b._node.dtype is dtype:
            return apply(ew.where, condition, a, b)
        if type(b) in (int, float) and dtype.is_floating_point:
            return apply(ew.where, condition, a, scalar(b, dtype))  # type: ignore[arg-type]
    first, second = as_operand(a, "where"), as_operand(b, "where")
    dtype = common_dtype((first, second))
    for choice in (first, second):
        check_written(choice, dtype, "where")
    return apply(ew.where, condition, as_dtype_tensor(first, dtype), as_dtype_tensor(second, dtype))
