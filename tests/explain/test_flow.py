"""Where the gradient went: gains telescope exactly, masks and slopes are told from weights, one op can be forced to one."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import GradientError


def digits_loss(model: nn.Module, rows: int = 16) -> cr.Tensor:
    X, y = cr.data.load("digits").train
    return F.cross_entropy(model(cr.tensor(X[:rows])), cr.tensor(y[:rows]))


def deep(activation: type[nn.Module], depth: int = 5) -> nn.Sequential:
    cr.manual_seed(0)
    layers = [layer for _ in range(depth) for layer in (nn.Linear(64, 64), activation())]
    return nn.Sequential(*layers, nn.Linear(64, 10))


class Residual(nn.Module):
    """Two roads for the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        normal = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt()
        return x + self.inner(normal).tanh()


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.ReLU, nn.GELU, Residual])
def test_gains_add_up_to_the_total_exactly(activation):
    cr.manual_seed(0)
    model = deep(activation)
    loss = digits_loss(model)
    for name, parameter in model.named_parameters():
        flow = cr.gradient_flow(loss, parameter, name)
        assert sum(step.gain for step in flow.gains) == flow.total
        for what in ("kind", "layer", "op"):
            assert sum(flow.by(what).values()) == flow.total
    loss.backward()
    norm = np.linalg.norm(parameter.grad.numpy().astype(np.float64))
    assert flow.total == pytest.approx(math.log2(norm), abs=1e-11)


def test_sigmoid_takes_two_bits_a_layer_and_relu_half_a_bit():
    for activation, expected in ((nn.Sigmoid, -2.0), (nn.ReLU, -0.5)):
        model = deep(activation)
        flow = cr.gradient_flow(digits_loss(model), model[0].weight, "0.weight")
        steps = [step for step in flow.gains if step.kind == "activation"]
        assert [step.layer for step in steps] == [f"Sequential.{i}" for i in (9, 7, 5, 3, 1)]
        assert np.mean([step.gain for step in steps]) == pytest.approx(expected, abs=0.1)


def test_forcing_the_derivative_of_an_op_to_one():
    model = deep(nn.Sigmoid)
    loss = digits_loss(model)
    flow = cr.gradient_flow(loss, model[0].weight)
    step = next(step for step in flow.gains if step.op == "sigmoid")
    # For the same values with the slope replaced: x + (sigmoid(x) - x).detach().
    through = cr.custom_vjp(lambda x: x.sigmoid(), lambda dY, Y, x: dY)

    class Through(nn.Module):
        def forward(self, x: cr.Tensor) -> cr.Tensor:
            return through(x)

    other = nn.Sequential(*[Through() if f"Sequential.{i}" == step.layer else layer for i, layer in enumerate(model)])
    expected = cr.gradient_flow(digits_loss(other), model[0].weight).total
    assert flow.if_one(step) == pytest.approx(expected, abs=1e-6)
    assert flow.if_one(step) - flow.total == pytest.approx(2, abs=0.2)
    assert cr.gradient_flow(loss, model[0].weight).total == flow.total  # as it was before


def test_a_mask_kills_what_it_covers():
    x = cr.tensor([1.0, -1.0, 2.0, -3.0], requires_grad=True)
    flow = cr.gradient_flow(x.relu().sum(), x, "x")
    assert [(step.op, step.gain) for step in flow.gains] == [("sum", 1.0), ("relu", -0.5)]


@pytest.fixture(scope="module")
def trained():
    model = deep(nn.Sigmoid, 3)
    model = nn.Sequential(*model[:4], nn.Dropout(0.2), *model[4:])
    trainer = cr.Trainer(model, F.cross_entropy, cr.optim.Adam(model.parameters(), lr=0.01))
    trainer.fit(*cr.data.load("digits").train, epochs=1, progress=False, record=True)
    return trainer


@pytest.mark.parametrize("step", [0, 7, -1])
def test_a_recorded_step(trained, step):
    """Its total is the recorded gradient's, dropout mask and all; and it adds up exactly."""
    for name, gradient in trained.run.at(step).gradients.items():
        flow = trained.gradient_flow(name, step)
        assert flow.target == name
        assert sum(g.gain for g in flow.gains) == flow.total
        assert flow.total == pytest.approx(math.log2(np.linalg.norm(gradient.astype(np.float64))), abs=1e-5)
    kinds = [g.op for g in flow.gains if g.kind == "activation"]
    assert trained.run.gradient_flow(step=step).target == "0.weight"
    assert kinds == []  # the last layer's bias has no activation between it and the loss
    layers = [g.layer for g in trained.gradient_flow("0.weight", step).gains if g.op == "sigmoid"]
    assert layers == ["Sequential.5", "Sequential.3", "Sequential.1"]


@pytest.mark.at_once("bits: a compiled program's last ones are others than NumPy's")
def test_what_if_ops_of_a_recorded_step_did_nothing(trained):
    flow = trained.gradient_flow("0.weight", 7)
    ones = flow.if_ones()
    sigmoid = next(i for i, g in enumerate(flow.gains) if g.op == "sigmoid")
    assert ones[sigmoid] == flow.if_one(flow.gains[sigmoid])
    assert 1.5 < ones[sigmoid] - flow.total < 3
    assert all(
        one is None for one, g in zip(ones, flow.gains, strict=True) if g.op == "matmul" and g.layer.endswith(".7")
    )
    assert [step.get("if_one") for step in flow.as_dict(if_one=True)["steps"]] == ones
    assert f"{ones[sigmoid]:.3f}" in flow.text(if_one=True)
    assert flow.as_dict()["total"] == flow.total and "if_one" not in flow.as_dict()["steps"][0]


def test_a_recorded_step_without_the_parameter(trained):
    with pytest.raises(cr.errors.UnknownNameError, match="^unknown weight '9.weight'"):
        trained.gradient_flow("9.weight", 3)
    model = nn.Sequential(nn.Linear(64, 10))
    model.spare = nn.Linear(2, 2)
    model.forward = lambda x: model[0](x)
    trainer = cr.Trainer(model, F.cross_entropy, cr.optim.SGD(model[0].parameters(), lr=0.1))
    trainer.fit(*cr.data.load("digits").train, epochs=1, progress=False, record=True)
    with pytest.raises(GradientError) as caught:
        trainer.gradient_flow("spare.weight", 3)
    assert str(caught.value) == (
        "gradient_flow: the loss does not depend on spare.weight at step 3. Name another parameter."
    )


def test_text_and_table():
    x = cr.tensor([1.0, -1.0], requires_grad=True)
    flow = cr.gradient_flow((x * 4).relu().sum(), x, "x")
    assert str(flow) == (
        "the gradient of x: 2^2.000 of the loss's (loss +2.000)\n"
        "     gain    signal  op           kind          layer   (log2 of norms)\n"
        "   +0.500     0.500  sum          loss\n"
        "   -0.500     0.000  relu         loss\n"
        "   +2.000     2.000  mul          loss"
    )
    table = flow.as_dict()
    assert table["total"] == 2.0
    assert [step["op"] for step in table["steps"]] == ["sum", "relu", "mul"]


def test_bad_input():
    x, other = cr.tensor([1.0], requires_grad=True), cr.tensor([1.0], requires_grad=True)
    with pytest.raises(GradientError) as caught:
        cr.gradient_flow((x * 2).sum(), other, "other")
    assert str(caught.value) == (
        "gradient_flow: the loss does not depend on other. Name a tensor that requires grad and takes part in it."
    )
    with pytest.raises(GradientError) as caught:
        cr.gradient_flow((x * 0).sum(), x, "x")
    assert str(caught.value) == (
        "gradient_flow: the gradient of x is zero, which has no logarithm. Look at the layers behind it one by one "
        "(a dead activation, an overflow)."
    )
    flow = cr.gradient_flow((x.expand(3) * 2).sum(), x, "x")
    with pytest.raises(
        GradientError, match=r"if_one: expand \(.*\) turns \(1,\) into \(3,\), so its derivative has no identity"
    ):
        flow.if_one(flow.gains[-1])
