"""A test meets a tape that has recorded nothing yet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import chainrule.tape
from chainrule import graph


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    chainrule.tape._own.tape = None
    yield
    assert graph._local.tape is None, "a test left operations waiting"
    chainrule.tape._own.tape = None
