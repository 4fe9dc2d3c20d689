"""Random programs give PyTorch's values and gradients."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="compares with PyTorch")

from tests.hunters import pieces, programs
from tests.hunters.drawing import ROWS, STATEMENTS


def test_eager_programs_give_what_pytorch_gives():
    assert programs.hunt(0, 300, compiled=False) == {}


def test_compiled_programs_give_what_pytorch_gives():
    assert programs.hunt(10_000, 24) == {}
    assert (
        programs.hunt(20_012, 4, families=ROWS) == {}
    )  # 20_014: a row that is read as it is and moved, beside another fold


def test_programs_cut_anywhere_give_the_same_bits():
    assert pieces.hunt(30, 21) == {}
    assert pieces.hunt(114, 1) == {}  # a product whose factors lie otherwise where it is cut
    assert pieces.hunt(235, 1) == {}  # a function of a number that is known while compiling


def test_programs_that_wait_give_what_they_give_computed_at_once():
    assert programs.hunt(50_000, 8, families=STATEMENTS, waiting=True) == {}
