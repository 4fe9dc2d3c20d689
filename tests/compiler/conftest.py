"""A cache of machine code that lives as long as the tests of the compiler."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import chainrule as cr
from chainrule.compiler.plan import cost
from chainrule.compiler.runtime.thread_tuner import ThreadTuner


@pytest.fixture(scope="package", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("CHAINRULE_CACHE_DIR")
    os.environ["CHAINRULE_CACHE_DIR"] = str(tmp_path_factory.mktemp("machine-code"))
    yield
    if before is None:
        del os.environ["CHAINRULE_CACHE_DIR"]
    else:
        os.environ["CHAINRULE_CACHE_DIR"] = before


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sharing costs nothing, so that whatever can be shared is."""
    for name in ("BARRIER", "SMALL", "CALL", "AHEAD"):
        monkeypatch.setattr(cost, name, 0.0)
    for name in ("FOREIGN", "NEAR"):
        monkeypatch.setattr(cost, name, float("inf"))


@pytest.fixture
def everything_divided(free: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every kernel of every program is shared, however small, on as many threads as are allowed."""
    monkeypatch.setattr(ThreadTuner, "choose", lambda self, left, limit: (limit, left))
    monkeypatch.setattr(ThreadTuner, "note", lambda self, threads, steps, seconds: None)
    before = cr.get_num_threads()
    yield
    cr.set_num_threads(before)
