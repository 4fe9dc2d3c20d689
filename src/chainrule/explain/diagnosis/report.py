"""The report: findings that read as sentences, with their numbers, or the statement that nothing was found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from chainrule.explain.diagnosis.experiment import Laboratory
from chainrule.explain.diagnosis.rules import Rule
from chainrule.explain.diagnosis.trial import Case, Effect
from chainrule.nn.meaning import name_of

Array = np.ndarray[Any, Any]
WIDTH = 110
POINTS = 100  # of a curve


@dataclass(frozen=True)
class Experiment:
    """A remedy and what it changed: scores of the replay as it was and with the remedy, own seed; the mean gain.

    Attributes:
        remedy: in words.
        control: it is no remedy, but what must change nothing if the finding is right.
        gain: of the rule's measure, as a share of what there is to learn (0: a constant guess, 1: everything); the mean
            over `replays` orders of the rows.
        least: the smallest gain of them.
        error: the standard error of the run's own gain, over its rows and those orders.
        before, after: the scores of both replays, on the training rows and on rows held out.
        curves: the training loss of both replays: ``{"at": steps of the run as it was, "before", "after": the mean
            loss since the point before}``, None where a replay had stopped or was not finite.
    """

    remedy: str
    control: bool
    gain: float
    least: float
    error: float
    replays: int
    before: dict[str, Any]
    after: dict[str, Any]
    curves: dict[str, list[Any]]
    text: str

    @classmethod
    def of(cls, effect: Effect, rule: Rule, rate: float) -> Experiment:
        sides = [(r.val if effect.held_out else r.train) for r in (effect.before, effect.after)]
        rows = "rows held out" if effect.held_out else "training rows"
        before, after = (
            {"training": r.train.as_dict(), "held_out": r.val.as_dict()} for r in (effect.before, effect.after)
        )
        words, (was, now) = effect.remedy.words(rate), (side.text(rule.measure) for side in sides)
        gain, least, seeds = effect.gain, min(effect.gains), len(effect.gains)
        return cls(
            words, rule.measure == "unchanged", gain, least, effect.error, seeds, before, after, _curves(effect),
            f"{words}: {was} -> {now} ({rows})",
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "text"}


def _curves(effect: Effect) -> dict[str, list[Any]]:
    steps = len(effect.before.losses)
    at = np.unique(np.linspace(0, steps, min(POINTS, steps) + 1).round())
    before, after = (
        _means(replay.losses, remedy.stop, at / max(1, steps) * effect.base.stop)
        for replay, remedy in ((effect.before, effect.base), (effect.after, effect.base | effect.remedy))
    )
    return {"at": [int(step) for step in at[1:]], "before": before, "after": after}


def _means(losses: Array, stop: float, shares: Array) -> list[float | None]:
    """The mean loss between each two shares of the run; None beyond the share at which the replay stopped."""
    ends = np.linspace(0, stop, len(losses) + 1)
    sums = np.concatenate([[0.0], np.cumsum(losses, dtype=np.float64)]) * (stop / max(1, len(losses)))
    with np.errstate(all="ignore"):
        values = np.diff(np.interp(shares, ends, sums, right=np.nan)) / np.diff(shares)
    return [float(value) if np.isfinite(value) else None for value in values]


@dataclass(frozen=True)
class Finding:
    """One confirmed cause.

    Attributes:
        name, claim: the rule's.
        where: the layer or parameter; empty for the whole run.
        step: the first step at which the evidence was seen, from 0.
        evidence: in a sentence.
        why: why it happens, in a sentence.
        change: which line to change, and into what.
        remedy: the experiment that confirmed it.
        alternatives: other remedies and causes that were tried, with their effects.
    """

    name: str
    claim: str
    where: str
    step: int
    evidence: str
    why: str
    change: str
    remedy: Experiment
    alternatives: tuple[tuple[str, Experiment], ...]

    def as_dict(self) -> dict[str, Any]:
        others = [{"cause": name, **e.as_dict()} for name, e in self.alternatives]
        return {**self.__dict__, "remedy": self.remedy.as_dict(), "alternatives": others}


class Part(NamedTuple):
    """A paragraph, and how its first line and the rest are indented; an empty one is an empty line."""

    text: str = ""
    rest: str = ""
    first: str = ""

    def lines(self, width: int) -> list[str]:
        return textwrap.wrap(self.text, width, initial_indent=self.first, subsequent_indent=self.rest) or [""]


@dataclass(frozen=True)
class Diagnosis:
    """What `Trainer.diagnose` returns; print it.

    Attributes:
        findings: confirmed causes, the likeliest first.
        bad: what is bad about a run without findings, in a sentence; empty where nothing is.
        tried: the experiments of a run that is bad and has no findings: the rule that called for it, and what it gave.
        checked: the names of all rules that looked at the run.
        suspected: those that raised a suspicion, each of which was tested by replays.
        notes: what limits the diagnosis.
    """

    findings: list[Finding]
    bad: str
    tried: list[tuple[str, Experiment]]
    checked: list[str]
    suspected: list[str]
    summary: str
    replays: int
    exact: bool
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """True if something is wrong, whether its cause is known or not."""
        return bool(self.findings or self.bad)

    @property
    def verdict(self) -> str:
        """ "found", "unknown" (the run is bad, and no cause was found) or "nothing"."""
        return "found" if self.findings else "unknown" if self.bad else "nothing"

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain lists, dicts, strings and numbers."""
        findings = [finding.as_dict() for finding in self.findings]
        tried = [{"cause": name, **e.as_dict()} for name, e in self.tried]
        return {**self.__dict__, "verdict": self.verdict, "findings": findings, "tried": tried}

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        """The report in lines of at most `width` characters."""
        return "\n".join(line for part in self._parts() for line in part.lines(width))

    def _parts(self) -> Iterator[Part]:
        yield Part(f"{self._headline()} {self.summary}")
        for number, finding in enumerate(self.findings, 1):
            yield Part()
            yield from _finding(number, finding)
        if self.tried:
            yield Part()
            yield Part("What was tried, and what it gains of what there is to learn:")
            yield from _listed(self.tried)
        looked = f"{len(self.checked)} rules looked at the run"
        raised = (
            f"{len(self.suspected)} raised a suspicion ({_plainly(self.suspected)})"
            if self.suspected
            else "none suspects anything"
        )
        yield Part()
        yield Part(f"{looked}; {raised}. {self.replays} replays.")
        yield from (Part(note) for note in self.notes)

    def _headline(self) -> str:
        count = len(self.findings)
        if count:
            return f"{count} finding{'s' if count > 1 else ''}, the likeliest first."
        return f"This run is bad, and the cause is not known: {self.bad}." if self.bad else "Nothing wrong was found."


def _finding(number: int, finding: Finding) -> Iterator[Part]:
    where = f" ({finding.where})" if finding.where else ""
    seen = "before the first step" if finding.step == 0 else f"after step {finding.step}"
    yield Part(f"{number}. {finding.claim}{where}.", "   ")
    yield Part(f"Evidence, first seen {seen}: {finding.evidence}.", "   ", "   ")
    yield Part(f"Why: {finding.why}", "   ", "   ")
    yield Part(f"Change: {finding.change}", "   ", "   ")
    yield Part(_measured(finding.remedy), "   ", "   ")
    if finding.alternatives:
        yield Part("   Tried instead:")
        yield from _listed(finding.alternatives[:8])


def _measured(effect: Experiment) -> str:
    """The experiment in a sentence."""
    if effect.control:
        return (
            f"Measured by {effect.text}; over {effect.replays} orders of the rows nothing changes ({effect.gain:+.0%})."
        )
    gain = f"a gain of {effect.gain:.0%} of what there is to learn (at least {effect.least:.0%}"
    worse = effect.before["held_out" if "held out" in effect.text else "training"]["learned"]
    start = ", from worse than a constant guess" if worse is not None and worse < 0 else ""
    error = f", standard error {effect.error:.0%}" if effect.error >= 0.005 else ""
    return f"Remedy, measured: {effect.text}: {gain}{error}{start}), over {effect.replays} orders of the rows."


def _listed(tried: Sequence[tuple[str, Experiment]]) -> list[Part]:
    return [Part(f"- {_plainly([name])}: {e.text}, {e.gain:+.0%}", "     ", "   ") for name, e in tried]


def _plainly(names: list[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def finding(case: Case, cases: list[Case], lab: Laboratory) -> Finding:
    """A confirmed case as it is reported, with everything else that was tried."""
    rate = lab.rate
    others = [(case.rule.name, Experiment.of(effect, case.rule, rate)) for effect in case.effects[1:]]
    for other in cases:
        if other.rule is not case.rule:
            others += [(other.rule.name, Experiment.of(effect, other.rule, rate)) for effect in other.effects[:1]]
    s, rule = case.suspicion, case.rule
    best = Experiment.of(case.best, rule, rate)
    others = [pair for pair in _each_once(others) if pair[1].remedy != best.remedy]
    return Finding(rule.name, rule.claim, s.where, s.step, s.says, rule.why, _change(case, lab), best, tuple(others))


def experiments(cases: list[Case], lab: Laboratory) -> list[tuple[str, Experiment]]:
    """Everything that was tried, what helped most first."""
    found = [(c.rule.name, Experiment.of(effect, c.rule, lab.rate)) for c in cases for effect in c.effects]
    return _each_once(found)


def _each_once(tried: list[tuple[str, Experiment]]) -> list[tuple[str, Experiment]]:
    """What helped most first; a remedy that several rules call for stands there once."""
    found: dict[str, tuple[str, Experiment]] = {}
    for name, experiment in sorted(tried, key=lambda pair: -pair[1].gain):
        found.setdefault(experiment.remedy, (name, experiment))
    return list(found.values())


def _change(case: Case, lab: Laboratory) -> str:
    """The rule's advice with this run's names and numbers in it."""
    remedy = case.best.remedy
    return case.rule.change.format(
        optimizer=type(lab.optimizer).__name__, rate=(remedy.rate or lab.rate) * remedy.lr, batch=remedy.batch, epochs=round(lab.position.epoch * remedy.stop), dropout=remedy.dropout,
        decay=max(0.0, remedy.decay), norm=None if math.isinf(remedy.clip) else f"{remedy.clip:g}",
        where=case.suspicion.where, loss=name_of(lab.loss),
    )  # fmt: skip
