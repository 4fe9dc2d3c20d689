"""Who takes the trainings of a sweep: threads of this process, or processes."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from chainrule.errors import DataError
from chainrule.training.trials import Outcome, Trials

_Found = TypeVar("_Found")


class Event(Protocol):
    """One of threads or of processes."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...


def by_threads(task: Callable[[int], _Found], numbers: Iterable[int], workers: int) -> Generator[_Found, None, None]:
    """What each training gives as it ends, so many at a time; after Ctrl-C, of those that run."""
    with ThreadPoolExecutor(workers, thread_name_prefix="sweep") as pool:
        yield from _each(pool, task, iter(numbers), workers, set(), threading.Event())


def by_processes(
    trials: Trials, numbers: Iterable[int], workers: int, epochs: int | None, interrupted: Callable[[], bool]
) -> Generator[Outcome, None, None]:
    """Likewise, in processes, each training to its end or to so many epochs. Where one dies, those that ran are trained once more, one at a time.

    Args:
        interrupted: says whether the sweep was, elsewhere than here.
    """
    left, lost, over = iter(numbers), set[int](), multiprocessing.get_context().Event()
    while True:
        try:
            with _pool(trials, workers, over) as pool:
                # As many wait as run: a worker that is done need not wait for its next one to be sent.
                for found in _each(pool, partial(_sent, epochs=epochs), left, 2 * workers, lost, over):
                    try:
                        yield found
                    except BaseException:  # whoever takes them ended with an error
                        over.set()
                        raise
                    if interrupted():
                        over.set()
            return
        except BrokenProcessPool:
            for number in sorted(lost):
                yield _alone(trials, number, epochs)
            lost.clear()


def _alone(trials: Trials, number: int, epochs: int | None) -> Outcome:
    """A training in a process of its own."""
    try:
        with _pool(trials, 1, None) as pool:
            found = pool.submit(_sent, number, epochs).result()
    except BrokenProcessPool:
        found = None
    return found or Outcome(
        number,
        error=DataError(
            "the process that ran it was killed, or died. Where memory is short, train fewer at a time (processes=)."
        ),
    )


def _each(
    pool: Executor,
    task: Callable[[int], _Found | None],
    numbers: Iterator[int],
    most: int,
    running: set[int],
    over: Event,
) -> Generator[_Found, None, None]:
    """What the trainings give that came to their end.

    Args:
        most: so many are handed to the pool at a time.
        running: the numbers of those.
        over: set by Ctrl-C, for those of another process that wait: they are not begun any more.
    """
    under_way: dict[Future[_Found | None], int] = {}

    def begin(count: int) -> None:
        for number in islice(numbers, count):
            running.add(number)
            under_way[pool.submit(task, number)] = number

    begin(most)
    while under_way:
        try:
            ended = wait(under_way, return_when=FIRST_COMPLETED).done
        except KeyboardInterrupt:
            numbers = iter(())
            over.set()
            continue
        for future in ended:
            found = future.result()
            running.discard(under_way.pop(future))
            begin(1)
            if found is not None:
                yield found


def _pool(trials: Trials, workers: int, over: Event | None) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context(), _begin, (trials, over))


_trials: list[tuple[Trials, Event | None]] = []  # of this process, where it is one of a sweep's


def _begin(trials: Trials, over: Event | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the sweep, not the trainings that run
    gc.freeze()  # what was there before a fork is no garbage, and to look through it again and again takes a twentieth of the time
    _trials[:] = [(trials, over)]


def _sent(number: int, epochs: int | None = None) -> Outcome | None:
    """None where the sweep is over."""
    trials, over = _trials[0]
    return None if over is not None and over.is_set() else trials.sent(number, epochs)
