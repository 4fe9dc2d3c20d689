"""Trials: a suspicion becomes a finding only by an experiment, and experiments rank the findings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.experiment import AS_IT_WAS, Laboratory, Rerun
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules import RULES, Rule, Suspicion
from chainrule.explain.diagnosis.task import Score

SEEDS = (0, 1, 2)  # of the replays that confirm; 0 is the run's own
NEARLY = 0.7  # remedies that reach this part of the best one's effect do about as well
SAME = 0.85  # of remedies that reach this part of the best one's effect, the one that changes least is tried first
HARM = -0.02  # what a remedy may cost on rows held out
UNCHANGED = 0.05  # of a control
ENOUGH = 0.97  # learned, so that no further remedy is tried
SURE = 1.64  # standard errors: one-sided, 5 %
FAR = 10  # times the user's loss: beyond what balanced classes or a bolder network cost it
SYMPTOM = 5  # the rank from which on a rule speaks of symptoms


class Gain(NamedTuple):
    """After minus before, with its standard error over the rows, which are compared one by one."""

    value: float
    error: float
    held_out: bool


@dataclass(frozen=True)
class Effect:
    """What a remedy changed, in the measure of the rule, over pairs of replays with the same seed.

    Attributes:
        remedy: on top of `base`.
        gains: after minus before for each seed, the run's own first.
        reached: after with each seed, minus before with the run's own.
        before, after: the replays with the run's own seed.
        error: of the first gain, its standard error: over its rows, and over the orders of the rows that were tried.
        held_out: whether the first gain is one on rows held out.
    """

    remedy: Remedy
    base: Remedy
    gains: tuple[float, ...]
    reached: tuple[float, ...]
    before: Rerun = field(repr=False)
    after: Rerun = field(repr=False)
    error: float = 0.0
    held_out: bool = False

    @property
    def gain(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.gains))

    def certain(self, worth: float) -> bool:
        """Worth a report: it helps the run itself, and neither the rows held out nor the order of rows are why.

        The run's own replays differ in nothing but the remedy, but which rows there were and in which order they came is
        chance, on training rows too: the gain must be significant over both. With other seeds the remedy must reach as
        much on average, half as much each time, and help on average by half (the run may have been unlucky).
        """
        own = self.gains[0] >= worth and self.gains[0] > SURE * self.error
        lucky = min(self.reached) < worth / 2 or min(self.gains) < -worth / 2
        return bool(own and not lucky and np.mean(self.reached) >= worth and self.gain >= worth / 2)


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
    """The rule's remedies, each once; from the best on again with other seeds, until one of them is certain."""
    effects: list[Effect] = []
    for remedy in rule.remedies(e):
        effects.append(_effect(lab, e, rule, remedy, base, SEEDS[:1]))
        if effects[-1].gain >= rule.worth and effects[-1].after.train.learned > ENOUGH:
            break  # nothing left for another remedy to do better
    most = max((effect.gain for effect in effects), default=0.0)
    effects.sort(key=lambda e: (e.remedy.size if e.gain >= SAME * most else math.inf, -e.gain))
    for i, effect in enumerate(effects):
        if effect.gain < rule.worth and rule.measure != "unchanged":
            break
        effects[i] = _effect(lab, e, rule, effect.remedy, base, SEEDS)
        if effects[i].certain(rule.worth):
            effects.insert(0, effects.pop(i))
            break
    return Case(rule, suspicion, tuple(effects)) if effects else None


def _effect(lab: Laboratory, e: Evidence, rule: Rule, remedy: Remedy, base: Remedy, seeds: Iterable[int]) -> Effect:
    changed = base | remedy
    pairs = [(lab.replay(base, seed), lab.replay(changed, seed)) for seed in seeds]

    def gain(before: Rerun, after: Rerun) -> Gain:
        if rule.measure == "trusted":
            trusted = e.labels.trusted
            return _paired(
                "learned", lab.held_out_score(base, before, trusted), lab.held_out_score(changed, after, trusted)
            )
        found = _GAINS[rule.measure](before, after)
        return found._replace(value=min(found.value, 0.0)) if _lost(before, after) else found

    gains = [gain(before, after) for before, after in pairs]
    reached = tuple(gain(pairs[0][0], after).value for _, after in pairs)
    values = tuple(g.value for g in gains)
    error = math.hypot(gains[0].error, _spread(values))
    return Effect(remedy, base, values, reached, *pairs[0], error, gains[0].held_out)


def _lost(before: Rerun, after: Rerun) -> bool:
    """Is the user's own loss far worse than before, and than untrained? Then no number of right rows is a gain."""
    own = after.train.own
    return bool(own > FAR * before.train.own and own > 2 * abs(before.losses[0]))


def _spread(values: tuple[float, ...]) -> float:
    """The standard error of their mean; 0 of a single one."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def _paired(name: str, before: Score, after: Score, held_out: bool = True) -> Gain:
    changes = after.by_row[name] - before.by_row[name]
    gain = float(getattr(after, name) - getattr(before, name))
    return Gain(gain, float(np.std(changes) / max(1, len(changes)) ** 0.5), held_out)


def _on_rows_held_out(name: str, before: Rerun, after: Rerun) -> Gain:
    return _paired(name, before.val, after.val)


def _on_training_rows(name: str, before: Rerun, after: Rerun) -> Gain:
    """What a remedy adds on the training rows; if it costs anything on rows held out, that counts instead."""
    trained = _paired(name, before.train, after.train, held_out=False)
    held_out = _on_rows_held_out(name, before, after)
    return held_out if held_out.value + held_out.error < HARM else trained


def _on_either(before: Rerun, after: Rerun) -> Gain:
    """The larger gain; if the remedy costs anything on the other rows, that counts instead."""
    trained = _paired("learned", before.train, after.train, held_out=False)
    held_out = _on_rows_held_out("learned", before, after)
    costly = min(trained.value, held_out.value + held_out.error) < HARM
    return min(trained, held_out) if costly else max(trained, held_out)


_GAINS: dict[str, Callable[[Rerun, Rerun], Gain]] = {
    "learned": partial(_on_training_rows, "learned"),
    "right": partial(_on_training_rows, "right"),
    "either": _on_either,
    "held_out": partial(_on_rows_held_out, "learned"),
    "unchanged": partial(_on_rows_held_out, "learned"),
    "recall": partial(_on_rows_held_out, "recall"),
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
        again = [_again(lab, e, case, base) for case in left[1:]]
        left = ranked(again)
    return found, cases


def _again(lab: Laboratory, e: Evidence, case: Case, base: Remedy) -> Case:
    """The case's best remedy on top of others."""
    effect = _effect(lab, e, case.rule, case.best.remedy, base, SEEDS)
    return replace(case, effects=(effect, *case.effects[1:]))
