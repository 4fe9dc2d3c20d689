"""A table in memory: named columns of one length, each as it came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from chainrule.data.table.values import PLAIN, Reading
from chainrule.errors import DataError, unknown_name

Array = np.ndarray[Any, Any]
MOST_COLUMNS = 20_000  # each is looked at by itself, some milliseconds each


class Table:
    """Rows and named columns, of any kinds.

    Args:
        data: a dict of columns, a list of rows (dicts), a polars or pandas table, an Arrow table, or a NumPy array (N, C).
        decimal: the decimal mark of numbers that are text, ``"."`` or ``","``. Where it is given it holds, whatever a pipeline
            has learned; else a point is taken, and a pipeline reads each column as it did in training where that loses less.
        notes: what was found when it was read.
        name: what errors call it.
        columns: the names, for an array.

    Attributes:
        frame: the columns, as a ``polars.DataFrame``.
        written: how its numbers are written, and whether that was told.

    Raises:
        DataError: it is no table: columns of different lengths, masked or sparse arrays, nothing in it; decimal is another mark.

    Example:
        >>> table = Table({"height": [1.65, 1.80, None], "name": ["Ada", "Bob", "Cy"]})
        >>> len(table), table.columns
        (3, ['height', 'name'])
        >>> table.rows([2, 0]).frame["name"].to_list()
        ['Cy', 'Ada']
    """

    def __init__(
        self, data: object, *, decimal: str | None = None, notes: Iterable[str] = (), name: str = "the table",
        columns: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        self.frame = _frame(data, name, columns)
        self.notes, self.name = list(notes), name
        if decimal not in (None, ".", ","):
            raise DataError(f"{name}: decimal must be '.' or ',', got {decimal!r}.")
        self.written: Reading = data.written if isinstance(data, Table) else PLAIN
        if decimal is not None:
            self.written = Reading(decimal, told=True)

    @classmethod
    def of(cls, data: object, name: str = "the table") -> Table:
        """Itself, or a table of whatever can be one."""
        return data if isinstance(data, Table) else cls(data, name=name).checked(name)

    @property
    def decimal(self) -> str:
        """The decimal mark of numbers that are text."""
        return self.written.decimal

    @property
    def columns(self) -> list[str]:
        """The names, in order."""
        return list(self.frame.columns)

    def __len__(self) -> int:
        return int(self.frame.height)

    def __getitem__(self, name: str) -> pl.Series:
        """A column.

        Raises:
            UnknownNameError: there is none of that name; the nearest are named.
        """
        self.check_names([name])
        return self.frame[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __repr__(self) -> str:
        names = ", ".join(self.columns[:12]) + (", ..." if len(self.columns) > 12 else "")
        return f"<Table: {len(self):,} row{'s' * (len(self) != 1)}, {len(self.columns)} columns: {names}>"

    def rows(self, chosen: object) -> Table:
        """The rows of these numbers, or where a mask is true."""
        which = np.asarray(chosen)
        return self._like(self.frame.filter(pl.Series(which)) if which.dtype == bool else self.frame[which])

    def drop(self, names: Sequence[str]) -> Table:
        """Without these columns."""
        self.check_names(names)
        return self._like(self.frame.drop(names))

    def check_names(self, names: Iterable[str], who: str = "") -> None:
        """Raise `UnknownNameError` unless all are columns."""
        known = set(self.columns)
        for name in names:
            if name not in known:
                unnamed = self.columns == [f"column_{number}" for number in range(1, len(known) + 1)]
                hint = (
                    "No line of names was found: if the first line is one, say header=True (--header)."
                    if unnamed
                    else ""
                )
                raise unknown_name(
                    f"column{f' for {who}' if who else ''} of {self.name}", name, self.columns[:50], hint
                )

    def checked(self, who: str) -> Table:
        """Itself, if it has rows, columns and no more of those than can be handled."""
        if not self.frame.height or not self.frame.width:
            raise DataError(f"{who} must have at least one row and one column, got {self.frame.shape}.")
        check_width(self.frame.width, who)
        return self

    def _like(self, frame: pl.DataFrame) -> Table:
        found = Table(frame, notes=self.notes, name=self.name)
        found.written = self.written
        return found


def check_width(columns: int, who: str) -> None:
    """Refuse more columns than can be handled."""
    if columns > MOST_COLUMNS:
        raise DataError(
            f"{who} has {columns:,} columns, more than the {MOST_COLUMNS:,} that tables may have. Numbers alone can be trained "
            f"on as an array: cr.Trainer(...).fit(X, y). Else choose the columns that matter."
        )


def _frame(data: object, who: str, columns: Sequence[str] | None) -> pl.DataFrame:
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, Table):
        return data.frame
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if hasattr(data, "toarray"):
        raise DataError(f"{who} must be a table or a dense array, got a sparse matrix. Pass its .toarray().")
    if isinstance(data, np.ndarray):
        return _of_array(data, who, columns)
    try:
        return _converted(data)
    except (pl.exceptions.PolarsError, TypeError, ValueError, ImportError, OverflowError, NotImplementedError) as error:
        raise DataError(
            f"{who} must be a table (a dict of columns of one length, rows as dicts, pandas, polars, Arrow) or an array, "
            f"got {type(data).__name__}: {str(error).splitlines()[0] if str(error) else type(error).__name__}."
        ) from None


def _converted(data: Any) -> pl.DataFrame:
    if type(data).__module__.startswith("pandas"):
        return _of_pandas(data)
    if type(data).__module__.startswith("pyarrow"):
        return pl.DataFrame(pl.from_arrow(data))
    if isinstance(data, Mapping):
        return pl.DataFrame({str(name): _series(str(name), values) for name, values in data.items()})
    if isinstance(data, Sequence) and not isinstance(data, str) and all(isinstance(row, Mapping) for row in data):
        names = list(dict.fromkeys(name for row in data for name in row))
        return pl.DataFrame({str(n): _series(str(n), [row.get(n) for row in data]) for n in names})
    raise TypeError("it has no named columns")


def _of_pandas(data: Any) -> pl.DataFrame:
    """Objects column by column, whatever is mixed in them."""
    names = [str(name) for name in data.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands over several columns. Give each its own")
    return pl.DataFrame({name: _series(name, data.iloc[:, i]) for i, name in enumerate(names)})


def _series(name: str, values: Any) -> pl.Series:
    if getattr(values, "ndim", 1) != 1:
        raise ValueError(f"the column {name!r} must have one axis, got shape {tuple(values.shape)}")
    if isinstance(values, np.ma.MaskedArray):
        filled = [
            None if masked else value
            for value, masked in zip(values.data.tolist(), np.ma.getmaskarray(values), strict=True)
        ]
        return pl.Series(name, filled, strict=False)
    if str(getattr(values, "dtype", "")) == "object" or isinstance(values, (list, tuple)):
        return _of_objects(name, list(values))
    if type(values).__module__.startswith("pandas"):
        return pl.from_pandas(_without_extensions(values).rename(name))
    return pl.Series(name, values)


def _without_extensions(values: Any) -> Any:
    """A column of pandas: periods as their beginnings, intervals (as of ``pandas.cut``) as texts."""
    dtype = getattr(getattr(values.dtype, "categories", None), "dtype", values.dtype)
    if str(values.dtype).startswith("period"):
        return values.dt.to_timestamp()
    if str(dtype).startswith(("interval", "period")):
        return values.astype(str).where(values.notna(), None)
    return values


def _of_objects(name: str, values: list[Any]) -> pl.Series:
    """A column of Python objects: of one kind as it is, of mixed kinds as texts."""
    known = [None if v is None or v is getattr(v, "NA", v) is None or v != v else v for v in values]
    kinds = {type(value) for value in known if value is not None}
    if len(kinds) <= 1 or kinds <= {int, float}:
        return pl.Series(name, known, strict=False)
    return pl.Series(name, [None if value is None else str(value) for value in known], dtype=pl.String)


def _of_array(data: Array, who: str, columns: Sequence[str] | None) -> pl.DataFrame:
    if data.ndim != 2:
        raise DataError(
            f"{who} must be an array of rows and columns, got shape {data.shape}. One column: array[:, None]."
        )
    names = list(columns) if columns is not None else [f"column_{i}" for i in range(1, data.shape[1] + 1)]
    if len(names) != data.shape[1] or len(set(names)) != len(names):
        raise DataError(f"{who}: columns must name each of the {data.shape[1]} columns once, got {len(names)} names.")
    return pl.DataFrame({name: _series(name, data[:, i]) for i, name in enumerate(names)})
