"""Tensor's ways to put elements in order, and to count them.

An order has one meaning, eager and compiled: the smallest (or largest) first, of equal ones the first first, NaN as the largest.
Where values are known NumPy sorts them; inside a compiled function an element's place is how many come before it, which
takes the square of the axis's length in comparisons and no memory for them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chainrule import dtypes, graph
from chainrule.errors import DataError, SettingError
from chainrule.ops.indexing import out_of_range
from chainrule.tensor.core import Handle, axis, integer, number, settled
from chainrule.tensor.creation import arange, given, tensor, zeros
from chainrule.tensor.indexing import Indexing
from chainrule.tensor.operands import as_dtype_tensor, as_operand
from chainrule.tensor.reductions import Extremum

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

_FEW = 16  # of the largest are found one after the other in a compiled function; more by sorting


class Histogram(NamedTuple):
    """What ``histogram`` gives."""

    hist: Tensor
    bin_edges: Tensor


class Ordering(Indexing):
    """Sorting, the largest and the middle, positions, counts."""

    __slots__ = ()

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Extremum:
        """``(values, indices)``: the elements along `dim` in order, and where each stood; equal ones keep their order.

        Args:
            dim: the axis.
            descending: the largest first.
            stable: it always is.

        >>> import chainrule as cr
        >>> cr.tensor([3.0, 1.0, 2.0]).sort()
        Extremum(values=tensor([1., 2., 3.]), indices=tensor([1, 2, 0]))
        """
        order = self.argsort(dim, descending)
        return Extremum(self.gather(dim, order) if self.ndim else self._tensor.clone(), order)

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        """Where the elements along `dim` stand, in their order; see `sort`."""
        at = axis("argsort", dim, self.ndim)
        if not self.ndim:
            return zeros(dtype=dtypes.int64)
        with graph.grad_mode(False):
            last = self._tensor.movedim(at, -1)
            found = _counted_order(last, descending) if graph.tracing() else _known_order(last, descending)
            return found.movedim(-1, at)

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extremum:
        """``(values, indices)`` of the `k` largest (or smallest) elements along `dim`, in order.

        Raises:
            IndexRangeError: `k` is more than there are.

        >>> import chainrule as cr
        >>> cr.tensor([[3.0, 1.0, 2.0]]).topk(2).indices
        tensor([[0, 2]])
        """
        at, count = axis("topk", dim, self.ndim), integer(k, "topk", "k")
        size = self.shape[at] if self.ndim else 1
        if not 0 <= count <= size:
            raise out_of_range(count, size, at, f"{graph.who('topk')} (k)")
        if not self.ndim:
            return Extremum(self.reshape(1)[:count].reshape(() if count else (0,)), zeros(dtype=dtypes.int64))
        with graph.grad_mode(False):
            if graph.tracing() and 0 < count <= _FEW and self.dtype.is_floating_point:
                indices = _one_by_one(self._tensor, at, count, largest)
            else:
                indices = self.argsort(at, largest).narrow(at, 0, count)
        return Extremum(self.gather(at, indices), indices)

    def kthvalue(self, k: int, dim: int = -1, keepdim: bool = False) -> Extremum:
        """``(values, indices)`` of the k-th smallest element along `dim`, counted from 1."""
        at, count = axis("kthvalue", dim, self.ndim), integer(k, "kthvalue", "k")
        size = self.shape[at] if self.ndim else 1
        if not 1 <= count <= size:
            raise SettingError(f"{graph.who('kthvalue')}: k must be in [1, {size}], the axis's length, got {count}.")
        indices = self.argsort(at).narrow(at, count - 1, 1) if self.ndim else zeros(dtype=dtypes.int64)
        return _picked(self._tensor, indices, at, keepdim)

    def median(self, dim: int | None = None, keepdim: bool = False) -> Any:
        """The middle element, of two the smaller; with a `dim` ``(values, indices)`` along it. NaN if there is one.

        Without a `dim`, equal elements share its gradient (as in PyTorch).

        >>> import chainrule as cr
        >>> cr.tensor([5.0, 1.0, 2.0, 3.0]).median()
        tensor(2.)
        """
        if dim is None:
            flat = self.reshape(-1)
            if not flat.requires_grad:
                return flat.median(0).values
            with graph.grad_mode(False):
                middle = flat.median(0).values
                others = (flat != middle) & ~flat.isnan()
            return flat.masked_fill(others, -math.inf).amax()
        at = axis("median", dim, self.ndim)
        size = self.shape[at] if self.ndim else 1
        if not size:
            raise DataError(
                f"{graph.who('median')}: nothing has no middle, got shape {self.shape}. Check the size first."
            )
        if not self.ndim:
            return Extremum(self._tensor.clone(), zeros(dtype=dtypes.int64))
        with graph.grad_mode(False):
            indices = self.argsort(at).narrow(at, (size - 1) // 2, 1)
            if self.dtype.is_floating_point:
                odd = self.isnan()
                indices = odd.to(dtypes.uint8).argmax(at, True).where(odd.any(at, True), indices)
        return _picked(self._tensor, indices, at, keepdim)

    def quantile(
        self, q: float | Tensor, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
    ) -> Tensor:
        """The value below which a share `q` of the elements along `dim` (or of all) lies.

        Args:
            q: a share in [0, 1], or a vector of some, whose axis comes first in the result.
            dim: the axis.
            keepdim: keep it with size 1.
            interpolation: between two elements: ``"linear"``, ``"lower"``, ``"higher"``, ``"nearest"``, ``"midpoint"``.

        >>> import chainrule as cr
        >>> cr.tensor([0.0, 1.0, 2.0, 3.0]).quantile(0.5)
        tensor(1.5000)
        """
        x = self._tensor if self.dtype.is_floating_point else self.float()
        shares = np.asarray(settled(q).value if isinstance(q, Handle) else q, np.float64)
        if shares.size and not ((shares >= 0) & (shares <= 1)).all():
            raise SettingError(f"{graph.who('quantile')}: q must be in [0, 1], got {q!r}.")
        if interpolation not in _BETWEEN:
            raise SettingError(
                f"{graph.who('quantile')}: interpolation must be one of {', '.join(_BETWEEN)}, got {interpolation!r}."
            )
        at = axis("quantile", dim, x.ndim) if dim is not None else 0
        row = (x.reshape(-1) if dim is None else x).movedim(at, -1)
        if not row.shape[-1]:
            raise DataError(f"{graph.who('quantile')}: nothing has no quantile, got shape {x.shape}.")
        found = _quantiles(row, shares.reshape(-1), interpolation)
        if keepdim:
            found = found.unsqueeze(at + 1) if dim is not None else found.reshape((-1, *(1,) * x.ndim))
        return found if shares.ndim else found[0]

    # -- positions: how many there are is data ------------------------------------------------------------------
    def nonzero(self, *, as_tuple: bool = False) -> Any:
        """Where the elements are not zero, a row for each; or a tensor for each axis (eager only: how many is data).

        >>> import chainrule as cr
        >>> cr.tensor([[0, 1], [2, 0]]).nonzero()
        tensor([[0, 1],
                [1, 0]])
        """
        found = np.nonzero(np.atleast_1d(dtypes.numbers_of(self._node.value)))
        if as_tuple:
            return tuple(tensor(each, dtypes.int64) for each in found)
        return tensor(np.stack(found, 1)[:, : self.ndim], dtypes.int64)

    argwhere = nonzero

    def unique(
        self, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
    ) -> Any:
        """The different elements (or slices along `dim`), in order (eager only: how many is data).

        Args:
            sorted: they always are.
            return_inverse: also give where each element is among them.
            return_counts: also give how often each is there.
            dim: the axis.

        >>> import chainrule as cr
        >>> cr.tensor([3, 1, 3]).unique(return_counts=True)
        (tensor([1, 3]), tensor([1, 2]))
        """
        at = None if dim is None else axis("unique", dim, self.ndim)
        values = dtypes.numbers_of(self._node.value)
        found, inverse, counts = np.unique(values, return_inverse=True, return_counts=True, axis=at, equal_nan=False)
        inverse = inverse.reshape(values.shape if at is None else -1)
        results = [tensor(found, self.dtype)]
        results += [tensor(inverse, dtypes.int64)] * return_inverse + [tensor(counts, dtypes.int64)] * return_counts
        return tuple(results) if len(results) > 1 else results[0]

    def unique_consecutive(
        self, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
    ) -> Any:
        """The elements (or slices along `dim`) without those that equal the one before (eager only: how many is data)."""
        at = 0 if dim is None else axis("unique_consecutive", dim, self.ndim)
        values = dtypes.numbers_of(self._node.value)
        rows = np.moveaxis(values.reshape(-1) if dim is None else values, at, 0)
        new = np.ones(len(rows), bool)
        new[1:] = (rows[1:] != rows[:-1]).reshape(len(rows[1:]), -1).any(1) if len(rows) else new[1:]
        inverse = (np.cumsum(new) - 1).reshape(values.shape if dim is None else -1)
        starts = np.flatnonzero(new)
        results = [tensor(np.moveaxis(rows[new], 0, at), self.dtype)]
        results += [tensor(inverse, dtypes.int64)] * return_inverse
        results += [tensor(np.diff(starts, append=len(rows)), dtypes.int64)] * return_counts
        return tuple(results) if len(results) > 1 else results[0]

    def bincount(self, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
        """How often 0, 1, 2 ... are among the elements, or the sums of their weights (eager only: how far it goes is data).

        Raises:
            DataError: an element is negative.

        >>> import chainrule as cr
        >>> cr.tensor([1, 0, 1, 3]).bincount()
        tensor([1, 2, 0, 1])
        """
        values, least = self._node.value, integer(minlength, "bincount", "minlength")
        if not self.dtype.is_integer or self.ndim != 1 or (values.size and values.min() < 0):
            raise DataError(
                f"{graph.who('bincount')}: needs a vector of whole numbers, none negative, got {self._node.type}. "
                f"Convert it with .long(), flatten it, or mask what is negative."
            )
        if weights is None:
            return tensor(np.bincount(values, minlength=least), dtypes.int64)
        each = given(weights, "bincount", "weights")
        dtype = each.dtype if each.dtype.is_floating_point else dtypes.float64
        size = max(least, int(values.max()) + 1 if values.size else 0)
        return zeros(size, dtype=dtype).index_add(0, self._tensor, each.to(dtype))

    # -- counting into bins -----------------------------------------------------------------------------------------
    def histc(self, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
        """How many elements are in each of `bins` equal parts of [min, max] (both 0: from the smallest to the largest)."""
        low, high = number(min, "histc", "min"), number(max, "histc", "max")
        return self.histogram(bins, None if low == high == 0 else (low, high)).hist

    def histogram(
        self, bins: int | Tensor, range: Any = None, weight: Tensor | None = None, density: bool = False
    ) -> Histogram:
        """``(hist, bin_edges)``: how many elements are between one edge and the next, the last edge included.

        Args:
            bins: how many equal parts, or the edges, in order.
            range: from where to where; from the smallest to the largest if left out.
            weight: what each counts, in place of 1.
            density: divide by the whole and by each part's width.

        >>> import chainrule as cr
        >>> cr.tensor([1.0, 2.0, 1.0]).histogram(2, range=(0.0, 4.0)).hist
        tensor([2., 1.])
        """
        flat = self.reshape(-1)
        flat = flat if flat.dtype.is_floating_point else flat.float()
        edges = bins._tensor.to(flat.dtype) if isinstance(bins, Handle) else _edges(flat, bins, range)
        count = edges.shape[0] - 1
        inside = (flat >= edges[0]) & (flat <= edges[-1])
        last = flat == edges[-1]
        place = _below(edges, flat, right=True) - 1
        place = (place - last.long()).where(inside, 0)
        each = flat.new_ones(flat.shape) if weight is None else weight.reshape(-1).to(flat.dtype)
        hist = zeros(count, dtype=flat.dtype).index_add(0, place, each.masked_fill(~inside, 0))
        if density:
            hist = hist / hist.sum() / (edges[1:] - edges[:-1])
        return Histogram(hist, edges)

    def count_nonzero(self, dim: Any = None) -> Tensor:
        """How many elements along `dim` are not zero."""
        return (self != 0).sum(dim)


# -- orders ------------------------------------------------------------------------------------------------------


def _known_order(x: Tensor, descending: bool) -> Tensor:
    values = dtypes.numbers_of(settled(x).value)
    if not descending:
        return tensor(np.argsort(values, axis=-1, kind="stable"), dtypes.int64)
    backwards = np.argsort(values[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    return tensor(x.shape[-1] - 1 - backwards, dtypes.int64)


def _counted_order(x: Tensor, descending: bool) -> Tensor:
    """By the last axis: an element's place is how many come before it."""
    x = x.to(dtypes.uint8) if x.dtype is dtypes.bool_ else x
    own, other = x.unsqueeze(-1), x.unsqueeze(-2)
    smaller, larger = other < own, other > own
    if x.dtype.is_floating_point:
        odd, odd_other = own.isnan(), other.isnan()
        smaller, larger = smaller | (odd & ~odd_other), larger | (odd_other & ~odd)
    numbers = arange(x.shape[-1])
    earlier = numbers < numbers.unsqueeze(1)
    before = larger | (~smaller & earlier) if descending else smaller | (~larger & earlier)
    places = before.sum(-1)
    return zeros(x.shape, dtype=dtypes.int64).scatter(-1, places, numbers.expand(x.shape))


def _one_by_one(x: Tensor, at: int, count: int, largest: bool) -> Tensor:
    """Where the few largest (smallest) stand: each time the largest that is left, of equal ones the first."""
    worst = -math.inf if largest else math.inf
    numbers = arange(x.shape[at]).reshape(tuple(-1 if a == at else 1 for a in range(x.ndim)))
    gone, odd, found = zeros(x.shape, dtype=dtypes.bool_), x.isnan(), []
    for _ in range(count):
        there = ~gone if largest else ~(gone | odd)  # NaN is the largest, and so the last of the smallest
        left = x.masked_fill(~there, worst)
        best = left.argmax(at, True) if largest else left.argmin(at, True)
        # Where only the worst are left those that are gone look like them.
        first = _first(there, at).where(there.any(at, True), _first(~gone, at))
        best = first.where(left.gather(at, best) == worst, best)
        found.append(best)
        gone = gone | (numbers == best)
    return _joined(found, at)


def _first(there: Tensor, at: int) -> Tensor:
    return there.to(dtypes.uint8).argmax(at, True)


def _joined(parts: list[Tensor], at: int) -> Tensor:
    size = len(parts)
    shape = tuple(size if a == at else s for a, s in enumerate(parts[0].shape))
    places = arange(size).reshape(tuple(-1 if a == at else 1 for a in range(len(shape))))
    whole = parts[0].expand(shape)
    for number_, part in enumerate(parts[1:], 1):
        whole = part.expand(shape).where(places == number_, whole)
    return whole


def _picked(x: Tensor, indices: Tensor, at: int, keepdim: bool) -> Extremum:
    values = x.gather(at, indices) if x.ndim else x.clone()
    return Extremum(values, indices) if keepdim or not x.ndim else Extremum(values.squeeze(at), indices.squeeze(at))


# -- quantiles -----------------------------------------------------------------------------------------------------

_BETWEEN = ("linear", "lower", "higher", "nearest", "midpoint")


def _quantiles(row: Tensor, shares: Any, interpolation: str) -> Tensor:
    """By the last axis, which becomes one of shares in front; NaN where there is one."""
    ordered, size = row.sort(-1).values, row.shape[-1]
    odd = row.isnan().any(-1, True)
    found = []
    for share in shares:
        place = float(share) * (size - 1)
        place = float(np.round(place)) if interpolation == "nearest" else place
        low, high = math.floor(place), math.ceil(place)
        weight = {"linear": place - low, "midpoint": 0.5 * (low != high), "higher": float(low != high)}.get(
            interpolation, 0.0
        )
        below, above = ordered.narrow(-1, low, 1), ordered.narrow(-1, high, 1)
        value = below if weight == 0 else above if weight == 1 else below + (above - below) * weight
        found.append(value.masked_fill(odd, math.nan))
    return _joined(found, row.ndim - 1).movedim(-1, 0) if found else row.new_zeros(0, *row.shape[:-1])


# -- bins ------------------------------------------------------------------------------------------------------------


def searched(ordered: Tensor, values: Any, right: bool, name: str) -> Tensor:
    """Where values would stand in an ordered sequence: in front of equal elements, or behind them (`right`)."""
    found = as_operand(values, name)
    wanted: Tensor = found._tensor if isinstance(found, Handle) else tensor(found)
    if ordered.ndim > 1 and ordered.shape[:-1] != wanted.shape[:-1]:
        raise graph.shape_error(
            name, f"the values must have the axes in front of the last of the sequence, {ordered.shape[:-1]}",
            str(wanted.shape), "Reshape them, or give one sequence for all.",
        )  # fmt: skip
    dtype = dtypes.promote([ordered.dtype, wanted.dtype])
    return _below(as_dtype_tensor(ordered, dtype)._tensor, as_dtype_tensor(wanted, dtype)._tensor, right)


def among(elements: Any, found_in: Any) -> Tensor:
    """Which elements equal one of the others; NaN equals none."""
    own, others = (_numbers(each) for each in (elements, found_in))
    dtype = dtypes.promote([own.dtype, others.dtype])
    own, others = (as_dtype_tensor(each, dtype)._tensor for each in (own, others))
    with graph.grad_mode(False):
        if graph.tracing():
            return (own.unsqueeze(-1) == others.reshape(-1)).any(-1)
        sought, known = (dtypes.numbers_of(settled(each).value) for each in (own, others))
        return tensor(np.isin(sought, known), dtypes.bool_)


def _numbers(value: Any) -> Tensor:
    found = as_operand(value, "isin")
    return found._tensor if isinstance(found, Handle) else tensor(found)


def _below(ordered: Tensor, wanted: Tensor, right: bool) -> Tensor:
    with graph.grad_mode(False):
        if ordered.ndim == 1 and not graph.tracing():
            known, values = (dtypes.numbers_of(settled(t).value) for t in (ordered, wanted))
            return tensor(np.searchsorted(known, values, "right" if right else "left"), dtypes.int64)
        line = ordered if ordered.ndim == 1 else ordered.unsqueeze(-2)
        own = wanted.unsqueeze(-1)
        before = line <= own if right else line < own
        if wanted.dtype.is_floating_point:
            before = before | (own.isnan() & (~line.isnan() | right))
        return before.sum(-1)


def _edges(flat: Tensor, bins: int, span: Any) -> Tensor:
    count = integer(bins, "histogram", "bins")
    if count < 1:
        raise SettingError(f"{graph.who('histogram')}: bins must be at least 1, got {count}.")
    steps = arange(count + 1).to(flat.dtype)
    if span is not None:
        low, high = (number(each, "histogram", "each end of the range") for each in span)
        if not low <= high:
            raise SettingError(f"{graph.who('histogram')}: the range must go up, got {low} and {high}. Swap them.")
        low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        line = np.linspace(low, high, count + 1)
        return tensor(line, flat.dtype)
    if not flat.numel():
        return steps / count
    least, most = flat.detach().amin(), flat.detach().amax()
    alike = least == most
    least, most = (least - 0.5).where(alike, least), (most + 0.5).where(alike, most)
    edges = least + (most - least) * (steps / count)
    return most.where(steps == count, edges)
