"""From a tensor to its views, and back.

Handles do not share memory, so ``x[0] += 1`` or ``p.data.mul_(2)`` is a write to the tensor that the view was taken
from: the road back runs the view's ops again and undoes them one by one. After any write a view is derived anew,
by the same ops, when it is next read.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable

from chainrule import dtypes, graph
from chainrule.errors import DtypeError, InPlaceError
from chainrule.graph import Node, Op
from chainrule.ops import elementwise as ew
from chainrule.ops import shaping
from chainrule.tensor.aliases import Family, Pending, Shadow, Views
from chainrule.tensor.core import (
    Engine,
    Handle,
    apply,
    as_leaf,
    at_rest,
    family_of,
    has_history,
    lifted,
    straight_through,
    viewed,
    wrap,
)  # fmt: skip
from chainrule.tensor.indexing import written_block
from chainrule.tensor.tensor import Tensor

# For each view: the viewed tensor with `new` where the view looked.
_BACK: dict[Op, Callable[..., Tensor]] = {
    shaping.reshape: lambda x, new, shape: new.reshape(x.shape),
    shaping.permute: lambda x, new, dims: new.permute(shaping.inverse_permutation(dims)),
    shaping.slice: lambda x, new, start, stop, step: written_block(x, new, start, step),
    ew.alias: lambda x, new: new,
}


# -- reading --------------------------------------------------------------------------------------
def derive(view: Handle) -> Node:
    """What the view names now that its root may have changed."""
    views, old, trace = view._views, view._node, graph.current_trace()
    if views is None:
        return lifted(view)
    while True:
        root = lifted(views.family.root)
        with graph.grad_mode(views.grad):
            node = lifted(_stages(views.family.root._tensor, views)[-1])
        view._node = _with_history(node, old, view) if views.own else node
        views.family.add(view)
        if trace is not None:
            trace.follow(view)
        if lifted(views.family.root) is root:  # else another thread wrote to it in between
            return view._node


def _stages(root: Tensor, views: Views) -> list[Tensor]:
    """The root, and what each op on the road to the view makes of it."""
    stages = [root]
    for op, params in views.path:
        stages.append(apply(op, stages[-1], **params))
    return stages


def _with_history(node: Node, old: Node, view: Handle) -> Node:
    """A new value under the history that the view has of its own."""
    history = old.history if isinstance(old, Pending) else old
    if history is None or not history.requires_grad:
        return as_leaf(node, None)
    if history.is_leaf:
        return as_leaf(node, view)
    return lifted(straight_through(wrap(node), wrap(history)))


# -- writing --------------------------------------------------------------------------------------
def write_through(view: Tensor, new: Tensor, name: str) -> None:
    """Have the viewed tensor hold `new` where the view looks."""
    views = view._views
    if views is None:
        return
    root = views.family.target()._tensor
    history = lifted(new) if views.own and graph.is_grad_enabled() else None
    with graph.grad_mode(graph.is_grad_enabled() and views.grad):
        root._rebind(_through(root, views, new if views.grad else new.detach(), name), name)
    if history is not None:
        view._name(history)
        views.family.add(view)


def _through(root: Tensor, views: Views, new: Tensor, name: str) -> Tensor:
    if any(op not in _BACK for op, _ in views.path):
        windows = any(op is shaping.unfold for op, _ in views.path)
        why = (
            "in windows of a tensor several elements may be"
            if windows
            else "in an expanded tensor several elements are"
        )
        raise InPlaceError(f"{graph.who(name)}: {why} one, so an in-place write has no meaning. .clone() it first.")
    for (op, params), stage in zip(reversed(views.path), reversed(_stages(root, views)[:-1]), strict=True):
        new = _BACK[op](stage, new, **params)
    return new


# -- giving away ----------------------------------------------------------------------------------
def take_over(handle: Handle, given: Tensor) -> None:
    """``handle.data = given``: from here on both look at the elements of `given`, and old views at the old ones."""
    if graph.tracing() or has_history(handle):
        with graph.grad_mode(False):
            handle._tensor.detach().copy_(given)
        return
    if given.dtype is not handle.dtype:
        raise DtypeError(
            f"{graph.who('data')}: must have the tensor's own dtype, {handle.dtype.name}, got {given.dtype.name}. "
            f"Convert it with .to(cr.{handle.dtype.name})."
        )
    if given is handle:
        return
    value = given.detach() if given.requires_grad else given
    leave(handle)
    share(handle, value)


def leave(handle: Handle) -> None:
    """Its views go on without it, as its elements are now."""
    if handle._families:
        stays = Engine.tensor(at_rest(handle))
        stays._families, stays._views, handle._families = handle._families, handle._views, ()
        for family in [family for reference in stays._families if (family := reference()) is not None]:
            family.root = stays
            if isinstance(family, Shadow):
                family.root, family.origin = Engine.tensor(at_rest(stays)), weakref.ref(stays)
    handle._views = None


def share(handle: Handle, given: Tensor) -> None:
    """The handle, which nothing views, looks at the elements of `given`: the one of them that can becomes a view."""
    owner = handle if handle.requires_grad else None
    node = at_rest(given)
    if given._views is not None and _alone(given._views):
        given._views = None
    if given._views is None:
        handle._node = as_leaf(node, owner)
        given._views = Views(family_of(handle), (), grad=False, own=True)
        given._node = Pending(given)  # a compiled function that knew `given` notices
        given._moved()  # whatever views `given` asks `handle` from here on
    else:
        with graph.grad_mode(False):
            views = viewed(given, ())
        handle._views = Views(views.family, views.path, grad=False, own=True)
        handle._node = as_leaf(node, owner)
        views.family.add(handle)


def _alone(views: Views) -> bool:
    """Can nobody else see the elements of the root?"""
    if views.family.target() is not views.family.root or views.family.root._views is not None:
        return False  # they are another's, too
    return sys.getrefcount(views.family) <= _ONE and sys.getrefcount(views.family.root) <= _ONE


def _counted(family: Family) -> int:
    views = Views(family, (), grad=False)
    del family
    return sys.getrefcount(views.family)


_ONE = _counted(Family(Engine.tensor(graph.const(0.0, dtypes.float32))))  # references: its holder's, and the question's

Engine.write_through = write_through
Engine.take_over = take_over
Pending.derive = derive
