"""Wherever the stretches of a training end, it comes to the same; many more: ``python -m tests.hunters.stretches --count 1000``."""

from __future__ import annotations

from tests.hunters import stretches


def test_random_trainings_come_to_the_same_in_stretches_of_any_length():
    assert stretches.hunt(0, 12) == {}
