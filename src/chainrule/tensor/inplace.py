"""In-place forms: the out-of-place operation, then the handle names its result."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, cast

from chainrule import graph
from chainrule.dtypes import computed
from chainrule.errors import InPlaceError, SettingError
from chainrule.tensor.core import Engine, Handle, Number, Operand, as_leaf, lifted
from chainrule.tensor.creation import full_like
from chainrule.tensor.indexing import Indexing
from chainrule.tensor.operands import as_dtype_tensor, as_operand

if TYPE_CHECKING:
    from chainrule.tensor import Tensor
    from chainrule.tensor.random import Generator

P = ParamSpec("P")


def _in_place(method: Callable[Concatenate[Any, P], Tensor]) -> Callable[Concatenate[Any, P], Tensor]:
    """``x.exp_()`` from ``x.exp()``."""
    name = f"{method.__name__}_"

    @wraps(method)
    def write(self: InPlace, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        return self._rebind(method(self, *args, **kwargs), name)

    write.__name__, write.__qualname__ = name, f"Tensor.{name}"
    write.__doc__ = f"``{method.__name__}``, in place."
    return cast("Callable[Concatenate[Any, P], Tensor]", write)


class InPlace(Indexing):
    """``add_``, ``copy_``, ``+=`` and their kin. The result keeps this tensor's shape and dtype.

    Raises, all of them: InPlaceError for a leaf that requires grad outside ``no_grad``; ShapeError or
    DtypeError for a result that does not fit.

    >>> import chainrule as cr
    >>> x = cr.tensor([1.0, 2.0])
    >>> x.add_(10, alpha=0.5)
    tensor([6., 7.])
    >>> x
    tensor([6., 7.])
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

    def copy_(self, src: Operand) -> Tensor:
        """Take the values of `source`, broadcast to this shape and cast to this dtype.

        >>> import chainrule as cr
        >>> cr.zeros(2, 2).copy_(cr.tensor([1, 2]))
        tensor([[1., 2.],
                [1., 2.]])
        """
        value = as_dtype_tensor(as_operand(src, "copy_"), self.dtype)._tensor
        return self._rebind(value.expand(self.shape), "copy_")

    def zero_(self) -> Tensor:
        """Zeros, in place."""
        return self.fill_(0)

    def fill_(self, value: Number | Tensor) -> Tensor:
        """One number everywhere, in place."""
        if isinstance(value, Handle):
            return self.copy_(value.reshape(()))
        return self._rebind(full_like(self._tensor, value), "fill_")

    # One line for each: the out-of-place form says what it computes and takes.
    add_ = _in_place(Indexing.add)
    sub_ = _in_place(Indexing.sub)
    mul_ = _in_place(Indexing.mul)
    div_ = _in_place(Indexing.div)
    floor_divide_ = _in_place(Indexing.floor_divide)
    remainder_ = _in_place(Indexing.remainder)
    pow_ = _in_place(Indexing.pow)
    addcmul_ = _in_place(Indexing.addcmul)
    addcdiv_ = _in_place(Indexing.addcdiv)
    lerp_ = _in_place(Indexing.lerp)
    clamp_ = _in_place(Indexing.clamp)
    clamp_min_ = _in_place(Indexing.clamp_min)
    clamp_max_ = _in_place(Indexing.clamp_max)
    neg_ = _in_place(Indexing.neg)
    abs_ = _in_place(Indexing.abs)
    sign_ = _in_place(Indexing.sign)
    exp_ = _in_place(Indexing.exp)
    expm1_ = _in_place(Indexing.expm1)
    log_ = _in_place(Indexing.log)
    log1p_ = _in_place(Indexing.log1p)
    sqrt_ = _in_place(Indexing.sqrt)
    rsqrt_ = _in_place(Indexing.rsqrt)
    square_ = _in_place(Indexing.square)
    reciprocal_ = _in_place(Indexing.reciprocal)
    sin_ = _in_place(Indexing.sin)
    cos_ = _in_place(Indexing.cos)
    tanh_ = _in_place(Indexing.tanh)
    erf_ = _in_place(Indexing.erf)
    erfc_ = _in_place(Indexing.erfc)
    sigmoid_ = _in_place(Indexing.sigmoid)
    relu_ = _in_place(Indexing.relu)
    floor_ = _in_place(Indexing.floor)
    ceil_ = _in_place(Indexing.ceil)
    round_ = _in_place(Indexing.round)
    trunc_ = _in_place(Indexing.trunc)
    masked_fill_ = _in_place(Indexing.masked_fill)
    scatter_ = _in_place(Indexing.scatter)
    scatter_add_ = _in_place(Indexing.scatter_add)
    index_add_ = _in_place(Indexing.index_add)

    def detach_(self) -> Tensor:
        """Forget the history, in place: this tensor becomes a leaf that does not require grad."""
        if self._views is not None and self.requires_grad:
            raise InPlaceError(f"{graph.who('detach_')}: a view cannot lose its history alone. Use .detach().")
        self._name(as_leaf(lifted(self), None))
        return self._tensor

    def uniform_(self, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Uniform in [low, high)."""
        if not low <= high:
            raise SettingError(f"uniform_: low must not exceed high, got {low} and {high}. Swap them.")
        return self._rebind(
            (Engine.uniform(self.shape, computed(self.dtype), generator) * (high - low) + low).to(self.dtype),
            "uniform_",
        )

    def normal_(self, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Normal with this mean and standard deviation."""
        if not std >= 0:
            raise SettingError(f"normal_: std must be 0 or more, got {std}. Use its absolute value.")
        return self._rebind(
            (Engine.normal(self.shape, computed(self.dtype), generator) * std + mean).to(self.dtype), "normal_"
        )

    def bernoulli_(self, p: float = 0.5, *, generator: Generator | None = None) -> Tensor:
        """One with probability p, else zero."""
        if not 0 <= p <= 1:
            raise SettingError(f"bernoulli_: p must be a probability in [0, 1], got {p}.")
        drawn = Engine.uniform(self.shape, computed(self.dtype), generator) < p
        return self._rebind(drawn.to(self.dtype), "bernoulli_")

    def data_ptr(self) -> int:
        """The address of the value, for tests of what is shared."""
        address: int = self._node.value.ctypes.data
        return address
