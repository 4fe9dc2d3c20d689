"""Verification: derivative rules against values, whole gradients both ways, compiled steps against NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from chainrule import ops
from chainrule.explain.verify.application import results_of
from chainrule.explain.verify.functions import check_functions
from chainrule.explain.verify.laws import broken_law
from chainrule.explain.verify.network import verify
from chainrule.explain.verify.report import Verdict, Verification, joined
from chainrule.explain.verify.rules import RuleCheck, check_rule
from chainrule.explain.verify.structured import Trial
from chainrule.explain.verify.tails import check_tails
from chainrule.explain.verify.trials import trials
from chainrule.graph import Op

__all__ = ["RuleCheck", "Verdict", "Verification", "check_op", "check_rule", "joined", "rules", "verify"]


LAWFUL = 4  # ordinary trials of an op on which the laws of every rule are tried


def check_op(op: Op) -> Iterator[RuleCheck]:
    """The op's derivative rule on every trial there is for it, edges and tails included; none without a derivative."""
    for one in results_of(op):
        yield from _check_one(one)


def _check_one(op: Op) -> Iterator[RuleCheck]:
    found = trials(op)
    ordinary = [i for i, trial in enumerate(found) if trial.ordinary]
    chosen = ordinary[:: max(1, len(ordinary) // LAWFUL)]
    for i, trial in enumerate(found):
        yield _checked(op, trial, i in chosen)
    yield from check_tails(op)


def _checked(op: Op, trial: Trial, ordinary: bool) -> RuleCheck:
    """Against slopes; then, if it agrees, by the laws of every rule."""
    check = check_rule(op, trial.arrays, trial.params, exact_ties=True, one_by_one=trial.one_by_one)
    if not check:  # which element it is shows if each moves by itself
        return check_rule(op, trial.arrays, trial.params, exact_ties=True)
    return replace(check, failure=broken_law(op, trial.arrays, trial.params, ordinary))


@lru_cache(maxsize=1)
def rules() -> Verification:
    """Every op's derivative rule on its trials, then activations and losses (about two seconds, once a process).

    >>> bool(rules())
    True
    """
    found = [_verdict("rules", checks) for op in ops.ALL.values() if (checks := list(check_op(op)))]
    return Verification((*found, *(_verdict("functions", [check]) for check in check_functions())))


def _verdict(section: str, checks: list[RuleCheck]) -> Verdict:
    failing = next((check for check in checks if not check), None)
    if failing is not None:
        return Verdict(section, failing.op, "fails", str(failing))
    count = sum(check.compared for check in checks)
    return Verdict(
        section, checks[0].op, "holds", f"{count} {'derivatives' if section == 'rules' else 'numbers'} agree"
    )
