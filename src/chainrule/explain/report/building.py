"""From a training to its report: which steps, which curves, which facts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.batches import shuffled_indices
from chainrule.errors import SettingError
from chainrule.explain.report import passes
from chainrule.explain.report.document import Report
from chainrule.explain.runs import Run
from chainrule.files.document import Fields, parse
from chainrule.files.reading import read_whole
from chainrule.graph import Array
from chainrule.nn.meaning import CLASSES, VALUES, name_of, option_of
from chainrule.training.history import History
from chainrule.training.metrics import told
from chainrule.training.session import Rows
from chainrule.training.trainer import Trainer

Pair = tuple[Array, Array]
POINTS = 1500  # the most points of a curve over steps


def of_run(run: Run, frames: int, **options: Any) -> Report:
    """The report of a recorded training: `frames` of its steps, each exactly as it was computed."""
    trainer = run.trainer
    report = Report(trainer, **options)
    report.about = {**facts(trainer, run), **report.about}
    for step in _steps(run, frames):
        add(report, run, step)
    report.curves = curves(run)
    return report


def add(report: Report, run: Run, step: int) -> None:
    """One recorded step more, unless the report ends with it."""
    if report.frames and report.frames[-1].step == step:
        return
    moment = run.at(step)
    with run.replay.lent() as program:  # the predictions of the frame are those of the weights before the step
        run.replay.go_to(step, program)
        report.add(passes.of_moment(moment), step, moment.epoch, [int(row) for row in moment.rows])


def curves(run: Run) -> list[dict[str, Any]]:
    """Loss and learning rate by step, and what was measured by epoch."""
    return [*_over_steps(run), *over_epochs(_history(run), skip=("lr",))]


def of_trainer(trainer: Trainer, **options: Any) -> Report:
    """The report of a training without a record: the one step that would follow."""
    trained = _rows(trainer)
    x, y, weight = trained.x, trained.y, trained.weight
    position = trainer.position
    epoch = position.epoch if position is not None else 0
    size = min(position.batch_size if position is not None else 32, len(x))
    order = np.arange(len(x))
    if position is not None and position.shuffle:
        order = shuffled_indices(len(x), position.seed, epoch)
    rows = order[:size]
    report = Report(trainer, **options)
    report.about = {**facts(trainer, None), **report.about}
    step = passes.run(trainer, x[rows], y[rows], None if weight is None else weight[rows])
    report.add(step, trainer.history.steps, epoch, [int(row) for row in rows])
    report.curves = over_epochs(trainer.history)
    return report


def held_out(trainer: Trainer) -> Pair | None:
    """The validation rows of the latest fit, if it had any."""
    rows = trainer.session.rows
    return None if rows is None or rows.held_out is None else (rows.held_out.x, rows.held_out.y)


def class_names(
    trainer: Trainer, test: Pair | None, given: list[str] | None, rows: Array | None = None
) -> list[str] | None:
    """The names of the classes, or their numbers; None where the outputs are no classes, or a row has more than one.

    Args:
        rows: some to count the outputs of, where there are no `test` rows.

    Raises:
        SettingError: names were given, and the outputs are not classes or nobody says what they are, or of another number.
    """
    meaning = trainer.meaning
    if given is not None and told(trainer.loss, meaning, "report: class_names") == VALUES:
        raise SettingError(
            f"report: class_names was given, and under {name_of(trainer.loss)} the outputs are values and no classes. "
            f"Leave it out."
        )
    shown = rows if test is None else test[0]
    if shown is None or meaning is None or meaning == VALUES:
        return given
    if test is not None and meaning.labels(test[1]).size != len(test[1]):
        return None
    if test is None and given is None:
        return None
    count = 2 if meaning.binary else trainer.predict(shown[:1]).shape[CLASSES]
    if given is None:
        return [str(i) for i in range(count)]
    if isinstance(given, str) or len(given) != count:
        came = f"the text {given!r}" if isinstance(given, str) else f"{len(given)} names"
        raise SettingError(
            f"report: class_names must name each of the {count} classes, got {came}. Give a list of {count} texts, by class "
            f"number."
        )
    return [str(name) for name in given]


def picture_shape(x: Array, given: object) -> tuple[int, int] | None:
    """``(rows, columns)`` of a picture that each row is, checked.

    Raises:
        SettingError: it is no pair, or no row has so many numbers.
    """
    if given is None:
        return None
    width = math.prod(x.shape[1:])
    pair = tuple(given) if isinstance(given, (tuple, list, np.ndarray)) else ()
    whole = len(pair) == 2 and all(isinstance(n, (int, np.integer)) and n > 0 for n in pair)
    if not whole or math.prod(pair) != width:
        raise SettingError(
            f"report: image_shape must be (rows, columns) whose product is the {width} numbers of a row of X, got {given!r}. "
            f"Leave it out where rows are no pictures."
        )
    return int(pair[0]), int(pair[1])


def counted(trainer: Trainer, test: Pair | None) -> Pair | None:
    """The rows whose label counts: those that the loss ignores are not shown."""
    ignored = option_of(trainer.loss, "ignore_index")
    if test is None or ignored is None or test[1].dtype.kind != "i" or test[1].ndim != 1:
        return test
    counts = test[1] != ignored
    return test[0][counts], test[1][counts]


def _rows(trainer: Trainer) -> Rows:
    rows = trainer.session.rows
    if rows is None:
        raise SettingError("Trainer.report: nothing was trained yet, so there is no step to show. Call fit first.")
    rows.check_single("Trainer.report")
    return rows


def _steps(run: Run, count: int) -> list[int]:
    """Steps of the record, the closer the earlier (most happens there), on whole batches where there are any."""
    if not len(run):
        raise SettingError(f"report: {run.folder} has no finished step yet. Train on, then write the report again.")
    every = run.replay.per_epoch
    whole = not run.replay.batching.rest or every == 1
    shares = np.linspace(0, 1, max(1, count)) ** 2
    places = np.unique((run.first_step + shares * (run.replay.end - 1 - run.first_step)).round().astype(int))
    chosen = {int(p) if whole or p % every != every - 1 or p == 0 else int(p) - 1 for p in places}
    return sorted(step for step in chosen if run.replay.recorded(step)) or [run.first_step]


def last_step(run: Run) -> int:
    """The latest recorded step on a whole batch."""
    return _steps(run, 2)[-1]


# -- words and curves ----------------------------------------------------------------------------------


def facts(trainer: Trainer, run: Run | None) -> dict[str, str]:
    """What the head of the page says of the training."""
    # A schedule may have lowered the rate since: the settings of the first step are the ones chosen.
    recorded = run.replay.groups(run.first_step) if run is not None else []
    group: dict[str, Any] = (recorded or trainer.optimizer.param_groups)[0]
    settings = ", ".join(
        f"{key} {value:g}" for key, value in group.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value and key in ("lr", "momentum", "weight_decay")
    )  # fmt: skip
    count = sum(p.numel() for p in trainer.model.parameters())
    found = {
        "network": f"{type(trainer.model).__name__}, {count:,} parameters",
        "loss": name_of(trainer.loss),
        "optimizer": f"{type(trainer.optimizer).__name__}, {settings}",
    }
    if trainer.position is not None:
        found["batch"] = f"{trainer.position.batch_size:,} of {trainer.position.rows:,} rows"
        found["seed"] = str(trainer.position.seed)
    elif run is not None:
        header = run.record.header
        found["batch"] = f"{header['batch_size']:,} of {header['rows']:,} rows"
        found["seed"] = str(header["seed"])
    if run is not None:
        found["record"] = f"{len(run):,} steps, replayed to the bit"
    return found


def over_epochs(history: History, skip: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Each measure by epoch, training beside validation."""
    curves = []
    at = list(range(1, history.epochs + 1))
    for name in history:
        if name.startswith("val_") or name == "seconds" or name in skip:
            continue
        series = [{"name": "training", "values": history[name]}]
        if f"val_{name}" in history:
            series.append({"name": "validation", "values": history[f"val_{name}"]})
        title = "learning rate" if name == "lr" else f"{name} by epoch" if name == "loss" else name
        curves.append({"name": title, "unit": "", "x": "epoch", "at": at, "series": series})
    return curves


def _over_steps(run: Run) -> list[dict[str, Any]]:
    """Loss and learning rate of every step, averaged over equal windows where there are very many."""
    known = run.replay.log["known"]
    steps = np.arange(run.first_step, run.replay.end)[known]
    lr = run.replay.log["rates"][known, 0]  # of the first group, as each step used it
    window = -(-len(steps) // POINTS)
    unit = f"mean of {window} steps" if window > 1 else ""
    at = [int(step) for step in steps[::window]]
    return [
        {
            "name": name,
            "unit": unit,
            "x": "step",
            "at": at,
            "series": [{"name": name, "values": _averaged(values, window)}],
        }
        for name, values in (("loss", run.losses[known]), ("learning rate", lr))
    ]


def _averaged(values: Array, window: int) -> list[float]:
    return [float(values[i : i + window].mean()) for i in range(0, len(values), window)]


MOST_HISTORY = 1 << 28  # bytes of a history.json; a million epochs have some 60,000,000


def _history(run: Run) -> History:
    """The epochs' measures: those of the trainer, or those that the run folder has."""
    if run.trainer.history.epochs:
        return run.trainer.history
    path = run.record.folder / "history.json"
    if not path.exists():
        return History()
    return read_history(path)


def read_history(path: Path) -> History:
    """A run's history.json.

    Raises:
        DamagedFileError: it is none.
    """
    return History.read(Fields(parse(read_whole(path, "a history", MOST_HISTORY), str(path)), str(path)))
