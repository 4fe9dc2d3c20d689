"""Arguments and results of functions to differentiate: lists, tuples and dicts, nested, with tensors at the leaves.

None is a tree without leaves, as in JAX.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from chainrule.errors import nested_too_deep

F = TypeVar("F", bound=Callable[..., Any])


def _walking(function: F) -> F:
    """A tree that is nested too deep, or holds itself, is an error that says so."""

    @wraps(function)
    def walk(*args: Any) -> Any:
        try:
            return function(*args)
        except RecursionError:
            raise nested_too_deep("arguments") from None

    return cast(F, walk)


@_walking
def leaves(tree: Any) -> list[Any]:
    """What stands in the tree, from left to right."""
    return _leaves(tree)


def _leaves(tree: Any) -> list[Any]:
    if tree is None:
        return []
    if not isinstance(tree, (list, tuple, dict)):
        return [tree]
    return [leaf for item in _items(tree) for leaf in _leaves(item)]


@_walking
def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with `function(leaf)` in place of every leaf."""
    return _mapped(function, tree)


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    if tree is None:
        return None
    if not isinstance(tree, (list, tuple, dict)):
        return function(tree)
    items = [_mapped(function, item) for item in _items(tree)]
    if isinstance(tree, dict):
        new = copy.copy(tree)  # an OrderedDict stays one
        new.update(zip(tree, items, strict=True))
        return new
    return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)


def filled(tree: Any, new: list[Any]) -> Any:
    """The tree with other leaves."""
    following = iter(new)
    return mapped(lambda _: next(following), tree)


@_walking
def aligned(model: Any, tree: Any) -> list[Any] | None:
    """The leaves of `tree` in the order of the leaves of `model`; None where it is built otherwise."""
    return _aligned(model, tree)


def _aligned(model: Any, tree: Any) -> list[Any] | None:
    if model is None or tree is None:
        return [] if model is tree else None
    if _kind(model) is not _kind(tree):
        return None
    if _kind(model) is None:
        return [tree]
    if len(model) != len(tree) or (isinstance(model, dict) and model.keys() != tree.keys()):
        return None
    items = [tree[key] for key in model] if isinstance(model, dict) else tree
    parts = [_aligned(one, other) for one, other in zip(_items(model), items, strict=True)]
    found = [part for part in parts if part is not None]
    return [leaf for part in found for leaf in part] if len(found) == len(parts) else None


def _kind(tree: Any) -> type | None:
    """What the tree is at its root: a sequence, a dict, or a leaf."""
    return tuple if isinstance(tree, (list, tuple)) else dict if isinstance(tree, dict) else None


class _Leaf:
    def __repr__(self) -> str:
        return "*"


def outline(tree: Any) -> str:
    """The tree for an error message, with stars as leaves: ``(*, {'w': *})``."""
    return repr(mapped(lambda _: _Leaf(), tree))


def _items(tree: Any) -> list[Any]:
    return list(tree.values()) if isinstance(tree, dict) else list(tree)
