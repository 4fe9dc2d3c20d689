"""Ctrl-C, and SIGTERM, that wait for the end of a native call, so that a model never stops in the middle of a step."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

# The functions below those of `signal`, which makes enumerations of numbers and handlers: 10 microseconds a training.
_signals: Any = sys.modules.get("_signal", signal)


class Interrupt:
    """While it is entered, the first Ctrl-C is noted in ``asked``; the second raises at once.

    It stands aside outside the main thread and where the program handles the signal itself.

    Args:
        saves: something is written where the training stops. Then SIGTERM, too, is noted, and ends the process when that is done.
    """

    def __init__(self, saves: bool = False) -> None:
        self.asked = False
        self._saves = saves
        self._installed = self._before_the_end = self._ends = False

    def __enter__(self) -> Interrupt:
        main = threading.current_thread() is threading.main_thread()
        if main and _signals.getsignal(signal.SIGINT) is signal.default_int_handler:
            _signals.signal(signal.SIGINT, self._note)
            self._installed = True
        if main and self._saves and _signals.getsignal(signal.SIGTERM) == _signals.SIG_DFL:
            _signals.signal(signal.SIGTERM, self._note)
            self._before_the_end = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._installed:
            _signals.signal(signal.SIGINT, signal.default_int_handler)
        if self._before_the_end:
            _signals.signal(signal.SIGTERM, _signals.SIG_DFL)
        if self._ends:
            signal.raise_signal(signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._ends |= number == signal.SIGTERM
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def check(self) -> None:
        """Raise KeyboardInterrupt here if it was asked for."""
        if self.asked:
            raise KeyboardInterrupt
