"""The axes of a product whose first factor is a view with windows.

A copy of such a factor would hold each element as often as it lies in a window. It need not be copied: its rows and its
terms each fall into several axes (images and the places of windows; channels and the places in a window), along which
it is affine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chainrule.compiler.schedule.expression import Expression, expr, vars_of
from chainrule.compiler.schedule.index import Expr, variables
from chainrule.compiler.schedule.kernels import Load
from chainrule.graph import Node, Shape
from chainrule.ops import shaping
from chainrule.ops.shaping import ravel


@dataclass(frozen=True)
class Axes:
    """The sizes that the rows of a product fall into, and those of its terms: each the outermost first."""

    rows: Shape
    terms: Shape


def axes_of(product: Node, kept: set[Node]) -> Axes | None:
    """The axes of a product of a view with windows, as few as it is affine along; None for any other."""
    factor = product.inputs[0]
    if not _has_windows(factor, kept):
        return None
    found = _fallen(factor)
    if found is None:
        return None
    *batch, rows, terms = found
    index = variables((*_flat(batch), *rows, *terms))
    first = len(_flat(batch))
    at = _gathered(index, found)
    value = Expression(kept).value(factor, at)
    if not isinstance(value, Load) or not value.index.strided or value.guards:
        return None
    strides = [value.index.terms.get(next(iter(i.terms)), 0) if i.terms else 0 for i in index[first:]]
    return Axes(_joined(rows, strides[: len(rows)]), _joined(terms, strides[len(rows) :]))


def reads_lanes(factor: Node, kept: set[Node]) -> bool:
    """Do neighbouring columns of a product's second factor lie side by side in a kept node?"""
    index = variables(factor.shape)
    value = Expression(kept).value(factor, index)
    if not isinstance(value, Load) or value.guards or not value.index.strided:
        return False
    return not index[-1].terms or value.index.coefficient(*vars_of(index[-1:])) == 1


def _has_windows(node: Node, kept: set[Node]) -> bool:
    while node not in kept and node.op.kind == "view":
        if node.op is shaping.unfold:
            return True
        node = node.inputs[0]
    return False


def _fallen(factor: Node) -> list[Shape] | None:
    """For each axis of a reshape the axes that it was put together from; None where one was cut."""
    if factor.op is not shaping.reshape:
        return [(size,) for size in factor.shape]
    waiting, found = list(factor.inputs[0].shape), []
    for size in reversed(factor.shape):
        parts: list[int] = []
        while waiting and math.prod(parts) * waiting[-1] <= size and (math.prod(parts) < size or waiting[-1] == 1):
            parts.append(waiting.pop())
        if math.prod(parts) != size:
            return None
        found.append(tuple(reversed(parts)))
    return found[::-1] if all(size == 1 for size in waiting) else None


def _flat(shapes: list[Shape]) -> Shape:
    return tuple(size for shape in shapes for size in shape)


def _gathered(index: tuple[Expr, ...], shapes: list[Shape]) -> tuple[Expr, ...]:
    """The index of an element by all its axes, as one by the axes that these were put together to."""
    found, start = [], 0
    for shape in shapes:
        found.append(expr(ravel(index[start : start + len(shape)], shape)))
        start += len(shape)
    return tuple(found)


def _joined(sizes: Shape, strides: list[int]) -> Shape:
    """Without axes of one element, and neighbouring ones along which steps go on as one joined to it."""
    found: list[tuple[int, int]] = []
    for size, stride in zip(sizes, strides, strict=True):
        if size == 1:
            continue
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        else:
            found.append((size, stride))
    return tuple(size for size, _ in found) or (1,)
