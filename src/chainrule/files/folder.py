"""A folder held open: what is done in it by name is done in this very folder, wherever its path leads meanwhile.

Every file that chainrule writes whole comes to be here, by `Folder.replace`. Where the system has no descriptors of
folders (Windows) the path stands in for them.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EINVAL, EIO, EISDIR, ELOOP, ENOTSUP, EPERM
from typing import Union

try:
    import fcntl
except ImportError:  # Windows: a file that is open cannot be removed there, so age alone must tell
    fcntl = None  # type: ignore[assignment]

Part = Union[bytes, bytearray, memoryview]

DESCRIPTORS = os.open in os.supports_dir_fd and os.scandir in os.supports_fd
BINARY = getattr(os, "O_BINARY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # a pipe without a partner opens, or fails, at once
DIRECTORY = getattr(os, "O_DIRECTORY", 0)

_CHUNK = 1 << 26  # bytes a call: Linux takes 2 GB, macOS fails beyond
_HALF_WRITTEN = re.compile(r"\..*\.[0-9a-f]{16}\.chainrule-part")
_STALE = 3600.0  # seconds after which a half-written file is nobody's, where locks cannot tell
_ATTEMPTS = 10


class UnconfirmedError(OSError):
    """The disk does not say that it keeps what was written."""


class Folder:
    """A folder, open until `close`; a context manager.

    Args:
        path: the folder.
        private: it and what is read in it must be this user's own: no link, and closed to the writing of others.

    Raises:
        OSError: there is no such folder, or (PermissionError) it is not private.
    """

    def __init__(self, path: str, private: bool = False) -> None:
        self.path = path.rstrip("/" + os.sep) or path  # with a slash at its end, a link would be followed
        self.private = private
        self.descriptor: int | None = None
        if private and not NO_LINK and os.path.islink(self.path):
            raise PermissionError(EPERM, "it is a link", path)
        if DESCRIPTORS:
            self.descriptor = self._open()
        try:
            if private:
                self._check(os.stat(self.path) if self.descriptor is None else os.fstat(self.descriptor), True)
        except BaseException:
            self.close()
            raise

    def _open(self) -> int | None:
        try:
            return os.open(self.path, os.O_RDONLY | DIRECTORY | NO_WAIT | (NO_LINK if self.private else 0))
        except PermissionError:
            if self.private:
                raise
            return None  # one may be allowed to write in a folder and not to list it

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    # ---------------------------------------------------------------- reading

    @contextmanager
    def opened(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        """A regular file, open for reading, and what is known of it; links are not followed, nothing is waited for."""
        descriptor = os.open(self._at(name), os.O_RDONLY | BINARY | NO_LINK | NO_WAIT, dir_fd=self.descriptor)
        try:
            facts = os.fstat(descriptor)
            self._check(facts, False)
            yield descriptor, facts
        finally:
            os.close(descriptor)

    def read(self, name: str, most: int, touch: bool = False) -> bytes:
        """The contents of a regular file of at most so many bytes; `touch`: from now on it is the one used last."""
        with self.opened(name) as (descriptor, facts):
            if facts.st_size > most:
                raise OSError(EIO, f"it has {facts.st_size:,} bytes, more than {most:,}", name)
            data = b""
            while len(data) <= facts.st_size and (part := os.read(descriptor, facts.st_size - len(data) + 1)):
                data += part  # one part, on every disk but the oddest
            if len(data) > facts.st_size:
                raise OSError(EIO, "it grows while it is read", name)
            if touch:
                with suppress(OSError):
                    os.utime(descriptor if os.utime in os.supports_fd else self._at(name))
        return data

    def _check(self, facts: os.stat_result, folder: bool) -> None:
        why = why_foreign(facts, folder) if self.private else why_special(facts, folder)
        if why is not None:
            raise PermissionError(EPERM, why, self.path)

    # ---------------------------------------------------------------- writing

    def replace(self, name: str, parts: Iterable[Part], durable: bool, mode: int | None = None) -> None:
        """Put these bytes at `name`, whole or not at all: a new file beside it, renamed once it is complete.

        Args:
            name: what stands there keeps its mode and, where that is allowed, its owner and group.
            durable: wait until the disk has it, so that not even a power failure leaves half a file.
            mode: of a new file; None: what the process's umask leaves.
        """
        before = self._standing(name)
        temporary, descriptor = self._begin(name, 0o666 if mode is None and before is None else 0o600)
        guard = None
        try:
            guard = os.dup(descriptor) if fcntl else None  # the lock stays while the file, closed, waits for its name
            try:
                if before is not None:
                    _take_over(descriptor, before)
                for part in parts:
                    write_all(descriptor, part)
                if durable:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)  # some disks say only here that they are full
            os.replace(self._at(temporary), self._at(name), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            with suppress(OSError):
                self.remove(temporary)
            raise
        finally:
            if guard is not None:
                with suppress(OSError):
                    os.close(guard)
        self.sweep()
        if durable:
            self.sync()

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(self._at(name), dir_fd=self.descriptor)

    def sync(self) -> None:
        """Wait until the disk knows the names in the folder."""
        if self.descriptor is not None:
            try:
                os.fsync(self.descriptor)
            except OSError as error:
                if error.errno not in (EINVAL, ENOTSUP):  # some file systems know no such thing
                    raise UnconfirmedError(error.errno, error.strerror) from None

    def names(self) -> list[str]:
        """What lies there, of whatever kind."""
        return os.listdir(self.path if self.descriptor is None else self.descriptor)

    def entries(self, chosen: Callable[[str], object] = bool) -> Iterator[tuple[str, os.stat_result]]:
        """The regular files of the names `chosen` (default: all) and what is known of each.

        One that another process removes meanwhile is left out.
        """
        with os.scandir(self.path if self.descriptor is None else self.descriptor) as found:
            for entry in found:
                if not chosen(entry.name):  # to ask the system for each takes eight times as long as the names
                    continue
                with suppress(OSError):
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(facts.st_mode):
                        yield entry.name, facts

    def sweep(self) -> None:
        """Remove what writers that are dead left half-written here."""
        with suppress(OSError):
            for name, facts in self.entries(_HALF_WRITTEN.fullmatch):
                if ours(facts):
                    with suppress(OSError):
                        self._sweep(name, facts)

    def _sweep(self, name: str, facts: os.stat_result) -> None:
        if fcntl is None:
            if time.time() - facts.st_mtime > _STALE:
                self.remove(name)
            return
        with self.opened(name) as (descriptor, _):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a writer that lives holds it
            self.remove(name)

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def _standing(self, name: str) -> os.stat_result | None:
        """What is known of the file that a new one will replace."""
        try:
            facts = os.stat(self._at(name), dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(facts.st_mode):
            code = EISDIR if stat.S_ISDIR(facts.st_mode) else ELOOP if stat.S_ISLNK(facts.st_mode) else EPERM
            raise OSError(code, why_special(facts, False), name)
        return facts

    def _begin(self, name: str, mode: int) -> tuple[str, int]:
        """A new file beside `name`, under a name that nobody can guess, locked for as long as it is written."""
        for _ in range(_ATTEMPTS):
            temporary = f".{name[:40]}.{os.urandom(8).hex()}.chainrule-part"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY | NO_LINK
            try:
                descriptor = os.open(self._at(temporary), flags, mode, dir_fd=self.descriptor)
            except FileExistsError:
                continue
            try:
                if _locked(descriptor):
                    return temporary, descriptor
            except BaseException:
                os.close(descriptor)
                with suppress(OSError):
                    self.remove(temporary)
                raise
            os.close(descriptor)  # another process took it for a dead one's between its making and its lock
        raise OSError(EIO, "other processes take away what is written there", name)


def write_all(descriptor: int, data: Part) -> None:
    """All of it, however little the system takes at a time."""
    rest = memoryview(data).cast("B")
    while rest:
        taken = os.write(descriptor, rest[:_CHUNK])
        if taken <= 0:
            raise OSError(EIO, "the disk takes nothing more")
        rest = rest[taken:]


def why_special(facts: os.stat_result, folder: bool) -> str | None:
    """Why this is no plain file (or folder); None where it is."""
    kind = stat.S_IFMT(facts.st_mode)
    if kind == (stat.S_IFDIR if folder else stat.S_IFREG):
        return None
    names = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFREG: "a file", stat.S_IFIFO: "a pipe"}
    return f"it is {names.get(kind, 'a device or a socket')}"


def why_foreign(facts: os.stat_result, folder: bool) -> str | None:
    """Why another user may have written this; None where only this one can. Windows keeps others out by itself."""
    special = why_special(facts, folder)
    if special is not None or os.name != "posix":
        return special
    if not ours(facts):
        return "it belongs to another user"
    return "others may write to it" if facts.st_mode & 0o022 else None


def ours(facts: os.stat_result) -> bool:
    """Does it belong to the user that this process runs as?"""
    return os.name != "posix" or facts.st_uid == os.geteuid()


def _locked(descriptor: int) -> bool:
    """Lock a new file; False where another process has removed it already."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where nobody sweeps either
        return True
    return os.fstat(descriptor).st_nlink > 0


def _take_over(descriptor: int, before: os.stat_result) -> None:
    """The mode, and where that is allowed the owner and group, of the file that is replaced."""
    if os.name != "posix":
        return
    mode, now = stat.S_IMODE(before.st_mode) & 0o777, os.fstat(descriptor)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(descriptor, before.st_uid if os.geteuid() == 0 else -1, before.st_gid)
        except PermissionError:  # of another group, so its members are others now
            mode = mode & 0o707 | (mode & 0o007) << 3
    os.fchmod(descriptor, mode)
