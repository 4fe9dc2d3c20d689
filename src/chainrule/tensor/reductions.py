"""Tensor's folds over axes, and the row functions made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from chainrule.ops import reduction
from chainrule.tensor.arithmetic import Arithmetic
from chainrule.tensor.core import Handle, apply, axes

if TYPE_CHECKING:
    from chainrule.graph import Op
    from chainrule.tensor import Tensor

Dims = Union[int, Sequence[int], None]


class Extremum(NamedTuple):
    """What ``max(dim)`` and ``min(dim)`` give: the values, and where they stand."""

    values: Tensor
    indices: Tensor


def reduce(op: Op, x: Tensor, dim: Dims, keepdim: bool) -> Tensor:
    """A reduction primitive with PyTorch's `dim` and `keepdim`."""
    dims = axes(op.name, dim, x.ndim)
    if not x.ndim:
        dims = ()
    result = apply(op, x, dims=dims) if dims else apply_to_scalar(op, x)
    if keepdim:
        result = result.reshape(tuple(1 if a in dims else size for a, size in enumerate(x.shape)))
    return result


def apply_to_scalar(op: Op, x: Tensor) -> Tensor:
    """A fold over no axes: a view with one element is folded, so that types and gradients are the op's own."""
    return apply(op, x.reshape((*x.shape, 1)), dims=(x.ndim,))


class Reductions(Arithmetic):
    """Sums, means, extrema, and softmax with its kin."""

    __slots__ = ()

    def sum(self, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        x: Any = self if dtype is None else self.to(dtype)
        return reduce(reduction.sum, x, _all_if_empty(dim), keepdim)

    def mean(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The sum over the axes divided by the number of elements in them."""
        x: Any = self if self.dtype.is_floating_point else self.float()
        return x.sum(dim, keepdim) / _count(x, dim)

    def var(self, dim: Dims = None, unbiased: bool = True, keepdim: bool = False, *, correction: int | None = None) -> Tensor:
        """The mean squared distance from the mean; `correction` (1 where unbiased) is taken off the count."""
        x: Any = self
        centred = x - x.mean(dim, keepdim=True)
        correction = int(unbiased) if correction is None else correction
        return (centred * centred).sum(dim, keepdim) / max(0, _count(x, dim) - correction)

    def std(self, dim: Dims = None, unbiased: bool = True, keepdim: bool = False, *, correction: int | None = None) -> Tensor:
        return self.var(dim, unbiased, keepdim, correction=correction).sqrt()

    def norm(self, p: float = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The p-norm of the elements along `dim`."""
        if p == 2:
            return (self * self).sum(dim, keepdim).sqrt()
        if p == 1:
            return self.abs().sum(dim, keepdim)
        if p == math.inf:
            return self.abs().amax(dim, keepdim)
        return (self.abs() ** p).sum(dim, keepdim) ** (1 / p)

    def amax(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The largest element; ties share the gradient equally."""
        return reduce(reduction.amax, self, _all_if_empty(dim), keepdim)  # type: ignore[arg-type]

    def amin(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The smallest element; ties share the gradient equally."""
        return reduce(reduction.amin, self, _all_if_empty(dim), keepdim)  # type: ignore[arg-type]

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Where the largest element stands, the first of them if several tie."""
        return reduce(reduction.argmax, self, dim, keepdim)  # type: ignore[arg-type]

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        return reduce(reduction.argmin, self, dim, keepdim)  # type: ignore[arg-type]

    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The largest element; with a `dim`, (values, indices) along it; with a tensor, `maximum`."""
        return self._extremum(self.amax, self.argmax, self.maximum, dim, keepdim)

    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The smallest element; with a `dim`, (values, indices) along it; with a tensor, `minimum`."""
        return self._extremum(self.amin, self.argmin, self.minimum, dim, keepdim)

    def _extremum(self, amax: Any, argmax: Any, maximum: Any, dim: Any, keepdim: bool) -> Any:
        if isinstance(dim, Handle):
            return maximum(dim)
        if dim is None:
            return amax()
        x: Any = self
        indices = argmax(dim, keepdim=True)
        values = x.gather(dim, indices)
        return Extremum(values, indices) if keepdim else Extremum(values.squeeze(dim), indices.squeeze(dim))

    def all(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return self.bool().amin(dim, keepdim)

    def any(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        return self.bool().amax(dim, keepdim)

    def logsumexp(self, dim: Dims, keepdim: bool = False) -> Tensor:
        """log(sum(exp(x))), exact where exp(x) would overflow."""
        highest = self.amax(dim, keepdim=True).detach()
        highest = highest.where(highest.abs() < math.inf, 0)  # a row of -inf must give -inf, not NaN
        result: Any = (self - highest).exp().sum(dim, keepdim=True).log() + highest
        if keepdim:
            return result
        return result.reshape(tuple(s for a, s in enumerate(self.shape) if a not in axes("logsumexp", dim, self.ndim)))

    def softmax(self, dim: int) -> Tensor:
        """exp(x) / sum(exp(x)) along `dim`."""
        exps: Any = (self - self.amax(dim, keepdim=True).detach()).exp()
        return exps / exps.sum(dim, keepdim=True)

    def log_softmax(self, dim: int) -> Tensor:
        """log(softmax(x)), exact where softmax would underflow."""
        shifted: Any = self - self.amax(dim, keepdim=True).detach()
        return shifted - shifted.exp().sum(dim, keepdim=True).log()


def _all_if_empty(dim: Dims) -> Dims:
    return None if isinstance(dim, (tuple, list)) and not dim else dim


def _count(x: Handle, dim: Dims) -> int:
    return math.prod(x.shape[a] for a in axes("mean", _all_if_empty(dim), x.ndim)) if x.ndim else 1
