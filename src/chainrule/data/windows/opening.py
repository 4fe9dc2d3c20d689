"""`as_source`: a source of whatever holds data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from chainrule.data.checks import as_array
from chainrule.data.named import Known, library
from chainrule.data.windows import hugging_face
from chainrule.data.windows.arrow import DatasetStore, TableStore, reader_batches
from chainrule.data.windows.columns import Choice, Columns
from chainrule.data.windows.frames import LazyStore, of_frame
from chainrule.data.windows.images import ImageStore
from chainrule.data.windows.paths import of_path
from chainrule.data.windows.pieces import ArrayStore, PieceSource, RowStore
from chainrule.data.windows.reading import reading
from chainrule.data.windows.source import BUFFER, Source
from chainrule.data.windows.streams import StreamSource
from chainrule.errors import DataError
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor

Array = np.ndarray[Any, Any]


@takes_keywords("")
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
        target: of data with named columns, the column (or columns) to learn; windows are then ``(X, y)``, otherwise a dict; with an
            empty list X alone, for `predict`.
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
    return _source(data, Choice(features, target, weight, dtype, who), buffer, transform, image_size)


def _source(
    data: Any, choose: Choice, buffer: int = BUFFER, transform: Callable[[Any], Any] | None = None,
    image_size: tuple[int, int] | None = None,
) -> Source:  # fmt: skip
    who = choose.who
    if isinstance(data, Source):
        _check_unnamed(choose, f"a {type(data).__name__}")
        return data
    store = _store(data, choose, buffer, who, image_size)
    if isinstance(store, ImageStore):
        _check_unnamed(choose, "a folder of images")
    elif image_size is not None:
        raise DataError(
            f"{who}: image_size is for a folder of images, got {type(data).__name__} of something else. Leave it out."
        )
    if not _has_columns(data):
        _check_unnamed(choose, f"a {type(data).__name__}")
    if store is not None:
        return PieceSource(store, buffer, transform, who, choose.made)
    if not (callable(data) or isinstance(data, Iterable)):
        raise DataError(
            f"{who}: data must be arrays, a frame, a file, a dataset, a loader or an iterable of batches, got "
            f"{type(data).__name__}. Convert it to NumPy arrays first."
        )
    return StreamSource(_stream(data, choose, who), buffer, transform, who, choose.made)


def _stream(data: Any, choose: Callable[..., Columns], who: str) -> Any:
    """What gives batches of arrays, of what gives batches of named columns."""
    if hugging_face.is_iterated(data):
        return hugging_face.iterated(data, choose, who)
    if library(data) == "pyarrow" and hasattr(data, "read_next_batch"):
        return reader_batches(data, choose)
    return data


def _check_unnamed(choice: Choice, data: str) -> None:
    if choice.target is not None or choice.features is not None or choice.weight is not None:
        raise DataError(
            f"{choice.who}: target, features and weight name columns, which {data} has not. "
            f"Give a tuple of arrays, such as (X, y)."
        )


def opened(data: Any, target: object, who: str, known: Known | None = None) -> Source | None:
    """A source of what a training is given, where that is read by windows; None for arrays and what becomes one.

    Args:
        target: the name of a column to learn, or several; or None.
        known: the columns that the model was trained on, which are read of data with named columns.

    Raises:
        DataError: a source cannot be made of it, or has its targets in itself.
    """
    named = isinstance(target, str) or (_is_list(target) and all(isinstance(name, str) for name in target))  # type: ignore[attr-defined]
    if _has_columns(data) and (named or (target is None and known is not None)):
        return _source(data, Choice(target=target if named else [], who=who, known=known))  # type: ignore[arg-type]
    if library(data) == "scipy" and hasattr(data, "toarray"):
        raise DataError(
            f"{who} must be a dense array, got a {type(data).__name__} of SciPy. Write it out with .toarray(); where that does not "
            f"fit into memory, give a function of batches (X[i:j].toarray(), y[i:j])."
        )
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


def _has_columns(data: Any) -> bool:
    return (
        isinstance(data, (str, Path))
        or library(data) in ("pandas", "polars", "pyarrow")
        or hugging_face.has_names(data)
    )


def _store(data: Any, choose: Choice, buffer: int, who: str, image_size: tuple[int, int] | None) -> Any:
    """Where the rows lie; None where they come one after the other."""
    if isinstance(data, (str, Path)):
        with reading(str(data), who):
            return of_path(Path(data).expanduser(), choose, buffer, who, image_size)
    if library(data) == "pyarrow" and hasattr(data, "get_fragments"):
        return DatasetStore(data, choose, who)
    if library(data) == "pyarrow" and hasattr(data, "slice") and hasattr(data, "schema"):
        return TableStore(data, choose, buffer)
    if library(data) == "polars" and hasattr(data, "collect"):
        return LazyStore(data, choose, buffer, who)
    if library(data) in ("pandas", "polars") and hasattr(type(data), "columns"):
        return of_frame(data, choose, buffer, who)
    if hugging_face.is_dataset(data):
        return hugging_face.HuggingFaceStore(data, choose, buffer)
    if hasattr(data, "collate_fn"):
        return None
    if isinstance(data, (Tensor, list, tuple, dict)) or hasattr(data, "__array__") or _is_array(data):
        return ArrayStore(_arrays(data, who), buffer, who)
    if _is_dataset(data):
        tensors = getattr(data, "tensors", None)  # of a TensorDataset, which is nothing else
        if isinstance(tensors, tuple) and type(data).__name__ == "TensorDataset":
            return ArrayStore(_arrays(tensors, who), buffer, who)
        if callable(getattr(data, "on_epoch_end", None)):
            raise DataError(
                f"{who}: a dataset's items are rows here, and {type(data).__name__} has on_epoch_end, as Keras's PyDataset and "
                f"Sequence have, whose items are batches. Give a function that makes them: "
                f"lambda: (data[i] for i in range(len(data)))."
            )
        return RowStore(data, buffer, who)
    return None


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
