"""Trials: a suspicion becomes a finding only by an experiment, and experiments rank the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.experiment import AS_IT_WAS, Laboratory, Replay
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules import RULES, Rule, Suspicion

SEEDS = (0, 1, 2)  # of the replays that confirm; 0 is the run's own
NEARLY = 0.7  # remedies that reach this part of the best one's effect do about as well
HARM = -0.02  # what a remedy may cost on rows held out
UNCHANGED = 0.05  # of a control
ENOUGH = 0.97  # learned, so that no further remedy is tried
SYMPTOM = 5  # the rank from which on a rule speaks of symptoms


@dataclass(frozen=True)
class Effect:
    """What a remedy changed, in the measure of the rule, over pairs of replays with the same seed.

    Attributes:
        remedy: on top of `base`.
        gains: after minus before for each seed, the run's own first.
        reached: after with each seed, minus before with the run's own.
        before, after: the replays with the run's own seed.
    """

    remedy: Remedy
    base: Remedy
    gains: tuple[float, ...]
    reached: tuple[float, ...]
    before: Replay = field(repr=False)
    after: Replay = field(repr=False)

    @property
    def gain(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.gains))

    def certain(self, worth: float) -> bool:
        """Worth a report: it helps the run itself, it helps on average, and it is no luck.

        The run's own replays differ in nothing but the remedy, so the first gain has no noise in it. Other seeds
        show whether the remedy owes its result to one order of the rows, or the run its failure.
        """
        lucky = min(self.reached) < worth / 2 or min(self.gains) < -worth / 2
        return self.gains[0] >= worth and self.gain >= worth and not lucky


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
            return bool(abs(self.best.gain) < UNCHANGED + len(self.best.before.held_out) ** -0.5)
        return self.best.certain(self.rule.worth)

    @property
    def rank(self) -> float:
        """That of the rule; a cause that arose during the training probably has another behind it."""
        return self.rule.rank + (1.5 if self.suspicion.late else 0.0)


def tested(lab: Laboratory, e: Evidence, symptoms: bool) -> list[Case]:
    """Every rule that suspects something, with its experiments: those about causes, or those about symptoms."""
    rules = [rule for rule in RULES.values() if (rule.rank >= SYMPTOM) is symptoms]
    found = [(rule, rule.suspects(e)) for rule in rules]
    cases = [tried(lab, e, rule, suspicion) for rule, suspicion in found if suspicion is not None]
    return [case for case in cases if case is not None]


def tried(lab: Laboratory, e: Evidence, rule: Rule, suspicion: Suspicion, base: Remedy = AS_IT_WAS) -> Case | None:
    """The rule's remedies, each once; the best again with other seeds. None if it has no remedy to try."""
    effects: list[Effect] = []
    for remedy in rule.remedies(e):
        effects.append(_effect(lab, rule, remedy, base, SEEDS[:1]))
        if effects[-1].gain >= rule.worth and effects[-1].after.train.learned > ENOUGH:
            break  # nothing left for another remedy to do better
    effects.sort(key=lambda effect: -effect.gain)
    if effects and (effects[0].gain >= rule.worth / 2 or rule.measure == "unchanged"):
        effects[0] = _effect(lab, rule, effects[0].remedy, base, SEEDS)
    return Case(rule, suspicion, tuple(effects)) if effects else None


def _effect(lab: Laboratory, rule: Rule, remedy: Remedy, base: Remedy, seeds: Iterable[int]) -> Effect:
    changed = base | remedy
    pairs = [(lab.replay(base, seed), lab.replay(changed, seed)) for seed in seeds]

    def gain(before: Replay, after: Replay) -> float:
        if rule.measure == "trusted":
            return lab.trusted(changed, after).learned - lab.trusted(base, before).learned
        return _GAINS[rule.measure](before, after)

    gains, reached = (tuple(gain(b, a) for b, a in p) for p in (pairs, [(pairs[0][0], a) for _, a in pairs]))
    return Effect(remedy, base, gains, reached, *pairs[0])


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
    cases = tested(lab, e, symptoms=False)
    if not any(case.confirmed for case in cases):  # a symptom is worth a report only where no cause was found
        cases += tested(lab, e, symptoms=True)
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
