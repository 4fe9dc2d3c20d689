"""Robust scaling and smooth clipping: numbers of any size and with any outliers, brought to where a network learns."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ONE_HOT = 8  # levels at most that the full recipe for tables has a column each of; more become a learned vector each
SMOOTH = 3.0  # where clipping bends: values end at +-3
BEYOND = 1e30  # scaled values end here before they are clipped, far inside of float32
MOST = 1e300  # and given ones here, so that no difference of two overflows


def smooth_clip(scaled: Array) -> Array:
    """``z / sqrt(1 + (z / 3)^2)``: like z near 0, and never beyond 3.

    Example:
        >>> smooth_clip(np.array([0.0, 0.1, 4.0, -1e30])).round(3).tolist()
        [0.0, 0.1, 2.4, -3.0]
    """
    found: Array = scaled / np.hypot(1.0, scaled / SMOOTH)
    return found


def quantiles(X: Array, shares: Sequence[float], weights: Array | None = None) -> Array:
    """Of each column, shape (shares, F), NaN being missing: NumPy's, of rows that are there as often as they weigh.

    Args:
        X: rows, shape (N, F).
        shares: from 0 to 1.
        weights: of each row, above 0; only their ratios count, the smallest being once.

    Example:
        >>> X = np.array([[1.0], [2.0], [5.0]])
        >>> quantiles(X, [0.5]).tolist(), quantiles(X, [0.5], np.array([1, 1, 3])).tolist()
        ([[2.0]], [[5.0]])
    """
    if not X.size:
        return np.zeros((len(shares), X.shape[1]))
    if weights is None:
        found: Array = np.nanquantile(X, shares, axis=0)
        return found
    often = np.asarray(weights, np.float64) / np.min(weights)
    each = [_of_column(column, often, np.asarray(shares)) for column in X.T]
    return np.stack(each, axis=1) if each else np.zeros((len(shares), 0))


def _of_column(values: Array, often: Array, shares: Array) -> Array:
    known = ~np.isnan(values)
    if not known.any():
        return np.full(len(shares), np.nan)
    order = np.argsort(values[known], kind="stable")
    values, ends = values[known][order], np.cumsum(often[known][order])
    place = (ends[-1] - 1) * shares
    below, above = (
        values[np.minimum(np.searchsorted(ends, at, side="right"), len(ends) - 1)]
        for at in (np.floor(place), np.floor(place) + 1)
    )
    found: Array = below + (above - below) * (place - np.floor(place))
    return found


@dataclass(frozen=True)
class RobustScaling:
    """Of each column ``(x - median) factor``, smoothly clipped; a missing value stays missing.

    The factor is 1 over the distance of the quartiles; where those are equal, 2 over that of minimum and maximum; where
    those are equal, too (a column that is constant, or all missing), 0: it stays constant whatever comes later.

    Attributes:
        medians, factors: of each column, float64 (F,).

    Source: Holzmueller, Grinsztajn, Steinwart, "Better by default", NeurIPS 2024, arXiv 2407.04491.

    Example:
        >>> X = np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [1e9, 5.0]])
        >>> RobustScaling.fit(X).transform(X).round(2).tolist()
        [[-0.95, 0.0], [-0.49, 0.0], [0.0, 0.0], [0.49, 0.0], [3.0, 0.0]]
    """

    medians: Array
    factors: Array

    @classmethod
    def fit(cls, X: Array, weights: Array | None = None) -> RobustScaling:
        """Learn from rows, shape (N, F), NaN being missing; a row of weight 2 counts as two."""
        X = np.clip(X, -MOST, MOST)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of columns that are all missing
            low, medians, high = quantiles(X, [0.25, 0.5, 0.75], weights)
            whole = np.nanmax(X, axis=0) / 2 - np.nanmin(X, axis=0) / 2 if X.size else np.zeros(X.shape[1])
        spread = np.where(high - low > 0, high - low, whole)
        with np.errstate(divide="ignore", over="ignore"):
            factors = np.where(spread > 0, 1 / spread, 0.0)
        return cls(np.nan_to_num(medians), np.where(np.isfinite(factors), factors, 0.0))

    def transform(self, X: Array) -> Array:
        """The same of any rows, float64."""
        with np.errstate(over="ignore"):
            scaled = np.clip((np.clip(X, -MOST, MOST) - self.medians) * self.factors, -BEYOND, BEYOND)
        return smooth_clip(scaled)
