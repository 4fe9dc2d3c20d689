"""Reading ahead: the next window is made in a background thread while this one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What each job gives, in order; while one result is used, the next job runs in a thread.

    Three results are alive at most: the one that is used, the next, and the one that is being made. An error of a job is raised where its
    result would come. Closing the iterator waits for the job that runs, and starts no other.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="chainrule-window")
    pending: deque[Future[T]] = deque()
    try:
        for job in jobs:
            pending.append(pool.submit(job))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        pool.shutdown(wait=True)
