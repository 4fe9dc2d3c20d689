"""Random bits drawn natively are NumPy's."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler.runtime import draws
from chainrule.ops import random


@pytest.mark.parametrize("count", [0, 1, 5, 15, 16, 17, 1000, random._BLOCK + 3])
@pytest.mark.parametrize("key", [(0, 0), (5, 7), (2**32 - 1, 2**31 + 3)])
@pytest.mark.parametrize("word", [0, 1, 3])
def test_each_word_is_that_of_numpy(count, key, word):
    found = draws.draw(count, key, word)
    assert found.dtype == np.uint32 and np.array_equal(found, random.by_numpy(count, key, word))


def drawn():
    cr.manual_seed(2**40 + 3)
    kinds = [cr.rand(5, 7), cr.randn(33), cr.rand(3, dtype=cr.float64), cr.randint(0, 9, (20,)), cr.randperm(10)]
    return [one.numpy().tobytes() for one in kinds]


def test_whoever_draws_the_numbers_are_the_same(monkeypatch):
    asked = []

    def counted(*given):
        asked.append(given)
        return draws.draw(*given)

    monkeypatch.setattr(random.draw, "native", None)
    by_numpy = drawn()
    monkeypatch.setattr(random.draw, "native", counted)
    monkeypatch.setattr(random.draw, "by_numpy", 0)
    assert drawn() == by_numpy and not asked  # few are not worth it
    monkeypatch.setattr(random.draw, "by_numpy", random.MANY)
    assert drawn() == by_numpy and asked


def test_where_llvm_cannot_be_had_numpy_draws(monkeypatch):
    def none(*given):
        raise OSError("no LLVM here")

    expected = drawn()
    monkeypatch.setattr(random.draw, "native", none)
    monkeypatch.setattr(random.draw, "by_numpy", random.MANY)
    assert drawn() == expected and random.draw.native is None


def test_threads_draw_at_once():
    expected = draws.draw(5000, (1, 2), 0)
    barrier = threading.Barrier(4)

    def one(_):
        barrier.wait()
        return all(np.array_equal(draws.draw(5000, (1, 2), 0), expected) for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(4)))
