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
from chainrule.tensor.operands import as_dtype_tensor, as_operand, common_dtype
from chainrule.tensor.pointwise import elementwise_where
from chainrule.tensor.reductions import numpy_names
from chainrule.tensor.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def _function(method: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Operand, P], R]:
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
        return as_dtype_tensor(number, common_dtype([number, others[0]]))._tensor
    return given(value, name)


# One name for each method that PyTorch also has as a function.
abs = _function(Tensor.abs)
absolute = _function(Tensor.absolute)
acos = _function(Tensor.acos)
acosh = _function(Tensor.acosh)
add = _function(Tensor.add)
addbmm = _function(Tensor.addbmm)
addcdiv = _function(Tensor.addcdiv)
addcmul = _function(Tensor.addcmul)
addmm = _function(Tensor.addmm)
addmv = _function(Tensor.addmv)
addr = _function(Tensor.addr)
all = _function(Tensor.all)
allclose = _function(Tensor.allclose)
amax = _function(Tensor.amax)
amin = _function(Tensor.amin)
aminmax = _function(Tensor.aminmax)
any = _function(Tensor.any)
arccos = _function(Tensor.arccos)
arccosh = _function(Tensor.arccosh)
arcsin = _function(Tensor.arcsin)
arcsinh = _function(Tensor.arcsinh)
arctan = _function(Tensor.arctan)
arctan2 = _function(Tensor.arctan2)
arctanh = _function(Tensor.arctanh)
argmax = _function(Tensor.argmax)
argmin = _function(Tensor.argmin)
argsort = _function(Tensor.argsort)
argwhere = _function(Tensor.argwhere)
asin = _function(Tensor.asin)
asinh = _function(Tensor.asinh)
atan = _function(Tensor.atan)
atan2 = _function(Tensor.atan2)
atanh = _function(Tensor.atanh)
baddbmm = _function(Tensor.baddbmm)
bincount = _function(Tensor.bincount)
bitwise_and = _function(Tensor.bitwise_and)
bitwise_not = _function(Tensor.bitwise_not)
bitwise_or = _function(Tensor.bitwise_or)
bitwise_xor = _function(Tensor.bitwise_xor)
bmm = _function(Tensor.bmm)
broadcast_to = _function(Tensor.broadcast_to)
ceil = _function(Tensor.ceil)
chunk = _function(Tensor.chunk)
clamp = _function(Tensor.clamp)
clamp_max = _function(Tensor.clamp_max)
clamp_min = _function(Tensor.clamp_min)
clip = _function(Tensor.clip)
clone = _function(Tensor.clone)
copysign = _function(Tensor.copysign)
cos = _function(Tensor.cos)
cosh = _function(Tensor.cosh)
count_nonzero = _function(Tensor.count_nonzero)
cross = _function(Tensor.cross)
cummax = _function(Tensor.cummax)
cummin = _function(Tensor.cummin)
cumprod = _function(Tensor.cumprod)
cumsum = _function(Tensor.cumsum)
deg2rad = _function(Tensor.deg2rad)
detach = _function(Tensor.detach)
diag = _function(Tensor.diag)
diag_embed = _function(Tensor.diag_embed)
diagflat = _function(Tensor.diagflat)
diagonal = _function(Tensor.diagonal)
diff = _function(Tensor.diff)
digamma = _function(Tensor.digamma)
dist = _function(Tensor.dist)
div = _function(Tensor.div)
divide = _function(Tensor.divide)
dot = _function(Tensor.dot)
dsplit = _function(Tensor.dsplit)
eq = _function(Tensor.eq)
equal = _function(Tensor.equal)
erf = _function(Tensor.erf)
erfc = _function(Tensor.erfc)
erfinv = _function(Tensor.erfinv)
exp = _function(Tensor.exp)
exp2 = _function(Tensor.exp2)
expm1 = _function(Tensor.expm1)
fix = _function(Tensor.fix)
flatten = _function(Tensor.flatten)
flip = _function(Tensor.flip)
fliplr = _function(Tensor.fliplr)
flipud = _function(Tensor.flipud)
float_power = _function(Tensor.float_power)
floor = _function(Tensor.floor)
floor_divide = _function(Tensor.floor_divide)
fmax = _function(Tensor.fmax)
fmin = _function(Tensor.fmin)
fmod = _function(Tensor.fmod)
frac = _function(Tensor.frac)
frexp = _function(Tensor.frexp)
gather = _function(Tensor.gather)
ge = _function(Tensor.ge)
ger = _function(Tensor.ger)
greater = _function(Tensor.greater)
greater_equal = _function(Tensor.greater_equal)
gt = _function(Tensor.gt)
heaviside = _function(Tensor.heaviside)
histc = _function(Tensor.histc)
histogram = _function(Tensor.histogram)
hsplit = _function(Tensor.hsplit)
hypot = _function(Tensor.hypot)
index_add = _function(Tensor.index_add)
index_copy = _function(Tensor.index_copy)
index_fill = _function(Tensor.index_fill)
index_select = _function(Tensor.index_select)
inner = _function(Tensor.inner)
is_complex = _function(Tensor.is_complex)
is_floating_point = _function(Tensor.is_floating_point)
is_nonzero = _function(Tensor.is_nonzero)
is_same_size = _function(Tensor.is_same_size)
is_signed = _function(Tensor.is_signed)
isclose = _function(Tensor.isclose)
isfinite = _function(Tensor.isfinite)
isinf = _function(Tensor.isinf)
isnan = _function(Tensor.isnan)
isneginf = _function(Tensor.isneginf)
isposinf = _function(Tensor.isposinf)
isreal = _function(Tensor.isreal)
kron = _function(Tensor.kron)
kthvalue = _function(Tensor.kthvalue)
ldexp = _function(Tensor.ldexp)
le = _function(Tensor.le)
lerp = _function(Tensor.lerp)
less = _function(Tensor.less)
less_equal = _function(Tensor.less_equal)
lgamma = _function(Tensor.lgamma)
log = _function(Tensor.log)
log1p = _function(Tensor.log1p)
log2 = _function(Tensor.log2)
log10 = _function(Tensor.log10)
log_softmax = _function(Tensor.log_softmax)
logaddexp = _function(Tensor.logaddexp)
logaddexp2 = _function(Tensor.logaddexp2)
logcumsumexp = _function(Tensor.logcumsumexp)
logical_and = _function(Tensor.logical_and)
logical_not = _function(Tensor.logical_not)
logical_or = _function(Tensor.logical_or)
logical_xor = _function(Tensor.logical_xor)
logit = _function(Tensor.logit)
logsumexp = _function(Tensor.logsumexp)
lt = _function(Tensor.lt)
masked_fill = _function(Tensor.masked_fill)
masked_scatter = _function(Tensor.masked_scatter)
masked_select = _function(Tensor.masked_select)
matmul = _function(Tensor.matmul)
max = _function(Tensor.max)
maximum = _function(Tensor.maximum)
mean = _function(Tensor.mean)
median = _function(Tensor.median)
min = _function(Tensor.min)
minimum = _function(Tensor.minimum)
mm = _function(Tensor.mm)
moveaxis = _function(Tensor.moveaxis)
movedim = _function(Tensor.movedim)
mul = _function(Tensor.mul)
multiply = _function(Tensor.multiply)
mv = _function(Tensor.mv)
nan_to_num = _function(Tensor.nan_to_num)
nanmean = _function(Tensor.nanmean)
nansum = _function(Tensor.nansum)
narrow = _function(Tensor.narrow)
ne = _function(Tensor.ne)
neg = _function(Tensor.neg)
negative = _function(Tensor.negative)
nonzero = _function(Tensor.nonzero)
norm = _function(Tensor.norm)
not_equal = _function(Tensor.not_equal)
numel = _function(Tensor.numel)
outer = _function(Tensor.outer)
permute = _function(Tensor.permute)
positive = _function(Tensor.positive)
pow = _function(Tensor.pow)
prod = _function(Tensor.prod)
quantile = _function(Tensor.quantile)
rad2deg = _function(Tensor.rad2deg)
ravel = _function(Tensor.ravel)
reciprocal = _function(Tensor.reciprocal)
relu = _function(Tensor.relu)
remainder = _function(Tensor.remainder)
repeat_interleave = _function(Tensor.repeat_interleave)
reshape = _function(Tensor.reshape)
roll = _function(Tensor.roll)
rot90 = _function(Tensor.rot90)
round = _function(Tensor.round)
rsqrt = _function(Tensor.rsqrt)
scatter = _function(Tensor.scatter)
scatter_add = _function(Tensor.scatter_add)
select = _function(Tensor.select)
sgn = _function(Tensor.sgn)
sigmoid = _function(Tensor.sigmoid)
sign = _function(Tensor.sign)
signbit = _function(Tensor.signbit)
sin = _function(Tensor.sin)
sinc = _function(Tensor.sinc)
sinh = _function(Tensor.sinh)
softmax = _function(Tensor.softmax)
sort = _function(Tensor.sort)
split = _function(Tensor.split)
sqrt = _function(Tensor.sqrt)
square = _function(Tensor.square)
squeeze = _function(Tensor.squeeze)
std = _function(Tensor.std)
sub = _function(Tensor.sub)
subtract = _function(Tensor.subtract)
sum = _function(Tensor.sum)
swapaxes = _function(Tensor.swapaxes)
swapdims = _function(Tensor.swapdims)
t = _function(Tensor.t)
take = _function(Tensor.take)
take_along_dim = _function(Tensor.take_along_dim)
tan = _function(Tensor.tan)
tanh = _function(Tensor.tanh)
tensor_split = _function(Tensor.tensor_split)
tile = _function(Tensor.tile)
topk = _function(Tensor.topk)
trace = _function(Tensor.trace)
transpose = _function(Tensor.transpose)
tril = _function(Tensor.tril)
triu = _function(Tensor.triu)
true_divide = _function(Tensor.true_divide)
trunc = _function(Tensor.trunc)
unbind = _function(Tensor.unbind)
unflatten = _function(Tensor.unflatten)
unique = _function(Tensor.unique)
unique_consecutive = _function(Tensor.unique_consecutive)
unsqueeze = _function(Tensor.unsqueeze)
var = _function(Tensor.var)
vdot = _function(Tensor.vdot)
vsplit = _function(Tensor.vsplit)
xlogy = _function(Tensor.xlogy)


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
    dtype = dtypes.promote(t.dtype for t in parts)
    grown = [as_dtype_tensor(t, dtype)._tensor.unsqueeze(at) for t in parts]
    return grown[0].clone() if len(grown) == 1 else apply(shaping_ops.cat, *grown, dim=at)


def is_tensor(value: object) -> bool:
    """Whether `value` is a Tensor."""
    return isinstance(value, Handle)
