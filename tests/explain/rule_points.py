"""Inputs, op by op, on which a wrong rule shows that it is wrong and a right one that it is right."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import dtypes

Array = np.ndarray[Any, Any]
Point = tuple[tuple[Array, ...], dict[str, Any]]

rng = np.random.default_rng(11)
SIZES = np.array(
    [*np.logspace(-160, 160, 65), 1e-12, 1e-7, 5e-4, 5e-3, 0.05, 0.3, 1, 2.5, 4.7, 6.5, 12, 18, 40, 120, 380, 650, 800]
)
LINE = np.concatenate([[0.0], SIZES, -SIZES, rng.standard_normal(20)])
NEAR = np.array([0, 1e-9, 0.3, 1, 2, 3, -1e-9, -0.3, -1, -2, -2.5, 5, 1e7, -1e7])


def _pairs(*extra: tuple[float, float]) -> list[Point]:
    """Every two of some numbers, ties among them, and shapes that broadcast."""
    a, b = np.array([(a, b) for a in NEAR for b in NEAR] + [(a, a + 1e-8) for a in NEAR] + list(extra)).T.copy()
    shapes = [((3, 4), (3, 4)), ((3, 4), (4,)), ((4,), (3, 4)), ((3, 1), (1, 4)), ((2, 1, 3), (2, 3)), ((), (2, 3))]
    return [
        ((a, b), {}),
        *(((_normal(p), _normal(q)), {}) for p, q in shapes),
        *(((_normal(q), _normal(p)), {}) for p, q in shapes),
    ]


def _normal(shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _line(values: Array) -> list[Point]:
    return [((values,), {}), ((_normal((3, 5)) ** 2 + 0.1,), {})]


def _reductions() -> list[Point]:
    tied = rng.integers(-1, 2, (3, 3, 3)).astype(float)
    near = tied + rng.choice([0, 1e-8], tied.shape)
    rows = np.array([[-1.0, 0, 0, -2], [3, 1, 3, 3], [-5, -5, -5, -5]])
    wide = [
        (_normal((3, 4)), (1,)),
        (_normal((3, 19)), (1,)),
        (_normal((2, 3, 4, 5)), (0, 1, 3)),
        (np.zeros((2, 256)), (1,)),
    ]
    return [*(((x,), {"dims": dims}) for x in (tied, near, -tied) for dims in ((0,), (1,), (2,), (0, 2))),
            ((rows,), {"dims": (1,)}), *(((x,), {"dims": dims}) for x, dims in wide)]  # fmt: skip


def _indices(*columns: Any) -> tuple[Array, ...]:
    return tuple(np.array(column) for column in columns)


def _puts() -> list[Point]:
    one, two, distinct = _indices([2, 0, 2, -1, 3]), _indices([0, 2, 0, -1], [1, -2, 1, 0]), _indices([1, -1, 0])
    return [((_normal((4, 3)), _normal((5, 3)), *one), {}), ((_normal((4, 3)), _normal((4,)), *two), {}),
            ((_normal((5, 2)), _normal((3, 2)), *distinct), {})]  # fmt: skip


POSITIVE = np.sort(np.abs(LINE[LINE != 0]))
UNARY = [
    "neg",
    "abs",
    "exp",
    "expm1",
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "mish",
    "erf",
    "erfc",
    "relu",
    "alias",
    "floor",
    "round",
    "sign",
]

POINTS: dict[str, list[Point]] = {
    **{name: _line(LINE) for name in UNARY},
    **{name: _line(POSITIVE) for name in ("log", "sqrt", "rsqrt")},
    "log1p": _line(np.concatenate([POSITIVE, [0, -1e-9, -5e-5, -0.3, -0.999]])),
    **{name: _pairs() for name in ["add", "sub", "maximum", "minimum", "pow"]},
    "mul": [*_pairs(), ((np.array([0.5, 3.0]), np.array([1e-25, 2e-25])), {})],
    **{name: [((a, np.where(b == 0, 0.5, b)), {}) for (a, b), _ in _pairs((1e-200, 1e-170), (3, 1e10))] for name in ["div", "remainder", "floor_divide"]},
    "where": [((rng.random((3, 4)) > 0.5, rng.integers(0, 2, (3, 4)) * 1.0, rng.integers(0, 2, (3, 4)) * 1.0), {}), ((rng.random(4) > 0.5, _normal((3, 4)), _normal((3, 1))), {})],
    "cast": [((LINE[:9].astype(np.float32),), {"dtype": dtypes.float64}), ((LINE[:9],), {"dtype": dtypes.float32}), ((LINE[:9],), {"dtype": dtypes.float64})],
    **{name: _reductions() for name in ("sum", "amax", "amin")},
    "reshape": [((_normal((2, 6)),), {"shape": (3, 4)}), ((_normal((2, 8)),), {"shape": (4, 4)}), ((_normal((6,)),), {"shape": (1, 3, 2)})],
    "permute": [((_normal((2, 3, 4)),), {"dims": (2, 0, 1)}), ((_normal((2, 2, 2, 2)),), {"dims": (1, 2, 3, 0)}), ((_normal((3, 3, 3)),), {"dims": (1, 2, 0)}), ((_normal((3, 2)),), {"dims": (1, 0)})],
    "expand": [((_normal((3, 1)),), {"shape": (2, 3, 4)}), ((_normal((1, 3, 1)),), {"shape": (2, 3, 4)}), ((_normal((1,)),), {"shape": (5,)})],
    "slice": [((_normal((7, 5)),), {"start": (1, 0), "stop": (6, 5), "step": (2, 1)}), ((_normal((6,)),), {"start": (1,), "stop": (5,), "step": (2,)}), ((_normal((4, 4)),), {"start": (0, 1), "stop": (3, 4), "step": (1, 1)})],
    "flip": [((_normal((3, 4)),), {"dims": (0, 1)}), ((_normal((5,)),), {"dims": (0,)}), ((_normal((2, 3, 4)),), {"dims": (0, 2)})],
    "pad": [((_normal((3, 2)),), {"low": (1, 0), "high": (2, 1), "interior": (0, 0)}), ((_normal((3, 2)),), {"low": (1, 2), "high": (0, 1), "interior": (1, 2)}), ((_normal((3,)),), {"low": (0,), "high": (2,), "interior": (2,)})],
    "cat": [((_normal((2, 3)), _normal((2, 1)), _normal((2, 4))), {"dim": 1}), ((_normal((3,)), _normal((2,)), _normal((3,))), {"dim": 0})],
    "matmul": [((_normal(a), _normal(b)), {}) for a, b in [((3, 4), (4, 2)), ((3, 3), (3, 3)), ((3, 1), (1, 4)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2))]],
    "conv": [((_normal(a), _normal(b)), {"stride": s, "dilation": d}) for a, b, s, d in [((1, 2, 7, 3), (1, 3, 2, 4), (2,), (1,)), ((2, 1, 6, 5, 2), (2, 2, 3, 2, 3), (1, 2), (2, 1)), ((1, 1, 5, 1), (1, 1, 3, 1), (1,), (1,))]],
    "unfold": [((_normal(shape),), {"dim": dim, "size": size, "step": step, "dilation": d}) for shape, dim, size, step, d in [((7,), 0, 3, 1, 1), ((2, 8, 3), 1, 2, 3, 2), ((9,), 0, 3, 2, 1)]],
    "take": [((_normal((4, 3)), *_indices([2, 0, 2, -1])), {}), ((_normal((4, 3)), *_indices([[0, 2], [0, -1]], [[1, -2], [1, 0]])), {}), ((_normal((5,)), *_indices([1, 1, 1, 0])), {})],
    "put_add": _puts(),
    "put": _puts(),
}  # fmt: skip
