"""Tensor's operators, and their names.

Operands broadcast from the last axis backwards and promote as in PyTorch: a Python number or a tensor
without axes changes the dtype only where its category (bool, integer, floating) is higher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import dtypes
from chainrule.dtypes import DType
from chainrule.errors import DivisionByZeroError, DtypeError
from chainrule.graph import Op, tracing, who
from chainrule.ops import elementwise as ew
from chainrule.tensor.casting import Casting
from chainrule.tensor.core import Handle, Operand, apply, number, settled
from chainrule.tensor.creation import given
from chainrule.tensor.operands import as_dtype_tensor, as_operand, as_written, check_written, common_dtype, elementwise
from chainrule.tensor.ranges import check_fits
from chainrule.tensor.rounding import in_float32

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

_COMPARABLE = (Handle, bool, int, float, np.ndarray, np.generic)


class Arithmetic(Casting):
    """Elementwise arithmetic, comparisons and logic."""

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
        return _divided(ew.floor_divide, self, other)

    def __rfloordiv__(self, other: Operand) -> Tensor:
        return _divided(ew.floor_divide, other, self)

    def __mod__(self, other: Operand) -> Tensor:
        return _divided(ew.remainder, self, other)

    def __rmod__(self, other: Operand) -> Tensor:
        return _divided(ew.remainder, other, self)

    def __pow__(self, exponent: Operand) -> Tensor:
        return self.pow(exponent)

    def __rpow__(self, base: Operand) -> Tensor:
        return elementwise(ew.pow, base, self)

    def __neg__(self) -> Tensor:
        return apply(ew.neg, self)

    def __pos__(self) -> Tensor:
        return self._tensor

    def __abs__(self) -> Tensor:
        return apply(ew.abs, self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return elementwise(ew.eq, self, other) if isinstance(other, _COMPARABLE) else NotImplemented

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return elementwise(ew.ne, self, other) if isinstance(other, _COMPARABLE) else NotImplemented

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

    # -- named forms ----------------------------------------------------------------------
    def add(self, other: Operand, *, alpha: float = 1) -> Tensor:
        """x + alpha * other.

        >>> import chainrule as cr
        >>> cr.tensor([1, 2]).add(10, alpha=2)
        tensor([21, 22])
        """
        if alpha != 1 and self._node.dtype.only_stores:
            return in_float32(Arithmetic.add, self, other, alpha=alpha)
        return self + self._scaled(other, alpha, "add")

    def sub(self, other: Operand, *, alpha: float = 1) -> Tensor:
        """x - alpha * other."""
        if alpha != 1 and self._node.dtype.only_stores:
            return in_float32(Arithmetic.sub, self, other, alpha=alpha)
        return self - self._scaled(other, alpha, "sub")

    subtract = sub

    def _scaled(self, other: Operand, alpha: float, name: str) -> Operand:
        """alpha * other, in the dtype of the result."""
        alpha = number(alpha, name, "alpha")
        if alpha == 1:
            return other
        dtype = common_dtype([self, as_operand(other, name)])
        if isinstance(alpha, float) and not dtype.is_floating_point:
            raise DtypeError(
                f"{who(name)}: alpha must be an integer where the result is {dtype.name}, got {alpha}. Convert the "
                f"tensor with .float()."
            )
        return as_dtype_tensor(as_operand(other, name), dtype)._tensor * as_written(alpha, dtype, name)

    def mul(self, other: Operand) -> Tensor:
        """x * other."""
        return self * other

    multiply = mul

    def div(self, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
        """x / other; integers become float32. ``rounding_mode`` is None, ``"floor"`` or ``"trunc"``.

        >>> import chainrule as cr
        >>> cr.tensor([7, -7]).div(2), cr.tensor([7, -7]).div(2, rounding_mode="floor")
        (tensor([ 3.5000, -3.5000]), tensor([ 3, -4]))
        """
        if rounding_mode is None:
            return self / other
        if rounding_mode == "floor":
            return self // other
        if rounding_mode == "trunc":
            if common_dtype([self, as_operand(other, "div")]).is_floating_point:
                return (self / other).trunc()
            floor = self // other
            return floor + ((floor < 0) & (floor * other != self)).to(
                floor.dtype
            )  # exact, as a quotient of floats is not
        raise ValueError(f"{who('div')}: rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}.")

    true_divide = divide = div

    def floor_divide(self, other: Operand) -> Tensor:
        """The largest whole number not above x / other.

        Raises:
            DivisionByZeroError: an integer divided by 0.

        >>> import chainrule as cr
        >>> cr.tensor([7, -7]).floor_divide(2)
        tensor([ 3, -4])
        """
        return self // other

    def remainder(self, other: Operand) -> Tensor:
        """x - other * floor(x / other), of the sign of `other`.

        Raises:
            DivisionByZeroError: an integer divided by 0.

        >>> import chainrule as cr
        >>> cr.tensor([5, -5]).remainder(3)
        tensor([2, 1])
        """
        return self % other

    def neg(self) -> Tensor:
        """-x."""
        return -self

    negative = neg

    def pow(self, exponent: Operand) -> Tensor:
        """x to the power of `exponent`; the exponents 0.5, 1, 2, 3 and -1 take their cheaper exact forms.

        At a zero base the derivative to the exponent is 0, and at a zero exponent that to the base, as in
        PyTorch.

        Raises:
            ValueError: an integer tensor to a negative integer number, which would not be an integer.
            DtypeError: an integer tensor to an integer number that does not fit its dtype.

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 2.0, 3.0]) ** 2
        tensor([1., 4., 9.])
        """
        power = as_operand(exponent, "pow")
        if isinstance(power, (int, float)) and not isinstance(power, bool):
            cheap = _small_power(self._tensor, power)
            if cheap is not None:
                return cheap
        return elementwise(ew.pow, self, power)

    def square(self) -> Tensor:
        """x * x."""
        return self.pow(2)

    def reciprocal(self) -> Tensor:
        """1 / x."""
        return 1 / self

    def eq(self, other: Operand) -> Tensor:
        """x == other, as bool."""
        return self == other

    def ne(self, other: Operand) -> Tensor:
        """x != other, as bool."""
        return self != other

    def lt(self, other: Operand) -> Tensor:
        """x < other, as bool."""
        return self < other

    def le(self, other: Operand) -> Tensor:
        """x <= other, as bool."""
        return self <= other

    def gt(self, other: Operand) -> Tensor:
        """x > other, as bool."""
        return self > other

    def ge(self, other: Operand) -> Tensor:
        """x >= other, as bool."""
        return self >= other

    not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge

    def bitwise_and(self, other: Operand) -> Tensor:
        """The bits (of bool: the truth) that both have."""
        return self & other

    def bitwise_or(self, other: Operand) -> Tensor:
        """The bits (of bool: the truth) that one has."""
        return self | other

    def bitwise_xor(self, other: Operand) -> Tensor:
        """The bits (of bool: the truth) that exactly one has."""
        return self ^ other

    def bitwise_not(self) -> Tensor:
        """The bits (of bool: the truth) that it has not."""
        return ~self

    def logical_and(self, other: Tensor) -> Tensor:
        """True where both are not zero."""
        return self.bool() & given(other, "logical_and", "other").bool()

    def logical_or(self, other: Tensor) -> Tensor:
        """True where one is not zero."""
        return self.bool() | given(other, "logical_or", "other").bool()

    def logical_xor(self, other: Tensor) -> Tensor:
        """True where exactly one is not zero."""
        return self.bool() ^ given(other, "logical_xor", "other").bool()

    def logical_not(self) -> Tensor:
        """True where it is zero."""
        return ~self.bool()

    def addcmul(self, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
        """x + value * tensor1 * tensor2."""
        a, b = given(tensor1, "addcmul", "tensor1"), given(tensor2, "addcmul", "tensor2")
        if self._node.dtype.only_stores:
            return in_float32(Arithmetic.addcmul, self, a, b, value=value)
        product = a * b
        check_written(value, product.dtype, "addcmul")
        return self + (product if value == 1 else product * value)

    def addcdiv(self, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
        """x + value * tensor1 / tensor2."""
        a, b = given(tensor1, "addcdiv", "tensor1"), given(tensor2, "addcdiv", "tensor2")
        if self._node.dtype.only_stores:
            return in_float32(Arithmetic.addcdiv, self, a, b, value=value)
        return self + (a / b if value == 1 else a / b * value)

    def lerp(self, end: Tensor, weight: Operand) -> Tensor:
        """x + weight * (end - x): from x at weight 0 to `end` at weight 1.

        >>> import chainrule as cr
        >>> cr.zeros(2).lerp(cr.tensor([1.0, 10.0]), 0.5)
        tensor([0.5000, 5.0000])
        """
        end = given(end, "lerp", "end")
        if self._node.dtype.only_stores:
            return in_float32(Arithmetic.lerp, self, end, weight)
        return self + (end - self._tensor) * weight


def _divided(op: Op, dividend: object, divisor: object) -> Tensor:
    return _not_by_zero(op.name, elementwise(op, dividend, divisor), divisor)


def _not_by_zero(name: str, quotient: Tensor, divisor: Any) -> Tensor:
    """The result of a division by `divisor`, which for integers must not be 0."""
    if not quotient.dtype.is_floating_point and quotient.numel() and not tracing():
        value = settled(divisor).value if isinstance(divisor, Handle) else divisor
        if not np.all(value):
            raise DivisionByZeroError(
                f"{who(name)}: integers were divided by 0. Convert them with .float() for inf and NaN, "
                f"or mask the zeros out."
            )
    return quotient


def _small_power(x: Tensor, exponent: float) -> Tensor | None:
    """x to a power that needs no logarithm, or None."""
    floating = x.dtype.is_floating_point
    if not floating and (isinstance(exponent, float) or x.dtype == dtypes.bool_):
        if x.dtype == dtypes.bool_ and not isinstance(exponent, float):
            return x.long() ** exponent
        return None if exponent != 0.5 else x.sqrt()
    if exponent == 1:
        return x.clone()
    if exponent == 2:
        return x * x
    if exponent == 3:
        return x * x * x
    if not floating:
        if exponent < 0:
            raise ValueError(
                f"{who('pow')}: an integer tensor to the power {exponent} is not an integer. Convert it with .float()."
            )
        check_fits(exponent, x.dtype, "pow")
        return None
    if exponent == 0.5:
        return x.sqrt()
    return x.reciprocal() if exponent == -1 else None


def _bits(op: Op, *operands: Any) -> Tensor:
    values = [as_operand(operand, op.name) for operand in operands]
    _refuse_float(op.name, common_dtype(values))
    return elementwise(op, *values)


def _refuse_float(name: str, dtype: DType) -> None:
    if dtype.is_floating_point:
        raise DtypeError(
            f"{who(name)}: works on integers and bool, got {dtype.name}. Compare first, or convert with .bool() or "
            f".long()."
        )
