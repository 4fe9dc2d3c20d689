"""Verification finds what is wrong - in rules, in gradients, in machine code - and nothing else."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from tests.explain.wrong_rules import WRONG, Wrong, mutant
from tests.op_table import CASES

import chainrule as cr
from chainrule import graph, nn, ops
from chainrule.compiler.runtime import native
from chainrule.compiler.runtime.units import Pool
from chainrule.errors import DtypeError, SettingError, ShapeError
from chainrule.explain.verify import check_op, check_rule, rules
from chainrule.explain.verify.application import results_of
from chainrule.explain.verify.laws import broken_law
from chainrule.explain.verify.slopes import slopes, without_kinks_nearby
from chainrule.explain.verify.trials import trials
from chainrule.nn import functional as F
from chainrule.ops import elementwise as ew
from chainrule.several import RESULT

# -- rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_rule_is_found(wrong):
    found = next((check for check in check_op(mutant(wrong)) if not check), None)
    assert str(found).startswith(f"{wrong.op}, argument {wrong.argument}")


def test_there_are_enough_wrong_rules():
    assert len(WRONG) >= 40
    assert len({wrong.op for wrong in WRONG}) >= 25


@pytest.mark.parametrize("op", list(ops.ALL.values()), ids=lambda op: op.name)
def test_no_right_rule_is_accused(op):
    for check in check_op(op):
        assert check, check
        assert check.compared


WITHOUT = {
    "eq", "ne", "lt", "le", "gt", "ge", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "shift_left",
    "shift_right", "bitcast", "argmax", "argmin", "check_index", "random_bits", "iota", "detach",
}  # fmt: skip


def test_every_op_with_a_derivative_has_trials():
    assert {name for name, op in ops.ALL.items() if not any(map(trials, results_of(op)))} == WITHOUT


def test_trials_stand_at_ties_kinks_and_saturation():
    (line,) = trials(ew.relu)[0].arrays
    assert {0.0, 1.0, -1.0, 40.0, -40.0, 700.0, -700.0} <= set(line)
    a, b = trials(ew.maximum)[0].arrays
    assert (a == b).sum() > 10


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=str)
def test_no_false_alarm_on_the_ops_of_the_op_table(case):
    tensors = [cr.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f") for x in case.inputs]
    for node in graph.toposort([case.ours(*tensors)._node]):
        if node.inputs and node.op not in (ew.detach, RESULT):
            for op in results_of(node.op):
                check = check_rule(op, [source.value for source in node.inputs], node.params)
                assert check, check


@pytest.mark.parametrize("seed", range(20))
def test_no_false_alarm_near_kinks(seed):
    """Data that nearly tie: values cannot tell on which side they stand, so either slope passes."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((4, 5))
    b = a + rng.choice([0, 1e-15, 1e-9, 1e-4, 1e-2], a.shape)
    for op in (ew.maximum, ew.minimum):
        assert check_rule(op, (a, b), {})
    assert check_rule(ops.ALL["amax"], (np.concatenate([a, b], 1),), {"dims": (1,)})
    assert check_rule(ew.relu, (rng.choice([0, 1e-200, -1e-12, 1e-7, -1e-3], (4, 5)),), {})


def test_what_a_failure_says():
    check = check_rule(mutant(Wrong("sin", 0, "", lambda dY, Y, x: dY)), (np.array([0.0, 1.0]),), {})
    assert str(check) == ("sin, argument 0, element [1], x = 1: the rule gives 1.925695544, values give 1.040457743")
    check = check_rule(mutant(Wrong("relu", 0, "", lambda dY, Y, x: dY)), (np.array([0.0]),), {}, exact_ties=True)
    assert str(check) == (
        "relu, argument 0, element [0], x = 0: the rule gives 1.267732437, values give between 0 and 1.267732437 (a kink)"
    )
    check = check_rule(mutant(Wrong("sum", 0, "", lambda dY, Y, x, dims: dY + "a")), (np.ones((2, 2)),), {"dims": (0,)})
    assert str(check).startswith("sum, argument 0: the rule raised")


# -- laws ---------------------------------------------------------------------------------------------


LAWS = {
    "a gradient of dtype float64 for a float32 input": ("cast", lambda dY, Y, x, dtype: dY),
    "float32 inputs give another gradient than float64 ones": (
        "exp", lambda dY, Y, x: dY * Y if x.dtype is cr.float64 else dY,
    ),
    "-1.1e+12 times the upstream gradient does not give -1.1e+12 times the gradient": (
        "alias", lambda dY, Y, x: dY.clamp(-1e6, 1e6),
    ),
    "-9.09e-13 times the upstream gradient does not give -9.09e-13 times the gradient": (
        "alias", lambda dY, Y, x: dY.masked_fill(dY.abs() < 1e-6, 0),
    ),
    "elements in other order along axis 1, which the op does not heed, get other gradients": (
        "amax", lambda dY, Y, x, dims: dY.reshape(-1, 1) * (cr.arange(4) == x.argmax(1, keepdim=True)),
    ),
    "differentiated again it gives 0, its values give": ("exp", lambda dY, Y, x: (dY * Y).detach()),
    "the rule raised": ("exp", lambda dY, Y, x: dY * Y if x.dtype is cr.float64 else dY + "a"),
}  # fmt: skip


@pytest.mark.parametrize("law", LAWS)
def test_what_a_broken_law_says(law):
    name, rule = LAWS[law]
    params = {"cast": {"dtype": cr.float64}, "amax": {"dims": (1,)}}.get(name, {})
    arrays = (np.array([[1.0, 0.5, 1.0, -2.0], [2.0, 2.0, 2.0, 0.0]]),)
    assert broken_law(ops.ALL[name], arrays, params, ordinary=True) == ""
    found = broken_law(mutant(Wrong(name, 0, "", rule)), arrays, params, ordinary=True)
    assert found.startswith(f"{name}, argument 0: {law}")


def test_a_law_is_not_asked_of_an_op_that_it_does_not_hold_for():
    first = mutant(Wrong("permute", 0, "", lambda dY, Y, x, dims: dY.permute(dims)))  # heeds order: any gradient may
    assert broken_law(first, (np.ones((3, 3)),), {"dims": (1, 0)}, ordinary=False) == ""


# -- slopes -------------------------------------------------------------------------------------------


def test_slopes_of_smooth_kinked_and_jumping_functions():
    smooth = slopes(lambda t: np.exp(np.array([2.0]) + t))
    assert smooth.left[0] == smooth.right[0] == pytest.approx(np.exp(2.0), rel=1e-15)
    kinked = slopes(lambda t: np.abs(np.array([0.0, 1.0]) + t))
    np.testing.assert_array_equal(kinked.left, [-1, 1])
    np.testing.assert_array_equal(kinked.right, [1, 1])
    jumping = slopes(lambda t: np.floor(np.array([2.0]) + t))
    assert (jumping.left[0], jumping.right[0]) == (0, 0)


def test_a_kink_beside_a_point_is_told_from_one_at_it():
    def line(t):
        return np.abs(np.array([0.0, 1e-6, -1e-6, 1.0]) + t)

    found = slopes(line)
    assert found.kink.tolist() == [True, True, True, False]
    found = without_kinks_nearby(line, found)
    assert found.kink.tolist() == [True, False, False, False]
    np.testing.assert_allclose(found.left, [-1, 1, -1, 1], rtol=1e-6)


def test_the_end_of_a_domain_may_be_near():
    near = slopes(lambda t: np.log1p(np.array([-0.999]) + t))
    assert near.left[0] == pytest.approx(1 / (1 - 0.999), rel=1e-12)


# -- networks -----------------------------------------------------------------------------------------


@pytest.fixture
def data():
    X, y = cr.data.load("digits").train
    return X, y


def network(activation: nn.Module) -> nn.Module:
    cr.manual_seed(3)
    return nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 12), activation, nn.Linear(12, 10))


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.ELU(), nn.Softplus(), nn.LeakyReLU()]
)
def test_a_right_network_holds(activation, data):
    model = network(activation)
    before = [p.detach().numpy().copy() for p in model.parameters()]
    state = cr.default_generator.get_state().tolist()
    found = model.verify(*data)
    assert found, str(found)
    assert {v.section for v in found.verdicts} == {"rules", "gradient", "adjoint", "compiled"}
    assert {v.subject for v in found.of("gradient")} == {"1.weight", "1.bias", "3.weight", "3.bias"}
    for p, was in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), was)
    assert cr.default_generator.get_state().tolist() == state


def test_regression_and_a_loss_of_ones_own(data):
    model = nn.Sequential(nn.Linear(64, 5), nn.Sigmoid(), nn.Linear(5, 1))
    y = data[1][:, None] / 10
    assert model.verify(data[0], y)
    assert model.verify(data[0], y, loss=lambda out, target: (out - target).abs().mean())


def test_a_wrong_rule_is_found_in_the_rules_and_in_the_gradient(data, monkeypatch):
    model = network(nn.Tanh())
    right = ew.tanh.vjp
    object.__setattr__(ew.tanh, "vjp", (lambda dY, Y, x: dY * (1 - Y),))
    try:
        found = model.verify(*data)
    finally:
        object.__setattr__(ew.tanh, "vjp", right)
    assert not found
    failing = {(v.section, v.subject) for v in found.failing}
    assert {("rules", "tanh"), ("gradient", "1.weight")} <= failing
    assert not {("gradient", "3.weight"), ("rules", "matmul"), ("compiled", "1.weight")} & failing
    assert "in layer 'Sequential.2'" in next(v.detail for v in found.failing if v.section == "rules")


def test_a_custom_derivative_is_left_to_its_author_but_a_wrong_gradient_is_seen(data):
    wrong = cr.custom_vjp(lambda x: x * x, lambda dY, Y, x: dY * x)

    class Squares(nn.Module):
        def forward(self, x):
            return wrong(x)

    found = network(Squares()).verify(*data)
    assert [v.state for v in found.of("rules") if v.subject == "custom"] == ["open"]
    assert {v.subject for v in found.failing} >= {"1.weight", "1.bias"}


def test_wrong_machine_code_is_found(data, monkeypatch, tmp_path):
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(native, "_pool", Pool())
    right = ew.tanh.lower
    object.__setattr__(ew.tanh, "lower", lambda e, x: e.sin(x))
    try:
        found = network(nn.Tanh()).verify(*data)
    finally:
        object.__setattr__(ew.tanh, "lower", right)
    assert {v.section for v in found.failing} == {"compiled"}


# -- networks that draw --------------------------------------------------------------------------------

ELSEWHERE = cr.Generator(5)
DRAWS = {
    "randn": lambda z, _: z + cr.randn(*z.shape),
    "randn_like": lambda z, _: z + cr.randn_like(z),
    "as a factor": lambda z, _: z @ cr.randn(4, 4),
    "rand": lambda z, _: z * cr.rand(*z.shape),
    "rand_like": lambda z, _: z * cr.rand_like(z),
    "dropout": lambda z, _: F.dropout(z, 0.4),
    "bernoulli": lambda z, _: z * cr.bernoulli(cr.full(z.shape, 0.3)),
    "bernoulli of a parameter": lambda z, _: z * cr.bernoulli(z.sigmoid()),
    "randint": lambda z, _: z * cr.randint(1, 5, z.shape),
    "randint of a wide range": lambda z, _: z * (cr.randint(0, 2**31, z.shape) / 2.0**31).to(z.dtype),
    "indices": lambda z, _: z[:, cr.randint(0, 4, (4,))],
    "in place": lambda z, _: z + cr.zeros(*z.shape).normal_() + cr.zeros(*z.shape).uniform_(),
    "bernoulli in place": lambda z, _: z * cr.zeros(*z.shape).bernoulli_(0.3),
    "in float64": lambda z, _: z + cr.randn(*z.shape, dtype=cr.float64).to(z.dtype),
    "a generator of the model's": lambda z, own: z + cr.randn(*z.shape, generator=own),
    "a generator of the module's": lambda z, _: z + cr.randn(*z.shape, generator=ELSEWHERE),
    "a new generator": lambda z, _: z + cr.randn(*z.shape, generator=cr.Generator(2)),
    "two in turn": lambda z, own: z + cr.randn_like(z, generator=own) * cr.rand_like(z) + cr.randn_like(z),
}


class Noisy(nn.Module):
    """An autoencoder that reads its code through noise; `slope` is to be wrong where a test says so."""

    def __init__(self, draw, activation=cr.tanh):
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 6)
        self.draw, self.own, self.activation = draw, cr.Generator(3), activation

    def forward(self, x):
        return self.last(self.draw(self.activation(self.first(x)), self.own))


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_network_that_draws_is_verified_under_one_noise(draw, rows):
    cr.manual_seed(0)
    model = Noisy(draw)
    before = [g.get_state().tolist() for g in (cr.default_generator, model.own, ELSEWHERE)]
    found = model.verify(rows, rows)
    assert found, str(found)
    assert all(v.state == "holds" for v in found.verdicts), str(found)
    far = [v.detail for v in found.of("compiled") if "ulp" in v.detail and float(v.detail.split()[0]) > 100]
    assert not far, far  # nothing holds only because the noise differs
    assert [g.get_state().tolist() for g in (cr.default_generator, model.own, ELSEWHERE)] == before


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_wrong_derivative_is_found_in_a_network_that_draws(draw, rows):
    wrong = cr.custom_vjp(lambda x: x.tanh(), lambda dY, Y, x: dY * (1 - Y * Y) * 1.0001)
    cr.manual_seed(0)
    failing = {(v.section, v.subject) for v in Noisy(draw, wrong).verify(rows, rows).failing}
    assert {("gradient", "first.weight"), ("gradient", "first.bias")} <= failing
    assert not {("gradient", "last.weight"), ("gradient", "last.bias")} & failing


def test_wrong_machine_code_is_found_beside_normal_noise(rows, monkeypatch, tmp_path):
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(native, "_pool", Pool())
    right = ew.tanh.lower
    object.__setattr__(ew.tanh, "lower", lambda e, x: right(e, right(e, x)))
    try:
        found = Noisy(DRAWS["randn_like"]).verify(rows, rows)
    finally:
        object.__setattr__(ew.tanh, "lower", right)
    assert {v.section for v in found.failing} == {"compiled"}
    assert {"loss", "last.weight", "loss in float64", "outputs in float64"} <= {v.subject for v in found.failing}


def test_bad_input(data):
    with pytest.raises(SettingError) as caught:
        nn.Flatten().verify(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))
    assert str(caught.value) == (
        "verify: the model has no parameter that requires grad. Unfreeze one (requires_grad_())."
    )
    with pytest.raises(ShapeError, match=r"Linear '1' \(in_features=64\): the last axis"):
        network(nn.Tanh()).verify(data[0][:, :60], data[1])


# -- the report ---------------------------------------------------------------------------------------


def test_the_report_is_text_a_table_and_a_truth_value():
    found = rules()
    assert found
    text = str(found)
    assert text.startswith("derivative rules, by complex step or differences, tails in float32 too\n  holds  add")
    assert text.endswith(f"{len(found.verdicts)} holds, 0 fail, 0 open")
    assert json.loads(json.dumps(found.as_dict()))["ok"] is True


class _Of32(nn.Module):
    """Its first state is float32 whatever the input is."""

    def __init__(self) -> None:
        super().__init__()
        self.h = nn.Linear(4, 4)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return cr.tanh(self.h(cr.zeros(len(x), 4)) + x)


def test_a_model_that_runs_in_float32_alone_is_told_what_to_mend():
    with pytest.raises(DtypeError) as caught:
        _Of32().verify(np.ones((6, 4), np.float32), np.ones((6, 4), np.float32))
    assert re.sub(r"\.py:\d+", ".py:#", str(caught.value)) == (
        "verify: the model is run in float64 too, to compare with, and does not in that: linear in layer '_Of32.h' (test_verify.py:# "
        "in forward): input and weight must have one dtype, got float32 and float64. Convert the input with cr.as_tensor(input, "
        "dtype=cr.float64), or the model with model.to(cr.float32). What forward makes must have its input's dtype: "
        "cr.zeros(..., dtype=x.dtype)."
    )
