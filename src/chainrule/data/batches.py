"""Orders and splits that depend on a seed and on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence

from chainrule.data.checks import as_array, check_same_length, counter
from chainrule.errors import DataError
from chainrule.names import takes_keywords

Array = np.ndarray[Any, Any]
FEW = 512  # rows of which places are sorted as fast as numbers (measured on a Xeon with AVX-512, on other words each time)


@takes_keywords("")
def shuffled_indices(n: int, seed: int = 0, epoch: int = 0) -> Array:
    """The order in which epoch `epoch` visits `n` rows: a permutation of ``0 .. n-1``.

    It sorts n random 64-bit words of the counter-based generator Philox-4x64 keyed by (seed, epoch), so any
    epoch's order is known without those before it, and is the same on every machine and NumPy version.

    Args:
        n: number of rows, at least 0.
        seed: integer in ``[0, 2**64)``.
        epoch: integer in ``[0, 2**64)``.

    Returns:
        int64 array of shape (n,).

    Raises:
        DataError: a negative or too large argument.

    Example:
        >>> shuffled_indices(5, seed=0, epoch=1).tolist()
        [3, 2, 4, 1, 0]

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    key = np.array([counter("seed", seed), counter("epoch", epoch)], np.uint64)
    words = _words(key, counter("n", n))
    if n <= FEW:
        return words.argsort(kind="stable")
    # Many numbers are sorted faster than places are: each word takes its place along in its low bits, and only where two
    # words are equal but for those does that change the order. In place, for speed.
    low = np.uint64((1 << int(n).bit_length()) - 1)
    words &= ~low
    words |= np.arange(n, dtype=np.uint64)
    words.sort()
    if ((words[1:] ^ words[:-1]) <= low).any():
        return np.argsort(_words(key, n), kind="stable")
    words &= low
    return words.view(np.int64)


class _Key(ISeedSequence):
    """Gives the generator its key as it is."""

    def __init__(self, key: Array) -> None:
        self.key = key

    def generate_state(self, n_words: int, dtype: Any = np.uint64) -> Array:
        return self.key


def _words(key: Array, count: int) -> Array:
    """So many words of ``Philox(key=key)``, which would ask the system for entropy first: longer than most orders take."""
    return np.random.Philox(_Key(key)).random_raw(count)  # type: ignore[arg-type]  # NumPy's stubs lack ISeedSequence


@takes_keywords("")
def train_test_split(
    X: object, y: object, test_size: float | int = 0.2, seed: int = 0, stratify: bool = False
) -> tuple[Array, Array, Array, Array]:
    """Split rows into a training and a test part: ``X_train, X_test, y_train, y_test`` (scikit-learn's order).

    Args:
        X, y: arrays with one row for each other.
        test_size: a share in (0, 1), or a number of rows.
        seed: which split.
        stratify: give every label its share of both parts (largest remainders).

    Returns:
        The four parts; rows keep their order.

    Raises:
        DataError: X and y do not fit together, or a part would be empty.

    Example:
        >>> X_train, X_test, y_train, y_test = train_test_split([[0], [1], [2], [3]], [0, 0, 1, 1], 0.5, stratify=True)
        >>> y_train.tolist(), y_test.tolist()
        ([0, 1], [0, 1])

    Deviates from scikit-learn: rows keep their order (fit shuffles them), and the split is a function of the seed
    on every machine.
    """
    x_array, y_array = as_array(X, "train_test_split: X"), as_array(y, "train_test_split: y")
    check_same_length(x_array, y_array, "train_test_split")
    rows = x_array.shape[0]
    count = _test_rows(test_size, rows)
    order = shuffled_indices(rows, seed)
    test = np.zeros(rows, bool)
    test[_stratified(order, y_array, count) if stratify else order[:count]] = True
    return x_array[~test], x_array[test], y_array[~test], y_array[test]


def _test_rows(test_size: float | int, rows: int) -> int:
    count = test_size if isinstance(test_size, (int, np.integer)) else round(test_size * rows)
    if not 0 < count < rows:
        raise DataError(
            f"train_test_split: both parts need at least one row, got test_size={test_size!r} for {rows} rows. "
            f"Use a share between 0 and 1, or a number of rows below {rows}."
        )
    return int(count)


def _stratified(order: Array, labels: Array, count: int) -> Array:
    """`count` rows, the first of `order` within each label, each label by its share."""
    if labels.ndim != 1:
        raise DataError(
            f"train_test_split: stratify=True needs y with one label a row, got shape {labels.shape}. "
            f"Use stratify=False."
        )
    _, label, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    share = sizes * (count / len(labels))
    take = np.floor(share).astype(np.int64)
    largest = np.argsort(take - share, kind="stable")  # the largest remainder first
    take[largest[: count - take.sum()]] += 1
    return np.concatenate([order[label[order] == k][: take[k]] for k in range(len(sizes))])
