"""Explanation: what stands here is offered as methods of rooms to the left, and imported when first called."""

from __future__ import annotations

from typing import Any

from chainrule.explain.moment import Moment
from chainrule.explain.runs import Run, load_run, run_of
from chainrule.nn.module import Later
from chainrule.training.explained import Explainer


def _verify(*args: Any) -> Any:
    from chainrule.explain.verify import verify

    return verify(*args)


def _report(*args: Any, **options: Any) -> Any:
    from chainrule.explain.report import report

    return report(*args, **options)


def _diagnose(*args: Any) -> Any:
    from chainrule.explain.diagnosis import diagnose

    return diagnose(*args)


Later.verify = staticmethod(_verify)
Explainer.diagnose = staticmethod(_diagnose)
Explainer.run = staticmethod(run_of)
Explainer.report = staticmethod(_report)

__all__ = ["Moment", "Run", "load_run"]
