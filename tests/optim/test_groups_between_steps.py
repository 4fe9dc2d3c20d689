"""Groups and parameters that are taken out, put in or exchanged between two steps: compiled steps follow as eager ones do."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.training import Trainer


def pop_group(op, w, v):
    op.param_groups.pop()


def other_list(op, w, v):
    op.param_groups[0]["params"] = []


def clear(op, w, v):
    op.param_groups[1]["params"].clear()


def remove(op, w, v):
    op.param_groups[0]["params"].pop(0)


def rebind(op, w, v):
    op.param_groups = [op.param_groups[1]]


def cut(op, w, v):
    op.param_groups[:1] = []


def swap(op, w, v):
    a, b = op.param_groups
    a["params"][0], b["params"][0] = b["params"][0], a["params"][0]


def append(op, w, v):
    op.param_groups.pop()
    op.param_groups[0]["params"].append(v)


def other_group(op, w, v):
    op.param_groups[1] = {**op.param_groups[1], "lr": 0.5}


CHANGES = [pop_group, other_list, clear, remove, rebind, cut, swap, append, other_group]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_compiled_as_eager(change, kind):
    found = []
    for compiled in (False, True):
        w, v = cr.ones(2, requires_grad=True), cr.ones(2, requires_grad=True)
        op = kind([{"params": [w]}, {"params": [v], "lr": 0.3}], lr=0.1)

        def step(x, op=op, w=w, v=v):
            op.zero_grad()
            ((w + 2 * v) * x).sum().backward()
            op.step()

        step = cr.compile(step) if compiled else step
        x = cr.tensor([1.0, 2.0])
        for i in range(6):
            if i in (2, 4):
                change(op, w, v) if i == 2 or change is swap else None
            step(x)
        found.append([w.tolist(), v.tolist()])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("between", ["fits", "epochs"])
def test_trainer_follows(between):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    op = optim.SGD([{"params": model[0].parameters()}, {"params": model[2].parameters()}], lr=0.1)
    trainer = Trainer(model, F.cross_entropy, op)
    held = []

    def callback(trainer, epoch, measured):
        if epoch == 1:
            op.param_groups.pop()
            held.append(model[2].weight.tolist())

    if between == "epochs":
        trainer.fit(X, y, 3, 8, progress=False, callbacks=callback)
    else:
        trainer.fit(X, y, 1, 8, progress=False)
        callback(trainer, 1, {})
        first = model[0].weight.tolist()
        trainer.fit(X, y, 1, 8, progress=False)
        assert model[0].weight.tolist() != first
    assert model[2].weight.tolist() == held[0]
