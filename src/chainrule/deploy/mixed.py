"""Rows of numbers and categories as the tabular estimators take them: each column as they have learned it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.named import some
from chainrule.errors import DataError
from chainrule.files.document import Fields, short
from chainrule.training.columns import Columns, is_frame

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Mixed:
    """Columns by name or by position; a number may be missing (None, NaN), a category missing or never seen.

    Attributes:
        names: of the columns, in order; None: rows are arrays.
        columns: what they become.
    """

    names: tuple[str, ...] | None
    columns: Columns

    def encode(self, rows: Any) -> Array:
        """An array (N, inputs), float64."""
        try:
            return self.columns.transform(self._table(rows), np.float64)
        except DataError:
            raise
        except ValueError as error:  # in the words that the estimator has for it
            raise DataError(f"bundle.predict: {error}") from None

    def _table(self, rows: Any) -> Any:
        """The columns of the training, in order, as a data frame or an array."""
        if is_frame(rows) and self.names is not None:
            there = {str(name): name for name in rows.columns}
            found = rows[[self._found(name, there) for name in self.names]]
        elif isinstance(rows, Mapping):
            found = _array([_values(self._found(name, rows)) for name in self._named()])
        elif isinstance(rows, Sequence) and rows and any(isinstance(row, Mapping) for row in rows):
            found = _array([[self._of_row(row, name) for row in rows] for name in self._named()])
        else:
            found = self._of_array(rows)
        if not len(found):
            raise DataError(
                f"bundle.predict: rows must have at least one row, got shape {found.shape}. Pass one or more."
            )
        return found

    def _named(self) -> tuple[str, ...]:
        if self.names is None:
            raise DataError(
                "bundle.predict: this bundle knows no names of columns, as its estimator was fitted on an array, got rows with "
                "names. Pass an array (N, columns), or fit it on a data frame."
            )
        return self.names

    def _found(self, name: str, there: Mapping[str, Any]) -> Any:
        if name not in there:
            raise DataError(
                f"bundle.predict: the column {name!r} is missing. Rows need {some(self.names or ())}; None says that a value is "
                f"not known."
            )
        return there[name]

    def _of_row(self, row: Any, name: str) -> Any:
        if not isinstance(row, Mapping):
            raise DataError(
                f"bundle.predict: all rows must be dicts, as another is, got {short(row)}. Pass them alike."
            )
        return self._found(name, row)

    def _of_array(self, rows: Any) -> Array:
        array = rows if isinstance(rows, np.ndarray) else _rows(rows)
        count = len(self.columns.parts_)
        if array.ndim != 2 or array.shape[1] != count:
            what = f", or have the columns {some(self.names)}" if self.names is not None else ""
            raise DataError(
                f"bundle.predict: rows must be an array of shape (N, {count}){what}, got shape {array.shape}. One row alone is "
                f"[row]."
            )
        return array

    @property
    def width(self) -> int:
        """The number of inputs."""
        return self.columns.layout_.columns

    def differences(self, rows: Any) -> list[str]:
        """Columns that are not used, and levels never seen."""
        first = rows[0] if isinstance(rows, Sequence) and rows else rows
        there = list(first) if isinstance(first, Mapping) else [str(name) for name in getattr(first, "columns", ())]
        unused = [str(name) for name in there if self.names is not None and name not in self.names]
        notes = [f"not used, as training had none of that name: {some(unused)}"] if unused else []
        return notes + self.columns.differences(self._table(rows))

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "kind": "mixed", "names": None if self.names is None else list(self.names), "columns": self.columns.as_dict(),
        }  # fmt: skip


def read(saved: Fields, names: tuple[str, ...] | None) -> Mixed:
    """The rows that ``as_dict`` described.

    Raises:
        DamagedFileError: it describes none.
    """
    columns = Columns.read(saved.fields("columns"))
    if names is not None and len(names) != len(columns.parts_):
        saved.refuse("names", "one for each column", list(names))
    return Mixed(names, columns)


def _values(column: Any) -> Any:
    """The values of a column as objects, None where a library says that one is missing."""
    if hasattr(column, "isna"):  # pandas
        return column.astype(object).where(~column.isna(), None).tolist()
    if isinstance(column, np.ndarray) and column.dtype.kind in "Mm":
        return column.astype(f"{column.dtype.kind}8[us]").tolist()
    found = column.tolist() if isinstance(column, np.ndarray) else column
    if not isinstance(found, (list, tuple)) and not hasattr(found, "to_list"):
        raise DataError(
            f"bundle.predict: a column must be a list of values, got {short(column)}. Pass all columns as lists."
        )
    return list(found)


def _array(columns: list[Any]) -> Array:
    """An array (N, F) of objects."""
    lengths = sorted({len(column) for column in columns})
    if len(lengths) > 1:
        raise DataError(f"bundle.predict: the columns must have one length, got {lengths}. Cut them alike.")
    made = np.empty((lengths[0], len(columns)), object)
    for i, values in enumerate(columns):
        made[:, i] = [value.item() if isinstance(value, np.generic) else value for value in values]
    return made


def _rows(rows: Any) -> Array:
    """A list of rows, each a list."""
    listed = (
        [list(row) if isinstance(row, (list, tuple, np.ndarray)) else row for row in rows]
        if isinstance(rows, Sequence)
        else []
    )
    if not listed or not all(isinstance(row, list) for row in listed) or len({len(row) for row in listed}) > 1:
        raise DataError(
            f"bundle.predict: rows must be a list of rows, each as long as the others, or an array, got {short(rows)}. One row is "
            f"[row]."
        )
    return _array([list(column) for column in zip(*listed, strict=True)]) if listed[0] else np.empty((len(listed), 0))
