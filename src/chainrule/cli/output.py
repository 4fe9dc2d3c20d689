"""What a command writes to: a stream that may lose its reader, or not know a character, without losing the training."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, Any, cast


class Steady:
    """A stream for a long training: once its reader has gone (``chainrule train | head -1``), it is silent."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.gone = stream, False

    @property
    def text(self) -> IO[str]:
        """Itself, as what it stands for."""
        return cast("IO[str]", self)

    def write(self, text: str) -> int:
        """Write, if somebody still reads."""
        if not self.gone:
            try:
                self.stream.write(text)
                self.stream.flush()  # so that it is known here whether the reader has gone
            except BrokenPipeError:
                self._let_go()
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def _let_go(self) -> None:
        self.gone = True
        with suppress(OSError, ValueError):  # what is still in the buffer must go somewhere when Python ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def tolerate_encodings() -> None:
    """Characters that the terminal's encoding has not become question marks, not errors."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
