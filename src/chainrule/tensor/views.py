"""Writing through a view to the tensor it views.

Handles do not share memory, so ``x[0] += 1`` or ``p.data.mul_(2)`` rebinds two handles: the view, and the
tensor it came from. The road back runs the view's ops again and undoes them one by one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from chainrule import graph
from chainrule.errors import InPlaceError
from chainrule.graph import Op
from chainrule.ops import elementwise as ew
from chainrule.ops import shaping
from chainrule.tensor.core import Engine, Views, apply, lifted
from chainrule.tensor.indexing import written_block
from chainrule.tensor.tensor import Tensor

# For each view: the viewed tensor with `new` where the view looked.
_BACK: dict[Op, Callable[..., Tensor]] = {
    shaping.reshape: lambda x, new, shape: new.reshape(x.shape),
    shaping.permute: lambda x, new, dims: new.permute(shaping.inverse_permutation(dims)),
    shaping.slice: lambda x, new, start, stop, step: written_block(x, new, start, step),
    ew.detach: lambda x, new: new.detach(),
}


def write_through(views: Views, new: Tensor, name: str) -> Views | None:
    """Have the viewed tensor hold `new` where the view looked; None where nobody holds it any more."""
    root: Any = views.root()
    if root is None:
        return None
    if views.node() is not root._node:
        raise InPlaceError(
            f"{graph.who(name)}: the tensor that this view was taken from was changed since. "
            f"Take the view again after the change, or .clone() it."
        )
    detached = any(op is ew.detach for op, _ in views.path)
    if detached and root.requires_grad and not root.is_leaf:
        raise InPlaceError(
            f"{graph.who(name)}: an in-place write to a detached view would cut the history of the tensor it "
            f"views. Write to a copy (.detach().clone()), or to the tensor itself."
        )
    with graph.grad_mode(graph.is_grad_enabled() and not detached):
        root._rebind(_through(root, views, new, name), name)
    return views._replace(node=weakref.ref(lifted(root)))


def _through(root: Tensor, views: Views, new: Tensor, name: str) -> Tensor:
    stages = [root]
    for op, params in views.path[:-1]:
        stages.append(apply(op, stages[-1], **params))
    for (op, params), stage in zip(reversed(views.path), reversed(stages), strict=True):
        if op not in _BACK:
            raise InPlaceError(
                f"{graph.who(name)}: in an expanded tensor several elements are one, so an in-place write has "
                f"no meaning. .clone() it first."
            )
        new = _BACK[op](stage, new, **params)
    return new


Engine.write_through = write_through
