"""Files that others may have written: opened without waiting, regular ones alone, and only so many bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader

from chainrule.errors import DamagedFileError
from chainrule.files.folder import BINARY, NO_WAIT, why_special
from chainrule.files.writing import Path, shown, text_of, why_nameless


class MissingFileError(DamagedFileError):
    """There is no such file."""


@contextmanager
def opened(path: Path, kind: str) -> Iterator[tuple[BufferedReader, int]]:
    """A regular file, and how many bytes it has; `kind` is what it should be, as in "a configuration".

    Raises:
        DamagedFileError: it is missing, no regular file, or the disk does not give it.
    """
    name = shown(path)
    try:
        if (why := why_nameless(text_of(path))) is not None:
            raise ValueError(why)
        descriptor = os.open(path, os.O_RDONLY | BINARY | NO_WAIT)
        try:
            size = _size(descriptor, name, kind)
            file = open(descriptor, "rb", closefd=False)  # noqa: SIM115 - it holds nothing but a buffer
            yield file, size
        finally:
            os.close(descriptor)
    except DamagedFileError:
        raise
    except FileNotFoundError:
        raise MissingFileError(f"{name}: there is no such file. Check the path.") from None
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"{name}: this file could not be read ({error}). Check that you may read it.") from None


def _size(descriptor: int, name: str, kind: str) -> int:
    facts = os.fstat(descriptor)
    special = why_special(facts, False)
    if special == "it is a folder":
        raise DamagedFileError(f"{name}: this is a folder, not {kind}. Name the file in it.")
    if special is not None:
        raise DamagedFileError(f"{name}: {special}, not {kind}. Name a file.")
    return facts.st_size


def read_whole(path: Path, kind: str, most: int, missing: bytes | None = None) -> bytes:
    """The contents of a file of at most so many bytes; `missing`, if given, where there is none.

    Raises:
        DamagedFileError: it is missing, no regular file, too large, or the disk does not give it.
    """
    try:
        with opened(path, kind) as (file, size):
            data = file.read(size + 1) if size <= most else b""
    except MissingFileError:
        if missing is None:
            raise
        return missing
    if size > most or len(data) > size:
        raise DamagedFileError(
            f"{shown(path)}: it has more than {most:,} bytes, too many for {kind}. Check that it is the right file."
        )
    return data
