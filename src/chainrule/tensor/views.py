"""From a tensor to its views, and back.

Handles do not share memory, so ``x[0] += 1`` or ``p.data.mul_(2)`` is a write to the tensor that the view was taken
from: the road back runs the view's ops again and undoes them one by one. After any write a view is derived anew,
by the same ops, when it is next read.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from chainrule import dtypes, graph
from chainrule.errors import DtypeError, InPlaceError
from chainrule.graph import Node, Op
from chainrule.ops import elementwise as ew
from chainrule.ops import shaping
from chainrule.tensor.aliases import Family, Path, Pending, Shadow, Views
from chainrule.tensor.core import Engine, Handle, apply, as_leaf, has_history, lifted, settled, viewed
from chainrule.tensor.indexing import written_block
from chainrule.tensor.tensor import Tensor

# For each view: the viewed tensor with `new` where the view looked.
_BACK: dict[Op, Callable[..., Tensor]] = {
    shaping.reshape: lambda x, new, shape: new.reshape(x.shape),
    shaping.permute: lambda x, new, dims: new.permute(shaping.inverse_permutation(dims)),
    shaping.slice: lambda x, new, start, stop, step: written_block(x, new, start, step),
    ew.detach: lambda x, new: new.detach(),
}


# -- reading --------------------------------------------------------------------------------------
def derive(view: Handle) -> Node:
    """What the view names now that its root may have changed."""
    views = view._views
    if views is None:
        return lifted(view)
    family = views.family
    trace = graph.current_trace()
    while True:
        root = lifted(family.root)
        with graph.grad_mode(views.grad):
            node = lifted(_stages(family.root._tensor, family, views)[-1])
        view._node = as_leaf(node, view) if views.leaf else node
        family.add(view)
        if trace is not None:
            trace.follow(view)
        if family.root._node is root:  # else another thread wrote to it in between
            return view._node


def _stages(root: Tensor, family: Family, views: Views) -> list[Tensor]:
    """The root, and what each op on the road to the view makes of it."""
    stages = [root.detach() if family.detached and root.requires_grad else root]
    for op, params in views.path:
        stages.append(apply(op, stages[-1], **params))
    return stages


# -- writing --------------------------------------------------------------------------------------
def write_through(view: Tensor, new: Tensor, name: str) -> None:
    """Have the viewed tensor hold `new` where the view looks."""
    views = view._views
    if views is None:
        return
    root = views.family.target()._tensor
    detached = views.leaf or views.family.detached or any(op is ew.detach for op, _ in views.path)
    with graph.grad_mode(graph.is_grad_enabled() and not detached):
        root._rebind(_through(root, views, new, name), name)


def _through(root: Tensor, views: Views, new: Tensor, name: str) -> Tensor:
    if any(op not in _BACK for op, _ in views.path):
        raise InPlaceError(
            f"{graph.who(name)}: in an expanded tensor several elements are one, so an in-place write has "
            f"no meaning. .clone() it first."
        )
    for (op, params), stage in zip(reversed(views.path), reversed(_stages(root, views.family, views)[:-1]), strict=True):
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
    if given is handle or (given._views is not None and given._views.family.root is handle and not given._views.path):
        return
    value = given.detach() if given.requires_grad else given
    leave(handle)
    share(handle, value)


def leave(handle: Handle) -> None:
    """Its views go on without it, as its elements are now."""
    if handle._families:
        stays = Engine.tensor(settled(handle))
        stays._families, stays._views, handle._families = handle._families, handle._views, ()
        for family in _living(stays):
            if isinstance(family, Shadow):
                family.origin = weakref.ref(stays)
            else:
                family.root = stays
    handle._views = None


def share(handle: Handle, given: Tensor) -> None:
    """The handle, which nothing views, looks at the elements of `given`: the one of them that can be becomes a view."""
    leaf = handle.requires_grad
    views, node = given._views, settled(given)
    if views is not None and _alone(views):
        given._views = None
    if given._views is not None or given.requires_grad:
        handle._views = Views(*_road(given), grad=False, leaf=leaf)
        handle._views.family.add(handle)
    else:
        _hand_over(given, handle)
    handle._node = as_leaf(node, handle if leaf else None)


def _road(given: Tensor) -> tuple[Family, Path]:
    with graph.grad_mode(False):
        views = viewed(given, ((ew.detach, {}),))
    return views.family, views.path


def _hand_over(given: Tensor, handle: Handle) -> None:
    """`given` and its views become views of the handle; a compiled function that knew `given` notices."""
    family = Family(handle, detached=True)
    moving = _living(given)
    for other in moving:
        other.root, other.detached = handle, True
    given._families, given._views = (), Views(family, (), grad=False)
    given._node = Pending(given)
    handle._families = tuple(weakref.ref(other) for other in (*moving, family))


def _living(root: Handle) -> list[Family]:
    return [family for reference in root._families if (family := reference()) is not None]


def _alone(views: Views) -> bool:
    """Can nobody else see the root?"""
    return sys.getrefcount(views.family) <= _ONE and sys.getrefcount(views.family.root) <= _ONE


def _counted(family: Family) -> int:
    views = Views(family, (), grad=False)
    del family
    return sys.getrefcount(views.family)


_ONE = _counted(Family(Engine.tensor(graph.const(0.0, dtypes.float32))))  # references: its holder's, and the question's

Engine.write_through = write_through
Engine.take_over = take_over
Pending.derive = derive
