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


@pytest.mark.parametrize("dtype", [cr.int64, cr.int32, cr.uint8])
@pytest.mark.parametrize(
    "divide",
    [lambda a, b: a // b, lambda a, b: a % b, lambda a, b: a.div(b, rounding_mode="trunc")],
    ids=["//", "%", "trunc"],
)
def test_compiled_as_eager(divide, dtype):
    compiled = cr.compile(divide)
    a, b = cr.tensor([7, 9, 100], dtype=dtype), cr.tensor([2, 3, 7], dtype=dtype)
    assert compiled(a, b).tolist() == divide(a, b).tolist()
    text = r"integers were divided by 0 \(test_division_by_zero.py:\d+ in .*\)\. Convert them with \.float\(\)"
    with pytest.raises(DivisionByZeroError, match=text):
        compiled(a, cr.tensor([2, 0, 7], dtype=dtype))
    assert compiled(a, b).tolist() == divide(a, b).tolist()  # and goes on
    with pytest.raises(DivisionByZeroError, match=r"step 1 of the loop"):
        compiled.loop(cr.stack([a, a]), cr.stack([b, b * 0]))


def test_what_divides_by_a_constant_has_no_check():
    compiled = cr.compile(lambda a: a // 3)
    compiled(cr.tensor([7]))
    assert "check" not in compiled.show("graph")


def test_truncated_quotients_are_exact():
    torch = pytest.importorskip("torch")
    a, b = [2**62 + 1, -(2**62) - 1, 7, -7, 7, -7, 6, -6], [3, 3, 2, 2, -2, -2, 3, 3]
    expected = torch.tensor(a).div(torch.tensor(b), rounding_mode="trunc").tolist()
    assert cr.tensor(a).div(cr.tensor(b), rounding_mode="trunc").tolist() == expected
