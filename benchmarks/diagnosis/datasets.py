"""The data of the benchmark: the bundled digits and synthetic problems.

Each has three parts: rows to train on, rows to validate on, which faults spoil alike, and test rows, which neither
the training nor the diagnosis ever sees. Only the yardstick of the benchmark reads those; their labels are right and
their classes as frequent as the problem has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass
class Data:
    """Rows to train, to validate and to test on; `classes` is 0 for real values."""

    x: Array
    y: Array
    x_val: Array
    y_val: Array
    x_test: Array
    y_test: Array
    classes: int

    def each(self, name: str, change: Callable[[Array], Array]) -> None:
        """Change the inputs ("x") or targets ("y") of all three parts."""
        for part in (name, f"{name}_val", f"{name}_test"):
            setattr(self, part, change(getattr(self, part)).astype(np.float32))


def _split(x: Array, y: Array, train: int, validate: int, classes: int) -> Data:
    x = x.astype(np.float32)
    y = y.astype(np.int64) if classes else y.astype(np.float32).reshape(len(y), -1)
    parts = [slice(0, train), slice(train, train + validate), slice(train + validate, None)]
    return Data(*(values[part] for part in parts for values in (x, y)), classes)


def digits(rng: Any) -> Data:
    """8x8 images of ten digits."""
    import chainrule as cr

    data = cr.data.load("digits")
    x, y = (np.concatenate(parts) for parts in zip(data.train, data.test, strict=True))
    rows = rng.permutation(len(x))
    return _split(x[rows], y[rows], 900, 300, 10)


def spirals(rng: Any) -> Data:
    """Three interleaved arms in the plane."""
    n = 1400
    label = rng.integers(0, 3, n)
    t = np.sqrt(rng.uniform(0.02, 1, n))
    angle = 4.5 * t + label * 2 * np.pi / 3 + rng.normal(0, 0.08, n)
    x = np.stack([t * np.cos(angle), t * np.sin(angle)], axis=1) * 1.8
    return _split(x, label, 600, 300, 3)


def curve(rng: Any) -> Data:
    """A noisy curve of one variable."""
    x = rng.uniform(-2, 2, (1200, 1))
    y = np.sin(2.5 * x) + 0.4 * x + rng.normal(0, 0.08, x.shape)
    return _split(x, y / 0.85, 512, 256, 0)


def blobs(rng: Any) -> Data:
    """Five gaussian clouds in eight dimensions that touch each other."""
    centres = rng.normal(0, 1.15, (5, 8))
    label = rng.integers(0, 5, 1700)
    return _split(centres[label] + rng.normal(0, 0.7, (1700, 8)), label, 800, 400, 5)


def teacher(rng: Any) -> Data:
    """Classes given by a random network of one hidden layer."""
    x = rng.normal(0, 1, (2300, 10))
    hidden = np.tanh(x @ rng.normal(0, 0.45, (10, 12)))
    score = hidden @ rng.normal(0, 1, (12, 4))
    score -= score.mean(axis=0)
    return _split(x, score.argmax(axis=1), 1300, 500, 4)


def friedman(rng: Any) -> Data:
    """Friedman's first regression problem (1991), centred and scaled."""
    x = rng.uniform(0, 1, (1700, 8))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = (y + rng.normal(0, 0.7, len(y)) - 14.4) / 4.9
    return _split((x - 0.5) * 3.4, y, 800, 400, 0)


def stripes(rng: Any) -> Data:
    """8x8 gratings in four directions, random phase and noise."""
    n = 1600
    label = rng.integers(0, 4, n)
    row, column = np.mgrid[0:8, 0:8]
    angle = label * np.pi / 4
    phase = rng.uniform(0, 2 * np.pi, n)
    wave = np.cos(angle)[:, None, None] * row + np.sin(angle)[:, None, None] * column
    x = np.sin(1.4 * wave + phase[:, None, None]) + rng.normal(0, 0.45, (n, 8, 8))
    return _split(x.reshape(n, 64), label, 750, 350, 4)


def waves(rng: Any) -> Data:
    """Eight steps of eight channels: which of four patterns moves through them, and which way."""
    n = 1600
    label = rng.integers(0, 4, n)
    step, channel = np.mgrid[0:8, 0:8]
    speed = np.array([0.5, -0.5, 1.2, -1.2])[label][:, None, None]
    phase = rng.uniform(0, 2 * np.pi, n)[:, None, None]
    x = np.sin(0.8 * channel + speed * step + phase) + rng.normal(0, 0.4, (n, 8, 8))
    return _split(x.reshape(n, 64), label, 750, 350, 4)


def tokens(rng: Any) -> Data:
    """Eight vectors; one of five patterns stands at a random place among noise."""
    n = 1600
    patterns = rng.normal(0, 1, (5, 8)) * 1.3
    label = rng.integers(0, 5, n)
    x = rng.normal(0, 0.5, (n, 8, 8))
    x[np.arange(n), rng.integers(0, 8, n)] += patterns[label]
    return _split(x.reshape(n, 64), label, 750, 350, 5)


def rings(rng: Any) -> Data:
    """Three shells around the origin of four dimensions, seen through three more that say nothing."""
    n = 1300
    label = rng.integers(0, 3, n)
    direction = rng.normal(0, 1, (n, 4))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = np.array([0.7, 1.7, 2.7])[label] + rng.normal(0, 0.22, n)
    return _split(np.concatenate([direction * radius[:, None], rng.normal(0, 1, (n, 3))], axis=1), label, 500, 300, 3)


def records(rng: Any) -> Data:
    """A table of six numbers and a category of four, in four classes by noisy scores with one interaction."""
    n = 1400
    numbers, category = rng.normal(0, 1, (n, 6)), np.eye(4)[rng.integers(0, 4, n)]
    score = numbers @ rng.normal(0, 1, (6, 4)) + category @ rng.normal(0, 1.5, (4, 4))
    score[:, 0] += 1.5 * numbers[:, 0] * category[:, 0]
    score += rng.normal(0, 0.3, (n, 4)) - score.mean(axis=0)
    return _split(np.concatenate([numbers, category], axis=1), score.argmax(axis=1), 600, 300, 4)


def pendulum(rng: Any) -> Data:
    """The force on a driven, damped pendulum and its energy, two values of four variables, with noise."""
    n = 1300
    angle, speed = rng.uniform(-np.pi, np.pi, n), rng.normal(0, 1, n)
    drive, damping = rng.normal(0, 1, n), rng.uniform(0, 1, n)
    force = -np.sin(angle) - damping * speed + 0.7 * drive
    energy = 0.5 * speed**2 - np.cos(angle) - 0.5
    y = np.stack([force, energy], axis=1) + rng.normal(0, 0.1, (n, 2))
    return _split(np.stack([angle / 1.8, speed, drive, (damping - 0.5) * 3.4], axis=1), y, 500, 300, 0)


def chirps(rng: Any) -> Data:
    """Sixteen steps of four channels: a pulse whose pitch rises, falls, stays high or stays low, anywhere in time."""
    n = 1300
    label = rng.integers(0, 4, n)
    t = np.arange(16) - rng.uniform(5, 10, n)[:, None]
    pitch = np.array([1.1, 1.1, 1.9, 0.5])[label][:, None]
    bend = np.array([0.09, -0.09, 0.0, 0.0])[label][:, None]
    channel = np.arange(4) * np.pi / 4
    wave = np.cos((pitch * t + bend * t * np.abs(t))[:, :, None] + channel) * np.exp(-((t / 4.5) ** 2))[:, :, None]
    return _split((1.7 * wave + rng.normal(0, 0.6, (n, 16, 4))).reshape(n, 64), label, 600, 300, 4)


def orbits(rng: Any) -> Data:
    """Eight steps of a noisy linear system of eight states; which of four systems moves them."""
    n = 1300
    label = rng.integers(0, 4, n)
    systems = np.stack([np.linalg.qr(rng.normal(0, 1, (8, 8)))[0] for _ in range(4)])[label]
    state, steps = rng.normal(0, 1, (n, 8)), []
    for _ in range(8):
        steps.append(state + rng.normal(0, 0.4, (n, 8)))
        state = np.einsum("nij,nj->ni", systems, state)
    return _split(np.stack(steps, axis=1).reshape(n, 64), label, 600, 300, 4)


def marked(rng: Any) -> Data:
    """Eight places, each with one of four patterns; one place is marked, and its pattern is the class."""
    n = 1300
    patterns, kinds = rng.normal(0, 1, (4, 7)) * 1.4, rng.integers(0, 4, (n, 8))
    place = rng.integers(0, 8, n)
    x = np.concatenate([patterns[kinds], np.full((n, 8, 1), -0.7)], axis=2) + rng.normal(0, 0.7, (n, 8, 8))
    x[np.arange(n), place, 7] += 3.0
    return _split(x.reshape(n, 64), kinds[np.arange(n), place], 600, 300, 4)


DATASETS: dict[str, Callable[[Any], Data]] = {
    f.__name__: f
    for f in (
        digits, spirals, curve, blobs, teacher, friedman, stripes, waves, tokens,
        rings, records, pendulum, chirps, orbits, marked,
    )
}  # fmt: skip
