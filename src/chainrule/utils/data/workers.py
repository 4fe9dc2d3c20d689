"""The worker processes of a loader, seen from the process that waits for their batches.

Each worker has a pipe of its own, so that one that dies leaves nothing locked: its end of the pipe closes, and the next look
at it says so. Orders are given without waiting (the worker takes them while it works), answers are kept until it is their
turn. Nothing is left to a thread of this process, so a Ctrl-C arrives where the loop over the batches stands.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection as pipes
from typing import Any

from chainrule.errors import SettingError, WorkerError
from chainrule.utils.data.fetch import Job
from chainrule.utils.data.info import WorkerInfo
from chainrule.utils.data.worker import GRACE, LOOKS, Answer, Epoch, Task, work


class Workers:
    """`count` processes that make the batches of one epoch after the other."""

    def __init__(
        self, job: Job, count: int, ahead: int, context: Any, init: Callable[[int], None] | None, timeout: float,
        in_order: bool, persistent: bool,
    ) -> None:  # fmt: skip
        self.job, self.count, self.ahead, self.init = job, count, ahead, init
        self.context = _context(context)
        self.timeout, self.in_order, self.persistent = timeout, in_order, persistent
        self.processes: list[Any] = []
        self.pipes: list[Any] = []
        self.alive = True
        self.number = 0  # of the epoch
        self._stop = weakref.finalize(self, _stop, self.processes, self.pipes, GRACE)

    def close(self, grace: float = GRACE) -> None:
        """End the workers; they are ended, too, when nobody holds them any more, and when Python ends."""
        self.alive = False
        if self._stop.detach() is not None:
            _stop(self.processes, self.pipes, grace)

    @contextmanager
    def ended_by_errors(self) -> Iterator[None]:
        """Whatever goes wrong inside the block, Ctrl-C among it, ends the workers at once."""
        try:
            yield
        except BaseException:
            self.close(grace=0)
            raise

    def epoch(self, indices: Iterator[Any], seed: int) -> Iterator[Any]:
        """The batches of these rows, made from now on."""
        if not self.processes:
            self._start(seed)
        self.number += 1
        with self.ended_by_errors():
            for number in range(self.count):
                self.tell(number, Epoch(self.number))
        return Batches(self, indices, self.number)

    def _start(self, seed: int) -> None:
        forked = self.context.get_start_method() == "fork"
        with self.ended_by_errors():
            for number in range(self.count):
                ours, theirs = self.context.Pipe()
                self.pipes.append(ours)
                which = WorkerInfo(number, self.count, seed + number, self.job.dataset)
                others, parent = (list(self.pipes), os.getpid()) if forked else ([], None)
                arguments = (theirs, others, self.job, which, self.init, parent)
                process = self.context.Process(target=work, args=arguments, daemon=True, name=f"loader-{number}")
                process.start()
                self.processes.append(process)
                theirs.close()

    def tell(self, worker: int, order: Epoch | Task) -> None:
        """Give a worker an order.

        Raises:
            WorkerError: it has died.
        """
        try:
            self.pipes[worker].send(order)
        except OSError:
            raise self._died(worker) from None

    def answers(self) -> list[tuple[int, Answer]]:
        """What has come, waiting until something does.

        Raises:
            WorkerError: a worker died, or nothing came in time.
        """
        until = time.monotonic() + self.timeout if self.timeout else float("inf")
        while True:
            ready = pipes.wait(self.pipes, min(LOOKS, max(0.0, until - time.monotonic())))
            if ready:
                return [(self.pipes.index(pipe), self._received(self.pipes.index(pipe))) for pipe in ready]
            dead = next((n for n, process in enumerate(self.processes) if process.exitcode is not None), None)
            if dead is not None:
                raise self._died(dead)
            if time.monotonic() >= until:
                raise WorkerError(
                    f"DataLoader: no batch came from {self.count} workers within timeout={self.timeout} seconds. "
                    f"Give more time, or look for what the dataset waits for (num_workers=0 shows it)."
                )

    def _received(self, worker: int) -> Answer:
        try:
            found: Answer = self.pipes[worker].recv()
        except (EOFError, OSError):
            raise self._died(worker) from None
        return found

    def _died(self, worker: int) -> WorkerError:
        process = self.processes[worker]
        process.join(GRACE)
        code = process.exitcode
        how = f"was killed by {_signal(-code)}" if code is not None and code < 0 else f"exited with code {code}"
        guard = " Where workers are spawned, the script needs `if __name__ == '__main__':`."
        return WorkerError(
            f"DataLoader: worker {worker} of {self.count} (process {process.pid}) {how} before its batch was made. "
            f"Its own output says more; a kill without one is mostly for want of memory: use fewer workers or smaller "
            f"batches.{guard if self.context.get_start_method() != 'fork' else ''}"
        )


class Batches:
    """The batches of one epoch: an iterator."""

    def __init__(self, workers: Workers, indices: Iterator[Any], number: int) -> None:
        self.workers, self.indices, self.number = workers, indices, number
        self.given = self.due = 0  # tasks given, and the one whose batch comes next
        self.waiting: dict[int, int] = {}  # task: its worker
        self.made: dict[int, Answer] = {}
        self.over: set[int] = set()  # workers whose part of an iterable dataset is over
        self.turn = 0
        with workers.ended_by_errors():
            for _ in range(workers.ahead * workers.count):
                self._give()

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Any:
        with self.workers.ended_by_errors():
            answer = self._next()
        if answer is None:
            if not self.workers.persistent:
                self.workers.close()
            raise StopIteration
        if answer.error is not None:
            raise answer.error.error()
        return answer.batch

    def _next(self) -> Answer | None:
        while self.workers.alive and self.workers.number == self.number:  # else another epoch has begun since
            answer = self._ready()
            if answer is not None:
                self._give()
                return answer
            if not self.waiting:
                return None
            for worker, found in self.workers.answers():
                if found.epoch == self.number:  # else of an epoch that was left early
                    self._take(worker, found)
        return None

    def _ready(self) -> Answer | None:
        """The next batch, if it is made."""
        if not self.workers.in_order:
            return self.made.pop(next(iter(self.made), -1), None)
        while self.due < self.given and self.due not in self.waiting and self.due not in self.made:
            self.due += 1  # a task of a worker whose part was over
        answer = self.made.pop(self.due, None)
        self.due += answer is not None
        return answer

    def _take(self, worker: int, answer: Answer) -> None:
        self.waiting.pop(answer.task, None)
        if not answer.over:
            self.made[answer.task] = answer
            return
        self.over.add(worker)
        self.waiting = {task: of for task, of in self.waiting.items() if of != worker}
        self._give()

    def _give(self) -> None:
        """One more task, to the next worker that still has rows."""
        count = self.workers.count
        turns = ((self.turn + step) % count for step in range(count))
        worker = next((worker for worker in turns if worker not in self.over), None)
        if worker is None:
            return
        for index in itertools.islice(self.indices, 1):
            self.workers.tell(worker, Task(self.given, index))
            self.waiting[self.given] = worker
            self.given, self.turn = self.given + 1, worker + 1


def _context(given: Any) -> Any:
    if given is not None and not isinstance(given, str):
        return given
    known = multiprocessing.get_all_start_methods()
    if given is not None and given not in known:
        raise SettingError(f"DataLoader: multiprocessing_context must be one of {', '.join(known)}, got {given!r}.")
    return multiprocessing.get_context(given)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _stop(processes: Sequence[Any], connections: Sequence[Any], grace: float) -> None:
    """End them all: kindly, then with force. Only the process that started them may."""
    if processes and processes[0]._parent_pid != os.getpid():
        return
    for pipe in connections:
        pipe.close()
    until = time.monotonic() + grace
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
    for process in processes:
        if process.exitcode is None:
            process.kill()
            process.join()
