"""Attributes that hold a tensor, as a program sees them: ``grad`` of a tensor, an attribute of a module, a variable.

Which tensor such an attribute holds may change from call to call, and a program may put another one there. So
the place is what a trace remembers, not the tensor that it met there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import CellType
from typing import Any, Protocol

from chainrule.compiler.frontend.guards import ABSENT, changed, same
from chainrule.graph import Node, Type
from chainrule.tensor.core import Handle


@dataclass(eq=False)
class AttributeUse:
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
class Gradient(AttributeUse):
    """``owner.grad``."""

    owner: Handle = None  # type: ignore[assignment]  # fields with defaults stand before it

    def get(self) -> Any:
        return self.owner._grad

    def set(self, value: Any) -> None:
        self.owner._grad = value


class Namespace(Protocol):
    """Names and what they stand for: a dict, or a `Variable`."""

    def get(self, name: str, default: Any, /) -> Any: ...
    def __setitem__(self, name: str, value: Any, /) -> None: ...
    def __delitem__(self, name: str, /) -> None: ...


class Variable:
    """A variable of an enclosing function, as a namespace of one name."""

    def __init__(self, cell: CellType) -> None:
        self.cell = cell

    def get(self, name: str, default: Any, /) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:  # empty
            return default

    def __setitem__(self, name: str, value: Any, /) -> None:
        self.cell.cell_contents = value

    def __delitem__(self, name: str, /) -> None:
        del self.cell.cell_contents


class Members:
    """The attributes of a class, or those that an object keeps in slots, as a namespace."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner

    def get(self, name: str, default: Any = ABSENT) -> Any:
        if isinstance(self.owner, type):
            return vars(self.owner).get(name, default)
        return getattr(self.owner, name, default)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not ABSENT

    def __getitem__(self, name: str) -> Any:
        if (found := self.get(name)) is ABSENT:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.owner, name, value)

    def __delitem__(self, name: str) -> None:
        delattr(self.owner, name)


@dataclass(eq=False)
class Attribute(AttributeUse):
    """What a name stands for in a namespace: an attribute of a module or of a plain object, a global, a variable."""

    space: Namespace = None  # type: ignore[assignment]  # always given; fields of the base have defaults
    name: str = ""
    kind: Type | None = field(init=False, default=None)  # of the tensor that the trace found there
    moved: bool = False  # what the trace read there is something else after a call

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kind = self.before._node.type if self.had else None

    def get(self) -> Any:
        return self.space.get(self.name, ABSENT)

    def set(self, value: Any) -> None:
        if self.get() is value:
            return
        if value is ABSENT:
            del self.space[self.name]
        else:
            self.space[self.name] = value
        changed()

    def finish(self) -> None:
        self.moved = self.read and not self.had and not same(self.before, self.get())
        super().finish()

    def fits(self) -> bool:
        """Is a tensor of the same type here, if one was here when the trace depended on it?"""
        if self.kind is None or not self.read:
            return super().fits()
        now = self.get()
        return isinstance(now, Handle) and now._node.type == self.kind

    def stays(self) -> bool:
        if self.moved or not super().stays():
            return False
        return self.kept or not self.read or self.final is None or self.final.type == self.kind
