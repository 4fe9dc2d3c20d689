"""The scores that stop a training early, from the outputs of a network."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def accuracy(z: Array, y: Array, weights: Array | None) -> float:
    """The share of rows whose answers are all right.

    Args:
        z: logits, shape (N, K).
        y: class numbers, shape (N,), or yes-or-no answers, shape (N, K).
    """
    if not np.isfinite(z).all():
        return float("nan")
    right = z.argmax(axis=1) == y if y.ndim == 1 else ((z > 0) == (y > 0.5)).all(axis=1)
    return float(np.average(right, weights=weights))


def r2(values: Array, y: Array, weights: Array | None) -> float:
    """1 less the squared error by that of the mean, averaged over the outputs: ``sklearn.metrics.r2_score``."""
    if not np.isfinite(values).all():
        return float("nan")
    share = np.ones(len(y)) if weights is None else weights
    error = share @ np.square(y - values, dtype=np.float64)
    spread = share @ np.square(y - np.average(y, axis=0, weights=share), dtype=np.float64)
    # Of a constant target: 1 where it is met, else 0.
    constant = spread == 0
    scores = np.where(constant, np.where(error == 0, 1.0, 0.0), 1 - error / np.where(constant, 1.0, spread))
    return float(scores.mean())
