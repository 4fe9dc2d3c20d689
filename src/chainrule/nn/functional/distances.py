"""How far apart, or how much alike, the rows of two tensors are."""

from __future__ import annotations

import math

from chainrule.dtypes import float32
from chainrule.names import takes_keywords
from chainrule.ops.elementwise import broadcast_shapes
from chainrule.tensor import Tensor
from chainrule.tensor.core import number
from chainrule.tensor.creation import given
from chainrule.tensor.rounding import rounded_once
from chainrule.tensor.whole import whole


@takes_keywords("functional")
@rounded_once
@whole
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """``||x1 - x2 + eps||_p`` over the last axis.

    Args:
        x1: shape (..., D), floating.
        x2: a shape that broadcasts with it.
        p: of the p-norm.
        eps: keeps the derivative finite where the rows are equal.
        keepdim: keep the last axis with size 1.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.pairwise_distance(cr.tensor([[0.0, 0.0]]), cr.tensor([[3.0, 4.0]]), eps=0.0)
        tensor([5.])
    """
    x1, x2 = given(x1, "pairwise_distance", "x1"), given(x2, "pairwise_distance", "x2")
    return (x1 - x2 + number(eps, "pairwise_distance", "eps")).norm(p, -1, keepdim)


@takes_keywords("functional")
@rounded_once
@whole
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """``x1 x2 / (max(||x1||, eps) max(||x2||, eps))``: the cosine of the angle between them, along ``dim``.

    Args:
        x1: any shape, floating.
        x2: a shape that broadcasts with it.
        dim: the axis of the vectors.
        eps: what is shorter counts as that long.

    Where we deviate: the gradient of a vector shorter than eps is that of the formula; PyTorch's is as if it were longer.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.cosine_similarity(cr.tensor([[1.0, 0.0]]), cr.tensor([[2.0, 2.0]]))
        tensor([0.7071])
    """
    x1, x2 = given(x1, "cosine_similarity", "x1"), given(x2, "cosine_similarity", "x2")
    eps, shape = number(eps, "cosine_similarity", "eps"), broadcast_shapes("cosine_similarity", x1.shape, x2.shape)
    return (normalize(x1.expand(shape), 2.0, dim, eps) * normalize(x2.expand(shape), 2.0, dim, eps)).sum(dim)


@takes_keywords("functional")
@rounded_once
@whole
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """``x / max(||x||_p, eps)`` along ``dim``: vectors of length 1.

    Args:
        input: any shape, floating.
        p: of the p-norm.
        dim: the axis of the vectors.
        eps: what is shorter counts as that long.

    Where we deviate from PyTorch: a vector whose squares are beyond the dtype (float32: above 1e19) has length 1 too, not 0.
    """
    x, p = given(input, "normalize"), p if isinstance(p, str) else number(p, "normalize", "p")
    least = number(eps, "normalize", "eps")
    unit = _unit(x, 2.0 if isinstance(p, str) else p, dim)
    if unit is None:
        return x / x.norm(p, dim, True).clamp(min=least)
    x = x / unit
    return x / x.norm(p, dim, True).maximum(least / unit)


def _unit(x: Tensor, p: float, dim: int) -> Tensor | None:
    """What very long vectors are measured in, so that no power is beyond the dtype: their largest number, and 1 for all others."""
    if p == 0 or math.isinf(p) or not (x.dtype.is_floating_point and x.ndim and x.numel()):
        return None
    top = x.detach().abs().amax(dim, keepdim=True)
    large = 2.0 ** ((100 if x.dtype is float32 else 980) / max(p, 1.0))
    return top.where((top > large) & (top < math.inf), 1.0)
