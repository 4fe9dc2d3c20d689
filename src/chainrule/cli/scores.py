"""How good predictions of a table's target are, in the measures that are usual for it."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.training.progress import as_text

Array = np.ndarray[Any, Any]
LEAST = np.finfo(
    np.float32
).tiny  # a probability below counts as this one: a single row does not make the mean infinite


def of_classes(y: Array, probabilities: Array) -> dict[str, float]:
    """Accuracy, balanced accuracy, log loss, and for two classes the area under the ROC curve.

    Example:
        >>> of_classes(np.array([0, 1, 1, 0]), np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.8, 0.2]]))
        {'accuracy': 0.75, 'balanced_accuracy': 0.75, 'log_loss': 0.5108..., 'roc_auc': 1.0}
    """
    right = probabilities.argmax(1) == y
    shares = [right[y == k].mean() for k in np.unique(y)]
    of_true = np.maximum(probabilities[np.arange(len(y)), y].astype(np.float64), LEAST)
    found = {
        "accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(shares)),
        "log_loss": float(-np.log(of_true).mean()),
    }  # fmt: skip
    if probabilities.shape[1] == 2 and len(shares) == 2:
        found["roc_auc"] = _roc_auc(y == 1, probabilities[:, 1])
    return found


def _roc_auc(positive: Array, score: Array) -> float:
    """The share of pairs of a positive and a negative row in which the positive one scores higher; equal ones are half."""
    _, code, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[code]
    n = int(positive.sum())
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def of_values(y: Array, predicted: Array) -> dict[str, float]:
    """R^2, the root of the mean squared error, and the mean absolute error, in the target's unit; the means of several targets.

    Example:
        >>> of_values(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))
        {'r2': 0.5, 'rmse': 0.57735..., 'mae': 0.33333...}
    """
    spread = ((y - y.mean(0)) ** 2).mean(0)
    squared = ((predicted - y) ** 2).mean(0)
    r2 = 1 - squared / np.where(spread > 0, spread, 1)
    return {
        "r2": float(np.mean(r2)) if np.all(spread > 0) else float("nan"),
        "rmse": float(np.mean(np.sqrt(squared))), "mae": float(np.abs(predicted - y).mean()),
    }  # fmt: skip


def told(measured: dict[str, float]) -> str:
    """The measures in a line."""
    return "  ".join(f"{name.replace('_', ' ')} {as_text(value)}" for name, value in measured.items())
