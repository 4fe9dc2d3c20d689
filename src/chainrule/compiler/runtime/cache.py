"""The folder of machine code: one file an entry, whole or absent, checked when read, the oldest removed when it grows.

What lies here is executed, so it is used only where no other user can have written it: folder and entry are opened
without following links, belong to this user and are closed to the writing of others; and an entry holds a digest of
the description it was made for together with its code. Several processes may share the folder: entries appear by
renaming and go by unlinking, and whoever finds one gone or damaged builds it anew. A folder that does not serve is
done without.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import suppress
from errno import ENOENT

from chainrule.files.folder import Folder

_MAGIC = b"chainrule object 2\n"
_HEAD = len(_MAGIC) + 32
MOST_ENTRIES, MOST_BYTES = 2000, 256 << 20  # beyond, the entries that were used longest ago go
SOME = 32  # one new entry in so many, by its name, which is a hash, has the bytes of all counted
LARGE = 1 << 20  # bytes of an entry that is no everyday one
MOST_OF_ONE = 64 << 20  # bytes of an entry; the code of the largest models has some millions
_STALE = 3600.0  # seconds after which a file that another version half wrote belongs to nobody any more


def cache_dir() -> str | None:
    """Where machine code is kept: ``CHAINRULE_CACHE_DIR``, or the user's cache folder; None where there is no home.

    A relative path in the environment is as good as none (the XDG specification says so of its own): it would lead to
    whatever folder one happens to stand in.
    """
    return _absolute("CHAINRULE_CACHE_DIR") or _under(_base(), "chainrule")


def _base() -> str | None:
    home = os.path.expanduser("~")
    home_or_none = home if os.path.isabs(home) else None  # no HOME, and no entry in passwd: as in many containers
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA") or _under(home_or_none, "AppData", "Local")
    if sys.platform == "darwin":
        return _under(home_or_none, "Library", "Caches")
    return _absolute("XDG_CACHE_HOME") or _under(home_or_none, ".cache")


def _absolute(variable: str) -> str | None:
    found = os.environ.get(variable, "")
    return found if os.path.isabs(found) else None


def _under(base: str | None, *names: str) -> str | None:
    return None if base is None else os.path.join(base, *names)


def opened(make: bool = False) -> Folder:
    """The folder, sure to be this user's own; `make`: made if it is not there.

    Raises:
        OSError: there is none, or it does not serve; ``strerror`` says why.
    """
    path = cache_dir()
    if path is None:
        raise FileNotFoundError(ENOENT, "there is no home folder")
    if make:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
    return Folder(path, private=True)


def name_of(described: str) -> str:
    """The file of the entry for a description."""
    return hashlib.sha256(described.encode()).hexdigest()[:40] + ".o"


def read(described: str) -> bytes | None:
    """The code for a description, if it is there, whole, and ours."""
    try:
        with opened() as folder:
            data = folder.read(name_of(described), MOST_OF_ONE, touch=True)
    except OSError:
        return None
    code = data[_HEAD:]
    return code if data[:_HEAD] == _MAGIC + _digest(described, code) else None


def write(described: str, code: bytes) -> None:
    """Keep the code, if that can be."""
    if len(code) > MOST_OF_ONE - _HEAD:
        return
    parts = [_MAGIC, _digest(described, code), code]
    with suppress(OSError), opened(make=True) as folder:  # where it cannot be written, the program runs all the same
        folder.replace(name := name_of(described), parts, durable=False, mode=0o600)
        if _due(folder, name, len(code)):
            prune(folder)


def _digest(described: str, code: bytes) -> bytes:
    """Of both: the code of one program under the name of another is no entry."""
    return hashlib.sha256(hashlib.sha256(described.encode()).digest() + code).digest()


def _due(folder: Folder, name: str, size: int) -> bool:
    """Is it time to look at what is known of each entry, which takes milliseconds in a full folder?

    There are too many, or one of many bytes came, or, for the bytes of many small ones, one name in `SOME`.
    """
    return size > LARGE or not int(name[:8], 16) % SOME or len(folder.names()) > MOST_ENTRIES


def prune(folder: Folder) -> None:
    """Remove the entries used longest ago, once they are too many or of too many bytes, and some more: not at each write."""
    entries: list[tuple[float, int, str]] = []
    for name, facts in folder.entries():
        if name.endswith(".o"):
            entries.append((facts.st_mtime, facts.st_size, name))
        elif name.endswith(".part") and time.time() - facts.st_mtime > _STALE:
            with suppress(OSError):
                folder.remove(name)
    left, size = len(entries), sum(size for _, size, _ in entries)
    if left <= MOST_ENTRIES and size <= MOST_BYTES:
        return
    for _, taken, name in sorted(entries):
        if left <= MOST_ENTRIES - MOST_ENTRIES // 16 and size <= MOST_BYTES - MOST_BYTES // 16:
            return
        with suppress(OSError):  # another process removed it meanwhile
            folder.remove(name)
        left, size = left - 1, size - taken


def state() -> tuple[str, int, int]:
    """For reading: the folder, or why it is done without; how many entries it holds, and their bytes."""
    path = cache_dir()
    try:
        with opened() as folder:
            sizes = [facts.st_size for name, facts in folder.entries() if name.endswith(".o")]
    except FileNotFoundError:
        return (path or "none: there is no home folder"), 0, 0
    except OSError as error:
        return f"{path} (not used: {error.strerror})", 0, 0
    return str(path), len(sizes), sum(sizes)
