"""Many trainings at once: `cr.sweep` by threads and by processes, beside one at a time, PyTorch and JAX.

    python benchmarks/sweep.py [--networks 1000] [--rounds 3] [--only tiny,tab] [--peers 10] [--json FILE]

Each way trains networks of one architecture with Adam for the same epochs on the same rows, every network with first
weights and orders of its own. Milliseconds a network, the least of the rounds, which go by turns; and beside them those of
the processors, all threads and processes together, which other work on the machine hardly changes:

- `one thread`, `two threads`, `two processes`: `cr.sweep`;
- `bare loop`, `two bare loops`: nothing but the native steps of such networks, on one and on two threads: what this
  machine's processors give at most. Beside other work they give less than two threads could have;
- `torch`: one network after the other, eager, on one thread (`--peers` networks, after one to warm up);
- `jax`: all networks at once, `jax.vmap` over them and `jax.lax.scan` over the steps, on the threads that XLA takes, without
  its compilation, which stands apart. It comes after the others: its threads would be in the way of processes that fork.

`load` is the machine's own before it began. With more than a little, the ratios of two to one say nothing of what an idle
machine gives; `two_processes_by_cpu` does: of the processors' time that one thread takes, to half of what two processes take
with the one that feeds them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.compiler.runtime.threads import one_thread
from chainrule.data.orders import shuffled_orders
from chainrule.tensor.creation import tensor

# sizes, rows, batch, epochs
CASES = {"tiny": ((4, 32, 32, 2), 1000, 32, 50), "tab": ((30, 32, 32, 1), 10_000, 64, 4)}


class Case:
    """One architecture on one set of rows."""

    def __init__(self, name: str) -> None:
        self.sizes, self.rows, self.batch, self.epochs = CASES[name]
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((self.rows, self.sizes[0])).astype(np.float32)
        clear = self.X[:, 0] * self.X[:, 1]
        self.classes = self.sizes[-1] > 1
        self.y = (clear > 0).astype(np.int64) if self.classes else clear[:, None].astype(np.float32)

    def build(self, seed: int) -> cr.Trainer:
        cr.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(self.sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
        loss = F.cross_entropy if self.classes else F.mse_loss
        return cr.Trainer(model, loss, optim.Adam(model.parameters(), lr=1e-3))

    def orders(self, seed: int) -> np.ndarray:
        """The row numbers of every step on a whole batch."""
        whole = self.rows // self.batch * self.batch
        return shuffled_orders(self.rows, seed, 0, self.epochs)[:, :whole].reshape(-1, self.batch)


def by_sweep(case: Case, networks: int, **workers: int) -> Callable[[], float]:
    def run() -> float:
        return _seconds(
            lambda: cr.sweep(
                case.build, {"seed": list(range(networks))}, case.X, case.y, epochs=case.epochs, batch_size=case.batch, **workers
            )
        ) / networks  # fmt: skip

    return run


def bare(case: Case, networks: int, threads: int) -> Callable[[], float]:
    """The native steps alone, a program to each thread."""
    bound = []
    for _ in range(threads):
        trainer = case.build(0)
        with one_thread():
            trainer.fit(case.X, case.y, 1, case.batch, progress=False)
        bound.append((trainer.session.programs["training"]._step, tensor(case.orders(0))))
    some = max(1, networks // threads)

    def work(thread: int) -> None:
        step, index = bound[thread]
        with one_thread():
            for _ in range(some):
                step.loop(index)

    def run() -> float:
        workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        return _seconds(lambda: ([w.start() for w in workers], [w.join() for w in workers])) / (some * threads)

    return run


def by_torch(case: Case, networks: int) -> Callable[[], float]:
    import torch

    torch.set_num_threads(1)
    X, y = torch.from_numpy(case.X), torch.from_numpy(case.y)
    loss = torch.nn.functional.cross_entropy if case.classes else torch.nn.functional.mse_loss

    def one(seed: int) -> None:
        torch.manual_seed(seed)
        layers: list[Any] = []
        for inputs, outputs in pairwise(case.sizes):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(case.epochs):
            for rows in torch.randperm(case.rows).split(case.batch):
                optimizer.zero_grad()
                loss(model(X[rows]), y[rows]).backward()
                optimizer.step()

    one(0)
    return lambda: _seconds(lambda: [one(seed) for seed in range(networks)]) / networks


def by_jax(case: Case, networks: int) -> tuple[Callable[[], float], Callable[[], float]]:
    """The seconds of a run, and of the first, which compiles."""
    import jax
    import jax.numpy as jnp

    X, y = jnp.asarray(case.X), jnp.asarray(case.y)

    def loss(weights: Any, rows: Any) -> Any:
        x = X[rows]
        for W, b in weights[:-1]:
            x = jax.nn.relu(x @ W + b)
        out = x @ weights[-1][0] + weights[-1][1]
        if not case.classes:
            return ((out - y[rows]) ** 2).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(out), y[rows][:, None], 1).mean()

    def step(state: Any, rows: Any) -> Any:
        weights, m, v, t = state
        value, grads = jax.value_and_grad(loss)(weights, rows)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        t = t + 1
        rate = 1e-3 / (1 - 0.9**t)
        root = jnp.sqrt(1 - 0.999**t)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) / root + 1e-8), weights, m, v)
        return (weights, m, v, t), value

    def one(weights: Any, index: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, weights)
        return jax.lax.scan(step, (weights, zeros, zeros, 0.0), index)

    train = jax.jit(jax.vmap(one))
    rng = np.random.default_rng(0)
    weights = [
        (
            (rng.uniform(-1, 1, (networks, a, b)) / np.sqrt(a)).astype(np.float32),
            (rng.uniform(-1, 1, (networks, b)) / np.sqrt(a)).astype(np.float32),
        )
        for a, b in pairwise(case.sizes)
    ]
    index = np.stack([case.orders(seed) for seed in range(networks)]).astype(np.int32)
    run = lambda: _seconds(lambda: jax.block_until_ready(train(weights, index)))  # noqa: E731
    return lambda: run() / networks, run


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _processors() -> float:
    """Seconds of all threads of this process, and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(name: str, networks: int, peers: int, rounds: int) -> dict[str, Any]:
    case, few = Case(name), max(4, networks // 20)
    counts = {"one thread": networks, "two threads": networks, "two processes": networks, "bare loop": few}
    counts.update({"two bare loops": few // 2 * 2, "torch": peers})
    ways = {
        "one thread": by_sweep(case, networks, threads=1),
        "two threads": by_sweep(case, networks, threads=2),
        "two processes": by_sweep(case, networks, processes=2),
        "bare loop": bare(case, few, 1),
        "two bare loops": bare(case, few, 2),
        "torch": by_torch(case, peers),
    }
    by_sweep(case, 4, threads=2)()  # what is compiled is kept on disk
    load, taken = os.getloadavg()[0], _taken(ways, counts, rounds)
    ms, cpu = _least(taken)
    best = min(ms["two threads"], ms["two processes"])
    return {
        "networks": networks, "sizes": case.sizes, "rows": case.rows, "batch": case.batch, "epochs": case.epochs,
        "cpus": len(os.sched_getaffinity(0)), "load": load, "ms": ms, "cpu_ms": cpu,
        "two_threads_to_one": ms["one thread"] / ms["two threads"],
        "two_processes_to_one": ms["one thread"] / ms["two processes"],
        "two_bare_loops_to_one": ms["bare loop"] / ms["two bare loops"],
        "two_processes_by_cpu": 2 * cpu["one thread"] / cpu["two processes"],
        "torch_to_best": ms["torch"] / best, "torch_to_one_by_cpu": cpu["torch"] / cpu["one thread"],
    }  # fmt: skip


def beside_jax(name: str, networks: int, rounds: int, found: dict[str, Any]) -> None:
    """JAX's figures, too."""
    run, first = by_jax(Case(name), networks)
    found["jax_first_s"] = first()
    ms, cpu = _least(_taken({"jax": run}, {"jax": networks}, rounds))
    found["ms"].update(ms)
    found["cpu_ms"].update(cpu)
    found["jax_to_best"] = ms["jax"] / min(found["ms"]["two threads"], found["ms"]["two processes"])
    found["jax_to_one_by_cpu"] = cpu["jax"] / found["cpu_ms"]["one thread"]


def _least(taken: dict[str, list[tuple[float, float]]]) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds by the clock, and of the processors."""
    by_clock, by_cpu = ({way: 1e3 * min(t[i] for t in times) for way, times in taken.items()} for i in (0, 1))
    return by_clock, by_cpu


def _taken(
    ways: dict[str, Callable[[], float]], counts: dict[str, int], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds a network, by the clock and of the processors, of each round."""
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            before = _processors()
            seconds = run()
            found[way].append((seconds, (_processors() - before) / counts[way]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--peers", type=int, default=4, help="networks that PyTorch trains")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    names = chosen.only.split(",")
    found = {name: measure(name, chosen.networks, chosen.peers, chosen.rounds) for name in names}
    for name in names:
        beside_jax(name, chosen.networks, chosen.rounds, found[name])
    text = json.dumps(found, indent=2)
    print(text)
    if chosen.json is not None:
        chosen.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
