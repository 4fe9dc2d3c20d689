"""Which rows each network of a tabular estimator trains on and is validated by, and the epoch that all of them find best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, StratifiedGroupKFold, train_test_split

from chainrule.training.callbacks import EarlyStopping
from chainrule.training.history import History
from chainrule.training.snapshot import Weights

Array = np.ndarray[Any, Any]
Fold = tuple[Array, Array]  # the numbers of the rows to train on, and of those to validate by


def held_out(rows: int, share: float, labels: Array | None, groups: Array | None, random: Any) -> Fold:
    """One fold, of such a share; every class by its share where that can be. None are held out where there are too few.

    Args:
        labels: the class of each row; None: of numbers.
        groups: rows of one group stay together.
    """
    check_share(share)
    out = rows - math.ceil((1 - share) * rows)
    if not out or (groups is not None and len(np.unique(groups)) < 2):
        return np.arange(rows), np.arange(0)
    if groups is not None:
        numbers = np.arange(rows)
        kept, chosen = next(GroupShuffleSplit(1, test_size=share, random_state=random).split(numbers, groups=groups))
        return kept, chosen
    stratify = labels if labels is not None and has_shares(labels, out) else None
    found = train_test_split(np.arange(rows), test_size=out, random_state=random, stratify=stratify)
    return found[0], found[1]


def check_share(share: object, none: bool = True) -> None:
    """Raise where this is no share of the rows to hold out; where there must be some, 0 is none."""
    if isinstance(share, (int, float, np.number)) and (0 <= share < 1 if none else 0 < share < 1):
        return
    must = "0 or more and below 1" if none else "above 0 and below 1"
    raise ValueError(f"validation_fraction must be {must}, got {share!r}.")


def has_shares(labels: Array, out: int) -> bool:
    """Can every class be among so many rows that are held out, and among the others?"""
    counts = np.unique(labels, return_counts=True)[1]
    return bool(counts.min() >= 2 and out >= len(counts) and len(labels) - out >= len(counts))


def folds(rows: int, count: int, labels: Array | None, groups: Array | None, random: Any) -> list[Fold]:
    """`count` folds, all of one size, so that one compiled program serves them: each validates by another `count`-th of the
    rows, and the rest of that division is trained on by all. Every class is dealt out evenly.

    Args:
        labels, groups: as for `held_out`; with groups sizes differ.

    Raises:
        ValueError: there are fewer rows, or groups, than folds.
    """
    parts, what = (rows, "samples") if groups is None else (len(np.unique(groups)), "groups")
    if parts < count:
        raise ValueError(
            f"n_cv={count} validates by that many parts of the rows, but there are n_{what}={parts} {what}. Pass a smaller n_cv."
        )
    if groups is not None:
        return _of_groups(rows, count, labels, groups, random)
    order = random.permutation(rows)
    if labels is not None:
        order = order[np.argsort(labels[order], kind="stable")]
    dealt = order[: rows // count * count].reshape(-1, count)
    return [(np.sort(np.setdiff1d(order, dealt[:, i])), np.sort(dealt[:, i])) for i in range(count)]


def _of_groups(rows: int, count: int, labels: Array | None, groups: Array, random: Any) -> list[Fold]:
    seed = int(random.randint(2**31))
    kind = GroupKFold if labels is None else StratifiedGroupKFold
    splitter = kind(count, shuffle=True, random_state=seed)
    return [(kept, out) for kept, out in splitter.split(np.zeros(rows), labels, groups)]


def best_epoch(histories: Sequence[History], measure: str) -> int:
    """The epoch (counted from 1) at which the mean over these trainings is best, of equally good ones the last."""
    epochs = min(history.epochs for history in histories)
    means = np.mean([history[measure][:epochs] for history in histories], axis=0)
    judge, none = EarlyStopping(measure, ties=True, patience=epochs), Weights({})
    for epoch, mean in enumerate(means.tolist(), start=1):
        judge.judge(epoch, mean, lambda: none)
    return judge.best_epoch
