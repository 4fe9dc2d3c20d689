"""Callbacks that write down what each epoch measured: a CSV file, TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

import csv
import io
import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from chainrule.errors import SettingError
from chainrule.files.writing import append, text_of, write_whole
from chainrule.training.callbacks.base import Callback

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer


class EpochLog(Callback):
    """The base of callbacks that hear of every epoch, and may hear of it somewhat later: no native call is cut for it.

    Example:
        >>> class Printed(EpochLog):
        ...     def log(self, epoch, measured):
        ...         print(epoch, measured["loss"])
    """

    _heard = 0

    def log(self, epoch: int, measured: Mapping[str, float]) -> None:
        """After some native call, for each epoch in turn (counted from 1), with what it measured."""

    def begin(self, trainer: Trainer) -> None:
        """Before the first epoch of this `fit`; where a training goes on, its history so far is there."""

    def end(self) -> None:
        """After the last."""

    def on_fit_start(self, trainer: Trainer) -> None:
        self._heard = trainer.history.epochs
        self.begin(trainer)

    def on_pause(self, trainer: Trainer) -> None:
        while self._heard < trainer.history.epochs:
            self._heard += 1
            self.log(self._heard, trainer.history.row(self._heard - 1))

    def on_fit_end(self, trainer: Trainer) -> None:
        self.on_pause(trainer)
        self.end()


class CSVLogger(EpochLog):
    """Writes a row for each epoch to a CSV file: its number, then what it measured.

    Where a training goes on, the rows of epochs that are done already stay, and later ones are written anew. A file
    that cannot be written is warned of once, and the training goes on.

    Args:
        path: the file; one that is there is replaced by a new training.
        separator: between two columns.

    Example:
        >>> import tempfile
        >>> logger = CSVLogger(tempfile.mkdtemp() + "/epochs.csv")
    """

    def __init__(self, path: str | os.PathLike[str], separator: str = ",") -> None:
        if not isinstance(separator, str) or len(separator) != 1:
            raise SettingError(f"CSVLogger: separator must be one character, got {separator!r}.")
        self.path, self.separator = text_of(path), separator
        self.file = self.path

    def begin(self, trainer: Trainer) -> None:
        self._columns: list[str] = []
        self._rows: list[dict[str, float]] = []
        self._broken = False
        history = trainer.history
        for epoch in range(history.epochs):
            self._rows.append({"epoch": epoch + 1, **history.row(epoch)})
        self._columns = list(self._rows[-1]) if self._rows else []
        self._write(self._text(self._columns, self._rows) if self._rows else "")

    def log(self, epoch: int, measured: Mapping[str, float]) -> None:
        row = {"epoch": epoch, **measured}
        self._rows.append(row)
        if list(row) != self._columns:
            self._columns = list(row)
            self._write(self._text(self._columns, self._rows))
        else:
            self._write(self._text([], [row]), added=True)

    def _text(self, head: list[str], rows: list[dict[str, float]]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        if head:
            writer.writerow(head)
        writer.writerows([row.get(name, "") for name in self._columns] for row in rows)
        return text.getvalue()

    def _write(self, text: str, added: bool = False) -> None:
        try:
            if added and not self._broken:
                append(self.path, text.encode())
            elif added:  # what could not be written before is missing
                write_whole(self.path, self._text(self._columns, self._rows).encode(), durable=False)
            else:
                write_whole(self.path, text.encode(), durable=False)
            self._broken = False
        except OSError as error:
            if not self._broken:
                warnings.warn(f"CSVLogger: {error} The training goes on.", stacklevel=2)
            self._broken = True


class TensorBoard(EpochLog):
    """Writes every measure of every epoch as a scalar for TensorBoard.

    Args:
        folder: where the event files go.
        writer: a ``SummaryWriter`` of your own, in place of one for the folder: of ``tensorboardX`` or of PyTorch.

    Raises:
        SettingError: neither of the two packages is installed.
    """

    def __init__(self, folder: str | os.PathLike[str] = "runs", writer: Any = None) -> None:
        self.folder, self.writer, self._own = os.fspath(folder), writer, writer is None
        if writer is None:
            self._kind = _found(
                "TensorBoard", ("tensorboardX", "torch.utils.tensorboard"), "tensorboardX"
            ).SummaryWriter

    def begin(self, trainer: Trainer) -> None:
        if self._own:
            self.writer = self._kind(self.folder)

    def log(self, epoch: int, measured: Mapping[str, float]) -> None:
        for name, value in measured.items():
            self.writer.add_scalar(name, value, epoch)

    def end(self) -> None:
        self.writer.close() if self._own else self.writer.flush()


class MLflow(EpochLog):
    """Logs every measure of every epoch to the active run of MLflow, or to one that it starts and ends.

    Args:
        client: what has ``log_metrics``, in place of the module ``mlflow``.

    Raises:
        SettingError: ``mlflow`` is not installed.
    """

    def __init__(self, client: Any = None) -> None:
        self.client = _found("MLflow", ("mlflow",), "mlflow") if client is None else client

    def log(self, epoch: int, measured: Mapping[str, float]) -> None:
        self.client.log_metrics(dict(measured), step=epoch)


class WandB(EpochLog):
    """Logs every measure of every epoch to Weights & Biases.

    Args:
        run: what ``wandb.init`` gave; without one, the active run, or a new one of these options.
        options: of ``wandb.init``.

    Raises:
        SettingError: ``wandb`` is not installed.
    """

    def __init__(self, run: Any = None, **options: Any) -> None:
        self.run, self.options = run, options
        self._module = _found("WandB", ("wandb",), "wandb") if run is None else None

    def begin(self, trainer: Trainer) -> None:
        if self._module is not None:
            self.run = self._module.run or self._module.init(**self.options)

    def log(self, epoch: int, measured: Mapping[str, float]) -> None:
        self.run.log({"epoch": epoch, **measured}, step=epoch)


def _found(who: str, modules: tuple[str, ...], package: str) -> Any:
    """The first of these modules that is installed."""
    for name in modules:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise SettingError(
        f"{who}: this callback needs {' or '.join(modules)}, which is not installed. Run: pip install {package}"
    )
