"""What a report says beside its findings: what limits it, and what is odd about the data and no fault for certain."""

from __future__ import annotations

import numpy as np

from chainrule.explain.diagnosis.evidence import Evidence

HARDER = 0.1  # of a constant's mistakes
SURE = 3.0  # standard errors: a note needs no experiment, so it must not be chance
MANY = 20  # distinct whole numbers; more are a quantity
EACH = 5  # rows of a class


def of(e: Evidence) -> list[str]:
    """The notes, each a paragraph."""
    return [note for note in (*_limits(e), _harder(e), _numbered(e)) if note]


def _limits(e: Evidence) -> list[str]:
    found = []
    if e.lab.cut:
        found.append(f"Replays cover the first {e.lab.steps} of the run's {e.lab.taken} steps.")
    if not e.lab.validated:
        found.append("The run had no validation data, so a fifth of its rows was held out of every replay.")
    elif not e.lab.cut and not e.exact and not e.lab.unfinished:
        found.append(
            "The replay did not end in the bits of the run: a callback, or code beside fit, changed something. "
            "Effects are measured against the replay."
        )
    return found


def _harder(e: Evidence) -> str:
    """Rows that were trained on and are harder than others all the same."""
    trained, tested = e.trained, e.tested
    rows = [score.by_row["right"] for score in (trained, tested)]
    if not e.lab.validated or min(map(len, rows)) < 2:
        return ""
    error = float(np.sqrt(sum(np.var(row) / len(row) for row in rows)))
    if not tested.right - trained.right > max(HARDER, SURE * error):
        return ""
    return (
        f"The training rows are harder for the network than the validation rows ({trained} against {tested}, both in "
        f"evaluation mode, without dropout). Labels that are wrong in a part of the training rows do that, and so does "
        f"augmentation or noise that only the training rows have; or the validation rows are easier ones. Look at the "
        f"training rows with the largest loss."
    )


def _numbered(e: Evidence) -> str:
    """Targets of a loss of values that look like numbers of classes."""
    if e.task.kind != "values" or e.lab.y[0].size != 1:
        return ""
    values, counts = np.unique(e.lab.y, return_counts=True)
    classes = len(values)
    if not 3 <= classes <= MANY or counts.min() < EACH or not np.array_equal(values, np.arange(classes)):
        return ""
    return (
        f"The targets are the whole numbers 0 to {classes - 1}, and the loss is one of values. If they are the numbers of "
        f"classes, the loss is the likeliest fault: it takes class {classes - 1} for far from class 0 and near to class "
        f"{classes - 2}. Use F.cross_entropy with {classes} outputs and targets of shape (rows,) and dtype int64."
    )
