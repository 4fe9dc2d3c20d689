"""One number drawn from a generator stands for a whole order: the rest follows from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.tensor.random import Generator, current_generator

Array = np.ndarray[Any, Any]


def draw_seed(generator: Generator | None) -> int:
    """A seed in [0, 2**62), which moves the generator (None: the default one) on by one step."""
    high, low = ((generator or current_generator()).bits((), 2))[:2]
    return (int(high) % 2**32) << 30 | (int(low) % 2**30)


def uniforms(count: int, seed: int) -> Array:
    """So many numbers in [0, 1), with 53 random bits each; the same on every machine and NumPy version."""
    words: Array = np.random.Philox(key=np.array([seed, 0], np.uint64)).random_raw(count)
    found: Array = (words >> np.uint64(11)) * 2.0**-53
    return found
