"""Reading and writing at positions that are themselves data.

`k` index tensors of one shape (or shapes that broadcast) address the first `k` axes; the axes behind
them travel along. Negative indices count from the end; one outside its axis is an error, eager and
compiled alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import DtypeError, IndexRangeError
from chainrule.graph import Node, Op, Shape, Type, shape_error, who
from chainrule.ops.elementwise import broadcast_shapes


def _check_indices(name: str, indices: tuple[Node, ...]) -> Shape:
    for node in indices:
        if not node.dtype.is_integer:
            raise DtypeError(
                f"{who(name)}: indices must be integers, got {node.dtype.name}. Convert them with .long()."
            )
    return broadcast_shapes(f"{name} (indices)", *(node.shape for node in indices))


def out_of_range(index: int, size: int, axis: int, where: str) -> IndexRangeError:
    return IndexRangeError(
        f"{where}: index {index} is out of range for axis {axis} of size {size}: it must be in "
        f"[{-size}, {size - 1}]. Check the indices (labels start at 0)."
    )


def _in_range(name: str, x: Any, indices: tuple[Any, ...]) -> tuple[Any, ...]:
    for axis, index in enumerate(indices):
        size = x.shape[axis]
        if index.size and (index.min() < -size or index.max() >= size):
            bad = index[(index < -size) | (index >= size)].flat[0]
            raise out_of_range(int(bad), size, axis, who(name))
    return tuple(indices)


# -- take ------------------------------------------------------------------------------------
def _infer_take(x: Node, *indices: Node) -> Type:
    return Type(_check_indices("index", indices) + x.shape[len(indices) :], x.dtype)


def _numpy_take(x: Any, *indices: Any) -> Any:
    return x[_in_range("index", x, indices)]


take = Op(
    "take", "take", _infer_take,
    numpy=_numpy_take,
    # Where one place was taken often, the sum of what comes there; a single place is taken once.
    vjp=lambda i: (lambda dY, Y, x, *indices: dY.new_zeros(x.shape)._put_add(indices, dY)
                   if any(index.shape for index in indices) else dY.new_zeros(x.shape)._put(indices, dY)) if i == 0 else None,
    cost=2,
    moves=True,
)  # fmt: skip


# -- put: base, source, then the indices --------------------------------------------------------
def _infer_put(base: Node, source: Node, *indices: Node) -> Type:
    shape = _check_indices("put", indices) + base.shape[len(indices) :]
    if source.shape != shape:
        raise shape_error(
            "put", f"the source must have the shape of what it is written to, {shape}", str(source.shape),
            "Expand or reshape the source.",
        )  # fmt: skip
    if source.dtype != base.dtype:
        raise DtypeError(
            f"{who('put')}: source and target must have one dtype, got {source.dtype.name} and {base.dtype.name}. "
            f"Convert the source with .to(dtype)."
        )
    return Type(base.shape, base.dtype)


def _numpy_put_add(base: Any, source: Any, *indices: Any) -> Any:
    out = base.copy()
    np.add.at(out, _in_range("put", base, indices), source)
    return out


def _numpy_put(base: Any, source: Any, *indices: Any) -> Any:
    out = base.copy()
    out[_in_range("put", base, indices)] = source
    return out


def _rule(for_base: Any) -> Any:
    def choose(i: int) -> Any:
        if i == 0:
            return for_base
        if i == 1:
            return lambda dY, Y, base, source, *indices: dY._take(indices)
        return None

    return choose


put_add = Op(
    "put_add", "put", _infer_put,
    numpy=_numpy_put_add,
    vjp=_rule(lambda dY, Y, base, source, *indices: dY),
    lower=lambda e, old, new: e.add(old, new),
)  # fmt: skip
# Where an index stands twice, the last one counts; the gradient then flows to each of them, as in PyTorch.
put = Op(
    "put", "put", _infer_put,
    numpy=_numpy_put,
    vjp=_rule(lambda dY, Y, base, source, *indices: dY._put(indices, dY.new_zeros(source.shape))),
    lower=lambda e, old, new: new,
    moves=True,
)  # fmt: skip


# -- check_index: made by the compiler in front of every index that is data ---------------------------
# The least index is -size where negative ones count from the end, and 0 where they are nothing: labels, categories. A
# divisor's place is behind the end of an axis of 1 where it is 0.
def _numpy_check(index: Any, size: int, least: int, divisor: bool = False) -> Any:
    (checked,) = _in_range("index", np.empty((size, 0)), (index if least < 0 else np.where(index < 0, size, index),))
    return np.where(checked < 0, checked + size, checked)


check_index = Op(
    "check_index", "elementwise",
    infer=lambda index, *, size, least, divisor=False: index.type,
    numpy=_numpy_check,
    vjp=(None,),
    lower=lambda e, index, size, least, divisor=False: e.wrap_index(index, size) if least < 0 else index,
)  # fmt: skip

OPS = [take, put_add, put, check_index]
