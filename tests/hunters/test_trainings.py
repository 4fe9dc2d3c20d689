"""Random trainings agree with PyTorch in every way of running; many more: ``python -m tests.hunters.trainings --count 1000``."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="compares with PyTorch")

from tests.hunters import trainings


def test_trainings_end_where_pytorchs_do():
    assert trainings.hunt(0, 8) == {}
