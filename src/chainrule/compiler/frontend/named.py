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

_TRANSPARENT = ("EXTENDED_ARG", "COPY", "DUP_TOP", "DUP_TOP_TWO", "CACHE", "PRECALL")
# What reads an object whole, or by names that are not in the code.
_WHOLE = {"vars", "dir", "locals", "eval", "exec", "__dict__", "attrgetter", "fields", "asdict", "astuple", "deepcopy"}
_ASKS = {"getattr", "hasattr"}
_LOADED = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST", "LOAD_CLASSDEREF")


class Import(NamedTuple):
    """An import in the code of a function: of a module, or of what is in it, under the name it gets there."""

    level: int
    module: str
    name: str | None
    alias: str


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
        imports: what it imports.
        whole: it reads objects whole (``vars(o)``).
        computed: it reads attributes by names that it computes.
    """

    globals: frozenset[str]
    following: dict[str, set[str]]
    loose: frozenset[str]
    asked: frozenset[str]
    called: frozenset[str]
    assigned: frozenset[str]
    read: frozenset[str]
    counted: frozenset[str]
    imports: frozenset[Import]
    whole: bool
    computed: bool


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
        self.imports: set[Import] = set()
        self.whole = self.computed = False
        self._imported: list[Any] = []  # level, names that are taken, module; then a name of it
        self._constants: list[Any] = []
        self._loaded: set[tuple[str | None, str]] = set()
        self._owner: str | None = None
        self._local = False
        self._key: str | None = None
        instructions = [each for each in dis.get_instructions(code) if each.opname not in _TRANSPARENT]
        for instruction in instructions:
            self._take(instruction)
        self.whole = self.whole or not _WHOLE.isdisjoint(self.globals | self.read)
        self.computed = self.computed or _asks_by_computed_names(instructions)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._inside(names_of(constant))
        for name in code.co_cellvars:  # a local variable that a function inside reads
            if name not in OWN:
                self.loose |= self.following.get(name, set())

    def _take(self, instruction: dis.Instruction) -> None:
        name, value = instruction.opname, instruction.argval
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
            self._import(value)
            self._store(_VARIABLE, value)
        elif name.startswith(_LOADED):
            self._owner = value[-1] if isinstance(value, tuple) else value
            self._local, self._key = name.startswith("LOAD_FAST") and self._owner not in OWN, ITEM
            self._load(_VARIABLE, str(self._owner))
            if name in ("LOAD_GLOBAL", "LOAD_NAME"):
                self.globals.add(value)
        elif name in ("LOAD_CONST", "LOAD_SMALL_INT"):
            self._key = item(value)
            self._constants.append(value)
            if isinstance(value, str):
                self._take_text(value)
        elif name in ("IMPORT_NAME", "IMPORT_FROM"):
            self._imported = [*self._constants[-2:], value] if name == "IMPORT_NAME" else [*self._imported[:3], value]
        elif name.startswith("STORE_FAST"):
            names = value if isinstance(value, tuple) else (value,)
            self._import(names[0])
            if name == "STORE_FAST_LOAD_FAST":
                self._owner, self._local = names[1], True
                self._load(_VARIABLE, names[1])
        elif name == "MATCH_CLASS":
            self.loose |= {"__match_args__", *(self._constants[-1] if self._constants else ())}
        elif name == "BINARY_SUBSCR" or (name == "BINARY_OP" and instruction.argrepr == ITEM):
            self._loaded.add((None, key or ITEM))
        elif name == "STORE_SUBSCR":
            self._store(None, key or ITEM)

    def _take_text(self, text: str) -> None:
        if not self.globals.isdisjoint(_ASKS):
            self.loose.add(text)
            self.asked.add(text)
        if "globals" in self.globals:
            self.globals.add(text)

    def _import(self, alias: str) -> None:
        """A variable is bound: to what was imported just now, perhaps."""
        if not self._imported:
            return
        level, taken, module, *names = self._imported
        if taken is not None and names:
            self.imports.add(Import(level, module, names[0], alias))
        elif taken is None:  # ``import a.b`` binds a, and with ``as c`` it binds b
            self.imports.add(Import(level, module if names else module.partition(".")[0], None, alias))
        self._imported = self._imported[:3] if taken is not None else []

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
        self.imports |= inner.imports
        self.whole, self.computed = self.whole or inner.whole, self.computed or inner.computed
        for name, after in inner.following.items():
            self.following[name] |= after


def _asks_by_computed_names(code: list[dis.Instruction]) -> bool:
    """Is there a ``getattr(o, name)`` whose name is no text in the code?"""
    asks = (i for i, each in enumerate(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME") and each.argval in _ASKS)
    return not all(_asks_by_text(code[i + 1 :]) for i in asks)


def _asks_by_text(code: list[dis.Instruction]) -> bool:
    """Do these instructions call what was loaded just before them with a text as its second argument?"""
    depth, text_at = 0, None  # of the stack; where the text was loaded
    for i, each in enumerate(code):
        if each.opname.startswith("CALL") and depth == (each.arg or 0):
            return text_at is not None
        if each.opcode in dis.hasjrel or each.opcode in dis.hasjabs:
            return False
        depth += _effect(each)
        if depth <= 2:
            text_at = i if depth == 2 and each.opname == "LOAD_CONST" and isinstance(each.argval, str) else None
    return False


def _effect(instruction: dis.Instruction) -> int:
    """How many more there are on the stack after it."""
    if (
        instruction.opname == "CALL"
    ):  # with what is called, and a place beside it; Python 3.11 books it on two instructions
        return -1 - (instruction.arg or 0)
    return dis.stack_effect(instruction.opcode, instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None)


def item(key: Any) -> str:
    """What an item under a key is called here."""
    return f"[{key!r}]"


@lru_cache(maxsize=4096)
def names_of(code: CodeType) -> Names:
    """What a function, and the functions defined in it, read and assign."""
    found = _Reader(code)
    return Names(
        frozenset(found.globals), dict(found.following), frozenset(found.loose), frozenset(found.asked), frozenset(found.called),
        frozenset(found.assigned), frozenset(found.read), frozenset(found.counted), frozenset(found.imports), found.whole, found.computed,
    )  # fmt: skip
