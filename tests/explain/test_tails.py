"""Rules that lose their digits where a function saturates are found, in the dtype and at the number where they do."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from tests.explain.wrong_rules import Wrong, mutant
from tests.explain.wrong_tails import WRONG_TAILS

import chainrule as cr
from chainrule import ops
from chainrule.explain.verify import check_op, check_rule
from chainrule.explain.verify.functions import FUNCTIONS, check_functions
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


# -- what is composed -------------------------------------------------------------------------------------


def _bce(x: cr.Tensor) -> cr.Tensor:
    return x.relu() - x + (x - x.relu() * 2).exp().log1p()


# Formulas that are right in the middle, some of them in wide use.
WRONG_FORMULAS = {
    "elu": ("elu", lambda x: x.where(x > 0, x.clamp(max=0.0).exp() - 1)),
    "gelu by erf": ("gelu", lambda x: x * 0.5 * ((x * math.sqrt(0.5)).erf() + 1)),
    "gelu by tanh": ("gelu, tanh", lambda x: x * 0.5 * ((x + 0.044715 * x**3) * math.sqrt(2 / math.pi)).tanh() + x * 0.5),
    "silu by tanh": ("silu", lambda x: x * 0.5 * ((x * 0.5).tanh() + 1)),
    "softplus": ("softplus", lambda x: (x.exp() + 1).log()),
    "softplus at infinity": ("softplus", lambda x: x.relu() + (x - x.relu() * 2).exp().log1p()),
    "logsigmoid": ("logsigmoid", lambda x: x.sigmoid().log()),
    "bce of a right answer": ("bce_with_logits, y = 1", lambda x: x.relu() - x + (1 + (-x.abs()).exp()).log()),
    "bce at infinity": ("bce_with_logits, y = 1", _bce),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_FORMULAS)
def test_a_formula_that_is_wrong_in_the_tail_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, formula = WRONG_FORMULAS[name]
    monkeypatch.setitem(FUNCTIONS, function, (formula, FUNCTIONS[function][1]))
    failing = [check for check in check_functions() if not check]
    assert [check.op for check in failing] == [function], failing
    assert re.match(rf"{re.escape(function)}, argument 0, (float|x = )", str(failing[0]))


def test_every_formula_of_ours_agrees() -> None:
    for check in check_functions():
        assert check, check
        assert check.compared > 200
