"""What a run of ``chainrule train`` was trained with, whatever it was trained on: a bundled data set or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.data.sources import Dataset, load
from chainrule.errors import DamagedFileError
from chainrule.files.reading import MissingFileError
from chainrule.training import configuration
from chainrule.training.checkpoints import load_file
from chainrule.training.trainer import Trainer


def on_table(config: dict[str, Any]) -> bool:
    """Is it the configuration of a run on a table?"""
    return isinstance(config.get("table"), dict)


def rebuild(config: dict[str, Any], folder: Path | None = None) -> tuple[Trainer, Dataset]:
    """The untrained network of a run and its rows.

    Args:
        config: of the run.
        folder: where a pipeline may be kept.

    Raises:
        DataError, DamagedFileError: the rows are not there any more, or others.
    """
    if not on_table(config):
        return configuration.build(config), load(config["dataset"])
    from chainrule.training import tabular  # only for tables, as it needs the libraries that read them

    data = tabular.load(config, folder)
    return tabular.build(config, data.pipeline, data.train.X), data


def fitting(config: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """What the ``fit`` of a run takes beside its rows: how long, in which batches, and what is watched.

    The rows to test with are measured after each epoch, and nothing is chosen by them; a preset chooses its best epoch by
    others.
    """
    rows, size = len(data.train.y), config["batch_size"]
    options = {
        "epochs": config["epochs"], "batch_size": min(size, rows) if config["drop_last"] else size, "seed": config["seed"],
        "drop_last": config["drop_last"], "validation_data": data.test, "callbacks": [],
    }  # fmt: skip
    if not on_table(config):
        return options
    from chainrule.training import tabular

    return options | tabular.watched(config, data)


def model_of(config: dict[str, Any], folder: Path) -> Trainer:
    """The untrained network of a run, without its rows."""
    if not on_table(config):
        return configuration.build(config)
    from chainrule.training import tabular

    tabular.checked(folder / "config.json", config)
    return tabular.build(config, tabular.kept_pipeline(folder))


def trained(folder: Path) -> tuple[Trainer, dict[str, Any]]:
    """The trained network of a run folder, and its configuration.

    Raises:
        DamagedFileError: the folder holds no run, or one that did not end.
    """
    config = config_of(folder)
    trainer = model_of(config, folder)
    trainer.model.load_state_dict(weights(folder))
    return trainer, config


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of a run folder.

    Raises:
        DamagedFileError: there is no such folder, and which there are; or it holds none.
    """
    if not folder.is_dir():
        beside = sorted(str(path.parent) for path in folder.parent.glob("*/config.json"))
        there = f"There are: {', '.join(beside)}." if beside else "`chainrule train` makes one."
        raise MissingFileError(f"{folder}: there is no such run folder. {there}")
    within = sorted(str(path.parent) for path in folder.glob("*/config.json"))
    if within and not (folder / "config.json").exists():
        raise MissingFileError(f"{folder}: this is no run folder, and holds some. Name one: {', '.join(within)}.")
    return configuration.read_config(folder / "config.json")


def weights(folder: Path) -> dict[str, Any]:
    """The weights of a run, which are there once its training has ended."""
    try:
        return load_file(folder / "model.safetensors")[0]
    except MissingFileError:
        going_on = (
            f"chainrule train --resume {folder}" if (folder / "record" / "record.json").exists()
            else f"chainrule train --config {folder / 'config.json'}"
        )  # fmt: skip
        raise DamagedFileError(
            f"{folder}: there is no model.safetensors in it, so this training did not end: it still runs, or it was killed. "
            f"Bring it to its end: {going_on}."
        ) from None
