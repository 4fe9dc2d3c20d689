"""The training of a run on a table, from its configuration: which rows, which pipeline, which network."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import chainrule.nn.functional as F
from chainrule import optim
from chainrule.data.scaling import ONE_HOT
from chainrule.data.sources import Dataset, Part
from chainrule.data.table import Leak, Table, TablePipeline, encoding, kinds, leaks, read_table, split_rows, values
from chainrule.errors import DamagedFileError, DataError
from chainrule.files.document import Fields, short
from chainrule.files.reading import opened
from chainrule.tensor.random import Generator, drawing_from
from chainrule.training.configuration import hidden_units, network, scheduled
from chainrule.training.realmlp import Arranged
from chainrule.training.recipe import Layout, Recipe, built, recipe
from chainrule.training.trainer import Trainer

PIPELINE = "pipeline.json"
_CHUNK = 1 << 20
Array = np.ndarray[Any, Any]

#: What a run on a table takes where nothing is said; epochs, batches and dropout go by the number of rows.
DEFAULTS: dict[str, Any] = {
    "noise": 0.0, "label_smoothing": 0.0, "optimizer": "adamw", "hidden": "128,128", "lr": 1e-3,
}  # fmt: skip
VALIDATION = 0.2  # of the rows to train on, by which a preset chooses the best epoch
WEIGHT_DECAY = 0.3  # of adamw, by which each weight shrinks times the rate
#: What configurations of both kinds of runs have.
SHARED = (
    "epochs", "batch_size", "lr", "optimizer", "hidden", "dropout", "noise", "label_smoothing", "schedule", "activation", "seed",
    "drop_last",
)  # fmt: skip
_BATCHES = ((1_000, 32), (10_000, 64), (50_000, 128))  # rows up to which a batch has so many
_EPOCHS = (10, 200)
_FEW = 3_000  # rows up to which dropout is 0.3 and not 0.1
_STEPS, _MOST_STEPS = 1_500, 30_000  # steps, one more for every two rows, and how many at most


def usual(rows: int) -> dict[str, Any]:
    """The batch size, the epochs and the dropout for so many rows to train on.

    Few rows are learned by heart in many steps, so those have fewer, and more noise. Tried on 22 sets of 88 to 10,000 rows.

    Example:
        >>> usual(300), usual(1_000_000)
        ({'batch_size': 32, 'epochs': 176, 'dropout': 0.3}, {'batch_size': 256, 'epochs': 10, 'dropout': 0.1})
    """
    batch = next((size for most, size in _BATCHES if rows <= most), 256)
    epochs = int(np.clip(round(min(_STEPS + rows / 2, _MOST_STEPS) * batch / rows), *_EPOCHS))
    return {"batch_size": batch, "epochs": epochs, "dropout": 0.3 if rows <= _FEW else 0.1}


PRESETS = ("tabular", "tabular_log_loss", "tabular_full")
#: What a preset sets and nobody else does.
OF_PRESET = ("optimizer", "schedule", "dropout", "noise", "scaling", "weight_decay", "drop_last")


def preset_scaling(preset: str) -> str:
    """How a preset has columns scaled; in the full form, of many levels each becomes a vector."""
    return "robust_few" if preset == "tabular_full" else "robust_all"


def usual_of(asked: dict[str, Any], table: Table) -> dict[str, Any]:
    """The settings of a preset's recipe for the task that the target of a table says, as a configuration has them."""
    pipeline = TablePipeline(asked["target"], asked["task"])
    table.check_names(asked["target"])
    known = pipeline.known(table)
    if not known.any():
        raise _no_target(asked, table)
    task = pipeline.guessed(table.rows(known) if not known.all() else table)[0].task
    chosen = recipe(asked["preset"], task)
    return {
        "epochs": chosen.epochs, "batch_size": chosen.batch_size, "lr": chosen.lr, "activation": chosen.activation,
        "hidden": ",".join(map(str, chosen.hidden)), "label_smoothing": chosen.label_smoothing, "drop_last": True,
        "optimizer": "adam", "schedule": "waves", "dropout": 0.0, "noise": 0.0,
    }  # fmt: skip


def _no_target(asked: dict[str, Any], table: Table) -> DataError:
    return DataError(
        f"{table.name}: the target {', '.join(asked['target'])} is missing in every row. Name another column."
    )


@dataclass(frozen=True)
class TableData(Dataset):
    """A table as it is trained on.

    Attributes:
        table: all rows that have a target.
        pipeline: fitted on the rows to train on.
        rows: the numbers of the rows to train on, and of those held out, in `table`.
        dropped: rows without a target, which were left out.
        leaks: columns that give the target away.
        group: the column by which rows are held out together, if there is one.
        validation: rows to choose the best epoch by, where a preset keeps it; none of those to train on or to test with.
    """

    table: Table
    pipeline: TablePipeline
    rows: tuple[Array, Array]
    dropped: int
    leaks: list[Leak]
    group: str | None
    validation: Part | None = None


def digest(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file."""
    found = hashlib.sha256()
    with opened(path, "a table") as (file, _):
        while part := file.read(_CHUNK):
            found.update(part)
    return found.hexdigest()


def checked(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What a configuration says of its table; every setting is what it must be.

    Raises:
        DamagedFileError: some are not.
    """
    found = Fields(config["table"], f"{path}: table", "Correct it, or train again.")
    for name in ("file", "sha256", "scaling"):
        found.text(name)
    for name in ("target", "drop"):
        found.items(name, lambda v: isinstance(v, str), "a list of names")
    for name, kind in found.fields("kinds").value.items():
        if kind not in kinds.KINDS:
            found.refuse(f"kinds: {short(name)}", f"one of {', '.join(kinds.KINDS)}", kind)
    check_reading(found.fields("reading"))
    for name in ("task", "group", "time", "date_format"):
        if (
            found.has(name) or name not in found.names()
        ):  # null says that there is none; a name that is gone says nothing
            found.text(name)
    found.whole("max_categories", 2)
    found.whole("min_frequency", 1)
    if found.number("weight_decay") < 0:
        found.refuse("weight_decay", "0 or more", found.number("weight_decay"))
    found.value.setdefault("preset", None)  # runs of before there were presets
    if found.has("preset") and found.text("preset") not in PRESETS:
        found.refuse("preset", " or ".join(PRESETS), found.text("preset"))
    if not 0 < found.number("test_size") < 1:
        found.refuse("test_size", "a share between 0 and 1", found.number("test_size"))
    return found.value


def check_reading(found: Fields) -> None:
    """Raise for what is no setting of how a file is read."""
    found.names({"delimiter", "encoding", "header", "decimal", "skip_rows"})
    for name in found.names():
        if name == "header":
            found.flag(name)
        elif name == "skip_rows":
            found.whole(name)
        else:
            found.text(name)


def load(config: dict[str, Any], folder: Path | None = None) -> TableData:
    """The rows of a run, encoded by the pipeline that its folder keeps, or by one that is fitted now.

    Raises:
        DataError: the file is not the one that the run was trained on.
        DamagedFileError: it cannot be read.
    """
    asked = checked((folder or Path()) / "config.json", config)
    path = Path(asked["file"])
    if digest(path) != asked["sha256"]:
        raise DataError(
            f"{path} has changed since this run was trained on it. Bring the file back, or train a new run on it."
        )
    return prepare(config, read_table(path, **asked["reading"]), folder)


def prepare(config: dict[str, Any], table: Table, folder: Path | None = None) -> TableData:
    """The rows of a table, split and encoded as the configuration of a run says."""
    asked = config["table"]
    drop = [*asked["drop"], *([asked["group"]] if asked["group"] else [])]
    pipeline = TablePipeline(
        asked["target"], asked["task"], asked["kinds"], drop, asked["scaling"], asked["max_categories"],
        asked["min_frequency"], asked["date_format"],
    )  # fmt: skip
    table.check_names([*asked["target"], *filter(None, (asked["group"], asked["time"]))])
    known = pipeline.known(table)
    if not known.any():
        raise _no_target(asked, table)
    whole = table.rows(known) if not known.all() else table
    train, test = _split(config, whole, pipeline, asked["test_size"])
    chosen: Table | None = None
    if asked["preset"] is not None:
        part, held_out = _split(config, whole.rows(train), pipeline, VALIDATION)
        train, chosen = train[part], whole.rows(train[held_out])
    rows = whole.rows(train)
    kept = folder / PIPELINE if folder is not None else None
    pipeline = TablePipeline.load(kept) if kept is not None and kept.exists() else pipeline.fit(rows)
    classes = pipeline.classes_
    return TableData(
        name=str(config["dataset"]), train=_part(pipeline, rows), test=_part(pipeline, learned(pipeline, whole.rows(test))),
        feature_names=pipeline.get_feature_names_out(), class_names=[] if classes is None else [str(c) for c in classes],
        image_shape=None, description=f"{asked['file']}: {', '.join(asked['target'])}", table=whole, pipeline=pipeline,
        rows=(train, test), dropped=int((~known).sum()), leaks=leaks(pipeline, rows), group=asked["group"],
        validation=None if chosen is None else _part(pipeline, learned(pipeline, chosen)),
    )  # fmt: skip


def _part(pipeline: TablePipeline, rows: Table) -> Part:
    return Part(pipeline.encoded(rows), pipeline.target(rows))


def learned(pipeline: TablePipeline, rows: Table) -> Table:
    """The rows whose class was among those trained on: of another one nothing can be measured."""
    known = of_known_classes(pipeline, rows)
    if not known.any():
        raise DataError(
            f"{rows.name}: no held out row has a class that is among the rows to train on. Split in another way (--group, "
            f"--time, --test-size)."
        )
    return rows if known.all() else rows.rows(known)


def of_known_classes(pipeline: TablePipeline, rows: Table) -> Array:
    """A mask of the rows whose class was among those trained on; all of them where the target is a number."""
    if pipeline.task_ == "regression":
        return np.ones(len(rows), bool)
    return np.asarray(pipeline.targets_[0].codes(rows[pipeline.targets_[0].name]) >= 0)


def _split(config: dict[str, Any], table: Table, pipeline: TablePipeline, share: float) -> tuple[Array, Array]:
    asked = config["table"]
    groups = _codes(table[asked["group"]]) if asked["group"] else None
    times = _times(table, asked["time"]) if asked["time"] else None
    labels = None
    if groups is None and times is None and len(asked["target"]) == 1:
        target = pipeline.guessed(table)[0]
        labels = target.codes(table[target.name]) if target.task == "classification" else None
    return split_rows(len(table), share, config["seed"], labels, groups, times)


def _codes(series: pl.Series) -> Array:
    return np.unique(values.texts(series).fill_null("").to_numpy().astype(str), return_inverse=True)[1]


def _times(table: Table, name: str) -> Array:
    column = kinds.guess(table[name], table.written)
    if column.kind == "datetime":
        return values.moments(table[name], column.reading)
    reading, _ = values.number_reading(table[name], table.written)
    if reading is None:
        raise DataError(
            f"{table.name}: --time {name}: its values are neither dates nor numbers. Name a column that has them."
        )
    return values.numbers(table[name], reading)


def build(config: dict[str, Any], pipeline: TablePipeline, X: Array | None = None) -> Trainer:
    """The untrained network of a run, its optimizer, its schedule and its loss.

    Args:
        config: of the run.
        pipeline: what its columns become.
        X: the rows to train on, encoded; None where it is not to be trained.
    """
    inputs = len(pipeline.get_feature_names_out())
    X = np.zeros((config["batch_size"], inputs), np.float32) if X is None else X
    if config["table"]["preset"] is not None:
        chosen, measured = (
            preset_of(config, pipeline.task_),
            "accuracy" if pipeline.task_ == "classification" else "mae",
        )
        layout = arranged(pipeline) if chosen.full else Layout(inputs)
        return built(chosen, layout, pipeline.n_outputs_, X, config["seed"], metrics=(measured,))
    kind: Any = optim.by_name(config["optimizer"])
    with drawing_from(Generator(config["seed"])):
        model = network(config, inputs, pipeline.n_outputs_)
    optimizer = kind(model.parameters(), lr=config["lr"], weight_decay=config["table"]["weight_decay"])
    schedule = scheduled(config, optimizer, len(X))
    if pipeline.task_ == "regression":
        return Trainer(model, F.mse_loss, optimizer, ["mae"], scheduler=schedule)
    loss = partial(F.cross_entropy, label_smoothing=config["label_smoothing"])
    return Trainer(model, loss, optimizer, ["accuracy"], scheduler=schedule)


def arranged(pipeline: TablePipeline) -> Layout:
    """What the full recipe makes of the columns of a pipeline: numbers and moments get waves of their own, many levels vectors."""
    numbers: list[int] = []
    plain: list[int] = []
    levels: list[range] = []
    for encoder, span in pipeline.spans():
        if not isinstance(encoder, encoding.Categorical):
            numbers.append(span[0])
            plain += span[1:]
        elif len(encoder.levels) > ONE_HOT:
            levels.append(span)
        else:
            plain += span
    sizes = [len(span) for span in levels]
    first = Arranged([*numbers, *plain], [span[0] for span in levels], sizes)
    return Layout(len(numbers), len(plain), tuple(size + 1 for size in sizes), first)


def preset_of(config: dict[str, Any], task: str) -> Recipe:
    """The recipe of a run with a preset, as its configuration has it."""
    return recipe(config["table"]["preset"], task).changed(
        hidden=tuple(hidden_units(str(config["hidden"]))),
        **{name: config[name] for name in ("activation", "epochs", "batch_size", "lr", "label_smoothing")},
    )


def watched(config: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """What the ``fit`` of a run with a preset is validated on and watched by; nothing of one without."""
    if not isinstance(data, TableData) or data.validation is None:
        return {}
    stopping = preset_of(config, data.pipeline.task_).stopping(len(data.validation.y))
    return {"validation_data": data.validation, "callbacks": [stopping]}


def kept_pipeline(folder: Path) -> TablePipeline:
    """The pipeline of a run folder.

    Raises:
        DamagedFileError: it is missing or damaged.
    """
    path = folder / PIPELINE
    if not path.exists():
        raise DamagedFileError(
            f"{folder}: there is no {PIPELINE} in it, without which no row can be encoded. Train again."
        )
    return TablePipeline.load(path)
