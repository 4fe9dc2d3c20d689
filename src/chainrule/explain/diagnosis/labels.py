"""Are the labels right? A suspicion about data needs other rows: what models say of rows they have not seen.

Cross-fitting: the rows are cut into folds, the run is replayed without each fold, and its model judges the fold.
A nearest-neighbour vote, which needs no training, judges beside it, so that a run which cannot learn for another
reason does not pass for one with wrong labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.batches import shuffled_indices
from chainrule.explain.diagnosis import surgery
from chainrule.explain.diagnosis.experiment import AS_IT_WAS, Laboratory
from chainrule.explain.diagnosis.remedies import Remedy

Array = np.ndarray[Any, Any]
FOLDS = 4
NEIGHBOURS = 10
ROWS = 2000  # that neighbours are looked for among
PERMUTATIONS = 19
STOPS = (0.1, 0.3, 1.0)  # a run that learns wrong labels by heart is at its best early on


@dataclass(frozen=True)
class Labels:
    """What cross-fitting says.

    Attributes:
        related: how many standard deviations the neighbours' agreement with the labels lies above that with
            shuffled labels.
        power: the same with labels that follow from the inputs on purpose: what `related` could have been.
        neighbours: the share of a constant's mistakes that the neighbours avoid.
        learned: the same for the cross-fitted models, on the rows that each of them has not seen.
        doubtful: the share of rows with another label than the models give, among the half of the rows of
            which they are surest.
        suspicious: those rows and their like, a mask over all rows.
        trusted: the rows held out whose label most of their neighbours among the training rows have.
    """

    related: float
    power: float
    neighbours: float
    learned: float
    doubtful: float
    suspicious: Array
    trusted: Array


def cross_fit(lab: Laboratory) -> Labels:
    """Judge every training row by models that have not seen it (values: by their neighbours alone)."""
    if lab.task.kind == "values":
        return _of_values(lab)
    labels = lab.task.labels(lab.y)[lab.rows]
    neighbours = _votes(lab, labels)
    networks = max((_by_networks(lab, stop) for stop in STOPS), key=lambda p: float((p.argmax(1) == labels).mean()))
    right = [float((p.argmax(axis=1) == labels).mean()) for p in (neighbours, networks)]
    p = neighbours if right[0] > right[1] else networks
    guess, sure = p.argmax(axis=1), p.max(axis=1)
    half = sure >= np.median(sure)
    wrong = guess != labels
    mistakes = float((labels != np.bincount(labels).argmax()).mean())
    suspicious = np.zeros(len(lab.x), bool)
    suspicious[lab.rows[wrong]] = True
    seen = neighbours[:ROWS].argmax(axis=1) == labels[:ROWS]
    voted, learned = (1 - share / max(mistakes, 1e-9) for share in (float((~seen).mean()), float(wrong.mean())))
    doubtful = float(wrong[half].mean())
    return Labels(related(lab, labels), power(lab, labels), voted, learned, doubtful, suspicious, _trusted(lab))


def _of_values(lab: Laboratory) -> Labels:
    rows, values = lab.rows[:ROWS], _ranks(lab.y[lab.rows])
    if not values.shape[1]:
        return Labels(0.0, 0.0, 0.0, 0.0, 0.0, np.zeros(len(lab.x), bool), np.ones(len(lab.x_val), bool))
    error = -_agreement(values[: len(rows)], _nearest(lab, rows))
    learned = 1 - error / max(float(values.var()), 1e-12)
    everything, nothing = np.ones(len(lab.x_val), bool), np.zeros(len(lab.x), bool)
    return Labels(related(lab, values), power(lab, values), learned, learned, 0.0, nothing, everything)


def _ranks(y: Array) -> Array:
    """Each target that varies as ranks from -1/2 to 1/2, equal ones alike: a few far values must not decide."""
    wide = y.reshape(len(y), -1).astype(np.float64)
    columns = []
    for column in wide.T[np.ptp(wide, axis=0) > 0]:
        _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
        middles = np.cumsum(counts) - (counts + 1) / 2
        columns.append(middles[places] / len(column) - 0.5)
    return np.stack(columns, axis=1) if columns else np.empty((len(y), 0))


def _trusted(lab: Laboratory) -> Array:
    """Rows held out whose neighbours mostly carry their label; the judge is not the network that is judged."""
    rows = lab.rows[:ROWS]
    known, labels = lab.task.labels(lab.y)[rows], lab.task.labels(lab.y_val)
    new, old = (surgery.standardised(x, lab.x).reshape(len(x), -1).astype(np.float64) for x in (lab.x_val, lab.x[rows]))
    far = (new * new).sum(axis=1)[:, None] + (old * old).sum(axis=1) - 2 * new @ old.T
    near = known[np.argpartition(far, min(NEIGHBOURS, len(rows) - 1), axis=1)[:, :NEIGHBOURS]]
    votes = np.stack([(near == k).sum(axis=1) for k in range(lab.task.classes)], axis=1)
    return np.asarray(votes.argmax(axis=1) == labels)


def _by_networks(lab: Laboratory, stop: float) -> Array:
    """Probabilities for each row from the replay without its fold."""
    fold = shuffled_indices(len(lab.rows), seed=2**34) % FOLDS
    remedy = Remedy(stop=stop)
    result = np.zeros((len(lab.rows), lab.task.classes))
    for k in range(FOLDS):
        seen, unseen = lab.rows[fold != k], lab.rows[fold == k]
        with lab.prepared(AS_IT_WAS) as run:
            for rate, index in lab.batches(remedy, 0, seen):
                run(rate, index)
            p = lab.task.probabilities(lab.outputs(AS_IT_WAS, lab.x[unseen]))
        result[fold == k] = np.nan_to_num(p)
    return result


def _distances(lab: Laboratory, rows: Array) -> Array:
    x = surgery.standardised(lab.x, lab.x)[rows].reshape(len(rows), -1).astype(np.float64)
    squares = (x * x).sum(axis=1)
    far = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(far, np.inf)
    return np.asarray(far)


def _nearest(lab: Laboratory, rows: Array) -> Array:
    return np.asarray(np.argpartition(_distances(lab, rows), NEIGHBOURS, axis=1)[:, :NEIGHBOURS])


def _votes(lab: Laboratory, labels: Array) -> Array:
    """The shares of the classes among the nearest rows; nothing for rows beyond the first `ROWS`."""
    rows = lab.rows[:ROWS]
    near = labels[: len(rows)][_nearest(lab, rows)]
    votes = np.zeros((len(lab.rows), lab.task.classes))
    for k in range(lab.task.classes):
        votes[: len(rows), k] = (near == k).mean(axis=1)
    return votes


def related(lab: Laboratory, targets: Array) -> float:
    """How far the agreement of neighbours lies above that under shuffled targets, in standard deviations of it.

    A permutation test (Good, "Permutation tests", 2000) of the nearest-neighbour statistic of Schilling (1986).
    """
    rows = lab.rows[:ROWS]
    near, values = _nearest(lab, rows), targets[: len(rows)]
    chance = [_agreement(values[shuffled_indices(len(rows), seed=2**35 + i)], near) for i in range(PERMUTATIONS)]
    return (_agreement(values, near) - float(np.mean(chance))) / max(float(np.std(chance)), 1e-9)


def power(lab: Laboratory, targets: Array) -> float:
    """`related` of the same targets put in the order of the inputs' first principal component; 0 where there is none."""
    rows = lab.rows[:ROWS]
    x = surgery.standardised(lab.x, lab.x)[rows].reshape(len(rows), -1).astype(np.float64)
    along = _first_component(x - x.mean(axis=0))
    if not np.ptp(along) > 1e-6:
        return 0.0
    planted = np.empty_like(targets[: len(rows)])
    planted[np.argsort(along, kind="stable")] = np.sort(targets[: len(rows)], axis=0)
    return related(lab, planted)


def _first_component(x: Array) -> Array:
    """The rows along the direction in which they vary most, by power iteration; a few steps are near enough."""
    along: Array = x[:, np.argmax(x.var(axis=0))] if x.size else np.zeros(len(x))
    for _ in range(8):
        direction = along @ x
        size = float(np.linalg.norm(direction))
        if not np.isfinite(size) or size == 0:
            break
        along = x @ (direction / size)
    return along


def _agreement(values: Array, near: Array) -> float:
    if values.dtype.kind == "f":
        mean = values[near].mean(axis=1)
        return -float(((mean - values) ** 2).mean())
    return float((values[near] == values[:, None]).mean())
