"""The most memory a process has held."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Let the peak start from what is held now, where the system can (Linux)."""
    with suppress(OSError):
        _CLEAR.write_text("5")


def peak_bytes() -> int | None:
    """The most resident memory so far, in bytes; None where the system does not tell."""
    with suppress(OSError, ValueError):
        lines = [line.split() for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        if lines:
            return int(lines[0][1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
