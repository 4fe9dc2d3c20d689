"""Which attribute holds which tensor: taken down, and put back.

A step changes a tensor in two ways. In place (``self.mean.mul_(0.9)``), and the handle stays; or by another tensor
under the same name (``self.mean = 0.9 * self.mean + ...``), and the handle that stood there is only left behind. So who
goes back needs the names beside the values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import is_
from typing import Any

from chainrule.compiler.frontend.guards import ABSENT, changed
from chainrule.nn import Module
from chainrule.tensor import Tensor
from chainrule.training import settings, state

Space = dict[str, Any]
NAMES = "__dict__"  # the table of the attributes that a module does not register, or another object has


class Attributes:
    """What the names of some objects stood for at one moment, and the values of the tensors among it.

    Attributes:
        spaces: each namespace, as its object and the name of its table, with what was in it. (A copy of an object has
            a ``__dict__`` of its own, which only the object tells.)
        values: of tensors that are neither parameter nor buffer; those are a training's own, by name.
    """

    def __init__(self, spaces: Iterable[tuple[Any, str]]) -> None:
        self.spaces = [(thing, table, dict(getattr(thing, table))) for thing, table in spaces]
        held = (plain(vars(thing)).values() for thing, table, _ in self.spaces if table == NAMES)
        self.values = state.values(state.once(*held))

    def _now(self) -> Iterator[tuple[Space, Space]]:
        return ((getattr(thing, table), copy) for thing, table, copy in self.spaces)

    def same(self) -> bool:
        """Does every name stand for what it stood for?"""
        for thing, table, copy in self.spaces:
            now = getattr(thing, table)
            if (now or copy) and not ([*now] == [*copy] and all(map(is_, now.values(), copy.values()))):
                return False
        return True

    def now(self) -> Attributes:
        """The same namespaces as they are now."""
        if not self.values and self.same():
            return self
        return Attributes((thing, table) for thing, table, _ in self.spaces)

    def tensors(self) -> list[Tensor]:
        """Every tensor that one of the names stood for, each once."""
        return state.once(v for *_, copy in self.spaces for v in copy.values() if isinstance(v, Tensor))

    def put(self) -> None:
        """Every name that holds or held a tensor back to what it was, with its value."""
        self.put_names()
        state.restore(self.values)

    def put_names(self) -> None:
        """Likewise, whatever values the tensors have."""
        for space, copy in self._now():
            for name in space.keys() | copy.keys():
                _put(space, name, copy.get(name, ABSENT))


def of(model: Module, loss: Callable[..., Any] | None = None) -> Attributes:
    """The attributes of every module, and of a loss that is none."""
    return of_each(thing for _, thing in settings.objects(model, loss or model))


def of_each(things: Iterable[Any]) -> Attributes:
    """The attributes of these objects."""
    return Attributes((thing, table) for thing in things for table in tables(thing))


def tables(thing: Any) -> Iterable[str]:
    """The names of an object's tables of attributes that are looked at."""
    if isinstance(thing, Module):
        return NAMES, "_parameters", "_buffers"
    return (NAMES,) if hasattr(thing, NAMES) and not inspect.isroutine(thing) else ()


def plain(space: Space) -> dict[str, Tensor]:
    """The tensors of a namespace that have a value."""
    return {name: v for name, v in space.items() if isinstance(v, Tensor) and v._node._value is not None}


def named(model: Module, loss: Callable[..., Any]) -> dict[str, Tensor]:
    """The tensors that are neither parameter nor buffer, by the name of their object and their own."""
    return named_in(settings.objects(model, loss))


def named_in(objects: Iterable[tuple[str, Any]]) -> dict[str, Tensor]:
    """Those of these objects, each with its name."""
    found = ((name, plain(getattr(thing, "__dict__", {}))) for name, thing in objects)
    return {f"{name}.{key}": value for name, held in found for key, value in held.items()}


def fits(model: Module, loss: Callable[..., Any], name: str) -> bool:
    """May a tensor stand under this name, which came from a file? Where one, or a plain value, or nothing stands now."""
    thing, key = _object(model, loss, name)
    if thing is None or not hasattr(thing, "__dict__") or not key.isidentifier() or key.startswith("__"):
        return False
    now = vars(thing).get(key, ABSENT)
    if now is ABSENT:
        return not hasattr(thing, key)
    return isinstance(now, Tensor) or type(now) in (type(None), int, float)


def put_all(model: Module, loss: Callable[..., Any], found: Mapping[str, Tensor], modules: Mapping[str, Any]) -> None:
    """These tensors under their names; under others what the settings of the modules say, if it was no tensor then."""
    for name in named(model, loss).keys() - found.keys():
        thing, key = _object(model, loss, name)
        path = name.rpartition(".")[0]
        if key in modules.get(path, {}):
            _put(vars(thing), key, modules[path][key])
    for name, value in found.items():
        _give(model, loss, name, value)


def _give(model: Module, loss: Callable[..., Any], name: str, value: Tensor) -> None:
    """This value in the tensor of that name; a new one where none of its shape and dtype is there."""
    thing, key = _object(model, loss, name)
    now = vars(thing).get(key)
    if isinstance(now, Tensor) and now.shape == value.shape and now.dtype is value.dtype:
        now.copy_(value)
    else:
        _put(vars(thing), key, value)


def _object(model: Module, loss: Callable[..., Any], name: str) -> tuple[Any, str]:
    path, _, key = name.rpartition(".")
    return dict(settings.objects(model, loss)).get(path), key


def _put(space: Space, name: str, then: Any) -> None:
    now = space.get(name, ABSENT)
    if now is then or not (isinstance(now, Tensor) or isinstance(then, Tensor)):
        return
    if then is ABSENT:
        del space[name]
    else:
        space[name] = then
    changed()
