"""Verification: derivative rules against values, whole gradients both ways, compiled steps against NumPy."""

from __future__ import annotations

from functools import lru_cache

from chainrule import ops
from chainrule.explain.verify.network import verify
from chainrule.explain.verify.report import Verdict, Verification, joined
from chainrule.explain.verify.rules import RuleCheck, check_rule
from chainrule.explain.verify.trials import trials
from chainrule.graph import Op

__all__ = ["RuleCheck", "Verdict", "Verification", "check_op", "check_rule", "joined", "rules", "verify"]


def check_op(op: Op) -> list[RuleCheck]:
    """The op's derivative rule on every trial there is for it, edges included; none for an op without derivative."""
    return [check_rule(op, trial.arrays, trial.params, exact_ties=True) for trial in trials(op)]


@lru_cache(maxsize=1)
def rules() -> Verification:
    """Every op's derivative rule on its trials (about a third of a second, once a process).

    >>> bool(rules())
    True
    """
    found = []
    for name, op in ops.ALL.items():
        checks = check_op(op)
        if checks:
            failing = next((check for check in checks if not check), None)
            agree = f"{sum(check.compared for check in checks)} derivatives agree"
            state, detail = ("holds", agree) if failing is None else ("fails", str(failing))
            found.append(Verdict("rules", name, state, detail))
    return Verification(tuple(found))
