"""Trials: a suspicion becomes a finding only by an experiment, and experiments rank the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.experiment import AS_IT_WAS, Laboratory, Replay
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules import RULES, WORTH, Rule, Suspicion

SEEDS = (0, 1, 2)  # of the replays that confirm; 0 is the run's own
NEARLY = 0.7  # remedies that reach this part of the best one's effect do about as well
HARM = -0.02  # what a remedy may cost on rows held out
UNCHANGED = 0.05  # of a control


@dataclass(frozen=True)
class Effect:
    """What a remedy changed, in the measure of the rule, over pairs of replays with the same seed.

    Attributes:
        remedy: on top of `base`.
        gains: after minus before for each seed.
        before, after: the replays with the run's own seed.
    """

    remedy: Remedy
    base: Remedy
    gains: tuple[float, ...]
    before: Replay = field(repr=False)
    after: Replay = field(repr=False)

    @property
    def gain(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.gains))

    @property
    def certain(self) -> bool:
        """Worth a report: large enough, and beyond the noise between seeds (twice the standard error)."""
        noise = float(np.std(self.gains, ddof=1)) / len(self.gains) ** 0.5 if len(self.gains) > 1 else 0.0
        return self.gain >= WORTH and min(self.gains) > 0 and self.gain > 2 * noise


@dataclass(frozen=True)
class Case:
    """A suspicion with the experiments made for it, best first."""

    rule: Rule
    suspicion: Suspicion
    effects: tuple[Effect, ...]

    @property
    def best(self) -> Effect:
        return self.effects[0]

    @property
    def confirmed(self) -> bool:
        if self.rule.measure == "unchanged":
            return max(map(abs, self.best.gains)) < UNCHANGED
        return self.best.certain

    @property
    def rank(self) -> float:
        """That of the rule; a cause that arose during the training probably has another behind it."""
        return self.rule.rank + (1.5 if self.suspicion.late else 0.0)


def suspected(e: Evidence) -> list[tuple[Rule, Suspicion]]:
    """Every rule that suspects something."""
    found = [(rule, rule.suspects(e)) for rule in RULES.values()]
    return [(rule, suspicion) for rule, suspicion in found if suspicion is not None]


def tried(lab: Laboratory, e: Evidence, rule: Rule, suspicion: Suspicion, base: Remedy = AS_IT_WAS) -> Case | None:
    """The rule's remedies, each once; the best again with other seeds. None if it has no remedy to try."""
    effects = [_effect(lab, rule, remedy, base, SEEDS[:1]) for remedy in rule.remedies(e)]
    effects.sort(key=lambda effect: -effect.gain)
    if effects and (effects[0].gain >= WORTH / 2 or rule.measure == "unchanged"):
        effects[0] = _effect(lab, rule, effects[0].remedy, base, SEEDS)
    return Case(rule, suspicion, tuple(effects)) if effects else None


def _effect(lab: Laboratory, rule: Rule, remedy: Remedy, base: Remedy, seeds: Iterable[int]) -> Effect:
    pairs = [(lab.replay(base, seed), lab.replay(base | remedy, seed)) for seed in seeds]
    if rule.measure == "trusted":
        changed = base | remedy
        gains = [lab.trusted(changed, after).learned - lab.trusted(base, before).learned for before, after in pairs]
    else:
        gains = [_GAINS[rule.measure](before, after) for before, after in pairs]
    return Effect(remedy, base, tuple(gains), *pairs[0])


def _on_training_rows(name: str, before: Replay, after: Replay) -> float:
    """What a remedy adds on the training rows; if it costs anything on rows held out, that counts instead."""
    held_out = float(getattr(after.val, name) - getattr(before.val, name))
    return float(getattr(after.train, name) - getattr(before.train, name)) if held_out >= HARM else held_out


def _either(before: Replay, after: Replay) -> float:
    trained, held_out = after.train.learned - before.train.learned, after.val.learned - before.val.learned
    return max(trained, held_out) if min(trained, held_out) >= HARM else min(trained, held_out)


_GAINS: dict[str, Callable[[Replay, Replay], float]] = {
    "learned": partial(_on_training_rows, "learned"),
    "right": partial(_on_training_rows, "right"),
    "either": _either,
    "held_out": lambda before, after: after.val.loss - before.val.loss,
    "unchanged": lambda before, after: after.val.learned - before.val.learned,
    "recall": lambda before, after: after.val.recall - before.val.recall,
}


def ranked(cases: list[Case]) -> list[Case]:
    """Confirmed cases, the likeliest cause first: rank decides between remedies that do about equally well."""
    confirmed = [case for case in cases if case.confirmed]
    most = max((case.best.gain for case in confirmed), default=0.0)
    return sorted(confirmed, key=lambda c: (not _nearly(c, most), c.rank if _nearly(c, most) else 0, -c.best.gain))


def _nearly(case: Case, most: float) -> bool:
    return case.rule.measure == "unchanged" or case.best.gain >= NEARLY * most


def judged(lab: Laboratory, e: Evidence) -> tuple[list[Case], list[Case]]:
    """The findings, and every case that was tried.

    The first finding's remedy is then kept, and what else was confirmed must still help on top of it: two names
    for one fault give one finding.
    """
    cases = [case for pair in suspected(e) if (case := tried(lab, e, *pair)) is not None]
    found: list[Case] = []
    base, left = AS_IT_WAS, ranked(cases)
    while left and not (found and found[0].rule.measure == "unchanged"):
        found.append(left[0])
        base = base | left[0].best.remedy
        again = [_again(lab, case, base) for case in left[1:]]
        left = ranked(again)
    return found, cases


def _again(lab: Laboratory, case: Case, base: Remedy) -> Case:
    """The case's best remedy on top of others."""
    effect = _effect(lab, case.rule, case.best.remedy, base, SEEDS)
    return replace(case, effects=(effect, *case.effects[1:]))
