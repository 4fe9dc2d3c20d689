"""Ops that act on each element by itself. Inputs broadcast; the engine undoes that in gradients.

``lower`` writes one scalar of the loop nest; its `e` is the compiler's expression builder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.borrowed import own
from chainrule.dtypes import DType
from chainrule.errors import DtypeError
from chainrule.graph import Node, Op, Rule, Shape, Type, shape_error, who
from chainrule.ops import reference

OPS: list[Op] = []


def broadcast_shapes(name: str, *shapes: Shape) -> Shape:
    """NumPy's broadcasting rule, with the error it deserves."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        distinct = set(sizes) - {1}
        if len(distinct) > 1:
            raise shape_error(
                name,
                "the shapes must broadcast (equal sizes, or 1, from the last axis backwards)",
                " and ".join(map(str, shapes)),
                "Reshape or expand one of them so that the axes line up.",
            )
        result.append(distinct.pop() if distinct else 1)
    return tuple(result)


def _shape(name: str, inputs: tuple[Node, ...]) -> Shape:
    shape = inputs[0].shape
    for node in inputs:
        if node.shape != shape:
            return broadcast_shapes(name, *(node.shape for node in inputs))
    return shape


def _infer(name: str, out: DType | None, floating: bool, bools: bool) -> Callable[..., Type]:
    def infer(*inputs: Node) -> Type:
        dtype = inputs[-1].dtype
        for node in inputs:
            if node.dtype is not dtype:
                raise _mixed(name, inputs)
        if floating and not dtype.is_floating_point:
            raise DtypeError(f"{who(name)}: needs a floating-point tensor, got {dtype.name}. Convert it with .float().")
        if dtype is dtypes.bool_ and not bools:
            raise DtypeError(
                f"{who(name)}: is arithmetic on numbers, got bool. Convert it with .int() or .float(), or use the "
                f"logical operators & | ^ ~."
            )
        return Type(_shape(name, inputs), out or dtype)

    return infer


def _mixed(name: str, inputs: Sequence[Node]) -> DtypeError:
    came = " and ".join(node.dtype.name for node in inputs)
    return DtypeError(f"{who(name)}: the operands must have one dtype, got {came}. Convert them with .to(dtype).")


def _op(
    name: str, numpy: Any, lower: Any, *vjp: Rule | None,
    out: DType | None = None, cost: int = 1, float_only: bool = False,
    bools: bool = True, at_kink: float | None = None, moves: bool = False,
    exact_number: bool = False,
) -> Op:  # fmt: skip
    infer = _infer(name, out, float_only, bools)
    op = Op(
        name, "elementwise", infer, numpy, vjp, lower, cost=cost, float_only=float_only, at_kink=at_kink, moves=moves,
        exact_number=exact_number,
    )  # fmt: skip
    OPS.append(op)
    return op


# -- arithmetic ---------------------------------------------------------------------------
# vjp formulas: dY is the gradient of the output, Y the output, a, b, x the inputs.

add = _op(
    "add", np.add, lambda e, a, b: e.add(a, b),
    lambda dY, Y, a, b: dY,
    lambda dY, Y, a, b: dY,
)  # fmt: skip
sub = _op(
    "sub", np.subtract, lambda e, a, b: e.sub(a, b),
    lambda dY, Y, a, b: dY,
    lambda dY, Y, a, b: -dY,
    bools=False,
)  # fmt: skip
mul = _op(
    "mul", np.multiply, lambda e, a, b: e.mul(a, b),
    lambda dY, Y, a, b: dY * b,
    lambda dY, Y, a, b: dY * a,
    exact_number=True,
)  # fmt: skip
div = _op(
    "div", np.divide, lambda e, a, b: e.div(a, b),
    lambda dY, Y, a, b: dY / b,
    lambda dY, Y, a, b: -dY * (Y / b),
    float_only=True, cost=4, exact_number=True,
)  # fmt: skip
neg = _op("neg", np.negative, lambda e, x: e.neg(x), lambda dY, Y, x: -dY, bools=False)
pow = _op(
    "pow", reference.power, lambda e, a, b: e.pow(a, b),
    lambda dY, Y, a, b: (dY * (b * a ** (b - 1))).where(b != 0, 0),
    lambda dY, Y, a, b: (dY * (Y * a.log())).masked_fill((a == 0) & (b >= 0), 0),
    cost=30, bools=False,
)  # fmt: skip
# Integers divided by zero give 0 here and natively (PyTorch raises).
floor_divide = _op(
    "floor_divide", np.floor_divide, lambda e, a, b: e.floor_divide(a, b), None, None, cost=6, bools=False
)
remainder = _op(
    "remainder", np.remainder, lambda e, a, b: e.remainder(a, b),
    lambda dY, Y, a, b: dY,
    lambda dY, Y, a, b: -dY * (a // b),
    cost=6, bools=False,
)  # fmt: skip

# -- functions of one number ----------------------------------------------------------------

abs = _op(
    "abs", np.abs, lambda e, x: e.abs(x),
    lambda dY, Y, x: dY * x.sign(),
    bools=False, at_kink=0.5,
)  # fmt: skip
# The sign of NaN is 0, as in PyTorch (and so is the derivative of abs there).
sign = _op(
    "sign", lambda x: np.subtract(x > 0, x < 0, dtype=x.dtype), lambda e, x: e.sign(x), None, bools=False
)  # fmt: skip
floor = _op("floor", np.floor, lambda e, x: e.floor(x), None, bools=False)
round = _op("round", np.round, lambda e, x: e.round(x), None, bools=False)
# Where Y saturates, its distance from 1 is no longer in it: what derivatives need of that they take from x.
exp = _op("exp", np.exp, lambda e, x: e.exp(x), lambda dY, Y, x: dY * Y, float_only=True, cost=12)
expm1 = _op(
    "expm1", np.expm1, lambda e, x: e.expm1(x),
    lambda dY, Y, x: dY * x.exp(),
    float_only=True, cost=15,
)  # fmt: skip
log = _op("log", np.log, lambda e, x: e.log(x), lambda dY, Y, x: dY / x, float_only=True, cost=12)
log1p = _op(
    "log1p", np.log1p, lambda e, x: e.log1p(x),
    lambda dY, Y, x: dY / (x + 1),
    float_only=True, cost=15,
)  # fmt: skip
sqrt = _op(
    "sqrt", np.sqrt, lambda e, x: e.sqrt(x),
    lambda dY, Y, x: dY / (2 * Y),
    float_only=True, cost=4,
)  # fmt: skip
rsqrt = _op(
    "rsqrt", lambda x: 1 / np.sqrt(x), lambda e, x: e.rsqrt(x),
    lambda dY, Y, x: dY * (-0.5 * Y * Y * Y),
    float_only=True, cost=6,
)  # fmt: skip
sin = _op(
    "sin", np.sin, lambda e, x: e.sin(x),
    lambda dY, Y, x: dY * x.cos(),
    float_only=True, cost=20,
)  # fmt: skip
cos = _op(
    "cos", np.cos, lambda e, x: e.cos(x),
    lambda dY, Y, x: -dY * x.sin(),
    float_only=True, cost=20,
)  # fmt: skip
tanh = _op(
    "tanh", np.tanh, lambda e, x: e.tanh(x),
    lambda dY, Y, x: dY * ((2 * x).sigmoid() * (-2 * x).sigmoid() * 4),
    float_only=True, cost=15,
)  # fmt: skip
sigmoid = _op(
    "sigmoid",
    reference.sigmoid, lambda e, x: e.sigmoid(x),
    lambda dY, Y, x: dY * (Y * (-x).sigmoid()),
    float_only=True, cost=15,
)  # fmt: skip
erf = _op(
    "erf", reference.erf, lambda e, x: e.erf(x),
    lambda dY, Y, x: dY * (2 / math.sqrt(math.pi) * (-x * x).exp()),
    float_only=True, cost=15,
)  # fmt: skip
# 1 - erf(x): a primitive because in its tail that difference has no digit left.
erfc = _op(
    "erfc", reference.erfc, lambda e, x: e.erfc(x),
    lambda dY, Y, x: dY * (-2 / math.sqrt(math.pi) * (-x * x).exp()),
    float_only=True, cost=20,
)  # fmt: skip
# A primitive because its derivative reads only its output, so the input need not be kept. NaN stays NaN.
relu = _op(
    "relu", reference.relu, lambda e, x: e.relu(x),
    lambda dY, Y, x: dY.masked_fill(Y <= 0, 0),
    bools=False, at_kink=0.0,
)  # fmt: skip


def _slope_of_mish(x: Any) -> Any:
    """``q = (n + 4 z e (1 + e) c / d) / d`` up to 0 and ``1 - q`` above, with n, d, e and z as in `reference.mish`; c is 1, or e above."""
    low = x <= 0
    z = x.where(low, -x).clamp(min=reference.CLOSED)
    e = z.exp()
    square, twice = e * e, e * 2
    part = square + twice.where(low, square)
    inverse = 1 / (part + (twice + 1).where(x > 0, 2.0))
    steep = e + square
    tilt = (part + z * (steep.where(low, steep * e) * 4) * inverse) * inverse
    return tilt.where(low, 1 - tilt)


# A primitive because its derivative by its parts divides twice more and reads three arrays of them; this one takes from the
# forward pass, beside x, one that is computed there with what its value needs anyway.
mish = _op(
    "mish", reference.mish, lambda e, x: e.mish(x),
    lambda dY, Y, x: dY * _slope_of_mish(x),
    float_only=True, cost=30,
)  # fmt: skip


def _infer_frexp(x: Node) -> tuple[Type, Type]:
    if not x.dtype.is_floating_point:
        raise DtypeError(
            f"{who('frexp')}: needs a floating-point tensor, got {x.dtype.name}. Convert it with .float()."
        )
    return x.type, Type(x.shape, dtypes.int32)


def _joint_frexp(dY: Any, Y: Any, x: Any) -> tuple[Any]:
    (dM, _), (M, E) = dY, Y
    return (None if dM is None else dM.where(E == 0, dM * (M / x).detach()),)


# x = m 2^e with 1/2 <= |m| < 1; 0, infinity and NaN are their own m, with e = 0. dm / dx = 2^-e, which is m / x.
frexp = Op(
    "frexp", "elementwise", _infer_frexp,
    numpy=reference.frexp,
    vjp=(),
    lower=lambda e, x: e.frexp(x),
    joint=_joint_frexp,
    cost=4,
)  # fmt: skip
OPS.append(frexp)

# -- choosing -------------------------------------------------------------------------------

maximum = _op(
    "maximum", reference.maximum, lambda e, a, b: e.maximum(a, b),
    lambda dY, Y, a, b: (dY / 2).where(a == b, dY.masked_fill(a < b, 0)),  # ties share, as in PyTorch
    lambda dY, Y, a, b: (dY / 2).where(a == b, dY.masked_fill(b < a, 0)),
    at_kink=0.5,
)  # fmt: skip
minimum = _op(
    "minimum", reference.minimum, lambda e, a, b: e.minimum(a, b),
    lambda dY, Y, a, b: (dY / 2).where(a == b, dY.masked_fill(a > b, 0)),
    lambda dY, Y, a, b: (dY / 2).where(a == b, dY.masked_fill(b > a, 0)),
    at_kink=0.5,
)  # fmt: skip


def _infer_where(condition: Node, a: Node, b: Node) -> Type:
    if condition.dtype is not dtypes.bool_ or a.dtype is not b.dtype:
        raise _mixed("where", (condition, a, b))
    return Type(_shape("where", (condition, a, b)), a.dtype)


where = Op(
    "where", "elementwise", _infer_where,
    numpy=np.where,
    vjp=(None, lambda dY, Y, c, a, b: dY.where(c, 0), lambda dY, Y, c, a, b: dY.where(~c, 0)),
    lower=lambda e, c, a, b: e.select(c, a, b),
    moves=True,
)  # fmt: skip
OPS.append(where)

# -- comparing ------------------------------------------------------------------------------

eq = _op("eq", np.equal, lambda e, a, b: e.compare("eq", a, b), None, None, out=dtypes.bool_)
ne = _op("ne", np.not_equal, lambda e, a, b: e.compare("ne", a, b), None, None, out=dtypes.bool_)
lt = _op("lt", np.less, lambda e, a, b: e.compare("lt", a, b), None, None, out=dtypes.bool_)
le = _op("le", np.less_equal, lambda e, a, b: e.compare("le", a, b), None, None, out=dtypes.bool_)
gt = _op("gt", np.greater, lambda e, a, b: e.compare("gt", a, b), None, None, out=dtypes.bool_)
ge = _op("ge", np.greater_equal, lambda e, a, b: e.compare("ge", a, b), None, None, out=dtypes.bool_)

# -- bits and logic (on bool: logical) --------------------------------------------------------

bitwise_and = _op("bitwise_and", np.bitwise_and, lambda e, a, b: e.bits("and", a, b), None, None)
bitwise_or = _op("bitwise_or", np.bitwise_or, lambda e, a, b: e.bits("or", a, b), None, None)
bitwise_xor = _op("bitwise_xor", np.bitwise_xor, lambda e, a, b: e.bits("xor", a, b), None, None)
bitwise_not = _op("bitwise_not", np.invert, lambda e, x: e.invert(x), None)
shift_left = _op("shift_left", np.left_shift, lambda e, a, b: e.bits("shl", a, b), None, None, bools=False)
shift_right = _op("shift_right", np.right_shift, lambda e, a, b: e.bits("shr", a, b), None, None, bools=False)


# -- cast and identities ------------------------------------------------------------------------


def _infer_cast(x: Node, *, dtype: DType) -> Type:
    return Type(x.shape, dtype)


cast = Op(
    "cast", "elementwise", _infer_cast,
    numpy=lambda x, dtype: reference.cast(x, dtype.numpy),
    vjp=(lambda dY, Y, x, dtype: dY.to(x.dtype) if x.dtype.is_floating_point else None,),
    lower=lambda e, x, dtype: e.cast(x, dtype),
    moves=True,
)  # fmt: skip
OPS.append(cast)


def _infer_bitcast(x: Node, *, dtype: DType) -> Type:
    if x.dtype.itemsize != dtype.itemsize or dtypes.bool_ in (x.dtype, dtype):
        raise DtypeError(
            f"{who('bitcast')}: both must be numbers of as many bits, got {x.dtype.name} and {dtype.name}. "
            f"Convert with .to(dtype) first."
        )
    return Type(x.shape, dtype)


# The same bits read as another dtype.
bitcast = Op(
    "bitcast", "elementwise", _infer_bitcast,
    numpy=lambda x, dtype: x.view(dtype.numpy),
    vjp=(None,),
    lower=lambda e, x, dtype: e.bitcast(x, dtype),
)  # fmt: skip
OPS.append(bitcast)

# A new node for an old value: `grad` differentiates with respect to it, and only it.
alias = _op("alias", own, lambda e, x: x, lambda dY, Y, x: dY, moves=True)
# A value without its history.
detach = _op("detach", lambda x: x, lambda e, x: x, None, moves=True)

# The first input, with a derivative the user wrote: `rule(dY, Y, *inputs)` gives one gradient for
# each input after the first (see cr.custom_vjp).
custom = Op(
    "custom", "elementwise",
    infer=lambda y, *xs, rule: y.type,
    numpy=lambda y, *xs, rule: y,
    vjp=(),
    lower=lambda e, y, *xs, rule: y,
    joint=lambda dY, Y, y, *xs, rule: (None, *rule(dY, Y, *xs)),
    types=None,
    moves=True,
)  # fmt: skip
