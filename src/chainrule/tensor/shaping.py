"""Tensor's ways to look at the same elements in another shape or order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chainrule import graph
from chainrule.errors import ShapeError
from chainrule.ops import shaping
from chainrule.tensor.core import apply, axes, axis, view
from chainrule.tensor.reductions import Reductions

if TYPE_CHECKING:
    from chainrule.graph import Shape
    from chainrule.tensor import Tensor

Size = Any  # an int, or the first of several, or a sequence of them


def sizes(shape: tuple[Any, ...]) -> Shape:
    """``f(2, 3)`` and ``f((2, 3))`` alike."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return tuple(int(size) for size in shape)


class Shaping(Reductions):
    """Views: reshape, permute, expand, narrow, and their kin."""

    __slots__ = ()

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len(): a tensor without axes has no length. Use .item() for its value.")
        return self.shape[0]

    def reshape(self, *shape: Size) -> Tensor:
        """The same elements in another shape; -1 stands for the size that is left over."""
        wanted = sizes(shape)
        if wanted.count(-1) == 1:
            known = math.prod(size for size in wanted if size != -1)
            if known == 0 or self.numel() % known:
                raise graph.shape_error(
                    "reshape", f"-1 must stand for a whole number of elements of {self.shape}", str(wanted),
                    f"{self.numel()} elements do not divide by {known}; change the other sizes.",
                )  # fmt: skip
            wanted = tuple(self.numel() // known if size == -1 else size for size in wanted)
        return self if wanted == self.shape else view(shaping.reshape, self, shape=wanted)  # type: ignore[return-value]

    view = reshape

    def view_as(self, other: Tensor) -> Tensor:
        return self.reshape(other.shape)

    reshape_as = view_as

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Axes `start_dim` to `end_dim` as one."""
        if not self.ndim:
            return self.reshape(1)
        first, last = axis("flatten", start_dim, self.ndim), axis("flatten", end_dim, self.ndim)
        return self.reshape(*self.shape[:first], math.prod(self.shape[first : last + 1]), *self.shape[last + 1 :])

    def unflatten(self, dim: int, shape: Sequence[int]) -> Tensor:
        at = axis("unflatten", dim, self.ndim)
        return self.reshape(*self.shape[:at], *shape, *self.shape[at + 1 :])

    def permute(self, *dims: Size) -> Tensor:
        """The axes in another order."""
        order = tuple(axis("permute", d, self.ndim) for d in sizes(dims))
        if sorted(order) != list(range(self.ndim)):
            raise graph.shape_error(
                "permute", f"dims must name each of the {self.ndim} axes once", str(sizes(dims)), "List every axis."
            )
        return self if order == tuple(range(self.ndim)) else view(shaping.permute, self, dims=order)  # type: ignore[return-value]

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two axes exchanged."""
        order = list(range(self.ndim))
        a, b = axis("transpose", dim0, self.ndim), axis("transpose", dim1, self.ndim)
        if self.ndim:
            order[a], order[b] = b, a
        return self.permute(order)

    def movedim(self, source: int, destination: int) -> Tensor:
        order = list(range(self.ndim))
        order.insert(
            axis("movedim", destination, self.ndim), order.pop(axis("movedim", source, self.ndim))
        )
        return self.permute(order)

    def t(self) -> Tensor:
        if self.ndim > 2:
            raise ShapeError(
                f"{graph.who('t')}: needs at most 2 axes, got shape {self.shape}. Use .mT or .transpose(dim0, dim1)."
            )
        return self.transpose(0, 1) if self.ndim == 2 else self  # type: ignore[return-value]

    @property
    def T(self) -> Tensor:
        """All axes in reverse order."""
        return self.permute(tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return self.transpose(-2, -1)

    def squeeze(self, dim: int | Sequence[int] | None = None) -> Tensor:
        """Without the axes of size 1 (or those of them that `dim` names)."""
        named = axes("squeeze", dim, self.ndim)
        return self.reshape(tuple(s for a, s in enumerate(self.shape) if s != 1 or a not in named))

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new axis of size 1 before `dim`."""
        at = axis("unsqueeze", dim, self.ndim + 1)
        return self.reshape(*self.shape[:at], 1, *self.shape[at:])

    def expand(self, *shape: Size) -> Tensor:
        """Axes of size 1 repeated to `shape` without copying; -1 keeps a size."""
        wanted = sizes(shape)
        offset = len(wanted) - self.ndim
        kept = tuple(
            self.shape[a - offset] if size == -1 and a >= offset else size for a, size in enumerate(wanted)
        )
        return self if kept == self.shape else view(shaping.expand, self, shape=kept)  # type: ignore[return-value]

    broadcast_to = expand

    def expand_as(self, other: Tensor) -> Tensor:
        return self.expand(other.shape)

    def repeat(self, *repeats: Size) -> Tensor:
        """The tensor tiled `repeats` times along each axis."""
        times = sizes(repeats)
        shape = (1,) * (len(times) - self.ndim) + self.shape
        spaced = self.reshape(tuple(size for s in shape for size in (1, s)))
        tiled = spaced.expand(tuple(size for n, s in zip(times, shape, strict=True) for size in (n, s)))
        return tiled.reshape(tuple(n * s for n, s in zip(times, shape, strict=True)))

    def sum_to_size(self, *shape: Size) -> Tensor:
        """Summed over the axes that broadcasting from `shape` would have added: expand's adjoint."""
        wanted = sizes(shape)
        if wanted == self.shape:
            return self  # type: ignore[return-value]
        offset = self.ndim - len(wanted)
        grown = tuple(a for a, s in enumerate(self.shape) if a < offset or (wanted[a - offset] == 1 and s != 1))
        return (self.sum(grown) if grown else self).reshape(wanted)

    def flip(self, *dims: Size) -> Tensor:
        """The elements in reverse order along `dims`."""
        return apply(shaping.flip, self, dims=axes("flip", sizes(dims), self.ndim))

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """The `length` elements from `start` on along one axis."""
        at = axis("narrow", dim, self.ndim)
        begin = start + self.shape[at] if start < 0 else start
        if not 0 <= begin <= begin + length <= self.shape[at]:
            raise graph.shape_error(
                "narrow", f"start and start + length must lie within axis {at} of size {self.shape[at]}",
                f"start {start}, length {length}", "Check the bounds.",
            )  # fmt: skip
        low = tuple(begin if a == at else 0 for a in range(self.ndim))
        high = tuple(begin + length if a == at else s for a, s in enumerate(self.shape))
        return self._slice(low, high, (1,) * self.ndim)

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of `split_size` (the last may be smaller), or of the sizes given."""
        total = self.shape[axis("split", dim, self.ndim)]
        if isinstance(split_size, int):
            parts = [min(split_size, total - start) for start in range(0, total, split_size)]
        else:
            parts = list(split_size)
        starts = [sum(parts[:i]) for i in range(len(parts))]
        return tuple(self.narrow(dim, start, part) for start, part in zip(starts, parts, strict=True))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` pieces of equal size (the last may be smaller)."""
        return self.split(-(-self.shape[axis("chunk", dim, self.ndim)] // chunks), dim)

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The slices along an axis, without it."""
        at = axis("unbind", dim, self.ndim)
        return tuple(self.narrow(at, i, 1).squeeze(at) for i in range(self.shape[at]))

    def tril(self, diagonal: int = 0) -> Tensor:
        """The lower triangle of the last two axes, zero above."""
        return self._triangle(lambda row, column: column <= row + diagonal)

    def triu(self, diagonal: int = 0) -> Tensor:
        """The upper triangle of the last two axes, zero below."""
        return self._triangle(lambda row, column: column >= row + diagonal)

    def _triangle(self, keep: Any) -> Tensor:
        from chainrule.tensor.creation import arange

        rows, columns = arange(self.shape[-2]).unsqueeze(1), arange(self.shape[-1])
        return self.where(keep(rows, columns), 0)

    def contiguous(self) -> Tensor:
        """Itself: layout is the compiler's concern."""
        return self  # type: ignore[return-value]

    # -- the primitives' own forms, for derivative rules ----------------------------------------
    def _slice(self, start: tuple[int, ...], stop: tuple[int, ...], step: tuple[int, ...]) -> Tensor:
        if stop == self.shape and not any(start) and all(every == 1 for every in step):
            return self  # type: ignore[return-value]
        return view(shaping.slice, self, start=start, stop=stop, step=step)

    def _pad(self, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...]) -> Tensor:
        if not any((*low, *high, *interior)):
            return self  # type: ignore[return-value]
        return apply(shaping.pad, self, low=low, high=high, interior=interior)


