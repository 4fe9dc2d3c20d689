"""The record of a training: sparse exact checkpoints, and one line a step. Together they bring back any step.

    FOLDER/record/
      record.json                 what was trained on what, by which version, and which training it is
      steps.bin                   a row for each step, see `row_type`: its number, its loss, the fingerprint of the weights
                                  before it, and of each parameter group the rate that its update used, and the one that
                                  a schedule of every step gave
      settings.jsonl              what shapes a step, whenever some of it changed: {"step": s, "groups": [...]}, with
                                  "modules", "trained" and "max_norm" as `training.settings` has them
      checkpoints/00000120.safetensors    everything before step 120, as `Trainer.save` writes it

Steps count from 0, and every row says which step it is of: where a stretch was trained without a record, or a power
failure took the last rows, those steps are missing and no others stand in their place. A row or line that is half
written, or that the disk filled with zeros, counts for nothing. Checkpoints come as often as a short replay wants, and
no more often than lets them cost little beside the training; when there are too many, every second one goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.autodiff import trees
from chainrule.errors import ChainruleError, DamagedFileError, SettingError
from chainrule.files.document import Fields, parse, short
from chainrule.files.reading import MissingFileError, read_whole
from chainrule.files.writing import append, text_of, unwritable, write_whole
from chainrule.nn.meaning import name_of
from chainrule.training.settings import Settings
from chainrule.version import __version__

if TYPE_CHECKING:
    from chainrule.training.session import Session
    from chainrule.training.steps import Measured

Array = np.ndarray[Any, Any]
Groups = list[dict[str, Any]]
_AGAIN = "Copy the run again, or train again."

FORMAT = "chainrule.record/3"
SHAPES = ("groups", "modules", "trained", "max_norm")  # what a line of settings.jsonl may have
EVERY = 0.4  # seconds of training between two checkpoints, so that a replay from one takes no longer
SHARE = 0.06  # of the time may go into checkpoints
MOST = 512  # checkpoints, and bytes of them; beyond, every second one is dropped
MOST_BYTES = 2**29
MOST_MISSING = 2**28  # bytes of rows for steps that are missing: what claims more is damaged
MOST_HEAD = 2**26  # bytes of record.json
MOST_ROWS = 2**34  # bytes of steps.bin
MOST_SETTINGS = 2**28  # bytes of settings.jsonl
MOST_GROUPS = 10_000
_CHECKPOINT = re.compile(r"[0-9]{8,15}\.safetensors")


def row_type(groups: int) -> np.dtype[Any]:
    """A row of steps.bin, for an optimizer with so many groups; a rate that there was not is NaN."""
    rates = (("rates", "<f8", (groups,)), ("given", "<f8", (groups,)))
    return np.dtype([("step", "<i8"), ("loss", "<f8"), ("print", "<i8"), *rates])


class Temporary:
    """A folder that goes when nobody holds this object any more."""

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp(prefix="chainrule-run-")
        self._end = weakref.finalize(self, shutil.rmtree, self.name, ignore_errors=True)


class Record:
    """The folder of one record, open for reading; `Recorder` writes it.

    Attributes:
        header: what record.json holds.

    Raises:
        DamagedFileError: there is no record, it cannot be read, or another version made it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(text_of(folder))
        self.root = self.folder / "record"
        self.temporary: Temporary | None = None  # keeps a folder of our own alive
        self.data: tuple[Any, ...] | None = None  # the rows, where they are at hand
        self.opened: Any = None  # the run that was made of it last
        self.header = self._read_header()

    def _read_header(self) -> dict[str, Any]:
        path = self.root / "record.json"
        try:
            text = read_whole(path, "the head of a record", MOST_HEAD)
        except MissingFileError:
            raise MissingFileError(
                f"{self.folder}: this folder holds no record of a training. Name a run folder that "
                f"`chainrule train` or fit(..., record=folder) wrote."
            ) from None
        header = Fields(parse(text, str(path), _AGAIN), str(path), _AGAIN)
        found = header.value.get("format")
        if found != FORMAT:
            raise DamagedFileError(
                f"{path}: the record has the format {short(found)}, written by chainrule "
                f"{short(header.value.get('chainrule', 'unknown')).strip(chr(39))}; this version reads "
                f"{FORMAT!r}. Read it with the version that wrote it, or train again."
            )
        for name in ("chainrule", "optimizer", "loss", "model", "data", "training"):
            header.text(name)
        rows = header.whole("rows", 1)
        header.whole("batch_size", 1, rows)
        header.whole("seed", 0, 2**64 - 1)
        header.whole("first")
        header.whole("groups", 1, MOST_GROUPS)
        header.flag("shuffle")
        header.value["drop_last"] = header.has("drop_last") and header.flag("drop_last")  # older records have none
        return header.value

    # ---------------------------------------------------------------- reading

    @property
    def row_type(self) -> np.dtype[Any]:
        """What a row of steps.bin is here."""
        return row_type(self.header["groups"])

    def rows(self) -> Array:
        """The rows of the finished steps, as they are on disk.

        Raises:
            DamagedFileError: they do not count upwards.
        """
        path, kind, first = self.root / "steps.bin", self.row_type, self.header["first"]
        data = read_whole(path, "the rows of a record", MOST_ROWS, missing=b"")
        rows = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
        rows = rows[: _written(rows)]
        steps = rows["step"]
        wrong = np.flatnonzero(np.r_[steps[:1] < first, steps[1:] <= steps[:-1]])
        if len(wrong):
            raise DamagedFileError(
                f"{path}: row {wrong[0]} says that it is of step {steps[wrong[0]]}, which it cannot be. {_AGAIN}"
            )
        return rows

    def steps(self) -> Array:
        """A row for each step from the first to the last, with ``known``: False, and NaN, for those that are missing.

        Raises:
            DamagedFileError: what is on disk cannot be rows of steps.
        """
        rows, first = self.rows(), self.header["first"]
        kind = np.dtype([*((name, self.row_type[name]) for name in self.row_type.names or ()), ("known", "?")])
        count = int(rows["step"][-1]) - first + 1 if len(rows) else 0
        if (count - len(rows)) * kind.itemsize > MOST_MISSING:
            raise DamagedFileError(f"{self.root / 'steps.bin'}: {count - len(rows):,} steps are missing. {_AGAIN}")
        found = np.zeros(count, kind)
        found["step"] = np.arange(first, first + count)
        for name in ("loss", "rates", "given"):
            found[name] = np.nan
        at = rows["step"] - first
        for name in self.row_type.names or ():
            found[name][at] = rows[name]
        found["known"][at] = True
        return found

    def settings(self) -> dict[int, dict[str, Any]]:
        """What shaped the steps from each of these on: ``groups``, ``modules``, ``trained``, ``max_norm``.

        Raises:
            DamagedFileError: it cannot be read.
        """
        path = self.root / "settings.jsonl"
        found: dict[int, dict[str, Any]] = {}
        known: dict[str, Any] = {}
        data = read_whole(path, "the settings of a record", MOST_SETTINGS, missing=b"")
        for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines()):  # the last may be half written
            where = f"{path}: line {number + 1}"
            entry = Fields(parse(line, where, _AGAIN), where, _AGAIN)
            entry.names(("step", *SHAPES))
            known = {**known, **entry.value}
            shaped = Fields(known, where, _AGAIN)
            for group in shaped.items("groups", kind="a list of the settings of each group"):
                Fields(group, f"{where}: groups", _AGAIN).number("lr")
            found[entry.whole("step", max(found, default=0))] = {name: shaped.required(name) for name in SHAPES}
        return found

    def check_whole(self) -> None:
        """Raise where a file is missing that a record with these checkpoints or rows must have.

        Raises:
            DamagedFileError: the rows of its steps are gone, or what shaped them.
        """
        later = any(step > self.header["first"] for step in self.checkpoints())
        for name, there, what in (
            ("steps.bin", later, "there are checkpoints of later steps"),
            ("settings.jsonl", len(self.rows()) > 0, "steps are recorded"),
        ):
            if there and not (self.root / name).exists():
                raise MissingFileError(f"{self.root / name}: there is no such file, though {what}. {_AGAIN}")

    def checkpoints(self) -> list[int]:
        """The steps before which there is a checkpoint."""
        names = (path.name for path in (self.root / "checkpoints").glob("*.safetensors"))
        return sorted(int(name.partition(".")[0]) for name in names if _CHECKPOINT.fullmatch(name))

    def checkpoint(self, step: int) -> Path:
        """The file of a checkpoint."""
        return self.root / "checkpoints" / f"{step:08d}.safetensors"


class Recorder(Record):
    """Writes the record of a training as it runs.

    Args:
        folder: where; None makes a temporary folder that goes with this object.
        header: what to store about the training.
        save: writes everything a training needs to go on from here to a file.
        step: how many steps are done.
        resume: go on with the record in the folder, if there is one; what it has beyond `step` is dropped.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        header: dict[str, Any],
        save: Callable[[Path], None],
        step: int = 0,
        resume: bool = False,
    ) -> None:
        try:
            temporary = Temporary() if folder is None else None
            self._begin(Path(temporary.name if temporary is not None else folder or "."), header, save, step, resume)
            self.temporary = temporary
        except OSError as error:
            raise (
                error if isinstance(error, ChainruleError) else unwritable(folder or "a temporary folder", error)
            ) from None

    def _begin(
        self, folder: Path, header: dict[str, Any], save: Callable[[Path], None], step: int, resume: bool
    ) -> None:
        old: dict[str, Any] | None = None
        with suppress(MissingFileError):
            old = Record(folder).header
        if old is not None:
            _check_same(folder, old, header, resume)
        os.makedirs(folder / "record" / "checkpoints", exist_ok=True)
        first = min(old["first"], step) if old is not None else step
        content = {"format": FORMAT, **header, "first": first}
        write_whole(folder / "record" / "record.json", json.dumps(content, indent=2, sort_keys=True).encode())
        super().__init__(folder)
        self.save = save
        self.noted: dict[str, Any] = {}  # the settings that are on disk
        self._cut(step, old is not None)
        self.spent = 0.0  # seconds that checkpoints took
        self.began = self.latest = time.perf_counter()
        self.write_checkpoint(step)

    def _cut(self, step: int, any_of_it: bool) -> None:
        """Drop what is of `step` or later, or all there is."""
        rows = self.rows() if any_of_it else np.empty(0, self.row_type)
        write_whole(self.root / "steps.bin", rows[rows["step"] < step].tobytes(), durable=False)
        kept = {at: found for at, found in self.settings().items() if at < step} if any_of_it else {}
        text = "".join(json.dumps({"step": at, **found}) + "\n" for at, found in kept.items())
        write_whole(self.root / "settings.jsonl", text.encode(), durable=False)
        for at in self.checkpoints():
            if at > step or not any_of_it:
                self.checkpoint(at).unlink()

    # ---------------------------------------------------------------- writing

    def note(self, step: int, settings: Settings, found: Measured, given: Array | None) -> None:
        """Some finished steps, from step `step` on, and the settings with which they began."""
        self._note_settings(step, settings)
        rows = np.empty(len(found.values), self.row_type)
        rows["step"] = np.arange(step, step + len(rows))
        rows["loss"], rows["print"] = found.values[:, 0], found.prints
        rows["rates"] = self._columns(found.rates)
        rows["given"] = np.nan if given is None else self._columns(given[: len(rows)])
        append(self.root / "steps.bin", rows.tobytes())

    def _note_settings(self, step: int, settings: Settings) -> None:
        """What changed since the line before."""
        everything = settings.as_dict()  # but the schedules: the rates they gave are here
        plain = json.loads(json.dumps({key: everything[key] for key in SHAPES}, default=float))
        changed = {key: value for key, value in plain.items() if value != self.noted.get(key, self)}
        if changed:
            append(self.root / "settings.jsonl", (json.dumps({"step": step, **changed}) + "\n").encode())
            self.noted = plain

    def _columns(self, rates: Array) -> Array:
        """As many groups as the record has."""
        columns = np.full((len(rates), int(self.header["groups"])), np.nan)
        shared = min(columns.shape[1], rates.shape[1])
        columns[:, :shared] = rates[:, :shared]
        return columns

    def maybe_checkpoint(self, step: int) -> None:
        """A checkpoint, if enough time has passed since the last."""
        now = time.perf_counter()
        if now - self.latest >= EVERY and self.spent < SHARE * (now - self.began):
            self.write_checkpoint(step)

    def write_checkpoint(self, step: int) -> None:
        """A checkpoint now."""
        before = time.perf_counter()
        path = self.checkpoint(step)
        self.save(path)
        there = self.checkpoints()
        if len(there) > max(2, min(MOST, MOST_BYTES // path.stat().st_size)):
            for dropped in there[1:-1:2]:
                self.checkpoint(dropped).unlink()
        self.latest = time.perf_counter()
        self.spent += self.latest - before


def _written(rows: Array) -> int:
    """How many rows there are without those at the end that are nothing but zeros."""
    if len(rows) == 0 or rows[-1:].tobytes().strip(b"\0"):
        return len(rows)
    filled = np.flatnonzero(rows.view(np.uint8).reshape(len(rows), -1).any(axis=1))
    return int(filled[-1]) + 1 if len(filled) else 0


def _check_same(folder: Path, old: dict[str, Any], new: dict[str, Any], resume: bool) -> None:
    """Raise unless the record that is there is of the training that goes on."""
    name = os.fspath(folder)
    if not resume or old["training"] != new["training"]:
        raise SettingError(
            f"fit: record={name!r} holds the record of another training already. Name a new folder"
            f"{'' if resume else ', or go on with that training with resume=True'}."
        )
    if old["data"] != new["data"]:
        raise SettingError(
            f"fit: record={name!r} is of other rows (their hash differs). Go on with the rows that it was begun with, or "
            f"name a new folder."
        )


def describe(session: Session, rows: Any) -> dict[str, Any]:
    """What record.json says about a training on these trees of arrays."""
    position, model, optimizer = session.position, session.model, session.optimizer
    names = {name: list(p.shape) for name, p in model.named_parameters()}
    return {
        "chainrule": __version__, "optimizer": type(optimizer).__name__, "loss": name_of(session.loss),
        "training": session.identity, "groups": len(optimizer.param_groups), "model": str(model), "parameters": names, "data": digest(*trees.leaves(rows)),
        **({} if position is None else {k: getattr(position, k) for k in ("rows", "batch_size", "seed", "shuffle", "drop_last")}),
    }  # fmt: skip


def digest(*arrays: Array) -> str:
    """A name for the contents of arrays."""
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        total.update(f"{array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
