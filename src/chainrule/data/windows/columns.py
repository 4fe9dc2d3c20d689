"""From named columns to the arrays of a window: each column for itself, or a matrix of features and the targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.data.named import Known
from chainrule.errors import DataError, unknown_name

Array = np.ndarray[Any, Any]
STRETCH = 4096  # rows that a matrix takes from one column after the other while they stay in the cache


@dataclass(frozen=True)
class Column:
    """A column of numbers: its dtype, and how many a row has (0: one, without an axis)."""

    name: str
    dtype: np.dtype[Any]
    width: int = 0


@dataclass(frozen=True)
class Columns:
    """Which columns make which arrays.

    Without a target: a dict of all columns. With one: ``(X, y)``, or ``(X, y, weight)``; X is a matrix of the features, y
    one column as it is or a matrix of several. With an empty list of targets: X alone.

    Attributes:
        features: those of X (default: all but target and weight).
        target: the name of one column, or a list of names.
        weight: the name of a column.
        dtype: of matrices.
    """

    columns: Mapping[str, Column]
    features: Sequence[str]
    target: str | Sequence[str] | None = None
    weight: str | None = None
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))
    who: str = "source"

    @property
    def names(self) -> list[str]:
        """All columns that are read."""
        return list(dict.fromkeys([*self.features, *self.targets, *([self.weight] if self.weight else [])]))

    @property
    def targets(self) -> Sequence[str]:
        """The columns of y."""
        return [self.target] if isinstance(self.target, str) else self.target or []

    @property
    def row_bytes(self) -> float:
        """Of a row in a window."""
        inside = self._in_matrices()
        return float(sum(_bytes(self.columns[name], self.dtype if name in inside else None) for name in self.names))

    def _in_matrices(self) -> set[str]:
        if self.target is None:
            return set()
        return {*self.features, *(() if isinstance(self.target, str) else self.target)}

    def empty(self, rows: int) -> Any:
        """Arrays for so many rows."""
        if self.target is None:
            return {name: self._column(name, rows) for name in self.names}
        if not self.target:
            return self._matrix(self.features, rows)
        y = self._column(self.target, rows) if isinstance(self.target, str) else self._matrix(self.targets, rows)
        found = (self._matrix(self.features, rows), y)
        return found if self.weight is None else (*found, self._column(self.weight, rows))

    def _column(self, name: str, rows: int) -> Array:
        column = self.columns[name]
        return np.empty((rows, column.width) if column.width else rows, column.dtype)

    def _matrix(self, names: Sequence[str], rows: int) -> Array:
        return np.empty((rows, sum(max(1, self.columns[name].width) for name in names)), self.dtype)

    def fill(self, arrays: Any, at: int, given: Mapping[str, Array]) -> None:
        """Write rows of all columns into arrays of `empty`, from row `at` on."""
        if self.target is None:
            for name, array in arrays.items():
                self._put(array, at, given[name], name)
            return
        if not self.target:
            self._fill_matrix(arrays, at, self.features, given)
            return
        self._fill_matrix(arrays[0], at, self.features, given)
        if isinstance(self.target, str):
            self._put(arrays[1], at, given[self.target], self.target)
        else:
            self._fill_matrix(arrays[1], at, self.targets, given)
        if self.weight is not None:
            self._put(arrays[2], at, given[self.weight], self.weight)

    def _put(self, array: Array, at: int, values: Array, name: str) -> None:
        if (
            array.dtype.kind in "iub" and values.dtype.kind == "f"
        ):  # Arrow's way to give integers some of which are missing
            raise DataError(
                f"{self.who}: column {name!r} must be known everywhere, got {int(np.isnan(values).sum())} missing values among "
                f"integers. Fill them, drop their rows, or store the column as float."
            )
        array[at : at + len(values)] = values

    def _fill_matrix(self, matrix: Array, at: int, names: Sequence[str], given: Mapping[str, Array]) -> None:
        rows = len(given[names[0]]) if names else 0
        with np.errstate(over="ignore"):
            for start in range(0, rows, STRETCH):
                block, place = matrix[at + start : at + min(start + STRETCH, rows)], 0
                for name in names:
                    width = max(1, self.columns[name].width)
                    values = given[name][start : start + STRETCH]
                    block[:, place : place + width] = values if values.ndim > 1 else values[:, None]
                    place += width
        self._check_range(matrix[at : at + rows], names, given)

    def _check_range(self, block: Array, names: Sequence[str], given: Mapping[str, Array]) -> None:
        """Refuse a number that became infinite on its way into the matrix."""
        with np.errstate(all="ignore"):
            if not np.isinf(block.sum(dtype=np.float64)):
                return
        for name in names:
            with np.errstate(over="ignore"):
                beyond = np.isinf(given[name].astype(self.dtype)) & ~np.isinf(given[name])
            if beyond.any():
                raise DataError(
                    f"{self.who}: column {name!r} must fit {self.dtype}, which ends at {np.finfo(self.dtype).max:.4g}, got "
                    f"{given[name].ravel()[int(beyond.ravel().argmax())]:.6g}. Scale the column, or use dtype='float64'."
                )


@dataclass
class Choice:
    """The columns that a user names.

    Attributes:
        features, target, weight, dtype: as `Columns` has them.
        known: the features that a training had, where these are to be the same.
        made: the columns that it chose, once it did.
    """

    features: Sequence[str] | None = None
    target: str | Sequence[str] | None = None
    weight: str | None = None
    dtype: Any = "float32"
    who: str = "source"
    known: Known | None = None
    made: Columns | None = field(default=None, init=False)

    def __call__(self, columns: Mapping[str, Column | str]) -> Columns:
        """Those columns, all of them columns of numbers.

        Args:
            columns: those there are; of one that cannot be read, what it holds instead of numbers.
        """
        target, weight, who = self.target, self.weight, self.who
        targets = [target] if isinstance(target, str) else list(target or [])
        others = [*targets, *([weight] if weight else [])]
        used = self._features(columns, others)
        for name in [*others, *used]:
            if name not in columns:
                raise unknown_name(f"column of {who}", name, list(map(str, columns)))
            held = columns[name]
            if isinstance(held, str):
                raise DataError(f"{who}: {self._not_numbers(name, held, targets)}")
        if weight is not None and target is not None and not targets:
            raise DataError(
                f"{who}: weight goes with a target, got none. Name the column to learn, or leave weight out."
            )
        both = [name for name in used if name in others]
        if both or not used:
            wrong = f"got {both[0]!r} as both" if both else "got no feature"
            raise DataError(
                f"{who}: features must be columns beside target and weight, {wrong}. Name them with features=[...]."
            )
        found = {name: column for name, column in columns.items() if isinstance(column, Column)}
        given = target if target is None or isinstance(target, str) else tuple(target)
        self.made = Columns(found, used, given, weight, np.dtype(self.dtype), who)
        return self.made

    def _not_numbers(self, name: str, held: str, targets: Sequence[str]) -> str:
        """What is wrong with a column that holds no numbers, by what it was to be."""
        if name in targets:
            return (
                f"the target {name!r} must hold numbers, got {held}. Number its classes from 0 (numpy.unique(labels, "
                f"return_inverse=True)), or name another column."
            )
        if name == self.weight:
            return f"the weight {name!r} must hold numbers, got {held}. Name another column."
        return f"column {name!r} must hold numbers, got {held}. Number its categories, or leave it out with features=[...]."

    def _features(self, columns: Mapping[str, Column | str], others: Sequence[str]) -> list[str]:
        if self.features is not None:
            return list(self.features)
        left = [name for name in columns if name not in others]
        return left if self.known is None else list(self.known.order(left, self.who))


def _bytes(column: Column, dtype: np.dtype[Any] | None) -> int:
    return max(1, column.width) * (dtype or column.dtype).itemsize
