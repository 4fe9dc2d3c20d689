"""The order of kernels against plain reachability."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.compiler.schedule.dependency import Dependencies


def reachable(edges: set[tuple[int, int]], start: int) -> set[int]:
    found: set[int] = set()
    stack = [start]
    while stack:
        at = stack.pop()
        new = {a for a, b in edges if b == at} - found
        found |= new
        stack += new
    return found


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
def test_after_is_reachability_whatever_the_order_of_additions(pairs: list[tuple[int, int]]) -> None:
    order, edges = Dependencies(), set[tuple[int, int]]()
    for _ in range(12):
        order.add()
    for earlier, later in pairs:
        if later in reachable(edges, earlier) or earlier == later:
            continue  # it would close a circle
        order.put(later, [earlier])
        edges.add((earlier, later))
    for number in range(12):
        assert {n for n in range(12) if order.after(number, n)} == reachable(edges, number)
        assert order.depth(number) == len(reachable(edges, number))
    row = order.linear([0] * 12)
    assert sorted(row) == list(range(12))
    assert all(row.index(a) < row.index(b) for a, b in edges)


def test_numbers_that_need_not_wait_go_by_rank_and_ascending() -> None:
    order = Dependencies()
    for _ in range(4):
        order.add()
    order.put(1, [3])
    assert order.linear([0] * 4) == [0, 2, 3, 1]
    assert order.linear([4, 1, 3, 2]) == [3, 1, 2, 0]


def test_what_is_urgent_goes_ahead_of_all_ranks() -> None:
    order = Dependencies()
    for _ in range(4):
        order.add()
    order.put(3, [2])
    assert order.linear([0, 1, 2, 3], lambda number: [3] if number == 0 else []) == [0, 1, 2, 3]
    assert order.linear([2, 3, 0, 4], lambda number: [3] if number == 2 else []) == [2, 3, 0, 1]


def test_who_waits_for_a_part_waits_for_the_whole() -> None:
    order = Dependencies()
    first, other = order.add(), order.add()
    before, user = order.add(), order.add([other])
    order.put(other, [before])
    order.merge(first, other)
    assert order.after(user, first)
    assert order.after(first, before)
    assert order.after(user, before)


def test_a_circle_is_refused() -> None:
    order = Dependencies()
    a = order.add()
    b = order.add([a])
    with pytest.raises(ValueError, match="the kernels wait for each other; this is a bug in chainrule"):
        order.put(a, [b])
