"""What does not fit in memory is refused before it is begun."""

from __future__ import annotations

import re

import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import available, nn
from chainrule.errors import NotEnoughMemoryError

MANY, SIDE = 2**40, 2**20
MADE = {
    "zeros": lambda: cr.zeros(MANY), "ones": lambda: cr.ones(MANY), "empty": lambda: cr.empty(MANY), "full": lambda: cr.full((MANY,), 1.0),
    "arange": lambda: cr.arange(MANY), "linspace": lambda: cr.linspace(0, 1, MANY), "random": lambda: cr.randn(MANY),
}  # fmt: skip
COMPUTED = {
    "add": lambda: cr.zeros(SIDE, 1) + cr.zeros(SIDE), "matmul": lambda: cr.zeros(SIDE, 1) @ cr.zeros(1, SIDE),
    "eq": lambda: cr.eye(SIDE), "cat": lambda: cr.cat([cr.zeros(1).expand(MANY)] * 2),
    "one_hot": lambda: F.one_hot(cr.zeros(SIDE).long(), SIDE), "linear": lambda: nn.Linear(SIDE, SIDE),
    "repeat": lambda: cr.zeros(4).repeat(MANY), "cast": lambda: cr.zeros(1).expand(MANY).double(),
    "beyond all integers": lambda: cr.zeros(2**62, 4), "compiled": lambda: cr.compile(lambda: cr.zeros(MANY) + 1)(),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_making_a_tensor(name):
    with pytest.raises(NotEnoughMemoryError) as error:
        MADE[name]()
    pattern = rf"{name} \(test_room.py:\d+ in .*\): a tensor of shape \(1099511627776,\) and \S+ needs [\d,]+ bytes, and [\d,]+ are available. "
    assert re.fullmatch(pattern + re.escape(available.OF_A_TENSOR), str(error.value))
    assert isinstance(error.value, MemoryError)


@pytest.mark.parametrize("name", COMPUTED)
def test_computing_a_tensor(name):
    with pytest.raises(NotEnoughMemoryError, match="bytes, and .* are available|finds no room"):
        COMPUTED[name]()


def test_a_view_takes_no_room():
    assert cr.zeros(1).expand(MANY).shape == (MANY,)


def test_what_fits_now_and_not_later(monkeypatch):
    a, b = cr.zeros(5000, 1), cr.zeros(5000)
    assert (a + b).shape == (5000, 5000)
    monkeypatch.setattr(available, "available_bytes", lambda: 10**7)
    with pytest.raises(
        NotEnoughMemoryError,
        match=r"^add .*: a tensor of shape \(5000, 5000\) and .* needs 100,000,000 bytes, and 10,000,000",
    ):
        a + b
    assert (a + 1).shape == (5000, 1)
