"""The orders of a training's epochs are those of `shuffled_indices`, whoever draws them and when."""

import numpy as np
import pytest

from chainrule.data import shuffled_indices
from chainrule.training import orders
from chainrule.training.orders import EpochOrders


def expected(rows, seed, first, count):
    return np.stack([shuffled_indices(rows, seed, epoch) for epoch in range(first, first + count)])


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_asked_for_and_drawn_ahead(seed):
    rng, rows = np.random.default_rng(seed), 50
    kept, at = EpochOrders(rows, seed, shuffle=True), 0
    for _ in range(40):
        count = int(rng.integers(1, 6))
        assert np.array_equal(kept.of(at, count), expected(rows, seed, at, count))
        if rng.random() < 0.6:
            kept.draw_ahead(int(rng.integers(0, 6)))
        at = max(0, at + int(rng.integers(-2, count + 2)))  # mostly on, sometimes back, or past some
    kept.close()


def test_what_was_drawn_ahead_is_taken_as_it_lies_and_not_drawn_again(monkeypatch):
    asked = []

    def noted(rows, seed, epoch, count, into):
        asked.append((epoch, count))
        return drawn(rows, seed, epoch, count, into)

    drawn = orders.shuffled_orders
    monkeypatch.setattr(orders, "shuffled_orders", noted)
    kept = EpochOrders(9, 3, shuffle=True)
    kept.of(0, 4)
    kept.draw_ahead(4)
    found = kept.of(4, 3)
    assert np.shares_memory(found, kept.of(5, 3))
    assert asked == [(0, 4), (4, 4)]
    assert np.array_equal(kept.of(7, 3), expected(9, 3, 7, 3)) and asked[2:] == [(8, 2)]


def test_those_that_a_thread_could_not_draw_are_drawn_by_who_asks(monkeypatch):
    kept, drawn, tries = EpochOrders(9, 3, shuffle=True), orders.shuffled_orders, []

    def first_fails(*given):
        tries.append(given)
        if len(tries) == 1:
            raise MemoryError
        return drawn(*given)

    kept.of(0, 2)
    monkeypatch.setattr(orders, "shuffled_orders", first_fails)
    kept.draw_ahead(2)
    assert np.array_equal(kept.of(2, 2), expected(9, 3, 2, 2)) and len(tries) == 2


def test_without_a_shuffle_rows_are_visited_as_they_lie():
    kept = EpochOrders(4, 0, shuffle=False)
    kept.draw_ahead(3)
    assert kept.of(5, 2).tolist() == [[0, 1, 2, 3]] * 2
