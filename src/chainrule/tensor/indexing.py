"""``t[...]`` and ``t[...] = v``, and reading or writing at positions that are data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.errors import DtypeError, IndexRangeError
from chainrule.ops import indexing
from chainrule.tensor.core import (
    Handle,
    Operand,
    apply,
    as_dtype_tensor,
    as_operand,
    axis,
)
from chainrule.tensor.creation import arange, ones, tensor
from chainrule.tensor.shaping import Shaping

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

_FULL = slice(None)


class Indexing(Shaping):
    """Basic and advanced indexing with NumPy's rules."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Tensor:
        x: Any = self
        return read(x, _normalise(x, key))

    def __setitem__(self, key: Any, value: Operand) -> None:
        x: Any = self
        source = as_dtype_tensor(as_operand(value, "setitem"), self.dtype)
        self._rebind(written(x, _normalise(x, key), source), "setitem")

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a tensor without axes. Use .item() for its value.")
        return iter(self.unbind(0))

    # -- PyTorch's named forms ----------------------------------------------------------------
    def gather(self, dim: int, index: Tensor) -> Tensor:
        """Along `dim`, the elements that `index` (of the result's shape) names."""
        return self._take(_along(self, index, dim, "gather"))

    take_along_dim = gather

    def scatter_add(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """This tensor with `src` added along `dim` at `index`: gather's adjoint."""
        return self._put_add(_along(self, index, dim, "scatter_add"), src)

    def scatter(self, dim: int, index: Tensor, src: Operand) -> Tensor:
        """This tensor with `src` written along `dim` at `index`."""
        source = as_dtype_tensor(as_operand(src, "scatter"), self.dtype)
        return self._put(_along(self, index, dim, "scatter"), source.expand(index.shape))  # type: ignore[attr-defined]

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The slices along `dim` that `index` names."""
        at = axis("index_select", dim, self.ndim)
        return self[(_FULL,) * at + (index,)]

    def index_add(self, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """This tensor with the slices of `source` added along `dim` at `index`."""
        at = axis("index_add", dim, self.ndim)
        return self.movedim(at, 0)._put_add((index,), source.movedim(at, 0)).movedim(0, at)

    # -- the primitives' own forms ----------------------------------------------------------------
    def _take(self, indices: tuple[Any, ...]) -> Tensor:
        return apply(indexing.take, self, *indices)

    def _put_add(self, indices: tuple[Any, ...], source: Any) -> Tensor:
        return apply(indexing.put_add, self, source, *indices)

    def _put(self, indices: tuple[Any, ...], source: Any) -> Tensor:
        return apply(indexing.put, self, source, *indices)


def _along(x: Shaping, index: Tensor, dim: int, name: str) -> tuple[Tensor, ...]:
    """One index tensor an axis: `index` itself along `dim`, the position elsewhere."""
    if index.ndim != x.ndim:
        raise graph.shape_error(
            name, f"the index must have as many axes as the tensor {x.shape}", str(index.shape),
            "unsqueeze the index, or use indexing with [...].",
        )  # fmt: skip
    at = axis(name, dim, x.ndim)
    return tuple(
        index if a == at else arange(size).reshape(tuple(size if b == a else 1 for b in range(x.ndim)))
        for a, size in enumerate(index.shape)
    )


def _normalise(x: Shaping, key: Any) -> list[Any]:
    """The key as one entry an axis (int, slice or integer tensor) with None for new axes."""
    entries: list[Any] = []
    for entry in key if isinstance(key, tuple) else (key,):
        entries += _entries(entry)
    consumed = sum(entry is not None and entry is not Ellipsis for entry in entries)
    if consumed > x.ndim:
        raise IndexRangeError(
            f"{graph.who('index')}: too many indices for a tensor of shape {x.shape}: {consumed}. Drop some of them."
        )
    fill = [_FULL] * (x.ndim - consumed)
    dots = next((i for i, entry in enumerate(entries) if entry is Ellipsis), None)
    if dots is None:
        return entries + fill
    return entries[:dots] + fill + entries[dots + 1 :]


def _entries(entry: Any) -> list[Any]:
    """One entry of a key; a mask of n axes becomes n index tensors."""
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return [entry]
    if isinstance(entry, (int, np.integer)) and not isinstance(entry, (bool, np.bool_)):
        return [int(entry)]
    if not isinstance(entry, Handle):
        entry = tensor(np.asarray(entry))
    if entry.dtype == dtypes.bool_:  # a mask's count is data, so a trace (honestly) refuses it
        return [tensor(positions) for positions in np.nonzero(entry._node.value)]
    if not entry.dtype.is_integer:
        raise DtypeError(
            f"{graph.who('index')}: indices must be integers or bool, got {entry.dtype.name}. Convert with .long()."
        )
    return [entry]


def read(x: Any, entries: list[Any]) -> Tensor:
    """``x[entries]``: slices first, then integer tensors, with NumPy's placement of their axes."""
    sliced, advanced = _basic(x, entries)
    if not advanced:
        return sliced
    at = sorted(advanced)
    rest = [a for a in range(sliced.ndim) if a not in advanced]
    taken = sliced.permute(at + rest)._take(tuple(advanced[a] for a in at))
    if at != list(range(at[0], at[-1] + 1)):  # apart from each other: their axes come first
        return taken
    width = taken.ndim - len(rest)
    before = sum(a < at[0] for a in rest)
    order = [width + i for i in range(before)] + list(range(width)) + list(range(width + before, taken.ndim))
    return taken.permute(order)


def _basic(x: Any, entries: list[Any]) -> tuple[Any, dict[int, Any]]:
    """`x` after ints, slices and new axes; and the integer tensors by the axis each now addresses."""
    # NumPy treats an int beside an integer tensor as a tensor too; the result's axes then stand elsewhere
    # only if slices lie between them, where PyTorch and NumPy agree on moving them to the front.
    start, stop, step, shape = [], [], [], []
    advanced: dict[int, Any] = {}
    has_tensor = any(isinstance(entry, Handle) for entry in entries)
    source = iter(x.shape)
    for position, entry in enumerate(entries):
        if entry is None:
            shape.append(1)
            continue
        size = next(source)
        if isinstance(entry, Handle):
            advanced[len(shape)] = entry
            entry = _FULL
        if isinstance(entry, int):
            low = _bounded(entry, size, position)
            bounds, keep = (low, low + 1, 1), has_tensor
            if has_tensor:
                advanced[len(shape)] = arange(1).reshape(())
        else:
            bounds, keep = _bounds(entry, size), True
        for column, bound in zip((start, stop, step), bounds, strict=True):
            column.append(bound)
        if keep:
            shape.append(len(range(*bounds)))
    return x._slice(tuple(start), tuple(stop), tuple(step)).reshape(tuple(shape)), advanced


def _bounded(index: int, size: int, position: int) -> int:
    if not -size <= index < size:
        raise indexing.out_of_range(index, size, position, graph.who("index"))
    return index % size


def _bounds(entry: slice, size: int) -> tuple[int, int, int]:
    low, high, every = entry.indices(size)
    if every < 1:
        raise IndexRangeError(
            f"{graph.who('index')}: a slice's step must be positive, got {every}. Use .flip(dim) to reverse an axis."
        )
    return low, max(low, high), every


def written(x: Any, entries: list[Any], source: Any) -> Tensor:
    """`x` with `source` at ``x[entries]``."""
    if not any(isinstance(entry, Handle) for entry in entries):
        if not x.ndim:
            return source.expand(x.shape)
        start, stop, step = zip(*map(_span, (e for e in entries if e is not None), x.shape), strict=True)
        inner = tuple(len(range(*bounds)) for bounds in zip(start, stop, step, strict=True))
        shape = read_shape(entries, inner)
        block = source.expand(shape).reshape(inner)
        if inner == x.shape:
            return block
        covered = tuple(max(0, (n - 1) * every + 1) for n, every in zip(inner, step, strict=True))
        high = tuple(size - low - span for size, low, span in zip(x.shape, start, covered, strict=True))
        gaps = tuple(every - 1 for every in step)
        mask = ones(inner, dtype=dtypes.bool_)._pad(start, high, gaps)
        return block._pad(start, high, gaps).where(mask, x)
    positions = read(arange(math.prod(x.shape)).reshape(x.shape), entries)
    flat = x.reshape(-1)._put((positions.reshape(-1),), source.expand(positions.shape).reshape(-1))
    return flat.reshape(x.shape)


def _span(entry: Any, size: int) -> tuple[int, int, int]:
    if isinstance(entry, int):
        low = _bounded(entry, size, 0)
        return low, low + 1, 1
    return _bounds(entry, size)


def read_shape(entries: list[Any], inner: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that ``x[entries]`` has, for entries without tensors."""
    shape, sizes = [], iter(inner)
    for entry in entries:
        if entry is None:
            shape.append(1)
        else:
            size = next(sizes)
            if not isinstance(entry, int):
                shape.append(size)
    return tuple(shape)
