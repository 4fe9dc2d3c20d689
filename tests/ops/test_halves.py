"""The order in which rows of a batch are added: each half for itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from chainrule.ops.halves import LEAF, leaves, parts, places, total

ROWS = [1, 63, 127, 128, 129, 150, 255, 256, 257, 511, 640, 1000, 1100, 4097, 60_000]


def sizes(rows: int) -> list[int]:
    return [end - start for start, end in pairwise([0, *(leaf.end for leaf in leaves(rows))])]


@pytest.mark.parametrize("rows", ROWS)
def test_a_half_is_cut_as_it_is_by_itself(rows: int) -> None:
    if rows < 2 * LEAF:
        assert sizes(rows) == [rows]
    else:
        assert sizes(rows) == sizes(rows - rows // 2) + sizes(rows // 2)
        assert min(sizes(rows)) >= LEAF and max(sizes(rows)) < 2 * LEAF


def halving(values: list[str]) -> str:
    if len(values) < 2 * LEAF:
        return f"[{values[0]}..{values[-1]}]"
    middle = len(values) - len(values) // 2
    return f"({halving(values[:middle])} + {halving(values[middle:])})"


@pytest.mark.parametrize("rows", ROWS)
def test_totals_are_joined_as_the_halves_are(rows: int) -> None:
    names = [str(i) for i in range(rows)]
    found = total(leaves(rows), lambda start, end: f"[{names[start]}..{names[end - 1]}]", "({} + {})".format)
    assert found == halving(names)
    assert places(leaves(rows)) <= max(0, (rows // LEAF).bit_length() - 1)


def test_as_many_parts_as_were_asked_for() -> None:
    assert [part.end for part in parts(11, 4)] == [3, 6, 9, 11]
    assert total(parts(7, 8 // 2), lambda i, j: f"{i}-{j}", "({} {})".format) == "((0-2 2-4) (4-6 6-7))"
    assert total(parts(5, 1), lambda i, j: f"{i}-{j}", "({} {})".format) == "0-5"


def test_the_error_of_long_sums_falls() -> None:
    x = np.random.default_rng(0).standard_normal((200, 20_000)).astype("f4") + 1

    def straight(start: int, end: int) -> np.ndarray:
        return np.add.accumulate(x[:, start:end], axis=1)[:, -1]

    exact = x.astype("f8").sum(1)
    halved, plain = total(leaves(x.shape[1]), straight, np.add), straight(0, x.shape[1])
    assert np.abs(halved - exact).mean() < np.abs(plain - exact).mean() / 10
