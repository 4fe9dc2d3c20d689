"""Where arguments lie is looked up once; what a call reads is what they hold at that moment all the same."""

import numpy as np
import pytest

import chainrule as cr


@pytest.fixture
def twice():
    return cr.compile(lambda x: x * 2)


@pytest.mark.parametrize("turn", [lambda a: a, lambda a: a.T, lambda a: a[::-1], lambda a: a[:, 1:]])
def test_memory_of_somebody_else_is_read_anew(twice, turn):
    held = np.arange(12.0).reshape(3, 4)
    x = cr.from_numpy(turn(held))
    for number in range(4):
        assert np.array_equal(twice(x).numpy(), 2 * turn(held))
        held += number


def test_a_tensor_that_is_changed_in_place_lies_elsewhere(twice):
    x = cr.zeros(1000)
    for number in range(4):
        assert twice(x)[0].item() == 2 * number
        before = x.numpy()
        x.add_(1)
        assert before[0] == number


def test_a_tensor_that_took_the_place_of_another(twice):
    x = cr.zeros(1000)
    twice(x)
    for number in range(3):
        x.data = cr.full((1000,), float(number))
        assert twice(x)[-1].item() == 2 * number


def test_an_argument_that_the_function_changes():
    @cr.compile
    def step(x):
        x.add_(1)
        return x.sum()

    x = cr.zeros(100)
    seen = [(step(x).item(), x.numpy()[0].item()) for _ in range(4)]
    assert seen == [(100.0 * n, float(n)) for n in range(1, 5)]


def test_a_view_that_is_passed_again(twice):
    root = cr.arange(6.0)
    view = root[1:4]
    for number in range(3):
        assert twice(view).tolist() == [2 * (n + number) for n in (1.0, 2.0, 3.0)]
        root.add_(1)
