"""Every op once or more: a function over tensors, the same in PyTorch, and inputs to try it on.

`smooth` cases are differentiated numerically too; the others stand at kinks or have no derivative. Inputs are
float64 unless the op is about integers or bool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import apply

rng = np.random.default_rng(7)
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One row of the table; `ours` runs on PyTorch's tensors too, since the names are PyTorch's."""

    op: str
    name: str
    ours: Callable[..., Any]
    inputs: tuple[Array, ...]
    smooth: bool = True
    compare: bool = True  # with PyTorch at all

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"


def normal(*shape: int) -> Array:
    return rng.standard_normal(shape)


def positive(*shape: int) -> Array:
    return rng.uniform(0.3, 3.0, shape)


def apart(*shape: int) -> Array:
    """Distinct numbers at least 0.1 apart, none near 0: away from every kink and tie."""
    count = int(np.prod(shape))
    values = (rng.permutation(count) - count / 2 + 0.5) * 0.23
    return np.asarray(values + 0.05 * np.sign(values)).reshape(shape)


def unary(op: str, inputs: Array, edges: list[float]) -> list[Case]:
    """A function of one number: ordinary inputs, no axes, and the places where it is special."""

    def call(x: Any) -> Any:
        return getattr(x, op)()

    return [
        Case(op, "ordinary", call, (inputs,)),
        Case(op, "no axes", call, (inputs.ravel()[0],)),
        Case(op, "empty", call, (inputs[:0],), smooth=False),
        Case(op, "edges", call, (np.array(edges),), smooth=False),
    ]


def binary(op: str, call: Callable[..., Any], a: Array, b: Array, smooth: bool = True) -> list[Case]:
    """An operator: equal shapes, broadcasting both ways, and a number without axes."""
    return [
        Case(op, "same shape", call, (a, b), smooth=smooth),
        Case(op, "broadcast", call, (a[:, :1], b[0]), smooth=smooth),
        Case(op, "no axes", call, (a, b.ravel()[0]), smooth=smooth),
    ]


INF, NAN = float("inf"), float("nan")
SPECIAL = [0.0, -0.0, INF, -INF, NAN, 1e-300, -1.0, 1.0]
x34, y34 = normal(3, 4), normal(3, 4)
p34, q34, d34, e34 = positive(3, 4), positive(3, 4), apart(3, 4), apart(3, 4)[::-1] + 0.07
i34 = rng.integers(-5, 6, (3, 4))
j34 = rng.integers(1, 5, (3, 4))
b34 = rng.random((3, 4)) > 0.5
octaves = np.ldexp(np.linspace(0.6, 0.9, 12), np.arange(12) % 5 - 1).reshape(3, 4) * np.sign(
    x34
)  # away from powers of 2
index = np.array([[2, 0, -1], [1, 1, 0]])

CASES: list[Case] = [
    # arithmetic
    *binary("add", lambda a, b: a + b, x34, y34),
    *binary("sub", lambda a, b: a - b, x34, y34),
    *binary("mul", lambda a, b: a * b, x34, y34),
    *binary("div", lambda a, b: a / b, x34, p34),
    *binary("pow", lambda a, b: a**b, p34, y34),
    Case("pow", "edges", lambda a, b: a**b, (np.array([0.0, 0.0, 2.0, -2.0, -2.0, 0.0]), np.array([0.0, 2.0, 0.0, 3.0, 2.0, NAN])), smooth=False),
    *binary("remainder", lambda a, b: a % b, d34, q34 + 3, smooth=False),
    Case("remainder", "integers", lambda a, b: a % b, (i34, j34), smooth=False),
    Case("floor_divide", "integers", lambda a, b: a // b, (i34, j34), smooth=False),
    Case("floor_divide", "floats", lambda a, b: a // b, (d34, q34), smooth=False, compare=False),  # PyTorch has no derivative, ours is zero
    # functions of one number
    *unary("neg", x34, SPECIAL), *unary("abs", d34, SPECIAL), *unary("sign", d34, SPECIAL),
    *unary("floor", d34 + 0.01, [*SPECIAL, 2.0, -2.5]), *unary("round", d34 + 0.01, [0.5, 1.5, 2.5, -0.5, NAN]),
    *unary("exp", x34, [*SPECIAL, 800.0, -800.0]), *unary("expm1", x34, [*SPECIAL, 800.0, -800.0]),
    *unary("log", p34, SPECIAL), *unary("log1p", p34, [*SPECIAL, -2.0]),
    *unary("sqrt", p34, SPECIAL), *unary("rsqrt", p34, [1.0, INF, NAN, 4.0]),
    *unary("sin", x34, [0.0, 1e4, NAN]), *unary("cos", x34, [0.0, 1e4, NAN]),
    *unary("tanh", x34, [*SPECIAL, 40.0, -40.0]), *unary("sigmoid", x34, [*SPECIAL, 800.0, -800.0]),
    Case("mish", "ordinary", lambda x: functional_of(x).mish(x), (x34 * 3,)),
    Case("mish", "no axes", lambda x: functional_of(x).mish(x), (x34[0, 0],)),
    Case("mish", "empty", lambda x: functional_of(x).mish(x), (x34[:0],), smooth=False),
    Case("mish", "edges", lambda x: functional_of(x).mish(x), (np.array([0.0, -0.0, NAN, 1e-300, 800.0, -700.0, 30.0, -30.0]),), smooth=False),
    *unary("erf", x34, [*SPECIAL, 8.0, -8.0]), *unary("erfc", x34, [*SPECIAL, 8.0, -8.0]), *unary("relu", d34, SPECIAL),
    Case("frexp", "mantissa", lambda x: x.frexp()[0], (octaves,)),
    Case("frexp", "mantissa, edges", lambda x: x.frexp()[0], (np.array([0.0, -0.0, INF, -INF, NAN, 1.0, 0.5, -3.0]),), smooth=False),
    Case("frexp", "mantissa, tiny", lambda x: x.frexp()[0], (np.array([1e-300]),), smooth=False, compare=False),  # PyTorch's slope overflows
    Case("frexp", "exponent", lambda x: x.frexp()[1], (np.array([*SPECIAL, 0.5, -3.0, 1e30]),), smooth=False),
    Case("frexp", "both", lambda x: x.frexp()[0] * x.frexp()[1].to(x.dtype), (octaves,)),
    # choosing
    *binary("maximum", lambda a, b: a.maximum(b), d34, e34), *binary("minimum", lambda a, b: a.minimum(b), d34, e34),
    Case("maximum", "ties", lambda a, b: a.maximum(b), (np.array([1.0, 2.0, NAN]), np.array([1.0, 3.0, 0.0])), smooth=False),
    Case("minimum", "ties", lambda a, b: a.minimum(b), (np.array([1.0, 2.0, NAN]), np.array([1.0, 3.0, 0.0])), smooth=False),
    Case("where", "floats", lambda c, a, b: a.where(c, b), (b34, x34, y34)),
    Case("where", "broadcast", lambda c, a, b: a.where(c, b), (b34, x34[:, :1], y34[0])),
    # comparing, logic, bits
    *[
        Case(op, kind, call, pair, smooth=False)
        for op, call in {
            "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
            "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
        }.items()
        for kind, pair in {
            "floats": (np.array([1.0, NAN, 2.0, INF]), np.array([1.0, 1.0, 3.0, INF])), "integers": (i34, j34),
        }.items()
    ],
    *[
        Case(op, kind, call, pair, smooth=False)
        for op, call in {
            "bitwise_and": lambda a, b: a & b, "bitwise_or": lambda a, b: a | b, "bitwise_xor": lambda a, b: a ^ b,
        }.items()
        for kind, pair in {"bool": (b34, b34[::-1].copy()), "integers": (i34, j34)}.items()
    ],
    Case("bitwise_not", "bool", lambda a: ~a, (b34,), smooth=False),
    Case("bitwise_not", "integers", lambda a: ~a, (i34,), smooth=False),
    Case("shift_left", "integers", lambda a, b: a << b, (i34, j34), smooth=False),
    Case("shift_right", "integers", lambda a, b: a >> b, (i34, j34), smooth=False),
    Case("cast", "to integers", lambda a: a.long(), (d34,), smooth=False),
    Case("cast", "from bool", lambda a: a.double(), (b34,), smooth=False),
    Case("bitcast", "float64", lambda a: apply(ew.bitcast, a, dtype=cr.int64 if a.dtype is cr.float64 else cr.int32), (np.array([1.0, -0.0, INF, 1e-3]),), smooth=False, compare=False),
    Case("alias", "clone", lambda a: a.clone() * 2, (x34,)),
    Case("detach", "product", lambda a: a.detach() * a, (x34,), smooth=False),
    # reductions
    *[
        Case(op, f"dim {dim}", lambda a, op=op, dim=dim: getattr(a, op)(dim=dim), (d34.reshape(2, 3, 2),))
        for op in ("sum", "amax", "amin")
        for dim in (0, 1, -1, (0, 2))
    ],
    Case("sum", "all", lambda a: a.sum(), (x34,)),
    Case("sum", "integers", lambda a: a.sum(1), (i34,), smooth=False),
    Case("sum", "bool", lambda a: a.sum(0), (b34,), smooth=False),
    Case("sum", "long", lambda a: a.sum(1), (normal(3, 1000),)),
    Case("amax", "ties", lambda a: a.amax(1), (np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]),), smooth=False),
    Case("amin", "NaN", lambda a: a.amin(1), (np.array([[1.0, NAN, 3.0]]),), smooth=False, compare=False),
    Case("argmax", "ties", lambda a: a.argmax(1), (np.array([[1.0, 3.0, 3.0], [NAN, 5.0, NAN]]),), smooth=False),
    Case("argmin", "dim 0", lambda a: a.argmin(0), (d34,), smooth=False),
    Case("sum", "mean", lambda a: a.mean(1), (x34,)),
    Case("sum", "var", lambda a: a.var(1), (x34,)),
    Case("sum", "softmax", lambda a: a.softmax(1), (x34 * 5,)),
    Case("sum", "log_softmax of large", lambda a: a.log_softmax(1), (x34 * 300,)),
    Case("sum", "logsumexp", lambda a: a.logsumexp(1), (x34,)),
    # views
    Case("reshape", "refined", lambda a: a.reshape(2, 6).sin(), (x34,)),
    Case("reshape", "behind a permutation", lambda a: a.T.reshape(2, 6).sin(), (x34,)),
    Case("permute", "three axes", lambda a: a.permute(2, 0, 1) * 2, (normal(2, 3, 4),)),
    Case("expand", "rows", lambda a: a.expand(3, 2, 4) * 3, (normal(2, 4),)),
    Case("slice", "steps", lambda a: a[1:, ::2] * a[:-1, 1::2], (x34,)),
    Case("pad", "gradient of a slice", lambda a: (a[1:, 1:3] ** 2).sum() * a, (x34,)),
    Case("flip", "both axes", lambda a: a.flip((0, 1)) * a, (x34,)),
    Case("cat", "three", lambda a, b: cat_of(a)([a, b, a], 1), (x34, y34)),
    # products
    Case("matmul", "matrices", lambda a, b: a @ b, (normal(5, 7), normal(7, 3))),
    Case("matmul", "transposed", lambda a, b: a.T @ b.T, (normal(7, 5), normal(3, 7))),
    Case("matmul", "batch", lambda a, b: a @ b, (normal(2, 1, 4, 3), normal(5, 3, 2))),
    Case("matmul", "vector", lambda a, b: a @ b, (normal(4, 3), normal(3))),
    Case("matmul", "one row", lambda a, b: a @ b, (normal(1, 33), normal(33, 17))),
    Case("matmul", "odd", lambda a, b: a @ b, (normal(13, 65), normal(65, 19))),
    # windows
    Case("unfold", "overlapping", lambda a: a.unfold(1, 2, 1).sin(), (x34,)),
    Case("unfold", "apart, with a rest", lambda a: a.unfold(0, 2, 3) * 2, (normal(9, 3),)),
    Case("unfold", "a long window", lambda a: a.unfold(0, 40, 7).sin(), (normal(90),)),
    Case("unfold", "a product of its windows", lambda a, b: a.unfold(1, 4, 1) @ b, (normal(2, 20), normal(4, 17))),
    Case("unfold", "windows of a product's second factor", lambda a, b: b @ a.unfold(1, 4, 1), (normal(2, 20), normal(5, 17))),
    *[
        Case("conv", name, lambda a, b, c, more=more: functional_of(a).conv2d(a, b, c, **more), (normal(*x), normal(*w), normal(w[0])))
        for name, x, w, more in [
            ("plain", (2, 3, 6, 7), (5, 3, 3, 2), {}),
            ("padded", (2, 3, 5, 5), (4, 3, 3, 3), {"padding": 1}),
            ("same", (1, 2, 5, 4), (3, 2, 5, 3), {"padding": "same"}),
            ("strides and a rest", (3, 2, 8, 9), (4, 2, 3, 3), {"stride": (2, 3), "padding": (2, 1)}),
            ("dilation", (2, 2, 9, 8), (3, 2, 3, 2), {"dilation": (2, 3), "stride": (2, 1)}),
            ("groups", (2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
            ("a group each", (2, 4, 7, 7), (4, 1, 3, 3), {"groups": 4, "padding": 1}),
            ("a group each, far apart", (2, 3, 9, 9), (3, 1, 5, 5), {"groups": 3, "stride": 2, "padding": 2}),
            ("one output channel", (2, 3, 5, 6), (1, 3, 3, 3), {"padding": 1}),
            ("one place", (2, 3, 4, 4), (5, 3, 4, 4), {}),
            ("windows of one", (3, 8, 4, 5), (7, 8, 1, 1), {}),
            ("windows of one, apart", (3, 8, 5, 5), (7, 8, 1, 1), {"stride": 2}),
            ("no batch", (3, 5, 5), (2, 3, 3, 3), {}),
            ("many channels", (2, 18, 7, 9), (21, 18, 5, 3), {"padding": (2, 1)}),
        ]
    ],
    Case("conv", "one axis", lambda a, b: functional_of(a).conv1d(a, b, stride=2, dilation=2, padding=3), (normal(2, 3, 11), normal(5, 3, 3))),
    Case("conv", "three axes", lambda a, b: functional_of(a).conv3d(a, b, padding=1), (normal(2, 2, 3, 4, 3), normal(3, 2, 2, 3, 2))),
    # indexing
    Case("take", "rows", lambda a, i: a[i], (x34, index)),
    Case("take", "gather", lambda a, i: a.gather(1, i), (x34, np.abs(index[[0, 1, 0]]) )),
    Case("take", "two axes", lambda a, i, j: a[i, j], (x34, np.array([0, 2, 2]), np.array([3, 1, 1]))),
    Case("put_add", "repeated rows", lambda a, i, s: a.scatter_add(0, i, s), (x34, np.array([[0, 0, 0, 0], [0, 1, 2, 0]]), normal(2, 4))),
    Case("put", "rows", lambda a, i, s: a.scatter(0, i, s), (x34, np.array([[0, 1, 2, 0]]), normal(1, 4))),
]  # fmt: skip


def cat_of(tensor: Any) -> Callable[..., Any]:
    """``cat`` of the library that a tensor belongs to."""
    import importlib

    cat: Callable[..., Any] = importlib.import_module(type(tensor).__module__.split(".")[0]).cat
    return cat


def functional_of(tensor: Any) -> Any:
    """``nn.functional`` of the library that a tensor belongs to."""
    import importlib

    return importlib.import_module(f"{type(tensor).__module__.split('.')[0]}.nn.functional")


# Ops without a row: what they need to be tested with, and where that is.
ELSEWHERE = {
    "custom": "tests/ops/test_op_table.py, through cr.custom_vjp",
    "check_index": "made by the compiler: tests/compiler",
    "random_bits": "tests/ops/test_op_table.py: published bits, eager against native",
    "iota": "tests/ops/test_op_table.py",
}
