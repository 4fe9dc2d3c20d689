"""Which handles look at the same elements.

Handles share no memory. A view knows the tensor it was taken from (its root) and the ops that lead there; a
write to the view is a write to the root. Whatever rebinds the root tells its views, which then name a `Pending`
node: the first who reads one has the ops run again, on what the root holds by then.
"""

from __future__ import annotations

import weakref
from operator import is_
from typing import TYPE_CHECKING, Any

from chainrule import graph
from chainrule.graph import Array, Node, Op, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from chainrule.tensor.core import Handle

Path = tuple[tuple[Op, dict[str, Any]], ...]
_FEW = 16  # views that are listed before the list is first searched for those that are gone


class Family:
    """The views of one root. They keep it alive, as PyTorch's keep their storage; it holds none of them."""

    __slots__ = ("__weakref__", "_fresh", "_limit", "root")

    def __init__(self, root: Handle) -> None:
        self.root = root
        self._fresh: list[weakref.ref[Handle]] = []  # those that a write to the root has to be told to
        self._limit = _FEW

    def add(self, view: Handle) -> None:
        """`view` names what the root holds now, and is told when that is no longer so."""
        if len(self._fresh) >= self._limit:
            self._fresh = [ref for ref in self._fresh if ref() is not None]
            self._limit = max(_FEW, 2 * len(self._fresh))
        self._fresh.append(weakref.ref(view))
        root = self.root
        if type(root._node) is Pending and root._views is not None:  # it was told already, and `view` was not there
            root._views.family.add(root)

    def moved(self) -> None:
        """The root names another node."""
        fresh, self._fresh = self._fresh, []
        for ref in fresh:
            view = ref()
            if view is not None and view._views is not None and view._views.family is self:
                view._name(Pending(view))

    def target(self) -> Handle:
        """The tensor to write to, for a write to reach everything that looks here."""
        return self.root


class Shadow(Family):
    """Views of a tensor with history that have none: their root holds its value alone, and keeps no history alive."""

    __slots__ = ("origin",)

    def __init__(self, root: Handle, origin: Handle) -> None:
        super().__init__(root)
        self.origin = weakref.ref(origin)

    def moved(self) -> None:
        origin = self.origin()
        if origin is not None:
            node, tape = origin._node, graph.waiting()
            waits = tape is not None and node._array is None and node.segment is not None
            self.root._node = tape.leaf(node) if waits else graph.leaf(node.value, node.dtype)
        super().moved()

    def target(self) -> Handle:
        origin = self.origin()
        return self.root if origin is None else origin


class Views:
    """How a view is made from its family's root."""

    __slots__ = ("family", "grad", "own", "path")

    def __init__(self, family: Family, path: Path, grad: bool, own: bool = False) -> None:
        self.family = family
        self.path = path
        self.grad = grad  # it has the root's history
        self.own = own  # or one of its own: ``x.detach()``, on which a gradient may be asked for


def road(handle: Handle) -> list[object]:
    """All that a view is made by, up to the tensor that has the elements: for `same_road` to compare with later."""
    found: list[object] = []
    while (views := handle._views) is not None:
        handle = views.family.root
        found += (views, handle)
    return found


def same_road(handle: Handle, before: list[object]) -> bool:
    """Does it still look where it did, by identity?"""
    if handle._views is None:
        return not before
    now = road(handle)
    return len(now) == len(before) and all(map(is_, now, before))


class _Nobody(Recorder):
    """What a pending node says instead of the trace it belongs to."""


PENDING = _Nobody()


class Pending(Node):
    """What a view names from a write to its root until somebody reads it: only its type is known."""

    __slots__ = ("_view", "history")
    derive: Callable[[Handle], Node]  # `views.py` fills it in

    def __init__(self, view: Handle) -> None:
        node, views = view._node, view._views
        self.op, self.inputs, self.params = graph.LEAF, (), {}
        self.shape, self.dtype = node.shape, node.dtype
        self._array: Array | None = None
        self.segment = self.entry = self.where = None
        self.trace, self.owner, self.seen, self.kind = PENDING, None, True, None
        self.layer, self.line = "", None
        self._view = weakref.ref(view)
        # What the view has a history of its own by, which goes on whatever is written to its root.
        own = views is not None and views.own and node.requires_grad
        self.history: Node | None = (node.history if isinstance(node, Pending) else node) if own else None

    def settle(self) -> Node:
        """The node with a value; the view names it from here on."""
        view = self._view()
        if view is None:
            raise RuntimeError("a view was read after it was gone; this is a bug in chainrule")
        return view._node if view._node is not self else Pending.derive(view)

    @property
    def value(self) -> Array:
        return self.settle().value

    @property
    def requires_grad(self) -> bool:  # type: ignore[override]
        """As the root does now, since that may have changed too."""
        view = self._view()
        if self.history is not None or view is None or view._views is None:
            return self.history is not None
        return view._views.grad and view._views.family.root._node.requires_grad

    @property
    def is_leaf(self) -> bool:
        return self.settle().is_leaf
