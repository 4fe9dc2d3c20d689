"""Tensors of a trace that somebody still holds when it has ended: they have no value, and no call would put others there."""

from __future__ import annotations

import gc
import types

from chainrule.compiler.frontend.trace import Trace
from chainrule.errors import TraceError
from chainrule.tensor.core import Handle


def check_none_left(trace: Trace) -> None:
    """Nobody but the trace itself holds a tensor that was made in it.

    Raises:
        TraceError: somebody does.
    """
    left = _left(trace)
    if left:
        del left
        gc.collect()  # what holds it may be about to go: an exception that was caught, and its frames
        left = _left(trace)
    trace.handles.clear()
    if not left:
        return
    node = left[0]._node
    raise TraceError(
        f"cr.compile: the function left a tensor ({node.op.name}{node.whereabouts()}) {_where(left[0])}, which Python does only "
        f"when it is traced: no call would put another there. Return it, or keep it in a tensor that exists outside (copy_)."
    )


def _left(trace: Trace) -> list[Handle]:
    held = [handle for made in trace.handles if (handle := made()) is not None and handle._node.trace is trace]
    own = _own(trace) if held else set()
    return [handle for handle in held if id(handle) not in own]


def _own(trace: Trace) -> set[int]:
    """What the trace holds itself, by identity: what it left in places, where calls put others, what that is a view of, what
    could not be looked at, and what derivatives of the user's own read.
    """
    trace.outside.made.clear()  # modules of its own, which go with it
    own: set[int] = set()
    stack = [*(place.after for place in trace.places()), *trace.unchecked, *trace.rules]
    while stack:
        held = stack.pop()
        if held is None or id(held) in own:
            continue
        own.add(id(held))
        if isinstance(held, Handle):
            if held._views is not None:
                stack.append(held._views.family.root)
        elif isinstance(held, (tuple, list)):
            stack += held
        elif isinstance(held, dict):
            stack += held.values()
        elif isinstance(held, types.FunctionType):
            stack += [cell.cell_contents for cell in held.__closure__ or () if cell != types.CellType()]
        elif not isinstance(held, (type, types.ModuleType)) and held.__class__.__module__.partition(".")[0] == _LIBRARY:
            stack += getattr(held, "__dict__", {}).values()
    return own


_LIBRARY = __name__.partition(".")[0]


def _where(handle: Handle) -> str:
    """Where it was left, as far as Python tells."""
    found = "somewhere"
    for holder in gc.get_referrers(handle):
        if isinstance(holder, dict):
            for name, value in holder.items():
                if value is handle and isinstance(name, str):
                    return f"under the name {name!r}"
        if type(holder) not in _OURS:
            found = f"in a {type(holder).__name__}"
    return found


_OURS = (types.FrameType, list, tuple)  # whoever looks; a list of the user's that is seen is refused where it changes
