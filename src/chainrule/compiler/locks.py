"""What threads and forks must wait for: a trace, which borrows the tensors it uses, and the making of a program.

A trace borrows the handles that it uses. So there is one at a time, and a call of a compiled function waits for it to
end before it looks at its state (never the other way round). Making a program is not interrupted by a fork: the child
would find locks of Python and LLVM held by a thread that it does not have.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 60.0  # seconds that a fork waits for another thread's program; then it goes on, whatever the child finds


class Locks:
    """The locks of this process; a forked child gets others."""

    tracing = threading.RLock()
    making = threading.RLock()  # taken first where both are


_SIGNALS = signal.valid_signals()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals wait until the block is over, where the system can hold them: what it puts back must not be half back."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield  # only the main thread runs handlers
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_held: list[bool] = []


def _before_fork() -> None:
    making = Locks.making.acquire(timeout=PATIENCE)
    both = making and Locks.tracing.acquire(timeout=PATIENCE)
    if making and not both:
        Locks.making.release()
    _held.append(both)


def _in_parent() -> None:
    if _held.pop():
        Locks.tracing.release()
        Locks.making.release()


def _in_child() -> None:
    _held.clear()
    Locks.tracing, Locks.making = threading.RLock(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
