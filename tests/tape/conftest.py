"""A test meets a tape that has recorded nothing yet, and no hooks: a backward pass is no door while there are any in the process."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakValueDictionary

import pytest

import chainrule.tape
from chainrule import graph
from chainrule.tensor import hooks


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.at_once("says itself what is to wait"))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    chainrule.tape._own.tape = None
    monkeypatch.setattr(hooks, "_live", WeakValueDictionary())
    yield
    assert graph._local.tape is None, "a test left operations waiting"
    chainrule.tape._own.tape = None
