"""Who takes the trainings of a sweep: threads of this process, or processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import TypeVar

from chainrule.errors import DataError
from chainrule.training.trials import Outcome, Trials

_Found = TypeVar("_Found")


def by_threads(task: Callable[[int], _Found], numbers: Iterable[int], workers: int) -> Generator[_Found, None, None]:
    """What each training gives as it ends, so many at a time; after Ctrl-C, of those that run."""
    with ThreadPoolExecutor(workers, thread_name_prefix="sweep") as pool:
        yield from _each(pool, task, iter(numbers), workers, set())


def by_processes(
    trials: Trials, numbers: Iterable[int], workers: int, epochs: int | None = None
) -> Generator[Outcome, None, None]:
    """Likewise, in processes, each training to its end or to so many epochs. Where one dies, those that ran are trained once more, one at a time."""
    left, lost = iter(numbers), set[int]()
    while True:
        try:
            with _pool(trials, workers) as pool:
                yield from _each(pool, partial(_sent, epochs=epochs), left, workers, lost)
            return
        except BrokenProcessPool:
            for number in sorted(lost):
                yield _alone(trials, number, epochs)
            lost.clear()


def _alone(trials: Trials, number: int, epochs: int | None) -> Outcome:
    """A training in a process of its own."""
    try:
        with _pool(trials, 1) as pool:
            return pool.submit(_sent, number, epochs).result()
    except BrokenProcessPool:
        return Outcome(
            number,
            error=DataError(
                "the process that ran it was killed, or died. Where memory is short, train fewer at a time (processes=)."
            ),
        )


def _each(
    pool: Executor, task: Callable[[int], _Found], numbers: Iterator[int], workers: int, running: set[int]
) -> Generator[_Found, None, None]:
    """`running`: the numbers of those under way."""
    under_way: dict[Future[_Found], int] = {}

    def begin(count: int) -> None:
        for number in islice(numbers, count):
            running.add(number)
            under_way[pool.submit(task, number)] = number

    begin(workers)
    while under_way:
        try:
            ended = wait(under_way, return_when=FIRST_COMPLETED).done
        except KeyboardInterrupt:
            numbers = iter(())
            continue
        for future in ended:
            found = future.result()
            running.discard(under_way.pop(future))
            begin(1)
            yield found


def _pool(trials: Trials, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context(), _begin, (trials,))


_trials: list[Trials] = []  # of this process, where it is one of a sweep's


def _begin(trials: Trials) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the sweep, not the trainings that run
    _trials[:] = [trials]


def _sent(number: int, epochs: int | None = None) -> Outcome:
    return _trials[0].sent(number, epochs)
