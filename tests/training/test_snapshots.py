"""What a training goes back to is safe from its steps, which write in place; and costs it no copy of the program's own."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.tensor.memory import address
from chainrule.training import state

SIZES = [1, 300, state.SMALL // 4, state.SMALL // 4 + 1]


@pytest.mark.parametrize("size", SIZES)
def test_a_snapshot_outlives_steps_that_write_in_place(size):
    held = cr.arange(float(size))
    step = cr.compile(lambda: held.mul_(2).add_(1))
    step()
    kept = state.values([held])  # and nobody looks at it otherwise, which would move the step to new memory
    assert state.same(kept, state.values([held]))
    step(), step()
    assert not state.same(kept, state.values([held]))
    state.restore(kept)
    assert np.array_equal(held.numpy(), 2 * np.arange(size) + 1)


def test_zeros_of_two_signs_are_two_values():
    held = cr.zeros(3)
    kept = state.values([held])
    held.neg_()
    assert not state.same(kept, state.values([held]))
    state.restore(kept)
    assert not np.signbit(held.numpy()).any()


@pytest.mark.parametrize(("width", "stays"), [(8, True), (4096, False)])
def test_a_fit_writes_small_weights_where_the_one_before_left_them(width, stays):
    X, y = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32), np.arange(20) % 2
    model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))
    trainer = cr.Trainer(model, "cross_entropy", optim.Adam(model.parameters()))

    def places():
        trainer.fit(X, y, 1, 10, progress=False)
        return [address(p._node._value) for p in model.parameters()]

    places()
    assert (places() == places()) is stays  # as soon as somebody holds the large ones
    held = model[2].bias.detach().numpy()
    before = held.copy()
    places()
    assert np.array_equal(held, before) and not np.array_equal(model[2].bias.detach().numpy(), before)


def test_a_loss_over_a_variable_without_a_value_yet_is_trained_with():
    def make():
        def loss(output, target):
            return cr.nn.functional.mse_loss(output, target) * (scale if later else 1.0)

        model, later = nn.Linear(2, 1), False
        trainer = cr.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1))
        trainer.fit(np.ones((4, 2), np.float32), np.ones((4, 1), np.float32), 2, progress=False)
        scale = 2.0
        return trainer

    assert make().history.epochs == 2
