"""In-place forms: the out-of-place operation, then the handle names its result."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, cast

from chainrule import graph
from chainrule.dtypes import computed, float64, whole_numbers
from chainrule.errors import InPlaceError, SettingError
from chainrule.ops import elementwise as ew
from chainrule.tensor.arranging import Arranging
from chainrule.tensor.core import Engine, Handle, Number, Operand, as_leaf, lifted
from chainrule.tensor.creation import filled, full_like
from chainrule.tensor.operands import as_dtype_tensor, as_operand, elementwise
from chainrule.tensor.ranges import check_span

if TYPE_CHECKING:
    from chainrule.tensor import Tensor
    from chainrule.tensor.random import Generator

P = ParamSpec("P")


def _in_place(method: Callable[Concatenate[Any, P], Tensor]) -> Callable[Concatenate[Any, P], Tensor]:
    """``x.exp_()`` from ``x.exp()``."""
    name = f"{method.__name__}_"  # an alias goes by the first name of its method

    @wraps(method)
    def write(self: InPlace, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        return self._rebind(method(self, *args, **kwargs), name)

    write.__name__, write.__qualname__ = name, f"Tensor.{name}"
    write.__doc__ = f"``{method.__name__}``, in place."
    return cast("Callable[Concatenate[Any, P], Tensor]", write)


class InPlace(Arranging):
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
        return self._rebind(elementwise(ew.add, self, other), "add_", fresh=True)

    def __isub__(self, other: Operand) -> Tensor:
        return self._rebind(elementwise(ew.sub, self, other), "sub_", fresh=True)

    def __imul__(self, other: Operand) -> Tensor:
        return self._rebind(elementwise(ew.mul, self, other), "mul_", fresh=True)

    def __itruediv__(self, other: Operand) -> Tensor:
        return self._rebind(elementwise(ew.div, self, other), "div_", fresh=True)

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
        return self._rebind(value if value.shape == self.shape else value.expand(self.shape), "copy_")

    def zero_(self) -> Tensor:
        """Zeros, in place."""
        return self.fill_(0)

    def fill_(self, value: Number | Tensor) -> Tensor:
        """One number everywhere, in place."""
        if isinstance(value, Handle):
            return self.copy_(value.reshape(()))
        plain = value.__class__ is float or (value.__class__ is int and not value)
        if (
            plain and self.dtype.is_floating_point and not graph.written()
        ):  # what `full` comes to, which is often called
            graph.check_size("fill_", self.shape, self.dtype)
            made = graph.leaf(filled(self.shape, float(value), self.dtype), self.dtype)
            return self._rebind(Engine.tensor(made), "fill_")
        return self._rebind(full_like(self._tensor, value), "fill_")

    # One line for each: the out-of-place form says what it computes and takes.
    add_ = _in_place(Arranging.add)
    sub_ = _in_place(Arranging.sub)
    mul_ = _in_place(Arranging.mul)
    div_ = _in_place(Arranging.div)
    floor_divide_ = _in_place(Arranging.floor_divide)
    remainder_ = _in_place(Arranging.remainder)
    pow_ = _in_place(Arranging.pow)
    addcmul_ = _in_place(Arranging.addcmul)
    addcdiv_ = _in_place(Arranging.addcdiv)
    lerp_ = _in_place(Arranging.lerp)
    clamp_ = _in_place(Arranging.clamp)
    clamp_min_ = _in_place(Arranging.clamp_min)
    clamp_max_ = _in_place(Arranging.clamp_max)
    neg_ = _in_place(Arranging.neg)
    abs_ = _in_place(Arranging.abs)
    sign_ = _in_place(Arranging.sign)
    exp_ = _in_place(Arranging.exp)
    expm1_ = _in_place(Arranging.expm1)
    log_ = _in_place(Arranging.log)
    log1p_ = _in_place(Arranging.log1p)
    sqrt_ = _in_place(Arranging.sqrt)
    rsqrt_ = _in_place(Arranging.rsqrt)
    square_ = _in_place(Arranging.square)
    reciprocal_ = _in_place(Arranging.reciprocal)
    sin_ = _in_place(Arranging.sin)
    cos_ = _in_place(Arranging.cos)
    tanh_ = _in_place(Arranging.tanh)
    erf_ = _in_place(Arranging.erf)
    erfc_ = _in_place(Arranging.erfc)
    sigmoid_ = _in_place(Arranging.sigmoid)
    relu_ = _in_place(Arranging.relu)
    floor_ = _in_place(Arranging.floor)
    ceil_ = _in_place(Arranging.ceil)
    round_ = _in_place(Arranging.round)
    trunc_ = _in_place(Arranging.trunc)
    masked_fill_ = _in_place(Arranging.masked_fill)
    scatter_ = _in_place(Arranging.scatter)
    scatter_add_ = _in_place(Arranging.scatter_add)
    index_add_ = _in_place(Arranging.index_add)
    tan_ = _in_place(Arranging.tan)
    asin_ = _in_place(Arranging.asin)
    acos_ = _in_place(Arranging.acos)
    atan_ = _in_place(Arranging.atan)
    sinh_ = _in_place(Arranging.sinh)
    cosh_ = _in_place(Arranging.cosh)
    asinh_ = _in_place(Arranging.asinh)
    acosh_ = _in_place(Arranging.acosh)
    atanh_ = _in_place(Arranging.atanh)
    arcsin_ = _in_place(Arranging.arcsin)
    arccos_ = _in_place(Arranging.arccos)
    arctan_ = _in_place(Arranging.arctan)
    arcsinh_ = _in_place(Arranging.arcsinh)
    arccosh_ = _in_place(Arranging.arccosh)
    arctanh_ = _in_place(Arranging.arctanh)
    exp2_ = _in_place(Arranging.exp2)
    log2_ = _in_place(Arranging.log2)
    log10_ = _in_place(Arranging.log10)
    logit_ = _in_place(Arranging.logit)
    sinc_ = _in_place(Arranging.sinc)
    erfinv_ = _in_place(Arranging.erfinv)
    lgamma_ = _in_place(Arranging.lgamma)
    digamma_ = _in_place(Arranging.digamma)
    frac_ = _in_place(Arranging.frac)
    fix_ = _in_place(Arranging.fix)
    sgn_ = _in_place(Arranging.sgn)
    nan_to_num_ = _in_place(Arranging.nan_to_num)
    deg2rad_ = _in_place(Arranging.deg2rad)
    rad2deg_ = _in_place(Arranging.rad2deg)
    absolute_ = _in_place(Arranging.absolute)
    negative_ = _in_place(Arranging.negative)
    multiply_ = _in_place(Arranging.multiply)
    divide_ = _in_place(Arranging.divide)
    true_divide_ = _in_place(Arranging.true_divide)
    subtract_ = _in_place(Arranging.subtract)
    clip_ = _in_place(Arranging.clip)
    atan2_ = _in_place(Arranging.atan2)
    arctan2_ = _in_place(Arranging.arctan2)
    hypot_ = _in_place(Arranging.hypot)
    copysign_ = _in_place(Arranging.copysign)
    fmod_ = _in_place(Arranging.fmod)
    xlogy_ = _in_place(Arranging.xlogy)
    float_power_ = _in_place(Arranging.float_power)
    cumsum_ = _in_place(Arranging.cumsum)
    cumprod_ = _in_place(Arranging.cumprod)
    addmm_ = _in_place(Arranging.addmm)
    addmv_ = _in_place(Arranging.addmv)
    addr_ = _in_place(Arranging.addr)
    addbmm_ = _in_place(Arranging.addbmm)
    baddbmm_ = _in_place(Arranging.baddbmm)
    tril_ = _in_place(Arranging.tril)
    triu_ = _in_place(Arranging.triu)
    logical_and_ = _in_place(Arranging.logical_and)
    logical_or_ = _in_place(Arranging.logical_or)
    logical_xor_ = _in_place(Arranging.logical_xor)
    logical_not_ = _in_place(Arranging.logical_not)
    bitwise_and_ = _in_place(Arranging.bitwise_and)
    bitwise_or_ = _in_place(Arranging.bitwise_or)
    bitwise_xor_ = _in_place(Arranging.bitwise_xor)
    bitwise_not_ = _in_place(Arranging.bitwise_not)
    eq_ = _in_place(Arranging.eq)
    ne_ = _in_place(Arranging.ne)
    lt_ = _in_place(Arranging.lt)
    le_ = _in_place(Arranging.le)
    gt_ = _in_place(Arranging.gt)
    ge_ = _in_place(Arranging.ge)
    less_ = _in_place(Arranging.less)
    less_equal_ = _in_place(Arranging.less_equal)
    greater_ = _in_place(Arranging.greater)
    greater_equal_ = _in_place(Arranging.greater_equal)
    not_equal_ = _in_place(Arranging.not_equal)
    index_fill_ = _in_place(Arranging.index_fill)
    index_copy_ = _in_place(Arranging.index_copy)
    masked_scatter_ = _in_place(Arranging.masked_scatter)
    heaviside_ = _in_place(Arranging.heaviside)

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

    def exponential_(self, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
        """Exponential with this rate, more than 0."""
        if not lambd > 0:
            raise SettingError(f"exponential_: lambd must be more than 0, got {lambd}.")
        drawn = Engine.uniform(self.shape, computed(self.dtype), generator)
        return self._rebind((-(-drawn).log1p() / lambd).to(self.dtype), "exponential_")

    def log_normal_(self, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
        """The exponential of a normal number with this mean and standard deviation."""
        if not std > 0:
            raise SettingError(f"log_normal_: std must be more than 0, got {std}.")
        drawn = Engine.normal(self.shape, computed(self.dtype), generator)
        return self._rebind((drawn * std + mean).exp().to(self.dtype), "log_normal_")

    def random_(self, from_: int = 0, to: int | None = None, *, generator: Generator | None = None) -> Tensor:
        """Whole numbers in [from, to), each equally likely; ``random_(to)`` starts at 0, ``random_()`` goes as far as the dtype."""
        low, high = (from_, to) if to is not None else (0, from_ or whole_numbers(self.dtype))
        if not low < high:
            raise SettingError(f"random_: the range must not be empty, got {low} and {high}. Widen it.")
        check_span(low, high, self.dtype, "random_")
        drawn = (Engine.uniform(self.shape, float64, generator) * (high - low)).floor() + low
        return self._rebind(drawn.to(self.dtype), "random_")

    def fill_diagonal_(self, fill_value: Number, wrap: bool = False) -> Tensor:
        """One number on the diagonal of a matrix, in place."""
        if wrap:
            raise SettingError("fill_diagonal_: wrap must be False; a diagonal that begins anew is not in chainrule.")
        self.diagonal().fill_(fill_value)
        return self._tensor

    def data_ptr(self) -> int:
        """The address of the value, for tests of what is shared."""
        address: int = self._node.value.ctypes.data
        return address
