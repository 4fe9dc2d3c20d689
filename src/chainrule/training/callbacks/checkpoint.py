"""Checkpoint: files to go on from, and files of the best weights, written while a training runs."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chainrule.errors import SettingError
from chainrule.files.hold import Hold
from chainrule.names import renamed_keywords
from chainrule.training import resuming
from chainrule.training.callbacks.base import NEVER, Callback, Watching
from chainrule.training.callbacks.kept import number_or_none, weights_or_none, whole
from chainrule.training.checkpoints import save_file
from chainrule.training.keywords import CHECKPOINT
from chainrule.training.monitor import Monitor, as_count, as_number
from chainrule.training.snapshot import Weights

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer

WHAT = ("last", "best")
SECONDS = 10.0
SHARE = 0.02  # of the time may go into files of best weights, while they follow each other


class Checkpoint(Watching):
    """Saves the training, or its best weights, in a folder; each file is whole or not there, and has a checksum.

    ``save="last"`` writes everything that it takes to go on to the bit, as ``trainer.save`` does, every so many seconds or epochs and
    at the end; the newest `keep` files stay. ``fit(..., checkpoint=folder)`` does it, and goes on from the newest by
    itself. ``save="best"`` writes the model's ``state_dict`` of the best epoch, for ``model.load_state_dict``; in a row
    of better epochs not each gets a file, but the best always has one in the end.

    A file that cannot be written is warned of, and the training goes on.

    Args:
        folder: made if it is not there.
        save: ``"last"`` or ``"best"``.
        monitor, mode, min_delta: what makes an epoch the best, as for `EarlyStopping`.
        every: save the last after every so many epochs, instead of by time.
        seconds: save the last so often (10 unless said otherwise).
        keep: so many files stay; None: all.

    Attributes:
        best, best_epoch: with ``save="best"``, the best value and its epoch (counted from 1).
        latest: the file written last.

    Raises:
        SettingError: an argument that cannot be; at the start of a new training: the folder holds another one.

    Example:
        >>> import tempfile
        >>> checkpoint = Checkpoint(tempfile.mkdtemp(), save="best", monitor="val_accuracy")
    """

    @renamed_keywords(CHECKPOINT)
    def __init__(
        self,
        folder: str | os.PathLike[str],
        save: str = "last",
        monitor: str = "val_loss",
        mode: str = "auto",
        min_delta: float = 0.0,
        every: int | None = None,
        seconds: float | None = None,
        keep: int | None = 2,
    ) -> None:
        who = "Checkpoint"
        if save not in WHAT:
            raise SettingError(f"{who}: save must be 'last' or 'best', got {save!r}.")
        if (every is not None and seconds is not None) or (save == "best" and (every, seconds) != (None, None)):
            raise SettingError(
                f"{who}: the last are saved every so many epochs (every=) or seconds (seconds=), and the best when they "
                f"come; got save={save!r}, every={every!r}, seconds={seconds!r}. Leave one of them out."
            )
        super().__init__(Monitor(monitor, mode, min_delta, who) if save == "best" else None)
        self.folder, self.save = Path(resuming.check_name(folder)), save
        self._hold: Hold | None = None
        self.every = None if every is None else as_count(every, who, "every", 1)
        self.seconds = SECONDS if seconds is None else as_number(seconds, who, "seconds")
        self.keep = None if keep is None else as_count(keep, who, "keep", 1)
        self.reset()

    def reset(self) -> None:
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: Weights | None = None
        self.latest: Path | None = None
        self._written = -1  # the step, or the epoch of the best, that the newest file is of
        self._time = self._began = time.monotonic()
        self._spent = 0.0

    # ---------------------------------------------------------------- when

    def judge(self, epoch: int, value: float, weights: Callable[[], Weights]) -> None:
        self.judge_all(epoch, [value], lambda _: weights())

    def judge_all(self, epoch: int, values: Sequence[float], weights: Callable[[int], Weights]) -> int:
        before = self.best_epoch
        for at, value in enumerate(values, epoch):
            if self.monitor is not None and self.monitor.better(value, self.best):
                self.best, self.best_epoch = value, at
        if self.best_epoch != before:
            self.best_weights = weights(self.best_epoch - epoch)
        return len(values)

    def certain(self, epoch: int) -> int:
        return NEVER

    def on_fit_start(self, trainer: Trainer) -> None:
        resuming.make(self.folder)
        try:
            self._hold = Hold(self.folder, f".{self.save}.chainrule-lock", "Checkpoint")
        except OSError:  # a folder that cannot be written to is warned of with the first file
            self._hold = None
        found, session = resuming.files(self.folder, self.save), trainer.session
        new = not session.history.steps and session.start is not None  # a training that was loaded has no start
        if found and new:
            remedy = f"Go on with that by fit(..., checkpoint={os.fspath(self.folder)!r})"
            if self.monitor is not None:  # weights alone, with which nothing goes on
                remedy = "Take away those of weights that are no longer wanted (best-*.safetensors)"
            raise SettingError(
                f"Checkpoint: {os.fspath(self.folder)!r} holds {len(found)} file{'s' * (len(found) > 1)} of an earlier "
                f"training. {remedy}, or name a new folder."
            )
        self._time = self._began = time.monotonic()
        if new and self.every is None:
            self._write(trainer)  # the first weights, too

    def on_pause(self, trainer: Trainer) -> None:
        now = time.monotonic()
        if self.monitor is not None:
            if self._spent <= SHARE * (now - self._began):
                self._write(trainer)
        elif self.every is None and now - self._time >= self.seconds:
            self._write(trainer)

    def wants(self, epoch: int) -> bool:
        return self.every is not None and epoch % self.every == 0

    def on_epoch_end(self, trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> None:
        self._write(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self._write(trainer, last=True)

    # ---------------------------------------------------------------- what

    def _write(self, trainer: Trainer, last: bool = False) -> None:
        """A file of now, unless there is one of it."""
        number = self.best_epoch if self.monitor is not None else trainer.session.history.steps
        if (self.monitor is not None and self.best_weights is None) or (number == self._written and not last):
            return
        began, path = time.monotonic(), self.folder / resuming.name(self.save, number)
        try:
            if self.best_weights is not None:
                save_file(self._best(trainer, self.best_weights), path, self._about())
            else:
                trainer.save(path)
            self.latest, self._written = path, number
            self._drop()
        except OSError as error:
            warnings.warn(f"Checkpoint: {error} The training goes on without this file.", stacklevel=2)
        self._time = time.monotonic()
        self._spent += self._time - began

    def _best(self, trainer: Trainer, weights: Weights) -> dict[str, Any]:
        """The model's state_dict with the best weights in it."""
        names = {id(handle): name for name, handle in trainer.session.named().items()}
        own = trainer.model.state_dict(keep_vars=True)
        return {key: weights.arrays[names[id(handle)]] for key, handle in own.items() if id(handle) in names}

    def _about(self) -> dict[str, Any]:
        monitor = "" if self.monitor is None else self.monitor.name
        return {"epoch": self.best_epoch, "monitor": monitor, "value": self.best}

    def _drop(self) -> None:
        """All but the newest that are no newer than this one: what is left of a later moment is no part of this training yet."""
        found = resuming.files(self.folder, self.save)
        if self.keep is None or self.latest not in found:
            return
        for path in found[: max(0, found.index(self.latest) + 1 - self.keep)]:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._hold is not None:
            self._hold.close()

    # ---------------------------------------------------------------- state

    @property
    def kind(self) -> str:
        return f"Checkpoint of the {self.save}"

    def state_dict(self) -> dict[str, Any]:
        if self.monitor is None:
            return {}
        best = self.best_weights
        return {
            "best": self.best, "best_epoch": self.best_epoch,
            "best_weights": None if best is None else best.tensors,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        who = "Checkpoint"
        self.best, self.best_epoch = number_or_none(state, "best", who), whole(state, "best_epoch", who)
        self.best_weights = weights_or_none(state, "best_weights", who)


def with_checkpoints(callbacks: Sequence[Callback], folder: str | os.PathLike[str] | None) -> list[Callback]:
    """These, and one that writes checkpoints to the folder that ``fit(checkpoint=)`` names.

    Raises:
        SettingError: two of them write the same files.
    """
    found = [*callbacks] if folder is None else [*callbacks, Checkpoint(folder)]
    writers = [callback for callback in found if isinstance(callback, Checkpoint)]
    known: set[tuple[str, str]] = set()
    for writer in writers:
        files = os.path.realpath(writer.folder), writer.save
        if files in known:
            named = folder is not None and writer is found[-1]
            raise SettingError(
                f"fit: {os.fspath(writer.folder)!r} must be given once for the {writer.save} checkpoints of a training, got it "
                f"{'by checkpoint= and by a Checkpoint' if named else 'by two Checkpoints'} in callbacks=. Leave one of "
                f"them out, or name another folder."
            )
        known.add(files)
    return found
