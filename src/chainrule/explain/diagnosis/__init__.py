"""Diagnosis: what is wrong with a training run, every finding confirmed by an experiment.

Rules look at evidence and raise suspicions; each is tested by replaying the run from its first weights on the
same batches with the remedy applied, beside the replay as it was; only remedies with a large and certain effect
are reported.
"""

from __future__ import annotations

from typing import Any

from chainrule.explain.diagnosis import evidence, notes, report, trial
from chainrule.explain.diagnosis.experiment import Laboratory
from chainrule.explain.diagnosis.report import Diagnosis, Experiment, Finding
from chainrule.explain.diagnosis.rules import RULES
from chainrule.explain.diagnosis.rules.poor import badness

__all__ = ["Diagnosis", "Experiment", "Finding", "diagnose"]


def diagnose(trainer: Any) -> Diagnosis:
    """What is wrong with the trainer's latest `fit`, each finding confirmed by experiment.

    Args:
        trainer: a `chainrule.Trainer` that has fitted; it is left as it was.

    Raises:
        SettingError: nothing was fitted, or the training was only loaded from a file.
        DataError: the rows were changed in place since `fit`.
    """
    with Laboratory(trainer) as lab:
        e = evidence.gather(lab)
        found, cases = trial.judged(lab, e)
        bad = "" if found else badness(e)
        return Diagnosis(
            findings=[report.finding(case, cases, lab) for case in found],
            bad=bad,
            tried=report.experiments(cases, lab) if bad else [],
            checked=list(RULES),
            suspected=[case.rule.name for case in cases],
            summary=_summary(e),
            replays=lab.replays,
            exact=e.exact,
            notes=notes.of(e),
        )


def _summary(e: evidence.Evidence) -> str:
    held_out = "validation rows" if e.lab.validated else "rows held out"
    return f"The run ends at {e.trained} on its training rows and {e.tested} on {held_out}."
