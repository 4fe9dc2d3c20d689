"""State that the user clears or exchanges between two compiled steps is what the next step starts from."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

KINDS = {
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9), "Adam": lambda p: optim.Adam(p, lr=0.1),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.1, momentum=0.5),
}  # fmt: skip


def clear(optimizer, w):
    optimizer.state.clear()


def pop(optimizer, w):
    optimizer.state.pop(w)


def assign(optimizer, w):
    optimizer.state = {}


def exchange(optimizer, w):
    for slot, tensor in list(optimizer.state[w].items()):
        optimizer.state[w][slot] = cr.zeros_like(tensor)


def halve(optimizer, w):
    for tensor in optimizer.state[w].values():
        tensor.mul_(0.5)


@pytest.mark.parametrize("change", [clear, pop, assign, exchange, halve])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["calls", "loop"])
def test_a_compiled_step_goes_on_from_what_is_there(kind, change, way):
    def trained(compiled):
        w = nn.Parameter(cr.ones(3))
        optimizer = KINDS[kind]([w])

        def step(x):
            optimizer.zero_grad()
            ((w * x) ** 2).sum().backward()
            optimizer.step()
            return w * 1

        run = cr.compile(step) if compiled else step
        values = []
        for turn in range(4):
            xs = cr.tensor([[1.0, 2.0, 3.0], [0.5, 1.0, 2.0]])
            if compiled and way == "loop":
                values += run.loop(xs).tolist()
            else:
                values += [run(x).tolist() for x in (xs[0], xs[1])]
            if turn < 3:
                change(optimizer, w)
        return np.array(values), {slot: t.tolist() for slot, t in optimizer.state[w].items()}

    (found, state), (expected, wanted) = trained(True), trained(False)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert state.keys() == wanted.keys()
    for slot in state:
        np.testing.assert_allclose(state[slot], wanted[slot], rtol=1e-5, atol=1e-6)


def test_a_callback_that_clears_the_state_begins_anew():
    X = np.random.default_rng(0).normal(size=(64, 4)).astype("f")
    y = (X[:, 0] > 0).astype(int)

    def trained(*callbacks):
        cr.manual_seed(0)
        model = nn.Linear(4, 2)
        trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.05))
        trainer.fit(X, y, epochs=4, batch_size=16, progress=False, callbacks=callbacks)
        return model.weight.detach().numpy().copy()

    assert not np.array_equal(trained(), trained(lambda t, epoch, measured: t.optimizer.state.clear()))


def test_state_is_pickled_and_copied_with_its_optimizer():
    w = nn.Parameter(cr.ones(2))
    optimizer = optim.Adam([w])
    w.sum().backward()
    optimizer.step()
    for other in (pickle.loads(pickle.dumps(optimizer)), copy.deepcopy(optimizer)):
        (own,) = other.param_groups[0]["params"]
        assert other.state[own]["exp_avg"].tolist() == optimizer.state[w]["exp_avg"].tolist()


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_two_parameters_in_one_memory_are_updated_one_after_the_other(kind):
    torch = pytest.importorskip("torch")

    def trained(library, optim):
        p, q = (library.tensor([value], dtype=library.float64, requires_grad=True) for value in (1.0, 0.05))
        p.data = q.data
        ((p * 2 + q * 3).tanh() ** 2).sum().backward()
        getattr(optim, kind)([p, q], lr=0.1).step()
        return [p.item(), q.item()]

    np.testing.assert_allclose(trained(cr, cr.optim), trained(torch, torch.optim), rtol=1e-12)


def test_state_of_a_parameter_that_was_taken_out_of_the_groups_is_left_out():
    first, second, new = (cr.ones(2, requires_grad=True) for _ in range(3))
    opt = optim.Adam([first, second], lr=0.1)
    (first.sum() + second.sum()).backward()
    opt.step()
    opt.param_groups[0]["params"][0] = new
    found = opt.state_dict()
    assert [*found["state"]] == [1]
    assert found["param_groups"][0]["params"] == [0, 1]
    opt.load_state_dict(found)
