"""What is paid around native code: by a call, by a first call, and by `fit` before its first step.

    python benchmarks/calls.py

The least and the median of many calls of a compiled network of two and ten layers on one row, guards and all; the first
call of a recurrence written out by hand, 128 steps, in a process and a cache of its own; the time from `fit` to its
first native call on 178 rows of 13 columns. On one thread.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.compiler.frontend.loop import Loop

clock = time.perf_counter
STEPS = 128


def spread(seconds: list[float]) -> dict[str, float]:
    """In microseconds."""
    return {"least": 1e6 * min(seconds), "median": 1e6 * statistics.median(seconds)}


def calls(layers: int, count: int = 20_000) -> dict[str, float]:
    """Of a compiled network on one row of four numbers."""
    network = nn.Sequential(*(layer for _ in range(layers) for layer in (nn.Linear(4, 4), nn.Tanh())))
    compiled, row = cr.compile(network), cr.ones(1, 4)
    compiled(row)
    return spread([_timed(lambda: compiled(row)) for _ in range(count)])


def _timed(call: Callable[[], Any]) -> float:
    start = clock()
    call()
    return clock() - start


def recurrence() -> dict[str, float]:
    """The first call, forward and backward, of the steps of a recurrence written out."""
    cr.manual_seed(0)
    cell, read = nn.Linear(40, 32), nn.Linear(32, 2)
    x, y = cr.randn(STEPS, 16, 8), cr.arange(16) % 2

    @cr.compile
    def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        h = cr.zeros(16, 32)
        for t in range(STEPS):
            h = cell(cr.cat([x[t], h], 1)).tanh()
        loss = nn.functional.cross_entropy(read(h), y)
        loss.backward()
        return loss

    return {"first": 1e6 * _timed(lambda: step(x, y))}


def start(fits: int = 500) -> dict[str, float]:
    """From `fit` to its first native call."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((178, 13)).astype(np.float32), rng.integers(0, 3, 178)
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    trainer = cr.Trainer(model, "cross_entropy", "adam", lr=1e-5)

    def fit() -> None:
        trainer.fit(X, y, 1, 32, progress=False)

    for _ in range(20):
        fit()
    first: list[float] = []

    def noted(native: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            first.append(clock())
            return native(*arguments)

        return call

    Loop.linked, Loop._some = noted(Loop.linked), noted(Loop._some)  # type: ignore[method-assign]
    found = []
    for _ in range(fits):
        first.clear()
        began = clock()
        fit()
        found.append(first[0] - began)
    return spread(found)


def _alone(name: str) -> dict[str, float]:
    """In a process of its own, whose cache is empty."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "CHAINRULE_CACHE_DIR": folder}
        done = subprocess.run(
            [sys.executable, __file__, name], env=environment, capture_output=True, text=True, check=True
        )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    cr.set_num_threads(1)
    if sys.argv[1:] == ["recurrence"]:
        print(json.dumps(recurrence()))
        return
    rows = {
        "a call, 2 layers": calls(2),
        "a call, 10 layers": calls(10),
        f"first call of a recurrence of {STEPS} steps": _alone("recurrence"),
        "fit to its first native call": start(),
    }
    for name, found in rows.items():
        print(f"{name:45}", *(f"{key} {value:,.1f} us" for key, value in found.items()))


if __name__ == "__main__":
    main()
