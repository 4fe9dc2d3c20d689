"""Worker threads that run one program together.

Workers are Python threads that sleep on a lock until there is a run, enter the native function beside the
caller, and sleep again; an idle one costs nothing. Where runs of one program follow each other closely, they stay
in the native function for about as long as waking them would take (see `codegen.entry`). Only one run at a time has
them: a second program, called from another Python thread meanwhile, runs on its caller alone, with the same bits.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from chainrule.compiler.codegen.entry import AWAY
from chainrule.compiler.runtime.buffers import aligned
from chainrule.errors import SettingError
from chainrule.names import takes_keywords

Work = Callable[[int], None]
States = np.ndarray[Any, Any]


def available_cpus() -> int:
    """The processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _from_environment() -> int:
    text = os.environ.get("CHAINRULE_NUM_THREADS")
    if text is None:
        return available_cpus()
    try:
        return _checked("CHAINRULE_NUM_THREADS", int(text))
    except ValueError:
        raise SettingError(f"CHAINRULE_NUM_THREADS must be a whole number of threads, got {text!r}.") from None


def _checked(name: str, n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 1024:
        raise SettingError(f"{name}: the number of threads must be a whole number from 1 to 1024, got {n!r}.")
    return n


@takes_keywords("torch")
def set_num_threads(n: int) -> None:
    """Let compiled programs use up to `n` threads; small programs use one whatever `n` is.

    The number changes how fast results come, never their bits.

    Args:
        n: from 1 to 1024; the default is the number of processors, or ``CHAINRULE_NUM_THREADS``.

    Raises:
        SettingError: `n` is not such a number.

    >>> import chainrule as cr
    >>> before = cr.get_num_threads()
    >>> cr.set_num_threads(1)
    >>> cr.get_num_threads()
    1
    >>> cr.set_num_threads(before)
    """
    _pool.limit = _checked("set_num_threads", n)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block, programs that this thread runs use no other."""
    outer, _own.limit = _own.limit, 1
    try:
        yield
    finally:
        _own.limit = outer


class _Own(threading.local):
    limit: int | None = None  # of the programs that this thread runs


_own = _Own()


def get_num_threads() -> int:
    """The number of threads that compiled programs may use."""
    if _own.limit is not None:
        return _own.limit
    if _pool.limit is None:
        _pool.limit = _from_environment()
    return _pool.limit


class _Worker:
    """One thread that waits for work."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.wake = threading.Semaphore(0)
        self.work: Work | None = None
        threading.Thread(target=self._serve, name=f"chainrule-{number}", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.wake.acquire()
            work, self.work = self.work, None
            if work is not None:
                work(self.number)

    def start(self, work: Work) -> None:
        self.work = work
        self.wake.release()


class _Pool:
    """The workers of this process, made when first needed."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.generation = 0  # of processes: how often this one was forked
        self.busy = threading.Lock()
        self.workers: list[_Worker] = []
        self.states: States | None = None  # of the workers that may be waiting for another run

    def run(self, threads: int, work: Work) -> None:
        """work(0) here and work(1), ..., work(threads - 1) beside it; the work itself waits for all."""
        while len(self.workers) < threads - 1:
            self.workers.append(_Worker(len(self.workers) + 1))
        for worker in self.workers[: threads - 1]:
            worker.start(work)
        work(0)

    def turn_to(self, states: States) -> None:
        """Who waits for another program waits no longer."""
        if self.states is not None and self.states is not states:
            self.states[:] = AWAY
        self.states = states


_pool = _Pool()


def _after_fork() -> None:
    """A forked child has none of its parent's threads."""
    limit, generation = _pool.limit, _pool.generation
    _pool.__init__()  # type: ignore[misc]  # the same object, as new: others hold a reference to it
    _pool.limit, _pool.generation = limit, generation + 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def generation() -> int:
    """Changes where this process is a forked child: what was agreed with workers holds no longer."""
    return _pool.generation


def together(threads: int, work: Work, alone: Callable[[], None], states: States, call: Callable[[], bool]) -> bool:
    """Run `work` on so many threads, or `alone` if the workers are busy with another program: were there several?

    Args:
        states: of the program's workers, by which they can be sent away.
        call: the run itself, if all workers wait for it in native code: one native call, in whose middle no
            interrupt takes effect.
    """
    if not _pool.busy.acquire(blocking=False):
        alone()
        return False
    try:
        _pool.turn_to(states)
        if not call():
            states[:] = AWAY  # some may wait: they come as the others do
            with _interrupts_deferred():
                _pool.run(threads, work)
    finally:
        _pool.busy.release()
    return True


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Ctrl-C takes effect after the block: in the middle, the workers would wait for a caller that is gone."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[0])


def new_sync(size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Shared memory for the barrier of one program, zero but for the address of the system's yield."""
    sync = aligned(size)
    sync[:] = 0
    sync[192:200].view(np.uintp)[0] = _yield_address()
    return sync


def _yield_address() -> int:
    """The operating system's function that gives the processor to another thread."""
    try:
        if sys.platform == "win32":
            function = ctypes.windll.kernel32.SwitchToThread
        else:
            function = ctypes.CDLL(None).sched_yield
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0
