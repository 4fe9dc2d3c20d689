"""One column of an op's Jacobian: which output elements read an input element, and with which derivative.

Found from what the op declares: an elementwise op's own rule on the elements concerned, a view's (or
gather's) own reference on the numbers of the elements, a product's other factor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.dtypes import computed
from chainrule.graph import Array, Node
from chainrule.ops import contraction, convolution, indexing, reduction
from chainrule.tensor.core import numbers
from chainrule.tensor.creation import ones_like, tensor

Value = Callable[[Node], Array]
Column = tuple[Array, Array]  # positions of output elements (row-major), and the derivative of each


def column(reader: Node, argument: int, position: int, value: Value) -> Column | None:
    """The output elements of `reader` that element `position` of its input moves, and how much.

    None for an op that says nothing about single elements (a user's own derivative, a compiled function).
    """
    op = reader.op
    if says_nothing(reader):
        return None
    if op.rule(argument) is None:
        return np.zeros(0, np.int64), np.zeros(0)
    if op.kind == "elementwise":
        return _elementwise(reader, argument, position, value)
    if op is contraction.matmul:
        return _product(reader, argument, position, value)
    if op is convolution.conv:
        return _convolution(reader, argument, position, value)
    if op is reduction.sum:
        at = np.array([_folded(reader, position)])
        return at, np.ones(1, computed(reader.dtype).numpy)
    if op.kind == "reduction":
        return _extremum(reader, position, value)
    at = _moved(reader, argument, position, value)
    return at, np.ones(len(at), computed(reader.dtype).numpy)


def says_nothing(reader: Node) -> bool:
    """Has the op a derivative that tells nothing of single elements: a user's own, a compiled function's?"""
    op = reader.op
    told = ("elementwise", "contraction", "reduction", "view", "join", "take", "put")
    return bool(reader.inputs) and (op.joint is not None or op.kind not in told)


def _unravel(position: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(position, shape)) if shape else ()


def _spread(reader: Node, source: Node, position: int) -> Array:
    """The positions of the output elements that an input element is broadcast to."""
    shape = reader.shape
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    index = _unravel(position, source.shape)
    free = len(shape) - len(source.shape)
    pick = [slice(None)] * free + [
        slice(i, i + 1) if size == shape[free + axis] else slice(None)
        for axis, (i, size) in enumerate(zip(index, source.shape, strict=True))
    ]
    return np.asarray(numbers[tuple(pick)]).ravel()


def _elementwise(reader: Node, argument: int, position: int, value: Value) -> Column:
    at = _spread(reader, reader.inputs[argument], position)
    parts = [tensor(np.broadcast_to(value(source), reader.shape).reshape(-1)[at]) for source in reader.inputs]
    Y = tensor(value(reader).reshape(-1)[at])
    rule: Any = reader.op.rule(argument)
    found = rule(ones_like(Y), Y, *parts, **reader.params)
    return at, np.broadcast_to(numbers(found), at.shape)


def _product(reader: Node, argument: int, position: int, value: Value) -> Column:
    """Y[..., m, n] = sum over k of a[..., m, k] b[..., k, n]."""
    source, other = reader.inputs[argument], reader.inputs[1 - argument]
    batch = reader.shape[:-2]
    index = _unravel(position, source.shape)
    numbers = np.arange(int(np.prod(reader.shape))).reshape(reader.shape)
    free = len(batch) - (len(source.shape) - 2)
    pick: tuple[Any, ...] = (slice(None),) * free + tuple(
        i if size == batch[free + axis] else slice(None)
        for axis, (i, size) in enumerate(zip(index[:-2], source.shape[:-2], strict=True))
    )
    factor = np.broadcast_to(value(other), (*batch, *other.shape[-2:]))[pick]
    if argument == 0:
        m, k = index[-2:]
        at, local = numbers[pick][..., m, :], factor[..., k, :]
    else:
        k, n = index[-2:]
        at, local = numbers[pick][..., :, n], factor[..., :, k]
    return at.ravel(), local.ravel()


def _convolution(reader: Node, argument: int, position: int, value: Value) -> Column:
    """It is linear in each factor: what it makes of one element of this one, and where of one that meets no zeros."""
    alone = np.zeros(reader.inputs[argument].shape, reader.dtype.numpy)
    alone.reshape(-1)[position] = 1
    factors = [alone if i == argument else value(node) for i, node in enumerate(reader.inputs)]
    met = [alone if i == argument else np.ones(node.shape) for i, node in enumerate(reader.inputs)]
    at = np.flatnonzero(reader.op.numpy(*met, **reader.params))
    return at, reader.op.numpy(*factors, **reader.params).reshape(-1)[at]


def _folded(reader: Node, position: int) -> int:
    (source,) = reader.inputs
    kept = tuple(i for axis, i in enumerate(_unravel(position, source.shape)) if axis not in reader.params["dims"])
    return int(np.ravel_multi_index(kept, reader.shape)) if reader.shape else 0


def _extremum(reader: Node, position: int, value: Value) -> Column:
    """The op's own rule on the elements that are folded into the same output."""
    (source,), dims = reader.inputs, reader.params["dims"]
    index = _unravel(position, source.shape)
    pick = tuple(slice(None) if axis in dims else slice(i, i + 1) for axis, i in enumerate(index))
    row, at = tensor(value(source)[pick]), _folded(reader, position)
    Y = tensor(value(reader).reshape(-1)[at : at + 1]).reshape([1] * len(reader.shape))
    rule: Any = reader.op.rule(0)
    local = rule(ones_like(Y), Y, row, **reader.params).numpy()
    return np.array([at]), local[tuple(i if axis in dims else 0 for axis, i in enumerate(index))].reshape(1)


def _moved(reader: Node, argument: int, position: int, value: Value) -> Array:
    """The op's own reference, run on the numbers of the elements instead of their values."""
    op, inputs = reader.op, reader.inputs
    numbers = np.arange(1, int(np.prod(inputs[argument].shape)) + 1).reshape(inputs[argument].shape)
    if op is indexing.put_add and argument == 0:
        return np.array([position])
    if op in (indexing.put_add, indexing.put) and argument == 1:
        places = np.arange(int(np.prod(reader.shape))).reshape(reader.shape)
        return np.asarray(places[tuple(value(i) for i in inputs[2:])].reshape(-1)[position : position + 1])
    arrays = [
        numbers if i == argument else value(node) if node.dtype.is_integer else np.zeros(node.shape, np.int64)
        for i, node in enumerate(inputs)
    ]
    return np.flatnonzero(op.numpy(*arrays, **reader.params) == position + 1)
