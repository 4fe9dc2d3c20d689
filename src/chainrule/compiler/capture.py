"""What a Python function can reach by name: variables of enclosing functions, globals, attributes of plain objects.

Nobody can be told when such a thing changes. So the names are found in the code of the function, and of those that it
reaches in turn, and what they stand for is compared at every call.
"""

from __future__ import annotations

import dis
import functools
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from chainrule.compiler.guards import ABSENT, SIMPLE, Seen
from chainrule.tensor.core import Handle

ITEMS = 64  # of a list, tuple or dict that are looked at one by one
OBJECTS = 500  # functions and plain objects together: more than a step is written over
FOREIGN = {"chainrule", "numpy", "llvmlite", *sys.stdlib_module_names} - {"__main__"}


RECORDS = {"types.SimpleNamespace", "argparse.Namespace"}  # objects of the standard library that hold settings
_PLAIN = (*SIMPLE, np.ndarray, np.generic, BuiltinFunctionType)


class Names(NamedTuple):
    """What some code reads or assigns: globals, and which attributes follow a name (``cfg.alpha``: alpha follows cfg)."""

    globals: frozenset[str]
    following: dict[str, set[str]]
    assigned: frozenset[str]  # which of all these it assigns


@lru_cache(maxsize=4096)
def names_of(code: CodeType) -> Names:
    """What a function, and the functions defined in it, read."""
    found: set[str] = set()
    assigned: set[str] = set()
    following: defaultdict[str, set[str]] = defaultdict(set)
    before: str | None = None
    for instruction in dis.get_instructions(code):
        name, value = instruction.opname, instruction.argval
        if name in ("LOAD_ATTR", "LOAD_METHOD"):
            if before is not None:
                following[before].add(value)
            before = value
        elif name == "STORE_ATTR" and before is not None:
            following[before].add(value)
            assigned.add(value)
            before = None
        elif name == "STORE_GLOBAL":
            found.add(value)
            assigned.add(value)
        elif name.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST", "LOAD_CLASSDEREF")):
            before = value[-1] if isinstance(value, tuple) else value
            if name in ("LOAD_GLOBAL", "LOAD_NAME"):
                found.add(value)
        elif name != "EXTENDED_ARG":
            before = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = names_of(constant)
            found |= inner.globals
            assigned |= inner.assigned
            for name, after in inner.following.items():
                following[name] |= after
    return Names(frozenset(found), dict(following), frozenset(assigned))


class Capture:
    """Everything that a function reaches by name.

    Attributes:
        cells: variables of enclosing functions, with their names.
        spaces: dicts (globals, attributes of plain objects) with the names that are read there.
        containers: lists, dicts and sets, with what to call them.
        generators: sources of random numbers that are not ours.
        tensors: the tensors among them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.cells: dict[int, tuple[CellType, str]] = {}
        self.spaces: dict[int, tuple[Mapping[str, Any], dict[str, None]]] = {}
        self.containers: dict[int, tuple[Any, str]] = {}
        self.generators: dict[int, tuple[Any, str]] = {}
        self.tensors: dict[int, Handle] = {}
        self._objects: list[tuple[Any, str]] = []
        self._shadows: list[
            tuple[Mapping[str, Any], str]
        ] = []  # what objects have of their class, and may get themselves
        self._following: defaultdict[str, set[str]] = defaultdict(set)
        self._assigned: set[str] = set()
        self._visited: dict[int, Any] = {}
        self._reach(function, getattr(function, "__name__", "function"))

    def reach(self, value: Any, name: str) -> None:
        """Whatever this leads to, too."""
        self._reach(value, name)

    def _reach(self, value: Any, name: str) -> None:
        stack = [(value, name)]
        while True:
            while stack:
                value, name = stack.pop()
                if id(value) not in self._visited and len(self._visited) < OBJECTS:
                    stack.extend(self._visit(value, name))
            stack = [found for thing, label in self._objects for found in self._attributes(thing, label)]
            stack = [(value, name) for value, name in stack if self._is_new(value)]
            if not stack or len(self._visited) >= OBJECTS:
                return

    def _is_new(self, value: Any) -> bool:
        return id(value) not in (self.tensors if isinstance(value, Handle) else self._visited) and not isinstance(
            value, _PLAIN
        )

    def _visit(self, value: Any, name: str) -> Iterable[tuple[Any, str]]:
        if isinstance(value, Handle):
            self.tensors[id(value)] = value
            return ()
        if isinstance(value, _PLAIN):
            return ()
        self._visited[id(value)] = value
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, MethodType):
            self._called_by(value.__func__, name)
            return ((value.__func__, name), (value.__self__, _first_name(value.__func__)))
        if isinstance(value, (partial, functools.partialmethod)):
            return ((value.func, name), (value.args, name), (value.keywords, name))
        if isinstance(value, (list, dict, set, tuple)):
            return self._container(value, name)
        if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
            self.generators[id(value)] = (value, name)
            return ()
        own = getattr(value, "__dict__", {})
        if "__wrapped__" in own and not isinstance(value, type):  # what a decorator made: a compiled function, too
            return ((own["__wrapped__"], name),)
        return self._object(value, name)

    def _called_by(self, function: Any, name: str) -> None:
        if isinstance(function, FunctionType):
            self._following[name] |= names_of(function.__code__).following.get(_first_name(function), set())

    def _function(self, function: FunctionType) -> Iterator[tuple[Any, str]]:
        if hasattr(function, "__wrapped__"):
            yield function.__wrapped__, function.__name__
        if _foreign(function.__module__):
            return
        names = names_of(function.__code__)
        for name, after in names.following.items():
            self._following[name] |= after
        self._assigned |= names.assigned
        space = function.__globals__
        for name in names.globals:
            if name in space or name in names.assigned:
                self._note(space, name)
                yield space.get(name), name
        for cell, name in zip(function.__closure__ or (), function.__code__.co_freevars, strict=True):
            self.cells[id(cell)] = (cell, name)
            content = _content(cell)
            if content is not ABSENT:
                yield content, name
        yield from ((default, function.__name__) for default in function.__defaults__ or ())
        yield from ((default, function.__name__) for default in (function.__kwdefaults__ or {}).values())

    def _container(self, value: Any, name: str) -> Iterable[tuple[Any, str]]:
        if len(value) > ITEMS:
            return ()
        if not isinstance(value, tuple):
            self.containers[id(value)] = (value, name)
        return [(item, name) for item in (value.values() if isinstance(value, dict) else value)]

    def _object(self, value: Any, name: str) -> Iterable[tuple[Any, str]]:
        """A module with layers is guarded where it is read, but its methods are code like any other."""
        if hasattr(value, "_layer_name"):
            layers = list(value.modules())
            self._visited.update((id(layer), layer) for layer in layers)
            return [(method, "forward") for kind in dict.fromkeys(map(type, layers)) for method in self._methods(kind)]
        kind = value if isinstance(value, type) else type(value)
        foreign = value.__name__ if isinstance(value, ModuleType) else kind.__module__
        if (not _foreign(foreign) or f"{foreign}.{kind.__name__}" in RECORDS) and hasattr(value, "__dict__"):
            self._objects.append((value, name))
            call = getattr(kind, "__call__", None)  # noqa: B004 - the function, not whether there is one
            if isinstance(call, FunctionType) and not isinstance(value, type):
                self._objects.append((value, _first_name(call)))  # its own name for the object
                return ((call, name),)
        return ()

    def _methods(self, kind: type) -> list[Any]:
        """``forward`` and the methods that it calls by ``self``, and so on."""
        found: dict[str, Any] = {}
        wanted = ["forward", "__call__"]
        while wanted:
            method = getattr(kind, name := wanted.pop(), None)
            if isinstance(method, property):
                method = method.fget
            if name not in found and isinstance(method, FunctionType) and not _foreign(method.__module__):
                found[name] = method
                wanted.extend(names_of(method.__code__).following.get(_first_name(method), ()))
        return list(found.values())

    def _attributes(self, value: Any, name: str) -> Iterator[tuple[Any, str]]:
        kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
        for attribute in tuple(self._following.get(name, ())):
            holder = next((each for each in (value, *kinds) if attribute in getattr(each, "__dict__", ())), None)
            if holder is None:
                if attribute in self._assigned and not isinstance(value, type):
                    self._note(vars(value), attribute)
                continue
            if holder is not value and not isinstance(value, type):
                self._shadows.append((vars(value), attribute))
            found = vars(holder)[attribute]
            if not isinstance(found, (property, staticmethod, classmethod)) and not _foreign(_room(holder)):
                self._note(vars(holder), attribute, id(holder))
            yield getattr(found, "fget", getattr(found, "__func__", found)), attribute

    def _note(self, space: Mapping[str, Any], name: str, key: int | None = None) -> None:
        self.spaces.setdefault(id(space) if isinstance(space, dict) else key or 0, (space, {}))[1][name] = None

    # -- what to compare -----------------------------------------------------------------------------------------------
    def checks(self, but: set[tuple[int, str]]) -> list[Seen]:
        """Comparisons with what stands there now, `but` for some (space, name) that the program itself writes."""
        cells = [
            cell for cell, name in self.cells.values() if (id(cell), name) not in but and _content(cell) is not ABSENT
        ]
        found = [Seen(lambda: [cell.cell_contents for cell in cells])] if cells else []
        for space, names in self.spaces.values():
            chosen = [name for name in names if (id(space), name) not in but and name in space]
            if chosen:
                found.append(Seen(_picked(space, chosen)))
        if self._shadows:
            found.append(Seen(lambda: [name in space for space, name in self._shadows]))
        chosen = [value for value, name in self.containers.values() if (id(value), name) not in but]
        return [*found, *(Seen(partial(items_of, value)) for value in chosen)]


def _room(value: Any) -> str:
    """The module that something comes from."""
    return str(getattr(value, "__module__", "") or getattr(value, "__name__", ""))


def _picked(space: Mapping[str, Any], names: list[str]) -> Callable[[], Sequence[Any]]:
    """Gives what the names stand for: one look-up of several takes a third of the time of several."""
    if len(names) == 1:
        return lambda: (space[names[0]],)
    return partial(itemgetter(*names), space)


def items_of(value: Any) -> list[Any]:
    """What a container holds, in order."""
    return [*value, *value.values()] if isinstance(value, dict) else [*value]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return ABSENT


def _first_name(function: Any) -> str:
    """What a method calls the object that it belongs to."""
    code = getattr(function, "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else "self"


def _foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] in FOREIGN
