"""``t[...]`` and ``t[...] = v``, and reading or writing at positions that are data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from chainrule import dtypes, graph
from chainrule.errors import DtypeError, IndexRangeError, ShapeError
from chainrule.ops import indexing, shaping
from chainrule.ops.elementwise import broadcast_shapes
from chainrule.tensor.core import Handle, Number, Operand, apply, axis, view_of, wrap
from chainrule.tensor.creation import arange, given, ones, tensor
from chainrule.tensor.operands import as_operand, as_written, check_written
from chainrule.tensor.shaping import Shaping
from chainrule.tensor.whole import whole

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

Entry = Union[int, slice, "Tensor", None]  # one axis of a key; None makes a new axis
_FULL = slice(None)
_PLAIN = frozenset({int, slice})  # parts of an index that need no look


class Indexing(Shaping):
    """Basic and advanced indexing with PyTorch's rules."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Tensor:
        """The elements at `key`: ints, slices, ``...``, None, integer tensors or boolean masks.

        >>> import chainrule as cr
        >>> x = cr.arange(6).reshape(2, 3)
        >>> x[1, ::2], x[:, cr.tensor([2, 0])]
        (tensor([3, 5]), tensor([[2, 0],
                [5, 3]]))
        """
        if type(key) is int and self.ndim:
            return self._row(*_span(key, self.shape[0], 0))
        if isinstance(key, Handle) and key.ndim and self.ndim and key.dtype.is_integer:  # bool is not
            return self._take((key._tensor,))
        if _is_truth(key):  # PyTorch's: a new axis, of size 1 or 0
            return self.unsqueeze(0).narrow(0, 0, int(bool(key)))
        if type(key) is slice and self.ndim:
            return self._block(*_span(key, self.shape[0], 0))
        if type(key) is tuple and _PLAIN.issuperset(map(type, key)) and len(key) <= self.ndim:
            return read(self._tensor, [*key, *[_FULL] * (self.ndim - len(key))])
        return read(self._tensor, _normalise(self, key))

    def _block(self, low: int, high: int, every: int) -> Tensor:
        shape = self.shape
        none, one = (0,) * (len(shape) - 1), (1,) * (len(shape) - 1)
        return self._slice((low, *none), (high, *shape[1:]), (every, *one))

    def _row(self, low: int, high: int, every: int) -> Tensor:
        node = self._node
        shape, value = node.shape, node._array
        zeros_, ones_ = (0,) * (len(shape) - 1), (1,) * len(shape)
        if value.__class__ is not np.ndarray or node.requires_grad or graph._local.trace is not None:
            bounds = (low, *zeros_), (high, *shape[1:]), ones_
            found = self._varying(low, bounds)
            return self._slice(*bounds, shape[1:]) if found is None else found
        # Datasets are asked row by row: as `_slice` does it, without asking the ops, and with no history to keep.
        node.seen = True
        row = wrap(graph.Node(graph.LEAF, (), {}, (shape[1:], node.dtype), value[low, ...]))
        sliced = {"start": (low, *zeros_), "stop": (high, *shape[1:]), "step": ones_}
        return view_of(row, self, ((shaping.slice, sliced), (shaping.reshape, {"shape": shape[1:]})), node)

    def _varying(self, low: int, bounds: tuple[tuple[int, ...], ...]) -> Tensor | None:
        """The row at `low`, which lies in these bounds, where its number is an input: on a tape that met another one here."""
        tape = graph.waiting()
        node = None if tape is None or not graph._local.aliasing else self._node
        number = None if tape is None or node is None or node.trace is not None else tape.row(node, low)
        if number is None or node is None:
            return None
        sliced = dict(zip(("start", "stop", "step"), bounds, strict=True))
        path = (shaping.slice, sliced), (shaping.reshape, {"shape": node.shape[1:]})
        return view_of(self._take((wrap(number),)), self, path, node)

    def __setitem__(self, key: Any, value: Operand) -> None:
        """Write `value` at `key`, broadcast and cast to this tensor."""
        source = as_written(as_operand(value, "setitem"), self.dtype, "setitem")
        mask = _whole_mask(self, key)
        if mask is not None and not source.ndim:  # the count of a mask is data; `where` need not know it
            self._rebind(self._tensor.masked_fill(mask, source), "setitem")
        else:
            self._rebind(written(self._tensor, _normalise(self, key), source), "setitem")

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a tensor without axes. Use .item() for its value.")
        return iter(self.unbind(0))

    # -- PyTorch's named forms ----------------------------------------------------------------
    @whole
    def gather(self, dim: int, index: Tensor) -> Tensor:
        """Along `dim`, the elements that `index` (of the result's shape) names: ``out[i][j] = x[i][index[i][j]]``.

        Args:
            dim: the axis; on every other one, `index` must not be longer than the tensor.
            index: integers, with as many axes as the tensor.

        Raises:
            IndexRangeError: an index lies outside the axis.

        >>> import chainrule as cr
        >>> cr.tensor([[1, 2], [3, 4]]).gather(1, cr.tensor([[1], [0]]))
        tensor([[2],
                [3]])
        """
        index = given(index, "gather", "index")
        one, places = _with_axis(self), _with_axis(index)
        found = one._take(_along(one, places, dim, "gather"))
        return found if index.ndim else found.reshape(())

    def take_along_dim(self, indices: Tensor, dim: int | None = None) -> Tensor:
        """`gather` that broadcasts its index; without `dim`, from the flattened tensor.

        >>> import chainrule as cr
        >>> x = cr.tensor([[3, 1], [2, 4]])
        >>> x.take_along_dim(x.argmax(1, keepdim=True), dim=1)
        tensor([[3],
                [4]])
        """
        indices = given(indices, "take_along_dim", "indices")
        if dim is None:
            return self.reshape(-1).gather(0, indices.reshape(-1))
        at = axis("take_along_dim", dim, self.ndim)
        if indices.ndim != self.ndim:
            raise graph.shape_error(
                "take_along_dim", f"the indices must have as many axes as the tensor {self.shape}", str(indices.shape),
                "Unsqueeze them.",
            )  # fmt: skip
        rest = broadcast_shapes("take_along_dim", *((*s[:at], 1, *s[at + 1 :]) for s in (self.shape, indices.shape)))

        def along(size: int) -> tuple[int, ...]:
            return (*rest[:at], size, *rest[at + 1 :])

        return self.expand(along(self.shape[at])).gather(at, indices.expand(along(indices.shape[at])))

    def scatter_add(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """This tensor with `src` added along `dim` at `index`: gather's adjoint.

        >>> import chainrule as cr
        >>> cr.zeros(3).scatter_add(0, cr.tensor([0, 0, 2]), cr.tensor([1.0, 2.0, 3.0]))
        tensor([3., 0., 3.])
        """
        src = given(src, "scatter_add", "src")
        index = _with_axis(given(index, "scatter_add", "index"))
        one, source = _with_axis(self), _corner(_with_axis(src), index.shape, "scatter_add")
        return one._put_add(_along(one, index, dim, "scatter_add"), source).reshape(self.shape)

    def scatter(self, dim: int, index: Tensor, src: Operand | None = None, *, value: Number | None = None) -> Tensor:
        """This tensor with `src` (a number, or a tensor at least as long as `index`) written along `dim`.

        >>> import chainrule as cr
        >>> cr.zeros(2, 3).scatter(1, cr.tensor([[2], [0]]), 1.0)
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
        """
        source = as_written(as_operand(src if value is None else value, "scatter"), self.dtype, "scatter")
        index = _with_axis(given(index, "scatter", "index"))
        source = _corner(source, index.shape, "scatter") if source.ndim else source.expand(index.shape)
        one = _with_axis(self)
        return one._put(_along(one, index, dim, "scatter"), source).reshape(self.shape)

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The slices along `dim` that `index` names.

        >>> import chainrule as cr
        >>> cr.eye(3).index_select(0, cr.tensor([2, 0]))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
        """
        at, index = axis("index_select", dim, self.ndim), given(index, "index_select", "index")
        if index.ndim > 1:
            raise graph.shape_error(
                "index_select", "the index must have one axis", str(index.shape), "Flatten it, or use x[index]."
            )
        if not self.ndim:
            return self.reshape(1).index_select(0, index).reshape(())
        return self[(_FULL,) * at + (index.reshape(-1),)]

    def index_add(self, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
        """This tensor with the slices of alpha * `source` added along `dim` at `index`.

        >>> import chainrule as cr
        >>> cr.zeros(2).index_add(0, cr.tensor([1, 1]), cr.tensor([3.0, 4.0]))
        tensor([0., 7.])
        """
        index, source = _with_axis(given(index, "index_add", "index")), given(source, "index_add", "source")
        check_written(alpha, source.dtype, "index_add")
        at, scaled = axis("index_add", dim, self.ndim), source if alpha == 1 else (source * alpha).to(source.dtype)
        into, added = _with_axis(self).movedim(at, 0), _with_axis(scaled).movedim(at, 0)
        return into._put_add((index,), added).movedim(0, at).reshape(self.shape)

    def masked_select(self, mask: Tensor) -> Tensor:
        """The elements where `mask` holds, in order, without axes (eager only: how many is data).

        >>> import chainrule as cr
        >>> cr.tensor([1, 2, 3]).masked_select(cr.tensor([True, False, True]))
        tensor([1, 3])
        """
        mask = given(mask, "masked_select", "mask")
        shape = broadcast_shapes("masked_select", self.shape, mask.shape) or (1,)
        return self.expand(shape)[mask.expand(shape)]

    # -- the primitives' own forms ----------------------------------------------------------------
    def _take(self, indices: tuple[Tensor, ...]) -> Tensor:
        return apply(indexing.take, self, *indices)

    def _counted(self, size: int) -> Tensor:
        """These indices, of which none may count from the end: a label, a category. Known ones are checked by who asks."""
        return apply(indexing.check_index, self, size=size, least=0) if graph.tracing() else self._tensor

    def _put_add(self, indices: tuple[Tensor, ...], source: Tensor) -> Tensor:
        return apply(indexing.put_add, self, source, *indices)

    def _put(self, indices: tuple[Tensor, ...], source: Tensor) -> Tensor:
        return apply(indexing.put, self, source, *indices)


def _with_axis(x: Shaping) -> Tensor:
    """PyTorch takes a tensor without axes for one with one element."""
    return x._tensor if x.ndim else x.reshape(1)


def _is_truth(key: Any) -> bool:
    return isinstance(key, (bool, np.bool_)) or (isinstance(key, Handle) and not key.ndim and key.dtype == dtypes.bool_)


def _along(x: Shaping, index: Tensor, dim: int, name: str) -> tuple[Tensor, ...]:
    """One index tensor an axis: `index` itself along `dim`, the position elsewhere."""
    at = axis(name, dim, x.ndim)
    if index.ndim != x.ndim or any(
        n > size for a, (n, size) in enumerate(zip(index.shape, x.shape, strict=True)) if a != at
    ):
        raise graph.shape_error(
            name, f"the index must have as many axes as the tensor {x.shape}, and none but axis {at} longer",
            str(index.shape), "Unsqueeze or narrow the index, or use indexing with [...].",
        )  # fmt: skip
    return tuple(
        index if a == at else arange(size).reshape(tuple(size if b == a else 1 for b in range(x.ndim)))
        for a, size in enumerate(index.shape)
    )


def _corner(source: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """The first elements of `source`, as many as there are indices."""
    if source.ndim != len(shape) or any(n > size for n, size in zip(shape, source.shape, strict=True)):
        raise graph.shape_error(
            name, f"the source must be at least as long as the index {shape} on every axis", str(source.shape),
            "Expand the source, or narrow the index.",
        )  # fmt: skip
    return source._slice((0,) * len(shape), shape, (1,) * len(shape))


# -- keys ---------------------------------------------------------------------------------------
def _normalise(x: Handle, key: Any) -> list[Entry]:
    """The key as one entry an axis (int, slice or integer tensor), with None for new axes."""
    raw = [_entry(part) for part in (key if isinstance(key, tuple) else (key,))]
    consumed = sum(_consumes(part) for part in raw)
    if consumed > x.ndim:
        raise IndexRangeError(
            f"{graph.who('index')}: a tensor of shape {x.shape} takes {x.ndim} indices at most, got {consumed}. "
            f"Drop some of them."
        )
    dots = [i for i, part in enumerate(raw) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexRangeError(f"{graph.who('index')}: an index may hold one ellipsis, got {len(dots)}. Drop one.")
    fill = [_FULL] * (x.ndim - consumed)
    place = dots[0] if dots else len(raw)
    entries: list[Entry] = []
    for part in raw[:place] + fill + raw[place + 1 :]:
        if isinstance(part, Handle) and part.dtype == dtypes.bool_:
            entries += _positions(part._tensor, x.shape, sum(entry is not None for entry in entries))
        else:
            entries.append(part)
    return entries


def _entry(part: Any) -> Any:
    if part is None or part is Ellipsis or isinstance(part, slice):
        return part
    if isinstance(part, (int, np.integer)) and not isinstance(part, (bool, np.bool_)):
        return int(part)
    if isinstance(part, float) or (not isinstance(part, Handle) and not hasattr(part, "__len__")):
        raise DtypeError(
            f"{graph.who('index')}: an index is an integer, a slice, ..., None, or an array or tensor of integers or "
            f"bool, got {part!r}. Use int(...)."
        )
    if not isinstance(part, Handle):
        array = np.asarray(part)
        part = tensor(array if array.size or array.dtype == bool else array.astype(np.int64))  # [] holds floats
    if part.dtype.is_floating_point or (part.dtype == dtypes.bool_ and not part.ndim):
        raise DtypeError(
            f"{graph.who('index')}: indices must be integers, or a bool mask with axes, got "
            f"{part._node.type}. Convert with .long()."
        )
    return part


def _consumes(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, Handle) and part.dtype == dtypes.bool_ else 1


def _positions(mask: Tensor, shape: tuple[int, ...], first: int) -> list[Entry]:
    """A mask of n axes as n index tensors. Their length is data, so a trace (honestly) refuses it."""
    _check_mask(mask, shape[first : first + mask.ndim])
    return [tensor(positions) for positions in np.nonzero(mask._node.value)]


def _check_mask(mask: Handle, shape: tuple[int, ...]) -> None:
    if mask.shape != shape:
        raise IndexRangeError(
            f"{graph.who('index')}: a mask must have the shape of the axes it selects from, {shape}, got "
            f"{mask.shape}. Reshape or expand the mask."
        )


def _whole_mask(x: Handle, key: Any) -> Tensor | None:
    """The key as a mask over all of `x`, where it is a bool tensor over the first axes."""
    if isinstance(key, (bool, np.bool_)) or (isinstance(key, np.ndarray) and key.dtype == bool):
        key = tensor(key)
    if not isinstance(key, Handle) or key.dtype != dtypes.bool_ or not key.ndim <= x.ndim:
        return None
    _check_mask(key, x.shape[: key.ndim])
    return key._tensor.reshape(key.shape + (1,) * (x.ndim - key.ndim))


# -- reading ------------------------------------------------------------------------------------
def read(x: Tensor, entries: list[Entry]) -> Tensor:
    """``x[entries]``: ints and slices first, then integer tensors.

    Tensors that stand side by side leave their axes there; where slices lie between them, in front.
    """
    sliced, advanced = _basic(x, entries)
    for a in sorted((a for a, index in advanced.items() if not index.ndim), reverse=True):
        sliced = sliced.movedim(a, 0)._take((advanced.pop(a),))  # as an int would: the axis goes
        advanced = {b - (b > a): index for b, index in advanced.items()}
    if not advanced:
        return sliced
    at = sorted(advanced)
    rest = [a for a in range(sliced.ndim) if a not in advanced]
    taken = sliced.permute(at + rest)._take(tuple(advanced[a] for a in at))
    if at != list(range(at[0], at[-1] + 1)):
        return taken
    width = taken.ndim - len(rest)
    before = sum(a < at[0] for a in rest)
    order = [width + i for i in range(before)] + list(range(width)) + list(range(width + before, taken.ndim))
    return taken.permute(order)


def _basic(x: Tensor, entries: list[Entry]) -> tuple[Tensor, dict[int, Tensor]]:
    """`x` after ints, slices and new axes; and the integer tensors by the axis each now addresses."""
    bounds: list[Any] = []
    shape: list[int] = []
    advanced: dict[int, Tensor] = {}
    for entry in entries:
        if entry is None:
            shape.append(1)
            continue
        axis_number = len(bounds)
        if isinstance(entry, Handle):
            advanced[len(shape)] = entry._tensor
        span = _span(_FULL if isinstance(entry, Handle) else entry, x.shape[axis_number], axis_number)
        bounds.append(span)
        if not isinstance(entry, int):
            shape.append(len(range(*span)))
    start, stop, step = zip(*bounds, strict=True) if bounds else ((), (), ())
    return x._slice(start, stop, step, tuple(shape)), advanced


def _span(entry: int | slice, size: int, axis_number: int) -> tuple[int, int, int]:
    """What an int or slice names of an axis, as start, stop, step."""
    if isinstance(entry, int):
        if not -size <= entry < size:
            raise indexing.out_of_range(entry, size, axis_number, graph.who("index"))
        low = entry % size
        return low, low + 1, 1
    low, high, every = entry.indices(size)
    if every < 1:
        raise ShapeError(
            f"{graph.who('index')}: a slice's step must be positive, got {every}. Use .flip(dim) to reverse an axis."
        )
    return low, max(low, high), every


# -- writing ------------------------------------------------------------------------------------
def written(x: Tensor, entries: list[Entry], source: Tensor) -> Tensor:
    """`x` with `source` at ``x[entries]``."""
    if any(isinstance(entry, Handle) for entry in entries):
        positions = read(arange(math.prod(x.shape)).reshape(x.shape), entries)
        block = _fitted(source, positions.shape)
        flat = x.reshape(-1)._put((positions.reshape(-1),), block.reshape(-1))
        return flat.reshape(x.shape)
    used: list[Any] = [entry for entry in entries if entry is not None]
    bounds = [_span(entry, size, a) for a, (entry, size) in enumerate(zip(used, x.shape, strict=True))]
    inner = tuple(len(range(*span)) for span in bounds)
    sizes = iter(zip(used, inner, strict=True))
    shape = []
    for entry in entries:
        if entry is None:
            shape.append(1)
        else:
            of_axis, size = next(sizes)
            if not isinstance(of_axis, int):
                shape.append(size)
    block = _fitted(source, tuple(shape)).reshape(inner)
    return written_block(x, block, tuple(low for low, _, _ in bounds), tuple(every for _, _, every in bounds))


def _fitted(source: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`source` broadcast to the shape it is written to; leading axes of size 1 may be too many."""
    extra = source.ndim - len(shape)
    if extra > 0 and all(size == 1 for size in source.shape[:extra]):
        source = source.reshape(source.shape[extra:])
    try:
        return source.expand(shape)
    except ShapeError as error:
        raise graph.shape_error(
            "setitem", f"the value must broadcast to what it is written to, {shape}", str(source.shape),
            "Reshape the value, or check the index.",
        ) from error  # fmt: skip


def written_block(x: Tensor, block: Tensor, start: tuple[int, ...], step: tuple[int, ...]) -> Tensor:
    """`x` with `block` in place of the slice from `start` on, every `step`-th element: slice's inverse."""
    if block.shape == x.shape:
        return block
    covered = [max(0, (n - 1) * every + 1) for n, every in zip(block.shape, step, strict=True)]
    high = tuple(size - low - span for size, low, span in zip(x.shape, start, covered, strict=True))
    gaps = tuple(every - 1 for every in step)
    mask = ones(block.shape, dtype=dtypes.bool_)._pad(start, high, gaps)
    return block._pad(start, high, gaps).where(mask, x)
