"""What is called when a gradient arrives at a tensor: kept by the node of a result, and by the handle of a leaf.

A leaf's node is another one after each step of an optimizer, its handle stays. A compiled step is traced anew where the hooks
of any leaf have changed since.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from chainrule import graph
from chainrule.errors import GradientError
from chainrule.graph import Node
from chainrule.tensor.core import Handle, lifted, wrap

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

Hook = Callable[..., Any]


class Table(dict[int, Hook]):
    """The hooks of one tensor, by number."""

    __slots__ = ("__weakref__",)


_numbers = itertools.count()
_by_node: WeakKeyDictionary[Node, Table] = WeakKeyDictionary()
_live: WeakValueDictionary[int, Table] = WeakValueDictionary()  # by the number of each hook that there is
_changes = 0  # of leaves' hooks


class RemovableHandle:
    """What registering a hook gives: ``remove()`` takes the hook back; as a block, at its end."""

    def __init__(self, remove: Callable[[], object]) -> None:
        self._remove = remove

    def remove(self) -> None:
        """The hook is called no more; nothing where it is gone already."""
        self._remove()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()


def _leaf_changed() -> None:
    global _changes
    _changes += 1


def register(handle: Handle, hook: Hook, kind: str) -> RemovableHandle:
    """`hook` for the gradients of this tensor (``"_hooks"``), or for when they are in ``.grad`` (``"_after"``)."""
    node = lifted(handle)
    if not node.requires_grad:
        raise GradientError(
            f"{graph.who('register_hook')}: only a tensor that requires grad gets a gradient. "
            f"Call .requires_grad_() on it before, or compute it from one that does."
        )
    if node.is_leaf:
        return _kept(vars(handle).setdefault(kind, Table()), hook, _leaf_changed)
    if kind == "_after":
        raise GradientError(
            f"{graph.who('register_post_accumulate_grad_hook')}: only a leaf has a .grad of its own. Use register_hook."
        )
    return _kept(_by_node.setdefault(node, Table()), hook, lambda: None)


def _kept(table: Table, hook: Hook, tell: Callable[[], None]) -> RemovableHandle:
    number, reference = next(_numbers), ref(table)  # who may remove a hook does not keep its tensor's alive
    table[number] = hook
    _live[number] = table
    tell()

    def remove() -> None:
        found = reference()
        if found is not None and found.pop(number, None) is not None:
            _live.pop(number, None)
            tell()

    return RemovableHandle(remove)


def guarded() -> None:
    """A backward pass that is traced has in it what the hooks did."""
    trace = graph.current_trace()
    if trace is not None:
        trace.guards.append((lambda: _changes, _changes))


def any_registered() -> bool:
    """Does any tensor that is still there have a hook?"""
    return bool(_live)


def arriving(node: Node, dY: Any) -> Any:
    """The gradient as the node's hooks leave it."""
    found = [*_by_node.get(node, {}).values(), *_of_owner(node, "_hooks")]
    for hook in found:
        given = wrap(lifted(dY))
        with graph.aliasing(True):
            result = hook(given)
        if result is not None:
            dY = _checked(given, result)
    return dY


def accumulated(owner: Handle) -> None:
    """The gradient is in ``.grad`` of this leaf."""
    for hook in list(vars(owner).get("_after", {}).values()):
        hook(owner)


def _of_owner(node: Node, kind: str) -> list[Hook]:
    owner = node.owner() if node.owner is not None and (node.is_leaf or node.op is graph.INPUT) else None
    return [] if owner is None else list(vars(owner).get(kind, {}).values())


def _checked(given: Tensor, result: Any) -> Tensor:
    if not isinstance(result, Handle) or result.shape != given.shape or result.dtype is not given.dtype:
        came = str(result._node.type) if isinstance(result, Handle) else type(result).__name__
        raise GradientError(
            f"{graph.who('register_hook')}: a hook must return None, or a gradient of the same type, "
            f"{given._node.type}, got {came}. Reshape or convert it."
        )
    return result._tensor
