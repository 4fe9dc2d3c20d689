"""What a rule is: a name, a sentence, what makes it suspect, and the remedies that put the suspicion to the test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chainrule.explain.diagnosis.evidence import Evidence, Look
from chainrule.explain.diagnosis.remedies import Remedy

Remedies = Callable[[Evidence], Iterable[Remedy]]
WORTH = 0.1  # the share of what there is to learn that a remedy must win back to be worth a report


@dataclass(frozen=True)
class Suspicion:
    """What a rule saw.

    Attributes:
        says: the evidence in a sentence, with its numbers.
        where: the layer or parameter; empty for the whole run.
        step: the first step at which it was seen.
        late: it arose during the training, so that another cause probably lies behind it.
    """

    says: str
    where: str = ""
    step: int = 0
    late: bool = False


@dataclass(frozen=True)
class Rule:
    """One possible cause.

    Attributes:
        name: as it stands in a report's data, such as "learning_rate_too_high".
        claim: the finding as a sentence.
        suspects: looks at the evidence; its docstring names the source of the threshold.
        remedies: the changes to try, each an experiment.
        rank: among causes whose remedies do about equally well the lower comes first: what is wrong in itself
            (0), what comes from outside (1), where the training starts (2), how signals run (3), settings (4),
            and what is only a symptom (5).
        measure: what its effect is measured in: "learned" on the training rows; "either" (learned there or on
            rows held out); "right" on the training rows; "held_out" (the loss, on rows held out); "recall" (of the
            classes, there); "trusted" (learned, on rows held out whose label their neighbours confirm); "unchanged"
            (a control: nothing must change).
        worth: the least gain in it that is reported.
        why: why it happens, in a sentence.
        change: which line of the user's to change, and into what; ``{rate}``, ``{optimizer}`` and their like are put in
            (see `advice`).
    """

    name: str
    claim: str
    suspects: Callable[[Evidence], Suspicion | None]
    remedies: Remedies
    rank: float
    measure: str
    worth: float
    why: str
    change: str


RULES: dict[str, Rule] = {}


def rule(
    name: str,
    claim: str,
    remedies: Remedies | Remedy | tuple[Remedy, ...],
    rank: float,
    measure: str = "learned",
    worth: float = WORTH,
    *,
    why: str,
    change: str,
) -> Callable[[Callable[[Evidence], Suspicion | None]], Callable[[Evidence], Suspicion | None]]:
    """Declare a rule: the function below it is what suspects."""
    if isinstance(remedies, Remedy):
        remedies = (remedies,)
    fixed = remedies if isinstance(remedies, tuple) else ()

    def declared(suspects: Callable[[Evidence], Suspicion | None]) -> Callable[[Evidence], Suspicion | None]:
        given: Remedies = (lambda _: fixed) if isinstance(remedies, tuple) else remedies
        RULES[name] = Rule(name, claim, suspects, given, rank, measure, worth, why, change)
        return suspects

    return declared


def first(e: Evidence, holds: Callable[[Look], bool]) -> Look | None:
    """The first moment at which a condition holds."""
    return next((moment for moment in e.moments if holds(moment)), None)


def room(e: Evidence) -> bool:
    """Is there anything to win on the training rows? A run that has learned nearly all of it has no such fault."""
    return e.poor >= WORTH


def room_held_out(e: Evidence) -> bool:
    """Is there anything to win, on the training rows or on rows held out?"""
    return room(e) or e.tested.learned <= 1 - WORTH
