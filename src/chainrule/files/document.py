"""JSON from files that may hold anything: read without recursion errors, and each field asked for by what it must be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from numbers import Real
from reprlib import Repr
from typing import Any, NoReturn

from chainrule.errors import DamagedFileError

AGAIN = "Copy it again, or train again."
LARGEST = 2**63 - 1

_short = Repr()
_short.maxstring = _short.maxother = 60
short = _short.repr  # what came, cut to a length that an error can show


def parse(text: bytes | str, source: str, remedy: str = AGAIN) -> Any:
    """What a JSON text holds, NaN and infinity as Python writes them among it; no key twice.

    Args:
        text: UTF-8 if bytes.
        source: what errors name, such as the file.
        remedy: what to do about a text that is not JSON.

    Raises:
        DamagedFileError: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_once_each, parse_int=_whole)
    except RecursionError:
        raise DamagedFileError(f"{source}: not readable (nested too deep). {remedy}") from None
    except ValueError as error:
        raise DamagedFileError(f"{source}: not readable ({error}). {remedy}") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {short(twice)} stands there twice")
    return found


def _whole(text: str) -> int:
    if len(text) > 40:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


class Fields:
    """An object of a document; whatever is asked of it is what it must be, or one error says what came instead.

    Args:
        value: the object.
        source: what errors name: the file, and the place in it.
        remedy: what errors end with.

    Raises:
        DamagedFileError: from the constructor and every method: the document is not as it must be.

    Example:
        >>> found = Fields({"rows": 3, "shuffle": True, "seed": -1}, "run/record.json")
        >>> found.whole("rows"), found.flag("shuffle")
        (3, True)
        >>> found.whole("seed")
        Traceback (most recent call last):
        chainrule.errors.DamagedFileError: run/record.json: seed must be a whole number from 0 on, got -1. Copy it again, or train again.
    """

    def __init__(self, value: object, source: str, remedy: str = AGAIN) -> None:
        self.source, self.remedy = source, remedy
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            self.refuse("it", "an object with named fields", value)
        self.value: dict[str, Any] = value

    def refuse(self, name: str, must: str, value: object) -> NoReturn:
        """Raise for a field that is not what it must be."""
        raise DamagedFileError(f"{self.source}: {name} must be {must}, got {short(value)}. {self.remedy}")

    def names(self, known: Collection[str] | None = None) -> list[str]:
        """The names of its fields, all among `known` if that is given."""
        unknown = sorted(set(self.value) - set(known)) if known is not None else []
        if unknown:
            raise DamagedFileError(f"{self.source}: nothing is known of {short(unknown)}. {self.remedy}")
        return list(self.value)

    def has(self, name: str) -> bool:
        """Is there a field of this name that is not null?"""
        return self.value.get(name) is not None

    def whole(self, name: str, least: int = 0, most: int = LARGEST) -> int:
        """A whole number in a range."""
        to = f" to {most}" if most != LARGEST else " on"
        return int(
            self._checked(name, lambda v: is_whole(v) and least <= v <= most, f"a whole number from {least}{to}")
        )

    def like(self, name: str, own: object) -> Any:
        """What may take the place of `own`: see `alike`."""
        return self._checked(name, lambda v: alike(own, v), f"like {short(own)}")

    def number(self, name: str) -> float:
        """A finite number."""
        return float(self._checked(name, is_number, "a finite number"))

    def text(self, name: str) -> str:
        """A text."""
        return str(self._checked(name, lambda v: isinstance(v, str), "a text"))

    def flag(self, name: str) -> bool:
        """True or false."""
        return bool(self._checked(name, lambda v: isinstance(v, bool), "true or false"))

    def items(self, name: str, each: Callable[[object], bool] | None = None, kind: str = "a list") -> list[Any]:
        """A list, each item of which `each` accepts; `kind` says what it is a list of."""
        good = each or (lambda v: True)
        return list(self._checked(name, lambda v: isinstance(v, list) and all(map(good, v)), kind))

    def fields(self, name: str) -> Fields:
        """An object within."""
        return Fields(self.required(name), f"{self.source}: {name}", self.remedy)

    def required(self, name: str) -> Any:
        """Whatever stands there; it must be there."""
        if name not in self.value:
            raise DamagedFileError(f"{self.source}: {name} is missing. {self.remedy}")
        return self.value[name]

    def _checked(self, name: str, good: Callable[[Any], bool], must: str) -> Any:
        value = self.required(name)
        if not good(value):
            self.refuse(name, must, value)
        return value


def is_whole(value: object) -> bool:
    """Is it a whole number, and not true or false?"""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Is it a finite number?"""
    return is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def is_plain(value: object, depth: int = 8) -> bool:
    """Is it a number, a text, true, false or null, or a list of those, in a few levels?"""
    if type(value) in _PLAIN:  # as most are; `isinstance` takes four times as long
        return True
    if isinstance(value, (list, tuple)):
        return depth > 0 and all(is_plain(item, depth - 1) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


_PLAIN = frozenset({type(None), bool, int, float, str})


def alike(own: object, value: object) -> bool:
    """May `value`, which came from a file, take the place of `own`? Numbers for numbers, lists for lists as long, dicts for
    dicts with the same keys.

    Example:
        >>> alike((0.9, 0.999), [0.8, 1]), alike(0.1, True), alike(None, "text"), alike(3, None)
        (True, False, True, False)
    """
    if own is None:
        return is_plain(value)
    if isinstance(own, (bool, str)):
        return isinstance(value, type(own))
    if isinstance(own, Real):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(own, (list, tuple)):
        return isinstance(value, (list, tuple)) and len(value) == len(own) and all(map(alike, own, value))
    if isinstance(own, dict):
        return (
            isinstance(value, dict) and own.keys() == value.keys() and all(alike(own[key], value[key]) for key in own)
        )
    shape, dtype = getattr(own, "shape", None), getattr(own, "dtype", None)
    return shape is not None and (shape, dtype) == (getattr(value, "shape", None), getattr(value, "dtype", None))
