"""A worker process of a loader: makes the batches it is told to, and sends them back."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from chainrule.compiler.runtime.threads import set_num_threads
from chainrule.tensor.random import default_generator, drawing_from
from chainrule.utils.data.fetch import OVER, Fetch, Job
from chainrule.utils.data.info import Here, WorkerInfo

LOOKS = 1.0  # seconds between two looks whether the parent still lives
GRACE = 5.0  # seconds that a worker has to end by itself


class Epoch(NamedTuple):
    """An order to a worker: what follows belongs to this epoch."""

    number: int


class Task(NamedTuple):
    """An order to a worker: a batch of these rows."""

    number: int
    index: Any


class Answer(NamedTuple):
    """A batch, or why there is none."""

    epoch: int
    task: int
    batch: Any
    error: Caught | None = None
    over: bool = False  # the worker's part of an iterable dataset is


class Caught(NamedTuple):
    """An exception on its way to another process."""

    kind: type[BaseException] | None  # None where the type cannot travel
    text: str

    @classmethod
    def of(cls, error: BaseException, where: str) -> Caught:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        try:
            pickle.dumps(type(error))
        except Exception:
            return cls(None, f"Caught {type(error).__name__} in {where}.\nOriginal {text}")
        return cls(type(error), f"Caught {type(error).__name__} in {where}.\nOriginal {text}")

    def error(self) -> BaseException:
        """The exception again, of the same type where that takes one text."""
        try:
            found = (self.kind or RuntimeError)(_Lines(self.text) if self.kind is KeyError else self.text)
        except Exception:
            return RuntimeError(self.text)
        return found if isinstance(found, Exception) else RuntimeError(self.text)


class _Lines(str):
    """A KeyError shows its text by `repr`, which would hide the lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def work(
    connection: Any, others: Sequence[Any], job: Job, which: WorkerInfo, init: Callable[[int], None] | None, parent: int | None
) -> None:  # fmt: skip
    """The life of a worker.

    Args:
        others: the parent's ends of the pipes to earlier workers, which a forked child has too; as long as it holds them,
            those workers do not see that the parent has gone.
        parent: the process that forked this one; None where it was started in another way.
    """
    for other in others:
        other.close()
    # Ctrl-C reaches every process of the terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_num_threads(1)
    seed_all(which.seed)
    Here.info = which
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, orders, parent), daemon=True).start()
    with drawing_from(default_generator):
        _serve(connection, orders, job, which, init)


def seed_all(seed: int) -> None:
    """Start every process-wide generator over."""
    random.seed(seed)
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))
    default_generator.manual_seed(seed)


def _listen(connection: Any, orders: queue.SimpleQueue[Any], parent: int | None) -> None:
    """Take orders whatever the worker is doing, so that the parent never waits to give one."""
    with suppress(EOFError, OSError):
        while _has_parent(parent):
            if connection.poll(LOOKS):
                orders.put(connection.recv())
    orders.put(None)
    time.sleep(GRACE)  # the worker ends by itself, unless it is stuck in its dataset
    os._exit(1)


def _has_parent(parent: int | None) -> bool:
    process = multiprocessing.parent_process()
    return (process is None or process.is_alive()) and parent in (None, os.getppid())


def _serve(
    connection: Any, orders: queue.SimpleQueue[Any], job: Job, which: WorkerInfo, init: Callable[[int], None] | None
) -> None:  # fmt: skip
    """Answer every task; return when there is nobody to answer."""
    where, epoch, fetch = f"DataLoader worker process {which.id}", 0, None
    failed = _caught(lambda: init(which.id) if init is not None else None, where)
    while (order := orders.get()) is not None:
        if isinstance(order, Epoch):
            epoch, fetch = order.number, None
            continue
        batch = None
        try:
            fetch = fetch or Fetch(job)
            batch = fetch(order.index) if failed is None else None
            over = batch is OVER
            answer = pickle.dumps(
                Answer(epoch, order.number, None if over else batch, failed, over), pickle.HIGHEST_PROTOCOL
            )
        except Exception as error:  # also of a batch that cannot travel
            answer = pickle.dumps(Answer(epoch, order.number, None, Caught.of(error, where)))
        try:
            connection.send_bytes(answer)
        except OSError:
            return


def _caught(function: Callable[[], Any], where: str) -> Caught | None:
    try:
        function()
    except Exception as error:
        return Caught.of(error, where)
    return None
