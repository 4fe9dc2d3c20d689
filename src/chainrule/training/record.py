"""The record of a training: sparse exact checkpoints, and one line a step. Together they bring back any step.

    FOLDER/record/
      record.json                 what was trained on what, and by which version
      steps.bin                   for each step: its loss (float64) and the fingerprint of the weights before it (int64)
      settings.jsonl              the optimizer's settings, whenever they changed: {"step": s, "groups": [...]}
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
from chainrule.optim import Optimizer
from chainrule.version import __version__

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer

Array = np.ndarray[Any, Any]
Groups = list[dict[str, Any]]

FORMAT = "chainrule.record/1"
STEP = np.dtype([("loss", "<f8"), ("print", "<i8")])
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

    def settings(self) -> dict[int, Groups]:
        """The optimizer's settings from each of these steps on."""
        found = {}
        try:
            lines = (self.root / "settings.jsonl").read_text(encoding="utf-8").splitlines()
            for line in lines:
                entry = json.loads(line)
                found[int(entry["step"])] = entry["groups"]
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError) as error:
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
        self.groups: Groups | None = None
        self._cut(step - first)
        self.spent = 0.0  # seconds that checkpoints took
        self.began = self.latest = time.perf_counter()
        self.write_checkpoint(step)

    def _cut(self, steps: int) -> None:
        """Drop what comes after `steps` recorded steps."""
        with open(self.root / "steps.bin", "ab") as file:
            file.truncate(min(file.tell(), steps * STEP.itemsize))
        first = self.header["first"]
        for step in self.checkpoints():
            if step > first + steps:
                self.checkpoint(step).unlink()
        kept = {step: groups for step, groups in self.settings().items() if step < first + steps}
        text = "".join(json.dumps({"step": step, "groups": groups}) + "\n" for step, groups in kept.items())
        write_whole(self.root / "settings.jsonl", text.encode())

    # ---------------------------------------------------------------- writing

    def note_settings(self, step: int, groups: Groups) -> None:
        """The settings with which step `step` begins; written where they differ from the last."""
        if groups != self.groups:
            self.groups = groups
            with open(self.root / "settings.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "groups": groups}) + "\n")

    def note_steps(self, losses: Array, prints: Array) -> None:
        """Some finished steps."""
        lines = np.empty(len(losses), STEP)
        lines["loss"], lines["print"] = losses, prints
        with open(self.root / "steps.bin", "ab") as file:
            file.write(lines.tobytes())

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


def settings_of(optimizer: Optimizer) -> Groups:
    """The settings of each parameter group, as JSON has them."""
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    plain: Groups = json.loads(json.dumps(groups, default=float))
    return plain


def describe(trainer: Trainer, x: Array, y: Array) -> dict[str, Any]:
    """What record.json says about a training."""
    position = trainer.position
    names = {name: list(p.shape) for name, p in trainer.model.named_parameters()}
    return {
        "chainrule": __version__, "optimizer": type(trainer.optimizer).__name__, "loss": name_of(trainer.loss),
        "model": str(trainer.model), "parameters": names, "max_norm": trainer.max_norm, "data": digest(x, y),
        **({} if position is None else {k: getattr(position, k) for k in ("rows", "batch_size", "seed", "shuffle")}),
    }  # fmt: skip


def digest(*arrays: Array) -> str:
    """A name for the contents of arrays."""
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        total.update(f"{array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()
