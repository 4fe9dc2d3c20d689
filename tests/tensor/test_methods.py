"""Every method of Tensor that has PyTorch's name gives what PyTorch's gives: value, dtype, shape, or an error.

Each is called on tensors of several shapes (without axes and empty ones too) and dtypes, in each of its forms.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr

FLOATS, INTEGERS, BOOL = ("float32", "float64"), ("int32", "int64", "uint8"), ("bool",)
DTYPES = FLOATS + INTEGERS + BOOL
SHAPES = [(), (1,), (4,), (0,), (2, 3), (2, 0, 3), (2, 1, 3)]
REFUSED = (cr.ChainruleError, TypeError, ValueError, IndexError)


class A(NamedTuple):
    """An argument that is a tensor in whichever library is called."""

    shape: tuple[int, ...]
    dtype: str
    values: Any = None


class D(NamedTuple):
    """A dtype of whichever library is called."""

    name: str


class Call(NamedTuple):
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = MappingProxyType({})


def array(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(math.prod(shape) + len(shape))
    if dtype == "bool":
        return rng.random(shape) < 0.5
    low = 0 if dtype == "uint8" else -4
    return (rng.standard_normal(shape) if dtype in FLOATS else rng.integers(low, 7, shape)).astype(dtype)


def in_library(value: Any, library: Any) -> Any:
    if isinstance(value, A):
        return library.tensor(
            array(value.shape, value.dtype) if value.values is None else np.array(value.values, value.dtype)
        )
    if isinstance(value, D):
        return getattr(library, value.name)
    return value


def outcome(library: Any, x: np.ndarray, name: str, call: Call) -> Any:
    """What came out, as comparable parts (in-place forms: the tensor afterwards too)."""
    t = library.tensor(x)
    kwargs = {key: in_library(value, library) for key, value in call.kwargs.items()}
    result = getattr(t, name)(*(in_library(value, library) for value in call.args), **kwargs)
    return parts(result) + (parts(t) if name.endswith("_") and not name.endswith("__") else [])


def parts(result: Any) -> list[Any]:
    if hasattr(result, "detach"):
        return [(tuple(result.shape), str(result.dtype).split(".")[-1], result.detach().numpy())]
    if isinstance(result, (tuple, list)) and not all(isinstance(r, int) for r in result):
        return [part for r in result for part in parts(r)]
    return [tuple(result) if isinstance(result, (tuple, list)) else result]


def check(name: str, shape: tuple[int, ...], dtype: str, call: Call, *, may_refuse: bool, may_accept: bool) -> None:
    x, what = array(shape, dtype), f"{dtype}{list(shape)}.{name}{tuple(call)}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of what we say in docstrings
            theirs = outcome(torch, x, name, call)
    except (RuntimeError, IndexError, TypeError, ValueError):
        if not may_accept:
            with pytest.raises(REFUSED):
                pytest.fail(f"{what} gave {outcome(cr, x, name, call)}, PyTorch refuses it")
        return
    try:
        ours = outcome(cr, x, name, call)
    except REFUSED:
        assert may_refuse, what
        return
    assert len(ours) == len(theirs), what
    for our, their in zip(ours, theirs, strict=True):
        if not isinstance(their, tuple) or len(their) != 3 or not isinstance(their[2], np.ndarray):
            assert our == their or (our != our and their != their), what
            continue
        assert our[:2] == their[:2], what
        tolerance = 1e-5 if our[1] == "float32" else 1e-12
        np.testing.assert_allclose(our[2], their[2], rtol=tolerance, atol=tolerance, err_msg=what)


def calls(*choices: Any, **named: Any) -> list[Call]:
    """Every combination of positional arguments, then each keyword argument by itself beside none."""
    positional = [Call(args) for args in itertools.product(*choices)] if choices else [Call()]
    return positional + [Call((), {key: value}) for key, values in named.items() for value in values]


DIMS = [0, -1, 1, -2, 3, -4, (0,), (0, 1), (-1, 0), (0, 0), None]
ONE_DIM = [0, -1, 1, -2, 3, -4]
SIZES = [(-1,), (1, -1), (2, -1), (6,), (3, 2), (0,), (2, 0, 3), (1,), (-1, -1), (-2, 3)]
UNARY = [
    "exp",
    "log",
    "log1p",
    "expm1",
    "log2",
    "log10",
    "sqrt",
    "rsqrt",
    "sin",
    "cos",
    "tanh",
    "erf",
    "erfc",
    "sigmoid",
    "relu",
    "abs",
    "absolute",
    "sign",
    "floor",
    "ceil",
    "round",
    "trunc",
    "neg",
    "negative",
    "square",
    "reciprocal",
    "isnan",
    "isinf",
    "isfinite",
    "logical_not",
    "t",
    "numel",
    "dim",
    "ndimension",
    "nelement",
    "element_size",
    "size",
    "clone",
    "detach",
    "item",
    "tolist",
    "float",
    "double",
    "int",
    "long",
    "bool",
    "byte",
    "contiguous",
    "is_contiguous",
    "is_floating_point",
    "ravel",
    "flatten",
    "sum",
    "prod",
    "max",
    "min",
    "amax",
    "amin",
    "argmax",
    "argmin",
    "all",
    "any",
    "squeeze",
    "unbind",
    "tril",
    "triu",
    "bitwise_not",
    "__len__",
]
FLOATING = ["mean", "var", "std", "norm"]
IN_PLACE = [
    "exp_",
    "sqrt_",
    "abs_",
    "neg_",
    "relu_",
    "sigmoid_",
    "tanh_",
    "floor_",
    "round_",
    "reciprocal_",
    "square_",
    "log_",
    "zero_",
    "ceil_",
    "sin_",
    "cos_",
    "rsqrt_",
    "trunc_",
    "erf_",
    "expm1_",
    "log1p_",
    "detach_",
    "requires_grad_",
]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "multiply",
    "divide",
    "true_divide",
    "pow",
    "maximum",
    "minimum",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "less",
    "greater",
    "less_equal",
    "greater_equal",
    "not_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "__add__",
    "__radd__",
    "__mul__",
    "__rmul__",
    "__truediv__",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "__and__",
    "__or__",
    "__xor__",
    "add_",
    "mul_",
    "div_",
    "copy_",
    "__iadd__",
    "__imul__",
    "__itruediv__",
    "clamp",
    "clamp_min",
    "clamp_max",
    "remainder",
    "floor_divide",
    "__mod__",
    "__floordiv__",
    "fill_",
    "equal",
]
NUMBERS = [0, 1, 2, -1, 2.5, -0.5, True, 300, math.inf, math.nan]
PAIRS = [((), ()), ((3,), ()), ((), (3,)), ((2, 3), (3,)), ((2, 3), (2, 1)), ((3,), (4,)), ((0,), (1,)), ((0, 3), (3,))]
TAKEN_FOR_44 = {"eq", "ne", "lt", "le", "gt", "ge", "less", "greater", "less_equal", "greater_equal", "not_equal"}
TAKEN_FOR_44 |= {"remainder", "floor_divide", "__mod__", "__floordiv__"}  # 300, in PyTorch beside uint8; here refused
# uint8 stays uint8 in PyTorch's all and any, a habit of its past; here they are bool.
BOOL_OF_BYTES = {"all", "any"}


@pytest.mark.parametrize("name", UNARY + IN_PLACE)
def test_without_arguments(name: str) -> None:
    for shape, dtype in itertools.product(SHAPES, DTYPES):
        if name in BOOL_OF_BYTES and dtype == "uint8":
            continue
        may_accept = (name, dtype) in {("argmax", "bool"), ("argmin", "bool")} or name == "round"
        check(name, shape, dtype, Call(), may_refuse=(name, dtype) in {("sign", "bool")}, may_accept=may_accept)


@pytest.mark.parametrize("name", FLOATING)
def test_statistics_of_floats(name: str) -> None:
    forms = calls(DIMS, dim=DIMS) + [Call((dim,), {"keepdim": True}) for dim in DIMS]
    if name == "norm":
        forms = [Call((p, *rest)) for p in (1, 2, 3, 0.5, 0, math.inf, -math.inf) for rest in ((), (0,), (-1, True))]
    elif name != "mean":
        forms += [
            *calls(correction=[0, 1, 2, 10], unbiased=[True, False]),
            Call((0, False)),
            Call((0,), {"correction": 0, "keepdim": True}),
        ]
    for shape, dtype, call in itertools.product(SHAPES, FLOATS, forms):
        check(name, shape, dtype, call, may_refuse=False, may_accept=name == "norm")


@pytest.mark.parametrize(
    "name",
    [
        "sum",
        "prod",
        "amax",
        "amin",
        "all",
        "any",
        "argmax",
        "argmin",
        "max",
        "min",
        "cumsum",
        "logsumexp",
        "softmax",
        "log_softmax",
    ],
)
def test_folds_along_axes(name: str) -> None:
    several = name in {"sum", "amax", "amin", "all", "any", "logsumexp"}
    dims = [d for d in DIMS if d is not None] if several else ONE_DIM
    forms = calls(dims, dim=dims)
    if name not in {"cumsum", "softmax", "log_softmax"}:
        forms += [Call((dim,), {"keepdim": True}) for dim in dims] + [Call((dim, True)) for dim in dims[:2]]
    if name in {"sum", "prod", "cumsum", "softmax", "log_softmax"}:
        forms += [Call((0,), {"dtype": D("float64")})]
    floating = name in {"logsumexp", "softmax", "log_softmax"}
    for shape, dtype, call in itertools.product(SHAPES, FLOATS if floating else DTYPES, forms):
        if not (name in BOOL_OF_BYTES and dtype == "uint8"):
            check(name, shape, dtype, call, may_refuse=False, may_accept=dtype == "bool" and name.startswith("arg"))


@pytest.mark.parametrize("name", BINARY)
def test_two_operands(name: str) -> None:
    # Integers divided by zero give 0 where PyTorch raises; numbers are taken where it wants tensors.
    lax = {"remainder", "floor_divide", "__mod__", "__floordiv__", "maximum", "minimum", "clamp_", "__rmod__"}
    lax |= {"pow", "clamp", "clamp_min", "clamp_max", "fill_", "sub"}
    for (left, right), a, b in itertools.product(PAIRS, DTYPES, DTYPES):
        check(
            name, left, a, Call((A(right, b),)), may_refuse=name == "pow" and "bool" in (a, b), may_accept=name in lax
        )
    if name == "equal" or name.startswith("logical"):
        return
    for shape, dtype, number in itertools.product([(), (3,)], DTYPES, NUMBERS):
        wraps = dtype == "uint8" and number == 300 and name in TAKEN_FOR_44
        may_refuse = wraps or (name == "pow" and dtype == "bool")
        check(name, shape, dtype, Call((number,)), may_refuse=may_refuse, may_accept=name in lax)


SHAPING: dict[str, list[Call]] = {
    **{name: [Call(size) for size in SIZES] + [Call((size,)) for size in SIZES] for name in ("view", "reshape", "expand", "repeat", "tile", "broadcast_to", "new_zeros", "new_ones")},
    "transpose": [*calls(ONE_DIM, ONE_DIM), Call((), {"dim0": 0, "dim1": -1})],
    "swapaxes": calls(ONE_DIM, ONE_DIM), "swapdims": calls([0, 2], [1, -1]),
    "movedim": [*calls([*ONE_DIM, (0, 1), (-1, 0)], [*ONE_DIM, (1, 0), (0, 0)]), Call((), {"source": 0, "destination": -1})],
    "moveaxis": calls([0, -1], [1, 0]),
    "permute": [Call(p) for p in ((0,), (1, 0), (0, 1), (2, 0, 1), (-1, 0), (0, 0), (1, 5))] + [Call(((1, 0),)), Call((), {"dims": (1, 0)})],
    "flatten": [*calls(ONE_DIM, ONE_DIM), Call((1,)), Call((), {"start_dim": 0, "end_dim": -1})],
    "flip": [Call(p) for p in ((0,), (0, 1), (-1,), (3,), (0, 0))] + [Call(((0,),)), Call((), {"dims": (-1,)})],
    "unflatten": [*calls(ONE_DIM, [(2, -1), (1, 3), (-1,), (2, 2)]), Call((), {"dim": 0, "sizes": (2, -1)})],
    "squeeze": calls([*ONE_DIM, (0,), (0, 1), (0, 0)]),
    "unsqueeze": calls(ONE_DIM, dim=ONE_DIM),
    "narrow": [*calls(ONE_DIM, [0, 1, -1, 5], [0, 1, 2]), Call((), {"dim": 0, "start": 0, "length": 1})],
    "select": calls(ONE_DIM, [0, 1, -1, -5]),
    "split": [*calls([1, 2, [1, 1], [2, 1], [0, 2], 0], ONE_DIM), Call((), {"split_size": 2, "dim": 0})],
    "chunk": calls([1, 2, 3, 0], ONE_DIM),
    "unbind": calls(ONE_DIM), "size": calls(ONE_DIM),
    "tril": calls([-1, 0, 1, 5], diagonal=[1]), "triu": calls([-1, 0, 1, 5], diagonal=[1]),
    "expand_as": [Call((A((2, 3), "float32"),))], "view_as": [Call((A((3, 2), "float32"),))], "reshape_as": [Call((A((3, 2), "int64"),))],
    "sum_to_size": [Call(s) for s in ((1,), (3,), (1, 3), (2, 1), (5,))],
    "new_full": [Call(((2, 3), 7))],
    "type_as": [Call((A((2,), dtype),)) for dtype in DTYPES],
    "to": [Call((D(d),)) for d in DTYPES] + [Call((A((2,), "float64"),)), Call(("cpu",)), Call(("cpu", D("float64"))), Call((), {"device": "cpu", "dtype": D("int32")}), Call((D("float64"),), {"copy": True})],
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPING)
def test_shapes_and_dtypes(name: str) -> None:
    for shape, dtype, call in itertools.product(
        [*SHAPES, (2, 3, 4), (3, 3)], ("float32", "int64", "bool"), SHAPING[name]
    ):
        # What would make an empty tensor of an empty one is refused here as it is for any other.
        check(name, shape, dtype, call, may_refuse=0 in shape and name in {"repeat", "tile", "split"}, may_accept=False)


def index(*shape: int, dtype: str = "int64") -> A:
    return A(shape, dtype, np.random.default_rng(len(shape)).integers(0, 3, shape))


PERMUTATION = A((3, 3), "int64", [[0, 2, 1], [1, 0, 2], [2, 1, 0]])


def indexing(dtype: str) -> dict[str, list[Call]]:
    """The forms of the methods that take positions, on a 3x3 tensor of `dtype`."""
    source, number = A((3, 3), dtype), 2
    adding = [Call((dim, index(2, 3), source)) for dim in (0, 1, -1, -2)] + [
        Call((0, index(4, 4), source)),
        Call((2, index(2, 3), source)),
    ]
    lines = [Call((dim, index(4), A((4, 3) if dim in (0, -2) else (3, 4), dtype))) for dim in (0, 1, -1, -2, 2)]
    return {
        "gather": [Call((dim, i)) for dim in (0, 1, -1, 2) for i in (index(3, 3), index(2, 3), index(3, 2), index(4, 4), index(5))]
        + [Call((), {"dim": 0, "index": index(3, 3)}), Call((0, index(2, 2, dtype="int32"))), Call((0, index(2, 2, dtype="float32")))],
        "take_along_dim": [Call((index(3, 1), 0)), Call((index(3, 1), 1)), Call((index(1, 3), 0)), Call((index(4),)), Call((), {"indices": index(3, 1), "dim": -1})],
        "scatter": [Call((0, PERMUTATION, source)), Call((1, index(2, 3), number)), Call((0, PERMUTATION), {"value": number}), Call((0, PERMUTATION), {"src": source})],
        "scatter_": [Call((0, PERMUTATION, source)), Call((1, index(2, 3), number))],
        "scatter_add": adding, "scatter_add_": adding,
        "index_select": [Call((dim, i)) for dim in (0, 1, -1, 2) for i in (index(5), index(), index(2, 2))] + [Call((), {"dim": 0, "index": index(2)})],
        "index_add": [*lines, *(Call(call.args, {"alpha": 2}) for call in lines), Call((0, index(4), A((5, 3), dtype)))],
        "index_add_": lines,
        "masked_fill": [Call((A((3,), "bool"), number)), Call((A((3, 3), "bool"), 2.5)), Call((A((3, 3), "bool"), A((), dtype))), Call((A((4,), "bool"), 1)), Call((index(3), 1))],
        "masked_fill_": [Call((A((3,), "bool"), number)), Call((A((3, 1), "bool"), number))],
        "masked_select": [Call((A(shape, "bool"),)) for shape in ((3,), (3, 3), (3, 1), (2, 3, 3), (4,))],
        "where": [Call((A((3,), "bool"), A((3, 3), other))) for other in DTYPES] + [Call((A((3, 3), "bool"), 1.5)), Call((A((3, 1), "bool"), number))],
        "add": [Call((source,), {"alpha": alpha}) for alpha in (0, 2, 2.5)] + [Call((A((3,), other),), {"alpha": 2}) for other in DTYPES],
        "sub": [Call((source,), {"alpha": alpha}) for alpha in (2, 2.5)],
        "div": [Call((2,), {"rounding_mode": mode}) for mode in ("floor", "trunc", None, "up")],
        "addcmul": [Call((source, source), {"value": 2})],
        "clamp": [Call((0, 1)), Call((None, 1)), Call((0, None)), Call(()), Call((2, -1)), Call((-1.5, 2.5)), Call((), {"min": 0, "max": 2}), Call((A((), "float64"), None)), Call((A((3,), dtype), A((3,), "float32")))],
        "matmul": [Call((A(shape, dtype),)) for shape in ((3, 2), (3,), (4, 3, 2), (2, 3), ())],
        "mm": [Call((A(shape, dtype),)) for shape in ((3, 2), (3,), (4, 3, 2), (2, 3))],
        "outer": [Call((A((3,), dtype),))],
    }  # fmt: skip


@pytest.mark.parametrize("name", indexing("float32"))
def test_positions_masks_and_products(name: str) -> None:
    bool_is_arithmetic = {"matmul", "mm", "addcmul", "clamp"}
    for dtype in DTYPES:
        for call in indexing(dtype)[name]:
            refused = dtype == "bool" and name in bool_is_arithmetic
            lax = dtype == "bool" and name in bool_is_arithmetic | {"sub", "div"}
            check(name, (3, 3), dtype, call, may_refuse=refused, may_accept=lax)


def test_products_of_vectors_and_batches() -> None:
    for dtype, name, left, right in itertools.product(("float32", "int64"), ("matmul", "dot", "outer", "bmm", "mm", "__matmul__"), [(3,), (2, 3), (4, 2, 3), (0,), (2, 0)], [(3,), (3, 2), (4, 3, 2), (5, 3, 2), (0, 3)]):  # fmt: skip
        check(name, left, dtype, Call((A(right, dtype),)), may_refuse=False, may_accept=False)


def test_rounding_to_decimals() -> None:
    for decimals in (2, -1):
        check("round", (4,), "float64", Call((), {"decimals": decimals}), may_refuse=False, may_accept=False)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(DTYPES, DTYPES)))
def test_dtypes_promote_as_in_pytorch(a: str, b: str) -> None:
    for left, right in itertools.product([(2,), ()], [(2,), ()]):
        ours = cr.cat([cr.zeros(2, dtype=a), cr.zeros(2, dtype=b)]) if left and right else None
        if ours is not None:
            assert (
                ours.dtype.name
                == str(
                    torch.cat([torch.zeros(2, dtype=getattr(torch, a)), torch.zeros(2, dtype=getattr(torch, b))]).dtype
                ).split(".")[1]
            )
        check("add", left, a, Call((A(right, b),)), may_refuse=False, may_accept=False)
        check("where", left, a, Call((A((2,), "bool"), A(right, b))), may_refuse=False, may_accept=False)


@pytest.mark.parametrize("product", [lambda x: x.prod(), lambda x: x.prod(1), lambda x: x.prod(1, keepdim=True)])
def test_a_product_of_one_number_is_a_tensor_of_its_own(product):
    x = cr.tensor([[3.0]])
    found = product(x)
    found.add_(1)
    assert x.tolist() == [[3.0]]
    x.zero_()
    assert found.flatten().tolist() == [4.0]
