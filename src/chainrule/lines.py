"""Which line of the running program is the user's own: nodes and errors name it."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from types import CodeType, FrameType
from typing import NamedTuple


class Line(NamedTuple):
    """A place in the user's program."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.number} in {self.function}"


# What a named tuple's own constructor calls, at a quarter of its time: each op notes the line it came from.
_line = tuple.__new__
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = tuple(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib"))
_INSTALLED = re.compile(r"[\\/](?:site|dist)-packages[\\/]")
_SCRIPTS = sysconfig.get_path("scripts") + os.sep
_libraries: dict[str, bool] = {}  # by file, whether it is of a library


def ours(code: CodeType) -> bool:
    """Is it chainrule's own code?"""
    return code.co_filename.startswith(_PACKAGE)


def user_line(depth: int = 1) -> Line | None:
    """The innermost line of the running program that is the user's own.

    Chainrule's files, Python's, those of installed packages and the programs they install (pytest, the command line's
    framework, joblib's workers) are not; None where the whole stack is theirs. The first `depth` frames, this one
    included, are known to be chainrule's.
    """
    frame: FrameType | None = sys._getframe(depth)
    known = _libraries.get
    while frame is not None:  # as `line_of`, whose call each operation would pay for
        code = frame.f_code
        file = code.co_filename
        theirs = known(file)
        if theirs is False:
            return _line(Line, (file, frame.f_lineno, code.co_name))
        if theirs is None:
            return line_of(frame)
        frame = frame.f_back
    return None


def line_of(frame: FrameType | None) -> Line | None:
    """The user's own line that a frame, which may be another thread's, came from."""
    while frame is not None:
        code = frame.f_code
        theirs = _libraries.get(code.co_filename)
        if theirs is None:
            theirs = _libraries[code.co_filename] = _of_a_library(code.co_filename)
        if not theirs:
            return _line(Line, (code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return None


def _of_a_library(file: str) -> bool:
    if file.startswith((_PACKAGE, *_LIBRARY, "<frozen ")) or _INSTALLED.search(file) is not None:
        return True
    return file.startswith(_SCRIPTS) and not file.endswith(".py")


def at_user_line() -> str:
    """`` at train.py:12 in step``, or nothing where no line is the user's."""
    line = user_line()
    return f" at {line}" if line is not None else ""
