"""Integers divided by 0 raise, as in PyTorch; floats give inf and NaN."""

import math
import operator

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DivisionByZeroError

CALLS = {
    "x // 0": lambda: cr.tensor([1]) // 0,
    "x % 0": lambda: cr.tensor([1]) % 0,
    "1 // x": lambda: 1 // cr.tensor([1, 0]),
    "1 % x": lambda: 1 % cr.tensor([1, 0]),
    "x // y": lambda: cr.tensor([[1], [2]]) // cr.tensor([3, 0]),
    "x % array": lambda: cr.tensor([1, 2]) % cr.tensor(np.array([3, 0])),
    "x // False": lambda: cr.tensor([1]) // False,
    "uint8": lambda: cr.tensor([1], dtype=cr.uint8) % 0,
    "floor_divide": lambda: cr.floor_divide(cr.tensor([1]), 0),
    "remainder": lambda: cr.remainder(cr.tensor([1]), 0),
    "div floor": lambda: cr.tensor([1]).div(0, rounding_mode="floor"),
    "div trunc": lambda: cr.tensor([1]).div(0, rounding_mode="trunc"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", [DivisionByZeroError, RuntimeError, ZeroDivisionError])
def test_integers_divided_by_zero_raise(call, kind):
    with pytest.raises(
        kind, match=r"^(floor_divide|remainder|div) .*: integers were divided by 0\. Convert them with \.float\(\)"
    ):
        CALLS[call]()


@pytest.mark.parametrize("write", [operator.ifloordiv, operator.imod])
def test_a_tensor_stays_as_it_was_when_it_is_divided_by_zero_in_place(write):
    x = cr.tensor([5, 7])
    with pytest.raises(DivisionByZeroError):
        write(x, 0)
    assert x.tolist() == [5, 7]


def test_floats_and_nothing_may_be_divided_by_zero():
    x = cr.tensor([1.0, -1.0])
    assert (x // 0).tolist() == [math.inf, -math.inf]
    assert all(map(math.isnan, (x % 0).tolist()))
    assert (cr.tensor([1]) // cr.tensor([0.0])).tolist() == [math.inf]
    assert (cr.zeros(0, dtype=cr.int64) // 0).tolist() == []
    assert (cr.tensor([0, 5]) // 5).tolist() == [0, 1]
