"""Rules about the data: inputs, targets, class frequencies, denormal numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.explain.diagnosis.evidence import DENORMAL, Evidence
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import Suspicion, first, room, room_held_out, rule

Array = np.ndarray[Any, Any]
LARGE, SMALL = 6.0, 0.05  # of a root mean square; standardised data have 1
OFFSET = 5.0  # a mean so many standard deviations from 0
UNEQUAL = 30.0  # the largest standard deviation of a feature over the smallest
RARE = 8.0  # the most frequent class over the rarest


def _size(values: Array) -> tuple[float, float, float]:
    """The root mean square, the median offset in standard deviations, and how unequal the features are."""
    wide = values.reshape(len(values), -1).astype(np.float64)
    mean, deviation = wide.mean(axis=0), wide.std(axis=0)
    moving = deviation > 1e-6 * np.abs(mean) + np.finfo(np.float64).tiny
    if not moving.any():
        return float(np.sqrt((wide**2).mean())), 0.0, 1.0
    mean, deviation = mean[moving], deviation[moving]
    offset = float(np.median(np.abs(mean) / deviation))
    typical = np.quantile(deviation, [0.05, 0.95])
    return float(np.sqrt((wide[:, moving] ** 2).mean())), offset, float(typical[1] / max(typical[0], 1e-300))


@rule(
    "unnormalised_inputs",
    "The inputs are not normalised",
    Remedy(inputs=True),
    1,
    "either",
    why="A feature of large size makes the loss steep in its weights and flat in the others', so that no one learning rate fits both.",
    change="Before fit: X = (X - X_train.mean(0)) / X_train.std(0), with the training rows' numbers for every row.",
)
def unnormalised_inputs(e: Evidence) -> Suspicion | None:
    """Inputs far from mean 0 and standard deviation 1, or features of very different sizes.

    Source: LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998, section 4.3 (mean near 0, equal variances);
    the bounds are ours, tuned.
    """
    if e.lab.x.dtype.kind != "f" or not room_held_out(e):
        return None
    size, offset, unequal = _size(e.lab.x)
    spread = unequal if e.lab.x.ndim == 2 and not _like_an_image(e.lab.x) else 1.0
    if SMALL <= size <= LARGE and offset <= OFFSET and spread <= UNEQUAL:
        return None
    return Suspicion(
        f"the inputs have a root mean square of {size:.3g}, their means lie {offset:.2g} standard deviations from 0 "
        f"(median), and the deviations of the features differ by a factor of {spread:.3g}",
        "the inputs",
    )


def _like_an_image(x: Array) -> bool:
    """Features of one range, some of them nearly always at its end: pixels."""
    high = x.max(axis=0)
    return bool((np.abs(x).min(axis=0) == 0).mean() > 0.5 and high.max() <= 255)


@rule(
    "constant_inputs",
    "Every row has the same inputs",
    Remedy(permute=True),
    rank=0,
    measure="unchanged",
    why="Rows that are all alike cannot be told apart, whatever the network.",
    change="Look at how X is made: a column read twice, a scale of 0, an array that was never filled.",
)
def constant_inputs(e: Evidence) -> Suspicion | None:
    """No feature differs from row to row by more than rounding.

    The experiment is a control: which target stands at which row makes no difference.

    Source: our own; a fact about the data rather than a threshold.
    """
    wide = e.lab.x.reshape(len(e.lab.x), -1).astype(np.float64)
    low, high = wide.min(axis=0), wide.max(axis=0)
    if len(wide) < 2 or (high - low > 1e-6 * np.maximum(np.abs(low), np.abs(high))).any():
        return None
    return Suspicion(f"no feature differs between any two of the {len(wide)} rows", "the inputs")


@rule(
    "constant_targets",
    "Every row has the same target",
    Remedy(permute=True),
    rank=0,
    measure="unchanged",
    why="Where there is one answer to everything, there is nothing to learn.",
    change="Look at how y is made: a wrong column, a filter that left one class, an array that was never filled.",
)
def constant_targets(e: Evidence) -> Suspicion | None:
    """No target differs from another.

    Source: our own; a fact about the data rather than a threshold.
    """
    wide = e.lab.y.reshape(len(e.lab.y), -1)
    if len(wide) < 2 or (wide != wide[0]).any():
        return None
    return Suspicion(
        f"the targets of all {len(wide)} rows are {wide[0].tolist() if wide.shape[1] > 1 else wide[0, 0]}",
        "the targets",
    )


@rule(
    "unnormalised_targets",
    "The targets are not normalised",
    Remedy(targets=True),
    rank=1,
    why="A new network's outputs are of size 1; the way to targets of another size takes most of the steps.",
    change="Before fit: y = (y - y_train.mean(0)) / y_train.std(0), and the predictions back: p * y_train.std(0) + y_train.mean(0).",
)
def unnormalised_targets(e: Evidence) -> Suspicion | None:
    """Values to predict far from the size that a new network's outputs have.

    Source: as for inputs; the bounds are ours, tuned.
    """
    if e.task.kind != "values" or not room(e):
        return None
    size, offset, _ = _size(e.lab.y)
    if SMALL <= size <= LARGE and offset <= OFFSET:
        return None
    return Suspicion(
        f"the targets have a root mean square of {size:.3g} and lie {offset:.2g} standard deviations from 0",
        "the targets",
    )


@rule(
    "class_imbalance",
    "The classes are imbalanced, and the rare ones are not learned",
    Remedy(balance=True),
    1,
    "recall",
    why="The mean over the rows counts a rare class as little as it is frequent: to miss all of it costs next to nothing.",
    change="Show the rare classes more often (repeat their rows in X and y), or weigh them in the loss: nn.CrossEntropyLoss(weight=...).",
)
def class_imbalance(e: Evidence) -> Suspicion | None:
    """One class many times more frequent than another, whose rows are mostly missed.

    Source: Japkowicz, Stephen, "The class imbalance problem: a systematic study", 2002; the bounds are ours, tuned.
    """
    if e.task.kind == "values" or not e.task.by_row:
        return None
    labels = e.task.labels(e.lab.y)
    counts = np.bincount(labels[labels >= 0], minlength=e.task.classes)
    present = counts[counts > 0]
    if len(present) < 2 or present.max() < RARE * present.min() or e.tested.recall > 0.85:
        return None
    return Suspicion(
        f"the most frequent class has {present.max()} rows, the rarest {present.min()}; the mean recall of the "
        f"classes, as a share between chance and perfect, is {e.tested.recall:.2f} on rows held out",
        "the targets",
    )


@rule(
    "denormals",
    "Numbers are too small for the dtype",
    (Remedy(inputs=True), Remedy(init=True)),
    rank=1,
    why="Numbers this small keep a few bits only, and compiled programs take them for 0.",
    change="Bring the inputs to size 1 before fit (standardise them), or draw the weights anew.",
)
def denormals(e: Evidence) -> Suspicion | None:
    """Inputs or gradients between 0 and 1.2e-38: they keep few bits, and compiled programs flush them to 0.

    Source: IEEE 754 (binary32, smallest normal number 2**-126).
    """
    x = e.lab.x
    small = float(((x != 0) & (np.abs(x) < DENORMAL)).mean()) if x.dtype.kind == "f" else 0.0
    if small > 0.01:
        return Suspicion(f"{small:.1%} of the inputs are denormal", "the inputs")
    found = first(e, lambda m: any(p.denormal > 0.1 for p in m.movements))
    if found is None or not room(e):
        return None
    worst = max(found.movements, key=lambda p: p.denormal)
    return Suspicion(f"{worst.denormal:.1%} of its gradient is denormal", worst.name, found.step)
