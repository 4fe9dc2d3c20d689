"""Tensor's folds over axes, and the row functions made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, Union

from chainrule import dtypes, graph
from chainrule.ops import reduction
from chainrule.tensor.core import Handle, apply, axes, axis, number
from chainrule.tensor.products import Products
from chainrule.tensor.rounding import in_float32
from chainrule.tensor.whole import whole

if TYPE_CHECKING:
    from chainrule.graph import Op
    from chainrule.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")
Dims = Union[int, Sequence[int], None]


class Extremum(NamedTuple):
    """What ``max(dim)`` and ``min(dim)`` give: the values, and where they stand."""

    values: Tensor
    indices: Tensor


def reduce(op: Op, x: Handle, dim: Dims, keepdim: bool) -> Tensor:
    """A reduction primitive with PyTorch's `dim` and `keepdim`."""
    dims = axes(op.name, dim, x.ndim)
    dims = dims if x.ndim else ()  # PyTorch's dim=0 of a tensor without axes
    result = apply(op, x, dims=dims) if dims else _of_one(op, x._tensor)
    if not keepdim:
        return result
    shape = tuple([1 if a in dims else size for a, size in enumerate(x.shape)])
    return result._copied(shape) if shape != result.shape else result


def numpy_names(method: Callable[P, R]) -> Callable[P, R]:
    """``axis`` and ``keepdims`` for ``dim`` and ``keepdim``, as PyTorch takes them: ``np.sum(tensor)`` asks so."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if kwargs.get("out", 0) is None:
                del kwargs["out"]
            for theirs, ours in (("axis", "dim"), ("keepdims", "keepdim")):
                if theirs in kwargs:
                    kwargs[ours] = kwargs.pop(theirs)
        return method(*args, **kwargs)

    return call


def _of_one(op: Op, x: Tensor) -> Tensor:
    """A fold over no axes: over one of size 1, so that types and gradients are the op's own."""
    return apply(op, x._copied((*x.shape, 1)), dims=(x.ndim,))


class Reductions(Products):
    """Sums, means, extrema, and softmax with its kin. `dim`: one axis, several, or None for all."""

    __slots__ = ()

    @numpy_names
    def sum(self, dim: Dims = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
        """The sum along `dim`; bool and integers add up in int64.

        >>> import chainrule as cr
        >>> x = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> x.sum(), x.sum(0), x.sum(1, keepdim=True).shape
        (tensor(10.), tensor([4., 6.]), (2, 1))
        """
        x = self._tensor if dtype is None else self.to(dtype)
        return reduce(reduction.sum, x, _all_if_empty(dim), keepdim)

    @numpy_names
    @whole
    def mean(self, dim: Dims = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
        """The sum divided by the number of elements; integers become float32 (PyTorch refuses them).

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 2.0, 6.0]).mean()
        tensor(3.)
        """
        x = self._floating() if dtype is None else self.to(dtype)
        if x._node.dtype.only_stores:
            return in_float32(Reductions.mean, x, dim, keepdim)
        return x.sum(dim, keepdim) / _count(x, dim)

    @numpy_names
    @whole
    def var(
        self, dim: Dims = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
    ) -> Tensor:
        """The mean squared distance from the mean, sum((x - mean(x))^2) / (n - correction).

        Args:
            dim: the axes; PyTorch's ``x.var(False)`` is understood as `unbiased`.
            unbiased: take 1 off the count (Bessel's correction).
            keepdim: keep the axes with size 1.
            correction: what to take off the count instead.

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 2.0, 3.0]).var(), cr.tensor([1.0, 2.0, 3.0]).var(correction=0)
        (tensor(1.), tensor(0.6667))
        """
        if isinstance(dim, bool):
            return self.var(None, dim, keepdim, correction=correction)
        if self._node.dtype.only_stores:
            return in_float32(Reductions.var, self, dim, unbiased, keepdim, correction=correction)
        x = self._floating()
        centred = x - x.mean(dim, keepdim=True)
        correction = int(unbiased) if correction is None else number(correction, "var", "correction")
        return (centred * centred).sum(dim, keepdim) / max(0, _count(x, dim) - correction)

    @numpy_names
    @whole
    def std(
        self, dim: Dims = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
    ) -> Tensor:
        """The square root of `var`; where that is 0, so is the gradient.

        It is worked out in float64, so that no square leaves float32's range where the root lies in it (as in PyTorch).

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 2.0, 3.0]).std()
        tensor(1.)
        """
        if self._node.dtype.only_stores:
            return in_float32(Reductions.std, self, dim, unbiased, keepdim, correction=correction)
        x = self._floating()
        return _root(x.double().var(dim, unbiased, keepdim, correction=correction)).to(x.dtype)

    @whole
    def norm(self, p: float | str = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The p-norm, (sum of |x|^p)^(1/p); the largest |x| for p = inf. Where it is 0, so is the gradient.

        >>> import chainrule as cr
        >>> cr.tensor([3.0, -4.0]).norm(), cr.tensor([3.0, -4.0]).norm(1)
        (tensor(5.), tensor(7.))
        """
        x, power = self._tensor, 2.0 if isinstance(p, str) and p == "fro" else float(number(p, "norm", "p"))
        if x._node.dtype.only_stores:
            return in_float32(Reductions.norm, x, power, dim, keepdim)
        if power == 2:
            return _root((x * x).sum(dim, keepdim))
        if math.isinf(power):
            return x.abs().amax(dim, keepdim) if power > 0 else x.abs().amin(dim, keepdim)
        if power == 1:
            return x.abs().sum(dim, keepdim)
        if power == 0:
            return x.masked_fill(x != 0, 1).masked_fill(x == 0, 0).sum(dim, keepdim)  # with a history, of zeros
        total = _powers(x, power).sum(dim, keepdim)
        nothing = total == (0 if power > 0 else math.inf)
        return (total.masked_fill(nothing, 1) ** (1 / power)).masked_fill(nothing, 0)

    @numpy_names
    def amax(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The largest element, or NaN if there is one; ties share the gradient equally.

        Raises:
            ShapeError: the axes are empty.

        >>> import chainrule as cr
        >>> cr.tensor([[1, 5], [7, 2]]).amax(1)
        tensor([5, 7])
        """
        return reduce(reduction.amax, self, _all_if_empty(dim), keepdim)

    @numpy_names
    def amin(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The smallest element, or NaN if there is one; ties share the gradient equally."""
        return reduce(reduction.amin, self, _all_if_empty(dim), keepdim)

    @numpy_names
    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Where the largest element stands, the first of them if several tie; over all axes, counted row by row.

        >>> import chainrule as cr
        >>> cr.tensor([[1, 5], [7, 7]]).argmax(1)
        tensor([1, 0])
        """
        return reduce(reduction.argmax, self, dim, keepdim)

    @numpy_names
    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Where the smallest element stands, the first of them if several tie."""
        return reduce(reduction.argmin, self, dim, keepdim)

    @numpy_names
    def max(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The largest element; with a `dim`, (values, indices) along it; with a tensor, `maximum`.

        >>> import chainrule as cr
        >>> cr.tensor([[1, 5], [7, 2]]).max(dim=1).indices
        tensor([1, 0])
        """
        if isinstance(dim, Handle):
            return self.maximum(dim._tensor)
        return self.amax() if dim is None else _extremum(self._tensor, self.argmax(dim, True), dim, keepdim)

    @numpy_names
    def min(self, dim: Any = None, keepdim: bool = False) -> Any:
        """The smallest element; with a `dim`, (values, indices) along it; with a tensor, `minimum`."""
        if isinstance(dim, Handle):
            return self.minimum(dim._tensor)
        return self.amin() if dim is None else _extremum(self._tensor, self.argmin(dim, True), dim, keepdim)

    @numpy_names
    def all(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """True where no element along `dim` is zero (so for none at all)."""
        return self.logical_not().sum(dim, keepdim) == 0

    @numpy_names
    def any(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """True where some element along `dim` is not zero."""
        return self.bool().sum(dim, keepdim) != 0

    @numpy_names
    def prod(self, dim: int | None = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
        """The product along `dim`; bool and integers multiply in int64.

        Multiplied in pairs, so that the derivative is exact where an element is 0.

        >>> import chainrule as cr
        >>> cr.tensor([[1, 2], [3, 4]]).prod(), cr.tensor([[1, 2], [3, 4]]).prod(0)
        (tensor(24), tensor([3, 8]))
        """
        x = self.to(dtype or (self.dtype if self.dtype.is_floating_point else dtypes.int64))
        if x._node.dtype.only_stores:
            return in_float32(Reductions.prod, x, dim, keepdim)
        if dim is None:
            product = _product(x.reshape(-1), 0)
            return product.reshape((1,) * x.ndim) if keepdim else product
        if not x.ndim:
            axis("prod", dim, 0)
            return x.clone()
        product = _product(x, axis("prod", dim, x.ndim))
        return product.unsqueeze(dim) if keepdim else product

    @numpy_names
    @whole
    def cumsum(self, dim: int, *, dtype: object = None) -> Tensor:
        """The running sum along `dim`, out[i] = x[0] + ... + x[i], in log2(n) additions of shifted copies.

        Source: Hillis and Steele, "Data parallel algorithms", Communications of the ACM 29 (1986).

        >>> import chainrule as cr
        >>> cr.tensor([1, 2, 3, 4]).cumsum(0)
        tensor([ 1,  3,  6, 10])
        """
        x = self.to(dtype or (self.dtype if self.dtype.is_floating_point else dtypes.int64))
        if x._node.dtype.only_stores:
            return in_float32(Reductions.cumsum, x, dim)
        at = axis("cumsum", dim, x.ndim)
        shift = 1
        while x.ndim and shift < x.shape[at]:
            low = tuple(shift if a == at else 0 for a in range(x.ndim))
            none = (0,) * x.ndim
            x = x + x.narrow(at, 0, x.shape[at] - shift)._pad(low, none, none)
            shift *= 2
        return x.clone() if shift == 1 else x

    def logsumexp(self, dim: Dims, keepdim: bool = False) -> Tensor:
        """log(sum(exp(x))), exact where exp(x) would overflow.

        >>> import chainrule as cr
        >>> cr.tensor([1000.0, 1000.0]).logsumexp(0)
        tensor(1000.6932)
        """
        x = self._floating()
        if x._node.dtype.only_stores:
            return in_float32(Reductions.logsumexp, x, dim, keepdim)
        result = _logsumexp(x, dim)
        return result if keepdim else result.squeeze(axes("logsumexp", dim, x.ndim))

    @whole
    def softmax(self, dim: int, dtype: object = None) -> Tensor:
        """exp(x) / sum(exp(x)) along `dim`.

        >>> import chainrule as cr
        >>> cr.tensor([0.0, 0.0]).softmax(0)
        tensor([0.5000, 0.5000])
        """
        x = self._floating() if dtype is None else self.to(dtype)
        if x._node.dtype.only_stores:
            return in_float32(Reductions.softmax, x, dim)
        exps = (x - _highest(x, dim)).exp()
        return exps / exps.sum(dim, keepdim=True)

    @whole
    def log_softmax(self, dim: int, dtype: object = None) -> Tensor:
        """log(softmax(x)), exact where softmax would underflow.

        >>> import chainrule as cr
        >>> cr.tensor([0.0, 1000.0]).log_softmax(0)
        tensor([-1000.,     0.])
        """
        x = self._floating() if dtype is None else self.to(dtype)
        if x._node.dtype.only_stores:
            return in_float32(Reductions.log_softmax, x, dim)
        shifted = x - _highest(x, dim)
        return shifted - shifted.exp().sum(dim, keepdim=True).log()

    def _floating(self) -> Tensor:
        return self._tensor if self.dtype.is_floating_point else self.to(dtypes.float32)


def _highest(x: Tensor, dim: Dims) -> Tensor:
    """What to take off before exp, so that it cannot overflow: the largest element, unrecorded."""
    if not x.numel():  # nothing has no largest element, and nothing to overflow
        return x.sum(dim, keepdim=True).detach()
    if graph.tracing():
        return x.amax(dim, keepdim=True).detach()
    with graph.grad_mode(False):
        return x.amax(dim, keepdim=True)


@whole
def _logsumexp(x: Tensor, dim: Dims) -> Tensor:
    highest = _highest(x, dim)
    highest = highest.where(highest.isfinite(), 0)  # a row of -inf must give -inf, not NaN
    return (x - highest).exp().sum(dim, keepdim=True).log() + highest


def _root(squares: Tensor) -> Tensor:
    """The square root with derivative 0 at 0, as PyTorch has it for norms and standard deviations."""
    nothing = squares == 0
    return squares.masked_fill(nothing, 1).sqrt().masked_fill(nothing, 0)


def _powers(x: Tensor, power: float) -> Tensor:
    """|x| to a power; where x is 0 the derivative is 0 too, though those of roots and inverses are infinite there (as in PyTorch)."""
    if power >= 2:
        return x.abs() ** power
    nothing = x == 0
    return (x.abs().masked_fill(nothing, 1) ** power).masked_fill(nothing, 0 if power > 0 else math.inf)


def _extremum(x: Tensor, indices: Tensor, dim: int, keepdim: bool) -> Extremum:
    values = x.gather(dim, indices)
    return Extremum(values, indices) if keepdim else Extremum(values.squeeze(dim), indices.squeeze(dim))


def _product(x: Tensor, at: int) -> Tensor:
    """The two halves multiplied with each other, until one element is left; an odd one waits."""
    if not x.shape[at]:
        return x.sum(at) + 1
    if x.shape[at] == 1:
        return x.squeeze(at).clone()  # a tensor of its own, as a product is
    waiting: list[Tensor] = []
    while x.shape[at] > 1:
        half = x.shape[at] // 2
        if x.shape[at] % 2:
            waiting.append(x.narrow(at, 2 * half, 1))
        x = x.narrow(at, 0, half) * x.narrow(at, half, half)
    for odd in waiting:
        x = x * odd
    return x.squeeze(at)


def _all_if_empty(dim: Dims) -> Dims:
    return None if isinstance(dim, (tuple, list)) and not dim else dim


def _count(x: Handle, dim: Dims) -> int:
    return math.prod(x.shape[a] for a in axes("mean", _all_if_empty(dim), x.ndim)) if x.ndim else 1
