"""Numbers that a dtype cannot hold are refused where PyTorch refuses them, and wrap around where it lets them."""

import pytest

import chainrule as cr
from chainrule.errors import DtypeError

MADE = {
    "tensor": lambda lib, v, d: lib.tensor(v, dtype=d),
    "tensor of a list": lambda lib, v, d: lib.tensor([1, v], dtype=d),
    "full": lambda lib, v, d: lib.full((2,), v, dtype=d),
    "full_like": lambda lib, v, d: lib.full_like(lib.zeros(2, dtype=d), v),
    "new_full": lambda lib, v, d: lib.zeros(2, dtype=d).new_full((1,), v),
    "fill_": lambda lib, v, d: lib.zeros(2, dtype=d).fill_(v),
    "masked_fill": lambda lib, v, d: lib.zeros(2, dtype=d).masked_fill(lib.tensor([True, False]), v),
    "sum": lambda lib, v, d: lib.ones(2, dtype=d) + v,
}
VALUES = [
    0,
    7,
    -1,
    255,
    256,
    300,
    -300,
    2**31 - 1,
    2**31,
    -(2**31),
    2**40,
    3.7,
    300.5,
    float("inf"),
    float("nan"),
    True,
]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("name", MADE)
def test_as_in_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    made = MADE[name]
    for value in VALUES:
        if name in ("masked_fill", "sum") and isinstance(value, float):
            continue  # a float is no operand of integers, or makes floats of them
        try:
            expected = made(torch, value, getattr(torch, dtype)).tolist()
        except RuntimeError:
            with pytest.raises(DtypeError, match=rf"does not fit {dtype}"):
                made(cr, value, getattr(cr, dtype))
        else:
            assert made(cr, value, getattr(cr, dtype)).tolist() == expected, value


def test_the_message_and_floats():
    with pytest.raises(DtypeError) as raised:
        cr.tensor([3, 300], dtype=cr.uint8)
    assert str(raised.value) == (
        "tensor (test_range.py:57 in test_the_message_and_floats): the number 300 does not fit uint8. Use another dtype, or "
        "bring it into the range."
    )
    with pytest.raises(DtypeError, match="the number 1e[+]300 does not fit float32"):
        cr.full((2,), 1e300)
    assert cr.full((1,), float("inf")).tolist() == [float("inf")] and cr.tensor(1e300).tolist() == float("inf")


def test_inside_a_trace_too():
    with pytest.raises(DtypeError, match="does not fit uint8"):
        cr.compile(lambda x: x + cr.full((2,), 300, dtype=cr.uint8))(cr.zeros(2, dtype=cr.uint8))


@pytest.mark.parametrize("value", [2**63, 2**80, -(2**63) - 1])
def test_operands_beyond_64_bits(value):
    with pytest.raises(DtypeError, match=rf"the number {value} does not fit int64"):
        cr.tensor([1, 2]) + value
