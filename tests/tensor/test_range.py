"""Numbers that a dtype cannot hold are refused where PyTorch refuses them.

Where it lets integers wrap around they do, if that gives what the number would give (a sum); else they are refused, too.
"""

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
    "setitem": lambda lib, v, d: _written(lib.ones(2, dtype=d), 0, v),
    "setitem by a mask": lambda lib, v, d: _written(lib.ones(2, dtype=d), lib.tensor([True, False]), v),
    "scatter": lambda lib, v, d: lib.ones(2, dtype=d).scatter(0, lib.tensor([1]), v),
    "pad": lambda lib, v, d: lib.nn.functional.pad(lib.ones(2, dtype=d), (1, 0), value=v),
    "linspace": lambda lib, v, d: lib.linspace(0, v, 2, dtype=d),
}
OPERATIONS = {  # integers for integers; a float makes floats of them, or is refused as such
    "masked_fill": MADE.pop("masked_fill"),
    "sum": lambda lib, v, d: lib.ones(2, dtype=d) + v,
    "product": lambda lib, v, d: v * lib.ones(2, dtype=d),
    "bits": lambda lib, v, d: lib.ones(2, dtype=d) ^ v,
    "base of a power": lambda lib, v, d: v ** (lib.ones(2, dtype=d) + 1),
    "exponent": lambda lib, v, d: (lib.ones(2, dtype=d) + 1) ** abs(v),
    "clamp min": lambda lib, v, d: lib.ones(2, dtype=d).clamp(min=v),
    "clamp max": lambda lib, v, d: lib.clamp(lib.ones(2, dtype=d), max=v),
    "clamp_": lambda lib, v, d: lib.ones(2, dtype=d).clamp_(0, v),
    "where": lambda lib, v, d: lib.where(lib.tensor([True, False]), v, lib.ones(2, dtype=d)),
    "x.where": lambda lib, v, d: lib.ones(2, dtype=d).where(lib.tensor([True, False]), v),
    "index_fill": lambda lib, v, d: lib.ones(2, dtype=d).index_fill(0, lib.tensor([1]), v),
    "threshold": lambda lib, v, d: lib.nn.functional.threshold(lib.ones(2, dtype=d), v, 7),
    "value of threshold": lambda lib, v, d: lib.nn.functional.threshold(lib.ones(2, dtype=d), 7, v),
    "hardtanh": lambda lib, v, d: lib.nn.functional.hardtanh(lib.ones(2, dtype=d), 0, abs(v)),
    "alpha": lambda lib, v, d: lib.ones(2, dtype=d).add(lib.ones(2, dtype=d), alpha=v),
    "addcmul": lambda lib, v, d: lib.ones(2, dtype=d).addcmul(*(lib.ones(2, dtype=d),) * 2, value=v),
    "addmm alpha": lambda lib, v, d: lib.addmm(*(lib.ones(2, 2, dtype=d),) * 3, alpha=v),
    "addmm beta": lambda lib, v, d: lib.addmm(*(lib.ones(2, 2, dtype=d),) * 3, beta=v),
    "index_add": lambda lib, v, d: lib.ones(2, dtype=d).index_add(0, lib.tensor([1]), lib.ones(1, dtype=d), alpha=v),
}
WRAP_IN_PYTORCH = {  # and give another result than the number would
    "floor_divide": lambda lib, x, v: x // v,
    "floor_divide_": lambda lib, x, v: x.floor_divide_(v),
    "floor_divide, reflected": lambda lib, x, v: v // x,
    "div": lambda lib, x, v: lib.div(x, v, rounding_mode="trunc"),
    "remainder": lambda lib, x, v: x % v,
    "remainder, reflected": lambda lib, x, v: lib.remainder(v, x),
    "fmod": lambda lib, x, v: x.fmod(v),
    "eq": lambda lib, x, v: x == v,
    "ne": lambda lib, x, v: x != v,
    "lt": lambda lib, x, v: x < v,
    "le": lambda lib, x, v: lib.le(x, v),
    "gt": lambda lib, x, v: v < x,
    "ge": lambda lib, x, v: x.ge_(v),
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
    2**32 + 3,
    -(2**31) - 1,
    3.7,
    -0.5,
    255.5,
    300.5,
    2**31 - 0.5,
    float("inf"),
    float("nan"),
    True,
]


def _written(x, key, value):
    x[key] = value
    return x


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("name", [*MADE, *OPERATIONS])
def test_as_in_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    made = MADE.get(name) or OPERATIONS[name]
    for value in VALUES:
        if type(value) is not int and (name in OPERATIONS or (value is True and name in ("pad", "linspace"))):
            continue  # those two refuse a bool
        try:
            expected = made(torch, value, getattr(torch, dtype))
        except (RuntimeError, OverflowError):
            with pytest.raises(DtypeError, match=r"does not fit (u?int\d+)"):
                made(cr, value, getattr(cr, dtype))
        else:
            result = made(cr, value, getattr(cr, dtype))
            assert result.tolist() == expected.tolist(), value
            assert result.dtype.name == dtype


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", WRAP_IN_PYTORCH)
def test_refused_where_pytorch_computes_with_another_number(name, compiled):
    torch = pytest.importorskip("torch")
    compute = WRAP_IN_PYTORCH[name]
    for dtype, value in (("uint8", 256), ("uint8", 300), ("int32", 2**40), ("int32", 2**32 + 3), ("int32", -(2**40))):
        ours = (lambda x: compute(cr, x, value)) if not compiled else cr.compile(lambda x: compute(cr, x, value))  # noqa: B023
        with pytest.raises(DtypeError, match=rf"the number {value} does not fit {dtype}\. Use another dtype"):
            ours(cr.ones(2, dtype=getattr(cr, dtype)))
    for value in (3, 200):
        expected = compute(torch, torch.tensor([7, 201], dtype=torch.uint8), value)
        assert compute(cr, cr.tensor([7, 201], dtype=cr.uint8), value).tolist() == expected.tolist()


def test_limits_of_unsigned_integers():
    with pytest.raises(DtypeError) as raised:
        cr.nn.functional.hardtanh(cr.ones(2, dtype=cr.uint8), -1, 1)
    assert str(raised.value) == (
        "hardtanh (test_range.py:127 in test_limits_of_unsigned_integers): unsigned integers have no negative limits, got -1 "
        "and 1. Use clamp(max=...), or convert with .int()."
    )


def test_drawn_numbers_fit():
    assert cr.randint(0, 256, (2,), dtype=cr.uint8).dtype is cr.uint8
    assert cr.zeros(2, dtype=cr.uint8).random_().max() <= 255
    with pytest.raises(DtypeError) as raised:
        cr.randint(0, 257, (2,), dtype=cr.uint8)
    assert str(raised.value) == (
        "randint (test_range.py:138 in test_drawn_numbers_fit): the numbers drawn must fit uint8, got those from 0 to 256. Use "
        "another dtype, or narrow the range."
    )
    for low, high in ((-1, 5), (2**40, 2**40 + 1)):
        with pytest.raises(DtypeError, match=r"^random_ .*the numbers drawn must fit uint8"):
            cr.zeros(2, dtype=cr.uint8).random_(low, high)


def test_the_message_and_floats():
    with pytest.raises(DtypeError) as raised:
        cr.tensor([3, 300], dtype=cr.uint8)
    assert str(raised.value) == (
        "tensor (test_range.py:150 in test_the_message_and_floats): the number 300 does not fit uint8. Use another dtype, or "
        "bring it into the range."
    )
    with pytest.raises(DtypeError, match="the number 1e[+]300 does not fit float32"):
        cr.full((2,), 1e300)
    assert cr.full((1,), float("inf")).tolist() == [float("inf")] and cr.tensor(1e300).tolist() == float("inf")


def test_inside_a_trace_too():
    with pytest.raises(DtypeError, match="does not fit uint8"):
        cr.compile(lambda x: x + cr.full((2,), 300, dtype=cr.uint8))(cr.zeros(2, dtype=cr.uint8))
    with pytest.raises(DtypeError, match=r"^clamp .*the number 1099511627776 does not fit int32"):
        cr.compile(lambda x: x.clamp(max=2**40))(cr.ones(2, dtype=cr.int32))
    with pytest.raises(DtypeError, match=r"^pow .*the number 1099511627776 does not fit int32"):
        cr.compile(lambda x: x**2**40)(cr.ones(2, dtype=cr.int32))


@pytest.mark.parametrize("value", [2**63, 2**80, -(2**63) - 1])
def test_operands_beyond_64_bits(value):
    with pytest.raises(DtypeError, match=rf"the number {value} does not fit int64"):
        cr.tensor([1, 2]) + value
    for name in ("setitem", "scatter", "pad", "linspace", "clamp max", "where", "alpha"):
        with pytest.raises(DtypeError, match=rf"the number {value} does not fit int64"):
            (MADE.get(name) or OPERATIONS[name])(cr, value, cr.int64)
