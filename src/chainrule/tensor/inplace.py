"""In-place forms: the out-of-place operation, then the handle names its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainrule.tensor.core import Operand, as_dtype_tensor, as_operand
from chainrule.tensor.creation import full_like
from chainrule.tensor.indexing import Indexing

if TYPE_CHECKING:
    from chainrule.tensor import Tensor
    from chainrule.tensor.random import Generator


class InPlace(Indexing):
    """``add_``, ``copy_``, ``+=`` and their kin."""

    __slots__ = ()

    def __iadd__(self, other: Operand) -> Tensor:
        return self._rebind(self + other, "add_")

    def __isub__(self, other: Operand) -> Tensor:
        return self._rebind(self - other, "sub_")

    def __imul__(self, other: Operand) -> Tensor:
        return self._rebind(self * other, "mul_")

    def __itruediv__(self, other: Operand) -> Tensor:
        return self._rebind(self / other, "div_")

    def __ifloordiv__(self, other: Operand) -> Tensor:
        return self._rebind(self // other, "floor_divide_")

    def __imod__(self, other: Operand) -> Tensor:
        return self._rebind(self % other, "remainder_")

    def __ipow__(self, other: Operand) -> Tensor:
        return self._rebind(self**other, "pow_")

    def __iand__(self, other: Operand) -> Tensor:
        return self._rebind(self & other, "and_")

    def __ior__(self, other: Operand) -> Tensor:
        return self._rebind(self | other, "or_")

    def add_(self, other: Operand, *, alpha: float = 1) -> Tensor:
        return self._rebind(self.add(other, alpha=alpha), "add_")

    def sub_(self, other: Operand, *, alpha: float = 1) -> Tensor:
        return self._rebind(self.sub(other, alpha=alpha), "sub_")

    def mul_(self, other: Operand) -> Tensor:
        return self._rebind(self * other, "mul_")

    def div_(self, other: Operand) -> Tensor:
        return self._rebind(self / other, "div_")

    def pow_(self, exponent: Operand) -> Tensor:
        return self._rebind(self.pow(exponent), "pow_")

    def addcmul_(self, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
        return self._rebind(self + a * b * value, "addcmul_")

    def addcdiv_(self, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
        return self._rebind(self + a / b * value, "addcdiv_")

    def lerp_(self, end: Tensor, weight: Operand) -> Tensor:
        return self._rebind(self + (end - self) * weight, "lerp_")

    def copy_(self, source: Operand) -> Tensor:
        """Take the values of `source`, broadcast to this shape and cast to this dtype."""
        value: Any = as_dtype_tensor(as_operand(source, "copy_"), self.dtype)
        return self._rebind(value.expand(self.shape), "copy_")

    def zero_(self) -> Tensor:
        return self.fill_(0)

    def fill_(self, value: float) -> Tensor:
        return self._rebind(full_like(self, value), "fill_")  # type: ignore[arg-type]

    def clamp_(self, min: Operand | None = None, max: Operand | None = None) -> Tensor:
        return self._rebind(self.clamp(min, max), "clamp_")

    def neg_(self) -> Tensor:
        return self._rebind(-self, "neg_")

    def abs_(self) -> Tensor:
        return self._rebind(self.abs(), "abs_")

    def exp_(self) -> Tensor:
        return self._rebind(self.exp(), "exp_")

    def sqrt_(self) -> Tensor:
        return self._rebind(self.sqrt(), "sqrt_")

    def relu_(self) -> Tensor:
        return self._rebind(self.relu(), "relu_")

    def sigmoid_(self) -> Tensor:
        return self._rebind(self.sigmoid(), "sigmoid_")

    def tanh_(self) -> Tensor:
        return self._rebind(self.tanh(), "tanh_")

    def masked_fill_(self, mask: Tensor, value: Operand) -> Tensor:
        return self._rebind(self.masked_fill(mask, value), "masked_fill_")

    def uniform_(self, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Uniform in [low, high)."""
        from chainrule.tensor.random import uniform

        return self._rebind(uniform(self.shape, self.dtype, generator) * (high - low) + low, "uniform_")

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Normal with this mean and standard deviation."""
        from chainrule.tensor.random import normal

        return self._rebind(normal(self.shape, self.dtype, generator) * std + mean, "normal_")

    def bernoulli_(self, p: float = 0.5, *, generator: Generator | None = None) -> Tensor:
        """One with probability p, else zero."""
        from chainrule.tensor.random import uniform

        drawn = uniform(self.shape, self.dtype, generator) < p
        return self._rebind(drawn.to(self.dtype), "bernoulli_")

    def data_ptr(self) -> int:
        """The address of the value, for tests of what is shared."""
        address: int = self._node.value.ctypes.data
        return address


