"""The record of a training: sparse exact checkpoints, and one line a step. Together they bring back any step.

    FOLDER/record/
      record.json                 what was trained on what, and by which version
      steps.bin                   for each step: its loss (float64) and the fingerprint of the weights before it (int64)
      rates.bin                   for each step: the rate that each parameter group's update used (float64)
      given.bin                   with a schedule of every step: the rates it gave (float64); NaN where there was none
      settings.jsonl              what shapes a step, whenever some of it changed: {"step": s, "groups": [...]}, with
                                  "modules", "trained" and "max_norm" as `training.settings` has them
      checkpoints/00000120.safetensors    everything before step 120, as `Trainer.save` writes it

Steps count from 0. Checkpoints come as often as a short replay wants, and no more often than lets them cost
little beside the training; when there are too many, every second one goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import DamagedFileError, SettingError
from chainrule.files.writing import write_whole
from chainrule.nn.meaning import name_of
from chainrule.training.settings import Settings
from chainrule.version import __version__

if TYPE_CHECKING:
    from chainrule.training.session import Session
    from chainrule.training.steps import Measured

Array = np.ndarray[Any, Any]
Groups = list[dict[str, Any]]

FORMAT = "chainrule.record/2"
STEP = np.dtype([("loss", "<f8"), ("print", "<i8")])
SHAPES = ("groups", "modules", "trained", "max_norm")  # what a line of settings.jsonl may have
EVERY = 0.4  # seconds of training between two checkpoints, so that a replay from one takes no longer
SHARE = 0.06  # of the time may go into checkpoints
MOST = 512  # checkpoints, and bytes of them; beyond, every second one is dropped
MOST_BYTES = 2**29


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
        self.folder = Path(folder)
        self.root = self.folder / "record"
        self.temporary: Temporary | None = None  # keeps a folder of our own alive
        self.data: tuple[Array, Array] | None = None  # the rows, where they are at hand
        self.opened: Any = None  # the run that was made of it last
        self.header = self._read_header()

    def _read_header(self) -> dict[str, Any]:
        path = self.root / "record.json"
        try:
            header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DamagedFileError(
                f"{self.folder}: this folder holds no record of a training. Name a run folder that "
                f"`chainrule train` or fit(..., record=folder) wrote."
            ) from None
        except (OSError, ValueError) as error:
            raise DamagedFileError(f"{path}: not readable ({error}). Copy the run again, or train again.") from None
        found = header.get("format") if isinstance(header, dict) else None
        if found != FORMAT:
            version = header.get("chainrule", "unknown") if isinstance(header, dict) else "unknown"
            raise DamagedFileError(
                f"{path}: the record has the format {found!r}, written by chainrule {version}; this version reads "
                f"{FORMAT!r}. Read it with the version that wrote it, or train again."
            )
        return header

    # ---------------------------------------------------------------- reading

    def steps(self) -> Array:
        """The finished steps, as far as they are on disk: fields ``loss`` and ``print``."""
        try:
            data = (self.root / "steps.bin").read_bytes()
        except FileNotFoundError:
            data = b""
        whole = len(data) // STEP.itemsize  # a run that was killed may end within a line
        return np.frombuffer(data[: whole * STEP.itemsize], STEP)

    def rates(self, name: str = "rates.bin") -> Array:
        """The rate of each group at each finished step, float64 (steps, groups); ``given.bin``: those of schedules."""
        groups = int(self.header["groups"])
        try:
            data = (self.root / name).read_bytes()
        except FileNotFoundError:
            return np.empty((0, groups))
        whole = len(data) // (8 * groups)
        return np.frombuffer(data[: whole * 8 * groups], "<f8").reshape(whole, groups)

    def settings(self) -> dict[int, dict[str, Any]]:
        """What shaped the steps from each of these on: ``groups``, ``modules``, ``trained``, ``max_norm``."""
        found: dict[int, dict[str, Any]] = {}
        known: dict[str, Any] = {}
        try:
            lines = (self.root / "settings.jsonl").read_text(encoding="utf-8").splitlines()
            for line in lines:
                entry = json.loads(line)
                known = {**known, **entry}
                found[int(entry["step"])] = {key: known[key] for key in SHAPES}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(
                f"{self.root / 'settings.jsonl'}: not readable ({error!r}). Copy the run again, or train again."
            ) from None
        return found

    def checkpoints(self) -> list[int]:
        """The steps before which there is a checkpoint."""
        names = (path.stem for path in (self.root / "checkpoints").glob("*.safetensors"))
        return sorted(int(name) for name in names if name.isdigit())

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
        temporary = Temporary() if folder is None else None
        root = Path(temporary.name if temporary is not None else folder or ".") / "record"
        if not resume and root.exists() and any(root.iterdir()):
            raise SettingError(
                f"fit: record={os.fspath(folder or '')!r} holds the record of another training already. Name a new "
                f"folder, or go on with that training with resume=True."
            )
        (root / "checkpoints").mkdir(parents=True, exist_ok=True)
        first = Record(root.parent).header["first"] if (root / "record.json").exists() else step
        content = {"format": FORMAT, **header, "first": first}
        write_whole(root / "record.json", json.dumps(content, indent=2, sort_keys=True).encode())
        super().__init__(root.parent)
        self.temporary = temporary
        self.save = save
        self.noted: dict[str, Any] = {}  # the settings that are on disk
        self._cut(step - first)
        self.spent = 0.0  # seconds that checkpoints took
        self.began = self.latest = time.perf_counter()
        self.write_checkpoint(step)

    def _cut(self, steps: int) -> None:
        """Drop what comes after `steps` recorded steps."""
        first, row = self.header["first"], 8 * int(self.header["groups"])
        for name, size in (("steps.bin", STEP.itemsize), ("rates.bin", row), ("given.bin", row)):
            if (self.root / name).exists():
                with open(self.root / name, "ab") as file:
                    file.truncate(min(file.tell(), steps * size))
        for step in self.checkpoints():
            if step > first + steps:
                self.checkpoint(step).unlink()
        kept = {step: found for step, found in self.settings().items() if step < first + steps}
        text = "".join(json.dumps({"step": step, **found}) + "\n" for step, found in kept.items())
        write_whole(self.root / "settings.jsonl", text.encode())

    # ---------------------------------------------------------------- writing

    def note(self, step: int, settings: Settings, found: Measured, given: Array | None) -> None:
        """Some finished steps, from step `step` on, and the settings with which they began."""
        self._note_settings(step, settings)
        lines = np.empty(len(found.values), STEP)
        lines["loss"], lines["print"] = found.values[:, 0], found.prints
        self._append("rates.bin", self._columns(found.rates))
        if given is not None:
            path, groups = self.root / "given.bin", int(self.header["groups"])
            there = path.stat().st_size // (8 * groups) if path.exists() else 0
            self._append(path.name, np.full((step - self.header["first"] - there, groups), np.nan))
            self._append(path.name, self._columns(given[: len(lines)]))
        self._append("steps.bin", lines)  # last: what the others lack, this does not claim

    def _note_settings(self, step: int, settings: Settings) -> None:
        """What changed since the line before."""
        everything = settings.as_dict()  # but the schedules: the rates they gave are here
        plain = json.loads(json.dumps({key: everything[key] for key in SHAPES}, default=float))
        changed = {key: value for key, value in plain.items() if value != self.noted.get(key, self)}
        if changed:
            self.noted = plain
            with open(self.root / "settings.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **changed}) + "\n")

    def _columns(self, rates: Array) -> Array:
        """As many groups as the record has."""
        columns = np.full((len(rates), int(self.header["groups"])), np.nan)
        shared = min(columns.shape[1], rates.shape[1])
        columns[:, :shared] = rates[:, :shared]
        return columns

    def _append(self, name: str, rows: Array) -> None:
        if len(rows):
            with open(self.root / name, "ab") as file:
                file.write(rows.tobytes())

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


def describe(session: Session, x: Array, y: Array) -> dict[str, Any]:
    """What record.json says about a training."""
    position, model, optimizer = session.position, session.model, session.optimizer
    names = {name: list(p.shape) for name, p in model.named_parameters()}
    return {
        "chainrule": __version__, "optimizer": type(optimizer).__name__, "loss": name_of(session.loss),
        "groups": len(optimizer.param_groups), "model": str(model), "parameters": names, "data": digest(x, y),
        **({} if position is None else {k: getattr(position, k) for k in ("rows", "batch_size", "seed", "shuffle")}),
    }  # fmt: skip


def digest(*arrays: Array) -> str:
    """A name for the contents of arrays."""
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        total.update(f"{array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
