"""Rules about a run that is plainly bad, when nothing said why: too short, or another start does better."""

from __future__ import annotations

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import Suspicion, rule

LITTLE = 0.5  # of a constant's mistakes avoided on the training rows
APART = 0.4  # more of them avoided there than on rows held out
RISING = 0.02  # of what there is to learn, in the second half of the run
FRESH = Remedy(init=True, inputs=True)


def badness(e: Evidence) -> str:
    """What is bad about the run, in a sentence; empty where nothing is."""
    trained, tested = (max(0.0, score.right) for score in (e.trained, e.tested))
    if trained < LITTLE:
        found = f"on its training rows it avoids {trained:.0%} of the mistakes of a constant guess"
    elif trained - tested > APART:
        found = f"it avoids {trained:.0%} of the mistakes of a constant guess on its training rows, and {tested:.0%} on others"
    else:
        return ""
    if not e.task.by_row or len(e.lab.rows) < 30:
        return found
    near = max(0.0, e.labels.neighbours)
    more = "there is more in these data" if near > tested + 0.1 else "there may be no more in these data"
    return f"{found}; the nearest neighbours of each row, which need no training, avoid {near:.0%}, so {more}"


@rule(
    "too_few_steps",
    "The run ends too early",
    Remedy(stop=3.0),
    rank=3.9,
    why="The network was still learning when the run ended.",
    change="fit(..., epochs={epochs}).",
)
def too_few_steps(e: Evidence) -> Suspicion | None:
    """A bad run that learned in its second half, too.

    Source: our own; the loss curve that everybody looks at first.
    """
    if not badness(e) or e.lab.cut or not e.replay.finite or e.trained.right >= LITTLE:
        return None
    half = min(e.moments, key=lambda m: abs(m.step - e.end.step / 2))
    won = e.end.train.learned - half.train.learned
    if won < RISING:
        return None
    return Suspicion(f"in its second half the run still won {won:.0%} of what there is to learn", step=half.step)


@rule(
    "poor_result",
    "Another start or learning rate does far better",
    (Remedy(lr=0.1), Remedy(lr=10.0), FRESH, FRESH | Remedy(lr=0.1), FRESH | Remedy(lr=10.0)),
    rank=5.5,
    measure="either",
    why="No single cause was found for it.",
    change="Start from weights drawn anew and standardised inputs, with optim.{optimizer}(..., lr={rate:.3g}), and change one thing at a time.",
)
def poor_result(e: Evidence) -> Suspicion | None:
    """A run that is plainly bad.

    Source: our own: half of a constant's mistakes, or a gap of four tenths between training rows and others.
    """
    found = badness(e)
    return Suspicion(found) if found else None
