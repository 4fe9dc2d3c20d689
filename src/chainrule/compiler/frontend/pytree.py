"""Arguments and results: nested lists, tuples, dicts and slices with tensors at the leaves."""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import numpy as np

from chainrule.errors import TraceError, nested_too_deep
from chainrule.tensor.core import Handle
from chainrule.tensor.creation import tensor

FRAMES = 4  # of Python's for each level of a tree, with room for whoever walks it


def flatten(value: Any, leaves: list[Handle]) -> Hashable:
    """Append the tensors in `value` to `leaves`; give the rest as a hashable description.

    Raises:
        NestingError: it is nested too deep to be walked, here or on the way.
        TraceError: there is something in it that is no tensor, and cannot be compared.
    """
    try:
        return _flatten(value, leaves, sys.getrecursionlimit() // FRAMES)
    except RecursionError:  # whoever called is deep already
        raise nested_too_deep("cr.compile") from None


def _flatten(value: Any, leaves: list[Handle], left: int) -> Hashable:
    if left < 0:
        raise RecursionError
    if isinstance(value, Handle):
        leaves.append(value)
        return Leaf
    if isinstance(value, np.ndarray):
        leaves.append(tensor(value))
        return Leaf
    if isinstance(value, (list, tuple)):
        return (type(value), tuple([_flatten(item, leaves, left - 1) for item in value]))
    if isinstance(value, dict):
        return (dict, tuple([(key, _flatten(item, leaves, left - 1)) for key, item in value.items()]))
    if type(value) is slice:
        return (slice, tuple([_flatten(item, leaves, left - 1) for item in _ends(value)]))
    if hasattr(type(value), "__next__") or isinstance(value, Awaitable):
        raise TraceError(
            f"cr.compile: a {type(value).__name__} was passed or returned, which gives what is in it once only, and when the "
            f"function is traced. Make it a list or tuple: tuple(...)."
        )
    try:
        hash(value)
    except TypeError:
        raise TraceError(
            f"cr.compile: an argument or result of type {type(value).__name__} can be neither traced nor compared. Pass and "
            f"return tensors, arrays, numbers, text, or lists, tuples and dicts of them."
        ) from None
    # The sign tells 0.0 from -0.0, which are equal.
    return (Constant, type(value), value, *([math.copysign(1, value)] if isinstance(value, float) else []))


def contents(value: Any) -> Hashable:
    """What lists, tuples and dicts hold, by identity."""
    if isinstance(value, (list, tuple)):
        return (type(value), tuple(map(contents, value)))
    if isinstance(value, dict):
        return (dict, tuple((key, contents(item)) for key, item in value.items()))
    if type(value) is slice:
        return (slice, tuple(map(contents, _ends(value))))
    return id(value)


def _ends(value: slice) -> tuple[Any, Any, Any]:
    return value.start, value.stop, value.step


class Leaf:
    """Stands for a tensor in a description."""


class Constant:
    """Stands before a value that is part of the description."""


def is_leaf(description: Hashable) -> bool:
    """Does it stand for one tensor and nothing around it?"""
    return description is Leaf


def plain_arguments(description: Any) -> bool:
    """Do (args, kwargs) of this description hold positional tensors and nothing else?"""
    _, ((_, args), (_, kwargs)) = description
    return not kwargs and all(map(is_leaf, args))


def rebuild(description: Any, leaf: Callable[[], Any]) -> Any:
    """The value a description stands for, each tensor taken from `leaf()` in order."""
    if description is Leaf:
        return leaf()
    kind, *rest = description
    if kind is Constant:
        return rest[1]
    if kind is dict:
        return {key: rebuild(item, leaf) for key, item in rest[0]}
    items = [rebuild(item, leaf) for item in rest[0]]
    if kind is slice or hasattr(kind, "_fields"):  # a named tuple
        return kind(*items)
    return kind(items)
