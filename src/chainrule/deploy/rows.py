"""From plain rows to the arrays that a network takes: named columns of numbers, or what a table's pipeline has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from chainrule.data.checks import as_array
from chainrule.data.named import check_once, library, some
from chainrule.deploy import mixed
from chainrule.errors import DataError
from chainrule.files.document import Fields, is_number, short

if TYPE_CHECKING:
    from chainrule.data.table import TablePipeline

Array = np.ndarray[Any, Any]


class RowEncoder(Protocol):
    """What makes an array of rows."""

    def encode(self, rows: Any) -> Array:
        """The rows (a list of dicts, a dict of columns, a table, an array) as the network takes them."""

    @property
    def width(self) -> int | None:
        """How many numbers the network takes of a row, where that is known."""

    def differences(self, rows: Any) -> list[str]:
        """How they differ from those of the training, a sentence each."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, which `read` makes it of."""


_PLAIN = frozenset((float, int, str, bool, type(None)))


def is_one(rows: object) -> bool:
    """Is it one row: a dict in which no value is a column, or a row of a pandas frame?"""
    if type(rows) is not dict and not isinstance(rows, Mapping):
        return _is_series(rows)
    for value in rows.values():  # noqa: SIM110 - any() of a generator takes twice as long
        if type(value) not in _PLAIN and _is_column(value):
            return False
    return True


def several(rows: Any) -> Any:
    """The rows as those of several: one in a list, a lazy frame read."""
    if is_one(rows):
        return [rows.to_dict() if _is_series(rows) else rows]
    return rows.collect() if library(rows) == "polars" and hasattr(rows, "collect") else rows


def _is_series(rows: Any) -> bool:
    return library(rows) == "pandas" and getattr(rows, "ndim", 2) == 1


def _is_column(value: object) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes)) and getattr(value, "ndim", None) != 0


@dataclass(frozen=True)
class Columns:
    """Columns of numbers, by name or by position, each shifted and scaled: ``(x - shift) * scale``.

    Attributes:
        names: of the columns, in order; None: rows are arrays.
        shift, scale: one for each column; None: as they are.
    """

    names: tuple[str, ...] | None = None
    shift: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    def encode(self, rows: Any) -> Array:
        """An array (N, columns)."""
        if isinstance(rows, Mapping):
            found = self._of_columns(rows)
        elif isinstance(rows, Sequence) and rows and isinstance(rows[0], Mapping):
            found = np.array([self._of_row(row) for row in rows])
        elif hasattr(rows, "columns") and self.names is not None:
            check_once(rows, "bundle.predict: rows")
            found = self._of_columns({str(name): rows[name] for name in rows.columns})
        else:
            found = self._of_array(rows)
        if self.scale is None or self.shift is None:
            return found
        scaled: Array = (np.asarray(found, np.float64) - np.array(self.shift)) * np.array(self.scale)
        return scaled

    def _named(self) -> tuple[str, ...]:
        if self.names is None:
            raise DataError(
                "bundle.predict: this bundle knows no names of columns, got rows with names. Pass an array (N, columns), or name "
                "them when the bundle is made: cr.bundle(trainer, columns=[...])."
            )
        return self.names

    def _of_row(self, row: Any) -> list[float]:
        names = self._named()
        if not isinstance(row, Mapping):
            raise DataError(
                f"bundle.predict: all rows must be dicts, as the first is, got {short(row)}. Pass them alike."
            )
        found = [row.get(name) for name in names]
        for name, value in zip(names, found, strict=True):
            if value.__class__ is not float and not isinstance(value, Real):
                raise self._wrong(name, name in row, value)
        return found  # type: ignore[return-value]

    def _of_columns(self, columns: Mapping[str, Any]) -> Array:
        names = self._named()
        parts = []
        for name in names:
            values = np.asarray(columns[name]) if name in columns else None
            if values is None or values.ndim != 1 or values.dtype.kind not in "biuf":
                raise self._wrong(
                    name, name in columns, None if values is None else f"{values.dtype} of shape {values.shape}"
                )
            parts.append(values)
        if len({len(part) for part in parts}) > 1:
            raise DataError(
                f"bundle.predict: the columns must have one length, got {sorted({len(p) for p in parts})}. Cut them alike."
            )
        return np.stack(parts, axis=1)

    def _of_array(self, rows: Any) -> Array:
        array = as_array(rows, "bundle.predict: rows")
        if self.names is not None and (array.ndim != 2 or array.shape[1] != len(self.names)):
            raise DataError(
                f"bundle.predict: rows must be an array of shape (N, {len(self.names)}), or have the columns "
                f"{some(self.names)}, got shape {array.shape}. One row alone is [row]."
            )
        return array

    def _wrong(self, name: str, there: bool, value: object) -> DataError:
        if not there:
            return DataError(f"bundle.predict: the column {name!r} is missing. Rows need {some(self.names or ())}.")
        return DataError(f"bundle.predict: the column {name!r} must be a number, got {short(value)}. Convert it.")

    @property
    def width(self) -> int | None:
        """The number of columns."""
        known = self.names if self.names is not None else self.shift
        return None if known is None else len(known)

    def differences(self, rows: Any) -> list[str]:
        """Columns that are missing, or not used."""
        first = rows[0] if isinstance(rows, Sequence) and rows else rows
        names = list(first) if isinstance(first, Mapping) else [str(n) for n in getattr(first, "columns", ())]
        if self.names is None or not names:
            return []
        absent, unused = (
            [n for n in one if n not in other] for one, other in ((self.names, names), (names, self.names))
        )
        notes = [f"missing, and needed: {some(absent)}"] if absent else []
        return notes + ([f"not used, as training had none of that name: {some(unused)}"] if unused else [])

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        listed = {"names": self.names, "shift": self.shift, "scale": self.scale}
        return {"kind": "columns", **{k: None if v is None else list(v) for k, v in listed.items()}}


@dataclass(frozen=True)
class OfTable:
    """Columns of all kinds, as a `TablePipeline` has learned them.

    Attributes:
        pipeline: what was learned.
        reading: how files are read, as the arguments of ``cr.data.read_table``.
    """

    pipeline: TablePipeline
    reading: dict[str, Any]

    def encode(self, rows: Any) -> Array:
        """An array (N, inputs), float32; columns that are missing are named in a warning."""
        return self.pipeline.transform(rows)

    @property
    def width(self) -> int:
        """The number of inputs."""
        return len(self.pipeline.get_feature_names_out())

    def differences(self, rows: Any) -> list[str]:
        """Columns that are missing or not used, levels never seen, values that are not what their column holds."""
        return self.pipeline.differences(rows)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": "table", "reading": self.reading, "pipeline": self.pipeline.as_dict()}


def read(saved: Fields) -> RowEncoder:
    """The rows of a bundle that ``as_dict`` described.

    Raises:
        DamagedFileError: it describes none.
    """
    kind = saved.text("kind")
    if kind == "table":
        from chainrule.data.table import TablePipeline  # only for tables, as it needs the libraries that read them
        from chainrule.training.tabular import check_reading

        reading = saved.fields("reading")
        check_reading(reading)
        return OfTable(TablePipeline.read(saved.fields("pipeline")), reading.value)
    if kind not in ("columns", "mixed"):
        saved.refuse("kind", "'columns', 'mixed' or 'table'", kind)
    texts = saved.items("names", lambda v: isinstance(v, str), "a list of names") if saved.has("names") else None
    if texts is not None and (not texts or len(set(texts)) < len(texts)):
        saved.refuse("names", "names, each once", texts)
    if kind == "mixed":
        return mixed.read(saved, None if texts is None else tuple(texts))
    shift, scale = (
        saved.items(n, is_number, "a list of numbers") if saved.has(n) else None for n in ("shift", "scale")
    )
    if (shift is None) != (scale is None) or (shift is not None and scale is not None and len(shift) != len(scale)):
        saved.refuse("shift", "as many numbers as scale has", shift)
    if shift is not None and texts is not None and len(shift) != len(texts):
        saved.refuse("shift", "a number for each name", shift)
    return Columns(*(None if found is None else tuple(found) for found in (texts, shift, scale)))
