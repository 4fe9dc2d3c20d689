"""A network with a loop inside a node: recorded, replayed, explained, drawn, verified and searched for a first NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import GradientError, NonFiniteError
from chainrule.explain.report import graphs, passes
from chainrule.explain.report.mathml import markup

rng = np.random.default_rng(3)
X = rng.standard_normal((32, 3)).astype(np.float32)
y = (X.sum(1) > 0).astype(np.int64)


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(cr.randn(4, 4) * 0.3), nn.Parameter(cr.randn(1, 4))
        self.bias, self.head = nn.Parameter(cr.zeros(4)), nn.Linear(4, 2)

    def step(self, h: cr.Tensor, x: cr.Tensor) -> Any:
        return (h @ self.w + x @ self.u + self.bias).tanh(), None

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        last, _ = cr.scan(self.step, x.new_zeros(x.shape[0], 4), x.unsqueeze(-1).permute(1, 0, 2))
        return self.head(last)


def trained(model: nn.Module) -> cr.Trainer:
    return cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.03), metrics=["accuracy"])


@pytest.fixture(scope="module")
def trainer() -> cr.Trainer:
    cr.manual_seed(0)
    made = trained(Recurrence())
    made.fit(X, y, epochs=10, batch_size=16, record=True, seed=0, progress=False)
    return made


def test_it_learns_and_a_step_is_replayed_to_the_gradients_of_the_program(trainer: cr.Trainer) -> None:
    assert trainer.history["loss"][-1] < 0.8 * trainer.history["loss"][0]
    moment, model = trainer.run.at(5), Recurrence()
    model.load_state_dict({name: cr.tensor(value) for name, value in moment.weights.items()})
    F.cross_entropy(model(cr.tensor(moment.x)), cr.tensor(moment.y)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), moment.gradients[name], rtol=2e-5, atol=1e-7)


def test_what_lies_behind_the_loop_is_explained_and_the_loop_says_that_it_is_one(trainer: cr.Trainer) -> None:
    moment = trainer.run.at(5)
    assert moment.explain("head.weight", 0).adds_up
    assert ("scan", "loop") in [(step.op, step.kind) for step in moment.gradient_flow("w").gains]
    with pytest.raises(
        GradientError, match=r"^explain: Recurrence: scan reads w at every one of its steps, and what single"
    ):
        _ = moment.explain("w", 0).terms


def test_the_page_draws_it_and_the_rules_are_verified(trainer: cr.Trainer) -> None:
    document = graphs.Network(trainer, passes.run(trainer, X[:8], y[:8])).document()
    nodes = {node["label"]: node for node in document["nodes"]}
    assert "scan.0" in markup(document["formulas"][nodes["scan.0"]["forward"]]["tree"])
    found = trainer.model.verify(X[:8], y[:8])
    assert [v.state for v in found.verdicts if v.subject == "scan"] == ["holds"]
    assert not [v for v in found.verdicts if v.state == "fails"]


def test_the_first_value_that_is_not_finite_is_found_in_the_loop() -> None:
    class Broken(Recurrence):
        def step(self, h: cr.Tensor, x: cr.Tensor) -> Any:
            return super().step(h, x)[0] / (x - x), None

    trainer = trained(Broken())
    with pytest.raises(NonFiniteError, match=r"op 'scan.0' in layer 'Broken' \(test_recurrences.py:\d+ in forward\)"):
        trainer.fit(X, y, epochs=1, batch_size=16, record=True, progress=False)
    birth = trainer.run.birth()
    assert birth is not None
    assert (birth.op, birth.stage) == ("scan.0", "forward pass")


def test_onnxruntime_gives_what_it_gives(trainer: cr.Trainer, tmp_path: Any) -> None:
    pytest.importorskip("onnx", reason="exports to ONNX")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    cr.onnx.export(trainer.model, cr.tensor(X[:2]), str(tmp_path / "model.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: X[:2]})
    with cr.no_grad():
        np.testing.assert_allclose(found, trainer.model(cr.tensor(X[:2])).numpy(), rtol=1e-5, atol=1e-6)
