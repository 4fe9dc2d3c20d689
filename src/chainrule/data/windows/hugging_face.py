"""Hugging Face datasets: those with row numbers, and those that are iterated over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chainrule.data.windows.columns import Column, Columns
from chainrule.data.windows.pieces import even_pieces
from chainrule.data.windows.plan import Part
from chainrule.errors import DataError

Array = np.ndarray[Any, Any]
ROWS = 256  # of a batch that an iterated dataset is asked for


def is_dataset(data: Any) -> bool:
    """Has it named columns and row numbers?"""
    return all(hasattr(data, name) for name in ("with_format", "column_names", "features", "__len__", "__getitem__"))


def is_iterated(data: Any) -> bool:
    """Has it named columns, and no row numbers?"""
    return all(hasattr(data, name) for name in ("with_format", "column_names", "features", "iter")) and not is_dataset(
        data
    )


def has_names(data: Any) -> bool:
    """Is it one of the two?"""
    return is_dataset(data) or is_iterated(data)


def iterated(dataset: Any, choose: Callable[..., Columns], who: str) -> Callable[[int], Iterator[Any]]:
    """A function of the epoch that gives the batches of a dataset that is iterated over."""
    numbers = dataset.with_format("numpy")
    first = next(iter(numbers.iter(1)), None)
    if first is None:
        raise DataError(f"{who}: there must be at least one row, got none. Check what makes them.")
    columns = choose({name: _of_first(name, np.asarray(array)) for name, array in first.items()})

    def batches(epoch: int) -> Iterator[Any]:
        if hasattr(numbers, "set_epoch"):  # by which it shuffles
            numbers.set_epoch(epoch)
        for batch in numbers.iter(ROWS):
            arrays = {name: np.asarray(batch[name]) for name in columns.names}
            found = columns.empty(len(next(iter(arrays.values()))))
            columns.fill(found, 0, arrays)
            yield found

    return batches


class HuggingFaceStore:
    """A Hugging Face dataset: it gives any rows as NumPy arrays by name."""

    ahead = fixed = True

    def __init__(self, dataset: Any, choose: Callable[..., Columns], buffer: int) -> None:
        self.dataset = dataset.with_format("numpy")
        first = self._rows(0, 1)
        self.columns = choose({name: _of_first(name, array) for name, array in first.items()})
        self.row_bytes: float | None = self.columns.row_bytes
        self.pieces = even_pieces(len(dataset), self.columns.row_bytes, buffer)
        self.starts = np.cumsum([0, *self.pieces]).tolist()

    def _rows(self, start: int, stop: int) -> dict[str, Array]:
        return {name: np.asarray(values) for name, values in self.dataset[start:stop].items()}

    def read(self, parts: Sequence[Part]) -> Any:
        arrays, at = self.columns.empty(sum(part.rows for part in parts)), 0
        for part in parts:
            first = self.starts[part.piece]
            self.columns.fill(arrays, at, self._rows(first + part.start, first + part.stop))
            at += part.rows
        return arrays

    def identity(self) -> Sequence[Any]:
        ends = [array for start in (0, len(self.dataset) - 1) for array in self._rows(start, start + 1).values()]
        return [str(self.columns), len(self.dataset), getattr(self.dataset, "_fingerprint", None), *ends]


def _of_first(name: str, array: Array) -> Column | str:
    if array.dtype.kind not in "biuf" or array.ndim > 2:
        return f"{array.dtype} of shape {array.shape[1:]}"
    return Column(name, array.dtype, array.shape[1] if array.ndim == 2 else 0)
