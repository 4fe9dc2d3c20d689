"""Makes the n-th call to the system fail, or end the process, for every n that there is.

The calls are those of `os` (and `fcntl`) that saving, recording and caching make: whoever writes files by other means
is not seen here, and `test_every_write_is_seen` says so.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

CALLS = (
    "open", "write", "read", "fsync", "close", "dup", "replace", "rename", "unlink", "mkdir", "stat", "fstat", "fchmod",
    "fchown", "utime", "ftruncate", "truncate", "scandir",
)  # fmt: skip
DONE = ("write", "fsync", "close", "replace", "rename", "unlink", "mkdir", "fchmod", "ftruncate", "truncate", "utime")


@dataclass
class Faults:
    """What happens at the n-th call, and what was called.

    Attributes:
        at: the number of the call that fails, from 0; -1: none.
        how: ``"fails"``: with an error, nothing done; ``"fails afterwards"``: with an error although it was done;
            ``"short"``: a write takes half, and the next one fails; ``"dies"``: the process ends before it;
            ``"dies afterwards"``: after it, a write having taken half.
        code: the error.
    """

    at: int
    how: str = "fails"
    code: int = errno.ENOSPC
    called: list[str] = field(default_factory=list)
    due: bool = False  # the next write fails

    @property
    def happened(self) -> bool:
        """Did the n-th call come?"""
        return 0 <= self.at < len(self.called)

    def call(self, name: str, real: Callable[..., Any], *given: Any, **more: Any) -> Any:
        number = len(self.called)
        self.called.append(name)
        if name == "write" and self.due:
            self.due = False
            raise self.error()
        if number != self.at:
            return real(*given, **more)
        if self.how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            if name == "write" and self.how in ("short", "dies afterwards"):
                half = real(given[0], given[1][: max(1, len(given[1]) // 2)])
                self.due = True
            elif name == "close" or self.how == "dies afterwards" or (name in DONE and self.how == "fails afterwards"):
                real(*given, **more)  # a close that fails has closed
        finally:
            if self.how == "dies afterwards":
                os.kill(os.getpid(), signal.SIGKILL)
        if name == "write" and self.how == "short":
            return half
        raise self.error()

    def error(self) -> OSError:
        return OSError(self.code, os.strerror(self.code))


@contextmanager
def injected(faults: Faults) -> Iterator[Faults]:
    """Inside the block, calls go through `faults`: those of what it runs, and not of garbage that an earlier test left."""
    gc.collect()
    gc.disable()
    real = {name: getattr(os, name) for name in CALLS}

    def through(name: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            return faults.call(name, real[name], *given, **more)

        return call

    try:
        for name in CALLS:
            setattr(os, name, through(name))
        # What chainrule asks of the system it asks by these names, so that a stand-in must be among what is supported.
        os.supports_dir_fd.update({os.open, os.unlink, os.stat})
        os.supports_fd.update({os.utime, os.scandir})
        yield faults
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        gc.enable()


def ended(action: Callable[[], object], faults: Faults) -> int:
    """What a child process ended with (its exit status, or less than 0: by a signal) that did this under `faults`."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with injected(faults):
                action()
            status = 0
        except OSError:
            status = 3
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
