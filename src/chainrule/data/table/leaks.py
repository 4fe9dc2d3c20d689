"""Columns that give the target away: what a small tree on one column alone predicts of rows it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.batches import shuffled_indices
from chainrule.data.table.kinds import Column
from chainrule.data.table.pipeline import TablePipeline
from chainrule.data.table.table import Table
from chainrule.data.table.values import moments, numbers, texts

Array = np.ndarray[Any, Any]
SURE = 0.93  # from this score on a column gives the target away
LEAVES = 16  # of the tree
COARSE, HOPEFUL = 32, 0.5  # what so many bins do not explain by half, no tree does by 0.93
FOLDS = 3
MOST_ROWS = 20_000  # that are looked at
LEAST_ROWS = 30  # with fewer, chance alone reaches high scores
MOST_CLASSES = 100  # scored at once


@dataclass(frozen=True)
class Leak:
    """A column from which alone the target can be told.

    Attributes:
        name: of the column.
        score: of the tree on rows it has not seen; 1 is perfect, 0 as good as a guess.
    """

    name: str
    score: float


def leaks(pipeline: TablePipeline, table: object, sure: float = SURE) -> list[Leak]:
    """The used columns that give the target away, the worst first.

    The score is R^2 of values, and the balanced accuracy of classes, adjusted so that a guess has 0 (scikit-learn's
    ``balanced_accuracy_score(adjusted=True)``); of a tree of 16 leaves, on the rows of each third by a tree of the others.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> paid = rng.integers(0, 2, 200)
        >>> table = Table({"amount": rng.normal(size=200), "paid on day": np.where(paid, 5.0, np.nan), "paid": paid})
        >>> leaks(TablePipeline(target="paid").fit(table), table)
        [Leak(name='paid on day', score=1.0)]
    """
    data = Table.of(table)
    if len(data) > MOST_ROWS:
        data = data.rows(np.sort(shuffled_indices(len(data))[:MOST_ROWS]))
    Y = _targets(pipeline, data)
    if len(data) < LEAST_ROWS or Y is None:
        return []
    fold = shuffled_indices(len(data), 1) % FOLDS
    found = []
    for column in pipeline.columns_:
        if column.used:
            score = _score(_codes(column, data), Y, fold, pipeline.task_ == "classification")
            if score >= sure:
                found.append(Leak(column.name, round(score, 4)))
    return sorted(found, key=lambda leak: -leak.score)


def _targets(pipeline: TablePipeline, data: Table) -> Array | None:
    """One column a class, 0 and 1, or a target, scaled; None for more classes than can be scored."""
    y = pipeline.target(data)
    if pipeline.task_ == "regression":
        return y.astype(np.float64)
    classes = pipeline.n_outputs_
    return np.eye(classes)[y] if classes <= MOST_CLASSES else None


def _codes(column: Column, data: Table) -> tuple[Array, bool]:
    """A whole number for each row, and whether they have an order; missing values are the last."""
    series = data[column.name]
    if column.kind == "numeric":
        return _ranked(numbers(series, column.reading)), True
    if column.kind == "datetime":
        days = moments(series, column.reading)
        return _ranked(np.where(np.isnat(days), np.nan, days.astype(np.int64))), True
    return np.unique(texts(series, column.reading.weak).fill_null("").to_numpy().astype(str), return_inverse=True)[
        1
    ], False


def _ranked(values: Array) -> Array:
    """The rank of each value, equal ones alike; NaN as the last."""
    return np.unique(values, return_inverse=True)[1]


def _score(found: tuple[Array, bool], Y: Array, fold: Array, classes: bool) -> float:
    codes, ordered = found
    if ordered and _explained_by_bins(codes * COARSE // (int(codes.max()) + 1), Y, classes) < HOPEFUL:
        return 0.0
    predicted = np.empty_like(Y)
    for number in range(FOLDS):
        train = fold != number
        table = _tree(codes[train], Y[train], ordered, int(codes.max()) + 1, classes)
        predicted[~train] = table[codes[~train]]
    return _balanced(predicted, Y) if classes else _explained(predicted, Y)


def _explained_by_bins(bins: Array, Y: Array, classes: bool) -> float:
    """How much of the target the mean of each bin explains, on the same rows; every class of equal weight."""
    weight = (Y / np.maximum(Y.sum(0), 1)).sum(1) if classes else np.ones(len(Y))
    total = np.bincount(bins, weight)
    means = np.stack([np.bincount(bins, weight * y) / np.where(total > 0, total, 1) for y in Y.T], 1)
    rest = (weight[:, None] * (Y - means[bins]) ** 2).sum(0)
    spread = (weight[:, None] * (Y - np.average(Y, 0, weight)) ** 2).sum(0)
    if classes:
        rest, spread = rest.sum(keepdims=True), spread.sum(keepdims=True)
    return float((1 - rest / np.where(spread > 0, spread, 1)).max())


def _balanced(predicted: Array, Y: Array) -> float:
    """The balanced accuracy, adjusted for chance; the tree of the leaf's commonest class, each class of equal weight."""
    true = Y.argmax(1)
    right = predicted.argmax(1) == true
    present = np.flatnonzero(Y.sum(0))
    share = float(np.mean([right[true == k].mean() for k in present]))
    chance = 1 / len(present)
    return (share - chance) / (1 - chance)


def _explained(predicted: Array, Y: Array) -> float:
    """The largest R^2 of a target."""
    spread = ((Y - Y.mean(0)) ** 2).sum(0)
    return float((1 - ((predicted - Y) ** 2).sum(0) / np.where(spread > 0, spread, 1)).max())


def _tree(codes: Array, Y: Array, ordered: bool, size: int, classes: bool) -> Array:
    """What is predicted for each code: the mean of its leaf. Levels without an order are a leaf each."""
    weight = 1 / np.maximum(Y.sum(0), 1) if classes else np.ones(Y.shape[1])
    sums = np.stack([np.bincount(codes, Y[:, k] * weight[k], size) for k in range(Y.shape[1])], 1)
    counts = sums.sum(1) if classes else np.bincount(codes, minlength=size).astype(np.float64)
    total = sums.sum(0) / counts.sum()
    if not ordered:
        return np.where(counts[:, None] > 0, sums / np.where(counts > 0, counts, 1)[:, None], total)
    out = np.empty((size, Y.shape[1]))
    for low, high in _leaves(counts, sums, size):
        n = counts[low:high].sum()
        out[low:high] = sums[low:high].sum(0) / n if n else total
    return out


def _leaves(counts: Array, sums: Array, size: int) -> list[tuple[int, int]]:
    """The best first: cut the leaf whose cut explains most, until there are enough."""
    N, S = np.concatenate([[0], counts.cumsum()]), np.concatenate([np.zeros((1, sums.shape[1])), sums.cumsum(0)])
    leaves = [(0, size)]
    cuts = {leaf: _cut(N, S, *leaf) for leaf in leaves}
    while len(leaves) < LEAVES:
        best = max(leaves, key=lambda leaf: cuts[leaf][0])
        gain, at = cuts[best]
        if gain <= 1e-12:
            break
        leaves.remove(best)
        for leaf in ((best[0], at), (at, best[1])):
            leaves.append(leaf)
            cuts[leaf] = _cut(N, S, *leaf)
    return leaves


def _cut(N: Array, S: Array, low: int, high: int) -> tuple[float, int]:
    """How much the best cut of a leaf explains, and where it is."""
    if high - low < 2:
        return 0.0, low
    inner = slice(low + 1, high)
    left, right = N[inner] - N[low], N[high] - N[inner]
    a, b, all_ = S[inner] - S[low], S[high] - S[inner], S[high] - S[low]
    gains = (a**2).sum(1) / np.where(left > 0, left, 1) + (b**2).sum(1) / np.where(right > 0, right, 1)
    gains -= (all_**2).sum() / (left[0] + right[0] or 1)
    gains[(left <= 1e-12) | (right <= 1e-12)] = 0.0
    best = int(gains.argmax())
    return float(gains[best]), low + 1 + best
