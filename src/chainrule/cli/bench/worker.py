"""One implementation in a process of its own, held to the cores and caches of this run.

A process for each, because only so its memory and its first call are its own, its threads disturb nobody,
and its failure ends nothing but itself. The parent asks, one implementation at a time works.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from chainrule.cli.bench.memory import forget_peak, peak_bytes
from chainrule.cli.bench.peers import Peer, Step
from chainrule.cli.bench.workloads import Array, Workload
from chainrule.errors import ChainruleError

CHECKED_STEPS = 4  # beside the very first
_SAMPLE = 64  # indices of each axis whose weights are compared
_THREADS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "CHAINRULE")


class WorkerError(ChainruleError):
    """An implementation that could not do the work; the message says why."""


class Worker:
    """The parent's end."""

    def __init__(self, peer: Peer, threads: int, cache: str) -> None:
        self.cache = cache
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, peer), daemon=False)
        with surroundings(threads, cache):
            self._process.start()
        theirs.close()

    def ask(self, what: str, *arguments: Any, limit: float = 600.0) -> Any:
        """The answer of `_Server.<what>`.

        Raises:
            WorkerError: it failed, its process ended, or `limit` seconds went by.
        """
        try:
            self._pipe.send((what, arguments))
            if not self._pipe.poll(limit):
                self.close()
                raise WorkerError(f"no answer within {limit:.0f} s")
            answer, error = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            raise WorkerError(f"its process ended (exit code {self._process.exitcode})") from None
        if error is not None:
            raise WorkerError(error)
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.join(0.5)  # it ends when the pipe does
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextmanager
def surroundings(threads: int, cache: str) -> Iterator[None]:
    """What a process inherits: its cores, how many threads to use, where to cache compiled code.

    Python may keep the modules that it compiles: what pip installs is compiled already, a checkout is not.
    """
    changed = {f"{library}_NUM_THREADS": str(threads) for library in _THREADS}
    changed |= {"CHAINRULE_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache, "PYTHONDONTWRITEBYTECODE": ""}
    before = {name: os.environ.get(name) for name in changed}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    os.environ.update(changed)
    if cores is not None:  # XLA takes every core it may use, whatever the variables say
        os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        if cores is not None:
            os.sched_setaffinity(0, cores)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


# -- the other end --------------------------------------------------------------------------------


def _serve(pipe: Connection, peer: Peer) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends this process
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    server = _Server(peer)
    while True:
        try:
            what, arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((getattr(server, what)(*arguments), None))
        except Exception as error:  # whatever a library raises is its line in the table
            text = str(error).strip().splitlines()
            pipe.send((None, f"{type(error).__name__}: {text[0] if text else ''}"))


class _Server:
    """What the parent can ask for."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.step: Step | None = None

    def build(self, workload: Workload) -> dict[str, Any]:
        """Set up the training and run the first steps: how long the first took, their losses, how weights moved."""
        kind = self.peer.load()
        self.step = None
        gc.collect()
        weights, (X, y) = workload.weights(), workload.batches()
        forget_peak()
        self.before = peak_bytes()
        start = time.perf_counter()
        self.step = kind(workload, weights, X, y)
        losses = list(self.step.run(1))
        first = time.perf_counter() - start
        losses.extend(self.step.run(CHECKED_STEPS))
        moved = [_sample(new) - _sample(_like(old, new)) for new, old in zip(self.step.weights(), weights, strict=True)]
        return {"first_call": first, "losses": _numbers(losses), "moved": moved}

    def run(self, steps: int) -> float:
        """Seconds for so many steps."""
        return self._timed(steps)[0]

    def finish(self, steps: int) -> dict[str, Any]:
        """The loss at the end, and the memory that the training took beyond the library, data and initial weights."""
        loss = _numbers(self._timed(steps)[1])[-1]
        after = peak_bytes()
        return {"loss": loss, "memory": None if after is None or self.before is None else after - self.before}

    def _timed(self, steps: int) -> tuple[float, Any]:
        if self.step is None:
            raise WorkerError("asked to run before it was built; this is a bug in chainrule")
        start = time.perf_counter()
        losses = self.step.run(steps)
        return time.perf_counter() - start, losses


def _numbers(losses: Any) -> list[float]:
    return [float(loss) for loss in losses]


def _like(old: Array, new: Array) -> Array:
    """The initial weights in the shape of an implementation with one output for two classes."""
    return old if old.shape == new.shape else old[..., 1:] - old[..., :1]


def _sample(array: Array) -> Array:
    """Evenly spread over the array; few, since they cross a pipe, and without a copy of the array."""
    return np.array(array[tuple(slice(None, None, max(1, size // _SAMPLE)) for size in array.shape)], np.float64)
