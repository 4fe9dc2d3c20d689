"""Files that are read while a training runs: whether they are the same still, and errors of the system in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from chainrule.data.windows.fingerprint import digest, sampled_file
from chainrule.errors import DataError


@contextmanager
def reading(file: str, who: str) -> Iterator[None]:
    """What the system says of a file that it cannot read, inside the block, becomes a `DataError`."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{who}: {file} cannot be read any further ({error.strerror or error}). Bring it back as it was, and go on; or leave "
            f"it out, and start again."
        ) from error


def digest_of(file: str, who: str) -> str:
    """A short text that stands for what the file holds."""
    with reading(file, who):
        return digest(*sampled_file(file))


def stamp(file: str, who: str) -> tuple[int, int]:
    """What is another once the file was written to."""
    with reading(file, who):
        found = os.stat(file)
    return found.st_size, found.st_mtime_ns


def check_unchanged(file: str, before: tuple[int, int], who: str) -> None:
    """Raise `DataError` where the file was written to since."""
    if stamp(file, who) != before:
        raise DataError(f"{who}: {file} changed while it was read. Write to another folder, and start again.")
