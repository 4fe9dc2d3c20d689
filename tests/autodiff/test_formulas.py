"""What stands in for a derivative rule in an eager backward pass: the same NumPy calls, for that op and those types."""

import signal
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from tests.op_table import CASES, Case

import chainrule as cr
from chainrule import graph
from chainrule.autodiff import formulas, walk
from chainrule.dtypes import DType
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import apply

DIFFERENTIABLE = [case for case in CASES if any(np.asarray(x).dtype.kind == "f" for x in case.inputs)]


def gradients(case: Case, dtype, scale):
    """By every floating input, of a sum with weights; the second time as the first left it."""
    found = []
    for _ in range(2):
        tensors = [cr.tensor(x) for x in case.inputs]
        given = [x.to(dtype) * scale if x.dtype.is_floating_point else x for x in tensors]
        leaves = [x.detach().requires_grad_() if x.dtype.is_floating_point else x for x in given]
        y = case.ours(*leaves)
        if not y.requires_grad:
            return []
        weights = np.random.default_rng(5).uniform(0.5, 1.5, y.shape)
        y.backward(cr.tensor(weights, dtype=y.dtype))
        found.append([x.grad.double().numpy() for x in leaves if x.requires_grad and x.grad is not None])
    return [value for once in found for value in once]


@pytest.mark.at_once("bits: a compiled program's last ones are others than NumPy's")
@pytest.mark.parametrize("dtype", [cr.float32, cr.float64, cr.bfloat16], ids=str)
def test_a_formula_gives_the_bits_of_its_rules(dtype):
    traced, by_formula = [], mock.Mock(wraps=formulas.Formula.products)
    for case in DIFFERENTIABLE:
        for scale in (1.0, 1e4) if dtype is cr.float32 else (1.0,):
            with mock.patch.object(formulas.Formula, "products", lambda *given: by_formula(*given)):
                mine = gradients(case, dtype, scale)
            with mock.patch.object(walk, "formula_of", return_value=None):
                right = gradients(case, dtype, scale)
            assert [x.tobytes() for x in mine] == [x.tobytes() for x in right], case
            assert [(x.shape, x.dtype) for x in mine] == [(x.shape, x.dtype) for x in right], case
            traced.append(by_formula.call_count > 0)
            by_formula.reset_mock()
    assert sum(traced) > 0.8 * len(traced)


@pytest.mark.at_once("what waits is not differentiated by formulas")
def test_a_kind_that_is_met_once_is_not_traced():
    """Where lengths vary, tracing would take longer than all the rest."""
    with mock.patch.object(formulas, "_traced", wraps=formulas._traced) as traced:
        for met in range(3):
            x = cr.full((17, 23), 0.5, requires_grad=True)
            x.exp().sin().sum().backward()
            assert (traced.call_count > 0) == (met > 0)


def test_params_tell_a_formula_apart_whatever_their_numbers_types():
    """0.0 and -0.0, or 1 and 1.0, are one key: so a param is a size, a place, a dtype, and a number that counts is an input."""
    with mock.patch.object(graph, "type_of", wraps=graph.type_of) as asked:
        for case in CASES:
            case.ours(*map(cr.tensor, case.inputs))
    found = [
        value
        for (op, _, params), _ in asked.call_args_list
        for value in params.values()
        if op.types is not None and op.name not in ("const", "random_bits")
    ]
    flat = [item for value in found for item in (value if isinstance(value, tuple) else (value,))]
    assert {type(item) for item in flat} <= {int, bool, DType}


def test_rules_put_in_the_place_of_others_are_asked():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    apply(ew.exp, x).sum().backward()
    wrong = replace(ew.exp, vjp=(lambda dY, Y, x: dY * 3,))
    x.grad = None
    apply(wrong, x).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    x.grad = None
    apply(ew.exp, x).sum().backward()
    assert np.allclose(x.grad.numpy(), np.exp([1.0, 2.0]))


def test_a_rule_that_asks_for_values_is_asked_each_time():
    asked = []

    def rule(dY, Y, x):
        asked.append(float(x.sum().item()))
        return dY * asked[-1]

    op = replace(ew.exp, vjp=(rule,), types={})
    for scale in (1.0, 2.0):
        x = cr.tensor([scale, 0.0], requires_grad=True)
        apply(op, x).sum().backward()
        assert x.grad.tolist() == [scale, scale]
    assert asked == [1.0, 2.0]


def test_a_rule_over_a_tensor_of_its_own_is_asked_each_time():
    factor = cr.tensor(2.0)
    op = replace(ew.exp, vjp=(lambda dY, Y, x: dY * factor,), types={})
    for scale in (2.0, 5.0):
        factor.fill_(scale)
        x = cr.ones(2, requires_grad=True)
        apply(op, x).sum().backward()
        assert x.grad.tolist() == [scale, scale]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals of the user's own")
def test_a_signal_in_the_middle_of_a_rule_s_first_time_computes_as_ever():
    seen = []

    def rule(dY, Y, x):
        signal.raise_signal(signal.SIGUSR1)
        return dY * 3

    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(cr.ones(3).sum().item()))
    try:
        x = cr.ones(2, requires_grad=True)
        apply(replace(ew.exp, vjp=(rule,), types={}), x).sum().backward()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [3.0] and x.grad.tolist() == [3.0, 3.0]


def test_shapes_and_which_inputs_need_a_gradient_tell_formulas_apart():
    for shape in ((3,), (2, 3), (1,)):
        for which in ((True, True), (True, False), (False, True)):
            a, b = (cr.full(size, 2.0, requires_grad=needs) for size, needs in zip(((2, 3), shape), which, strict=True))
            (a * b).sum().backward()
            assert (a.grad is not None, b.grad is not None) == which
            assert all(x.grad.shape == x.shape for x, needs in zip((a, b), which, strict=True) if needs)
            assert not which[1] or b.grad.numpy().sum() == 12
