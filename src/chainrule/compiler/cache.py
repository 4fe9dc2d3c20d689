"""The folder of machine code: one file an entry, whole or absent, checked when read, the oldest removed when it grows.

Several processes may share it: entries appear by renaming and go by unlinking, and whoever finds one gone or
damaged builds it anew. A folder that cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

_MAGIC = b"chainrule object 1\n"
MOST_ENTRIES, MOST_BYTES = 2000, 256 << 20  # beyond, the entries that were used longest ago go
_STALE = 3600.0  # seconds after which a half-written file belongs to nobody any more


def cache_dir() -> Path:
    """Where machine code is kept: ``CHAINRULE_CACHE_DIR``, or the user's cache folder."""
    chosen = os.environ.get("CHAINRULE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "chainrule"


def path_of(described: str) -> Path:
    """Where the entry for a description lies."""
    return cache_dir() / (hashlib.sha256(described.encode()).hexdigest()[:40] + ".o")


def read(path: Path) -> bytes | None:
    """The entry, if it is there and whole; from now on it is the one used last."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, digest, code = data[: len(_MAGIC)], data[len(_MAGIC) : len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
    if head != _MAGIC or hashlib.sha256(code).digest() != digest:
        return None
    with suppress(OSError):
        os.utime(path)
    return code


def write(path: Path, code: bytes) -> None:
    """Keep the entry, if that can be."""
    import tempfile  # only where something was compiled: a start from the cache does without

    with suppress(OSError):  # read-only or full: the program runs all the same
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(code).digest() + code)
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        prune(path.parent)


def prune(folder: Path) -> None:
    """Remove the entries used longest ago, until few enough of few enough bytes are left."""
    entries: list[tuple[float, int, str]] = []
    with os.scandir(folder) as found:
        for entry in found:
            with suppress(OSError):  # another process removed it meanwhile
                facts = entry.stat()
                if entry.name.endswith(".o"):
                    entries.append((facts.st_mtime, facts.st_size, entry.path))
                elif entry.name.endswith(".part") and time.time() - facts.st_mtime > _STALE:
                    os.unlink(entry.path)
    left, size = len(entries), sum(size for _, size, _ in entries)
    for _, taken, path in sorted(entries):
        if left <= MOST_ENTRIES and size <= MOST_BYTES:
            return
        with suppress(OSError):
            os.unlink(path)
        left, size = left - 1, size - taken
