"""The report: findings that read as sentences, with their numbers, or the statement that nothing was found."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.explain.diagnosis.trial import Case, Effect

Array = np.ndarray[Any, Any]
WIDTH = 110
POINTS = 100  # of a curve


@dataclass(frozen=True)
class Experiment:
    """A remedy and what it changed: scores of the replay as it was and with the remedy, own seed; the mean gain.

    Attributes:
        remedy: in words.
        gain: of the rule's measure, a share of what there is to learn; the mean over `replays` seeds.
        least: the smallest gain of a seed.
        error: the standard error of the run's own gain, over the rows held out; 0 if it is one on training rows.
        before, after: the scores of both replays, on the training rows and on rows held out.
        curves: the training loss of both replays: ``{"at": steps of the run as it was, "before", "after": the mean
            loss since the point before}``, None where a replay had stopped or was not finite.
    """

    remedy: str
    gain: float
    least: float
    error: float
    replays: int
    before: dict[str, Any]
    after: dict[str, Any]
    curves: dict[str, list[Any]]
    text: str

    @classmethod
    def of(cls, effect: Effect) -> Experiment:
        sides = [(r.val if effect.held_out else r.train) for r in (effect.before, effect.after)]
        rows = "rows held out" if effect.held_out else "training rows"
        before, after = (
            {"training": r.train.as_dict(), "held_out": r.val.as_dict()} for r in (effect.before, effect.after)
        )
        text = f"{effect.remedy}: {sides[0]} -> {sides[1]} ({rows})"
        gain, least, seeds = effect.gain, min(effect.gains), len(effect.gains)
        return cls(str(effect.remedy), gain, least, effect.error, seeds, before, after, _curves(effect), text)

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
        remedy: the experiment that confirmed it.
        alternatives: other remedies and causes that were tried, with their effects.
    """

    name: str
    claim: str
    where: str
    step: int
    evidence: str
    remedy: Experiment
    alternatives: tuple[tuple[str, Experiment], ...]

    def as_dict(self) -> dict[str, Any]:
        others = [{"cause": name, **e.as_dict()} for name, e in self.alternatives]
        return {**self.__dict__, "remedy": self.remedy.as_dict(), "alternatives": others}


@dataclass(frozen=True)
class Diagnosis:
    """What `Trainer.diagnose` returns; print it.

    Attributes:
        findings: confirmed causes, the likeliest first; empty if nothing is wrong.
        checked: the names of all rules.
        suspected: those that raised a suspicion.
        notes: what limits the diagnosis.
    """

    findings: list[Finding]
    checked: list[str]
    suspected: list[str]
    summary: str
    replays: int
    exact: bool
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """True if something is wrong."""
        return bool(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain lists, dicts, strings and numbers."""
        return {**self.__dict__, "findings": [finding.as_dict() for finding in self.findings]}

    def __str__(self) -> str:
        return "\n".join(line for part in self._parts() for line in part)

    def _parts(self) -> Iterator[list[str]]:
        count = len(self.findings)
        verdict = (
            "Nothing wrong was found."
            if not count
            else f"{count} finding{'s' if count > 1 else ''}, the likeliest first."
        )
        yield _wrapped(f"{verdict} {self.summary}")
        for number, finding in enumerate(self.findings, 1):
            yield ["", *_finding(number, finding)]
        yield ["", *_wrapped(f"Checked by {self.replays} replays: {_plainly(self.checked)}.")]
        if not count and self.suspected:
            yield _wrapped(f"Suspected, but no remedy helped: {_plainly(self.suspected)}.")
        yield from (_wrapped(note) for note in self.notes)


def _finding(number: int, finding: Finding) -> list[str]:
    where = f" ({finding.where})" if finding.where else ""
    seen = "before the first step" if finding.step == 0 else f"after step {finding.step}"
    effect = finding.remedy
    lines = _wrapped(f"{number}. {finding.claim}{where}.", "   ")
    lines += _wrapped(f"Evidence, first seen {seen}: {finding.evidence}.", "   ", "   ")
    spread = f", standard error over the rows {effect.error:.0%}" if effect.error else ""
    lines += _wrapped(
        f"Remedy, measured: {effect.text}; over {effect.replays} seeds it changes what is learned by {effect.gain:+.0%} "
        f"(at least {effect.least:+.0%}{spread}).", "   ", "   ",
    )  # fmt: skip
    if finding.alternatives:
        lines.append("   Tried instead:")
        lines += [
            line for name, e in finding.alternatives[:8]
            for line in _wrapped(f"- {_plainly([name])}: {e.text}, {e.gain:+.0%}", "     ", "   ")
        ]  # fmt: skip
    return lines


def _wrapped(text: str, rest: str = "", first: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest)


def _plainly(names: list[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


def finding(case: Case, cases: list[Case]) -> Finding:
    """A confirmed case as it is reported, with everything else that was tried."""
    others = [(case.rule.name, Experiment.of(effect)) for effect in case.effects[1:]]
    for other in cases:
        if other.rule is not case.rule:
            others += [(other.rule.name, Experiment.of(effect)) for effect in other.effects[:1]]
    others.sort(key=lambda pair: -pair[1].gain)
    s = case.suspicion
    return Finding(case.rule.name, case.rule.claim, s.where, s.step, s.says, Experiment.of(case.best), tuple(others))
