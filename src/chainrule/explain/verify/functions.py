"""Are activations and losses right in their tails? What is composed of right ops may lose its digits all the same.

Each is checked as if it were an op of its own: its closed form over NumPy's numbers, complex ones too, stands for the
reference, and the engine's gradient through the composition for the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule import autodiff
from chainrule.explain.verify.rules import RuleCheck
from chainrule.explain.verify.tails import LINE, RTOL, Tail, check_tails
from chainrule.graph import Op
from chainrule.nn import functional as F
from chainrule.ops import elementwise as ew
from chainrule.ops import reference
from chainrule.tape import at_once
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor

RIM = 0.7  # of Huber's loss: none of the numbers that are tried, since there is no second derivative at it
Array = np.ndarray[Any, Any]


def _soft(z: Array) -> Array:
    """log(1 + exp(z)), of a complex number too."""
    right = z.real > 0
    return np.log1p(np.exp(np.where(right, -z, z))) + np.where(right, z, 0)


def _exponential(z: Array) -> Array:
    return np.where(z.real > 0, z, np.expm1(np.where(z.real > 0, 0, z)))


def _mish(z: Array) -> Array:
    """z tanh(log(1 + exp(z))), the hyperbolic tangent as the ratio of polynomials in exp that it is."""
    right = z.real > 0
    e = np.exp(np.where(right, -z, z))
    return np.asarray(z * np.where(right, (1 + 2 * e) / (1 + 2 * e + 2 * e * e), (e * e + 2 * e) / (e * e + 2 * e + 2)))


def _softsign(z: Array) -> Array:
    sign = np.where(z.real < 0, -1, 1)
    share = 1 / (1 + sign * z)
    return np.where(np.abs(z.real) < 1, z * share, sign - sign * share)


def _by_tanh(z: Array) -> Array:
    near = np.where(np.abs(z.real) < 30, z, 30 * np.sign(z.real))
    return np.asarray(z * reference.sigmoid(np.sqrt(8 / np.pi) * (near + 0.044715 * near**3)))


def _bowl(z: Array) -> Array:
    return np.where(np.abs(z.real) <= RIM, z * z / 2, RIM * (np.sign(z.real) * z - RIM / 2))


def _bce(y: float) -> Callable[[Tensor], Tensor]:
    return lambda x: F.binary_cross_entropy_with_logits(x, x.new_zeros(x.shape) + y, reduction="none")


FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Array], Array]]] = {
    "elu": (F.elu, _exponential),
    "selu": (F.selu, lambda z: 1.0507009873554805 * np.where(z.real > 0, 1, 1.6732632423543772) * _exponential(z)),
    "gelu": (F.gelu, lambda z: z * reference.erfc(-z * np.sqrt(0.5)) / 2),
    "gelu, tanh": (lambda x: F.gelu(x, "tanh"), _by_tanh),
    "silu": (F.silu, lambda z: z * reference.sigmoid(z)),
    "mish": (F.mish, _mish),
    "celu": (lambda x: F.celu(x, 0.5), lambda z: _exponential(2 * z) / 2),
    "softsign": (F.softsign, _softsign),
    "softplus": (lambda x: F.softplus(x, threshold=1e3), _soft),
    "logsigmoid": (F.logsigmoid, lambda z: -_soft(-z)),
    "soft_margin_loss, y = -1": (lambda x: F.soft_margin_loss(x, x.new_zeros(x.shape) - 1, "none"), _soft),
    "huber_loss": (lambda x: F.huber_loss(x, x.new_zeros(x.shape), "none", RIM), _bowl),
    "bce_with_logits, y = 0": (_bce(0.0), _soft),
    "bce_with_logits, y = 1": (_bce(1.0), lambda z: _soft(-z)),
}


def check_functions() -> Iterator[RuleCheck]:
    """Value and gradient of each: one result a function, a failure if there is one."""
    for name, (call, closed_form) in FUNCTIONS.items():
        checks = [_checked_values(name, call, closed_form), *check_tails(as_op(name, call, closed_form))]
        agreeing = RuleCheck(name, sum(check.compared for check in checks), None)
        yield next((check for check in checks if not check), agreeing)


def as_op(name: str, call: Callable[[Tensor], Tensor], closed_form: Callable[[Array], Array]) -> Op:
    """A function of one number as an op, its derivative being the engine's."""

    def rule(dY: Tensor, Y: Tensor, x: Tensor) -> Tensor:
        gradient: Tensor = autodiff.grad(lambda t: (call(t) * dY).sum())(x)
        return gradient

    def numpy(x: Array) -> Array:
        y = closed_form(x)
        return y if np.iscomplexobj(x) else y.astype(x.dtype)

    return replace(ew.tanh, name=name, numpy=numpy, vjp=(rule,))


@at_once
def _checked_values(name: str, call: Callable[[Tensor], Tensor], closed_form: Callable[[Array], Array]) -> RuleCheck:
    tail = Tail(as_op(name, call, closed_form), 0, {}, smooth=True)
    compared = 0
    with np.errstate(all="ignore"):
        for dtype, rtol in RTOL.items():
            x = LINE.astype(dtype)
            found, expected = np.asarray(call(tensor(x))._node.value), closed_form(x.astype(np.float64))
            count, comparison = tail.against(found, expected, [x], rtol, ", the value")
            compared += count
            if comparison is not None:
                return RuleCheck(name, compared, comparison)
    return RuleCheck(name, compared, None)
