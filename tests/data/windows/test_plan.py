"""The order of windows: every row once, a function of seed, epoch and sizes, the in-memory order where all is one window."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data import shuffled_indices
from chainrule.data.windows.plan import EpochWindows

PIECES = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(sum)


def visited(plan, pieces):
    """The numbers of all rows in the order they are visited."""
    starts = np.cumsum([0, *pieces])
    found = []
    for window in range(plan.windows):
        rows = [starts[p.piece] + i for p in plan.parts(window) for i in range(p.start, p.stop)]
        found += [int(rows[i]) for i in plan.order(window)]
    return found


@given(PIECES, st.integers(1, 40), st.integers(0, 2**64 - 1), st.integers(0, 5), st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_row_is_visited_once(pieces, size, seed, epoch, shuffle):
    plan = EpochWindows(pieces, size, seed, epoch, shuffle)
    order = visited(plan, pieces)
    assert sorted(order) == list(range(sum(pieces)))
    assert order == visited(EpochWindows(pieces, size, seed, epoch, shuffle), pieces)
    assert shuffle or order == sorted(order)
    assert all(sum(p.rows for p in plan.parts(w)) == min(size, plan.rows - w * size) for w in range(plan.windows))


def test_one_window_is_the_order_in_memory():
    assert visited(EpochWindows([3, 4, 5], 12, 7, 2, True), [3, 4, 5]) == shuffled_indices(12, 7, 2).tolist()


def test_epochs_windows_and_seeds_have_orders_of_their_own():
    pieces = [50] * 40
    orders = {
        tuple(visited(EpochWindows(pieces, 500, seed, epoch, True), pieces)) for seed in range(3) for epoch in range(3)
    }
    assert len(orders) == 9
    plan = EpochWindows(pieces, 500, 0, 0, True)
    assert len({tuple(plan.order(w).tolist()) for w in range(4)}) == 4
    mixed = {p.piece // 10 for p in plan.parts(0)}
    assert len(mixed) == 4, "a window holds pieces from all over the data"
    firsts = {frozenset(p.piece for p in EpochWindows(pieces, 500, 0, epoch, True).parts(0)) for epoch in range(5)}
    assert len(firsts) == 5, "and in every epoch from others"


def test_where_a_row_comes_is_even():
    """Over many seeds, row 0 comes about equally often in each quarter of the epoch."""
    pieces = [10] * 20
    places = [visited(EpochWindows(pieces, 50, seed, 0, True), pieces).index(0) // 50 for seed in range(800)]
    assert np.abs(np.bincount(places, minlength=4) - 200).max() < 5 * np.sqrt(800 * 0.25 * 0.75)
    first = [visited(EpochWindows(pieces, 50, seed, 0, True), pieces).index(0) % 50 // 10 for seed in range(800)]
    assert np.abs(np.bincount(first, minlength=5) - 160).max() < 5 * np.sqrt(800 * 0.2 * 0.8)
