"""Columns that have names: those that data has, and those that a training had, by which later data is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chainrule.errors import DataError

SHOWN = 8  # names in an error


def library(data: Any) -> str:
    """Whose type it is: ``"pandas"``."""
    return type(data).__module__.partition(".")[0]


def names_of(data: Any) -> tuple[str, ...] | None:
    """The names of the columns of a frame or table in memory; None where they have none, or one several times.

    The numbers from 0 on that pandas gives to columns without names are none.
    """
    names = _labels(data)
    return None if names is None or len(set(names)) < len(names) else names


def _labels(data: Any) -> tuple[str, ...] | None:
    if library(data) not in ("pandas", "polars", "pyarrow") or not hasattr(type(data), "columns"):
        return None
    if hasattr(data, "collect"):
        return None
    labels = list(data.column_names if library(data) == "pyarrow" else data.columns)
    return None if labels == list(range(len(labels))) else tuple(map(str, labels))


def check_once(data: Any, who: str) -> None:
    """Raise `DataError` where columns that are taken by name have one several times."""
    names = _labels(data) or ()
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"{who} must have a name of its own for each column, as columns are taken by their names here, got {twice!r} more than "
            f"once. Rename one, or leave it out. (A NumPy array is taken by position.)"
        )


def has_names(data: Any) -> bool:
    """Is it a frame or table in memory whose columns have names?"""
    return names_of(data) is not None


def with_columns(data: Any, names: Sequence[str]) -> Any:
    """A frame or table that has these columns only, in this order."""
    there = names_of(data) or ()
    if there == tuple(names):
        return data
    if library(data) == "pandas":
        return data.iloc[:, [there.index(name) for name in names]]
    return data.select(list(names))


@dataclass(frozen=True)
class Known:
    """The columns that a training had.

    Attributes:
        names: in the order in which the model takes them.
        strict: False: data with others is taken as it comes, for a training of its own.
    """

    names: tuple[str, ...]
    strict: bool = True

    def order(self, there: Sequence[str], who: str) -> Sequence[str]:
        """The columns to take of those there are; what else is there is left alone.

        Raises:
            DataError: one is missing.
        """
        if not self.strict and set(there) != set(self.names):
            return there
        missing = [name for name in self.names if name not in there]
        if missing:
            others = [name for name in there if name not in self.names]
            instead = f" (and {listed(others)}, which the training had not)" if others else ""
            raise DataError(
                f"{who} must have the columns that the model was trained on, {listed(self.names)}, got data without "
                f"{listed(missing)}{instead}. Columns are taken by their names: rename those that are called otherwise. (A NumPy "
                f"array is taken by position.)"
            )
        return self.names


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """The names, each cut where it is long, the first of them where there are many."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(repr(name[:40]) for name in names[:most]) + more


def listed(names: Sequence[str]) -> str:
    """The names, as an error shows them."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
