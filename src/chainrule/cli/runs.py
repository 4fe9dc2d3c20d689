"""Run folders: the model, the history, the curves and the configuration that repeats it."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

import chainrule.nn.functional as F
from chainrule import nn
from chainrule.cli.curves import draw
from chainrule.cli.options import TABLE
from chainrule.cli.output import Steady, fitted
from chainrule.data.checks import as_array, in_dtype
from chainrule.data.named import listed
from chainrule.data.sources import Dataset, load
from chainrule.deploy.bundle import Bundle, load_bundle
from chainrule.deploy.making import bundle
from chainrule.deploy.rows import OfTable
from chainrule.errors import DamagedFileError, NonFiniteError, SettingError, ShapeError
from chainrule.files.writing import write_whole
from chainrule.training import progress
from chainrule.training.callbacks import Callback
from chainrule.training.checkpoints import save_file
from chainrule.training.configuration import read_config
from chainrule.training.history import History
from chainrule.training.progress import Silent, as_text
from chainrule.training.rebuilt import config_of, fitting, on_table, rebuild, weights
from chainrule.training.record import Record
from chainrule.training.sound import check_outputs, check_run
from chainrule.training.trainer import Trainer
from chainrule.version import __version__


def train(config: dict[str, Any], folder: Path, shown: Steady, record: bool, report: bool) -> dict[str, Any]:
    """Train, write the run, and say how it went; a training that stops at a NaN is written too."""
    return _trained(config, folder, shown, folder if record else False, report)


def resume(folder: Path, shown: Steady, report: bool) -> dict[str, Any]:
    """Go on with a run that was stopped or killed, from the last step that its record holds: the bits are the same."""
    config = config_of(folder)
    return _trained(config, folder, shown, folder, report, stopped=_stopped(folder))


def _stopped(folder: Path) -> list[Path]:
    """Where a run may go on from, the latest first."""
    if not (folder / "record" / "record.json").exists():
        raise SettingError(
            f"--resume {folder}: there is no record in it (it was made with --no-record), so it cannot go on. Repeat it: "
            f"chainrule train --config {folder / 'config.json'}."
        )
    record = Record(folder)
    return [record.checkpoint(step) for step in reversed(record.checkpoints())]


def _trained(
    config: dict[str, Any], folder: Path, shown: Steady, record: Path | Literal[False], report: bool,
    stopped: Sequence[Path] = (),
) -> dict[str, Any]:  # fmt: skip
    trainer, data = rebuild(config, folder)
    if on_table(config):
        from chainrule.cli import tables

        tables.begin(folder, data, shown)
    click.echo(str(nn.summary(trainer.model, (config["batch_size"], data.train.X.shape[1]))), file=shown.text)
    plain = measured_plainly(trainer)  # without smoothing, so that losses compare with those of others
    before = plain.evaluate(*data.train)["loss"]
    if stopped:
        _load_latest(trainer, stopped)
        click.echo(fitted(_going_on(trainer)), file=shown.text)
    try:
        options = fitting(config, data)
        options["callbacks"].append(_Followed(folder, config))
        reporter = _reporter(shown, folder, bool(record))
        history = trainer.fit(*data.train, progress=reporter, record=record, resume=bool(stopped), **options)
    except NonFiniteError as error:
        write(folder, trainer, trainer.history)
        raise NonFiniteError(f"{error} They are in {folder}.") from None
    write(folder, trainer, history)
    trained, tested = plain.evaluate(*data.train), plain.evaluate(*data.test)
    measured = tables.measured(trainer, data) if on_table(config) else {"test_accuracy": tested["accuracy"]}
    began = time.perf_counter()
    page = _page(trainer, folder, data) if report else None
    return {
        "loss_before": before, "train_loss": trained["loss"], "test_loss": tested["loss"],
        **measured, "epochs": history.epochs, "steps": history.steps,
        "interrupted": history.interrupted, "run": str(folder),
        **({"report": str(page), "report_seconds": time.perf_counter() - began} if page is not None else {}),
    }  # fmt: skip


def _load_latest(trainer: Trainer, checkpoints: Sequence[Path]) -> None:
    """Take over the last checkpoint that can be read: a kill in the middle of writing leaves those before it."""
    for number, path in enumerate(checkpoints, 1):
        try:
            trainer.load(path)
            return
        except DamagedFileError:
            if number == len(checkpoints):
                raise


def _going_on(trainer: Trainer) -> str:
    position = trainer.session.position
    if position is None:
        return ""
    return (
        f"going on after epoch {position.epoch}, step {position.step} of {position.steps}: the latest checkpoint. What was "
        f"shown of later ones was not saved; it is computed again, to the same bits."
    )


def _reporter(shown: Steady, folder: Path, recorded: bool) -> Silent:
    reporter = progress.report(shown.text)
    if recorded:
        reporter.going_on = f"`chainrule train --resume {folder}` goes on from there"
    else:
        reporter.going_on = (
            f"`chainrule train --config {folder / 'config.json'}` repeats it (nothing was recorded to go on from)"
        )
    return reporter


def _page(trainer: Trainer, folder: Path, data: Dataset) -> Path:
    from chainrule.explain.verify import rules

    path = folder / "report.html"
    trainer.report(
        path, title=f"{data.name}, {folder.name}", class_names=data.class_names or None, image_shape=data.image_shape,
        checks=rules(),
    )  # fmt: skip
    return path


def closing(result: dict[str, Any], config: dict[str, Any], recorded: bool) -> str:
    """The last lines of a training: what came out, how it was measured, where it lies, what to do next."""
    folder = result["run"]
    lines = [
        f"loss {as_text(result['loss_before'])} -> {as_text(result['train_loss'])}; {_came_out(result)} "
        f"in {result['seconds']:.2f} s; written to {folder}"
    ]
    extras = [name for name in ("label_smoothing", "dropout", "noise") if config[name]]
    if extras:
        named = " and ".join(filter(None, [", ".join(extras[:-1]), extras[-1]])).replace("_", " ")
        lines.append(f"(this loss is measured without {named}; the losses of the epochs above are with it)")
    if "report" in result:
        lines.append(f"the page: {result['report']}, made in {result['report_seconds']:.2f} s")
    nexts = ["view", "diagnose"] if recorded else ["evaluate", "diagnose"]
    if on_table(config):
        nexts.insert(0, "predict")
    if result["interrupted"] and recorded:
        nexts.insert(0, "train --resume")
    lines = [fitted(line) for line in lines]  # but for commands: they are copied
    lines.append(
        "next: "
        + "\n      ".join(f"chainrule {command} {shlex.quote(str(folder))}{_rows_of(command)}" for command in nexts)
    )
    return "\n".join(lines)


def _came_out(result: dict[str, Any]) -> str:
    """How good it is on rows that it was not trained on."""
    return f"test accuracy {result['test_accuracy']:.2%}" if "test_accuracy" in result else str(result["test"]["text"])


def _rows_of(command: str) -> str:
    return " ROWS.csv" if command == "predict" else ""


class _Followed(Callback):
    """Writes the configuration when the training begins and the history after each epoch: `chainrule view --live` reads them."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder, self.config = folder, config

    def on_fit_start(self, trainer: Trainer) -> None:
        write_config(self.folder, self.config)

    def on_epoch_end(self, trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> None:
        write_whole(self.folder / "history.json", trainer.history.to_json().encode(), durable=False)


def measured_plainly(trainer: Trainer) -> Trainer:
    """The same model under the loss without label smoothing."""
    if "accuracy" not in trainer.metrics:
        return trainer
    return Trainer(trainer.model, F.cross_entropy, trainer.optimizer, ["accuracy"])


def choices(repeat: str | None, options: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """The configuration of a run: the options, or all of them as another run's config.json has them.

    What a file says is held to the same types and ranges as what the command line says.
    """
    common = {name: value for name, value in options.items() if name not in TABLE}
    if repeat is None:
        if options["dataset"] is None:
            raise SettingError(
                "train: name a data set (digits), a file with a table, or a run to repeat with --config RUN/config.json."
            )
        return common if not _is_file(options["dataset"], context) else _of_table(options, context)
    _check_repeated(context)
    saved = read_config(Path(repeat))
    if options["dataset"] not in (None, saved["dataset"]):
        raise SettingError(
            f"train: --config repeats a run on {saved['dataset']!r}, got {options['dataset']!r}. Name one."
        )
    kinds = {parameter.name: parameter for parameter in context.command.params}
    try:
        found = {name: kinds[name].type_cast_value(context, str(saved[name])) for name in common}
    except click.BadParameter as error:
        name = error.param.name if error.param is not None else ""
        raise DamagedFileError(f"{repeat}: {name}: {error.message} Correct it, or leave --config out.") from None
    if not on_table(saved):
        return found
    from chainrule.training import tabular

    return {**found, "table": tabular.checked(Path(repeat), saved)}


def _is_file(dataset: str, context: click.Context) -> bool:
    """Is it the name of a file rather than of a data set? Options that only a table has say so, too."""
    if Path(dataset).suffix or Path(dataset).is_file() or os.sep in dataset:
        return True
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if parameter.name in TABLE and given:
            raise SettingError(
                f"train: {parameter.opts[0]} is about a table, and {dataset!r} is no file. Name the file, or leave it out."
            )
    return False


def _of_table(options: dict[str, Any], context: click.Context) -> dict[str, Any]:
    from chainrule.cli import tables

    return tables.configured(options, context)


def check_resumed(context: click.Context) -> None:
    """`--resume` goes on with what the run is; nothing but what is shown and written beside it can be chosen."""
    _check_alone(
        context, {"stopped", "report", "as_json"}, "--resume goes on with the run as it was begun", "or train anew"
    )


def _check_repeated(context: click.Context) -> None:
    """`--config` repeats what the run was; where it is kept, and what is shown and written beside it, can be chosen."""
    _check_alone(
        context, {"config", "dataset", "out", "record", "report", "as_json"},
        "--config repeats the run as it was, to the bit", "or leave --config out and name the data with all options",
    )  # fmt: skip


def _check_alone(context: click.Context, free: set[str], why: str, instead: str) -> None:
    commandline = click.core.ParameterSource.COMMANDLINE
    given = [
        parameter.opts[0] for parameter in context.command.params
        if parameter.name not in free and context.get_parameter_source(parameter.name or "") is commandline
    ]  # fmt: skip
    if given:
        raise SettingError(
            f"train: {why}, so {', '.join(given)} cannot be given with it. Leave {'them' if given[1:] else 'it'} out, {instead}."
        )


def measured(
    trainer: Trainer, config: dict[str, Any], folder: Path, rows: str | None, said: dict[str, Any]
) -> dict[str, float]:
    """How good a run is on the rows that were held out, or on those of a file; `said`: how that is read, where it is a table."""
    opened(folder)  # is it of use at all?
    if said and rows is None:
        raise SettingError(
            f"evaluate: {_option(said)} says how a file of rows is read, and none was given. Name one, or leave it out."
        )
    if on_table(config):
        from chainrule.cli import tables

        return tables.evaluate(trainer, config, folder, rows, said)
    if rows is not None:
        raise SettingError(
            f"evaluate: a run on {config['dataset']} is measured on its own test rows. Leave {rows} out."
        )
    return measured_plainly(trainer).evaluate(*load(config["dataset"]).test)


def predictions(source: Path, rows: str, out: str | None, keep: tuple[str, ...], said: dict[str, Any]) -> None:
    """Write what a run, or a bundle, gives the rows of a file; `said`: how that is read, where it is a table."""
    found, config = opened(source)
    if isinstance(found.rows, OfTable):
        from chainrule.cli import tables

        tables.predict(found, rows, keep, out, said)
        return
    if said:
        raise SettingError(
            f"predict: {_option(said)} says how a table is read, and this run was not trained on one. Leave it out."
        )
    if keep:
        raise SettingError(
            "predict: --keep names columns of a table, and this run was not trained on one. Leave it out."
        )
    path = Path(rows)
    array = read_rows(path, load(config["dataset"])) if config is not None else as_array(_array(path), rows)
    outputs = found.outputs(array)
    check_outputs(f"predict: {rows}", found.model, outputs)
    text = "\n".join(map(str, found.answers(outputs).tolist())) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        write_whole(out, text.encode())


def _option(said: Mapping[str, Any]) -> str:
    """The first of the options that were given, as it was written."""
    return f"--{next(iter(said)).replace('_', '-')}"


def opened(source: Path) -> tuple[Bundle, dict[str, Any] | None]:
    """The bundle of a run folder, with the run's configuration, or that of a file."""
    if source.is_file():
        return load_bundle(source), None
    found = bundle(source)
    if found.rows.width is not None:
        check_run(str(source), found.model, found.rows.width)
    return found, config_of(source)


def export(source: Path, out: Path) -> str:
    """Write a run, or a bundle, as one file: an ONNX file by its ending, else a bundle. What was written, in words."""
    found, _ = opened(source)
    if out.suffix.lower() != ".onnx":
        found.save(out)
        return f"{out}: a bundle, {found!r}. Python: cr.load_bundle({str(out)!r}).predict(rows); or chainrule predict {out} FILE"
    from chainrule.interop import onnx

    graph = onnx.export_bundle(found, out).graph
    inputs, outputs = (listed([entry.name for entry in some]) for some in (graph.input, graph.output))
    return (
        f"{out}: in ONNX, with its preprocessing. Inputs are the columns {inputs}, (batch, 1) each: float64 for numbers (NaN: "
        f"missing; dates as days since 1970-01-01), texts for categories (empty: missing). Outputs: {outputs}"
    )


def read_rows(path: Path, data: Dataset) -> np.ndarray[Any, Any]:
    """The rows of a .npy file, which must be like those of a data set.

    Raises:
        DamagedFileError: there is no array in it.
        ShapeError: its rows have other columns.
        DataError: they are no numbers, or not finite.
    """
    array, like = as_array(_array(path), str(path)), data.train.X
    if array.shape[1:] != like.shape[1:]:
        columns = like.shape[1]
        raise ShapeError(
            f"{path}: each row must have {columns} columns, as those of {data.name}, got an array of shape {array.shape}. "
            f"{_reshaped(array, columns)}"
        )
    return in_dtype(array, like.dtype, str(path))


def _reshaped(array: np.ndarray[Any, Any], columns: int) -> str:
    if array.shape == (columns,):
        return "This is one row: save array[None] with numpy.save."
    if array.ndim > 2 and array[:1].size == columns:
        return f"Save array.reshape(-1, {columns}) with numpy.save."
    return "Save rows with these columns."


def _array(path: Path) -> np.ndarray[Any, Any]:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, OverflowError, TypeError) as error:
        raise DamagedFileError(f"{path}: not a readable .npy file ({error}). {_converted(path)}") from None


def _converted(path: Path) -> str:
    """What makes a .npy file of another kind of file."""
    target, source = path.with_suffix(".npy").name, path.name
    reading = {
        ".csv": f"numpy.loadtxt({source!r}, delimiter=',')", ".txt": f"numpy.loadtxt({source!r})",
        ".npz": f"numpy.load({source!r})['NAME OF THE ARRAY']",
    }.get(path.suffix.lower())  # fmt: skip
    return f"Make one of it: numpy.save({target!r}, {reading})." if reading else "Write it with numpy.save."


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
    text = json.dumps({**config, "chainrule": __version__}, indent=2, sort_keys=True)
    write_whole(folder / "config.json", text.encode())


def write(folder: Path, trainer: Trainer, history: History) -> None:
    """Everything that a finished run has, each file whole or not at all; the weights last."""
    write_whole(folder / "history.json", history.to_json().encode())
    write_whole(folder / "curves.svg", draw(history).encode())
    save_file(trainer.model.state_dict(), folder / "model.safetensors")


def repeated(folder: Path) -> tuple[Trainer, bool]:
    """The training of a run folder once more, and whether it ended in the weights that are stored there.

    Raises:
        DamagedFileError: the folder holds no run, or a damaged one.

    A run that stopped at a value that is not finite is repeated as far as it went.
    """
    config = config_of(folder)
    stored = weights(folder)
    trainer, data = rebuild(config, folder)
    with suppress(NonFiniteError):
        trainer.fit(*data.train, progress=False, **fitting(config, data))
    now = trainer.model.state_dict()
    return trainer, now.keys() == stored.keys() and all(np.array_equal(now[k].numpy(), stored[k].numpy()) for k in now)
