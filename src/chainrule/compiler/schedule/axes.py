"""The axes of a product whose first factor is a view with windows.

A copy of such a factor would hold each element as often as it lies in a window. It need not be copied: its rows and its
terms each fall into several axes (images and the places of windows; channels and the places in a window), along which
it is affine.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from chainrule.compiler.schedule.expression import Expression, expr, vars_of
from chainrule.compiler.schedule.index import Expr, Var, variables
from chainrule.compiler.schedule.kernels import Load
from chainrule.graph import Node, Shape
from chainrule.ops import shaping
from chainrule.ops.contraction import in_halves
from chainrule.ops.shaping import ravel

TALL, TALLEST = 5, 8  # rows of a tile that keep two multiply-add units busy, and those that fit in 16 registers or 32


@dataclass(frozen=True)
class Axes:
    """The sizes that the rows of a product fall into, and those of its terms: each the outermost first."""

    rows: Shape
    terms: Shape


def axes_of(product: Node, kept: set[Node]) -> Axes | None:
    """The axes of a product of a view with windows, as few as it is affine along; None for any other."""
    factor = product.inputs[0]
    if not has_windows(factor, kept):
        return None
    if in_halves(factor.shape[-1], **product.params):  # leaves may end within an axis
        return None
    found = _fallen(factor)
    if found is None:
        return None
    *batch, rows, terms = found
    strides = _strides(factor, found, kept)
    if strides is None:
        return None
    of_rows, of_terms = strides[: len(rows)], strides[len(rows) :]
    joined = Axes(_joined(rows, of_rows), _joined(terms, of_terms))
    few = [*batch, joined.rows, joined.terms]
    return joined if _strides(factor, few, kept) is not None else Axes(rows, terms)


def _strides(factor: Node, shapes: list[Shape], kept: set[Node]) -> list[int] | None:
    """How far apart neighbours along each axis of rows and terms lie; None where it is not affine along all of them."""
    index = variables(tuple(size for shape in shapes for size in shape))
    value = Expression(kept).value(factor, _gathered(index, shapes))
    if not isinstance(value, Load) or not value.is_strided:
        return None
    own = index[-len(shapes[-2]) - len(shapes[-1]) :]
    return [value.index.terms.get(next(iter(i.terms)), 0) if i.terms else 0 for i in own]


def among_rows(rows: tuple[Var, ...]) -> Var | None:
    """The axis of rows that a tile goes down: neighbours in memory, unless they are so few that its sums would wait for each other."""
    enough = next((var for var in reversed(rows) if _height(var.size) >= TALL), None)
    return enough or max(reversed(rows), key=lambda var: _height(var.size), default=None)


def _height(size: int) -> int:
    """The rows of a tile where an axis is cut evenly into as few parts as it can."""
    return -(-size // -(-size // TALLEST))


def reads_lanes(factor: Node, kept: set[Node]) -> bool:
    """Do neighbouring columns of a product's second factor lie side by side in a kept node?"""
    index = variables(factor.shape)
    value = Expression(kept).value(factor, index)
    if not isinstance(value, Load) or not value.is_strided:
        return False
    return not index[-1].terms or value.index.coefficient(*vars_of(index[-1:])) == 1


def has_windows(node: Node, kept: Collection[Node] = ()) -> bool:
    """Is it a view with windows, along whose axes it is affine, of something kept?"""
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
