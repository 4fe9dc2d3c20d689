"""What each row weighs in the loss: as the user says by row, by class, or both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from chainrule.data.checks import as_array, in_dtype
from chainrule.errors import DataError, SettingError
from chainrule.files.document import short
from chainrule.nn.meaning import Meaning, name_of, option_of

Array = np.ndarray[Any, Any]
Classes = Mapping[Any, float] | str  # "balanced"
_OF_ONE = (
    "Weigh the classes of one output in its loss (nn.CrossEntropyLoss(weight=...)), an output as a whole by loss_weights=, and "
    "its rows in a loss of your own that reads them from y."
)


def weights(
    rows: object,
    classes: Classes | None,
    count: int,
    y: Any,
    loss: Any,
    meaning: Meaning | None,
    dtype: np.dtype[Any],
    who: str,
    some: bool = True,
) -> Array | None:
    """The weight of each row, or None where neither rows nor classes were given one.

    Args:
        rows: a number for each row, 0 or more.
        classes: a number for each class, 1 for those that are not named; or "balanced": ``n / (k n_c)`` for n_c of n
            rows in one of k classes.
        count: how many rows there are.
        y: the targets as a step takes them.
        dtype: of the weights.
        some: one at least must be above 0.

    Raises:
        DataError, SettingError: they are no weights, or these targets have no classes.
    """
    if rows is None and classes is None:
        return None
    found = np.ones(count) if rows is None else _of_rows(rows, count, f"{who}: sample_weight")
    if classes is not None:
        found = found * _of_classes(classes, y, loss, meaning, f"{who}: class_weight")
    found = in_dtype(found, dtype, f"{who}: the weights of the rows")
    if some and not found.any():
        raise DataError(
            f"{who}: the weights of all {count} rows are 0, so there is nothing to learn. Leave some above 0."
        )
    return found


def _parts(given: dict[Any, Any] | tuple[Any, ...]) -> list[Any]:
    return list(given.values()) if isinstance(given, dict) else list(given)


def _of_rows(given: object, count: int, who: str) -> Array:
    if isinstance(given, (dict, tuple)) and any(np.ndim(part) for part in _parts(given)):
        raise DataError(f"{who} is one number for each row, which all its losses share, got several arrays. {_OF_ONE}")
    found = in_dtype(as_array(given, who), np.dtype(np.float64), who)
    if found.shape != (count,):
        raise DataError(
            f"{who} must have a number for each of the {count} rows, shape ({count},), got shape {found.shape}."
        )
    if found.min() < 0:
        first = int(found.argmin())
        raise DataError(f"{who} must not be negative, got {found[first]:g} for row {first}. Leave such rows out.")
    return found


def _of_classes(given: Classes, y: Any, loss: Any, meaning: Meaning | None, who: str) -> Array:
    labels = _labels(y, loss, meaning, who)
    counted = labels != option_of(loss, "ignore_index")
    present, place, counts = np.unique(labels[counted], return_inverse=True, return_counts=True)
    if given == "balanced":
        factors = counts.sum() / (len(present) * counts)
    elif isinstance(given, Mapping):
        factors = np.array([_factor(given, int(label), who) for label in present])
        strange = [key for key in given if not _is_among(key, present)]
        if strange:
            raise SettingError(
                f"{who} names the class {strange[0]!r}, which no row has: there are {', '.join(map(str, present[:10]))}"
                f"{' ...' if len(present) > 10 else ''}. Name classes by their numbers in y."
            )
    else:
        raise SettingError(f"{who} must be a dict from class number to weight, or 'balanced', got {given!r}.")
    found = np.ones(len(labels))
    found[counted] = factors[place]
    return found


def _labels(y: Any, loss: Any, meaning: Meaning | None, who: str) -> Array:
    """The class number of each row."""
    if not isinstance(y, np.ndarray):
        raise SettingError(
            f"{who} needs one array of targets, got {'none' if y is None else 'several'}. "
            + ("Give the rows weights (sample_weight) instead." if y is None else _OF_ONE)
        )
    one_each = y.reshape(len(y)) if y.size == len(y) else None
    if meaning is not None and meaning.over_classes and y.dtype.kind == "i" and one_each is not None:
        return one_each
    if meaning is not None and meaning.binary and one_each is not None and np.isin(one_each, (0, 1)).all():
        return one_each.astype(np.int64)
    if meaning is not None and meaning.over_classes and y.dtype.kind == "f" and y.ndim == 2:
        return _of_one_hot(y, who)
    raise SettingError(
        f"{who} needs a class number for each row, got targets of shape {y.shape} for the loss {name_of(loss)}. "
        f"Give the rows weights (sample_weight) instead."
    )


def _of_one_hot(y: Array, who: str) -> Array:
    """The class of each row whose probabilities are 1 for one and 0 for all others."""
    odd = (y != 0).sum(axis=1) != 1
    odd |= y.max(axis=1, initial=0) != 1
    if odd.any():
        row = int(odd.argmax())
        raise SettingError(
            f"{who} needs one class for each row, a number or one-hot, got the probabilities {short(y[row].tolist())} in row {row}. "
            f"Give the rows weights (sample_weight) instead."
        )
    return np.asarray(y.argmax(axis=1))


def _factor(given: Mapping[Any, float], label: int, who: str) -> float:
    value = given.get(label, 1.0)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value < np.inf:
        raise SettingError(f"{who} must have a finite number, 0 or more, for class {label}, got {value!r}.")
    return float(value)


def _is_among(key: object, present: Array) -> bool:
    return isinstance(key, (int, np.integer)) and not isinstance(key, bool) and bool((present == key).any())
