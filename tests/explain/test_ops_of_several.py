"""A network with an op of several results: recorded, replayed, explained, drawn and searched for a first NaN like any other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import GradientError, NonFiniteError, SettingError
from chainrule.explain.report import graphs, passes
from chainrule.explain.report.mathml import markup
from chainrule.explain.verify import check_op
from chainrule.ops import elementwise as ew

rng = np.random.default_rng(3)
X = rng.standard_normal((64, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


class Mantissas(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        mantissa, exponent = self.inner(x).frexp()
        return self.outer(mantissa + 0.1 * exponent.float())


def trained(**options: Any) -> cr.Trainer:
    cr.manual_seed(0)
    model = Mantissas()
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(X, y, epochs=2, batch_size=16, record=True, progress=False, **options)
    return trainer


@pytest.fixture(scope="module")
def trainer() -> cr.Trainer:
    return trained()


def test_a_step_is_replayed_and_its_gradients_explained(trainer: cr.Trainer) -> None:
    moment = trainer.run.at(5)
    derivation = moment.explain("inner.weight", 0)
    assert derivation.adds_up
    assert derivation.opaque == "Mantissas: frexp"
    assert moment.explain("outer.weight", 0).strongest(1)
    flow = moment.gradient_flow("inner.weight")
    assert "frexp" in [step.op for step in flow.gains]
    assert sum(step.gain for step in flow.gains) == flow.total


def test_the_replayed_graph_has_the_gradients_of_the_program(trainer: cr.Trainer) -> None:
    moment = trainer.run.at(5)
    model: Any = trainer.model
    loss = F.cross_entropy(_with(model, moment.weights)(cr.tensor(moment.x)), cr.tensor(moment.y))
    loss.backward()
    for name, p in model.named_parameters():
        np.testing.assert_allclose(p.grad.numpy(), moment.gradients[name], rtol=2e-5, atol=1e-7)


def _with(model: nn.Module, weights: dict[str, Any]) -> nn.Module:
    for name, p in model.named_parameters():
        p.grad = None
        p.data = cr.tensor(weights[name])
    return model


def test_an_op_of_several_results_says_nothing_of_single_elements() -> None:
    x = cr.tensor([3.0, 5.0], requires_grad=True)
    loss = (x.frexp().mantissa ** 2).sum() + x.sum()
    with pytest.raises(GradientError, match=r"^explain: frexp has a derivative of its own \(cr.custom_vjp, .* several"):
        _ = cr.explain(loss, x, 0).terms
    flow = cr.gradient_flow(loss, x)
    assert sum(step.gain for step in flow.gains) == flow.total
    expected = r"^if_one: frexp.* turns \(2,\) into \(f32\[2\], i32\[2\]\), so its derivative has no identity"
    step = next(step for step in cr.gradient_flow((x.frexp().mantissa ** 2).sum(), x).gains if step.op == "frexp")
    with pytest.raises(GradientError, match=expected):
        cr.gradient_flow((x.frexp().mantissa ** 2).sum(), x).if_one(step)


def test_the_page_draws_each_result_as_made_of_what_the_op_reads(trainer: cr.Trainer) -> None:
    document = graphs.Network(trainer, passes.run(trainer, X[:8], y[:8])).document()
    nodes = {node["label"]: node for node in document["nodes"]}
    assert "frexp.0" in nodes  # an integer, as the other one, has no history
    (source,) = nodes["frexp.0"]["inputs"]
    assert document["nodes"][source]["label"] == "add"
    assert "frexp.0" in markup(document["formulas"][nodes["frexp.0"]["forward"]]["tree"])


def test_the_rules_and_the_whole_gradient_hold(trainer: cr.Trainer) -> None:
    found = trainer.model.verify(X[:8], y[:8])
    assert [v.state for v in found.verdicts if v.section == "gradient"] == ["holds"] * 4
    assert [v.state for v in found.verdicts if v.subject == "frexp"] == ["holds"]
    assert not [v for v in found.verdicts if v.state == "fails"]


def test_a_wrong_joint_rule_is_found() -> None:
    right = ew.frexp
    wrong = replace(right, joint=lambda dY, Y, x: (dY[0] * 2 if dY[0] is not None else None,))
    assert all(check_op(right))
    failing = next(check for check in check_op(wrong) if not check)
    assert str(failing).startswith("frexp.0, argument 0, element [")


def test_the_first_value_that_is_not_finite_is_found_behind_the_results() -> None:
    class Broken(Mantissas):
        def forward(self, x: cr.Tensor) -> cr.Tensor:
            mantissa, exponent = self.inner(x).frexp()
            return self.outer(mantissa / exponent.float().detach().relu())

    cr.manual_seed(0)
    model = Broken()
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(NonFiniteError, match=r"div"):
        trainer.fit(X, y, epochs=1, batch_size=16, record=True, progress=False)
    birth = trainer.run.birth()
    assert birth is not None
    assert (birth.op, birth.stage) == ("div", "forward pass")


def test_onnx_refuses_what_it_has_no_form_for(trainer: cr.Trainer, tmp_path: Any) -> None:
    pytest.importorskip("onnx", reason="exports to ONNX")
    expected = r"^onnx.export: frexp in layer 'Mantissas' \(.*\) takes numbers apart into their bits, which"
    with pytest.raises(SettingError, match=expected):
        cr.onnx.export(trainer.model, cr.tensor(X[:2]), str(tmp_path / "model.onnx"))
