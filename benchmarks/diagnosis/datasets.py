"""The data of the benchmark: the bundled digits and synthetic problems, each with clean validation rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class Data:
    """Rows to train and to validate on; `clean` are the validation targets before any fault."""

    x: Array
    y: Array
    x_val: Array
    y_val: Array
    classes: int  # 0: real values

    def __post_init__(self) -> None:
        self.clean = self.y_val.copy()


def _split(x: Array, y: Array, train: int, classes: int) -> Data:
    x = x.astype(np.float32)
    y = y.astype(np.int64) if classes else y.astype(np.float32).reshape(len(y), -1)
    return Data(x[:train], y[:train], x[train:], y[train:], classes)


def digits(rng: Any) -> Data:
    """8x8 images of ten digits: 900 rows to train, 360 to validate."""
    import chainrule as cr

    data = cr.data.load("digits")
    rows = rng.permutation(len(data.train.X))[:900]
    x = np.concatenate([data.train.X[rows], data.test.X])
    return _split(x, np.concatenate([data.train.y[rows], data.test.y]), 900, 10)


def spirals(rng: Any) -> Data:
    """Three interleaved arms in the plane."""
    n = 900
    label = rng.integers(0, 3, n)
    t = np.sqrt(rng.uniform(0.02, 1, n))
    angle = 4.5 * t + label * 2 * np.pi / 3 + rng.normal(0, 0.08, n)
    x = np.stack([t * np.cos(angle), t * np.sin(angle)], axis=1) * 1.8
    return _split(x, label, 600, 3)


def curve(rng: Any) -> Data:
    """A noisy curve of one variable."""
    x = rng.uniform(-2, 2, (768, 1))
    y = np.sin(2.5 * x) + 0.4 * x + rng.normal(0, 0.08, x.shape)
    return _split(x, y / 0.85, 512, 0)


def blobs(rng: Any) -> Data:
    """Five gaussian clouds in eight dimensions that touch each other."""
    centres = rng.normal(0, 1.15, (5, 8))
    label = rng.integers(0, 5, 1200)
    return _split(centres[label] + rng.normal(0, 0.7, (1200, 8)), label, 800, 5)


def teacher(rng: Any) -> Data:
    """Classes given by a random network of one hidden layer."""
    x = rng.normal(0, 1, (1800, 10))
    hidden = np.tanh(x @ rng.normal(0, 0.45, (10, 12)))
    score = hidden @ rng.normal(0, 1, (12, 4))
    score -= score.mean(axis=0)
    return _split(x, score.argmax(axis=1), 1300, 4)


def friedman(rng: Any) -> Data:
    """Friedman's first regression problem (1991), centred and scaled."""
    x = rng.uniform(0, 1, (1200, 8))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = (y + rng.normal(0, 0.7, len(y)) - 14.4) / 4.9
    return _split((x - 0.5) * 3.4, y, 800, 0)


def stripes(rng: Any) -> Data:
    """8x8 gratings in four directions, random phase and noise."""
    n = 1100
    label = rng.integers(0, 4, n)
    row, column = np.mgrid[0:8, 0:8]
    angle = label * np.pi / 4
    phase = rng.uniform(0, 2 * np.pi, n)
    wave = np.cos(angle)[:, None, None] * row + np.sin(angle)[:, None, None] * column
    x = np.sin(1.4 * wave + phase[:, None, None]) + rng.normal(0, 0.45, (n, 8, 8))
    return _split(x.reshape(n, 64), label, 750, 4)


def waves(rng: Any) -> Data:
    """Eight steps of eight channels: which of four patterns moves through them, and which way."""
    n = 1100
    label = rng.integers(0, 4, n)
    step, channel = np.mgrid[0:8, 0:8]
    speed = np.array([0.5, -0.5, 1.2, -1.2])[label][:, None, None]
    phase = rng.uniform(0, 2 * np.pi, n)[:, None, None]
    x = np.sin(0.8 * channel + speed * step + phase) + rng.normal(0, 0.4, (n, 8, 8))
    return _split(x.reshape(n, 64), label, 750, 4)


def tokens(rng: Any) -> Data:
    """Eight vectors; one of five patterns stands at a random place among noise."""
    n = 1100
    patterns = rng.normal(0, 1, (5, 8)) * 1.3
    label = rng.integers(0, 5, n)
    x = rng.normal(0, 0.5, (n, 8, 8))
    x[np.arange(n), rng.integers(0, 8, n)] += patterns[label]
    return _split(x.reshape(n, 64), label, 750, 5)


DATASETS: dict[str, Callable[[Any], Data]] = {
    f.__name__: f for f in (digits, spirals, curve, blobs, teacher, friedman, stripes, waves, tokens)
}
