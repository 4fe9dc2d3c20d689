"""What a Python function can reach by name: variables of enclosing functions, globals, attributes of plain objects.

Nobody can be told when such a thing changes. So the names are found in the code of the function, and of those that it
reaches in turn, and what they stand for is compared at every call.
"""

from __future__ import annotations

import abc
import builtins
import functools
import operator
import random
import sys
import threading
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from importlib.util import resolve_name
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from chainrule.compiler.frontend.attributes import Members
from chainrule.compiler.frontend.contents import (
    COMPARED,
    ELEMENTS,
    ITEMS,
    Equal,
    behind,
    bytes_in,
    environment,
    inside,
    items_of,
    look,
)
from chainrule.compiler.frontend.guards import ABSENT, SIMPLE, Seen
from chainrule.compiler.frontend.named import OWN, Names, names_of
from chainrule.compiler.frontend.once import READERS, READING, is_iterator
from chainrule.compiler.frontend.terms import Term, attribute_of, item, member, presence, together
from chainrule.tensor.core import Handle

OBJECTS = 500  # functions and plain objects together: more than a step is written over
FOREIGN = {"chainrule", "numpy", "llvmlite", *sys.stdlib_module_names} - {"__main__"}


# Objects of the standard library that hold settings.
RECORDS = {"types.SimpleNamespace", "argparse.Namespace", "_thread._local", "_threading_local.local"}
_OPERATORS = """
    add sub mul truediv floordiv mod pow matmul neg lt le gt ge eq ne getitem call iter next len contains bool float int index enter
    exit getattr getattribute get missing hash
"""
_MAKING = ("__new__", "__init__", "__post_init__")
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
_LIBRARY = __name__.partition(".")[0]
IMPLICIT = {f"__{prefix}{name}__" for name in _OPERATORS.split() for prefix in ("", "r")}
_PLAIN = (*SIMPLE, np.generic, BuiltinFunctionType)


class Capture:
    """Everything that a function reaches by name.

    Attributes:
        cells: variables of enclosing functions, with their names.
        spaces: dicts (globals, attributes of plain objects) with the names that are read there.
        containers: lists, dicts, sets and deques, with what to call them.
        arrays: small arrays, with what they held.
        generators: sources of random numbers that are not ours.
        tensors: the tensors among them.
        read: names (of attributes, too) that some of the code reads.
        counted: those that some of the code changes by what they were.
        assigned: those that it assigns.
        iterators: what gives another value every time.
        reads: is there anything that reads files and clocks?
        read_once: what of that was called while the function was traced.
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
        self.iterators: dict[int, tuple[Any, str]] = {}
        self.reads = False
        self.read_once: dict[str, None] = {}
        self._terms: list[Term] = []  # compared, whatever the program itself writes
        self._looked_at: dict[int, Any] = {}  # containers that are compared, whatever the program itself writes
        self.buffers: dict[int, tuple[Any, str]] = {}  # of the standard library
        self._long: dict[int, Any] = {}
        self._members: dict[tuple[int, str], tuple[type, str]] = {}  # of classes
        self._spaces: dict[int, dict[str, Any]] = {}  # that are read whole
        self._imports: dict[tuple[Any, ...], str | None] = {}  # with the package of who imports
        self._whole = self._computed = self._super = self._asks_classes = False
        self._layers: dict[int, Any] = {}
        self._objects: dict[tuple[int, str], tuple[Any, str]] = {}
        # What objects have of their class, and may get themselves.
        self.shadows: dict[tuple[int, str], tuple[Mapping[str, Any] | Members, str]] = {}
        self._slotted: dict[int, Members] = {}
        self._following: defaultdict[str, set[str]] = defaultdict(set)
        self._loose: set[str] = set()
        self._asked: set[str] = set()
        self._called: set[str] = set()
        self.assigned: set[str] = set()
        self._visited: dict[int, Any] = {}
        self._met: set[tuple[int, str]] = set()  # under which names
        self.reach([(function, getattr(function, "__name__", "function"))])

    def reach(self, values: Iterable[tuple[Any, str]]) -> None:
        """Whatever these lead to by their names, the nearest first."""
        ahead = deque(values)
        while True:
            while ahead:
                value, name = ahead.popleft()
                if self._is_new(value, name) and self._has_room():
                    self._met.add((id(value), name))
                    ahead.extend(self._visit(value, name))
            known = len(self._objects)
            ahead.extend((value, name) for value, name in self._next() if self._is_new(value, name))
            if (not ahead and len(self._objects) == known) or not self._has_room():
                return

    def _next(self) -> Iterator[tuple[Any, str]]:
        """What the names that are known by now lead to."""
        for thing, label in [*self._objects.values()]:
            yield from self._attributes(thing, label)
        for each, package in [*self._imports.items()]:
            yield from self._imported(each, package)
        for layer in (
            [*self._layers.values()] if self._whole else ()
        ):  # else: what is read of them is recorded, by any name
            yield from self._read_whole(layer)

    def _has_room(self) -> bool:
        return len(self._visited) - len(self._layers) < OBJECTS

    def _is_new(self, value: Any, name: str) -> bool:
        if isinstance(value, _PLAIN):
            self.reads = self.reads or id(value) in READERS
            return False
        return id(value) not in self.tensors if isinstance(value, Handle) else (id(value), name) not in self._met

    def _visit(self, value: Any, name: str) -> Iterable[tuple[Any, str]]:
        if isinstance(value, Handle):
            self.tensors[id(value)] = value
            return ()
        if isinstance(value, np.ndarray):
            return self._array(value, name)
        known = id(value) in self._visited
        self._visited[id(value)] = value
        if isinstance(value, FunctionType):
            return self._function(value, name)
        if isinstance(value, MethodType):
            self._called_by(value.__func__, name)
            return ((value.__func__, name), (value.__self__, _first_name(value.__func__)))
        if isinstance(value, (partial, functools.partialmethod)):
            self._terms += (attribute_of(value, each) for each in ("func", "args"))
            return ((value.func, name), (value.args, name), (value.keywords, name))
        if isinstance(value, (tuple, frozenset, MappingProxyType, *COMPARED)):
            return [*self._container(value, name), *(self._object(value, name) if own_of(value) is not None else ())]
        if isinstance(value, random.SystemRandom):  # has no state to compare
            self.reads = True
            return ()
        if isinstance(value, (np.random.Generator, np.random.RandomState, random.Random)):
            self.generators[id(value)] = (value, name)
            return ()
        if isinstance(value, (weakref.ref, ContextVar)):
            self._terms.append(Term("", value, ".get(None)" if isinstance(value, ContextVar) else "()"))
            return ((value.get(None) if isinstance(value, ContextVar) else value(), name),)
        own = own_of(value) or {}
        if "__wrapped__" in own and not isinstance(value, type):  # what a decorator made: a compiled function, too
            return ((own["__wrapped__"], name),)
        if known and _is_layer(value):
            return ()
        return [*self._standard(value, name), *self._object(value, name)]

    def _array(self, value: np.ndarray[Any, Any], name: str) -> Iterable[tuple[Any, str]]:
        if value.dtype.hasobject and value.size <= ITEMS:
            self._looked_at[id(value)] = value
            return [(each, name) for each in items_of(value)]
        if value.size <= ELEMENTS and not value.dtype.hasobject:
            self.arrays[id(value)] = (value, name)
        return ()

    def _standard(self, value: Any, name: str) -> Iterator[tuple[Any, str]]:
        """What objects of the standard library hold, each in its own way."""
        kept = behind(value)
        if kept is not None:
            yield kept, name
        elif _foreign(type(value).__module__):
            if 0 <= bytes_in(value) <= 8 * ELEMENTS:
                self.buffers[id(value)] = (value, name)
            elif is_iterator(value):
                self.iterators[id(value)] = (value, name)
            elif isinstance(value, operator.attrgetter):
                self._loose |= {each for path in value.__reduce__()[1] for each in path.split(".")}

    def _called_by(self, function: Any, name: str) -> None:
        if isinstance(function, FunctionType):
            self._following[name] |= names_of(function.__code__).following.get(_first_name(function), set())

    def _function(self, function: FunctionType, called: str) -> Iterator[tuple[Any, str]]:
        if hasattr(function, "__wrapped__"):
            yield function.__wrapped__, function.__name__
        if isinstance(registry := vars(function).get("registry"), MappingProxyType):  # of `functools.singledispatch`
            yield registry, called
        if _foreign(function.__module__):
            return
        names = names_of(function.__code__)
        self._terms.append(attribute_of(function, "__code__"))
        self._take(names, function)
        self._add(function, called)
        space = function.__globals__
        for name in names.globals:
            if name in space or name in names.assigned:
                self._note(space, name)
                yield space.get(name), name
            else:
                yield from self._built_in(space, name)
        for cell, name in zip(function.__closure__ or (), function.__code__.co_freevars, strict=True):
            self.cells[id(cell)] = (cell, name)
            content = _content(cell)
            if content is not ABSENT:
                yield content, name
        for which in ("__defaults__", "__kwdefaults__"):
            if (defaults := getattr(function, which)) is not None:
                self._terms.append(attribute_of(function, which))
                yield defaults, function.__name__

    def _take(self, names: Names, function: FunctionType) -> None:
        """What some code does with names."""
        for name, after in names.following.items():
            self._following[name] |= after
        self._loose |= names.loose
        self._asked |= names.asked
        self._called |= names.called
        self.assigned |= names.assigned
        self.read |= names.read
        self.counted |= names.counted
        self._whole, self._computed = self._whole or names.whole, self._computed or names.computed
        self.reads = self.reads or not names.read.isdisjoint(READING)
        self._super = self._super or "super" in names.globals
        self._asks_classes = self._asks_classes or not names.globals.isdisjoint({"isinstance", "issubclass"})
        if not names.read.isdisjoint(_ENVIRONMENT):
            self._looked_at[id(environment())] = environment()
        package = function.__globals__.get("__package__")
        self._imports.update(((*each,), package) for each in names.imports)

    def _built_in(self, space: dict[str, Any], name: str) -> Iterator[tuple[Any, str]]:
        """A name that is no global yet: it may come, and what Python itself has there may be another."""
        self._terms.append(presence(space, name))
        if hasattr(builtins, name):
            self._terms.append(item(vars(builtins), name))
            yield getattr(builtins, name), name

    def _imported(self, each: tuple[Any, ...], package: str | None) -> Iterator[tuple[Any, str]]:
        level, module, name, alias = each
        path = resolve_name("." * level + module, package) if level and package else module
        found = sys.modules.get(path)
        if found is None:  # not yet
            return
        if not _foreign(path):
            self._note(sys.modules, path)
        if name is None:
            yield found, alias
        elif name in getattr(found, "__dict__", ()):
            if path.partition(".")[0] != _LIBRARY:
                self._note(vars(found), name)
            yield vars(found)[name], alias

    def _container(self, value: Any, name: str) -> Iterator[tuple[Any, str]]:
        if len(value) > ITEMS:
            self._long[id(value)] = value
            return
        if isinstance(value, COMPARED):
            self.containers[id(value)] = (value, name)
        elif isinstance(value, MappingProxyType):
            self._looked_at[id(value)] = value
        if isinstance(value, defaultdict):
            self._terms.append(attribute_of(value, "default_factory"))
            yield value.default_factory, name
        yield from ((each, name) for each in inside(value))

    def _object(self, value: Any, name: str) -> Iterable[tuple[Any, str]]:
        """A module with layers is guarded where it is read, but its methods are code like any other."""
        if _is_layer(value):
            layers = list(value.modules())
            self._layers.update((id(layer), layer) for layer in layers)
            self._visited.update(self._layers)
            return [(method, "forward") for kind in dict.fromkeys(map(type, layers)) for method in self._methods(kind)]
        kind = value if isinstance(value, type) else type(value)
        foreign = value.__name__ if isinstance(value, ModuleType) else kind.__module__
        if not _foreign(foreign) or f"{foreign}.{kind.__name__}" in RECORDS:
            self._add(value, name)
            if isinstance(value, type):
                return [(vars(value)[each], name) for each in _MAKING if each in vars(value)]
            if not isinstance(value, ModuleType):
                self._terms.append(attribute_of(value, "__class__"))
                return [(method, name) for method in self._implicit(value)]
        elif isinstance(value, ModuleType) is _fixed(foreign) and not isinstance(value, type) and name not in OWN:
            # A module of others, or an object of ours; but not what our own methods read of it, which call it `self`.
            self._add(value, name)
        return ()

    def _implicit(self, value: Any) -> Iterator[FunctionType]:
        """Methods that no name leads to: ``o(x)``, ``o[0]``, ``o * x``."""
        for kind in type(value).__mro__:
            for name in IMPLICIT & vars(kind).keys():
                method = vars(kind)[name]
                if isinstance(method, FunctionType) and not _foreign(method.__module__) and not _is_generated(method):
                    self._members[id(type(value)), name] = (type(value), name)
                    self._add(value, _first_name(method))  # its own name for the object
                    yield method

    def _add(self, value: Any, name: str) -> None:
        self._objects[id(value), name] = (value, name)

    def _methods(self, kind: type) -> list[Any]:
        """``forward`` and the methods that it calls by ``self``, and so on, of the class and of those it comes from."""
        found: dict[tuple[int, str], Any] = {}
        wanted = ["forward", "__call__"]
        while wanted:
            name = wanted.pop()
            holders = [each for each in kind.__mro__ if name in vars(each)]
            for holder in (kind, *holders[1:]) if holders else ():
                method = _code(vars(holder if name in vars(holder) else holders[0])[name])
                if (id(holder), name) in found or not isinstance(method, FunctionType):
                    continue
                if name in ("forward", "__call__") or not _foreign(method.__module__):
                    found[id(holder), name] = method
                    self._members[id(holder), name] = (holder, name)
                    if not _foreign(method.__module__):
                        wanted.extend(names_of(method.__code__).following.get(_first_name(method), ()))
        return list(found.values())

    def _attributes(self, value: Any, name: str) -> Iterator[tuple[Any, str]]:
        kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
        if isinstance(value, type) and type(value) is not type:
            kinds = (*kinds, *type.mro(type(value)))
        own = own_of(value)
        asked, called = self._following.get(name, set()) | self._asked, self._called
        wanted = self._following.get(name, set()) | (set() if isinstance(value, ModuleType) else self._loose)
        if "__match_args__" in wanted:
            wanted |= {str(each) for each in getattr(value, "__match_args__", ())}
        if isinstance(value, ModuleType) and _foreign(value.__name__):
            called = set()
        if (self._whole or self._computed) and not isinstance(value, (type, ModuleType, FunctionType)):
            yield from self._read_whole(value, private=not _foreign(type(value).__module__))
        for attribute in wanted | called:
            holders = [each for each in (value, *kinds) if attribute in (own_of(each) or ())]
            if holders and attribute not in wanted and isinstance(_held_under(holders[0], attribute), SIMPLE):
                continue
            if holders:
                yield from self._held(value, holders, attribute)
                continue
            if attribute in asked:  # it was not there, and may come
                kind = value if isinstance(value, type) else type(value)
                if not _foreign(kind.__module__):
                    self._terms.append(Term("hasattr(", kind, f", {attribute!r})"))
                if own is not None:
                    space = Members(value) if isinstance(value, type) else own
                    self.shadows[id(value), attribute] = (space, attribute)
            if attribute in self.assigned and not isinstance(value, type) and own is not None:
                self._note(own, attribute)

    def _read_whole(self, value: Any, private: bool = True) -> Iterator[tuple[Any, str]]:
        """All attributes of an object, by the names that they have now; `private`: those whose names begin with _, too."""
        own = own_of(value)
        if isinstance(own, dict) and len(own) <= ITEMS:
            self._spaces[id(own)] = own
            names = [name for name in own if private or not str(name).startswith("_")]
            for name in names:
                self._note(own, name)
            yield from ((own[name], name) for name in names)

    def _held(self, value: Any, holders: list[Any], attribute: str) -> Iterator[tuple[Any, str]]:
        """What an object has under a name, itself or of its classes; a method knows the object by a name of its own."""
        holder, instance = holders[0], not isinstance(value, type)
        found, own = _held_under(holder, attribute), own_of(value)
        if (instance and isinstance(found, MemberDescriptorType)) or isinstance(value, threading.local):
            space = self._slotted.setdefault(id(value), Members(value))
            self._note(space, attribute, id(value))
            yield space.get(attribute), attribute
            return
        if holder is not value and instance and own is not None:
            self.shadows[id(value), attribute] = (own, attribute)
        if holder is value and instance:
            self._note(own, attribute)
        else:
            self._held_by_classes(value, holders, attribute)
        for each in [
            _held_under(each, attribute) for each in (holders[:1] if holder is value else holders)
        ]:  # ``super()``, too
            code = _code(each)
            bound = isinstance(each, classmethod) or (holder is not value and not isinstance(each, staticmethod))
            if isinstance(code, FunctionType) and bound:
                self._add(type(value) if isinstance(each, classmethod) and instance else value, _first_name(code))
            yield (each if isinstance(each, functools.partialmethod) else code), attribute

    def _held_by_classes(self, value: Any, holders: list[Any], attribute: str) -> None:
        classes = [holder for holder in holders if isinstance(holder, type) and not _fixed(holder.__module__)]
        if not classes or classes[0] is not holders[0]:
            return
        if attribute in self.assigned:  # by the function itself, perhaps
            self._note(vars(classes[0]), attribute, id(classes[0]))
            self.classes[id(classes[0])] = classes[0]
            return
        kind = value if isinstance(value, type) else type(value)
        for each in (kind if classes[0] in kind.__mro__ else classes[0], *(classes[1:] if self._super else ())):
            self._members[id(each), attribute] = (each, attribute)

    def _note(self, space: Any, name: str, key: int | None = None) -> None:
        self.spaces.setdefault(id(space) if isinstance(space, dict) else key or 0, (space, {}))[1][name] = None

    # -- what to compare -----------------------------------------------------------------------------------------------
    def checks(self, but: set[tuple[int, str]], more: Iterable[Term] = ()) -> list[Callable[[], bool]]:
        """Comparisons with what stands there now, `but` for some (space, name) that the program itself writes."""
        cells = [cell for cell, name in self.cells.values() if (id(cell), name) not in but]
        terms = [*more, *self._terms, *(attribute_of(cell, "cell_contents") for cell in cells)]  # where it is not empty
        terms += (member(kind, name) for kind, name in self._members.values())
        for space, names in self.spaces.values():
            chosen = (name for name in names if (id(space), name) not in but and name in space)
            terms += (attribute_of(space.owner, n) if isinstance(space, Members) else item(space, n) for n in chosen)
        terms += (presence(space, name) for space, name in self.shadows.values())
        if self._asks_classes and any(isinstance(each, abc.ABCMeta) for each, _ in self._objects.values()):
            terms.append(Term("", abc.get_cache_token, "()"))
        return [*together(terms), *self._looks(but)]

    def _looks(self, but: set[tuple[int, str]]) -> Iterator[Callable[[], bool]]:
        """Those that call something."""
        empty = [cell for cell, name in self.cells.values() if (id(cell), name) not in but and _content(cell) is ABSENT]
        if empty:
            yield Seen(lambda: [_content(cell) for cell in empty])
        written = {space for space, _ in but}
        yield from (Seen(partial(list, space)) for key, space in self._spaces.items() if key not in written)
        buffers = [*(value for value, _ in self.arrays.values()), *(value for value, _ in self.buffers.values())]
        if buffers:
            yield Seen(lambda: [each for buffer in buffers for each in look(buffer)])
        yield from map(Equal, self._long.values())
        chosen = [value for value, name in self.containers.values() if (id(value), name) not in but]
        yield from (Seen(partial(items_of, value)) for value in (*chosen, *self._looked_at.values()))


def own_of(value: Any) -> Any:
    """The attributes of an object by its own dict, whatever its class says of them; None where it has none."""
    if isinstance(value, (type, threading.local)):
        return vars(value)
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None


def _is_layer(value: Any) -> bool:
    return "_layer_name" in (own_of(value) or ())


def _held_under(holder: Any, name: str) -> Any:
    return own_of(holder)[name]


def _code(found: Any) -> Any:
    """The function of a method, however the class holds it."""
    if isinstance(found, functools.partialmethod):
        return found.func
    return getattr(found, "fget", getattr(found, "__func__", found))


def _is_generated(function: FunctionType) -> bool:
    """Is it a method that `dataclass` wrote, which reads every field?"""
    return function.__code__.co_filename == "<string>"


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return ABSENT


def _first_name(function: Any) -> str:
    """What a method calls the object that it belongs to."""
    code = getattr(function, "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else "self"


def _fixed(module: Any) -> bool:
    """Does nobody change what stands there? Classes of ours are changed sometimes, by who tries something."""
    return _foreign(module) and str(module).partition(".")[0] != _LIBRARY


def _foreign(module: Any) -> bool:
    """Is it not for us to read? Code of an extension may have anything for a name."""
    return not isinstance(module, (str, type(None))) or (module or "").partition(".")[0] in FOREIGN
