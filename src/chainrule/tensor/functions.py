"""The functions of the package that are methods of Tensor, or join several tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np

from chainrule import dtypes, graph
from chainrule.errors import ShapeError
from chainrule.names import takes_keywords
from chainrule.ops import shaping as shaping_ops
from chainrule.tensor.core import Handle, Operand, apply, axis
from chainrule.tensor.creation import given
from chainrule.tensor.grad_mode import enable_grad as enable_grad
from chainrule.tensor.grad_mode import no_grad as no_grad
from chainrule.tensor.grad_mode import set_grad_enabled as set_grad_enabled
from chainrule.tensor.operands import as_dtype_tensor, as_operand, check_written, common_dtype
from chainrule.tensor.pointwise import elementwise_where
from chainrule.tensor.reductions import numpy_names
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.whole import whole

P = ParamSpec("P")
R = TypeVar("R")


def function_of(method: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Operand, P], R]:
    """``cr.exp(x, ...)`` for ``x.exp(...)``, also where x is a number or an array."""

    name = method.__name__

    @takes_keywords("torch")
    @wraps(method)
    def function(input: Operand, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(input if isinstance(input, Tensor) else _first(input, args, name), *args, **kwargs)

    return cast("Callable[Concatenate[Operand, P], R]", function)


def _first(value: Operand, others: Sequence[object], name: str) -> Tensor:
    """The first argument as a tensor; a number beside a tensor has the dtype that the expression has."""
    if others and isinstance(others[0], Handle) and isinstance(value, (np.generic, bool, int, float)):
        number = as_operand(value, name)
        dtype = common_dtype([number, others[0]])
        check_written(number, dtype, name)
        return as_dtype_tensor(number, dtype)._tensor
    return given(value, name)


# One name for each method that PyTorch also has as a function.
abs = function_of(Tensor.abs)
absolute = function_of(Tensor.absolute)
acos = function_of(Tensor.acos)
acosh = function_of(Tensor.acosh)
add = function_of(Tensor.add)
addbmm = function_of(Tensor.addbmm)
addcdiv = function_of(Tensor.addcdiv)
addcmul = function_of(Tensor.addcmul)
addmm = function_of(Tensor.addmm)
addmv = function_of(Tensor.addmv)
addr = function_of(Tensor.addr)
all = function_of(Tensor.all)
allclose = function_of(Tensor.allclose)
amax = function_of(Tensor.amax)
amin = function_of(Tensor.amin)
aminmax = function_of(Tensor.aminmax)
any = function_of(Tensor.any)
arccos = function_of(Tensor.arccos)
arccosh = function_of(Tensor.arccosh)
arcsin = function_of(Tensor.arcsin)
arcsinh = function_of(Tensor.arcsinh)
arctan = function_of(Tensor.arctan)
arctan2 = function_of(Tensor.arctan2)
arctanh = function_of(Tensor.arctanh)
argmax = function_of(Tensor.argmax)
argmin = function_of(Tensor.argmin)
argsort = function_of(Tensor.argsort)
argwhere = function_of(Tensor.argwhere)
asin = function_of(Tensor.asin)
asinh = function_of(Tensor.asinh)
atan = function_of(Tensor.atan)
atan2 = function_of(Tensor.atan2)
atanh = function_of(Tensor.atanh)
baddbmm = function_of(Tensor.baddbmm)
bincount = function_of(Tensor.bincount)
bitwise_and = function_of(Tensor.bitwise_and)
bitwise_not = function_of(Tensor.bitwise_not)
bitwise_or = function_of(Tensor.bitwise_or)
bitwise_xor = function_of(Tensor.bitwise_xor)
bmm = function_of(Tensor.bmm)
broadcast_to = function_of(Tensor.broadcast_to)
ceil = function_of(Tensor.ceil)
chunk = function_of(Tensor.chunk)
clamp = function_of(Tensor.clamp)
clamp_max = function_of(Tensor.clamp_max)
clamp_min = function_of(Tensor.clamp_min)
clip = function_of(Tensor.clip)
clone = function_of(Tensor.clone)
copysign = function_of(Tensor.copysign)
cos = function_of(Tensor.cos)
cosh = function_of(Tensor.cosh)
count_nonzero = function_of(Tensor.count_nonzero)
cross = function_of(Tensor.cross)
cummax = function_of(Tensor.cummax)
cummin = function_of(Tensor.cummin)
cumprod = function_of(Tensor.cumprod)
cumsum = function_of(Tensor.cumsum)
deg2rad = function_of(Tensor.deg2rad)
detach = function_of(Tensor.detach)
diag = function_of(Tensor.diag)
diag_embed = function_of(Tensor.diag_embed)
diagflat = function_of(Tensor.diagflat)
diagonal = function_of(Tensor.diagonal)
diff = function_of(Tensor.diff)
digamma = function_of(Tensor.digamma)
dist = function_of(Tensor.dist)
div = function_of(Tensor.div)
divide = function_of(Tensor.divide)
dot = function_of(Tensor.dot)
dsplit = function_of(Tensor.dsplit)
eq = function_of(Tensor.eq)
equal = function_of(Tensor.equal)
erf = function_of(Tensor.erf)
erfc = function_of(Tensor.erfc)
erfinv = function_of(Tensor.erfinv)
exp = function_of(Tensor.exp)
exp2 = function_of(Tensor.exp2)
expm1 = function_of(Tensor.expm1)
fix = function_of(Tensor.fix)
flatten = function_of(Tensor.flatten)
flip = function_of(Tensor.flip)
fliplr = function_of(Tensor.fliplr)
flipud = function_of(Tensor.flipud)
float_power = function_of(Tensor.float_power)
floor = function_of(Tensor.floor)
floor_divide = function_of(Tensor.floor_divide)
fmax = function_of(Tensor.fmax)
fmin = function_of(Tensor.fmin)
fmod = function_of(Tensor.fmod)
frac = function_of(Tensor.frac)
frexp = function_of(Tensor.frexp)
gather = function_of(Tensor.gather)
ge = function_of(Tensor.ge)
ger = function_of(Tensor.ger)
greater = function_of(Tensor.greater)
greater_equal = function_of(Tensor.greater_equal)
gt = function_of(Tensor.gt)
heaviside = function_of(Tensor.heaviside)
histc = function_of(Tensor.histc)
histogram = function_of(Tensor.histogram)
hsplit = function_of(Tensor.hsplit)
hypot = function_of(Tensor.hypot)
index_add = function_of(Tensor.index_add)
index_copy = function_of(Tensor.index_copy)
index_fill = function_of(Tensor.index_fill)
index_select = function_of(Tensor.index_select)
inner = function_of(Tensor.inner)
is_complex = function_of(Tensor.is_complex)
is_floating_point = function_of(Tensor.is_floating_point)
is_nonzero = function_of(Tensor.is_nonzero)
is_same_size = function_of(Tensor.is_same_size)
is_signed = function_of(Tensor.is_signed)
isclose = function_of(Tensor.isclose)
isfinite = function_of(Tensor.isfinite)
isinf = function_of(Tensor.isinf)
isnan = function_of(Tensor.isnan)
isneginf = function_of(Tensor.isneginf)
isposinf = function_of(Tensor.isposinf)
isreal = function_of(Tensor.isreal)
kron = function_of(Tensor.kron)
kthvalue = function_of(Tensor.kthvalue)
ldexp = function_of(Tensor.ldexp)
le = function_of(Tensor.le)
lerp = function_of(Tensor.lerp)
less = function_of(Tensor.less)
less_equal = function_of(Tensor.less_equal)
lgamma = function_of(Tensor.lgamma)
log = function_of(Tensor.log)
log1p = function_of(Tensor.log1p)
log2 = function_of(Tensor.log2)
log10 = function_of(Tensor.log10)
log_softmax = function_of(Tensor.log_softmax)
logaddexp = function_of(Tensor.logaddexp)
logaddexp2 = function_of(Tensor.logaddexp2)
logcumsumexp = function_of(Tensor.logcumsumexp)
logical_and = function_of(Tensor.logical_and)
logical_not = function_of(Tensor.logical_not)
logical_or = function_of(Tensor.logical_or)
logical_xor = function_of(Tensor.logical_xor)
logit = function_of(Tensor.logit)
logsumexp = function_of(Tensor.logsumexp)
lt = function_of(Tensor.lt)
masked_fill = function_of(Tensor.masked_fill)
masked_scatter = function_of(Tensor.masked_scatter)
masked_select = function_of(Tensor.masked_select)
matmul = function_of(Tensor.matmul)
max = function_of(Tensor.max)
maximum = function_of(Tensor.maximum)
mean = function_of(Tensor.mean)
median = function_of(Tensor.median)
min = function_of(Tensor.min)
minimum = function_of(Tensor.minimum)
mm = function_of(Tensor.mm)
moveaxis = function_of(Tensor.moveaxis)
movedim = function_of(Tensor.movedim)
mul = function_of(Tensor.mul)
multiply = function_of(Tensor.multiply)
mv = function_of(Tensor.mv)
nan_to_num = function_of(Tensor.nan_to_num)
nanmean = function_of(Tensor.nanmean)
nansum = function_of(Tensor.nansum)
narrow = function_of(Tensor.narrow)
ne = function_of(Tensor.ne)
neg = function_of(Tensor.neg)
negative = function_of(Tensor.negative)
nonzero = function_of(Tensor.nonzero)
norm = function_of(Tensor.norm)
not_equal = function_of(Tensor.not_equal)
numel = function_of(Tensor.numel)
outer = function_of(Tensor.outer)
permute = function_of(Tensor.permute)
positive = function_of(Tensor.positive)
pow = function_of(Tensor.pow)
prod = function_of(Tensor.prod)
quantile = function_of(Tensor.quantile)
rad2deg = function_of(Tensor.rad2deg)
ravel = function_of(Tensor.ravel)
reciprocal = function_of(Tensor.reciprocal)
relu = function_of(Tensor.relu)
remainder = function_of(Tensor.remainder)
repeat_interleave = function_of(Tensor.repeat_interleave)
reshape = function_of(Tensor.reshape)
roll = function_of(Tensor.roll)
rot90 = function_of(Tensor.rot90)
round = function_of(Tensor.round)
rsqrt = function_of(Tensor.rsqrt)
scatter = function_of(Tensor.scatter)
scatter_add = function_of(Tensor.scatter_add)
select = function_of(Tensor.select)
sgn = function_of(Tensor.sgn)
sigmoid = function_of(Tensor.sigmoid)
sign = function_of(Tensor.sign)
signbit = function_of(Tensor.signbit)
sin = function_of(Tensor.sin)
sinc = function_of(Tensor.sinc)
sinh = function_of(Tensor.sinh)
softmax = function_of(Tensor.softmax)
sort = function_of(Tensor.sort)
split = function_of(Tensor.split)
sqrt = function_of(Tensor.sqrt)
square = function_of(Tensor.square)
squeeze = function_of(Tensor.squeeze)
std = function_of(Tensor.std)
sub = function_of(Tensor.sub)
subtract = function_of(Tensor.subtract)
sum = function_of(Tensor.sum)
swapaxes = function_of(Tensor.swapaxes)
swapdims = function_of(Tensor.swapdims)
t = function_of(Tensor.t)
take = function_of(Tensor.take)
take_along_dim = function_of(Tensor.take_along_dim)
tan = function_of(Tensor.tan)
tanh = function_of(Tensor.tanh)
tensor_split = function_of(Tensor.tensor_split)
tile = function_of(Tensor.tile)
topk = function_of(Tensor.topk)
trace = function_of(Tensor.trace)
transpose = function_of(Tensor.transpose)
tril = function_of(Tensor.tril)
triu = function_of(Tensor.triu)
true_divide = function_of(Tensor.true_divide)
trunc = function_of(Tensor.trunc)
unbind = function_of(Tensor.unbind)
unflatten = function_of(Tensor.unflatten)
unique = function_of(Tensor.unique)
unique_consecutive = function_of(Tensor.unique_consecutive)
unsqueeze = function_of(Tensor.unsqueeze)
var = function_of(Tensor.var)
vdot = function_of(Tensor.vdot)
vsplit = function_of(Tensor.vsplit)
xlogy = function_of(Tensor.xlogy)


@takes_keywords("torch")
def where(condition: Tensor, input: Operand | None = None, other: Operand | None = None) -> Any:
    """`input` where `condition` holds, `other` elsewhere; with the condition alone where it holds, a tensor for each axis.

    >>> import chainrule as cr
    >>> x = cr.tensor([-1.0, 2.0])
    >>> cr.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    if input is None or other is None:
        if input is not other:
            raise TypeError("where: takes a condition, or a condition, input and other, got two of the three.")
        return given(condition, "where", "condition").nonzero(as_tuple=True)
    return elementwise_where(condition, input, other)


@takes_keywords("torch")
@numpy_names
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after another along an axis, promoted to one dtype.

    Raises:
        ShapeError: they differ on another axis, or there are none.

    >>> import chainrule as cr
    >>> cr.cat([cr.ones(2), cr.zeros(1)])
    tensor([1., 1., 0.])
    """
    parts = [given(t, "cat", "each of the tensors") for t in tensors]
    if not parts:
        raise ShapeError(f"{graph.who('cat')}: needs at least one tensor, got none. Check the list.")
    dtype = dtypes.promote(t.dtype for t in parts)
    # PyTorch skips tensors of shape (0,), so that a loop can start from cr.tensor([]).
    parts = [t for t in parts if t.shape != (0,)] or parts[:1]
    at = parts[0]._axis_of("cat", dim)
    same = [as_dtype_tensor(t, dtype) for t in parts]
    return same[0]._tensor.clone() if len(same) == 1 else apply(shaping_ops.cat, *same, dim=at)


concat = concatenate = cat


@takes_keywords("torch")
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, of one shape, along a new axis.

    >>> import chainrule as cr
    >>> cr.stack([cr.zeros(2), cr.ones(2)]).shape
    (2, 2)
    """
    parts = [given(t, "stack", "each of the tensors") for t in tensors]
    if not parts:
        raise ShapeError(f"{graph.who('stack')}: needs at least one tensor, got none. Check the list.")
    odd = next((t for t in parts if t.shape != parts[0].shape), None)
    if odd is not None:
        raise graph.shape_error(
            "stack",
            "all tensors must have one shape",
            f"{parts[0].shape} and {odd.shape}",
            "Reshape or expand the odd one.",
        )
    at = axis("stack", dim, parts[0].ndim + 1)
    return _stacked(at, *parts)


@whole
def _stacked(at: int, *parts: Tensor) -> Tensor:
    dtype = dtypes.promote(t.dtype for t in parts)
    grown = [as_dtype_tensor(t, dtype)._tensor.unsqueeze(at) for t in parts]
    return grown[0].clone() if len(grown) == 1 else apply(shaping_ops.cat, *grown, dim=at)


def is_tensor(value: object) -> bool:
    """Whether `value` is a Tensor."""
    return isinstance(value, Handle)
