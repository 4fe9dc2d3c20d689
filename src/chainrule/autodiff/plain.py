"""Tensors without nodes, for a backward pass that nobody will differentiate or trace.

The derivative rules are formulas over Tensors. An eager backward pass keeps none of the nodes that they make, so it
hands them these: the operators that the rules use most compute on the arrays themselves, by the same NumPy functions
and so to the same bits. Whatever else a rule asks for goes the way of any tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import dtypes, graph
from chainrule.dtypes import DType
from chainrule.graph import Array, Node, Op, Shape
from chainrule.ops import elementwise as ew
from chainrule.ops import reduction, shaping
from chainrule.quiet import here, in_the_middle
from chainrule.tensor import Tensor
from chainrule.tensor.core import lifted

F32, F64 = dtypes.float32.numpy, dtypes.float64.numpy
_OURS = {dtype.numpy: dtype for dtype in dtypes.ALL}


class Plain(Tensor):
    """A tensor that is an array, and makes itself a node only where one is asked for."""

    __slots__ = ("_array", "_made")
    _grad = _views = None  # of the class, in place of a tensor's own: nobody sets them
    _families = ()

    def __init__(self, array: Array, node: Node | None = None) -> None:
        self._array, self._made = array, node

    @property
    def _node(self) -> Node:
        """The node, from the first question on."""
        made = self._made
        if made is None:
            made = self._made = graph.leaf(self._array, _OURS[self._array.dtype])
        return made

    @_node.setter
    def _node(self, node: Node) -> None:
        self._made = node

    @property
    def shape(self) -> Shape:
        """The size of every axis."""
        shape: Shape = self._array.shape
        return shape

    @property
    def dtype(self) -> DType:
        """The element type."""
        return _OURS[self._array.dtype]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self._array.ndim

    def permute(self, *order_of_dims: Any, dims: Any = None) -> Tensor:
        if len(order_of_dims) == 1 and isinstance(order_of_dims[0], tuple) and min(order_of_dims[0], default=0) >= 0:
            return Plain(self._array.transpose(order_of_dims[0]))
        return super().permute(*order_of_dims, dims=dims)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return Plain(self._array.swapaxes(-1, -2))

    def reshape(self, *sizes_or_shape: Any, shape: Any = None) -> Tensor:
        if len(sizes_or_shape) == 1 and isinstance(sizes_or_shape[0], tuple) and -1 not in sizes_or_shape[0]:
            return Plain(self._array.reshape(sizes_or_shape[0]))
        return super().reshape(*sizes_or_shape, shape=shape)

    def expand(self, *shape: Any, size: Any = None) -> Tensor:
        if len(shape) == 1 and isinstance(shape[0], tuple) and -1 not in shape[0]:
            return Plain(shaping.expand.numpy(self._array, shape[0]))
        return super().expand(*shape, size=size)

    def where(self, condition: Tensor, other: Any) -> Tensor:
        if type(other) in (int, float) and _floating(self._array) and condition.dtype is dtypes.bool_:
            return _made(np.where, array_of(condition), self._array, self._array.dtype.type(other))
        return super().where(condition, other)

    def masked_fill(self, mask: Tensor, value: Any) -> Tensor:
        if type(value) in (int, float) and _floating(self._array) and mask.dtype is dtypes.bool_:
            return _made(np.where, array_of(mask), self._array.dtype.type(value), self._array)
        return super().masked_fill(mask, value)

    def sum(self, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Tensor:
        if dim is None and not keepdim and not kwargs and self._array.ndim and _floating(self._array):
            return _made(reduction.sum.numpy, self._array, tuple(range(self._array.ndim)))
        return super().sum(dim, keepdim, **kwargs)

    def __invert__(self) -> Tensor:
        return _made(np.invert, self._array) if self._array.dtype.kind == "b" else super().__invert__()

    def __neg__(self) -> Tensor:
        return _made(np.negative, self._array) if _floating(self._array) else super().__neg__()

    def __matmul__(self, other: Any) -> Tensor:
        if type(other) is Plain and self._array.ndim > 1 and other._array.ndim > 1:
            a, b = self._array, other._array
            if a.dtype is b.dtype and _floating(a) and (a.ndim == b.ndim == 2):
                return _made(np.matmul, a, b)
        return super().__matmul__(other)

    def _matmul_over_rows(self, other: Tensor) -> Tensor:
        return self @ other  # NumPy adds up in an order of its own

    def sum_to_size(self, *shape: Any) -> Tensor:
        wanted, own = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple) else shape, self._array.shape
        if wanted == own:
            return self
        offset = len(own) - len(wanted)
        if offset > 0 and own[offset:] == wanted and _floating(self._array):  # a bias's
            return _made(reduction.sum.numpy, self._array, tuple(range(offset)))
        fits = offset >= 0 and all(size in (1, s) for size, s in zip(wanted, own[offset:], strict=True))
        if not fits or not _floating(self._array):
            return super().sum_to_size(*shape)
        grown = tuple(a for a, s in enumerate(own) if a < offset or (wanted[a - offset] == 1 and s != 1))
        total = _made(reduction.sum.numpy, self._array, grown)._array if grown else self._array
        return Plain(total.reshape(wanted))


def plain(node: Node) -> Plain:
    """A tensor for a node that is there already."""
    value = node._array
    return Plain(node.value if value is None else value, node)


def array_of(tensor: Tensor) -> Array:
    return tensor._array if type(tensor) is Plain else lifted(tensor).value


def _floating(array: Array) -> bool:
    return array.dtype is F32 or array.dtype is F64


def _made(function: Callable[..., Any], *arguments: Any) -> Plain:
    try:
        value = here.run(function, *arguments)
    except RuntimeError as error:
        value = in_the_middle(error, function, *arguments)
    return Plain(value if type(value) is np.ndarray else np.asarray(value))


_SMALL = 1 << 24  # integers that every float is exact for


def _operator(name: str, function: Callable[..., Any], reflected: bool = False) -> None:
    """An operator of two floating tensors, or of one and a number."""
    otherwise = getattr(Tensor, name)

    def method(self: Plain, other: Any) -> Tensor:
        a = self._array
        kind = a.dtype
        if kind is not F32 and kind is not F64:
            result: Tensor = otherwise(self, other)
            return result
        if type(other) is Plain and other._array.dtype is kind:
            b = other._array
        elif isinstance(other, Tensor) and other.dtype is _OURS[kind]:
            b = array_of(other)
        elif type(other) is float or (type(other) is int and abs(other) < _SMALL):
            b = graph.const(other, _OURS[kind]).value
        else:
            result = otherwise(self, other)
            return result
        try:
            value = here.run(function, b, a) if reflected else here.run(function, a, b)
        except RuntimeError as error:
            value = in_the_middle(error, function, *((b, a) if reflected else (a, b)))
        return Plain(value if type(value) is np.ndarray else np.asarray(value))

    method.__name__ = name
    setattr(Plain, name, method)


def _function(op: Op) -> None:
    """A function of one floating tensor."""
    otherwise = getattr(Tensor, op.name)

    def method(self: Plain, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs or not _floating(self._array):
            result: Tensor = otherwise(self, *args, **kwargs)
            return result
        return _made(op.numpy, self._array)

    method.__name__ = op.name
    setattr(Plain, op.name, method)


for _op in (
    ew.exp, ew.expm1, ew.log, ew.log1p, ew.sqrt, ew.rsqrt, ew.sin, ew.cos, ew.tanh, ew.sigmoid, ew.abs, ew.sign, ew.erf,
    ew.relu,
):  # fmt: skip
    _function(_op)
for _name, _op in (("add", ew.add), ("sub", ew.sub), ("mul", ew.mul), ("truediv", ew.div)):
    _operator(f"__{_name}__", _op.numpy)
    _operator(f"__r{_name}__", _op.numpy, reflected=True)
for _name, _op in (("eq", ew.eq), ("ne", ew.ne), ("lt", ew.lt), ("le", ew.le), ("gt", ew.gt), ("ge", ew.ge)):
    _operator(f"__{_name}__", _op.numpy)
Plain.__hash__ = Tensor.__hash__  # type: ignore[method-assign]  # an __eq__ of its own would take it away
