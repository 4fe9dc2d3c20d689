"""Tensor's ways to lay elements out anew: diagonals, rotations, repetitions, running products and extrema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.errors import SettingError, ShapeError
from chainrule.ops import shaping
from chainrule.tensor.core import Handle, apply, axis, integer, settled, sizes
from chainrule.tensor.creation import arange, given, tensor
from chainrule.tensor.ordering import Ordering
from chainrule.tensor.reductions import Extremum
from chainrule.tensor.rounding import in_float32

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

Pair = tuple["Tensor", "Tensor"]


class Arranging(Ordering):
    """Diagonals, rolls and rotations, repetitions, running folds."""

    __slots__ = ()

    # -- diagonals ---------------------------------------------------------------------------------------------
    def diagonal(self, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        """The diagonals of two axes, as a new last axis; a view: a write to it reaches this tensor.

        Args:
            offset: above the main one (below, where negative).
            dim1, dim2: the axes.

        >>> import chainrule as cr
        >>> cr.arange(6).reshape(2, 3).diagonal(1)
        tensor([1, 5])
        """
        a, b = axis("diagonal", dim1, self.ndim), axis("diagonal", dim2, self.ndim)
        if self.ndim < 2 or a == b:
            raise ShapeError(
                f"{graph.who('diagonal')}: needs two different axes, got {dim1} and {dim2} of shape {self.shape}."
            )
        offset = integer(offset, "diagonal", "offset")
        last = self._tensor.movedim((a, b), (-2, -1))
        rows, columns = last.shape[-2:]
        count = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
        first = min(offset if offset >= 0 else -offset * columns, rows * columns)
        flat = last._viewed((*last.shape[:-2], rows * columns))
        low, step = (*(0,) * (flat.ndim - 1), first), (*(1,) * (flat.ndim - 1), columns + 1)
        high = (*flat.shape[:-1], first + max(0, count - 1) * (columns + 1) + min(count, 1))
        return flat._slice(low, high, step)

    def diag(self, diagonal: int = 0) -> Tensor:
        """The diagonal of a matrix (a copy), or a matrix with a vector on its diagonal.

        >>> import chainrule as cr
        >>> cr.tensor([1, 2]).diag()
        tensor([[1, 0],
                [0, 2]])
        """
        if self.ndim not in (1, 2):
            raise ShapeError(f"{graph.who('diag')}: needs a vector or a matrix, got shape {self.shape}.")
        return self.diag_embed(diagonal) if self.ndim == 1 else self.diagonal(diagonal).clone()

    def diagflat(self, offset: int = 0) -> Tensor:
        """A matrix with all elements on its diagonal."""
        return self.reshape(-1).diag_embed(offset)

    def diag_embed(self, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
        """Matrices with the last axis on their diagonals, in two new axes."""
        offset, size = integer(offset, "diag_embed", "offset"), self.shape[-1]
        a, b = axis("diag_embed", dim1, self.ndim + 1), axis("diag_embed", dim2, self.ndim + 1)
        wide = size + abs(offset)
        placed = self._pad(
            (0,) * (self.ndim - 1) + (max(offset, 0),), (0,) * (self.ndim - 1) + (max(-offset, 0),), (0,) * self.ndim
        )
        rows, columns = arange(wide).unsqueeze(1), arange(wide)
        matrix = placed.unsqueeze(-2).expand((*self.shape[:-1], wide, wide))
        there = columns == rows + offset
        return matrix.masked_fill(~there, 0).movedim((-2, -1), (a, b))

    def trace(self) -> Tensor:
        """The sum of the diagonal of a matrix."""
        if self.ndim != 2:
            raise ShapeError(f"{graph.who('trace')}: needs a matrix, got shape {self.shape}.")
        return self.diagonal().sum()

    # -- moving ----------------------------------------------------------------------------------------------------
    def roll(self, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Tensor:
        """Every element `shifts` places further along `dims`, those beyond the end at the beginning.

        >>> import chainrule as cr
        >>> cr.tensor([1, 2, 3]).roll(1)
        tensor([3, 1, 2])
        """
        by, along = sizes((shifts,)), () if dims is None else sizes((dims,))
        if not along:
            if len(by) != 1:
                raise SettingError(f"{graph.who('roll')}: without dims there must be one shift, got {shifts}.")
            return self.reshape(-1).roll(by, 0).reshape(self.shape)
        if len(by) != len(along):
            raise SettingError(f"{graph.who('roll')}: there must be a shift for each axis, got {shifts} for {dims}.")
        result = self._tensor
        for shift, dim in zip(by, along, strict=True):
            at = self._axis_of("roll", dim)
            size = self.shape[at]
            cut = shift % size if size else 0
            if cut:
                result = _cat([result.narrow(at, size - cut, cut), result.narrow(at, 0, size - cut)], at)
        return result.clone() if result is self else result

    def rot90(self, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
        """A quarter turn, `k` times, from the first of two axes towards the second."""
        turns = integer(k, "rot90", "k") % 4
        a, b = (axis("rot90", d, self.ndim) for d in dims)
        if turns == 2:
            return self.flip(a, b)
        swapped = self.transpose(a, b)
        return self._tensor.clone() if not turns else swapped.flip(a if turns == 1 else b)

    def fliplr(self) -> Tensor:
        """The elements in reverse order along axis 1."""
        return self.flip(1)

    def flipud(self) -> Tensor:
        """The elements in reverse order along axis 0."""
        return self.flip(0)

    def repeat_interleave(
        self, repeats: int | Tensor, dim: int | None = None, *, output_size: int | None = None
    ) -> Tensor:
        """Every slice along `dim` (or element) several times, one after the other.

        Args:
            repeats: how often; one number, or one for each slice (eager only: how many there will be is data).
            dim: the axis; without it, of all elements in one.
            output_size: accepted, and without effect.

        >>> import chainrule as cr
        >>> cr.tensor([1, 2]).repeat_interleave(2), cr.tensor([1, 2]).repeat_interleave(cr.tensor([1, 3]))
        (tensor([1, 1, 2, 2]), tensor([1, 2, 2, 2]))
        """
        if dim is None:
            return self.reshape(-1).repeat_interleave(repeats, 0)
        at = self._axis_of("repeat_interleave", dim)
        if isinstance(repeats, Handle) and repeats.ndim and repeats.shape[0] != 1:
            each = settled(repeats).value
            return self.index_select(at, tensor(np.repeat(np.arange(self.shape[at]), each), dtypes.int64))
        times = integer(repeats, "repeat_interleave", "repeats")
        shape = self.shape
        wide = self.unsqueeze(at + 1).expand((*shape[: at + 1], times, *shape[at + 1 :]))
        return wide.reshape((*shape[:at], shape[at] * times, *shape[at + 1 :])).clone()

    def diff(self, n: int = 1, dim: int = -1) -> Tensor:
        """The differences of neighbours along `dim`, `n` times."""
        result = self._tensor
        for _ in range(integer(n, "diff", "n")):
            at = self._axis_of("diff", dim)
            size = result.shape[at]
            first, second = result.narrow(at, 0, max(size - 1, 0)), result.narrow(at, min(1, size), max(size - 1, 0))
            result = second ^ first if result.dtype is dtypes.bool_ else second - first
        return result

    def tensor_split(self, indices_or_sections: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces as equal as can be, or those between the places given.

        >>> import chainrule as cr
        >>> [len(part) for part in cr.arange(5).tensor_split(2)]
        [3, 2]
        """
        at = self._axis_of("tensor_split", dim)
        size = self.shape[at]
        if hasattr(indices_or_sections, "__index__"):
            count = integer(indices_or_sections, "tensor_split", "the number of pieces")
            if count < 1:
                raise SettingError(f"{graph.who('tensor_split')}: there must be at least one piece, got {count}.")
            short, more = divmod(size, count)
            cuts = [i * short + min(i, more) for i in range(1, count)]
        else:
            cuts = [min(max(i + size if i < 0 else i, 0), size) for i in indices_or_sections]
        starts, ends = [0, *cuts], [*cuts, size]
        return tuple(self.narrow(at, a, max(0, b - a)) for a, b in zip(starts, ends, strict=True))

    def hsplit(self, split_size_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
        """`tensor_split` along axis 1 (0 of a vector)."""
        return self.tensor_split(split_size_or_sections, 0 if self.ndim == 1 else 1)

    def vsplit(self, split_size_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
        """`tensor_split` along axis 0."""
        return self.tensor_split(split_size_or_sections, 0)

    def dsplit(self, split_size_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
        """`tensor_split` along axis 2."""
        return self.tensor_split(split_size_or_sections, 2)

    # -- running folds, in log2(n) steps of shifted copies, as cumsum ----------------------------------------------
    def cumprod(self, dim: int, *, dtype: object = None) -> Tensor:
        """The running product along `dim`; exact derivatives where an element is 0."""
        x = self.to(dtype or (self.dtype if self.dtype.is_floating_point else dtypes.int64))
        if x._node.dtype.only_stores:
            return in_float32(Arranging.cumprod, x, dim)
        return _running(x, axis("cumprod", dim, x.ndim), lambda old, new: old * new)

    def logcumsumexp(self, dim: int) -> Tensor:
        """The logarithm of the running sum of exponentials along `dim`."""
        if self._node.dtype.only_stores:
            return in_float32(Arranging.logcumsumexp, self, dim)
        at = axis("logcumsumexp", dim, self.ndim)
        return _running(self._tensor, at, lambda old, new: new.logaddexp(old))

    def cummax(self, dim: int) -> Extremum:
        """``(values, indices)``: the largest so far along `dim`, of equal ones the last; NaN from the first on."""
        return _running_extremum(self._tensor, dim, lambda old, new: old > new)

    def cummin(self, dim: int) -> Extremum:
        """``(values, indices)``: the smallest so far along `dim`, of equal ones the last; NaN from the first on."""
        return _running_extremum(self._tensor, dim, lambda old, new: old < new)

    # -- sums that leave NaN out --------------------------------------------------------------------------------------
    def nansum(self, dim: Any = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
        """The sum of what is not NaN."""
        return self._without_nan().sum(dim, keepdim, dtype=dtype)

    def nanmean(self, dim: Any = None, keepdim: bool = False, *, dtype: object = None) -> Tensor:
        """The mean of what is not NaN."""
        there = (~self.isnan()).sum(dim, keepdim)
        total = self._without_nan().sum(dim, keepdim, dtype=dtype)
        return total / there.to(total.dtype)

    def _without_nan(self) -> Tensor:
        return self.masked_fill(self.isnan(), 0) if self.dtype.is_floating_point else self._tensor

    def aminmax(self, *, dim: int | None = None, keepdim: bool = False) -> Pair:
        """The smallest and the largest."""
        return self.amin(dim, keepdim), self.amax(dim, keepdim)

    def index_fill(self, dim: int, index: Tensor, value: Any) -> Tensor:
        """This tensor with `value` in the slices along `dim` that `index` names."""
        at = axis("index_fill", dim, self.ndim)
        which = given(index, "index_fill", "index").reshape(-1, 1)
        named = (arange(self.shape[at]) == which.where(which >= 0, which + self.shape[at])).any(0)
        return self.masked_fill(named.reshape(tuple(-1 if a == at else 1 for a in range(self.ndim))), value)

    def index_copy(self, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """This tensor with the slices of `source` along `dim` where `index` says."""
        at = axis("index_copy", dim, self.ndim)
        index, source = given(index, "index_copy", "index"), given(source, "index_copy", "source")
        moved = self.movedim(at, 0)._put((index.reshape(-1),), source.movedim(at, 0))
        return moved.movedim(0, at)

    def take(self, index: Tensor) -> Tensor:
        """The elements at these places of the flattened tensor."""
        return self.reshape(-1)[given(index, "take", "index")]

    def masked_scatter(self, mask: Tensor, source: Tensor) -> Tensor:
        """This tensor with the elements of `source`, in order, where `mask` holds.

        The compiled form reads them at places that are counted, so nothing here is data-dependent in shape.
        """
        mask, source = given(mask, "masked_scatter", "mask"), given(source, "masked_scatter", "source")
        where = mask.expand(self.shape)
        place = (where.reshape(-1).long().cumsum(0) - 1).clamp(min=0).reshape(self.shape)
        return source.reshape(-1)[place].where(where, self._tensor)

    def dist(self, other: Tensor, p: float = 2) -> Tensor:
        """The p-norm of the difference."""
        return (self - given(other, "dist", "other")).norm(p)


# -- pieces ------------------------------------------------------------------------------------------------------------


def _cat(parts: list[Tensor], at: int) -> Tensor:
    return apply(shaping.cat, *parts, dim=at)


def _running(x: Tensor, at: int, fold: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``fold`` of all elements up to each."""
    shift = 1
    while x.ndim and shift < x.shape[at]:
        rest = x.shape[at] - shift
        x = _cat([x.narrow(at, 0, shift), fold(x.narrow(at, 0, rest), x.narrow(at, shift, rest))], at)
        shift *= 2
    return x.clone() if shift == 1 else x


def _running_extremum(x: Tensor, dim: int, beats: Callable[[Tensor, Tensor], Tensor]) -> Extremum:
    at = axis("cummax/cummin", dim, x.ndim)
    if not x.ndim:
        return Extremum(x.clone(), tensor(0))
    with graph.grad_mode(False):
        places = arange(x.shape[at]).reshape(tuple(-1 if a == at else 1 for a in range(x.ndim))).expand(x.shape)
        values, shift = x.detach(), 1
        while shift < x.shape[at]:
            rest = x.shape[at] - shift
            old, new = values.narrow(at, 0, rest), values.narrow(at, shift, rest)
            stays = beats(old, new)
            if x.dtype.is_floating_point:
                stays = stays | (old.isnan() & ~new.isnan())
            here = places.narrow(at, 0, rest).where(stays, places.narrow(at, shift, rest))
            values = _cat([values.narrow(at, 0, shift), old.where(stays, new)], at)
            places = _cat([places.narrow(at, 0, shift), here], at)
            shift *= 2
    return Extremum(x.gather(at, places), places)
