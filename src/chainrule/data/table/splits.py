"""Which rows a table is trained on and which are held out: at random, by group, or by time."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.data.batches import shuffled_indices
from chainrule.errors import DataError, SettingError

Array = np.ndarray[Any, Any]


def split_rows(
    rows: int, test_size: float = 0.2, seed: int = 0, stratify: Array | None = None, groups: Array | None = None,
    times: Array | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """The numbers of the rows to train on and of those held out, each in order.

    Args:
        rows: how many there are.
        test_size: the share that is held out.
        seed: which of the random splits.
        stratify: class numbers; every class keeps its share, and one row at least to train on.
        groups: a number for each row; all rows of one are on one side.
        times: moments or numbers; the latest are held out, rows of one moment on one side.

    Raises:
        SettingError: a share outside of (0, 1), or both groups and times.
        DataError: a side would be empty.

    Example:
        >>> train, held_out = split_rows(6, 0.4, groups=np.array([7, 7, 8, 8, 9, 9]))
        >>> train.tolist(), held_out.tolist()
        ([2, 3, 4, 5], [0, 1])
        >>> split_rows(4, 0.25, times=np.array([3.0, 1.0, 4.0, 2.0]))[1].tolist()
        [2]
    """
    if not 0 < test_size < 1:
        raise SettingError(f"the share held out must be between 0 and 1, got {test_size!r}. 0.2 is usual.")
    if groups is not None and times is not None:
        raise SettingError("rows can be held out by group or by time, got both. Leave one out.")
    count = max(1, round(test_size * rows))
    order = shuffled_indices(rows, seed)
    if groups is not None:
        held_out = _by_group(groups, order, count)
    elif times is not None:
        held_out = _by_time(times, count)
    else:
        held_out = np.zeros(rows, bool)
        held_out[order[:count] if stratify is None else _stratified(order, stratify, test_size)] = True
    if held_out.all() or not held_out.any():
        what = "groups" if groups is not None else "moments" if times is not None else "rows"
        raise DataError(
            f"{test_size:.0%} of {rows} rows cannot be held out: there are too few {what} for a row on each side. Hold out "
            f"another share, or split in another way."
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _by_group(groups: Array, order: Array, count: int) -> Array:
    """Whole groups, in the random order of their first rows, until there are enough rows; the last one stays for training."""
    _, first, code, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(order))[first]
    chosen = np.argsort(rank, kind="stable")[: len(sizes) - 1]
    enough = int(np.searchsorted(np.cumsum(sizes[chosen]), count)) + 1
    return np.isin(code, chosen[:enough])


def _by_time(times: Array, count: int) -> Array:
    unknown = np.isnat(times) if times.dtype.kind == "M" else np.isnan(times)
    if unknown.any():
        raise DataError(
            f"rows are held out by time, and {int(unknown.sum())} have none, the first is row {int(unknown.argmax())}. "
            f"Leave them out, or split in another way."
        )
    border = np.sort(times)[-count]
    return np.asarray(times >= border)


def _stratified(order: Array, labels: Array, share: float) -> Array:
    """Of each class the first rows of the order, by its share; what is left of the shares goes to the largest remainders."""
    found = labels[order]
    _, code, sizes = np.unique(found, return_inverse=True, return_counts=True)
    exact = sizes * share
    take = np.minimum(np.floor(exact), sizes - 1).astype(np.int64)
    missing = max(1, round(share * len(order))) - int(take.sum())
    for k in np.argsort(take - exact, kind="stable")[: max(0, missing)]:
        take[k] += take[k] < sizes[k] - 1
    return np.concatenate([order[code == k][: take[k]] for k in range(len(sizes))])
