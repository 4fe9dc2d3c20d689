"""What `fit` costs beyond its steps: a training by `fit` beside the bare native loop of the same steps, by turns.

    python benchmarks/fit.py [--rounds 9] [--seconds 0.5] [--only digits,mlp_tab] [--validation] [--callbacks] [--heard] [--watched]
                             [--threads 1] [--cpu]

The bare loop is the compiled step that `fit` runs (gather, forward, loss, accuracy, backward, Adam) over row numbers drawn
beforehand, and with `--validation` the native passes over the rows of validation, in the order of the training: after the
whole batches of an epoch its short one, then its pass, all in one native call (until December 2026 it took all whole batches,
then all short ones, then all passes, which no training can). What `fit` adds: shuffling, snapshots, the look for NaN, sums and history,
progress, calls from Python; with `--callbacks`, early stopping that keeps the best weights and a folder of checkpoints,
and a schedule of every epoch. What goes into the files of these checkpoints, at the beginning and the end of each call, is the
disk's: it is told apart, in milliseconds a call (`ms_files`). With `--heard`, a callback of the user's that hears of every epoch
and does nothing. The least of the rounds. With `--watched`: `fit` with validation and early stopping that keeps
the best weights (every epoch is a better one), beside `fit` with validation alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import Callback, Checkpoint, EarlyStopping
from chainrule.compiler.frontend.loop import Turns
from chainrule.data.batches import shuffled_indices
from chainrule.tensor.creation import tensor

clock = time.perf_counter

# sizes, batch, rows
NETWORKS = {
    "wine_few": ((13, 16, 3), 128, 178),
    "wine": ((13, 32, 32, 3), 32, 178),
    "mlp_tiny": ((4, 32, 32, 2), 32, 4096),
    "mlp_tab": ((30, 128, 128, 2), 64, 4096),
    "digits": ((64, 128, 10), 64, 1437),
    "mlp_mnist": ((784, 256, 128, 10), 128, 4096),
}


def trainer(sizes: tuple[int, ...], scheduled: bool) -> cr.Trainer:
    cr.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    optimizer = optim.Adam(model.parameters(), lr=1e-5)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 100_000) if scheduled else None
    return cr.Trainer(model, F.cross_entropy, optimizer, ["accuracy"], scheduler=schedule)


class Bare:
    """The same steps in the same order, of row numbers drawn beforehand, with next to no Python."""

    def __init__(self, by_fit: cr.Trainer, rows: int, batch: int, epochs: int, held_out: int) -> None:
        whole = rows // batch * batch
        orders = np.stack([shuffled_indices(rows, 0, epoch) for epoch in range(epochs)])
        training = by_fit.session.programs["training"]._step
        parts = [(training, orders[:, :whole].reshape(-1, batch))] if whole else []
        if whole < rows:
            parts.append((training, orders[:, whole:]))
        if held_out:
            size, once = min(256, held_out), np.arange(held_out)
            passes = [once[: held_out // size * size].reshape(-1, size), once[held_out // size * size :][None]]
            evaluation = by_fit.session.programs["validation"]._step
            parts += [(evaluation, np.tile(part, (epochs, 1))) for part in passes if part.size]
        self.parts = [(program, tensor(numbers)) for program, numbers in parts]
        self.each = [len(numbers) // epochs for _, numbers in parts]
        self.epochs, self.training, self.mode = epochs, training, by_fit.session.mode

    def run(self) -> float:
        """Its seconds."""
        start = clock()
        loops = []
        for program, numbers in self.parts:
            with self.mode(program is self.training):
                loops.append(program.begin(numbers))
        turns = Turns(loops, np.tile(np.arange(len(loops)), self.epochs), np.tile(self.each, self.epochs))
        if turns.native:
            turns.advance(len(loops) * self.epochs)
        else:  # on several threads, a call for each turn
            for _ in range(self.epochs):
                for loop, steps in zip(loops, self.each, strict=True):
                    loop.advance(steps, shared=True)
        for loop in loops:
            loop.end()
        return clock() - start


class Timed(Checkpoint):
    """Knows how long its files took."""

    took = 0.0

    def _write(self, trainer: cr.Trainer, last: bool = False) -> None:
        began = clock()
        super()._write(trainer, last)
        self.took += clock() - began


class Heard(Callback):
    """Hears of every epoch."""

    def on_epoch_end(self, trainer: cr.Trainer, epoch: int, measured: Mapping[str, float]) -> None:
        pass


def measure(name: str, rounds: int, seconds: float, validation: bool, some: bool, heard: bool) -> dict[str, float]:
    sizes, batch, rows = NETWORKS[name]
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], rows)
    held_out = (X[: rows // 5], y[: rows // 5]) if validation else None
    ours, other = trainer(sizes, some), trainer(sizes, False)

    def fit(who: cr.Trainer, epochs: int) -> tuple[float, float]:
        """Its seconds, and those that went into files beside them."""
        own: list[Callback] = [Heard()] if heard and who is ours else []
        files = Timed(tempfile.mkdtemp()) if some and who is ours else None
        if files is not None:
            own += [EarlyStopping(patience=10**9, restore_best_weights=True), files]
        start = clock()
        who.fit(X, y, epochs, batch, held_out, progress=False, callbacks=own)
        written = files.took if files is not None else 0.0
        return clock() - start - written, written

    for who in (ours, other):
        fit(who, 3)
    epochs = 3
    while fit(ours, epochs)[0] < seconds / 2:
        epochs *= 2
    bare = Bare(other, rows, batch, epochs, rows // 5 if validation else 0)
    bare.run()
    timed = [(*fit(ours, epochs), bare.run()) for _ in range(rounds)]
    steps = epochs * -(-rows // batch)
    by_fit, files, native = (min(column) for column in zip(*timed, strict=True))
    found = {"epochs": epochs, "us_fit": 1e6 * by_fit / steps, "us_bare": 1e6 * native / steps}
    return {**found, "overhead": by_fit / native - 1, **({"ms_files": 1e3 * files} if some else {})}


def watched(name: str, rounds: int, seconds: float) -> dict[str, float]:
    """What judging costs an epoch."""
    sizes, batch, rows = NETWORKS[name]
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], rows)

    def fit(who: cr.Trainer, epochs: int, judged: bool) -> float:
        own = [EarlyStopping(patience=10**9, restore_best_weights=True)] if judged else []
        start = clock()
        who.fit(X, y, epochs, batch, (X[: rows // 5], y[: rows // 5]), progress=False, callbacks=own)
        return clock() - start

    one, other, epochs = trainer(sizes, False), trainer(sizes, False), 3
    for who in (one, other):
        fit(who, 3, who is other)
    while fit(one, epochs, False) < seconds / 2:
        epochs *= 2
    fit(other, epochs, True)
    pairs = [(fit(one, epochs, False), fit(other, epochs, True)) for _ in range(rounds)]
    alone, judged = (1e6 * min(column) / epochs for column in zip(*pairs, strict=True))
    return {"epochs": epochs, "us_epoch": alone, "us_watched": judged, "ratio": judged / alone}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--validation", action="store_true", help="evaluate a fifth of the rows after every epoch")
    parser.add_argument("--callbacks", action="store_true", help="with validation, early stopping and checkpoints")
    parser.add_argument("--heard", action="store_true", help="with a callback that hears of every epoch")
    parser.add_argument("--watched", action="store_true", help="early stopping over validation alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu", action="store_true", help="time of the processor, on one thread: beside other work")
    chosen = parser.parse_args()
    if chosen.cpu:
        global clock
        clock, chosen.threads = time.thread_time, 1
    cr.set_num_threads(chosen.threads)
    validation = chosen.validation or chosen.callbacks
    found = {
        name: watched(name, chosen.rounds, chosen.seconds)
        if chosen.watched
        else measure(name, chosen.rounds, chosen.seconds, validation, chosen.callbacks, chosen.heard)
        for name in chosen.only.split(",")
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
