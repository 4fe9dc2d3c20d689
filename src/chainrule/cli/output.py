"""What a command writes to: a stream that may lose its reader, or not know a character, without losing the training."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from contextlib import suppress
from typing import IO, Any, cast

WIDEST = 110  # characters of a line: longer ones are hard to read, however wide the terminal


def width() -> int:
    """The characters of a line: the terminal's, 80 where there is none, and never more than can be read well."""
    return max(20, min(WIDEST, shutil.get_terminal_size((80, 24)).columns))


def fitted(text: str, tables: bool = False) -> str:
    """The text with its long lines broken at the terminal's width; what follows is indented as the line is, and more.

    Rows of tables, which have wide gaps in them, stay whole unless `tables` says that they end in sentences.
    """
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width(), tables))


def _parts(line: str, most: int, tables: bool) -> list[str]:
    if len(line) <= most or ("  " in line.strip() and not tables):
        return [line]
    indent = " " * min(len(line) - len(line.lstrip()) + 2, most // 2)
    return textwrap.wrap(line, most, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


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
