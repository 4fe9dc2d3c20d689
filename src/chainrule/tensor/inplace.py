"""In-place forms: the out-of-place operation, then the handle names its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule import graph
from chainrule.errors import InPlaceError
from chainrule.tensor.core import Handle, Number, Operand, as_dtype_tensor, as_leaf, as_operand, lifted
from chainrule.tensor.creation import full_like
from chainrule.tensor.indexing import Indexing

if TYPE_CHECKING:
    from chainrule.tensor import Tensor
    from chainrule.tensor.random import Generator


class InPlace(Indexing):
    """``add_``, ``copy_``, ``+=`` and their kin. The result keeps this tensor's shape and dtype.

    Raises, all of them: InPlaceError for a leaf that requires grad outside ``no_grad``; ShapeError or
    DtypeError for a result that does not fit.
    """

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

    def __ixor__(self, other: Operand) -> Tensor:
        return self._rebind(self ^ other, "xor_")

    def add_(self, other: Operand, *, alpha: float = 1) -> Tensor:
        """``add``, in place.

        >>> import chainrule as cr
        >>> x = cr.tensor([1.0, 2.0])
        >>> x.add_(10, alpha=0.5)
        tensor([6., 7.])
        """
        return self._rebind(self.add(other, alpha=alpha), "add_")

    def sub_(self, other: Operand, *, alpha: float = 1) -> Tensor:
        """``sub``, in place."""
        return self._rebind(self.sub(other, alpha=alpha), "sub_")

    def mul_(self, other: Operand) -> Tensor:
        """``mul``, in place."""
        return self._rebind(self * other, "mul_")

    def div_(self, other: Operand) -> Tensor:
        """``div``, in place."""
        return self._rebind(self / other, "div_")

    def pow_(self, exponent: Operand) -> Tensor:
        """``pow``, in place."""
        return self._rebind(self.pow(exponent), "pow_")

    def addcmul_(self, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
        """``addcmul``, in place."""
        return self._rebind(self.addcmul(a, b, value=value), "addcmul_")

    def addcdiv_(self, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
        """``addcdiv``, in place."""
        return self._rebind(self.addcdiv(a, b, value=value), "addcdiv_")

    def lerp_(self, end: Tensor, weight: Operand) -> Tensor:
        """``lerp``, in place."""
        return self._rebind(self.lerp(end, weight), "lerp_")

    def copy_(self, source: Operand) -> Tensor:
        """Take the values of `source`, broadcast to this shape and cast to this dtype.

        >>> import chainrule as cr
        >>> cr.zeros(2, 2).copy_(cr.tensor([1, 2]))
        tensor([[1., 2.],
                [1., 2.]])
        """
        value = as_dtype_tensor(as_operand(source, "copy_"), self.dtype)._tensor
        return self._rebind(value.expand(self.shape), "copy_")

    def zero_(self) -> Tensor:
        """Zeros, in place."""
        return self.fill_(0)

    def fill_(self, value: Number | Tensor) -> Tensor:
        """One number everywhere, in place."""
        if isinstance(value, Handle):
            return self.copy_(value.reshape(()))
        return self._rebind(full_like(self._tensor, value), "fill_")

    def clamp_(self, min: Operand | None = None, max: Operand | None = None) -> Tensor:
        """``clamp``, in place."""
        return self._rebind(self.clamp(min, max), "clamp_")

    def neg_(self) -> Tensor:
        """``neg``, in place."""
        return self._rebind(-self, "neg_")

    def abs_(self) -> Tensor:
        """``abs``, in place."""
        return self._rebind(self.abs(), "abs_")

    def exp_(self) -> Tensor:
        """``exp``, in place."""
        return self._rebind(self.exp(), "exp_")

    def log_(self) -> Tensor:
        """``log``, in place."""
        return self._rebind(self.log(), "log_")

    def sqrt_(self) -> Tensor:
        """``sqrt``, in place."""
        return self._rebind(self.sqrt(), "sqrt_")

    def round_(self) -> Tensor:
        """``round``, in place."""
        return self._rebind(self.round(), "round_")

    def floor_(self) -> Tensor:
        """``floor``, in place."""
        return self._rebind(self.floor(), "floor_")

    def relu_(self) -> Tensor:
        """``relu``, in place."""
        return self._rebind(self.relu(), "relu_")

    def sigmoid_(self) -> Tensor:
        """``sigmoid``, in place."""
        return self._rebind(self.sigmoid(), "sigmoid_")

    def tanh_(self) -> Tensor:
        """``tanh``, in place."""
        return self._rebind(self.tanh(), "tanh_")

    def masked_fill_(self, mask: Tensor, value: Operand) -> Tensor:
        """``masked_fill``, in place."""
        return self._rebind(self.masked_fill(mask, value), "masked_fill_")

    def scatter_(self, dim: int, index: Tensor, src: Operand) -> Tensor:
        """``scatter``, in place."""
        return self._rebind(self.scatter(dim, index, src), "scatter_")

    def scatter_add_(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """``scatter_add``, in place."""
        return self._rebind(self.scatter_add(dim, index, src), "scatter_add_")

    def index_add_(self, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """``index_add``, in place."""
        return self._rebind(self.index_add(dim, index, source), "index_add_")

    def detach_(self) -> Tensor:
        """Forget the history, in place: this tensor becomes a leaf that does not require grad."""
        if self._views is not None and self._views.root() is not None and self.requires_grad:
            raise InPlaceError(f"{graph.who('detach_')}: a view cannot lose its history alone. Use .detach().")
        self._node = as_leaf(lifted(self), None)
        return self._tensor

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
