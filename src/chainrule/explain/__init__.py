"""What a network computed, and why: time travel, derivations, ledgers, what-ifs, checks."""

from chainrule.explain.check import check_gradients
from chainrule.explain.runs import Moment, Run, load_run, run_of
from chainrule.training.explained import Explainer

Explainer.run = staticmethod(run_of)

__all__ = ["Moment", "Run", "check_gradients", "load_run"]
