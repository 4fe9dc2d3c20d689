"""What the tests of faults share."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def nothing_left_over() -> None:
    """Garbage of earlier tests is gone, and what they keep is not looked through again at each of hundreds of faults.

    Nor at the next tests: what has been looked at stays aside, as whatever was there when the tests were collected does.
    """
    gc.collect()
    gc.freeze()
