"""What the code of a function names: globals, attributes, what it changes by what it was."""

from __future__ import annotations

import dis
from collections import defaultdict
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

OWN = ("self", "cls")  # what methods call their object
ITEM = "[]"  # an item whose key is not written there
_VARIABLE = "a variable"

_TRANSPARENT = ("EXTENDED_ARG", "COPY", "DUP_TOP", "DUP_TOP_TWO", "CACHE")
_LOADED = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST", "LOAD_CLASSDEREF")


class Names(NamedTuple):
    """What some code reads or assigns.

    Attributes:
        globals: global names.
        following: which attributes follow a name (``cfg.alpha``: alpha follows cfg).
        loose: those that follow a local variable, an item, a result: anybody's.
        asked: names in texts, for which it may ask whether something has them.
        called: those of them that it only calls, which are no numbers.
        assigned: which of all these it assigns.
        read: which it reads.
        counted: which it reads before it assigns them, as in ``o.n += 1``; an item as ``['n']``.
    """

    globals: frozenset[str]
    following: dict[str, set[str]]
    loose: frozenset[str]
    asked: frozenset[str]
    called: frozenset[str]
    assigned: frozenset[str]
    read: frozenset[str]
    counted: frozenset[str]


class _Reader:
    """Goes through the instructions of some code; `owner` is the name that was loaded last, if nothing came since."""

    def __init__(self, code: CodeType) -> None:
        self.globals: set[str] = set()
        self.following: defaultdict[str, set[str]] = defaultdict(set)
        self.loose: set[str] = set()
        self.asked: set[str] = set()
        self.called: set[str] = set()
        self.assigned: set[str] = set()
        self.read: set[str] = set()
        self.counted: set[str] = set()
        self._loaded: set[tuple[str | None, str]] = set()
        self._owner: str | None = None
        self._local = False
        self._key: str | None = None
        for instruction in dis.get_instructions(code):
            self._take(instruction)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._inside(names_of(constant))
        for name in code.co_cellvars:  # a local variable that a function inside reads
            if name not in OWN:
                self.loose |= self.following.get(name, set())

    def _take(self, instruction: dis.Instruction) -> None:
        name, value = instruction.opname, instruction.argval
        if name in _TRANSPARENT:
            return
        owner, local, key = self._owner, self._local, self._key
        self._owner, self._local, self._key = None, False, None
        if name in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
            called = name == "LOAD_METHOD" or "NULL" in instruction.argrepr
            self._follow(owner, local, value, self.called if called else self.loose)
            self._load(owner, value)
            self._owner = value
        elif name == "STORE_ATTR":
            self._follow(owner, local, value, self.loose)
            self._store(owner, value)
        elif name in ("STORE_GLOBAL", "STORE_DEREF"):
            if name == "STORE_GLOBAL":
                self.globals.add(value)
            self._store(_VARIABLE, value)
        elif name.startswith(_LOADED):
            self._owner = value[-1] if isinstance(value, tuple) else value
            self._local, self._key = name.startswith("LOAD_FAST") and self._owner not in OWN, ITEM
            self._load(_VARIABLE, str(self._owner))
            if name in ("LOAD_GLOBAL", "LOAD_NAME"):
                self.globals.add(value)
        elif name in ("LOAD_CONST", "LOAD_SMALL_INT"):
            self._key = item(value)
            if isinstance(value, str) and not self.globals.isdisjoint({"getattr", "hasattr"}):
                self.loose.add(value)
                self.asked.add(value)
        elif name == "BINARY_SUBSCR" or (name == "BINARY_OP" and instruction.argrepr == ITEM):
            self._loaded.add((None, key or ITEM))
        elif name == "STORE_SUBSCR":
            self._store(None, key or ITEM)

    def _follow(self, owner: str | None, local: bool, attribute: str, anybody: set[str]) -> None:
        if owner is not None:
            self.following[owner].add(attribute)
        if owner is None or local:
            anybody.add(attribute)

    def _load(self, owner: str | None, name: str) -> None:
        self.read.add(name)
        self._loaded.add((owner, name))

    def _store(self, owner: str | None, name: str) -> None:
        self.assigned.add(name)
        if owner is None:  # ``o.n += 1``: what is below on the stack was loaded before
            known = {each for _, each in self._loaded}
            self.counted |= known & {name} if name != ITEM else {each for each in known if each.startswith("[")}
        elif (owner, name) in self._loaded:
            self.counted.add(name)

    def _inside(self, inner: Names) -> None:
        self.globals |= inner.globals
        self.loose |= inner.loose
        self.asked |= inner.asked
        self.called |= inner.called
        self.assigned |= inner.assigned
        self.read |= inner.read
        self.counted |= inner.counted
        for name, after in inner.following.items():
            self.following[name] |= after


def item(key: Any) -> str:
    """What an item under a key is called here."""
    return f"[{key!r}]"


@lru_cache(maxsize=4096)
def names_of(code: CodeType) -> Names:
    """What a function, and the functions defined in it, read and assign."""
    found = _Reader(code)
    return Names(
        frozenset(found.globals), dict(found.following), frozenset(found.loose), frozenset(found.asked), frozenset(found.called),
        frozenset(found.assigned), frozenset(found.read), frozenset(found.counted),
    )  # fmt: skip
