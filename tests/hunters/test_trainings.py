"""Random trainings agree with PyTorch in every way of running; many more: ``python -m tests.hunters.trainings --count 1000``."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="compares with PyTorch")

from tests.hunters import trainings


def test_trainings_end_where_pytorchs_do():
    assert trainings.hunt(0, 8) == {}


def test_trainings_that_wait_end_where_those_do_that_are_computed_at_once():
    assert trainings.hunt(100, 6, trainings.waiting) == {}
