"""How much memory there is, so that a training too large for it ends before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from chainrule.errors import NotEnoughMemoryError

SURE = 1 << 26  # bytes that need no look: they are always there


OF_A_TRAINING = "Use a smaller batch, fewer steps in one loop, or a smaller model."
OF_A_TENSOR = "Make it smaller, or work on it in parts."


def check_room(size: int, what: Callable[[], str], remedy: str = OF_A_TRAINING) -> None:
    """Raise unless so many more bytes can be had; `what` says who wants them, and what for.

    Raises:
        NotEnoughMemoryError: fewer are available.
    """
    if size <= SURE:
        return
    room = available_bytes()
    if room is not None and size > room:
        raise NotEnoughMemoryError(f"{what()} needs {size:,} bytes, and {room:,} are available. {remedy}")


def check_limit(least: int) -> None:
    """Raise unless a limit on this process's addresses, if there is one, leaves LLVM as many bytes.

    Raises:
        NotEnoughMemoryError: it does not.
    """
    room = address_space()
    if room is not None and room < least:
        raise NotEnoughMemoryError(
            f"cr.compile: LLVM needs {least:,} bytes of memory, and the limit on this process's address space (ulimit -v, "
            f"RLIMIT_AS) leaves {room:,}. Raise the limit, or remove it."
        )


def available_bytes() -> int | None:
    """The bytes this process may still take, as far as the system says (None: it does not)."""
    found = [room for room in (_of_system(), _of_group(), address_space()) if room is not None]
    return min(found, default=None)


def _of_system() -> int | None:
    with suppress(OSError, ValueError, StopIteration, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
    with suppress(AttributeError, ValueError, OSError):  # no Windows, no count of free pages on macOS: all there are
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_group() -> int | None:
    """What a container leaves (control groups, version 2)."""
    with suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup")
        limit = int((folder / "memory.max").read_text(encoding="ascii"))  # "max" is no number: no limit
        return max(0, limit - int((folder / "memory.current").read_text(encoding="ascii")))
    return None


def address_space() -> int | None:
    """What a limit on this process's addresses leaves (``ulimit -v``); None where there is none, or nobody says."""
    with suppress(ImportError, OSError, ValueError, IndexError):  # no limits on Windows, no /proc on macOS
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            return max(0, limit - pages * resource.getpagesize())
    return None
