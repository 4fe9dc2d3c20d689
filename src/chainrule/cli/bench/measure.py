"""Agreement first, then interleaved rounds.

An implementation is timed only after its first losses and the movement of its weights agree with ours. In
every round each one runs once untimed and once timed, so that a drifting machine hits all alike; the time of
every round is kept, and a ratio is of times of the same round.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.cli.bench.machine import handover_ns, peak_gflops, stream_gbytes
from chainrule.cli.bench.peers import OURS, PEERS, Peer
from chainrule.cli.bench.worker import CHECKED_STEPS, Worker, WorkerError
from chainrule.cli.bench.workloads import Workload
from chainrule.compiler.runtime.threads import available_cpus

# By norm. Adam moves a weight whose gradient is rounding noise by a full learning rate, either way.
MOVEMENT_TOLERANCE = 0.05

# OpenBLAS's threads spin for 0.1 s after their last product, others' more briefly: nobody's run begins beside them.
SETTLED = 0.2

Result = dict[str, Any]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure: which implementations, on how many cores, how many rounds, and how long one is."""

    peers: tuple[Peer, ...] = tuple(PEERS.values())
    threads: int = 1
    rounds: int = 7
    seconds: float = 0.2
    limit: float = (
        300.0  # seconds until an implementation that does not answer is given up: one that compiles for longer
    )
    fresh: bool = True  # new processes and empty caches for every workload: first calls and memory are told


def measure(workloads: Iterable[Workload], settings: Settings, say: Say) -> Iterator[Result]:
    """The result of each workload in turn. After Ctrl-C the one under way comes last, with what it has."""
    with tempfile.TemporaryDirectory(prefix="chainrule-bench-", ignore_cleanup_errors=True) as folder:
        crew = Crew(settings, folder)
        try:
            for workload in workloads:
                result = Contest(workload, settings, crew, say).run()
                yield result
                if result["interrupted"]:
                    return
        finally:
            crew.dismiss()


class Crew:
    """The processes of a run, started when first asked."""

    def __init__(self, settings: Settings, folder: str) -> None:
        self.settings, self.folder = settings, folder
        self.workers: dict[str, Worker] = {}
        self.asked: str | None = None  # who worked last

    def ask(self, peer: Peer, what: str, *arguments: Any) -> Any:
        """The answer of an implementation; one that fails is dismissed."""
        if peer.name != self.asked:
            self.settle()
        self.asked = peer.name
        if peer.name not in self.workers:
            cache = tempfile.mkdtemp(dir=self.folder) if self.settings.fresh else self.folder
            self.workers[peer.name] = Worker(peer, self.settings.threads, cache)
        try:
            return self.workers[peer.name].ask(what, *arguments, limit=self.settings.limit)
        except WorkerError:
            self.workers.pop(peer.name).close()
            raise

    def settle(self) -> None:
        """Wait until the threads of whoever worked last are at rest."""
        time.sleep(SETTLED)
        self.asked = None

    def renew(self, peer: Peer) -> None:
        """A new process with the caches of the one before."""
        worker = self.workers.pop(peer.name)
        worker.close()
        self.workers[peer.name] = Worker(peer, self.settings.threads, worker.cache)

    def dismiss(self) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers.clear()


class Contest:
    """One workload: for each implementation its rounds, first call and memory, or why there are none."""

    def __init__(self, workload: Workload, settings: Settings, crew: Crew, say: Say) -> None:
        self.workload, self.settings, self.crew = workload, settings, crew
        self.say: Say = lambda text: say(f"{workload.name}, {settings.threads} thread(s): {text}")
        self.found: dict[str, Result] = {}
        self.machine: Result = {}

    def run(self) -> Result:
        interrupted, began = False, time.perf_counter()
        try:
            for stage in (self._build, self._compare, self._warm_up, self._rounds, self._finish, self._cached):
                stage()
        except KeyboardInterrupt:
            interrupted = True
        for result in self.found.values():
            result.pop("moved", None)
        workload = self.workload
        return {
            "workload": workload.name, "sizes": list(workload.sizes), "batch": workload.batch,
            "network": workload.network, "threads": self.settings.threads, "flops": workload.flops,
            "bytes": workload.bytes, **self.machine, "interrupted": interrupted,
            "seconds": time.perf_counter() - began, "peers": self.found,
        }  # fmt: skip

    def _each(self, work: Callable[[Peer, Result], None]) -> None:
        """`work` for everyone still in; where it fails, the table says why."""
        for peer in self.settings.peers:
            result = self.found.setdefault(peer.name, {})
            if "skipped" not in result:
                try:
                    work(peer, result)
                except WorkerError as error:
                    result["skipped"] = str(error)

    def _set_up(self, work: Callable[[Peer, Result], None]) -> None:
        """Likewise, and how long it took counts as the implementation's set-up."""

        def timed(peer: Peer, result: Result) -> None:
            began = time.perf_counter()
            try:
                work(peer, result)
            finally:
                result["set_up"] = result.get("set_up", 0.0) + time.perf_counter() - began

        self._each(timed)

    # -- the stages -----------------------------------------------------------------------------
    def _build(self) -> None:
        def need(peer: Peer, result: Result) -> None:
            if peer.missing():
                raise WorkerError(f"{peer.needs} is not installed")

        def build(peer: Peer, result: Result) -> None:
            self.say(f"{peer.name}, first call")
            result.update(self.crew.ask(peer, "build", self.workload))

        if self.settings.fresh:
            self.crew.dismiss()
        self._each(need)
        self._set_up(build)

    def _compare(self) -> None:
        """Whoever does not do the same work as ours is not timed."""

        def compare(peer: Peer, result: Result) -> None:
            if "skipped" in self.found[OURS]:
                raise WorkerError("ours failed, and there is nothing to compare with")
            result["agreement"] = found = agreement(result, self.found[OURS], peer.tolerance)
            if peer.note:
                result["note"] = peer.note
            if not found["agrees"]:
                raise WorkerError(
                    f"not the same work as ours: losses differ by {found['loss']:.1e}, weights by {found['movement']:.1e}"
                )

        self._each(compare)

    def _warm_up(self) -> None:
        def warm_up(peer: Peer, result: Result) -> None:
            self.say(f"{peer.name}, warming up")
            result["steps"], result["rounds"] = self._steps(peer), []

        self._set_up(warm_up)
        self._look_at_machine()

    def _look_at_machine(self) -> None:
        """Its peaks, before and after the rounds: the better of both, since neighbours on the machine come and go."""
        threads = self.settings.threads
        self.crew.settle()
        now = {"peak_gflops": peak_gflops(threads), "stream_gbytes": stream_gbytes(self.workload.bytes, threads)}
        if hasattr(os, "getloadavg"):
            now["load"] = os.getloadavg()[0] / available_cpus()
        handovers = self.machine.get("handover_ns", [])
        self.machine = {name: max(value, self.machine.get(name, 0.0)) for name, value in now.items()}
        if threads > 1:
            self.machine["handover_ns"] = [*handovers, handover_ns()]

    def _steps(self, peer: Peer) -> int:
        """A number of steps that lasts about a round: a power of four, since a scan compiles for each number."""
        steps, seconds = CHECKED_STEPS, self.settings.seconds
        while True:
            took = min(self.crew.ask(peer, "run", steps) for _ in range(2))  # the first may still compile
            if took < seconds:
                took = min(took, self.crew.ask(peer, "run", steps))  # on a busy machine, one may be unlucky
            if took >= seconds / 2:
                return 1 if took > 4 * seconds else steps
            steps *= 4 ** max(1, round(math.log(seconds / took, 4)))

    def _rounds(self) -> None:
        def run(peer: Peer, result: Result) -> None:
            """Twice: while the others worked, its data left the caches and its cores slowed down."""
            self.crew.ask(peer, "run", result["steps"])
            result["rounds"].append(self.crew.ask(peer, "run", result["steps"]) / result["steps"] * 1e6)

        for number in range(self.settings.rounds):
            self.say(f"round {number + 1} of {self.settings.rounds}")
            self._each(run)

    def _finish(self) -> None:
        self._look_at_machine()
        self._each(lambda peer, result: result.update(self.crew.ask(peer, "finish", result["steps"])))

    def _cached(self) -> None:
        """The first call of a new process that finds compiled code on disk."""

        def build(peer: Peer, result: Result) -> None:
            if peer.caches:
                self.say(f"{peer.name}, first call with a cache")
                self.crew.renew(peer)
                result["first_call_cached"] = self.crew.ask(peer, "build", self.workload)["first_call"]
                result["memory_cached"] = self.crew.ask(peer, "finish", CHECKED_STEPS)["memory"]

        if self.settings.fresh:
            self._each(build)


def agreement(result: Result, ours: Result, tolerance: float) -> Result:
    """The largest relative difference of the first losses, and the difference of the weights' movements by norm.

    Weights of another shape (one logistic output for two classes) are left out of the movement.
    """
    losses, expected = np.array(result["losses"]), np.array(ours["losses"])
    loss = float(np.max(np.abs(losses - expected) / np.abs(expected)))
    pairs = [(a, b) for a, b in zip(result["moved"], ours["moved"], strict=True) if a.shape == b.shape]
    apart = math.fsum(float(np.sum((a - b) ** 2)) for a, b in pairs)
    movement = math.sqrt(apart / math.fsum(float(np.sum(b**2)) for _, b in pairs))
    agrees = loss <= tolerance and movement <= MOVEMENT_TOLERANCE
    return {"loss": loss, "movement": movement, "agrees": agrees}
