"""Tensor's ways to look at the same elements in another shape or order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import graph
from chainrule.errors import SettingError, ShapeError
from chainrule.ops import shaping
from chainrule.ops.indexing import out_of_range
from chainrule.tensor.core import Size, apply, axes, axis, integer, same_view, sizes, view, view_of, wrap
from chainrule.tensor.creation import arange
from chainrule.tensor.layout import can_view, is_contiguous
from chainrule.tensor.reductions import Reductions

if TYPE_CHECKING:
    from chainrule.graph import Shape
    from chainrule.tensor import Tensor


class Shaping(Reductions):
    """Views: reshape, permute, expand, narrow, and their kin."""

    __slots__ = ()

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one axis.

        >>> import chainrule as cr
        >>> cr.zeros(2, 3).size(), cr.zeros(2, 3).size(-1)
        ((2, 3), 3)
        """
        return self.shape if dim is None else self.shape[self._axis_of("size", dim)]

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    nelement = numel

    def element_size(self) -> int:
        """The bytes of one element."""
        return self.dtype.itemsize

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len(): a tensor without axes has no length. Use .item() for its value.")
        return self.shape[0]

    def reshape(self, *sizes_or_shape: Size, shape: Size | None = None) -> Tensor:
        """The same elements in another shape; -1 stands for the size that is left over.

        Raises:
            ShapeError: the shape holds another number of elements.

        >>> import chainrule as cr
        >>> cr.arange(6).reshape(2, -1)
        tensor([[0, 1, 2],
                [3, 4, 5]])
        """
        wanted = self._sizes("reshape", sizes(sizes_or_shape, shape))
        return self._viewed(wanted) if can_view(self, wanted) else self._copied(wanted)

    def view(self, *sizes_or_shape: Size, size: Size | None = None) -> Tensor:
        """`reshape` that always looks at the same elements: a write to the result is a write to this tensor."""
        return self._viewed(self._sizes("view", sizes(sizes_or_shape, size)))

    def _viewed(self, shape: Shape) -> Tensor:
        return same_view(self) if shape == self.shape else view(shaping.reshape, self, shape=shape)

    def _copied(self, shape: Shape) -> Tensor:
        return apply(shaping.reshape, self, shape=shape)

    def _sizes(self, name: str, wanted: Shape) -> Shape:
        """The shape with a number in place of -1."""
        if wanted.count(-1) != 1:
            return wanted
        known = math.prod(size for size in wanted if size != -1)
        if known <= 0 or self.numel() % known:
            raise graph.shape_error(
                name, f"-1 must stand for a whole number of elements of {self.shape}", str(wanted),
                f"{self.numel()} elements do not divide by {known}; change the other sizes.",
            )  # fmt: skip
        return tuple(self.numel() // known if size == -1 else size for size in wanted)

    def view_as(self, other: Tensor) -> Tensor:
        """The same elements in the shape of `other`."""
        return self._viewed(other.shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        """`reshape` to the shape of `other`."""
        return self.reshape(other.shape)

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Axes `start_dim` to `end_dim` as one.

        >>> import chainrule as cr
        >>> cr.zeros(2, 3, 4).flatten(1).shape
        (2, 12)
        """
        first, last = axis("flatten", start_dim, self.ndim), axis("flatten", end_dim, self.ndim)
        if not self.ndim:
            return self.reshape(1)
        if first == last:
            return self._tensor
        if first > last:
            raise ShapeError(
                f"{graph.who('flatten')}: start_dim must not lie behind end_dim, got {start_dim} and {end_dim}. "
                f"Swap them."
            )
        return self.reshape(*self.shape[:first], math.prod(self.shape[first : last + 1]), *self.shape[last + 1 :])

    def ravel(self) -> Tensor:
        """All axes as one."""
        return self.reshape(-1) if self.numel() else self.reshape(0)

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Tensor:
        """One axis as several, of these sizes (one of them may be -1).

        >>> import chainrule as cr
        >>> cr.zeros(2, 12).unflatten(1, (3, -1)).shape
        (2, 3, 4)
        """
        at, sizes = self._axis_of("unflatten", dim), [integer(size, "unflatten", "each size") for size in sizes]
        rest = math.prod(size for size in sizes if size != -1)
        split = [self.shape[at] // rest if size == -1 and rest > 0 else size for size in sizes]
        if math.prod(split) != self.shape[at] or min(split, default=0) < 0:
            raise graph.shape_error(
                "unflatten", f"the sizes must multiply to axis {at} of size {self.shape[at]}", str(tuple(sizes)),
                "Change one of them, or use -1 for it.",
            )  # fmt: skip
        return self._viewed((*self.shape[:at], *split, *self.shape[at + 1 :]))

    def permute(self, *order_of_dims: Size, dims: Size | None = None) -> Tensor:
        """The axes in another order: axis i of the result is axis dims[i] of this tensor.

        >>> import chainrule as cr
        >>> cr.zeros(2, 3, 4).permute(2, 0, 1).shape
        (4, 2, 3)
        """
        given = sizes(order_of_dims, dims)
        order = tuple(axis("permute", d, self.ndim) for d in given)
        if sorted(order) != list(range(self.ndim)):
            raise graph.shape_error(
                "permute", f"dims must name each of the {self.ndim} axes once", str(given), "List every axis."
            )
        return same_view(self) if order == tuple(range(self.ndim)) else view(shaping.permute, self, dims=order)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two axes exchanged.

        >>> import chainrule as cr
        >>> cr.zeros(2, 3, 4).transpose(0, 2).shape
        (4, 3, 2)
        """
        order = list(range(self.ndim))
        a, b = axis("transpose", dim0, self.ndim), axis("transpose", dim1, self.ndim)
        if self.ndim:
            order[a], order[b] = b, a
        return self.permute(order)

    swapaxes = swapdims = transpose

    def movedim(self, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
        """One axis (or several) moved to another place, the others in their order.

        >>> import chainrule as cr
        >>> cr.zeros(2, 3, 4).movedim(0, -1).shape, cr.zeros(2, 3, 4).movedim((0, 1), (1, 0)).shape
        ((3, 4, 2), (3, 2, 4))
        """
        given, wanted = (tuple(axis("movedim", d, self.ndim) for d in sizes((dims,))) for dims in (source, destination))
        if len(given) != len(wanted) or len({*given}) != len(given) or len({*wanted}) != len(wanted):
            raise graph.shape_error(
                "movedim", "source and destination must be equally many axes, each once", f"{source} and {destination}",
                "Name each axis once.",
            )  # fmt: skip
        moved = dict(zip(wanted, given, strict=True))
        staying = iter(a for a in range(self.ndim) if a not in given)
        return self.permute([moved[a] if a in moved else next(staying) for a in range(self.ndim)])

    moveaxis = movedim

    def t(self) -> Tensor:
        """The transpose of a matrix; a vector is its own."""
        if self.ndim > 2:
            raise ShapeError(
                f"{graph.who('t')}: needs at most 2 axes, got shape {self.shape}. Use .mT or .transpose(dim0, dim1)."
            )
        return self.transpose(0, 1) if self.ndim == 2 else self._tensor

    @property
    def T(self) -> Tensor:
        """All axes in reverse order."""
        if self.ndim == 2:
            return view(shaping.permute, self, dims=(1, 0))
        return self.permute(tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        if self.ndim == 2:
            return view(shaping.permute, self, dims=(1, 0))
        return self.transpose(-2, -1)

    def squeeze(self, dim: int | Sequence[int] | None = None) -> Tensor:
        """Without the axes of size 1 (or those of them that `dim` names).

        >>> import chainrule as cr
        >>> cr.zeros(1, 3, 1).squeeze().shape, cr.zeros(1, 3, 1).squeeze(0).shape
        ((3,), (3, 1))
        """
        named = axes("squeeze", dim, self.ndim)
        return self._viewed(tuple(s for a, s in enumerate(self.shape) if s != 1 or a not in named))

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new axis of size 1 at `dim`.

        >>> import chainrule as cr
        >>> cr.zeros(3).unsqueeze(0).shape, cr.zeros(3).unsqueeze(-1).shape
        ((1, 3), (3, 1))
        """
        at = axis("unsqueeze", dim, self.ndim + 1)
        return self._viewed((*self.shape[:at], 1, *self.shape[at:]))

    def expand(self, *shape: Size, size: Size | None = None) -> Tensor:
        """Axes of size 1 repeated to `shape` without copying; -1 keeps a size.

        Raises:
            ShapeError: another axis would have to grow.

        >>> import chainrule as cr
        >>> cr.tensor([[1], [2]]).expand(-1, 3)
        tensor([[1, 1, 1],
                [2, 2, 2]])
        """
        wanted = sizes(shape, size)
        offset = len(wanted) - self.ndim
        kept = tuple(self.shape[a - offset] if size == -1 and a >= offset else size for a, size in enumerate(wanted))
        if kept[max(offset, 0) :] == self.shape and all(size == 1 for size in kept[: max(offset, 0)]):
            return self._viewed(kept)  # nothing is repeated, so it may be written to
        return view(shaping.expand, self, shape=kept)

    broadcast_to = expand

    def expand_as(self, other: Tensor) -> Tensor:
        """`expand` to the shape of `other`."""
        return self.expand(other.shape)

    def repeat(self, *repeats: Size) -> Tensor:
        """The tensor tiled `repeats` times along each axis, from the last one backwards.

        >>> import chainrule as cr
        >>> cr.tensor([1, 2]).repeat(2, 2)
        tensor([[1, 2, 1, 2],
                [1, 2, 1, 2]])
        """
        times = sizes(repeats)
        if min(times, default=0) < 0:
            raise graph.shape_error("repeat", "the numbers must not be negative", str(times), "Use 0 or more.")
        if len(times) < self.ndim:
            raise graph.shape_error(
                "repeat", f"there must be a number for each of the {self.ndim} axes", str(times), "Add ones in front."
            )
        shape = (1,) * (len(times) - self.ndim) + self.shape
        spaced = self.reshape(tuple(size for s in shape for size in (1, s)))
        tiled = spaced.expand(tuple(size for n, s in zip(times, shape, strict=True) for size in (n, s)))
        result = tiled.reshape(tuple(n * s for n, s in zip(times, shape, strict=True)))
        return result.clone()  # PyTorch's is a copy too

    def tile(self, *dims: Size) -> Tensor:
        """`repeat` that takes fewer numbers than there are axes: the missing ones in front are 1."""
        times = sizes(dims)
        return self.repeat((1,) * (self.ndim - len(times)) + times)

    def sum_to_size(self, *shape: Size) -> Tensor:
        """Summed over the axes that broadcasting from `shape` would have added: expand's adjoint.

        >>> import chainrule as cr
        >>> cr.ones(4, 3).sum_to_size(1, 3)
        tensor([[4., 4., 4.]])
        """
        wanted = sizes(shape)
        if wanted == self.shape:
            return self._tensor
        offset = self.ndim - len(wanted)
        pairs = zip(wanted, self.shape[max(offset, 0) :], strict=False)
        if offset < 0 or any(size not in (1, own) for size, own in pairs):
            raise graph.shape_error(
                "sum_to_size", f"the shape must broadcast to {self.shape}", str(wanted), "Check the order of the axes."
            )
        grown = tuple(a for a, s in enumerate(self.shape) if a < offset or (wanted[a - offset] == 1 and s != 1))
        return (self.sum(grown) if grown else self._tensor).reshape(wanted)

    def flip(self, *axes_to_flip: Size, dims: Size | None = None) -> Tensor:
        """The elements in reverse order along `dims` (a copy).

        >>> import chainrule as cr
        >>> cr.tensor([1, 2, 3]).flip(0)
        tensor([3, 2, 1])
        """
        chosen = axes("flip", sizes(axes_to_flip, dims), self.ndim)
        return apply(shaping.flip, self, dims=chosen if self.ndim else ())

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """The `length` elements from `start` on along one axis.

        >>> import chainrule as cr
        >>> cr.arange(5).narrow(0, 1, 3)
        tensor([1, 2, 3])
        """
        at = self._axis_of("narrow", dim)
        start, length = integer(start, "narrow", "start"), integer(length, "narrow", "length")
        begin = start + self.shape[at] if start < 0 else start
        if not 0 <= begin <= begin + length <= self.shape[at]:
            raise graph.shape_error(
                "narrow", f"start and start + length must lie within axis {at} of size {self.shape[at]}",
                f"start {start}, length {length}", "Check the bounds.",
            )  # fmt: skip
        low = tuple(begin if a == at else 0 for a in range(self.ndim))
        high = tuple(begin + length if a == at else s for a, s in enumerate(self.shape))
        return self._slice(low, high, (1,) * self.ndim)

    def unfold(self, dimension: int, size: int, step: int) -> Tensor:
        """The windows of `size` elements along one axis, each `step` behind the one before: they lie along a new last axis.

        Nothing is copied; where windows overlap, the gradient of an element is the sum over those it lies in.

        Raises:
            SettingError: a size or a step of less than 1.
            ShapeError: the axis is shorter than a window.

        >>> import chainrule as cr
        >>> cr.arange(5).unfold(0, 3, 2)
        tensor([[0, 1, 2],
                [2, 3, 4]])
        """
        at = self._axis_of("unfold", dimension)
        size, step = integer(size, "unfold", "size"), integer(step, "unfold", "step")
        for name, value in (("size", size), ("step", step)):
            if value < 1:
                raise SettingError(f"{graph.who('unfold')}: {name} must be a whole number of 1 or more, got {value}.")
        if size > self.shape[at]:
            raise graph.shape_error(
                "unfold", f"a window must fit in axis {at} of size {self.shape[at]}", f"size {size}",
                "Take smaller windows.",
            )  # fmt: skip
        return self._unfold(at, size, step, 1)

    def select(self, dim: int, index: int) -> Tensor:
        """The slice at `index` along one axis, without it: ``x[index]`` where `dim` is 0.

        >>> import chainrule as cr
        >>> cr.arange(6).reshape(2, 3).select(1, -1)
        tensor([2, 5])
        """
        at, index = self._axis_of("select", dim), integer(index, "select", "index")
        size = self.shape[at]
        if not -size <= index < size:
            raise out_of_range(index, size, at, graph.who("select"))
        return self.narrow(at, index % size, 1).squeeze(at)

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of `split_size` (the last may be smaller), or of the sizes given, which must add up.

        >>> import chainrule as cr
        >>> cr.arange(5).split(2)
        (tensor([0, 1]), tensor([2, 3]), tensor([4]))
        """
        total = self.shape[self._axis_of("split", dim)]
        if not isinstance(split_size, (tuple, list)):
            split_size = integer(split_size, "split", "split_size")
            if split_size < 1:
                raise graph.shape_error("split", "split_size must be positive", str(split_size), "Use at least 1.")
            parts = [min(split_size, total - start) for start in range(0, max(total, 1), split_size)]
        else:
            parts = [integer(size, "split", "each size") for size in split_size]
        if sum(parts) != total:
            raise graph.shape_error(
                "split",
                f"the sizes must add up to the axis, {total}",
                f"{parts} with {sum(parts)}",
                "Adjust the last one.",
            )
        starts = [sum(parts[:i]) for i in range(len(parts))]
        return tuple(self.narrow(dim, start, part) for start, part in zip(starts, parts, strict=True))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` pieces of equal size (the last may be smaller).

        >>> import chainrule as cr
        >>> [piece.shape for piece in cr.zeros(5, 2).chunk(3)]
        [(2, 2), (2, 2), (1, 2)]
        """
        chunks = integer(chunks, "chunk", "chunks")
        if chunks < 1:
            raise graph.shape_error("chunk", "chunks must be positive", str(chunks), "Use at least 1.")
        size = self.shape[self._axis_of("chunk", dim)]
        return self.split(-(-size // chunks) if size else [0] * chunks, dim)

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The slices along an axis, without it.

        >>> import chainrule as cr
        >>> cr.tensor([[1, 2], [3, 4]]).unbind(1)
        (tensor([1, 3]), tensor([2, 4]))
        """
        at = self._axis_of("unbind", dim)
        return tuple(self.narrow(at, i, 1).squeeze(at) for i in range(self.shape[at]))

    def _axis_of(self, name: str, dim: int) -> int:
        """`dim`, of a tensor that has one."""
        if not self.ndim:
            raise ShapeError(f"{graph.who(name)}: needs a tensor with at least one axis, got none. Reshape it to (1,).")
        return axis(name, dim, self.ndim)

    def tril(self, diagonal: int = 0) -> Tensor:
        """The lower triangle of the last two axes, zero above."""
        offset = integer(diagonal, "tril", "diagonal")
        return self._triangle(lambda row, column: column <= row + offset)

    def triu(self, diagonal: int = 0) -> Tensor:
        """The upper triangle of the last two axes, zero below."""
        offset = integer(diagonal, "triu", "diagonal")
        return self._triangle(lambda row, column: column >= row + offset)

    def _triangle(self, keep: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        if self.ndim < 2:
            raise ShapeError(f"{graph.who('tril/triu')}: needs at least 2 axes, got shape {self.shape}. Unsqueeze it.")
        rows, columns = arange(self.shape[-2]).unsqueeze(1), arange(self.shape[-1])
        return self.masked_fill(~keep(rows, columns), 0)

    def contiguous(self, memory_format: object = None) -> Tensor:
        """Itself, or a copy of a view whose elements do not lie in row-major order."""
        return self._tensor if is_contiguous(self) else self._tensor.clone()

    def is_contiguous(self, memory_format: object = None) -> bool:
        """Whether `contiguous` is this tensor itself; True of everything but views."""
        return is_contiguous(self)

    # -- the primitives' own forms, for derivative rules ----------------------------------------
    def _slice(
        self, start: tuple[int, ...], stop: tuple[int, ...], step: tuple[int, ...], shape: Shape | None = None
    ) -> Tensor:
        """The slice, in another shape where one is given."""
        if stop == self.shape and not any(start) and all(every == 1 for every in step):
            return same_view(self) if shape is None else self._viewed(shape)
        params = {"start": start, "stop": stop, "step": step}
        before = self._node
        value = before._array
        if value.__class__ is np.ndarray and not before.requires_grad and not graph.written():
            # The value is there, and there is no history to keep: without asking the ops.
            before.seen = True
            part = value[tuple(map(slice, start, stop, step))]
            path: tuple[Any, ...] = ((shaping.slice, params),)
            if shape is not None and shape != part.shape:
                part, path = part.reshape(shape), (*path, (shaping.reshape, {"shape": shape}))
            return view_of(wrap(graph.leaf(part, before.dtype)), self, path, before)
        if shape is None:
            return view(shaping.slice, self, **params)
        sliced = apply(shaping.slice, self, **params)
        if sliced.shape == shape:
            return view_of(sliced, self, ((shaping.slice, params),), before)
        path = ((shaping.slice, params), (shaping.reshape, {"shape": shape}))
        return view_of(apply(shaping.reshape, sliced, shape=shape), self, path, before)

    def _unfold(self, dim: int, size: int, step: int, dilation: int) -> Tensor:
        return view(shaping.unfold, self, dim=dim, size=size, step=step, dilation=dilation)

    def _pad(self, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...]) -> Tensor:
        if not any((*low, *high, *interior)):
            return self._tensor
        return apply(shaping.pad, self, low=low, high=high, interior=interior)
