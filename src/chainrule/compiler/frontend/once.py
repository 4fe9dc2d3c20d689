"""What Python does only while a function is traced, and would do at every call of it: reading files and clocks, drawing the
system's random numbers, going on with an iterator."""

from __future__ import annotations

import datetime
import io
import os
import random
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
# The system's random numbers, of which `secrets` and `uuid` make theirs, and generators without a seed begin.
_DRAWERS: list[Any] = [getattr(os, name) for name in ("urandom", "getrandom") if hasattr(os, name)]
# Names by which they are found in code.
READING = {
    *(name + unit for name in _CLOCKS for unit in ("", "_ns")), *_OF_DATES, "open", "input", "stat", "listdir", "scandir", "walk",
    "exists", "isfile", "isdir", "getsize", "getmtime", "is_file", "is_dir", "iterdir", "glob", "rglob", "read_text", "read_bytes",
    "load", "loadtxt", "genfromtxt", "fromfile", "memmap", "uuid1", "uuid4", "urandom", "getrandom", "secrets", "token_bytes",
    "token_hex", "token_urlsafe", "randbelow", "randbits", "SystemRandom", "Random", "default_rng", "RandomState",
}  # fmt: skip
READERS = {id(each): each for each in [*_READERS, *_DRAWERS]}
_DRAWN = {*(each.__name__ for each in _DRAWERS), "seed"}
# What these read is for their own use, and not the function's.
_BESIDE = {"logging", "linecache", "importlib", "inspect", "threading", "tokenize", "traceback", "warnings", "queue"}
_BETWEEN = {*sys.stdlib_module_names, "numpy"} - {"__main__"}


@contextmanager
def reading_noted(found: dict[str, None], library: str) -> Iterator[None]:
    """Inside, `found` gets the names of what reads or draws for this thread, unless the library itself does.

    Python tells of every call, which takes time, and it tells only one: whoever watches calls already goes on.
    """
    if sys.getprofile() is not None:
        yield
        return

    def told(frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and (_reads(function) or _seeds(function, frame)) and _asked_for(frame, library):
            found[function.__name__] = None

    sys.setprofile(told)
    try:
        yield
    finally:
        sys.setprofile(None)


def _reads(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    of_date = isinstance(owner, type) and issubclass(owner, _DATES) and function.__name__ in _OF_DATES
    return id(function) in READERS or of_date or getattr(function, "__module__", None) == "_uuid"  # of uuid1: the clock


def _seeds(function: Any, frame: FrameType) -> bool:
    """Does a generator of Python's begin with the system's numbers, since it was given no seed?"""
    owner = getattr(function, "__self__", None)
    return isinstance(owner, random.Random) and function.__name__ == "seed" and frame.f_locals.get("a") is None


def warning_of(name: str) -> str:
    """What is said of a function that was noted."""
    if name in _DRAWN:
        return (
            f"cr.compile: the function drew random numbers from the system ({name!r}) while it was traced. Every later call uses "
            f"the same ones. Draw with cr.rand, cr.randn and the like, or pass the numbers as an argument."
        )
    return (
        f"cr.compile: the function read a file or a clock ({name!r}) while it was traced. Every later call uses what "
        f"it read then. Read it outside, and pass what it gives as an argument."
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
