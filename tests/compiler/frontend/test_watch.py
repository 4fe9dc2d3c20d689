"""A watched step does what a call does, to the bit, and shows every value on the way."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.compiler.frontend.trace import note
from chainrule.errors import IndexRangeError


def training(dropout=0.2):
    cr.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    @cr.compile
    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        note("loss", loss)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return model, step


x, y = cr.randn(8, 6), cr.randint(0, 3, (8,))


def test_state_moves_on_as_in_a_call():
    (called, call), (watched, watch) = training(), training()
    for seed in range(3):
        cr.manual_seed(seed)  # of the dropout
        loss = call(x, y)
        cr.manual_seed(seed)
        seen = watch.watch(x, y)
        assert seen.value(seen.trace.notes["loss"]).tobytes() == loss.numpy().tobytes()
        for a, b in zip(called.parameters(), watched.parameters(), strict=True):
            assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()


def test_every_value_is_what_the_references_make_of_its_inputs():
    _, step = training()
    seen = step.watch(x, y)
    checked = 0
    for node in seen.program.images:
        if node.inputs and node.dtype.is_floating_point:
            arrays = [seen.value(source) for source in node.inputs]
            expected = cr.graph.evaluate(node.op, arrays, node.params, node.type)
            np.testing.assert_allclose(seen.value(node), expected, rtol=2e-5, atol=2e-6, err_msg=node.op.name)
            checked += seen.is_stored(node)
    assert checked > 20


def test_gradients_are_noted_by_what_they_are_of():
    model, step = training(dropout=0.0)
    before = {name: p.detach().numpy() for name, p in model.named_parameters()}
    seen = step.watch(x, y)
    eager, _ = training(dropout=0.0)
    F.cross_entropy(eager(x), y).backward()
    for name, p in model.named_parameters():
        node = seen.before(p)
        assert seen.value(node).tobytes() == before[name].tobytes()
        assert seen.value(seen.after(p)).tobytes() == p.detach().numpy().tobytes()
        gradient = seen.trace.gradients[node]
        assert seen.is_stored(gradient)
        np.testing.assert_allclose(
            seen.value(gradient), dict(eager.named_parameters())[name].grad.numpy(), rtol=1e-4, atol=1e-6
        )


def test_a_tensor_that_the_step_does_not_know():
    _, step = training()
    seen = step.watch(x, y)
    assert seen.before(cr.ones(1)) is seen.after(cr.ones(1)) is None


def test_constants_empty_tensors_and_no_state():
    seen = cr.compile(lambda a, b: (a * 2 + 1).sum() + b.sum()).watch(cr.arange(3).float(), cr.zeros(0))
    (total,) = seen.program.graph.outputs
    assert seen.value(total) == 9.0


def test_a_failed_check_raises():
    with pytest.raises(IndexRangeError, match="an index is out of range for an axis of size 3"):
        cr.compile(lambda t, i: t[i]).watch(cr.zeros(3), cr.tensor([5]))
