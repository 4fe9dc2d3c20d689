"""Inputs on which every op's derivative rule is tried: ordinary ones, and those at ties, kinks and saturation.

Elementwise ops need no list: one grid of numbers that are special somewhere (zeros of both signs, powers of
ten, halves, equal pairs) serves all; where an op has no finite slope, nothing is compared. The other ops
get small arrays and every kind of parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from chainrule import dtypes
from chainrule.graph import Op

Array = np.ndarray[Any, Any]


class Trial(NamedTuple):
    """One application of an op."""

    arrays: tuple[Array, ...]
    params: dict[str, Any]


# Ordinary, tiny, large, at and beside integers and halves, deep in the tails of exp, tanh, sigmoid and erf.
SPECIAL = np.array(
    [0.0, -0.0, 1e-120, 1e-9, 0.03, 0.25, 0.5, 0.75, 0.999, 1.0, 1.001, 1.2, 1.5, 2.0, 2.5, 3.3, 5.0, 7.0, 9.6, 12.0, 17.0, 20.0, 30.0, 40.0, 90.0, 700.0, 1e4]
)  # fmt: skip
LINE = np.concatenate([SPECIAL, -SPECIAL[1:]])
GRID = np.array([-40.0, -7.0, -2.5, -2.0, -1.0, -0.3, 0.0, 0.25, 1.0, 2.0, 2.5, 3.0, 9.6, 40.0])
_WITHOUT = ("detach", "check_index")
_rng = np.random.default_rng(11)


def trials(op: Op) -> list[Trial]:
    """The trials of an op; none for one without a derivative to try (bits, sources, `detach`, which cuts it)."""
    if op.name in _STRUCTURED:
        return [Trial(tuple(arrays), params) for arrays, params in _STRUCTURED[op.name]]
    if op.kind != "elementwise" or op.joint is not None or op.name in _WITHOUT:
        return []
    count = 1 if callable(op.vjp) else len(op.vjp)
    params: dict[str, Any] = {"dtype": dtypes.float64} if op.name == "cast" else {}
    if op.name == "where":
        return list(_choices())
    if op.name != "cast" and not _of_reals(op, count):
        return []
    if count == 1:
        return [Trial((LINE,), params), Trial((_rng.normal(0, 2, (3, 5)),), params)]
    pairs = np.array(list(product(GRID, repeat=2)))
    trial = Trial((pairs[:, 0].copy(), pairs[:, 1].copy()), params)
    return [trial, *_broadcast()]


def _of_reals(op: Op, count: int) -> bool:
    """Does it take real numbers and give some?"""
    try:
        return bool(op.numpy(*[np.array([1.5])] * count).dtype.kind == "f")
    except TypeError:
        return False


def _broadcast() -> Iterator[Trial]:
    """One operand is repeated along an axis, so its gradient is a sum."""
    a, b = _rng.uniform(0.4, 3, (3, 4)), _rng.uniform(0.4, 3, (3, 1))
    yield Trial((a, b), {})
    yield Trial((b, a), {})
    yield Trial((a, np.array(1.7)), {})


def _choices() -> Iterator[Trial]:
    condition = np.array([[True, False, True], [False, False, True]])
    a, b = _rng.normal(size=(2, 3)), _rng.normal(size=(2, 3))
    yield Trial((condition, a, b), {})
    yield Trial((condition[0], a, b[:, :1]), {})


_x = np.round(_rng.normal(0, 3, (2, 3, 4)), 2)
_ties = np.array([[1.0, 3.0, 3.0, 3.0], [2.0, 2.0, 2.0, 2.0], [-1.0, 0.0, 5.0, 5.0]])
_flat = _rng.normal(size=(3, 4))
_index = np.array([2, 0, 2, -1])

_STRUCTURED: dict[str, list[tuple[list[Array], dict[str, Any]]]] = {
    "sum": [([_x], {"dims": dims}) for dims in ((0,), (1,), (2,), (0, 2), (0, 1, 2))],
    "amax": [([a], {"dims": dims}) for a, dims in ((_x, (0,)), (_x, (1, 2)), (_ties, (1,)), (_ties, (0,)), (_ties, (0, 1)))],
    "amin": [([-a], {"dims": dims}) for a, dims in ((_x, (0,)), (_x, (1, 2)), (_ties, (1,)), (_ties, (0,)), (_ties, (0, 1)))],
    "reshape": [([_x], {"shape": shape}) for shape in ((24,), (4, 6), (2, 1, 3, 4))],
    "permute": [([_x], {"dims": dims}) for dims in ((2, 0, 1), (1, 0, 2), (0, 2, 1))],
    "expand": [([_flat], {"shape": (2, 3, 4)}), ([_flat[:, :1]], {"shape": (3, 5)}), ([np.array(1.5)], {"shape": (2, 2)})],
    "slice": [
        ([_flat], {"start": (0, 1), "stop": (3, 4), "step": (1, 1)}),
        ([_flat], {"start": (1, 0), "stop": (3, 4), "step": (1, 3)}),
        ([_flat], {"start": (0, 1), "stop": (3, 4), "step": (2, 2)}),
    ],
    "flip": [([_x], {"dims": dims}) for dims in ((0,), (2,), (0, 1))],
    "pad": [
        ([_flat], {"low": (1, 0), "high": (0, 2), "interior": (0, 0)}),
        ([_flat], {"low": (0, 2), "high": (1, 1), "interior": (1, 2)}),
    ],
    "cat": [([_flat, _flat[:1] + 1, _flat[:2] * 2], {"dim": 0}), ([_flat, _flat[:, :2] + 1], {"dim": 1})],
    "matmul": [
        ([_flat, _rng.normal(size=(4, 2))], {}),
        ([_rng.normal(size=(2, 3, 4)), _rng.normal(size=(2, 4, 2))], {}),
        ([_rng.normal(size=(2, 1, 3, 4)), _rng.normal(size=(5, 4, 2))], {}),
        ([_rng.normal(size=(1, 4)), _rng.normal(size=(4, 1))], {}),
    ],
    "take": [([_flat, _index], {}), ([_flat, _index, np.array([0, 0, 3, 1])], {}), ([_flat, _index[:, None], np.array([0, 1, 1])], {})],
    "put_add": [([_flat, _rng.normal(size=(4, 4)), _index], {}), ([_flat, _rng.normal(size=4), _index, np.array([1, 0, 1, 3])], {})],
    # Positions written twice have no gradient of their own for the value that is lost (PyTorch's deviation): none here.
    "put": [([_flat, _rng.normal(size=(2, 4)), np.array([2, 0])], {}), ([_flat, _rng.normal(size=3), np.array([2, 0, 1]), np.array([1, 0, 1])], {})],
}  # fmt: skip
