"""Folders of checkpoints: which file is the newest whole one, and whether the training that goes on is still that one."""

from __future__ import annotations

import os
import re
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.autodiff import trees
from chainrule.errors import DamagedFileError, DataError, SettingError
from chainrule.files.document import short
from chainrule.files.writing import shown, text_of, why_nameless
from chainrule.training import saved
from chainrule.training.position import Position
from chainrule.training.record import digest
from chainrule.training.session import Rows, Session
from chainrule.training.settings import otherwise
from chainrule.training.source_rows import SourceRows

Array = np.ndarray[Any, Any]
READ = 1 << 24  # bytes of an array that are read for its name: 5 ms
MOST = 4  # settings that a warning names
_INSTEAD = {
    "resume": "leave resume out to start a new training of these weights",
    "checkpoint": "name a new folder",
}
_NAME = re.compile(r"(last|best)-[0-9]{8,19}\.safetensors")


def name(kind: str, number: int) -> str:
    """The name of a file: ``last-00001200.safetensors`` is of after step 1200, ``best-...`` of after an epoch."""
    return f"{kind}-{number:08d}.safetensors"


def make(folder: str | os.PathLike[str]) -> None:
    """The folder is there from now on.

    Raises:
        SettingError: it cannot be.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise _no_folder(folder, error) from None


def _no_folder(folder: str | os.PathLike[str], error: OSError) -> SettingError:
    why = "a link that leads nowhere" if os.path.islink(folder) and not os.path.exists(folder) else error.strerror
    return SettingError(
        f"Checkpoint: {shown(folder)!r} must be a folder, or the path where one can be made ({why}). Name another."
    )


def check_name(folder: object) -> str:
    """The path of a folder for checkpoints, as text.

    Raises:
        SettingError: nothing can have that name.
    """
    name = text_of(folder) if isinstance(folder, (str, os.PathLike)) and os.fspath(folder) else ""
    why = why_nameless(name) if name else f"got {folder!r}"
    if why is not None:
        raise SettingError(f"Checkpoint: the folder must be the path of one ({why}). Pass 'runs/mine', for example.")
    return name


def files(folder: str | os.PathLike[str], kind: str) -> list[Path]:
    """The files of a kind in a folder, the newest last; none where there is no folder.

    Raises:
        SettingError: it is no folder.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _no_folder(folder, error) from None
    numbered = [(int(n[5:-12]), n) for n in names if (match := _NAME.fullmatch(n)) and match[1] == kind]
    return [Path(folder) / found for _, found in sorted(numbered)]


def newest(session: Session, folder: str | os.PathLike[str]) -> saved.Found | None:
    """What the newest whole checkpoint of a folder holds; None where there is none.

    Raises:
        DamagedFileError: there are some, and none of them is whole.
        StateDictError, SettingError: it is of another model, optimizer or schedule.
    """
    found = files(folder, "last")
    for path in reversed(found):
        try:
            return saved.read(session, path)
        except DamagedFileError as error:
            if path == found[0]:
                raise
            warnings.warn(f"fit: {error} The training goes on from the checkpoint before it.", stacklevel=2)
    return None


def of_rows(rows: Rows) -> str:
    """A name for all that a training is given."""
    both = [rows] if rows.held_out is None else [rows, rows.held_out]
    if any(isinstance(part, SourceRows) for part in both):
        return " ".join(part.name() if isinstance(part, SourceRows) else digest(*part.arrays) for part in both)
    return digest(*(array for part in both for array in part.arrays))


def contents(rows: Rows) -> str | None:
    """A name for what the rows to train on hold now; None for a source, which is not read for it."""
    if isinstance(rows, SourceRows):
        return None
    one = isinstance(rows.x, np.ndarray) and isinstance(rows.y, np.ndarray)  # as mostly: no tree to walk
    return " ".join(map(_read, rows.parts if one else trees.leaves(_by_key(rows.parts))))


def _read(array: Array) -> str:
    """As quick as reading `READ` bytes, since each `fit` asks: of a larger array, rows evenly spaced."""
    step = array.nbytes // READ
    part = array if step <= 1 and array.flags.c_contiguous else np.ascontiguousarray(array[:: step or 1])
    return f"{array.dtype.str}{array.shape}{zlib.crc32(part.data):08x}"


def _by_key(tree: Any) -> Any:
    """The tree without its names, in an order that does not depend on that of its dicts."""
    if isinstance(tree, dict):
        return [_by_key(tree[key]) for key in sorted(tree, key=str)]
    return [_by_key(item) for item in tree] if isinstance(tree, (list, tuple)) else tree


def unchanged(session: Session, now: str | None) -> bool:
    """Are these the `contents` of the rows that the training which stands was trained on, as far as it is known?"""
    return session.contents is None or now is None or session.contents == now


def check_rows(session: Session, rows: Rows, now: str | None) -> None:
    """Raise `SettingError` unless a training that stands can go on with these rows."""
    if (session.fed is not None and not session.fed.same(rows)) or not unchanged(session, now):
        raise SettingError(
            "fit: resume=True goes on exactly, so the rows must be those of the earlier fit, got others of the same "
            "number. Use the same data, or leave resume out to start a new training of these weights."
        )


def check(session: Session, found: saved.Found, position: Position, rows: Rows, folder: str) -> None:
    """Raise unless this is the training that the folder holds.

    Raises:
        SettingError: another seed or batch size, say.
        DataError: other rows.
    """
    if found.position is not None:
        check_same(found.position, position, f"checkpoint={folder!r}")
    if found.data is not None and found.data != of_rows(rows):
        raise DataError(
            f"fit: checkpoint={folder!r} holds a training on other rows (their hash differs): the data, or how they are "
            f"prepared, have changed since. Go on with the rows that it was begun with, or name a new folder."
        )
    other = otherwise(found.begun or (), found.settings, session.settings())
    if other:
        was, now = (", ".join(_assigned(key, pair[i]) for key, pair in [*other.items()][:MOST]) for i in (0, 1))
        more = f" (and {len(other) - MOST} more)" if len(other) > MOST else ""
        warnings.warn(
            f"fit: checkpoint={folder!r} goes on as it was begun, with {was}, and not with the {now} of this trainer{more}. "
            f"Name a new folder for a training with other settings.",
            stacklevel=2,
        )


def _assigned(key: str, value: object) -> str:
    return (
        f"{key[:80]}={value!r}" if isinstance(value, (bool, int, float, type(None))) else f"{key[:80]}={short(value)}"
    )


def modes(session: Session, goes_on: bool) -> Mapping[str, bool] | None:
    """The modes that a training begins or goes on with, by module; None for training mode.

    Warns of parts that stand in evaluation mode and are to be trained in training mode. A model that does so as a whole
    was evaluated before, which says nothing of how it is to train.
    """
    found = session.modes if goes_on else None
    known = session.members().modules if session.model.training else []
    still = [name for name, module in known if not module.training and (found or {}).get(name, True)]
    if still:
        warnings.warn(
            f"fit: {still[0]} is in evaluation mode, but `fit` trains it in training mode: modes of modules count where a "
            f"callback sets them. Call {still[0]}.eval() in on_fit_start of a callback, or model.train() before fit.",
            stacklevel=2,
        )
    return found


def go_on(session: Session, found: saved.Found, position: Position, rows: Rows, folder: str) -> None:
    """Take over what a folder holds of this training; raises as `check`."""
    check(session, found, position, rows, folder)
    saved.take_over(session, found)


def check_same(before: Position, now: Position, what: str) -> None:
    """Raise `SettingError` unless a training that stood there can go on as this one."""
    for one in ("rows", "batch_size", "seed", "shuffle", "drop_last", "micro_batches"):
        was, came = getattr(before, one), getattr(now, one)
        if was != came:
            raise SettingError(
                f"fit: {what} goes on exactly, so {one} must be as before ({was}), got {came}. "
                f"Use the same data and arguments, or {_INSTEAD[what.partition('=')[0]]}."
            )
