"""What data must be before a network may train on it, and errors that say what to do where it is not.

``who`` names the argument, as the user wrote it: ``"fit: X"``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import DataError

Array = np.ndarray[Any, Any]


def as_array(data: object, who: str) -> Array:
    """`data` as a NumPy array of numbers or booleans with at least one row."""
    try:
        array = np.asarray(data)
    except ValueError:  # rows of different lengths
        raise DataError(
            f"{who} must be a rectangular array, got rows of different lengths. Pad or cut them to one length."
        ) from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{who} must hold numbers, got dtype {array.dtype}. "
            f"Convert it to float32 or int64 first (categories: one integer each)."
        )
    if array.ndim == 0:
        raise DataError(f"{who} must have an axis of rows, got a single number. Put it into a list.")
    if array.shape[0] == 0:
        raise DataError(f"{who} must have at least one row, got shape {array.shape}. Check how the data was loaded.")
    return array


def check_finite(array: Array, who: str) -> None:
    """Raise `DataError` if `array` holds NaN or infinity, naming how many and the first."""
    if array.dtype.kind != "f":
        return
    with np.errstate(all="ignore"):
        # One pass without a mask for the usual case: a sum is finite unless a summand is not (or it overflows).
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    nans = int(np.isnan(array).sum())
    first = np.unravel_index(int(bad.argmax()), array.shape)
    names = ("row", "column") if array.ndim == 2 else ("row", *(f"axis {i}" for i in range(1, array.ndim)))
    place = ", ".join(f"{name} {index}" for name, index in zip(names, first, strict=True))
    raise DataError(
        f"{who} must be finite, got {nans} NaN and {int(bad.sum()) - nans} infinite values in shape {array.shape}, "
        f"the first at {place}. Drop these rows, or fill them (numpy.nan_to_num), before training."
    )


def check_same_length(x: Array, y: Array, who: str, x_name: str = "X", y_name: str = "y") -> None:
    """Raise `DataError` unless `x` and `y` have one row for each other."""
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{who}: {x_name} and {y_name} must have the same number of rows, got {x.shape[0]} and {y.shape[0]}. "
            f"Row i of {y_name} is the target of row i of {x_name}."
        )


def check_batch_size(batch_size: object, rows: int, who: str) -> int:
    """`batch_size` as an int from 1 to the number of rows."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise DataError(f"{who}: batch_size must be a positive integer, got {batch_size!r}. 64 is a usual choice.")
    if batch_size > rows:
        raise DataError(
            f"{who}: batch_size must not be larger than the data, got {batch_size} for {rows} rows. "
            f"Use batch_size={rows} or less."
        )
    return int(batch_size)


def as_labels(y: Array, classes: int, who: str, ignore_index: int | None = None) -> Array:
    """`y` as int64 class indices in ``[0, classes)`` (or `ignore_index`)."""
    if y.dtype.kind == "f":
        whole = np.isfinite(y) & (np.floor(y) == y)
        if not whole.all():
            first = int((~whole).ravel().argmax())
            raise DataError(
                f"{who} must hold integer class labels 0 to {classes - 1} for this loss, got {y.dtype} with the value "
                f"{y.ravel()[first]} at row {_row(y, first)}. For regression use a loss such as F.mse_loss; "
                f"for classes encode them as integers."
            )
    labels = y.astype(np.int64)
    outside = (labels < 0) | (labels >= classes)
    if ignore_index is not None:
        outside &= labels != ignore_index
    if outside.any():
        first = int(outside.ravel().argmax())
        remedy = "" if labels.min() < 0 else f"Give the model {labels.max() + 1} outputs, or "
        raise DataError(
            f"{who} must hold labels 0 to {classes - 1}, because the model has {classes} outputs, got "
            f"{labels.ravel()[first]} at row {_row(y, first)} (labels run from {labels.min()} to {labels.max()}). "
            f"{remedy + 'number' if remedy else 'Number'} the classes from 0."
        )
    return labels


def _row(array: Array, flat: int) -> int:
    return int(flat // max(1, array.size // array.shape[0]))
