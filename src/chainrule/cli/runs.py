"""Run folders: the model, the history, the curves and the configuration that repeats it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import click
import numpy as np

import chainrule.nn.functional as F
from chainrule import nn
from chainrule.cli.curves import draw
from chainrule.errors import DamagedFileError, NonFiniteError, SettingError
from chainrule.files.writing import write_whole
from chainrule.training.callbacks import Callback
from chainrule.training.checkpoints import load_file, save_file
from chainrule.training.configuration import build, read_config
from chainrule.training.history import History
from chainrule.training.trainer import Trainer


def train(config: dict[str, Any], folder: Path, shown: IO[str], record: bool, report: bool) -> dict[str, Any]:
    """Train, write the run, and say how it went; a training that stops at a NaN is written too."""
    from chainrule.data import load

    data = load(config["dataset"])
    trainer = build(config)
    click.echo(str(nn.summary(trainer.model, (config["batch_size"], data.train.X.shape[1]))), file=shown)
    plain = measured_plainly(trainer)  # without smoothing, so that losses compare with those of others
    before = plain.evaluate(*data.train)["loss"]
    try:
        history = trainer.fit(
            *data.train, epochs=config["epochs"], batch_size=config["batch_size"], validation_data=data.test,
            seed=config["seed"], callbacks=[_Begun(folder, config)], progress=shown,
            record=folder if record else False,
        )  # fmt: skip
    except NonFiniteError as error:
        write(folder, trainer, trainer.history)
        raise NonFiniteError(f"{error} They are in {folder}.") from None
    write(folder, trainer, history)
    if report:
        from chainrule.explain.verify import rules

        trainer.report(
            folder / "report.html", title=f"{data.name}, {folder.name}", class_names=data.class_names,
            image_shape=data.image_shape, checks=rules(),
        )  # fmt: skip
    trained, tested = plain.evaluate(*data.train), plain.evaluate(*data.test)
    return {
        "loss_before": before, "train_loss": trained["loss"], "test_loss": tested["loss"],
        "test_accuracy": tested["accuracy"], "epochs": history.epochs, "steps": history.steps,
        "interrupted": history.interrupted, "run": str(folder),
    }  # fmt: skip


class _Begun(Callback):
    """Writes the configuration when the training begins, so that `chainrule view --live` can follow."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder, self.config = folder, config

    def on_fit_start(self, trainer: Trainer) -> None:
        write_config(self.folder, self.config)


def measured_plainly(trainer: Trainer) -> Trainer:
    """The same model under the loss without label smoothing."""
    return Trainer(trainer.model, F.cross_entropy, trainer.optimizer, ["accuracy"])


def choices(repeat: str | None, options: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The configuration of a run: the options, or all of them as another run's config.json has them.

    What a file says is held to the same types and ranges as what the command line says.
    """
    if repeat is None:
        if options["dataset"] is None:
            raise SettingError("train: name a data set (digits), or a run to repeat with --config RUN/config.json.")
        return options
    saved = read_config(Path(repeat))
    if options["dataset"] not in (None, saved["dataset"]):
        raise SettingError(
            f"train: --config repeats a run on {saved['dataset']!r}, got {options['dataset']!r}. Name one."
        )
    kinds = {parameter.name: parameter for parameter in context.command.params}
    try:
        return {name: kinds[name].type_cast_value(context, str(saved[name])) for name in options}
    except click.BadParameter as error:
        name = error.param.name if error.param is not None else ""
        raise DamagedFileError(f"{repeat}: {name}: {error.message} Correct it, or leave --config out.") from None


@contextmanager
def new_folder(out: str | None, dataset: str) -> Iterator[Path]:
    """An empty folder for a run, made before the training so that none is lost; an existing run is never overwritten.

    If the training fails before anything is written, the folder goes again.
    """
    if out is None:
        number = 1
        while (Path("runs") / f"{dataset}-{number}").exists():
            number += 1
        out = str(Path("runs") / f"{dataset}-{number}")
    folder = Path(out)
    try:
        if folder.exists() and any(folder.iterdir()):
            raise SettingError(f"--out {folder}: the folder is not empty. Name another one, or remove it.")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").touch()
        (folder / "model.safetensors").unlink()
    except OSError as error:
        raise SettingError(f"--out {folder}: cannot be written ({error.strerror}). Name another folder.") from None
    try:
        yield folder
    except BaseException:
        with suppress(OSError):
            folder.rmdir()  # only an empty one goes
        raise


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """What repeats the run."""
    from chainrule import __version__

    text = json.dumps({**config, "chainrule": __version__}, indent=2, sort_keys=True)
    write_whole(folder / "config.json", text.encode())


def write(folder: Path, trainer: Trainer, history: History) -> None:
    """Everything that a finished run has, each file whole or not at all; the weights last."""
    write_whole(folder / "history.json", history.to_json().encode())
    write_whole(folder / "curves.svg", draw(history).encode())
    save_file(trainer.model.state_dict(), folder / "model.safetensors")


def read(folder: Path) -> tuple[Trainer, dict[str, Any]]:
    """The trained network of a run folder, and its configuration."""
    config = read_config(folder / "config.json")
    trainer = build(config)
    tensors, _ = load_file(folder / "model.safetensors")
    trainer.model.load_state_dict(tensors)
    return trainer, config


def repeated(folder: Path) -> tuple[Trainer, bool]:
    """The training of a run folder once more, and whether it ended in the weights that are stored there.

    Raises:
        DamagedFileError: the folder holds no run, or a damaged one.

    A run that stopped at a value that is not finite is repeated as far as it went.
    """
    config = read_config(folder / "config.json")
    stored, _ = load_file(folder / "model.safetensors")
    from chainrule.data import load

    data, trainer = load(config["dataset"]), build(config)
    with suppress(NonFiniteError):
        trainer.fit(
            *data.train, epochs=config["epochs"], batch_size=config["batch_size"], validation_data=data.test,
            seed=config["seed"], progress=False,
        )  # fmt: skip
    now = trainer.model.state_dict()
    return trainer, now.keys() == stored.keys() and all(np.array_equal(now[k].numpy(), stored[k].numpy()) for k in now)
