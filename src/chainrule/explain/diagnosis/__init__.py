"""Diagnosis: what is wrong with a training run, every finding confirmed by an experiment.

Rules look at evidence and raise suspicions; each is tested by replaying the run from its first weights on the
same batches with the remedy applied, beside the replay as it was; only remedies with a large and certain effect
are reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chainrule.training.explained import Explainer

if TYPE_CHECKING:
    from chainrule.explain.diagnosis.report import Diagnosis


def diagnose(trainer: Any) -> Diagnosis:
    """`Trainer.diagnose`; the rooms of the diagnosis are imported when it is first used."""
    from chainrule.explain.diagnosis.diagnose import diagnose

    return diagnose(trainer)


Explainer.diagnose = staticmethod(diagnose)
