"""What a run of ``chainrule train`` was trained with, whatever it was trained on: a bundled data set or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chainrule.data.sources import Dataset, load
from chainrule.training import configuration
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
    return tabular.build(config, data.pipeline, len(data.train.y)), data


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
