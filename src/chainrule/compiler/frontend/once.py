"""What Python does only while a function is traced, and would do at every call of it: reading files and clocks, going on
with an iterator."""

from __future__ import annotations

import datetime
import io
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, GeneratorType
from typing import Any

_CLOCKS = ("time", "perf_counter", "monotonic", "process_time", "thread_time")
_DATES = (datetime.datetime, datetime.date)
_OF_DATES = ("now", "today", "utcnow")
_READERS: list[Any] = [
    *(getattr(time, name + unit) for name in _CLOCKS for unit in ("", "_ns")),
    io.open, input, os.open, os.stat, os.listdir, os.scandir,
]  # fmt: skip
# Names by which they are found in code.
READING = {
    *(name + unit for name in _CLOCKS for unit in ("", "_ns")), *_OF_DATES, "open", "input", "stat", "listdir", "scandir", "walk",
    "exists", "isfile", "isdir", "getsize", "getmtime", "is_file", "is_dir", "iterdir", "glob", "rglob", "read_text", "read_bytes",
    "load", "loadtxt", "genfromtxt", "fromfile", "memmap",
}  # fmt: skip
READERS = {id(each): each for each in _READERS}
# What these read is for their own use, and not the function's.
_BESIDE = {"logging", "linecache", "importlib", "inspect", "threading", "tokenize", "traceback", "warnings", "queue"}
_BETWEEN = {*sys.stdlib_module_names, "numpy"} - {"__main__"}


@contextmanager
def reading_noted(found: dict[str, None], library: str) -> Iterator[None]:
    """Inside, `found` gets the names of what reads a file or a clock for this thread, unless the library itself does.

    Python tells of every call, which takes time, and it tells only one: whoever watches calls already goes on.
    """
    if sys.getprofile() is not None:
        yield
        return

    def told(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and _reads(function) and _asked_for(frame, library):
            found[function.__name__] = None

    sys.setprofile(told)
    try:
        yield
    finally:
        sys.setprofile(None)


def _reads(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    return id(function) in READERS or (
        isinstance(owner, type) and issubclass(owner, _DATES) and function.__name__ in _OF_DATES
    )


def _asked_for(frame: FrameType | None, library: str) -> bool:
    """Does somebody else than the library, or what Python does beside, ask for it?"""
    while frame is not None:
        room = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if room == library or room in _BESIDE:
            return False
        if room not in _BETWEEN:
            return True
        frame = frame.f_back
    return False


def is_iterator(value: Any) -> bool:
    """Does it give another value every time it is asked, as a generator does?"""
    return isinstance(value, Iterator) and not isinstance(value, io.IOBase)


def standing_of(iterator: Any) -> Any:
    """Something that is another when the iterator has gone on; None where that cannot be told."""
    if isinstance(iterator, GeneratorType):
        frame = iterator.gi_frame
        return frame and (frame.f_lasti, frame.f_lineno, {name: id(value) for name, value in frame.f_locals.items()})
    left = getattr(iterator, "__length_hint__", None)
    if left is not None:
        return left()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python 3.12 on: not for long
        try:
            return repr(iterator.__reduce__())
        except TypeError:
            return repr(iterator)
