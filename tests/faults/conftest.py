"""What the tests of faults share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    """Garbage of earlier tests is gone, and what they keep is not looked through again at each of hundreds of faults."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
