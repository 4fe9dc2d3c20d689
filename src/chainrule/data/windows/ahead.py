"""Reading ahead: the next window is made in a background thread while this one is used."""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")
Tasks = SimpleQueue["tuple[Future[Any], Callable[[], Any]] | None"]


class ReadAhead(Generic[T]):
    """What each job gives, in order; while one result is used, the next job runs in a thread. The first begins at once.

    Three results are alive at most: the one that is used, the next, and the one that is being made. An error of a job is raised
    where its result would come. Closing waits for the job that runs, and starts no other.

    The thread does not keep the process from ending, which waits for the job that runs: a signal's handler may raise in the
    middle of any line here, and a thread that nobody can tell to end would be waited for forever.
    """

    def __init__(self, jobs: Iterable[Callable[[], T]]) -> None:
        self._tasks: Tasks = SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._tasks,), name="chainrule-window", daemon=True)
        self._jobs, self._pending = iter(jobs), deque[Future[T]]()
        _OPEN.add(self)
        self._submit()
        self._thread.start()

    def _submit(self) -> None:
        job = next(self._jobs, None)
        if job is not None:
            self._pending.append(Future())
            self._tasks.put((self._pending[-1], job))

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
        self._tasks.put(None)
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def __del__(self) -> None:
        self._tasks.put(None)  # not waiting: it may be the thread itself that drops this


_OPEN: WeakSet[ReadAhead[Any]] = WeakSet()


@atexit.register
def _close_all() -> None:
    """Before the interpreter ends, in which a thread must not read any more."""
    for ahead in list(_OPEN):
        ahead.close()


def _work(tasks: Tasks) -> None:
    while (task := tasks.get()) is not None:
        future, job = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
        del task, future, job  # whoever asked has the result
