"""What a trace read from Python, and whether it is still so.

Attributes of modules are recorded while the trace reads them, whoever reads them. Whatever changes a module counts
`changed` up, so that a call only compares two numbers as long as nothing has changed. What a function reads by name
(globals, variables of enclosing functions, attributes of plain objects) nobody counts: `capture` finds it in the
code, and each call compares what stands there.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from operator import is_
from types import ModuleType
from typing import Any

from chainrule import graph, names


class _Absent:
    """Stands for what is not there."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
SIMPLE = (type(None), bool, int, float, complex, str, bytes)
GONE = (LookupError, ValueError, AttributeError, RuntimeError, TypeError)  # what looking again raises where it is gone

# -- how often anything of ours that traces read has changed ------------------------------------------------------

_changes = itertools.count(1)
latest = 0
membership = 0  # the latest change of which members there are


def changed() -> None:
    """Count: some module was given, lost or exchanged an attribute."""
    global latest
    latest = next(_changes)


def joined() -> None:
    """Count: some module has other members."""
    global membership
    changed()
    membership = latest


rebound = 0  # how often a name of the library itself was given another value


def library_changed() -> None:
    """Count: a function of ours was replaced by another, which anything traced may have called."""
    global rebound
    rebound += 1
    changed()


class _Ours(ModuleType):
    """A module of the library that counts what is put in the place of something."""

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name, ABSENT)
        super().__setattr__(name, value)
        if before is not ABSENT and before is not value:
            library_changed()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        library_changed()

    def __reduce__(self) -> tuple[Any, ...]:
        """By its name, as cloudpickle sends modules of the plain class; copies of it are itself."""
        return import_module, (self.__name__,)


def watch_library() -> None:
    """Have our modules, as many as there are by now, count what changes them; not the compiler's, which nobody traces."""
    # Names alone are looked at first: of a thousand modules of others there are few of ours, and this is done for each trace.
    for name in [name for name in list(sys.modules) if name.startswith(_LIBRARY)]:
        ours = name.partition(".")[0] == _LIBRARY and not name.startswith(f"{_COMPILER}.")
        if ours and type(module := sys.modules.get(name)) is ModuleType:
            module.__class__ = _Ours


_LIBRARY = __name__.partition(".")[0]
_COMPILER = __name__.rpartition(".frontend.")[0]
names.replaced.append(library_changed)


class Table(dict[str, Any]):
    """A dict of a module's members that counts what changes it."""

    __slots__ = ()


def _counting(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def change(self: Table, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        joined()
        return result

    change.__name__ = name
    return change


for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
    setattr(Table, _name, _counting(_name))


# -- recording what is read -----------------------------------------------------------------------------------------

_recorded: list[type] = []


def record_reads(kind: type) -> type:
    """A class decorator: attributes of its instances are guarded where a trace reads them."""
    _recorded.append(kind)
    return kind


def _getattribute(self: Any, name: str) -> Any:
    found = object.__getattribute__(self, name)
    trace = graph._local.trace
    if trace is not None and name[:2] != "__":
        trace.outside.read(self, name, found)
    return found


def reads_recorded(recorded: bool) -> None:
    """From here on reading an attribute of such an instance is noted by the trace of its thread, or no longer.

    Only while a trace is under way (there is one at a time) does Python ask us at all: else reading an attribute would cost
    five times as much.
    """
    for kind in _recorded:
        if recorded:
            kind.__getattribute__ = _getattribute  # type: ignore[method-assign, assignment]
        elif "__getattribute__" in vars(kind):
            del kind.__getattribute__


# -- comparing --------------------------------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Would a trace have read the same? Numbers, text and tuples of them by value, all else by identity."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return a == b and math.copysign(1, a) == math.copysign(1, b)  # 0.0 and -0.0 are equal, but not alike
    if type(a) is tuple:
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) in SIMPLE and bool(a == b)


class Seen:
    """Some values as the trace saw them, and a way to look again; false once they are others.

    Args:
        look: gives the values now; what it raises (a name that is gone) counts as a change.
    """

    def __init__(self, look: Callable[[], Sequence[Any]]) -> None:
        self.look = look
        self.values = tuple(look())

    def __call__(self) -> bool:
        """Is everything as it was?"""
        try:
            now = self.look()
        except GONE:
            return False
        return (all(map(is_, now, self.values)) and len(now) == len(self.values)) or self._alike(now)

    def _alike(self, now: Sequence[Any]) -> bool:
        if len(now) != len(self.values) or not all(map(same, now, self.values)):
            return False
        self.values = tuple(now)  # equal numbers in other objects: the short way next time
        return True
