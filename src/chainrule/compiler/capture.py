"""What a Python function can reach by name: variables of enclosing functions, globals, attributes of plain objects.

Nobody can be told when such a thing changes. So the names are found in the code of the function, and of those that it
reaches in turn, and what they stand for is compared at every call.
"""

from __future__ import annotations

import functools
import random
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from types import BuiltinFunctionType, CellType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np

from chainrule.compiler.guards import ABSENT, SIMPLE, Seen
from chainrule.compiler.named import names_of
from chainrule.compiler.places import Members
from chainrule.tensor.core import Handle

ITEMS = 64  # of a list, tuple or dict that are looked at one by one
ELEMENTS = 4096  # of an array that is compared at every call
OBJECTS = 500  # functions and plain objects together: more than a step is written over
FOREIGN = {"chainrule", "numpy", "llvmlite", *sys.stdlib_module_names} - {"__main__"}


RECORDS = {"types.SimpleNamespace", "argparse.Namespace"}  # objects of the standard library that hold settings
_OPERATORS = "add sub mul truediv floordiv mod pow matmul neg lt le gt ge getitem call iter next len contains bool float int enter exit getattr"
IMPLICIT = {f"__{prefix}{name}__" for name in _OPERATORS.split() for prefix in ("", "r")}
_PLAIN = (*SIMPLE, np.generic, BuiltinFunctionType)


class Capture:
    """Everything that a function reaches by name.

    Attributes:
        cells: variables of enclosing functions, with their names.
        spaces: dicts (globals, attributes of plain objects) with the names that are read there.
        containers: lists, dicts, sets and deques, with what to call them.
        arrays: small arrays, likewise.
        generators: sources of random numbers that are not ours.
        tensors: the tensors among them.
        read: names (of attributes, too) that some of the code reads.
        counted: those that some of the code changes by what they were.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.cells: dict[int, tuple[CellType, str]] = {}
        self.spaces: dict[int, tuple[Any, dict[str, None]]] = {}
        self.containers: dict[int, tuple[Any, str]] = {}
        self.arrays: dict[int, tuple[np.ndarray[Any, Any], str]] = {}
        self.generators: dict[int, tuple[Any, str]] = {}
        self.tensors: dict[int, Handle] = {}
        self.read: set[str] = set()
        self.counted: set[str] = set()
        self.classes: dict[int, type] = {}  # whose members are among `spaces`
        self._objects: dict[tuple[int, str], tuple[Any, str]] = {}
        # What objects have of their class, and may get themselves.
        self.shadows: dict[tuple[int, str], tuple[Mapping[str, Any], str]] = {}
        self._slotted: dict[int, Members] = {}
        self._following: defaultdict[str, set[str]] = defaultdict(set)
        self._loose: set[str] = set()
        self._asked: set[str] = set()
        self._called: set[str] = set()
        self._assigned: set[str] = set()
        self._visited: dict[int, Any] = {}
        self._met: set[tuple[int, str]] = set()  # under which names
        self._reach(function, getattr(function, "__name__", "function"))

    def reach(self, value: Any, name: str) -> None:
        """Whatever this leads to, too."""
        self._reach(value, name)

    def _reach(self, value: Any, name: str) -> None:
        stack = [(value, name)]
        while True:
            while stack:
                value, name = stack.pop()
                if self._is_new(value, name) and len(self._visited) < OBJECTS:
                    self._met.add((id(value), name))
                    stack.extend(self._visit(value, name))
            known = len(self._objects)
            stack = [found for thing, label in [*self._objects.values()] for found in self._attributes(thing, label)]
            stack = [(value, name) for value, name in stack if self._is_new(value, name)]
            if (not stack and len(self._objects) == known) or len(self._visited) >= OBJECTS:
                return

    def _is_new(self, value: Any, name: str) -> bool:
        if isinstance(value, _PLAIN):
            return False
        return id(value) not in self.tensors if isinstance(value, Handle) else (id(value), name) not in self._met

    def _visit(self, value: Any, name: str) -> Iterable[tuple[Any, str]]:
        if isinstance(value, Handle):
            self.tensors[id(value)] = value
            return ()
        if isinstance(value, np.ndarray):
            if value.size <= ELEMENTS and not value.dtype.hasobject:
                self.arrays[id(value)] = (value, name)
            return ()
        known = id(value) in self._visited
        self._visited[id(value)] = value
        if isinstance(value, FunctionType):
            return self._function(value, name)
        if isinstance(value, MethodType):
            self._called_by(value.__func__, name)
            return ((value.__func__, name), (value.__self__, _first_name(value.__func__)))
        if isinstance(value, (partial, functools.partialmethod)):
            return ((value.func, name), (value.args, name), (value.keywords, name))
        if isinstance(value, (list, dict, set, tuple, deque, frozenset)):
            return self._container(value, name)
        if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
            self.generators[id(value)] = (value, name)
            return ()
        own = getattr(value, "__dict__", {})
        if "__wrapped__" in own and not isinstance(value, type):  # what a decorator made: a compiled function, too
            return ((own["__wrapped__"], name),)
        if known and hasattr(value, "_layer_name"):
            return ()
        return self._object(value, name)

    def _called_by(self, function: Any, name: str) -> None:
        if isinstance(function, FunctionType):
            self._following[name] |= names_of(function.__code__).following.get(_first_name(function), set())

    def _function(self, function: FunctionType, called: str) -> Iterator[tuple[Any, str]]:
        if hasattr(function, "__wrapped__"):
            yield function.__wrapped__, function.__name__
        if _foreign(function.__module__):
            return
        names = names_of(function.__code__)
        for name, after in names.following.items():
            self._following[name] |= after
        self._loose |= names.loose
        self._asked |= names.asked
        self._called |= names.called
        self._assigned |= names.assigned
        self.read |= names.read
        self.counted |= names.counted
        self._add(function, called)
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
        if not isinstance(value, (tuple, frozenset)):
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
        if not _foreign(foreign) or f"{foreign}.{kind.__name__}" in RECORDS:
            self._add(value, name)
            if not isinstance(value, (type, ModuleType)):
                return [(method, name) for method in self._implicit(value)]
        return ()

    def _implicit(self, value: Any) -> Iterator[FunctionType]:
        """Methods that no name leads to: ``o(x)``, ``o[0]``, ``o * x``."""
        for kind in type(value).__mro__:
            for name in IMPLICIT & vars(kind).keys():
                method = vars(kind)[name]
                if isinstance(method, FunctionType) and not _foreign(method.__module__):
                    self._add(value, _first_name(method))  # its own name for the object
                    yield method

    def _add(self, value: Any, name: str) -> None:
        self._objects[id(value), name] = (value, name)

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
        asked = self._following.get(name, set()) | self._asked
        wanted = self._following.get(name, set()) | (set() if isinstance(value, ModuleType) else self._loose)
        for attribute in wanted | self._called:
            holders = [each for each in (value, *kinds) if attribute in getattr(each, "__dict__", ())]
            if holders and attribute not in wanted and isinstance(vars(holders[0])[attribute], SIMPLE):
                continue
            if holders:
                yield from self._held(value, holders, attribute)
                continue
            if attribute in asked and hasattr(value, "__dict__"):
                self.shadows[id(value), attribute] = (vars(value), attribute)  # it was not there, and may come
            if attribute in self._assigned and not isinstance(value, type) and hasattr(value, "__dict__"):
                self._note(vars(value), attribute)

    def _held(self, value: Any, holders: list[Any], attribute: str) -> Iterator[tuple[Any, str]]:
        """What an object has under a name, itself or of its classes; a method knows the object by a name of its own."""
        holder, instance = holders[0], not isinstance(value, type)
        found = vars(holder)[attribute]
        if isinstance(found, MemberDescriptorType) and instance:
            space = self._slotted.setdefault(id(value), Members(value))
            self._note(space, attribute, id(value))
            yield space.get(attribute), attribute
            return
        if holder is not value and instance and hasattr(value, "__dict__"):
            self.shadows[id(value), attribute] = (vars(value), attribute)
        if not isinstance(found, (property, staticmethod, classmethod)) and (
            holder is value or not _foreign(_room(holder))
        ):
            self._note(vars(holder), attribute, id(holder))
            if isinstance(holder, type):
                self.classes[id(holder)] = holder
        for each in [found] if holder is value else [vars(holder)[attribute] for holder in holders]:  # ``super()``, too
            code = getattr(each, "fget", getattr(each, "__func__", each))
            if isinstance(code, FunctionType) and holder is not value and not isinstance(each, staticmethod):
                self._add(type(value) if isinstance(each, classmethod) and instance else value, _first_name(code))
            yield code, attribute

    def _note(self, space: Any, name: str, key: int | None = None) -> None:
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
        if self.shadows:
            shadows = list(self.shadows.values())
            found.append(Seen(lambda: [name in space for space, name in shadows]))
        if self.arrays:
            arrays = [value for value, _ in self.arrays.values()]
            found.append(Seen(lambda: [array.tobytes() for array in arrays]))
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
