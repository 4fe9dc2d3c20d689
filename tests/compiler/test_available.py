"""Too large for the machine: an error before anything runs, with the bytes."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler import available
from chainrule.errors import ChainruleError, NotEnoughMemoryError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1,000 bytes left."""
    monkeypatch.setattr(available, "SURE", 0)
    monkeypatch.setattr(available, "available_bytes", lambda: 1000)


def expected(what: str, size: int) -> str:
    return re.escape(
        f"cr.compile: {what} needs {size:,} bytes, and 1,000 are available. Use a smaller batch, fewer steps in one "
        f"loop, or a smaller model."
    )


def test_working_memory(small: None) -> None:
    weight = cr.tensor(np.ones((64, 64), np.float32))
    step = cr.compile(lambda x: ((x @ weight).tanh() @ weight).sum())
    two_products = 2 * 64 * 64 * 4
    text = expected("the working memory of a compiled step (1 thread)", two_products)
    with pytest.raises(MemoryError, match=f"^{text}$"):
        step(cr.tensor(np.ones((64, 64), np.float32)))


def test_results_of_a_loop_and_state_as_it_was(small: None) -> None:
    total = cr.tensor(0.0)

    @cr.compile
    def add(x: cr.Tensor) -> cr.Tensor:
        total.add_(x.sum())
        return x * 2

    with pytest.raises(NotEnoughMemoryError, match=f"^{expected('the results of 100 steps in one loop', 4000)}$"):
        add.loop(cr.tensor(np.ones((100, 10), np.float32)))
    assert total.item() == 0.0
    assert add.loop(cr.tensor(np.ones((2, 10), np.float32))).shape == (2, 10)
    assert total.item() == 20.0


def test_it_is_both_kinds_of_error() -> None:
    assert issubclass(NotEnoughMemoryError, ChainruleError)
    assert issubclass(NotEnoughMemoryError, MemoryError)


def test_a_step_that_no_machine_holds() -> None:
    rows = cr.tensor(np.zeros((1, 1), np.float32)).expand(1 << 24, 4)
    with pytest.raises(NotEnoughMemoryError, match=r"needs 1,\d\d\d,\d\d\d,\d\d\d,\d\d\d,?\d* bytes, and"):
        cr.compile(lambda x: (x @ x.T).exp().sum())(rows)


def test_what_the_system_says_is_a_number_of_bytes() -> None:
    room = available.available_bytes()
    assert room is None or room > 1 << 20
