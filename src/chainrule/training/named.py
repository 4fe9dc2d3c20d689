"""The names of the columns that a training was given, by which all later data is taken: its order may be another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data.named import Known, check_once, listed, names_of, with_columns
from chainrule.errors import DataError
from chainrule.files.document import Fields
from chainrule.training import several

if TYPE_CHECKING:
    from chainrule.data.windows import Source


@dataclass(frozen=True)
class Named:
    """The columns of a training.

    Attributes:
        parts: of each part that had some, their names in order: of ``"X"``, ``"y"`` and ``"weight"``, of ``"X['age']"``
            where there are several; and of ``"classes"`` where images lie in a folder for each.
        windows: they were read from a source, as a matrix.
    """

    parts: Mapping[str, tuple[str, ...]]
    windows: bool = False

    def known(self, part: str, strict: bool = True) -> Known | None:
        """What data for this part is to have; None where it had no names."""
        names = self.parts.get(part)
        return None if names is None else Known(names, strict)

    def check_form(self, part: str, names: tuple[str, ...], who: str) -> None:
        """Raise `DataError` where parts had names in a dict and come in a tuple, or the other way, with columns in another order."""
        whole, _, key = part.partition("[")
        others = [
            name for name in self.parts if key and name.startswith(f"{whole}[") and _is_key(name) != _is_key(part)
        ]
        if others and names not in (self.parts[name] for name in others):
            raise DataError(
                f"{who} must come in a {'dict' if _is_key(others[0]) else 'tuple'}, as the model was trained on it, since columns are "
                f"taken by their names: it had {', '.join(others)}, and this is {part}."
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"parts": {part: list(names) for part, names in self.parts.items()}, "windows": self.windows}

    @classmethod
    def read(cls, saved: Fields) -> Named:
        """What `as_dict` described.

        Raises:
            DamagedFileError: it is none.
        """
        parts = saved.fields("parts")
        found = {
            part: parts.items(part, lambda name: isinstance(name, str), "a list of names") for part in parts.names()
        }
        return cls({part: tuple(names) for part, names in found.items()}, saved.flag("windows"))


def _is_key(part: str) -> bool:
    """Is it named by the key of a dict: ``"X['age']"``?"""
    return part.partition("[")[2][:1] in ("'", '"')


def taken(
    data: Mapping[str, Any], named: Named | None, who: str, names: Mapping[str, str] | None = None, strict: bool = True
) -> tuple[list[Any], Named | None]:
    """Data in memory with its columns as the training had them, and the names that they have now.

    Args:
        data: by part, ``"X"`` and ``"y"``.
        names: what errors call a part, where that is something else.
        strict: False: columns of other names are those of a training that begins.

    Raises:
        DataError: a column is missing.
    """
    if all(type(part) is np.ndarray for part in data.values()):
        return list(data.values()), None
    found: dict[str, tuple[str, ...]] = {}

    def ordered(label: str, leaf: Any, called: str) -> Any:
        there, what = names_of(leaf), f"{who}: {called}"
        known = None if named is None else named.known(label, strict)
        if there is None:
            if known is not None and strict:
                check_once(leaf, what)
            return leaf
        if known is None and strict and named is not None:
            named.check_form(label, there, what)
        order = there if known is None else tuple(known.order(there, what))
        found[label] = order
        return with_columns(leaf, order)

    parts = [_mapped(ordered, part, tree, (names or {}).get(part, part)) for part, tree in data.items()]
    return parts, Named(found) if found else None


def _mapped(function: Callable[[str, Any, str], Any], label: str, tree: Any, called: str) -> Any:
    """The tree with `function(label, leaf, what errors call it)` of each leaf."""
    if not several.is_several(tree):
        return function(label, tree, called)
    if isinstance(tree, dict):
        return {key: _mapped(function, f"{label}[{key!r}]", item, f"{called}[{key!r}]") for key, item in tree.items()}
    return tuple(_mapped(function, f"{label}[{i}]", item, f"{called}[{i}]") for i, item in enumerate(tree))


def target_in_order(y: Any, named: Named | None) -> Any:
    """Names of targets in the order in which the model gives them, where they are those of the training."""
    known = () if named is None else named.parts.get("y", ())
    return list(known) if isinstance(y, (list, tuple)) and len(y) == len(known) and _same(y, known) else y


def _same(y: Any, known: tuple[str, ...]) -> bool:
    return all(isinstance(name, str) for name in y) and set(y) == set(known)


def of_source(source: Source) -> Named | None:
    """The names that the columns of a source have, or its classes; None where they have none, or X is a dict by name."""
    classes = _classes(source)
    if classes is not None:
        return Named({"classes": classes})
    columns = getattr(source, "columns", None)
    if columns is None or not columns.target:
        return None
    parts = {"X": columns.features, "y": columns.targets, "weight": [columns.weight] if columns.weight else ()}
    return Named({part: tuple(names) for part, names in parts.items() if names}, windows=True)


def _classes(source: Source) -> tuple[str, ...] | None:
    """Of a folder of images: the names of the folders in it."""
    found = getattr(getattr(source, "store", None), "classes", None)
    return None if found is None else tuple(found)


def with_classes(source: Source, named: Named | None, who: str) -> Source:
    """The source with the classes numbered as the training had them, where both have names for them.

    Raises:
        DataError: there is one that the training had not.
    """
    known, own = None if named is None else named.parts.get("classes"), _classes(source)
    if known is None or own is None or own == known:
        return source
    strange = [name for name in own if name not in known]
    if strange:
        raise DataError(
            f"{who} must have folders for classes that the model was trained on, {listed(known)}, got {listed(strange)} beside. "
            f"Rename it, or leave it out."
        )
    found: Any = copy.copy(source)
    found.store = found.store.numbered(known)
    return found  # type: ignore[no-any-return]


def check_source(source: Source, named: Named | None, who: str) -> None:
    """Raise `DataError` where the features of a source are not those of the training in their order."""
    known, own = None if named is None else named.known("X"), of_source(source)
    if known is None or own is None or own.parts.get("X", known.names) == known.names:
        return
    known.order(own.parts["X"], who)
    raise DataError(
        f"{who} must have its columns in the order in which the model was trained on them, and this source has another. Make it "
        f"with as_source(..., features={list(known.names)})."
    )
