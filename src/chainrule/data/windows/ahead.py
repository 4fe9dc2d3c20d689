"""Reading ahead: the next window is made in a background thread while this one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """What each job gives, in order; while one result is used, the next job runs in a thread. The first begins at once.

    Three results are alive at most: the one that is used, the next, and the one that is being made. An error of a job is raised
    where its result would come. Closing waits for the job that runs, and starts no other.
    """

    def __init__(self, jobs: Iterable[Callable[[], T]]) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="chainrule-window")
        self._jobs, self._pending = iter(jobs), deque[Future[T]]()
        self._submit()

    def _submit(self) -> None:
        job = next(self._jobs, None)
        if job is not None:
            self._pending.append(self._pool.submit(job))

    def __iter__(self) -> ReadAhead[T]:
        return self

    def __next__(self) -> T:
        if not self._pending:
            self.close()
            raise StopIteration
        self._submit()
        try:
            return self._pending.popleft().result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """No more results."""
        self._jobs = iter(())
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        self._pool.shutdown(wait=True)

    def __del__(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)  # not waiting: it may be the thread itself that drops this
