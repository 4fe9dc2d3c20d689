"""Rules that lose their digits where a function saturates are found, in the dtype and at the number where they do."""

from __future__ import annotations

import numpy as np
import pytest
from tests.explain.wrong_rules import Wrong, mutant
from tests.explain.wrong_tails import WRONG_TAILS

from chainrule import ops
from chainrule.explain.verify import check_op, check_rule
from chainrule.explain.verify.tails import LINE, PAIRS, check_tails
from chainrule.explain.verify.trials import trials
from chainrule.ops import elementwise as ew


@pytest.mark.parametrize("wrong", WRONG_TAILS, ids=str)
def test_a_rule_that_is_wrong_in_the_tail_is_found_there_and_nowhere_else(wrong: Wrong) -> None:
    found = next(check for check in check_op(mutant(wrong)) if not check)
    assert str(found).startswith(f"{wrong.op}, argument {wrong.argument}, float")


@pytest.mark.parametrize("wrong", WRONG_TAILS, ids=str)
def test_no_slope_in_float64_shows_it(wrong: Wrong) -> None:
    op = mutant(wrong)
    for trial in trials(op):
        assert check_rule(op, trial.arrays, trial.params, exact_ties=True, one_by_one=trial.one_by_one)


@pytest.mark.parametrize("op", [op for op in ops.ALL.values() if op.kind == "elementwise"], ids=lambda op: op.name)
def test_no_declared_rule_is_accused(op: ops.Op) -> None:
    for check in check_tails(op):
        assert check, check


def test_what_is_said_of_a_tail() -> None:
    wrong = next(wrong for wrong in WRONG_TAILS if str(wrong) == "sigmoid[0]: Y (1 - Y)")
    found = next(check for check in check_tails(mutant(wrong)) if not check)
    assert str(found) == "sigmoid, argument 0, float32, x = 17: the rule gives 0, values give 4.139937376e-08"


def test_a_wrong_limit_is_found() -> None:
    nowhere_else = mutant(Wrong("tanh", 0, "", lambda dY, Y, x: dY.where(x.isinf(), ew.tanh.vjp[0](dY, Y, x))))
    found = next(check for check in check_tails(nowhere_else) if not check)
    assert str(found) == "tanh, argument 0, x = inf: the rule gives 1, values give 0"


def test_the_numbers_reach_into_every_tail() -> None:
    for end in (10, 17, 20, 40, 88.5, 104, 680):
        assert {end, -end} <= set(LINE)
    assert np.abs(LINE).max() == 1e30
    assert (PAIRS[:, 0] != PAIRS[:, 1]).all()
