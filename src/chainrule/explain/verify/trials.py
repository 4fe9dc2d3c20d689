"""Inputs on which every op's derivative rule is tried: ordinary ones, and those at ties, kinks and saturation.

Elementwise ops need no list: one grid of numbers that are special somewhere (zeros of both signs, powers of
ten, halves, equal and nearly equal pairs) serves all; where an op has no finite slope, nothing is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.explain.verify.application import takes_complex
from chainrule.explain.verify.structured import Shape, Trial, structured
from chainrule.graph import Op

Array = np.ndarray[Any, Any]

# At and beside integers and halves, deep in the tails of exp, tanh, sigmoid and erf; all sizes that a number can have.
_MARKS = [
    0.03,
    0.25,
    0.5,
    0.75,
    0.999,
    1.001,
    1.2,
    1.5,
    2.0,
    2.5,
    3.3,
    5.0,
    7.0,
    9.6,
    12.0,
    17.0,
    20.0,
    30.0,
    40.0,
    90.0,
    700.0,
]
_SIZES = [*(10.0 ** np.arange(-12, 12.5, 0.5)), 1e-300, 1e-160, 1e-120, 1e-60, 1e-40, 1e-25, 1e-16]
SPECIAL = np.array([0.0, -0.0, *_MARKS, *_SIZES])
LINE = np.concatenate([SPECIAL, -SPECIAL[1:]])

_HALF = np.array([0.3, 0.25, 1.0, 2.0, 2.5, 7.0, 9.6, 40.0])
_FAR = np.array([1e-160, 1e-120, 1e-25, 1e-9, 1e-4, 1e4, 1e9, 1e12])
GRID = np.concatenate([[0.0, 3.0], _HALF, -_HALF])
FAR_GRID = np.concatenate([GRID, _FAR, -_FAR])
NEARLY = 1e-6  # apart: far enough for a small step to tell on which side of a tie a number stands
_WITHOUT = ("detach", "check_index")
_BROADCAST: list[tuple[Shape, Shape]] = [
    ((3, 4), (3, 1)), ((3, 4), (1, 4)), ((3, 4), (4,)), ((3, 4), ()), ((3, 4), (1, 1)), ((3, 3), (3,)), ((3, 1), (1, 3)),
    ((2, 3, 4), (3, 1)), ((2, 3, 4), (4,)), ((2, 1, 4), (3, 1)), ((2, 1, 2, 3), (2, 1, 3)), ((1,), (1,)),
    ((3, 3), (3, 3)), ((2, 3, 3), (2, 3, 3)), ((2, 2, 2, 2), (2, 2, 2, 2)),
]  # fmt: skip


def trials(op: Op) -> list[Trial]:
    """The trials of an op; none for one without a derivative to try (bits, sources, `detach`, which cuts it)."""
    if op.kind != "elementwise":
        return structured(op.name)
    if op.joint is not None or op.name in _WITHOUT:
        return []
    count = 1 if callable(op.vjp) else len(op.vjp)
    rng = np.random.default_rng(11)
    if op.name == "where":
        return list(_choices(rng))
    if op.name == "cast":
        return list(_unary(rng, {"dtype": dtypes.float64}))
    if not _of_reals(op, count):
        return []
    return list(_unary(rng, {}) if count == 1 else _binary(op, rng))


def _of_reals(op: Op, count: int) -> bool:
    """Does it take real numbers and give some?"""
    try:
        return bool(op.numpy(*[np.array([1.5])] * count).dtype.kind == "f")
    except TypeError:
        return False


def _unary(rng: Any, params: dict[str, Any]) -> Iterator[Trial]:
    yield Trial((LINE,), params)
    yield Trial((rng.normal(0, 2, (3, 5)),), params)
    yield Trial((rng.uniform(0.4, 3, (3, 3)),), params, ordinary=True)
    yield Trial((np.array(0.7),), params, ordinary=True)


def _binary(op: Op, rng: Any) -> Iterator[Trial]:
    # Stairs (of ops that take no complex numbers) look like a slope where numbers are far apart.
    pairs = np.array(list(product(FAR_GRID if takes_complex(op, 2, {}) else GRID, repeat=2)))
    yield Trial((pairs[:, 0].copy(), pairs[:, 1].copy()), {})
    yield Trial((GRID, GRID + NEARLY * np.where(GRID == 0, 1, np.minimum(np.abs(GRID), 1))), {})
    for one, other in _BROADCAST:
        for a, b in ((one, other), (other, one)):
            yield Trial((rng.uniform(0.4, 3, a), rng.uniform(0.4, 3, b)), {}, ordinary=True)


def _choices(rng: Any) -> Iterator[Trial]:
    """Every broadcast of three shapes, and branches that are equal."""
    shapes: list[Shape] = [(2, 3), (3,), (2, 1)]
    for c, a, b in product(shapes, repeat=3):
        yield Trial((rng.random(c) < 0.5, rng.normal(size=a), rng.normal(size=b)), {}, ordinary=True)
    a, b = rng.integers(-1, 2, (2, 4, 4)).astype(np.float64)
    yield Trial((rng.random((4, 4)) < 0.5, a, b), {})
