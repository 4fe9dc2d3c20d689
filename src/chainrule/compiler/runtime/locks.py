"""What threads and forks must wait for: a trace, which borrows the tensors it uses, and the making of a program.

A trace borrows the handles that it uses, so there is one at a time, and a call of a compiled function waits for it to
end before it looks at its state. While a function is traced the user's own code runs, and it may wait for the very
thread that waits here: so nobody waits for a trace in a lock, but looks at it again and again, and not for ever. Making
a program is not interrupted by a fork: the child would find locks of Python and LLVM held by a thread that it does not
have.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from chainrule.errors import BusyError
from chainrule.graph import Recorder
from chainrule.lines import line_of

PATIENCE = 60.0  # seconds that a fork waits for another thread's program; then it goes on, whatever the child finds
LONGEST = 30.0  # seconds that a trace may take while another thread waits for it
SHORTEST = 0.0002  # seconds until a thread that waits looks again; later more
Result = TypeVar("Result")


class Claim:
    """What one thread has at a time, while code of the user may run; the others look again and again, see `wait`."""

    def __init__(self) -> None:
        self.owner: int | None = None
        self.guard = threading.RLock()  # held where the owner changes, and by who must not meet that; never for long

    def run(self, work: Callable[..., Result], *args: Any) -> Result:
        """What `work` gives for the arguments, while this thread has the claim."""
        me = threading.get_ident()
        if self.owner == me:
            return work(*args)
        try:
            if not self.take(me):
                wait(lambda: self.take(me))
            return work(*args)
        finally:
            if self.owner == me:  # whenever a signal came: no call here, and so no handler's exception
                self.owner = None

    def take(self, thread: int) -> bool:
        """Is the claim the thread's, or could it be made so?"""
        with self.guard:
            if self.owner is None:
                self.owner = thread
            return self.owner == thread

    def left_to(self, thread: int) -> Claim:
        """The claim in a process where no other thread is left."""
        after = Claim()
        after.owner = thread if self.owner == thread else None
        return after


class Locks:
    """The locks of this process; a forked child gets others."""

    turn = Claim()  # to trace, and to make a program of that; taken before any other
    making = threading.RLock()
    tracing = threading.RLock()  # held where a trace begins, and by who must not meet one
    trace: Recorder | None = None  # the one that is under way
    library: AbstractContextManager[Any] = nullcontext()  # LLVM's own, also held while a thread frees old code


def wait(until: Callable[[], bool]) -> None:
    """Come back once it is so; nobody waits for another thread's trace that takes too long.

    Raises:
        BusyError: it does, perhaps since it waits for this thread.
    """
    me, pause = threading.get_ident(), SHORTEST
    while not until():
        trace = Locks.trace
        if trace is None or trace.thread == me:
            time.sleep(pause)
        elif time.monotonic() - trace.began > LONGEST:
            raise BusyError(_too_long(trace))
        else:
            trace.ended.wait(pause)
        pause = min(2 * pause, 0.02)


def wait_for_trace() -> None:
    """Wait for the end of another thread's trace, with `Locks.tracing` held: then none begins."""
    me = threading.get_ident()
    wait(lambda: (trace := Locks.trace) is None or trace.thread == me)


def _too_long(trace: Recorder) -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    here, there = line_of(frames.get(threading.get_ident())), line_of(frames.get(trace.thread))
    return (
        f"cr.compile: thread {threading.current_thread().name!r}{f' ({here})' if here else ''} waits for thread "
        f"{names.get(trace.thread, str(trace.thread))!r} to trace a function, which is{f' at {there}' if there else ''} "
        f"and has taken {LONGEST:g} s: perhaps it waits for this thread. Until a trace ends, no other thread can trace, "
        f"call a compiled function or read the tensors it uses. Wait for threads outside compiled functions, or call the "
        f"compiled function once before."
    )


_SIGNALS = signal.valid_signals()
# Without the Python that the standard library puts around it: there a handler could come, and raise, before the mask is set.
_mask: Callable[..., Any] | None = (
    inspect.unwrap(signal.pthread_sigmask) if hasattr(signal, "pthread_sigmask") else None
)


def undisturbed(work: Callable[..., Result], *args: Any) -> Result:
    """What `work` gives for the arguments; signals wait until it is over, where the system can hold them.

    Afterwards they come again, whatever a handler raises: setting a mask runs the handlers of what came before it, and only
    then returns. (One frame does it all: on the way into and out of a `with` block handlers may come that no `finally`
    sees. Signals that the system gives to another thread still interrupt this one.)
    """
    if _mask is None or threading.current_thread() is not threading.main_thread():
        return work(*args)  # only the main thread runs handlers
    before = _mask(signal.SIG_BLOCK, ())
    try:
        _mask(signal.SIG_BLOCK, _SIGNALS)
        return work(*args)
    finally:
        _mask(signal.SIG_SETMASK, before)


class _Forks(threading.local):
    """Of each thread: what it holds while it forks (a fork in a handler of a signal lies in another), and whose turn it was."""

    def __init__(self) -> None:
        self.held: list[bool] = []
        self.nested: list[bool] = []


_forks = _Forks()


def _before_fork() -> None:
    _forks.held.append(_all_held(time.monotonic() + PATIENCE))


def _all_held(until: float) -> bool:
    """Nothing is traced or made any more; else nothing is held."""
    me = threading.get_ident()
    _forks.nested.append(Locks.turn.owner == me)
    while not (turn := Locks.turn.take(me)) and time.monotonic() < until:
        time.sleep(SHORTEST)
    making = turn and Locks.making.acquire(timeout=PATIENCE)
    both = making and Locks.tracing.acquire(timeout=PATIENCE)
    if making and not both:
        Locks.making.release()
    if both:
        Locks.library.__enter__()
    else:
        _let_turn()
    return both


def _let_turn() -> None:
    if not _forks.nested.pop() and Locks.turn.owner == threading.get_ident():
        Locks.turn.owner = None


def _in_parent() -> None:
    if _forks.held.pop():
        Locks.library.__exit__(None, None, None)
        Locks.tracing.release()
        Locks.making.release()
        _let_turn()


def _in_child() -> None:
    me, trace = threading.get_ident(), Locks.trace
    Locks.turn = Locks.turn.left_to(me)
    if _forks.held.pop():
        Locks.library.__exit__(None, None, None)
        if not _forks.nested.pop():
            Locks.turn.owner = None
    _forks.held.clear()
    _forks.nested.clear()
    Locks.tracing, Locks.making = threading.RLock(), threading.RLock()
    Locks.trace = trace if trace is not None and trace.thread == me else None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
