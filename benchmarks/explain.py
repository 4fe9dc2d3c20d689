"""How long an explanation takes on a network of a million weights, replay included.

    python benchmarks/explain.py [--questions N]

A 784-1024-256-10 network trains for 6 epochs with a record; then random weights at random steps are explained, each with
its text, and every derivation must add up to the stored bits.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim


def trained() -> cr.Trainer:
    """The network, trained on random rows."""
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10))
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=1e-4))
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4096, 784)).astype(np.float32)
    trainer.fit(rows, rng.integers(0, 10, 4096), epochs=6, batch_size=64, progress=False, record=True)
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=20)
    chosen = parser.parse_args()
    trainer, rng = trained(), np.random.default_rng(1)
    took, exact = [], 0
    for _ in range(chosen.questions):
        address = f"0.weight[{rng.integers(1024)}, {rng.integers(784)}]"
        start = time.perf_counter()
        derivation = trainer.explain(address, step=int(rng.integers(len(trainer.run))))
        str(derivation)
        took.append(time.perf_counter() - start)
        exact += derivation.adds_up
    found = {
        "weights": sum(p.numel() for p in trainer.model.parameters()), "questions": chosen.questions, "exact": exact,
        "first_s": took[0], "median_s": float(np.median(took)), "longest_later_s": max(took[1:]),
        "checkpoints": len(trainer.run.record.checkpoints()),
    }  # fmt: skip
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
