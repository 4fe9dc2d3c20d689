"""Single values that a program depends on, compared by one expression that is written for them.

Each call looks at all of them, and calling something is what costs most. So nothing is called: the expression names
the values one after the other, and each takes some 15 ns.
"""

from __future__ import annotations

import itertools
import keyword
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from chainrule.compiler.frontend.guards import ABSENT, GONE, Seen


class Term(NamedTuple):
    """A value, as the text before and after the object where it is found."""

    before: str
    owner: Any
    after: str


def item(space: Any, name: str) -> Term:
    """What a name stands for in a namespace."""
    return Term("", space, f"[{name!r}]")


def attribute_of(owner: Any, name: str) -> Term:
    """An attribute."""
    if name.isidentifier() and not keyword.iskeyword(name):
        return Term("", owner, f".{name}")
    return Term("getattr(", owner, f", {name!r})")


def presence(space: Any, name: str) -> Term:
    """Whether a name stands in a namespace."""
    return Term(f"({name!r} in ", space, ")")


def member(kind: type, name: str) -> Term:
    """What the instances of a class have of it, or of its bases, under a name."""
    for each in kind.__mro__:
        found = vars(each).get(name, ABSENT)
        if isinstance(found, classmethod):  # bound anew whenever it is asked for
            return Term("", kind, f".{name}.__func__")
        if found is not ABSENT:
            return attribute_of(kind, name) if _gives(kind, name, found) else Term("", each, f".__dict__[{name!r}]")
    return presence(vars(kind), name)


def _gives(kind: type, name: str, found: Any) -> bool:
    """Does the class give what stands there, and not what a descriptor makes of it?"""
    try:
        given = getattr(kind, name)
    except AttributeError:
        return False
    return given is found or (isinstance(found, staticmethod) and given is found.__func__)


def together(terms: Iterable[Term]) -> list[Callable[[], bool]]:
    """One check that all of them are as they are now; none where there are none."""
    owners: dict[int, Any] = {}
    texts: dict[str, None] = {}
    for before, owner, after in terms:
        owners[id(owner)] = owner
        texts[f"{before}o{id(owner)}{after}"] = None
    if not texts:
        return []
    scope = {f"o{number}": owner for number, owner in owners.items()}
    found = [*texts] if _can_be_seen(", ".join(texts), scope) else [text for text in texts if _can_be_seen(text, scope)]
    if not found:
        return []
    kept = _Kept(found, scope)
    scope |= {"GONE": GONE, "slow": kept}
    same = "\n            and ".join(map(_compared, found, kept.values, itertools.count()))
    exec(_CHECK.format(same=same), scope)
    check: Callable[[], bool] = scope["check"]
    return [check]


_ASKING = ("(", "hasattr(")  # texts that give True or False and nothing else


def _compared(text: str, value: Any, i: int) -> str:
    if text.startswith(_ASKING):
        return text if value else f"not {text}"
    return f"{text} is v{i}"


_CHECK = """
def check():
    try:
        if ({same}):
            return True
    except GONE:
        return False
    return slow()
"""


def _can_be_seen(text: str, scope: dict[str, Any]) -> bool:
    try:
        eval(f"({text},)", scope)
    except GONE:
        return False
    return True


class _Kept(Seen):
    """The values themselves, where the expression finds them."""

    def __init__(self, texts: list[str], scope: dict[str, Any]) -> None:
        self.scope = scope
        super().__init__(eval(f"lambda: ({', '.join(texts)},)", scope))
        self._keep()

    def _keep(self) -> None:
        self.scope.update((f"v{i}", value) for i, value in enumerate(self.values))

    def _alike(self, now: Sequence[Any]) -> bool:
        alike = super()._alike(now)
        self._keep()
        return alike
