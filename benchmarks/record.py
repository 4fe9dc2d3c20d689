"""What recording costs: one training with the recorder on beside the same one with it off, by turns.

    python benchmarks/record.py [--threads N] [--rounds N]

The network is mlp_mnist of DESIGN (784-256-128-10, batch 128, Adam); the rows are random, the learning rate is
small so that no labels are memorised, and every round trains both in turn for some epochs. A round's ratio
compares neighbours in time; the median over the rounds is what is reported.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

ROWS, BATCH = 4096, 128


def trainer() -> cr.Trainer:
    """mlp_mnist, freshly initialised."""
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    return cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=1e-5))


def seconds(trainer: cr.Trainer, data: tuple[object, object], epochs: int, record: bool) -> float:
    """One call of fit."""
    start = time.perf_counter()
    trainer.fit(*data, epochs=epochs, batch_size=BATCH, progress=False, record=record)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=40)
    chosen = parser.parse_args()
    cr.set_num_threads(chosen.threads)
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((ROWS, 784)).astype(np.float32), rng.integers(0, 10, ROWS))
    off, on = trainer(), trainer()
    for one, record in ((off, False), (on, True)):
        seconds(one, data, 2, record)  # compile, and learn how long a native call should be
    pairs = []
    for number in range(chosen.rounds):
        order = [(off, False), (on, True)] if number % 2 else [(on, True), (off, False)]
        took = {record: seconds(one, data, chosen.epochs, record) for one, record in order}
        pairs.append((took[False], took[True]))
    steps = chosen.epochs * ROWS // BATCH
    plain, recorded = (1e6 * float(np.min(column)) / steps for column in zip(*pairs, strict=True))
    found = {
        "threads": chosen.threads, "us_off": plain, "us_on": recorded, "ratio_of_best": recorded / plain,
        "median_ratio": float(np.median([on / off for off, on in pairs])),
        "checkpoints": len(on.run.record.checkpoints()),
    }  # fmt: skip
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
