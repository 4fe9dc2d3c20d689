"""A command that is told to end by SIGTERM, as schedulers and containers do before they kill."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminated() -> Iterator[list[int]]:
    """Inside, SIGTERM is what Ctrl-C is: a training stops between two steps, and what there is is written.

    Gives a list that has the signal's number once it came. Where the program handles SIGTERM itself, it stays so.
    """
    came: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield came
        return
    signal.signal(signal.SIGTERM, ask)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def code(came: list[int]) -> int:
    """The exit status of a command that was interrupted: 128 and the signal's number, as shells have it."""
    return 128 + (came[0] if came else signal.SIGINT)
