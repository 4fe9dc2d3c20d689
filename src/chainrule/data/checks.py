"""What data must be before a network may train on it, and errors that say what to do where it is not.

``who`` names the argument, as the user wrote it: ``"fit: X"``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from chainrule import dtypes
from chainrule.data.named import names_of
from chainrule.errors import DataError
from chainrule.tensor import Tensor
from chainrule.tensor.creation import readable

Array = np.ndarray[Any, Any]
Names = Sequence[str] | None  # of the columns
MANY_CLASSES = 1_000_000  # a label beyond is a value or an identifier, not the number of a class


def as_array(data: object, who: str) -> Array:
    """`data` as a NumPy array of numbers or booleans with at least one row.

    Objects that are numbers all the same (a table of mixed columns) become an array of numbers, bfloat16 becomes float32.
    """
    _check_one_array(data, who)
    names = names_of(data)
    try:
        data = readable(data)
        array = np.asarray(data.detach() if isinstance(data, Tensor) else data)
    except ValueError:  # rows of different lengths
        if _are_batches(data):
            raise DataError(
                f"{who} must be rows, one entry each, got a list of batches (x, y). Give a function that makes them for each "
                f"epoch: lambda: iter(batches)."
            ) from None
        raise DataError(
            f"{who} must be a rectangular array, got {_ragged(data)}. Pad or cut them to one length."
        ) from None
    if array.dtype.kind == "O" and array.ndim:
        array = _of_numbers(array, who, names)
    if array.dtype.kind not in "biuf":
        came = f"dtype {array.dtype}" if array.ndim or array.dtype.kind != "O" else type(data).__name__
        dense = " A sparse matrix becomes an array with .toarray()." if hasattr(data, "toarray") else ""
        raise DataError(
            f"{who} must hold numbers, got {came}. "
            f"Convert it to float32 or int64 first (categories: one integer each).{dense}"
        )
    if array.ndim == 0:
        raise DataError(f"{who} must have an axis of rows, got a single number. Put it into a list.")
    if array.shape[0] == 0:
        raise DataError(f"{who} must have at least one row, got shape {array.shape}. Check how the data was loaded.")
    if names is not None:  # as long as they are known: the array has none
        check_finite(array, who, names)
    return array


def shapes_in(data: object) -> str:
    """The shapes of the arrays in a list, as text; empty where it is no list of arrays with axes."""
    parts = [getattr(part, "shape", ()) for part in data] if isinstance(data, list) else [()]
    shown = [str(tuple(shape)) for shape in parts[:4]] + (["..."] if len(parts) > 4 else [])
    return " and ".join(shown) if all(len(shape) for shape in parts) else ""


def _are_batches(data: object) -> bool:
    """Is it a list of pairs of arrays, X and y of a batch each?"""
    return isinstance(data, list) and all(
        isinstance(part, tuple) and len(part) in (2, 3) and all(getattr(each, "ndim", 0) for each in part)
        for part in data
    )


def _ragged(data: object) -> str:
    shapes = shapes_in(data)
    if not shapes or not isinstance(data, list):
        return "rows of different lengths"
    return (
        f"a list of {len(data)} arrays of shapes {shapes}. A list is rows, one entry each; several inputs or targets go as a "
        f"tuple (a, b) or a dict of arrays, to a model whose forward takes or gives so many. If these are rows, they have "
        f"different lengths"
    )


def _check_one_array(data: object, who: str) -> None:
    """Refuse what NumPy would make something else of than was meant: several arrays, or some with values masked out."""
    if isinstance(data, tuple) and any(getattr(part, "ndim", 0) > 1 for part in data):
        shapes = " and ".join(str(tuple(getattr(part, "shape", ()))) for part in data)
        raise DataError(
            f"{who} must be one array with a row for each example, got a tuple of {len(data)} arrays of shapes {shapes}. "
            f"Join them along the columns (numpy.concatenate(..., axis=1)) and split them again in the model's forward; "
            f"rows that are arrays of their own: numpy.stack."
        )
    if isinstance(data, dict):
        raise DataError(
            f"{who} must be one array with a row for each example, got a dict of {', '.join(map(repr, data)) or 'nothing'}. "
            f"Join its arrays along the columns (numpy.concatenate(..., axis=1)), and split them in the model's forward."
        )
    check_known(data, who)


def check_known(data: object, who: str) -> None:
    """Refuse an array some of whose values are masked out: NumPy would take what stands under the mask."""
    if isinstance(data, np.ma.MaskedArray) and np.ma.is_masked(data):
        raise DataError(
            f"{who} must be known everywhere, got an array with {int(np.ma.getmaskarray(data).sum())} values masked out. "
            f"Fill them (.filled(value)), or drop their rows."
        )


def check_no_texts(data: object, who: str) -> None:
    """Refuse values that are texts, which NumPy would read as numbers where they look like some."""
    array = np.asarray(data)
    texts = array.dtype.kind in "UST"
    if texts or (array.dtype.kind == "O" and any(isinstance(value, (str, bytes)) for value in array.flat)):
        raise DataError(
            f"{who} must hold numbers, got {f'dtype {array.dtype}' if texts else 'texts'}. Convert it to float64 first."
        )


def _of_numbers(array: Array, who: str, names: Names = None) -> Array:
    """An array of Python objects as one of numbers."""
    try:
        found = np.asarray(array.tolist())
    except ValueError:
        raise DataError(
            f"{who} must be a rectangular array, got rows of different lengths. Pad or cut them to one length."
        ) from None
    if found.dtype.kind in "biuf":
        return found
    for index, value in np.ndenumerate(array):
        if not isinstance(value, (int, float, np.number, np.bool_)) or isinstance(value, np.complexfloating):
            raise DataError(
                f"{who} must hold numbers, got {value!r} ({type(value).__name__}) at {place(array, index, names)}. "
                f"Convert it to float32 or int64 first (categories: one integer each)."
            )
    try:
        return array.astype(np.float64)  # integers too long for 64 bits among them
    except OverflowError:
        raise DataError(
            f"{who} must hold numbers that float64 holds, got an integer beyond 1.8e308. Scale it down."
        ) from None


def place(array: Array, index: tuple[Any, ...], columns: Names = None) -> str:
    """Where an element is, in words: "row 2, column 3", or "column 'age'" where columns have names."""
    if columns is not None and array.ndim == 2 and len(columns) == array.shape[1]:
        return f"row {int(index[0])}, column {columns[index[1]]!r}"
    names = ("row", "column") if array.ndim == 2 else ("row", *(f"axis {i}" for i in range(1, array.ndim)))
    return ", ".join(f"{name} {int(i)}" for name, i in zip(names, index, strict=True))


def check_finite(array: Array, who: str, names: Names = None) -> None:
    """Raise `DataError` if `array` holds NaN or infinity, naming how many and the first."""
    bad = _not_finite(array)
    if bad is None:
        return
    nans = int(np.isnan(array).sum())
    first = np.unravel_index(int(bad.argmax()), array.shape)
    raise DataError(
        f"{who} must be finite, got {nans} NaN and {int(bad.sum()) - nans} infinite values in shape {array.shape}, "
        f"the first at {place(array, first, names)}. Drop these rows, or fill them (numpy.nan_to_num)."
    )


def _not_finite(array: Array) -> Array | None:
    """A mask of NaN and infinity; None where there are none."""
    if array.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        # One pass without a mask for the usual case: a sum is finite unless a summand is not (or it overflows).
        if math.isfinite(np.add.reduce(array, axis=None)):
            return None
    bad = ~np.isfinite(array)
    return bad if bad.any() else None


def in_dtype(array: Array, dtype: np.dtype[Any], who: str) -> Array:
    """`array` in a floating `dtype`, and finite there.

    Raises:
        DataError: NaN, infinity, or a number beyond the dtype's range, naming the first.
    """
    converted = array
    if array.dtype != dtype:
        with np.errstate(all="ignore"):
            converted = array.astype(dtype)
    bad = _not_finite(converted)
    if bad is None:
        return converted
    check_finite(array, who)
    first = np.unravel_index(int(bad.argmax()), array.shape)
    raise DataError(
        f"{who} must fit {dtype}, the dtype of the model, which ends at {np.finfo(dtype).max:.4g}, got {array[first]:.6g} "
        f"at {place(array, first)}. Scale the values (to mean 0 and deviation 1, say), or use model.double()."
    )


def as_integers(array: Array, who: str) -> Array:
    """Integers or booleans in a signed dtype that this library has; none changes its value."""
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:
        beyond = array > np.uint64(2**63 - 1)
        if beyond.any():
            first = np.unravel_index(int(beyond.argmax()), array.shape)
            raise DataError(
                f"{who} must fit int64, which ends at {2**63 - 1}, got {array[first]} at {place(array, first)}. "
                f"Number the categories from 0, or convert the values to float64."
            )
        return array.astype(np.int64)
    if array.dtype == np.uint8:  # a difference of two would wrap around at 0
        return array.astype(np.int32)
    return array.astype(dtypes.as_dtype(array.dtype).numpy, copy=False)


def as_number(value: object, dtype: np.dtype[Any], who: str) -> Any:
    """One number in this dtype: an integer unchanged, another rounded, and finite.

    Raises:
        DataError: it is no number, or none of this dtype.
    """
    given = np.asarray(value)
    if given.ndim == 0 and given.dtype.kind in "biuf":
        with np.errstate(all="ignore"):
            found = given.astype(dtype)
            if np.isfinite(found) if dtype.kind == "f" else found == given:
                return found[()]
    kind = "a finite number" if dtype.kind == "f" else "a whole number"
    raise DataError(f"{who} must be {kind} that {dtype} holds, got {value!r}.")


def check_same_length(x: Array, y: Array, who: str, x_name: str = "X", y_name: str = "y") -> None:
    """Raise `DataError` unless `x` and `y` have one row for each other."""
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{who}: {x_name} and {y_name} must have the same number of rows, got {x.shape[0]} and {y.shape[0]}. "
            f"Row i of {y_name} is the target of row i of {x_name}."
        )


def check_batch_size(batch_size: object, who: str) -> int:
    """`batch_size` as an int of 1 or more."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise DataError(f"{who}: batch_size must be a positive integer, got {batch_size!r}. 64 is a usual choice.")
    return int(batch_size)


def as_labels(y: Array, classes: int, who: str, ignore_index: int | None = None) -> Array:
    """`y` as int64 class indices in ``[0, classes)`` (or `ignore_index`)."""
    if y.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = np.isfinite(y) & (np.floor(y) == y)
        if not whole.all():
            first = int((~whole).ravel().argmax())
            raise DataError(
                f"{who} must hold integer class labels 0 to {classes - 1} for this loss, got {y.dtype} with the value "
                f"{y.ravel()[first]} at row {_row(y, first)}. For regression use a loss such as F.mse_loss; "
                f"for classes encode them as integers."
            )
    elif y.dtype.kind == "b":
        y = y.astype(np.int64)
    if y.size and not _are_below(y, classes):
        outside = (y < 0) | (y >= classes)
        if ignore_index is not None:
            outside &= y != ignore_index
        if outside.any():
            _refuse_labels(y, outside, classes, who)
    return y.astype(np.int64, copy=False)


def _are_below(y: Array, classes: int) -> bool:
    """Are all from 0 to below `classes`, in the dtype that came? (A cast could bring a number from outside into the range.)"""
    if y.dtype.kind == "i":  # as numbers without a sign, negative ones are the largest: one pass tells
        return bool(
            np.maximum.reduce(y.view(y.dtype.str.replace("i", "u")), axis=None)
            < min(classes, 1 << (8 * y.itemsize - 1))
        )
    return bool(y.min() >= 0 and y.max() < classes)


def _refuse_labels(y: Array, outside: Array, classes: int, who: str) -> NoReturn:
    """Raise for the labels that are `outside` of the range."""
    first = int(outside.ravel().argmax())
    top = y[outside].max()
    remedy = "" if y[outside].min() < 0 or top > MANY_CLASSES else f"Give the model {int(top) + 1} outputs, or "
    if classes == 1 and remedy and top == 1:
        remedy = "Yes-or-no questions of one output take 'binary_cross_entropy_with_logits'; else give the model 2 outputs, or "
    labels = f"labels 0 to {classes - 1}" if classes > 1 else "the label 0 alone"
    raise DataError(
        f"{who} must hold {labels}, because the model has {classes} output{'s' * (classes > 1)}, got "
        f"{_number(y.ravel()[first])}{_among(y, first)}. "
        f"{remedy + 'number' if remedy else 'Number'} the classes from 0."
    )


def _among(y: Array, first: int) -> str:
    """Where among several rows; the number of one alone is its caller's."""
    return f" at row {_row(y, first)} (labels run from {_number(y.min())} to {_number(y.max())})" if len(y) > 1 else ""


def check_shares(y: Array, who: str, most: float = 1.0) -> None:
    """Raise `DataError` for a target that is no probability."""
    outside = (y < 0) | (y > most)
    if outside.any():
        first = np.unravel_index(int(outside.argmax()), y.shape)
        raise DataError(
            f"{who} must be 0, 1 or a probability in between for this loss, got {y[first]:.6g} at {place(y, first)}. "
            f"Give the two classes the numbers 0 and 1."
        )


def check_some_count(labels: Array, ignore_index: int | None, who: str) -> None:
    """Raise `DataError` where the loss would ignore every label."""
    if ignore_index is None or labels.dtype.kind != "i" or (labels.size and labels.flat[0] != ignore_index):
        return  # most often the first one tells
    if (labels == ignore_index).all():
        raise DataError(
            f"{who} must hold a label that counts, got {ignore_index} (the loss's ignore_index) in every row. "
            f"Check how the labels were made."
        )


def _number(label: Any) -> str:
    return f"{label:.6g}" if abs(float(label)) > 2**53 else str(int(label))


def _row(array: Array, flat: int) -> int:
    return int(flat // max(1, array.size // array.shape[0]))


def counter(name: str, value: object) -> int:
    """A number that the counter-based generator counts by: an integer of 64 bits.

    Raises:
        DataError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**64:
        raise DataError(f"{name} must be an integer from 0 to 2**64 - 1, got {value!r}. Use a small whole number.")
    return int(value)
