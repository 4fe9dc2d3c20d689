"""How many rows of each class were said to be of which."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import DataError
from chainrule.nn.meaning import CLASSES, Meaning

Array = np.ndarray[Any, Any]


def confusion_matrix(
    meaning: Meaning, output: Array, target: Array, weight: Array | None, ignore_index: int | None
) -> Array:
    """The rows of each class (first axis) by the class that was said (second axis).

    Args:
        meaning: of the outputs.
        output: of the model, (N, ...).
        target: class numbers, or 0 and 1.
        weight: of each row; None: rows are counted.
        ignore_index: targets of this class number do not count.

    Raises:
        DataError: a target is a probability, and no class.
    """
    said = meaning.classes(output)
    count = output.shape[CLASSES] if meaning.over_classes else 2
    true = _classes(meaning, target, said.shape)
    weights = np.broadcast_to(_of_rows(np.ones(len(true)) if weight is None else weight, said.ndim), said.shape)
    counted = np.ones(said.shape, bool) if ignore_index is None or not meaning.over_classes else true != ignore_index
    pairs = true[counted].astype(np.int64) * count + said[counted]
    found = np.bincount(pairs, None if weight is None else weights[counted], minlength=count * count)
    return found.reshape(count, count)


def _of_rows(weight: Array, axes: int) -> Array:
    return weight.reshape(-1, *[1] * (axes - 1))


def _classes(meaning: Meaning, target: Array, shape: tuple[int, ...]) -> Array:
    """Targets as class numbers of the shape of what was said."""
    if meaning.over_classes and target.shape != shape:
        hard = (target == 0) | (target == 1)
        if not (hard.all() and (target.sum(CLASSES) == 1).all()):
            raise _of_shares(target.shape)
        return np.asarray(target.argmax(CLASSES))
    if not meaning.over_classes and not ((target == 0) | (target == 1)).all():
        raise _of_shares(target.shape)
    return target.reshape(shape)


def _of_shares(shape: tuple[int, ...]) -> DataError:
    return DataError(
        f"confusion_matrix: y must say one class for each row, got probabilities of shape {shape}. Pass the classes."
    )
