"""The functions of the package that are methods of Tensor, or join several tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

from chainrule import dtypes, graph
from chainrule.errors import ShapeError
from chainrule.names import takes_keywords
from chainrule.ops import shaping as shaping_ops
from chainrule.tensor.core import Handle, Operand, apply, axis
from chainrule.tensor.creation import given
from chainrule.tensor.grad_mode import enable_grad as enable_grad
from chainrule.tensor.grad_mode import no_grad as no_grad
from chainrule.tensor.grad_mode import set_grad_enabled as set_grad_enabled
from chainrule.tensor.operands import as_dtype_tensor
from chainrule.tensor.pointwise import elementwise_where
from chainrule.tensor.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def _function(method: Callable[Concatenate[Tensor, P], R]) -> Callable[Concatenate[Operand, P], R]:
    """``cr.exp(x, ...)`` for ``x.exp(...)``, also where x is a number or an array."""

    name = method.__name__

    @takes_keywords("torch")
    @wraps(method)
    def function(input: Operand, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(input if isinstance(input, Tensor) else given(input, name), *args, **kwargs)

    return cast("Callable[Concatenate[Operand, P], R]", function)


# One name for each method that PyTorch also has as a function.
abs = _function(Tensor.abs)
absolute = _function(Tensor.absolute)
add = _function(Tensor.add)
addcdiv = _function(Tensor.addcdiv)
addcmul = _function(Tensor.addcmul)
all = _function(Tensor.all)
allclose = _function(Tensor.allclose)
amax = _function(Tensor.amax)
amin = _function(Tensor.amin)
any = _function(Tensor.any)
argmax = _function(Tensor.argmax)
argmin = _function(Tensor.argmin)
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
cos = _function(Tensor.cos)
cumsum = _function(Tensor.cumsum)
detach = _function(Tensor.detach)
div = _function(Tensor.div)
divide = _function(Tensor.divide)
dot = _function(Tensor.dot)
eq = _function(Tensor.eq)
equal = _function(Tensor.equal)
erf = _function(Tensor.erf)
erfc = _function(Tensor.erfc)
exp = _function(Tensor.exp)
expm1 = _function(Tensor.expm1)
flatten = _function(Tensor.flatten)
flip = _function(Tensor.flip)
floor = _function(Tensor.floor)
frexp = _function(Tensor.frexp)
floor_divide = _function(Tensor.floor_divide)
gather = _function(Tensor.gather)
ge = _function(Tensor.ge)
greater = _function(Tensor.greater)
greater_equal = _function(Tensor.greater_equal)
gt = _function(Tensor.gt)
index_add = _function(Tensor.index_add)
index_select = _function(Tensor.index_select)
isclose = _function(Tensor.isclose)
isfinite = _function(Tensor.isfinite)
isinf = _function(Tensor.isinf)
isnan = _function(Tensor.isnan)
le = _function(Tensor.le)
lerp = _function(Tensor.lerp)
less = _function(Tensor.less)
less_equal = _function(Tensor.less_equal)
log = _function(Tensor.log)
log10 = _function(Tensor.log10)
log1p = _function(Tensor.log1p)
log2 = _function(Tensor.log2)
log_softmax = _function(Tensor.log_softmax)
logical_and = _function(Tensor.logical_and)
logical_not = _function(Tensor.logical_not)
logical_or = _function(Tensor.logical_or)
logical_xor = _function(Tensor.logical_xor)
logsumexp = _function(Tensor.logsumexp)
lt = _function(Tensor.lt)
masked_fill = _function(Tensor.masked_fill)
masked_select = _function(Tensor.masked_select)
matmul = _function(Tensor.matmul)
max = _function(Tensor.max)
maximum = _function(Tensor.maximum)
mean = _function(Tensor.mean)
min = _function(Tensor.min)
minimum = _function(Tensor.minimum)
mm = _function(Tensor.mm)
moveaxis = _function(Tensor.moveaxis)
movedim = _function(Tensor.movedim)
mul = _function(Tensor.mul)
multiply = _function(Tensor.multiply)
narrow = _function(Tensor.narrow)
ne = _function(Tensor.ne)
neg = _function(Tensor.neg)
negative = _function(Tensor.negative)
norm = _function(Tensor.norm)
not_equal = _function(Tensor.not_equal)
numel = _function(Tensor.numel)
outer = _function(Tensor.outer)
permute = _function(Tensor.permute)
pow = _function(Tensor.pow)
prod = _function(Tensor.prod)
ravel = _function(Tensor.ravel)
reciprocal = _function(Tensor.reciprocal)
relu = _function(Tensor.relu)
remainder = _function(Tensor.remainder)
reshape = _function(Tensor.reshape)
round = _function(Tensor.round)
rsqrt = _function(Tensor.rsqrt)
scatter = _function(Tensor.scatter)
scatter_add = _function(Tensor.scatter_add)
select = _function(Tensor.select)
sigmoid = _function(Tensor.sigmoid)
sign = _function(Tensor.sign)
sin = _function(Tensor.sin)
softmax = _function(Tensor.softmax)
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
take_along_dim = _function(Tensor.take_along_dim)
tanh = _function(Tensor.tanh)
tile = _function(Tensor.tile)
transpose = _function(Tensor.transpose)
tril = _function(Tensor.tril)
triu = _function(Tensor.triu)
true_divide = _function(Tensor.true_divide)
trunc = _function(Tensor.trunc)
unbind = _function(Tensor.unbind)
unflatten = _function(Tensor.unflatten)
unsqueeze = _function(Tensor.unsqueeze)
var = _function(Tensor.var)


@takes_keywords("torch")
def where(condition: Tensor, input: Operand, other: Operand) -> Tensor:
    """`input` where `condition` holds, `other` elsewhere.

    >>> import chainrule as cr
    >>> x = cr.tensor([-1.0, 2.0])
    >>> cr.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    return elementwise_where(condition, input, other)


@takes_keywords("torch")
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
