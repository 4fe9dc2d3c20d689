"""Operations that wait, and run together as compiled programs: `cr.eager(False)`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from chainrule import graph
from chainrule.names import classes_take_keywords, takes_keywords
from chainrule.tape.tape import Tape

F = TypeVar("F", bound=Callable[..., Any])


class _Own(threading.local):
    """This thread's tape, which knows what was recorded before."""

    tape: Tape | None = None


_own = _Own()


def own_tape() -> Tape:
    """The tape of this thread."""
    if _own.tape is None:
        _own.tape = Tape()
    return _own.tape


class eager:
    """Compute operations at once on this thread (the default), or let them wait and run together.

    As a function it holds from here on; as a context manager, inside the block. Under ``cr.eager(False)`` an operation
    outside ``cr.compile`` is written down and its tensor waits. Once a value is asked for (``item``, ``numpy``, ``print``,
    ``if``, ...), and at the end of an optimizer's ``step``, all that waits runs as one program: on NumPy the first times, and
    compiled once the same operations have come by more often. `cr.show_programs` says what was compiled.

    Args:
        mode: compute at once?

    The environment variable ``CHAINRULE_EAGER=0`` lets the operations of all threads wait.

    Example:
        >>> import chainrule as cr
        >>> with cr.eager(False):
        ...     y = (cr.ones(3) * 2 + 1).sum()
        ...     y.item()
        9.0
    """

    __slots__ = ("_outer",)

    def __init__(self, mode: bool = True) -> None:
        local = graph._local
        self._outer = local.tape
        if bool(mode) is (self._outer is None):
            return
        if mode:
            self._outer.flush()
            local.tape = None
        else:
            local.tape = own_tape()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        local = graph._local
        now = local.tape
        try:
            if now is not None and now is not self._outer:
                now.flush()
        finally:
            local.tape = self._outer


def at_once(function: F) -> F:
    """Decorates a function that computes with NumPy's values, whatever is in force around it: a check, or what is done once."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with eager():
            return function(*args, **kwargs)

    return cast(F, call)


class _EachThread:
    """Stands for the tape of a thread that has recorded nothing yet."""

    def __getattr__(self, name: str) -> Any:
        tape = graph._local.tape = own_tape()
        return getattr(tape, name)


def _before_fork() -> None:
    """The child finds the values; what waits on other threads' tapes is theirs."""
    if _own.tape is not None:
        _own.tape.flush()


def _in_child() -> None:
    if _own.tape is not None:
        _own.tape.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)

if os.environ.get("CHAINRULE_EAGER", "") == "0":
    graph._Local.tape = _EachThread()


classes_take_keywords("torch", [eager])


@takes_keywords("torch")
def show_programs() -> str:
    """The programs that this thread's operations were compiled to under ``cr.eager(False)``, a line each.

    How many operations, how often it ran, the time of a run, and the time it took to compile.
    """
    rows = own_tape().compiled
    lines = ["operations      runs  us a run  compiled in ms"]
    for each in rows:
        mean = 1e6 * each.seconds / max(each.hits, 1)
        lines.append(f"{each.operations:10,}{each.hits:10,}{mean:10,.1f}{1e3 * each.compiling:16,.1f}")
    return "\n".join(lines) if rows else "no programs yet"
