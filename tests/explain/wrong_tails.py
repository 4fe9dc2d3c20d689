"""Derivative rules that are right in the middle and wrong in the tails: no right digit left where a function saturates.

Slopes in float64, with what an ulp of the output moves forgiven, agree with every one of them.
"""

from __future__ import annotations

import math

from tests.explain.wrong_rules import Wrong

from chainrule import Tensor

TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)


def _recent(x: Tensor, above: float) -> Tensor:
    """x, without its history where it is small: what is differentiated again is 0 there."""
    return x.where(x > above, x.detach())


def _kept(dX: Tensor, condition: Tensor) -> Tensor:
    return dX.where(condition, 0)


WRONG_TAILS: list[Wrong] = [
    # rebuilt from the output by a difference
    Wrong("tanh", 0, "1 - Y^2", lambda dY, Y, x: dY * (1 - Y * Y)),
    Wrong("tanh", 0, "(1 - Y) (1 + Y)", lambda dY, Y, x: dY * (1 - Y) * (1 + Y)),
    Wrong("tanh", 0, "1 - Y^2, 0 beyond 20", lambda dY, Y, x: _kept(dY * (1 - Y * Y), x.abs() < 20)),
    Wrong("sigmoid", 0, "Y (1 - Y)", lambda dY, Y, x: dY * (Y * (1 - Y))),
    Wrong("sigmoid", 0, "Y - Y^2", lambda dY, Y, x: dY * (Y - Y * Y)),
    Wrong("expm1", 0, "Y + 1", lambda dY, Y, x: dY * (Y + 1)),
    # rebuilt from the input by a difference
    Wrong("tanh", 0, "1 - tanh^2", lambda dY, Y, x: dY * (1 - x.tanh() ** 2)),
    Wrong("expm1", 0, "expm1 + 1", lambda dY, Y, x: dY * (x.expm1() + 1)),
    # cut off where the output no longer moves
    Wrong("erf", 0, "0 beyond 6", lambda dY, Y, x: _kept(dY * (TWO_OVER_ROOT_PI * (-x * x).exp()), x.abs() < 6)),
    Wrong("erfc", 0, "0 beyond 8.8", lambda dY, Y, x: _kept(dY * (-TWO_OVER_ROOT_PI * (-x * x).exp()), x.abs() < 8.8)),
    Wrong("sigmoid", 0, "0 beyond 38", lambda dY, Y, x: _kept(dY * (Y * (-x).sigmoid()), x < 38)),
    Wrong("expm1", 0, "0 below -75", lambda dY, Y, x: _kept(dY * x.exp(), x > -75)),
    # too large on the way
    Wrong("log1p", 0, "a factor on both sides", lambda dY, Y, x: dY * ((x + 2) / ((x + 2) * (x + 1)))),
    # right once, and wrong in the tail when differentiated again
    Wrong("expm1", 0, "history cut below -5", lambda dY, Y, x: dY * _recent(x, -5.0).exp()),
    Wrong("sigmoid", 0, "history cut below -9", lambda dY, Y, x: dY * (_recent(x, -9.0).sigmoid() * (-_recent(x, -9.0)).sigmoid())),
]  # fmt: skip
