"""What changed between two steps of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.explain.text import number, table
from chainrule.graph import Array


@dataclass(frozen=True)
class Change:
    """How one parameter moved.

    Attributes:
        distance: the norm of the difference.
        relative: the same, over the norm before.
        largest: the elements that moved most: (index, before, after).
    """

    name: str
    distance: float
    relative: float
    largest: list[tuple[tuple[int, ...], float, float]]


@dataclass(frozen=True)
class Difference:
    """The parameters between step `a` and step `b`, those that moved most (for their size) first."""

    a: int
    b: int
    changes: list[Change]

    def __getitem__(self, name: str) -> Change:
        """The change of one parameter."""
        return next(change for change in self.changes if change.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {"a": self.a, "b": self.b, "changes": [vars(change).copy() for change in self.changes]}

    def __str__(self) -> str:
        return _text(self)


def _text(d: Difference) -> str:
    """What moved between two steps."""
    rows = [["", "distance", "relative", "moved most"]]
    for change in d.changes:
        index, before, after = change.largest[0] if change.largest else ((), 0.0, 0.0)
        most = f"[{', '.join(map(str, index))}] {number(before)} -> {number(after)}"
        rows.append([change.name, f"{change.distance:.6g}", f"{change.relative:.3g}", most])
    return "\n".join([f"from step {d.a} to step {d.b}:", *table(rows, right=(1, 2))])


def difference(a: int, b: int, before: dict[str, Array], after: dict[str, Array], count: int) -> Difference:
    """Compare the floating-point arrays of two moments; `count` elements of each are listed."""
    changes = [_change(name, before[name], after[name], count) for name in before if before[name].dtype.kind == "f"]
    return Difference(a, b, sorted(changes, key=lambda change: -change.relative))


def _change(name: str, before: Array, after: Array, count: int) -> Change:
    moved = np.asarray(after, np.float64) - before
    distance, size = float(np.linalg.norm(moved)), float(np.linalg.norm(np.asarray(before, np.float64)))
    order = np.argsort(-np.abs(moved).reshape(-1), kind="stable")[:count]
    largest = [
        (tuple(map(int, np.unravel_index(i, before.shape))), float(before.reshape(-1)[i]), float(after.reshape(-1)[i]))
        for i in order
    ]
    relative = distance / size if size else (np.inf if distance else 0.0)
    return Change(name, distance, relative, largest)
