"""Runs on tables: what is guessed and said before the training, and predictions written as CSV."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
from click.core import ParameterSource

from chainrule.cli import scores
from chainrule.cli.options import reading_of
from chainrule.cli.output import Steady, fitted
from chainrule.data.named import some
from chainrule.data.sources import Dataset
from chainrule.data.table import Table, TablePipeline, kinds, read_table
from chainrule.data.table.reading import read_as_learned
from chainrule.data.table.target import Target
from chainrule.data.table.values import texts
from chainrule.deploy.bundle import Bundle
from chainrule.deploy.rows import OfTable
from chainrule.errors import DataError, SettingError, UnknownNameError
from chainrule.files.writing import write_whole
from chainrule.training import tabular
from chainrule.training.sound import check_outputs
from chainrule.training.tabular import TableData
from chainrule.training.trainer import Trainer

Array = np.ndarray[Any, Any]
_SHOWN = 6  # names in a line
_ODD = (
    "missing",
    "apart",
    "are numbers",
    "are codes",
    "are identifiers",
)  # of a reason that is worth a line of its own


def configured(options: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The configuration of a new run on a table: what was said, and what is usual for so many rows."""
    path = Path(options["dataset"])
    reading = reading_of(options)
    table = read_table(path, **reading)
    given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    asked = {
        "file": str(path.resolve()), "sha256": tabular.digest(path), "reading": reading,
        "target": list(options["target"]), "preset": options["preset"], "task": options["task"], "kinds": _kinds(options, table),
        "drop": _names(options["drop"], table), "scaling": options["scaling"], "max_categories": options["max_categories"],
        "min_frequency": options["min_frequency"], "date_format": options["date_format"],
        "test_size": options["test_size"], "group": options["group"], "time": options["time"],
    }  # fmt: skip
    decay = options["weight_decay"]
    asked["weight_decay"] = (
        decay if decay is not None else tabular.WEIGHT_DECAY if _optimizer(options, given) == "adamw" else 0.0
    )
    if not asked["target"]:
        raise SettingError(
            f"train {path}: name the column to predict: --target COLUMN. There are: {_some(table.columns)}."
        )
    if asked["preset"] is not None:
        usual = _of_preset(asked, table, given)
    else:
        usual = {**tabular.DEFAULTS, **tabular.usual(max(1, round(len(table) * (1 - asked["test_size"]))))}
    common = {name: options[name] for name in tabular.SHARED}
    return {**common, **{k: v for k, v in usual.items() if k not in given}, "dataset": path.stem, "table": asked}


def _of_preset(asked: dict[str, Any], table: Table, given: set[str]) -> dict[str, Any]:
    """What the recipe of a preset sets, for the task that the target says."""
    refused = [f"--{name.replace('_', '-')}" for name in tabular.OF_PRESET if name in given]
    if refused:
        raise SettingError(
            f"train: --preset {asked['preset']} has an optimizer, a schedule and a scaling of its own. Leave out {', '.join(refused)}."
        )
    asked |= {"scaling": tabular.preset_scaling(asked["preset"]), "weight_decay": 0.0}
    return tabular.usual_of(asked, table)


def _optimizer(options: dict[str, Any], given: set[str]) -> str:
    return str(options["optimizer"] if "optimizer" in given else tabular.DEFAULTS["optimizer"]).lower()


def _names(given: tuple[str, ...], table: Table) -> list[str]:
    """The columns that were named, each alone or several with commas; a name may have commas itself."""
    parts = ([part] if part in table else part.split(",") for part in given)
    return [name for part in parts for name in part if name]


def _kinds(options: dict[str, Any], table: Table) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in kinds.USED:
        for name in _names(options[kind], table):
            if found.setdefault(name, kind) != kind:
                raise SettingError(f"train: {name!r} was said to be {found[name]} and {kind}. Say one.")
    return found


# -- what is said ------------------------------------------------------------------------------------------


def begin(folder: Path, data: Dataset, shown: Steady) -> None:
    """Keep the pipeline in the run folder, and say what was found and guessed."""
    if isinstance(data, TableData):
        data.pipeline.save(folder / tabular.PIPELINE)
        click.echo("\n".join(map(fitted, _about(data))), file=shown.text)


def _about(data: TableData) -> list[str]:
    pipeline, name = data.pipeline, Path(data.table.name).name
    lines = [f"{name}: {len(data.table) + data.dropped:,} rows, {len(data.table.columns)} columns"]
    lines += [f"  {note}" for note in data.table.notes]
    lines += _target(data)
    used = [column for column in pipeline.columns_ if column.used]
    lines.append(f"inputs: {len(pipeline.get_feature_names_out())} from {len(used)} columns")
    for kind in kinds.USED:
        of_kind = [column.name for column in used if column.kind == kind]
        lines += [f"  {kind}: {_some(of_kind)}"] if of_kind else []
    lines += [f"  {c.name}: {c.reason}" for c in used if any(word in c.reason for word in _ODD)][:_SHOWN]
    lines += [f"  {note}" for note in pipeline.grouped()]
    lines += [f"left out: {c.name} ({c.kind}: {c.reason})" for c in pipeline.columns_ if not c.used][: 2 * _SHOWN]
    if data.group is not None:
        lines.append(f"left out: {data.group} (rows alike in it are held out together)")
    for leak in data.leaks:
        lines.append(
            f"CAUTION: {leak.name} gives the target away: alone it scores {leak.score:.2f} of 1. If it is not known when you "
            f"predict, leave it out: --drop {_quoted(leak.name)}"
        )
    train, test = data.rows
    unknown = len(test) - len(data.test.y)
    lines.append(
        f"training on {len(train):,} rows; "
        + (f"{len(data.validation.y):,} choose the best epoch; " if data.validation is not None else "")
        + f"{len(test):,} are held out to measure"
        + (f", of which {unknown:,} are left out: their class is not among those trained on" if unknown else "")
    )
    return lines


def _target(data: TableData) -> list[str]:
    lines = []
    for target in data.pipeline.targets_:
        lines.append(f"target {target.name}: {target.task} ({target.reason})")
        if target.task == "regression":
            lines.append(f"  mean {target.center:.5g}, deviation {target.scale:.5g}")
            continue
        counts = Counter(data.train.y.tolist())
        shares = [(target.classes[k], n, n / len(data.train.y)) for k, n in counts.most_common()]
        more = f" and {len(shares) - _SHOWN} more" if len(shares) > _SHOWN else ""
        lines.append("  " + ", ".join(f"{label} {n:,} ({share:.0%})" for label, n, share in shares[:_SHOWN]) + more)
        lines += _alike(target.classes)
    if data.dropped:
        lines.append(f"  {data.dropped:,} rows without a target are left out")
    return lines


def _alike(classes: tuple[str, ...]) -> list[str]:
    """What is to be said of labels that may be one, written in several ways."""
    written: dict[str, list[str]] = {}
    for label in classes:
        written.setdefault(" ".join(str(label).casefold().split()), []).append(repr(str(label)))
    several = [" and ".join(some) for some in written.values() if len(some) > 1]
    if not several:
        return []
    return [
        f"CAUTION: {_some(several)} are different labels, and differ in nothing but case or spaces: if they are one, write them alike"
    ]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 2 * _SHOWN} more" if len(names) > 2 * _SHOWN else ""
    return ", ".join(names[: 2 * _SHOWN]) + more


def _quoted(name: str) -> str:
    return f"'{name}'" if set(name) & set(" ()$&;'\"*") else name


# -- what came out -----------------------------------------------------------------------------------------


def measured(trainer: Trainer, data: Dataset) -> dict[str, Any]:
    """The usual measures on the rows held out, beside those of who always says the commonest class or the mean."""
    if not isinstance(data, TableData):
        return {}
    found = score(trainer, data.pipeline, *data.test)
    pipeline = data.pipeline
    about = {
        "task": pipeline.task_, "inputs": [c.name for c in pipeline.columns_ if c.used],
        "left_out": {c.name: f"{c.kind}: {c.reason}" for c in pipeline.columns_ if not c.used},
        "leaks": {leak.name: leak.score for leak in data.leaks},
    }  # fmt: skip
    return {**about, "test": {**found, "text": f"held out rows: {_headline(found)} ({_guessing(data)})"}}


def _headline(found: dict[str, float]) -> str:
    if "accuracy" in found:
        return f"accuracy {found['accuracy']:.2%}, balanced {found['balanced_accuracy']:.2%}"
    return f"R2 {found['r2']:.4f}, mean absolute error {found['mae']:.4g}"


def _guessing(data: TableData) -> str:
    if data.pipeline.task_ == "regression":
        return "to guess the mean: R2 0"
    commonest = int(np.bincount(data.train.y).argmax())
    return f"to guess the commonest class: {np.mean(data.test.y == commonest):.2%}"


def score(trainer: Trainer, pipeline: TablePipeline, X: Array, y: Array) -> dict[str, float]:
    """The usual measures of a network on rows."""
    if pipeline.task_ == "classification":
        return scores.of_classes(y, trainer.predict_proba(X))
    return scores.of_values(pipeline.inverse(y), pipeline.inverse(trainer.predict(X)))


def evaluate(
    trainer: Trainer, config: dict[str, Any], folder: Path, rows: str | None, said: dict[str, Any]
) -> dict[str, float]:
    """The measures on the rows that were held out, or on those of a file.

    Args:
        said: how the file is read, where that is not as the one of the training was.
    """
    if rows is None:
        data = tabular.load(config, folder)
        return score(trainer, data.pipeline, *data.test)
    pipeline = tabular.kept_pipeline(folder)
    with _reading(rows, pipeline, config["table"]["reading"], said) as table:
        absent = [name for name in pipeline.target_names if name not in table]
        if absent:
            raise DataError(
                f"{table.name}: there is no column {absent[0]!r}, the target, without which nothing can be measured. It has "
                f"{some(table.columns)}. chainrule predict needs no target."
            )
    table = _measurable(pipeline, table)
    _say(*pipeline.differences(table))
    return score(trainer, pipeline, pipeline.encoded(table), pipeline.target(table))


def _measurable(pipeline: TablePipeline, table: Table) -> Table:
    """The rows of a file that have a target which training had, too.

    Raises:
        DataError: there are none.
    """
    names = ", ".join(pipeline.target_names)
    known = pipeline.known(table)
    if not known.any():
        raise DataError(
            f"{table.name}: the target {names} is missing in every row of this file, so nothing can be measured. Give rows that "
            f"have it; chainrule predict needs none."
        )
    if not known.all():
        _say(f"{int((~known).sum()):,} rows without a target are left out")
        table = table.rows(known)
    learned = tabular.of_known_classes(pipeline, table)
    if not learned.any():
        target = pipeline.targets_[0]
        there = texts(table[names], target.reading.weak).unique(maintain_order=True).to_list()
        raise DataError(
            f"{table.name}: the target {names} of this file has only {some(there)}, which training had not: it had "
            f"{some(list(target.classes))}. Give rows of those classes, or train on rows that have these."
        )
    if not learned.all():
        _say(f"{int((~learned).sum()):,} rows whose class training had not are left out")
    return table.rows(learned) if not learned.all() else table


def predict(bundle: Bundle, rows: str, keep: tuple[str, ...], out: str | None, said: dict[str, Any]) -> None:
    """Write a CSV: for each row the columns to keep, what is predicted, and the probability of each class.

    Args:
        said: how the file is read, where that is not as the one of the training was.
    """
    if not isinstance(bundle.rows, OfTable):
        raise SettingError(
            f"predict: {bundle!r} was not trained on a table of all kinds of columns. Pass rows in a .npy file."
        )
    if out is not None and os.path.exists(out) and os.path.samefile(rows, out):
        raise SettingError(f"predict: --out {out} is the file of the rows, which would be lost. Name another one.")
    pipeline = bundle.rows.pipeline
    with _reading(rows, pipeline, bundle.rows.reading, said) as table:
        _say(*pipeline.differences(table))
        X = pipeline.encoded(table)
    table.check_names(_names(keep, table))
    columns = [table[name] for name in _names(keep, table)] + predicted(bundle, pipeline.targets_, X)
    frame = pl.DataFrame([column.rename(name) for column, name in zip(columns, _each_once(columns), strict=True)])
    text = frame.write_csv()
    if out is None:
        click.echo(text, nl=False)
        return
    write_whole(out, text.encode())
    _say(f"{out}: {len(frame):,} rows, columns {_some(frame.columns)}")


def predicted(bundle: Bundle, targets: list[Target], X: Array) -> list[pl.Series]:
    """The predictions as columns, labels as the table has them that was trained on."""
    outputs = bundle.run(X)
    check_outputs("predict", bundle.model, outputs)
    answers = bundle.answers(outputs)
    if bundle.classes is None:
        return [pl.Series(one.name, answers.reshape(len(X), -1)[:, i]) for i, one in enumerate(targets)]
    labels = dict(zip(bundle.classes, targets[0].classes, strict=True))
    probabilities = bundle.probabilities(outputs)
    of_classes = [pl.Series(f"probability of {label}", probabilities[:, k]) for k, label in enumerate(labels.values())]
    return [pl.Series(targets[0].name, [labels[a] for a in answers.tolist()], dtype=pl.String), *of_classes]


def _each_once(columns: list[pl.Series]) -> list[str]:
    """Their names; one that a kept column has already is of what is predicted."""
    found: list[str] = []
    for column in columns:
        name = column.name
        while name in found:
            name = f"predicted {name}"
        found.append(name)
    return found


@contextmanager
def _reading(rows: str, pipeline: TablePipeline, learned: dict[str, Any], said: dict[str, Any]) -> Iterator[Table]:
    """A file read as that of the training was, where nothing else was said; what looking at it found is told.

    Whatever is wrong with a file of which lines are skipped, since that of the training had them, says so.

    Args:
        learned: how the file of the training was read.
        said: how this one is, instead.
    """
    try:
        table = read_as_learned(rows, pipeline.decimal_, **{**learned, **said})
        _say(*table.notes)
        yield table
    except (DataError, UnknownNameError) as error:
        lines = 0 if "skip_rows" in said else learned.get("skip_rows", 0)
        if not lines:
            raise
        which = f"first {lines} lines were" if lines > 1 else "first line was"
        raise type(error)(
            f"{error} Its {which} skipped, as in training. If its header is the first line, say so: --skip-rows 0."
        ) from None


def _say(*notes: str) -> None:
    for note in notes:
        click.echo(fitted(note), err=True)
