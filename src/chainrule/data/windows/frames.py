"""Frames of pandas and polars: those in memory become arrays, lazy ones are read a window at a time."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.data.windows.columns import Column, Columns
from chainrule.data.windows.pieces import ArrayStore, even_pieces
from chainrule.data.windows.plan import Part
from chainrule.errors import DataError

Array = np.ndarray[Any, Any]


def of_frame(frame: Any, choose: Callable[..., Columns], buffer: int, who: str) -> ArrayStore:
    """A frame of pandas or polars: it is in memory, and so are its arrays."""
    given = {str(name): _of_series(frame[name]) for name in frame.columns}
    if len(given) < len(frame.columns):
        raise DataError(
            f"{who}: columns must have names of their own, got some twice in {list(frame.columns)}. Rename them."
        )
    known: dict[str, Column | str] = {
        str(name): Column(str(name), given[str(name)].dtype)
        if given[str(name)].dtype.kind in "biuf"
        else str(frame[name].dtype)
        for name in frame.columns
    }
    columns = choose(known)
    rows = len(frame)
    if columns.target is None:
        return ArrayStore({name: given[name] for name in columns.names}, buffer, who)
    arrays = columns.empty(rows)
    columns.fill(arrays, 0, given)
    return ArrayStore(arrays, buffer, who)


def _of_series(series: Any) -> Array:
    if getattr(series, "ndim", 1) != 1:
        raise DataError("source: columns must have names of their own, got one twice. Rename it.")
    array = np.asarray(series.to_numpy())
    if (
        array.dtype.kind == "O" and getattr(getattr(series, "dtype", None), "kind", "O") in "biuf"
    ):  # pandas' nullable numbers
        array = np.asarray(series.to_numpy("float64", na_value=np.nan))
    return array


class LazyStore:
    """A lazy frame of polars: its rows are collected slice by slice, in the order in which it gives them."""

    ahead = fixed = True

    def __init__(self, frame: Any, choose: Callable[..., Columns], buffer: int, who: str) -> None:
        self.who = who
        self._lock = threading.Lock()  # around what polars makes of it: the same rows for two that read at once
        kinds = {name: _kind(name, dtype) for name, dtype in frame.collect_schema().items()}
        self.columns = choose(kinds)
        self.frame = frame.select(self.columns.names)
        self.row_bytes: float | None = self.columns.row_bytes
        rows = int(frame.select(importlib.import_module("polars").len()).collect().item())
        self.pieces = even_pieces(rows, self.columns.row_bytes, 4 * buffer)  # fewer: each is a query of its own
        self.starts = np.cumsum([0, *self.pieces]).tolist()

    def read(self, parts: Sequence[Part]) -> Any:
        arrays, at = self.columns.empty(sum(part.rows for part in parts)), 0
        for part in parts:
            found = self._slice(self.starts[part.piece] + part.start, part.rows)
            self.columns.fill(arrays, at, found)
            at += part.rows
        return arrays

    def _slice(self, start: int, rows: int) -> dict[str, Array]:
        with self._lock:
            frame = self._collected(start, rows)
        if len(frame) != rows:
            raise DataError(
                f"{self.who}: the lazy frame gives {len(frame)} rows from row {start} on, where it had {rows}. What it reads must "
                f"not change while it is trained on."
            )
        return {name: _of_series(frame[name]) for name in frame.columns}

    def _collected(self, start: int, rows: int) -> Any:
        try:
            return self.frame.slice(start, rows).collect()
        except OSError as error:
            raise DataError(
                f"{self.who}: the lazy frame cannot be read any further ({error}). Bring the files that it reads back as they "
                f"were, and go on; or start again without them."
            ) from error

    def identity(self) -> Sequence[Any]:
        looked = sorted(set(np.linspace(0, len(self.pieces) - 1, 64).astype(int).tolist())) if self.pieces else []
        read = (self._slice(self.starts[i], self.pieces[i]) for i in looked)
        return [str(self.columns), *(part for arrays in read for item in arrays.items() for part in item)]


def _kind(name: str, dtype: Any) -> Column | str:
    if not (dtype.is_numeric() or str(dtype) == "Boolean") or dtype.is_decimal():
        return str(dtype)
    kind = "bool" if str(dtype) == "Boolean" else str(dtype).lower()
    return Column(name, np.dtype(kind))
