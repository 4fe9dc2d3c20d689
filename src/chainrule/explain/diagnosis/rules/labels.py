"""Rules about labels; what they see comes from cross-fitting, and only runs that look ill are cross-fitted."""

from __future__ import annotations

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import Suspicion, rule

UNRELATED = 3.0  # standard deviations of the agreement of neighbours
POWER = 2.0  # times that, for targets that do follow from the inputs: else neighbours cannot tell
NOTHING = 0.05  # of what a constant gets wrong, beyond what chance gives so many rows
FEW = 30  # rows, below which neighbours are no company
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
    "Nothing was found that ties the targets to the inputs",
    Remedy(permute=True),
    rank=0,
    measure="unchanged",
    why="What the rows hold and what they are asked for do not belong together: a join gone wrong, one of the two "
    "sorted or shuffled alone, a wrong column; or the inputs hold nothing of the targets.",
    change="Look at the line that joins X and y: print some rows beside their targets.",
)
def shuffled_labels(e: Evidence) -> Suspicion | None:
    """Neither neighbours nor cross-fitted models predict the targets of rows they have not seen.

    Neighbours must be able to tell: targets made of the inputs on purpose are seen by them (`Labels.power`). The
    experiment is a control: with the targets shuffled once more, nothing must change.

    Source: Zhang, Bengio, Hardt, Recht, Vinyals, "Understanding deep learning requires rethinking
    generalization", ICLR 2017 (random labels are learned by heart); the bounds are ours, tuned.
    """
    if not looked_at(e) or len(e.lab.rows) < FEW or e.tested.right > 2 * nothing(len(e.lab.x_val)):
        return None
    known = e.labels
    if known.related > UNRELATED or known.learned > nothing(len(e.lab.rows)) or known.power < POWER * UNRELATED:
        return None
    return Suspicion(
        f"rows held out are predicted no better than by a constant ({known.learned:.0%} of its mistakes avoided), and "
        f"neighbours agree no more than under shuffled targets ({known.related:.1f} standard deviations; "
        f"{known.power:.0f} with targets made of these inputs)",
        "the targets",
    )


@rule(
    "label_noise",
    "A part of the labels is wrong",
    Remedy(clean=True),
    rank=1,
    measure="trusted",
    worth=0.05,
    why="A network learns wrong labels by heart, at the cost of the rule behind the right ones.",
    change="Look at the rows whose labels are doubted, and correct them or leave them out of X and y; or stop earlier.",
)
def label_noise(e: Evidence) -> Suspicion | None:
    """Cross-fitted models contradict the label of a tenth or more of the rows of which they are surest.

    Where classes merely overlap, models are unsure of the rows they get wrong; where labels are wrong, sureness
    does not help.

    Source: Northcutt, Jiang, Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021.
    """
    if e.task.kind == "values" or not looked_at(e) or len(e.lab.rows) < ROWS:
        return None
    known = e.labels
    if known.doubtful < DOUBTFUL or known.learned < 2 * NOTHING:
        return None
    return Suspicion(
        f"cross-fitted models contradict {known.doubtful:.0%} of the labels among the half of the rows they are surest of",
        "the targets",
    )
