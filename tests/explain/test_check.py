"""check_gradients finds wrong rules and leaves right ones alone."""

import math

import numpy as np
import pytest
from tests.op_table import CASES

import chainrule as cr
from chainrule.errors import GradientError

rng = np.random.default_rng(3)
x = cr.tensor(rng.uniform(0.5, 2.0, (3, 4)))
WRONG = {
    "sign": (lambda x: x.cos(), lambda dY, Y, x: dY * x.sin()),
    "factor": (lambda x: x * x, lambda dY, Y, x: dY * x),
    "small factor": (lambda x: x.erf(), lambda dY, Y, x: dY * 1.1283 * (-x * x).exp()),
    "axis": (lambda x: x.sum(0), lambda dY, Y, x: (dY.sum() / 4).expand(x.shape)),
    "transposed": (lambda x: x @ x.mT, lambda dY, Y, x: 2 * dY @ x),
    "output for input": (lambda x: x.tanh(), lambda dY, Y, x: dY * (1 - x * x)),
    "one branch": (lambda x: cr.where(x > 1, x * x, x), lambda dY, Y, x: dY * cr.where(x > 1, x, cr.ones_like(x))),
    "no upstream": (lambda x: x.exp(), lambda dY, Y, x: Y),
    "missing term": (lambda x: x.softmax(1), lambda dY, Y, x: dY * Y),
    "NaN": (lambda x: x.sqrt(), lambda dY, Y, x: dY / (Y * 2) * math.nan),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_found(name):
    function = cr.custom_vjp(*WRONG[name])
    assert not cr.check_gradients(function, x, raise_exception=False)
    assert not cr.check_gradients(function, x, raise_exception=False, elements=0)
    with pytest.raises(GradientError, match=r"argument 0, element \[\d, \d\]: analytic .*, numeric .*, relative"):
        cr.check_gradients(function, x)


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=str)
def test_no_false_alarm_over_the_op_table(case):
    # Kinks in the table lie 0.05 and more away: differences must not reach over them.
    assert cr.check_gradients(case.ours, *map(cr.tensor, case.inputs), eps=1e-3)


def test_only_floating_inputs_are_checked():
    report = cr.check_gradients(lambda a, i: a[i], cr.tensor([1.0, 2.0]), cr.tensor([0, 0, 1]))
    assert {finding.argument for finding in report.findings} == {0}
    text = "check_gradients: needs a floating-point input, got none. Convert one with .double()."
    with pytest.raises(GradientError) as caught:
        cr.check_gradients(lambda i: i, cr.tensor([1]))
    assert str(caught.value) == text


def test_a_function_that_draws_is_checked_under_one_noise():
    own = cr.Generator(3)

    def noisy(x):
        return x.tanh() * cr.randn_like(x) + x * cr.rand(3, 4, generator=own).double()

    before = cr.default_generator.get_state().tolist()
    assert cr.check_gradients(noisy, x)
    assert (cr.default_generator.get_state().tolist(), own.get_state().tolist()) == (before, [3, 0])
    wrong = cr.custom_vjp(*WRONG["factor"])
    assert not cr.check_gradients(lambda x: wrong(x) * cr.rand_like(x), x, raise_exception=False)
