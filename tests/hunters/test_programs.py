"""Random programs give PyTorch's values and gradients."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="compares with PyTorch")

from tests.hunters import programs


def test_eager_programs_give_what_pytorch_gives():
    assert programs.hunt(0, 300, compiled=False) == {}


def test_compiled_programs_give_what_pytorch_gives():
    assert programs.hunt(10_000, 24) == {}
