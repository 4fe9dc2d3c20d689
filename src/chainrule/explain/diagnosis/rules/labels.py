"""Rules about labels; what they see comes from cross-fitting, and only runs that look ill are cross-fitted."""

from __future__ import annotations

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import Suspicion, rule

UNRELATED = 3.0  # standard deviations of the agreement of neighbours
NOTHING = 0.05  # of what a constant gets wrong, beyond what chance gives so many rows
DOUBTFUL = 0.1  # of the rows that the models are surest of
ROWS = 150  # below which nobody can tell a wrong label from a rare one
ILL = 0.75  # a share learned on rows held out that calls for a look at the labels


def nothing(rows: int) -> float:
    """The most that models may avoid of a constant's mistakes and still know nothing: chance adds 1 / sqrt(rows)."""
    return float(NOTHING + rows**-0.5)


def looked_at(e: Evidence) -> bool:
    """Is the score on rows held out bad enough to ask whether the labels are right?"""
    return e.task.by_row and e.tested.right < ILL


@rule(
    "shuffled_labels",
    "The targets have nothing to do with the inputs",
    Remedy(permute=True),
    rank=0,
    measure="unchanged",
)
def shuffled_labels(e: Evidence) -> Suspicion | None:
    """Neither neighbours nor cross-fitted models predict the targets of rows they have not seen.

    The experiment is a control: with the targets shuffled once more, nothing must change.

    Source: Zhang, Bengio, Hardt, Recht, Vinyals, "Understanding deep learning requires rethinking
    generalization", ICLR 2017 (random labels are learned by heart); the bounds are ours, tuned.
    """
    if not looked_at(e) or e.tested.right > 2 * nothing(len(e.lab.x_val)):
        return None
    known = e.lab.labels()
    if known.related > UNRELATED or known.learned > nothing(len(e.lab.rows)):
        return None
    return Suspicion(
        f"rows held out are predicted no better than by a constant ({known.learned:.0%} of its mistakes avoided), and "
        f"neighbours agree no more than under shuffled targets ({known.related:.1f} standard deviations)",
        "the targets",
    )


@rule("label_noise", "A part of the labels is wrong", Remedy(clean=True), rank=1, measure="trusted", worth=0.05)
def label_noise(e: Evidence) -> Suspicion | None:
    """Cross-fitted models contradict the label of a tenth or more of the rows of which they are surest.

    Where classes merely overlap, models are unsure of the rows they get wrong; where labels are wrong, sureness
    does not help.

    Source: Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021.
    """
    if e.task.kind == "values" or not looked_at(e) or len(e.lab.rows) < ROWS:
        return None
    known = e.lab.labels()
    if known.doubtful < DOUBTFUL or known.learned < 2 * NOTHING:
        return None
    return Suspicion(
        f"cross-fitted models contradict {known.doubtful:.0%} of the labels among the half of the rows they are surest of",
        "the targets",
    )
