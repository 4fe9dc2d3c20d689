"""The scripts of `benchmarks/eager_scripts.py` compute what PyTorch computes, and an eager step costs few array functions."""

from __future__ import annotations

import importlib.util
import operator
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.autodiff.plain import Plain
from chainrule.optim.together import batches
from tests.optional import torch

FILE = Path(__file__).parent.parent / "benchmarks" / "eager_scripts.py"


def scripts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("eager_scripts", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass asks for it
    spec.loader.exec_module(module)
    return module


SCRIPTS = scripts()


@pytest.mark.filterwarnings("ignore:Using backward")  # PyTorch's own, about create_graph
@pytest.mark.parametrize("name", SCRIPTS.SCRIPTS)
def test_losses_are_those_of_pytorch(name: str) -> None:
    torch.manual_seed(0)  # skips where PyTorch is missing
    assert SCRIPTS.difference(SCRIPTS.SCRIPTS[name], 8) < 1e-5


# -- many parameters in one update ------------------------------------------------------------------

OPTIMIZERS = [
    lambda p: optim.SGD(p, lr=0.1),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01),
    lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    lambda p: optim.AdamW(p, lr=0.1),
    lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    lambda p: optim.Adadelta(p, lr=0.5),
    lambda p: optim.Adamax(p, lr=0.1),
    lambda p: optim.RAdam(p, lr=0.1, betas=(0.8, 0.9)),
    lambda p: optim.NAdam(p, lr=0.1),
    lambda p: optim.RMSprop(p, lr=0.1, momentum=0.9, centered=True),
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_an_update_of_many_has_the_bits_of_updates_one_by_one(make, monkeypatch) -> None:
    shapes = [(3, 5), (7,), (), (2, 2, 9), (1, 40)]

    def run() -> list[np.ndarray]:
        rng = np.random.default_rng(3)
        params = [cr.tensor(rng.normal(size=s).astype(np.float32), requires_grad=True) for s in shapes]
        params.append(cr.tensor(rng.normal(size=(4, 3)), requires_grad=True))  # float64
        opt = make(params)
        held = params[0].data
        for step in range(5):
            for i, p in enumerate(params):
                absent = step == 2 and i == 1
                p.grad = None if absent else cr.tensor(rng.normal(size=p.shape), dtype=p.dtype)
            opt.param_groups[0]["lr"] = 0.1 / (step + 1)
            opt.step()
        np.testing.assert_array_equal(held.numpy(), params[0].detach().numpy())
        states = [s for state in opt.state.values() for s in state.values()]
        return [t.detach().numpy() for t in [*params, *states]]

    together = run()
    monkeypatch.setattr("chainrule.optim.together.ROOM", 0)
    alone = run()
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_keep_the_order_and_the_dtype() -> None:
    params = [cr.zeros(2), cr.zeros(3), cr.zeros(1, dtype=cr.float64), cr.zeros(70_000), cr.zeros(4)]
    assert [[p.numel() for p in batch] for batch in batches(params)] == [[2, 3], [1], [70_000], [4]]


def test_a_rule_that_looks_at_its_neighbours_sees_one_parameter() -> None:
    class Normalised(optim.SGD):
        def rules(self, group):
            def scaled(direction, param, state, settings):
                return direction / direction.norm(), {}

            return (optim.rules.Rule("normalised", (), scaled),)

    params = [cr.zeros(1, requires_grad=True), cr.zeros(4, requires_grad=True)]
    for p in params:
        p.grad = cr.ones(p.shape)
    Normalised(params, lr=1.0).step()
    assert [p.tolist() for p in params] == [[-1.0], [-0.5] * 4]


# -- a backward pass on arrays ----------------------------------------------------------------------


def test_what_a_backward_pass_leaves_are_ordinary_tensors() -> None:
    w, x = cr.ones(3, requires_grad=True), cr.ones(2, 3, requires_grad=True)
    y = (w * x).tanh().sum(1)
    y.sum().backward()
    assert type(w.grad) is cr.Tensor and type(x.grad) is cr.Tensor
    assert type(cr.grad(lambda v: (v * v).sum())(cr.ones(2))) is cr.Tensor


def test_a_derivative_of_the_users_gets_ordinary_tensors() -> None:
    seen = []

    def backward(dY, Y, x):
        seen.extend([type(dY), type(Y), type(x)])
        part = dY[:1]
        part.mul_(10)  # a view, as anywhere
        return dY

    twice = cr.custom_vjp(lambda x: x * 1, backward)
    x = cr.ones(2, requires_grad=True)
    (twice(x) * 2).sum().backward()
    assert set(seen) == {cr.Tensor}
    assert x.grad.tolist() == [20, 2]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv"])
@pytest.mark.parametrize("other", [2, 0.5, -0.0, 1e300, "plain", "tensor", "double"])
def test_a_plain_tensor_computes_what_a_tensor_does(name: str, other) -> None:
    values = np.array([1.5, -2.0, 0.0, np.inf, np.nan], np.float32)
    operand = {"plain": Plain(values[::-1]), "tensor": cr.tensor(values), "double": cr.tensor(values.astype(float))}
    b = operand.get(other, other) if isinstance(other, str) else other
    right = cr.tensor(np.asarray(b._node.value)) if type(b) is Plain else b
    function = getattr(operator, name)
    for mine, expected in (
        (function(Plain(values), b), function(cr.tensor(values), right)),
        (function(b, Plain(values)), function(right, cr.tensor(values))),
    ):
        assert mine.dtype is expected.dtype
        np.testing.assert_array_equal(mine.numpy(), expected.numpy())
