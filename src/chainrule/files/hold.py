"""A file that says that somebody writes in a folder; the system lets go of it with the process, however that ends."""

from __future__ import annotations

import os
from contextlib import suppress

from chainrule.errors import BusyError
from chainrule.files.folder import BINARY, NO_LINK

try:
    import fcntl
except ImportError:  # Windows, where two that write to one folder are not noticed
    fcntl = None  # type: ignore[assignment]

_ATTEMPTS = 10


class Hold:
    """Holds a name in a folder until `close`; where the file system knows no locks, it holds nothing.

    Raises:
        BusyError: somebody else holds it.
        OSError: the file cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str, who: str) -> None:
        self._descriptor: int | None = None
        self._path = os.path.join(folder, name)
        for _ in range(_ATTEMPTS if fcntl is not None else 0):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | BINARY | NO_LINK, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise BusyError(
                    f"{who}: another training writes to {os.fspath(folder)!r} now. Wait for its end, or name another folder."
                ) from None
            except OSError:
                os.close(descriptor)
                return
            if os.fstat(descriptor).st_nlink:
                self._descriptor = descriptor
                return
            os.close(descriptor)  # whoever held it has just let go, and removed it

    def close(self) -> None:
        """Let go, and leave nothing behind."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.unlink(self._path)
            with suppress(OSError):
                os.close(descriptor)
