"""`as_source`: a source of whatever holds data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from chainrule.data.checks import as_array
from chainrule.data.windows.arrow import TableStore
from chainrule.data.windows.columns import Column, Columns, chosen
from chainrule.data.windows.images import ImageStore
from chainrule.data.windows.paths import of_path
from chainrule.data.windows.pieces import ArrayStore, PieceSource, RowStore, even_pieces
from chainrule.data.windows.plan import Part
from chainrule.data.windows.source import BUFFER, Source
from chainrule.data.windows.streams import StreamSource
from chainrule.errors import DataError
from chainrule.tensor import Tensor

Array = np.ndarray[Any, Any]


def as_source(
    data: Any,
    *,
    target: str | Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    weight: str | None = None,
    dtype: Any = "float32",
    buffer: int = BUFFER,
    transform: Callable[[Any], Any] | None = None,
    image_size: tuple[int, int] | None = None,
    who: str = "as_source",
) -> Source:
    """A source of whatever holds data, to be read window by window.

    Args:
        data: arrays (in memory; mapped from files; HDF5 or Zarr), lists, or a tuple or dict of some; a pandas or polars frame; an
            Arrow table; the path of a Parquet or CSV file, of a folder of some, of a folder with a folder of images for each class
            (torchvision's ImageFolder: ``X`` float32 (N, 3, H, W) from 0 to 1), or of a ``.npy`` file; a Hugging Face dataset; a
            PyTorch-style dataset or loader (ours or PyTorch's); an iterable of batches, or a function that gives one (of
            nothing, or of the number of the epoch).
        target: of data with named columns, the column (or columns) to learn; windows are then ``(X, y)``, otherwise a dict.
        features: the columns of X (default: all others).
        weight: a column with a weight for each row; windows are then ``(X, y, weight)``.
        dtype: of X, and of y where that is several columns.
        buffer: bytes of a window. Three are in memory at most, beside a row group of a Parquet file.
        transform: from the arrays of a window to others with as many rows, where the window is read.
        image_size: height and width that images are brought to; None: they are of one size.

    Raises:
        DataError: it holds no rows, or something else than numbers.
        UnknownNameError: a column that is not there.

    >>> source = as_source(([[1.0], [2.0], [3.0]], [0, 1, 0]))
    >>> for window in source.windows(seed=3, batch_size=2):
    ...     for (x, y), cursor in window.batches():
    ...         print(x.ravel(), y, tuple(cursor))
    [2. 3.] [1 0] (0, 0, 2)
    [1.] [0] (1, 0, 0)
    """
    if isinstance(data, Source):
        _check_unnamed(target, features, weight, f"a {type(data).__name__}", who)
        return data
    choose = partial(_chosen, features, target, weight, dtype, who)
    store = _store(data, choose, buffer, who, image_size)
    if isinstance(store, ImageStore):
        _check_unnamed(target, features, weight, "a folder of images", who)
    elif image_size is not None:
        raise DataError(
            f"{who}: image_size is for a folder of images, got {type(data).__name__} of something else. Leave it out."
        )
    if not _has_columns(data):
        _check_unnamed(target, features, weight, f"a {type(data).__name__}", who)
    if store is not None:
        return PieceSource(store, buffer, transform, who)
    if not (callable(data) or isinstance(data, Iterable)):
        raise DataError(
            f"{who}: data must be arrays, a frame, a file, a dataset, a loader or an iterable of batches, got "
            f"{type(data).__name__}. Convert it to NumPy arrays first."
        )
    return StreamSource(data, buffer, transform, who)


def _check_unnamed(target: Any, features: Any, weight: Any, data: str, who: str) -> None:
    if target is not None or features is not None or weight is not None:
        raise DataError(
            f"{who}: target, features and weight name columns, which {data} has not. "
            f"Give a tuple of arrays, such as (X, y)."
        )


def opened(data: Any, target: object, who: str) -> Source | None:
    """A source of what a training is given, where that is read by windows; None for arrays and what becomes one.

    Args:
        target: the name of a column to learn, or several; or None.

    Raises:
        DataError: a source cannot be made of it, or has its targets in itself.
    """
    named = isinstance(target, str) or (_is_list(target) and all(isinstance(name, str) for name in target))  # type: ignore[attr-defined]
    if named and _has_columns(data):
        return as_source(data, target=target, who=who)  # type: ignore[arg-type]
    if not _is_read_by_windows(data):
        return None
    if target is not None:
        raise DataError(
            f"{who}: a {type(data).__name__} is read window by window, and its targets with it: batches or windows are (X, y). "
            f"Leave y out, or name the column that it is."
        )
    return as_source(data, who=who)


def _is_list(target: object) -> bool:
    return isinstance(target, (list, tuple)) and len(target) > 0


def _is_read_by_windows(data: Any) -> bool:
    if isinstance(data, (np.ndarray, Tensor, list, tuple, dict)) or hasattr(data, "__array__"):
        return False
    if isinstance(data, Source) or _has_columns(data) or hasattr(data, "collate_fn"):
        return True
    if isinstance(data, Sequence):  # rows, such as those of a range
        return False
    return _is_dataset(data) or isinstance(data, (Iterable, FunctionType, MethodType, partial))


def _is_dataset(data: Any) -> bool:
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _chosen(
    features: Sequence[str] | None, target: Any, weight: str | None, dtype: Any, who: str,
    columns: Mapping[str, Column | str],
) -> Columns:  # fmt: skip
    return chosen(columns, features, target, weight, dtype, who)


def _has_columns(data: Any) -> bool:
    return isinstance(data, (str, Path)) or _library(data) in ("pandas", "polars", "pyarrow") or _is_hugging_face(data)


def _store(
    data: Any, choose: Callable[[Mapping[str, Column | str]], Columns], buffer: int, who: str,
    image_size: tuple[int, int] | None,
) -> Any:  # fmt: skip
    """Where the rows lie; None where they come one after the other."""
    if isinstance(data, (str, Path)):
        return of_path(Path(data).expanduser(), choose, buffer, who, image_size)
    if _library(data) == "pyarrow" and hasattr(data, "schema"):
        return TableStore(data, choose, buffer)
    if _library(data) in ("pandas", "polars") and hasattr(type(data), "columns"):
        return _of_frame(data, choose, buffer, who)
    if _is_hugging_face(data):
        return HuggingFaceStore(data, choose, buffer)
    if hasattr(data, "collate_fn"):
        return None
    if isinstance(data, (Tensor, list, tuple, dict)) or hasattr(data, "__array__") or _is_array(data):
        return ArrayStore(_arrays(data, who), buffer, who)
    if _is_dataset(data):
        tensors = getattr(data, "tensors", None)  # of a TensorDataset, which is nothing else
        if isinstance(tensors, tuple) and type(data).__name__ == "TensorDataset":
            return ArrayStore(_arrays(tensors, who), buffer, who)
        return RowStore(data, buffer, who)
    return None


def _library(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def _is_hugging_face(data: Any) -> bool:
    return all(hasattr(data, name) for name in ("with_format", "column_names", "features", "__len__", "__getitem__"))


def _is_array(data: Any) -> bool:
    """An array of another library: HDF5's, Zarr's."""
    return all(hasattr(data, name) for name in ("shape", "dtype", "__getitem__"))


def _arrays(data: Any, who: str) -> Any:
    """A tree of arrays: those in memory checked, those read by slices left as they are."""
    if isinstance(data, tuple):
        items = [_arrays(item, who) for item in data]
        return type(data)(*items) if hasattr(data, "_fields") else tuple(items)
    if isinstance(data, dict):
        return {name: _arrays(item, who) for name, item in data.items()}
    if hasattr(data, "detach"):
        data = data.detach().numpy()
    if _is_array(data) and not isinstance(data, np.ndarray) and hasattr(data, "chunks"):
        return data
    if isinstance(data, np.memmap) and data.dtype.kind in "biuf" and len(data.shape):
        return data
    return as_array(data, who)


def _of_frame(frame: Any, choose: Callable[..., Columns], buffer: int, who: str) -> ArrayStore:
    """A frame of pandas or polars: it is in memory, and so are its arrays."""
    if hasattr(frame, "collect"):
        raise DataError(
            f"{who}: a lazy frame has no rows yet. Give frame.collect(), or write it as Parquet and give the path."
        )
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
