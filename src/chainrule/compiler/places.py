"""Attributes that hold a tensor, as a program sees them: ``grad`` of a tensor, and what a module's attribute holds.

Which tensor such an attribute holds may change from call to call, and a program may put another one there. So
the place is what a trace remembers, not the tensor that it met there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from chainrule.graph import Node
from chainrule.tensor.core import Handle


@dataclass(eq=False)
class Place:
    """An attribute that the trace read or assigned.

    Attributes:
        before: what was there when the trace met it, until the trace has finished.
        read: the trace asked before it assigned, so it depends on whether a tensor was there.
        written: the trace assigned it.
        had: a tensor was there.
        after: what the trace left there, where it assigned it.
        final: the value of that, where the program computes it.
        kept: what it left there is the very tensor that it found there.
        carried: the program continues in the buffer it read: what one step leaves, the next one finds.
    """

    before: Any
    read: bool
    written: bool = False
    had: bool = field(init=False)
    after: Any = None
    final: Node | None = None
    kept: bool = False
    carried: bool = False
    argument: int | None = None  # where the holder is an argument, it is another one at each call

    def __post_init__(self) -> None:
        self.had = isinstance(self.before, Handle)

    def get(self) -> Any:
        """What is there now."""
        raise NotImplementedError

    def set(self, value: Any) -> None:
        """Put something there, without a word to a trace."""
        raise NotImplementedError

    def finish(self) -> None:
        """Note what the trace left here, and put back what was there before it."""
        self.after = self.get()
        self.kept = not self.written or (self.read and self.after is self.before)
        self.set(self.before)
        self.before = None

    @property
    def accumulates(self) -> bool:
        """Does what the program puts here depend on what was here?"""
        return self.read and self.had

    @property
    def cleared(self) -> bool:
        """Does a call put something here that no program computes: nothing, or a tensor that stood outside?"""
        return self.written and self.final is None and not self.kept

    def fits(self) -> bool:
        """Is a tensor here now if and only if one was here when the trace depended on it?"""
        return not self.read or isinstance(self.get(), Handle) == self.had

    def stays(self) -> bool:
        """Would it fit after a call, too?"""
        has = self.had if self.kept else isinstance(self.after, Handle)
        return not self.read or has == self.had


@dataclass(eq=False)
class Gradient(Place):
    """``owner.grad``."""

    owner: Handle = None  # type: ignore[assignment]  # fields with defaults stand before it

    def get(self) -> Any:
        return self.owner._grad

    def set(self, value: Any) -> None:
        self.owner._grad = value


def held_elsewhere(place: Place) -> bool:
    """Does anything but the place itself hold the tensor that is there?"""
    found = place.get()
    return sys.getrefcount(found) > _HELD_HERE


_HELD_HERE = 1 << 30


def _count_own() -> int:
    """How many references to a tensor that only a place holds there are: it depends on Python's version."""
    owner: Any = type("Owner", (), {"_grad": None})()
    place = Gradient(None, False, owner=owner)
    owner._grad = object()
    found = place.get()
    return sys.getrefcount(found)


_HELD_HERE = _count_own()
