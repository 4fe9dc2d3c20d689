"""Unchanged PyTorch loops, of which only the imports differ: ours under ``cr.eager(False)``, and at once, against PyTorch's.

Run: ``OMP_NUM_THREADS=1 python benchmarks/deferred_loops.py`` with PyTorch installed.

Forward pass, cross-entropy, backward pass and a step of Adam, over batches that differ; CPU time, one thread each, in turns,
of many rounds the fastest. ``item()`` before ``backward()`` is timed too, as many loops write it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

NETWORKS = {"4-32-32-2": 32, "30-128-128-2": 64, "784-256-128-10": 128}  # and the size of a batch
BATCHES = 4


def loop(torch: Any, nn: Any, F: Any, optim: Any, network: str, asks: bool) -> Callable[[int], float]:
    """So many steps; gives the last loss."""
    widths = [int(width) for width in network.split("-")]
    random, batch = np.random.default_rng(0), NETWORKS[network]
    layers: list[Any] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(random.uniform(-0.1, 0.1, tuple(p.shape)).astype(np.float32)))
    optimizer = optim.Adam(model.parameters(), lr=1e-4)
    data = [
        (
            torch.from_numpy(random.normal(size=(batch, widths[0])).astype(np.float32)),
            torch.from_numpy(random.integers(0, widths[-1], batch)),
        )
        for _ in range(BATCHES)
    ]

    def steps(count: int) -> float:
        loss = None
        for i in range(count):
            x, y = data[i % BATCHES]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if asks:
                loss.item()
            loss.backward()
            optimizer.step()
        return 0.0 if loss is None else float(loss.item())

    return steps


def measure(network: str, asks: bool, rounds: int) -> dict[str, float]:
    """Microseconds a step."""
    import torch

    import chainrule as cr

    torch.set_num_threads(1)
    cr.set_num_threads(1)
    theirs = loop(torch, torch.nn, torch.nn.functional, torch.optim, network, asks)
    ours = [
        loop(cr, cr.nn, cr.nn.functional, cr.optim, network, asks),
        loop(cr, cr.nn, cr.nn.functional, cr.optim, network, asks),
    ]
    count = 20 if network.startswith("784") else 100
    best = {"PyTorch": float("inf"), "at once": float("inf"), "deferred": float("inf")}
    losses = {}
    with cr.eager(False):
        ours[1](20)
    ours[0](20), theirs(20)
    for _ in range(rounds):
        for name, steps in zip(best, (theirs, *ours), strict=True):
            with cr.eager(name != "deferred"):
                start = time.process_time()
                losses[name] = steps(count)
                best[name] = min(best[name], 1e6 * (time.process_time() - start) / count)
    if max(losses.values()) - min(losses.values()) > 1e-3:
        raise AssertionError(f"{network}: the losses differ: {losses}")
    return best


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    print(f"{'us a step':28}{'PyTorch':>9}{'at once':>9}{'deferred':>9}  times as fast as PyTorch")
    for asks in (False, True):
        for network in NETWORKS:
            found = measure(network, asks, rounds)
            title = network + (", item() first" if asks else "")
            columns = "".join(f"{value:9.0f}" for value in found.values())
            print(f"{title:28}{columns}  {found['PyTorch'] / found['deferred']:.2f}", flush=True)


if __name__ == "__main__":
    main()
