"""Files written whole or not at all, and the one error where that cannot be."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Union

from chainrule.errors import SettingError, UnwritableFileError
from chainrule.files.document import short
from chainrule.files.folder import BINARY, NO_WAIT, Folder, Part, UnconfirmedError, why_special, write_all

Path = Union[str, "os.PathLike[str]"]

_REMEDIES = {
    errno.ENOSPC: "Free some space, or name a folder on another disk.",
    errno.EDQUOT: "Free some space, or name a folder on another disk.",
    errno.ENOENT: "Make the folder first, or name one that is there.",
    errno.ENOTDIR: "Name a folder that is there.",
    errno.EISDIR: "Name a file in it.",
    errno.ENAMETOOLONG: "Give it a shorter name.",
    errno.ELOOP: "Name a file to which its links lead.",
    errno.EINVAL: "Give it another name.",
}
_SLASHES = tuple(filter(None, (os.sep, os.altsep)))


def text_of(path: object) -> str:
    """The name of a file as text, whatever kind of path was given.

    Raises:
        SettingError: it is none, or empty.

    Example:
        >>> text_of(b"runs/mine")
        'runs/mine'
        >>> text_of(3)
        Traceback (most recent call last):
        chainrule.errors.SettingError: the name of a file must be a text or a path, got 3. Pass 'training.safetensors', for example.
    """
    if not isinstance(path, (str, bytes, os.PathLike)) or not (name := os.fsdecode(path)):
        raise SettingError(
            f"the name of a file must be a text or a path, got {short(path)}. Pass 'training.safetensors', for example."
        )
    return name


def shown(path: object) -> str:
    """The same as errors show it, on every terminal."""
    return text_of(path).encode("utf-8", "backslashreplace").decode()


def why_nameless(name: str) -> str | None:
    """Why no file can have this name; None where one can."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return "half a character is in its name"
    return "a zero byte is in its name" if "\0" in name else None


def write_whole(path: Path, data: bytes | Iterable[Part], durable: bool = True) -> None:
    """Put `data` at `path`, whole or not at all; on any failure what stood there still stands.

    A file that is there keeps its mode, and a link is followed to the file that it leads to.

    Args:
        path: the file; its folder must exist.
        data: the bytes, or parts of them in order.
        durable: wait until the disk has it, so that not even a power failure leaves half a file.

    Raises:
        UnwritableFileError: the folder or the disk does not take it.
        SettingError: `path` is no path.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "notes.txt"
        >>> write_whole(path, b"first")
        >>> write_whole(path, [b"sec", b"ond"])
        >>> path.read_text()
        'second'
    """
    parts = [data] if isinstance(data, bytes) else data
    try:
        where, name = os.path.split(_target(text_of(path)))
        with Folder(where) as folder:
            folder.replace(name, parts, durable)
    except OSError as error:
        raise unwritable(path, error) from None


def _target(name: str) -> str:
    """The file that a path leads to, as `open` would have it."""
    if (why := why_nameless(name)) is not None:
        raise OSError(errno.EINVAL, why)
    if name.endswith(_SLASHES):  # realpath would take the file of that name
        raise OSError(errno.EISDIR, "a slash at its end says that it is a folder")
    os.stat(os.path.dirname(name) or os.curdir)  # realpath would lead out of a folder that is not there, too
    return os.path.realpath(name)


def append(path: Path, data: bytes) -> None:
    """Put `data` at the end of a file, all of it or nothing; a file that is not there is made.

    Raises:
        UnwritableFileError: the folder or the disk does not take it; the file is as it was.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | BINARY | NO_WAIT, 0o666)
        try:
            facts = os.fstat(descriptor)
            if (why := why_special(facts, False)) is not None:
                raise OSError(errno.EPERM, why)
            _append(descriptor, facts.st_size, data)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unwritable(path, error) from None


def _append(descriptor: int, before: int, data: bytes) -> None:
    try:
        write_all(descriptor, data)
    except BaseException:
        with suppress(OSError):
            os.ftruncate(descriptor, before)
        raise


def unwritable(path: Path, error: OSError) -> UnwritableFileError:
    """The error for a file that could not be written, with the system's number as ``errno``."""
    why, name = error.strerror or error, shown(path)
    if isinstance(error, UnconfirmedError):
        text = f"{name}: the new file is there, but the disk does not confirm that it keeps it ({why}). Look after the disk."
    else:
        remedy = _REMEDIES.get(error.errno or 0, "Name a file or folder that you may write to, or look after the disk.")
        text = f"{name}: this file could not be written ({why}); what stood there before still stands. {remedy}"
    raised = UnwritableFileError(text)
    raised.errno = error.errno
    return raised
