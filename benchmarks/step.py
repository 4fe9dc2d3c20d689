"""One training step (forward, backward, Adam) beside PyTorch and JAX: the same work, in one run.

    python benchmarks/step.py [--threads 1] [--json out.json] [--workloads mlp_tiny,mlp_mnist]

Every implementation trains the same network on the same rotating batches with a learning rate of 1e-5, so
that random labels are not memorised (weights that die into denormals would fake a win). Rounds are
interleaved, so that a drifting machine hits all alike; the figure is the median round, and a ratio is the
median of the ratios of each round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

WORKLOADS = {
    "mlp_tiny": ((4, 32, 32, 2), 32),
    "mlp_tab": ((30, 128, 128, 2), 64),
    "mlp_mnist": ((784, 256, 128, 10), 128),
}
BATCHES = 16  # rotating
LEARNING_RATE = 1e-5
Runner = Callable[[int], None]  # trains that many steps


def batches(sizes: tuple[int, ...], batch: int) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    X = rng.standard_normal((BATCHES, batch, sizes[0])).astype(np.float32)
    return X, rng.integers(0, sizes[-1], (BATCHES, batch))


def layers(nn: Any, sizes: tuple[int, ...]) -> list[Any]:
    modules: list[Any] = []
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        modules += [nn.ReLU()] * (i > 0) + [nn.Linear(inputs, outputs)]
    return modules


def chainrule_step(sizes: tuple[int, ...], batch: int) -> tuple[Any, Any, Any]:
    import chainrule as cr
    import chainrule.nn.functional as F
    from chainrule import nn, optim

    model = nn.Sequential(*layers(nn, sizes))
    optimizer = optim.Adam(model.parameters(), lr=LEARNING_RATE)

    @cr.compile
    def step(x: Any, y: Any) -> Any:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    X, y = batches(sizes, batch)
    return step, cr.tensor(X), cr.tensor(y)


def chainrule_loop(sizes: tuple[int, ...], batch: int) -> Runner:
    """Many steps in one native call."""
    import chainrule as cr

    step, X, y = chainrule_step(sizes, batch)
    repeated: dict[int, tuple[Any, Any]] = {}

    def run(steps: int) -> None:
        if steps not in repeated:
            order = cr.arange(steps) % BATCHES
            repeated[steps] = X[order], y[order]
        step.loop(*repeated[steps])

    return run


def chainrule_call(sizes: tuple[int, ...], batch: int) -> Runner:
    """One native call a step."""
    step, X, y = chainrule_step(sizes, batch)
    pairs = list(zip(X.unbind(0), y.unbind(0), strict=True))

    def run(steps: int) -> None:
        for i in range(steps):
            step(*pairs[i % BATCHES])

    return run


def torch_eager(sizes: tuple[int, ...], batch: int) -> Runner:
    import torch
    import torch.nn.functional as F
    from torch import nn

    model = nn.Sequential(*layers(nn, sizes))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    X, y = (torch.from_numpy(a) for a in batches(sizes, batch))

    def run(steps: int) -> None:
        for i in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(model(X[i % BATCHES]), y[i % BATCHES]).backward()
            optimizer.step()

    return run


def jax_scan(sizes: tuple[int, ...], batch: int) -> Runner:
    """jax.jit over lax.scan, with Adam written out."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.PRNGKey(0), len(sizes))
    weights = [
        (jax.random.normal(key, (i, o)) / i**0.5, jnp.zeros(o))
        for key, i, o in zip(keys, sizes[:-1], sizes[1:], strict=False)
    ]
    zeros = jax.tree.map(jnp.zeros_like, weights)
    X, y = (jnp.asarray(a) for a in batches(sizes, batch))

    def loss_of(weights: Any, x: Any, labels: Any) -> Any:
        for i, (w, b) in enumerate(weights):
            x = x @ w + b
            if i + 1 < len(weights):
                x = jax.nn.relu(x)
        return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], 1).mean()

    def step(state: Any, i: Any) -> tuple[Any, Any]:
        weights, m, v, t = state
        loss, grads = jax.value_and_grad(loss_of)(weights, X[i], y[i])
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        rate, root = LEARNING_RATE / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) / root + 1e-8), weights, m, v)
        return (weights, m, v, t), loss

    @jax.jit
    def scan(state: Any, order: Any) -> Any:
        return jax.lax.scan(step, state, order)

    box = [(weights, zeros, zeros, jnp.float32(0))]

    def run(steps: int) -> None:
        box[0], losses = scan(box[0], jnp.arange(steps) % BATCHES)
        losses.block_until_ready()

    return run


PEERS: dict[str, Callable[[tuple[int, ...], int], Runner]] = {
    "chainrule loop": chainrule_loop,
    "chainrule call": chainrule_call,
    "torch eager": torch_eager,
    "jax scan": jax_scan,
}


def measure(name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Median microseconds a step for each implementation, and the ratios to ours."""
    sizes, batch = WORKLOADS[name]
    runners: dict[str, Runner] = {}
    first: dict[str, float] = {}
    for peer, build in PEERS.items():
        try:
            run = build(sizes, batch)
        except ImportError as error:
            print(f"  {peer}: not installed ({error})")
            continue
        start = time.perf_counter()
        run(1)
        first[peer] = time.perf_counter() - start
        runners[peer] = run
    counts = {peer: _steps_for(run, seconds) for peer, run in runners.items()}
    times: dict[str, list[float]] = {peer: [] for peer in runners}
    for _ in range(rounds):
        for peer, run in runners.items():
            start = time.perf_counter()
            run(counts[peer])
            times[peer].append((time.perf_counter() - start) / counts[peer] * 1e6)
    ours = times["chainrule loop"]
    return {
        "workload": name,
        "microseconds": {peer: statistics.median(t) for peer, t in times.items()},
        "spread": {peer: [min(t), max(t)] for peer, t in times.items()},
        "ratio": {peer: statistics.median(a / b for a, b in zip(t, ours, strict=True)) for peer, t in times.items()},
        "first_call_seconds": first,
    }


def _steps_for(run: Runner, seconds: float) -> int:
    """How many steps last about `seconds`, after warming up."""
    steps = 8
    while True:
        run(steps)
        start = time.perf_counter()
        run(steps)
        took = time.perf_counter() - start
        if took > seconds / 4:
            return max(1, round(steps * seconds / took))
        steps *= 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.25, help="length of one round")
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--json")
    options = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CHAINRULE_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    if hasattr(os, "sched_setaffinity"):  # XLA takes every core it may use, whatever the variables say
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    results = []
    for name in options.workloads.split(","):
        result = measure(name, options.rounds, options.seconds)
        results.append(result)
        print(f"{name}, {options.threads} thread(s)")
        for peer, microseconds in result["microseconds"].items():
            print(f"  {peer:16} {microseconds:10.1f} us/step   {result['ratio'][peer]:7.2f} x ours")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
