"""What came of a sweep: its trainings, as a table, and as a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from chainrule.errors import DataError, IndexRangeError, SettingError, unknown_name
from chainrule.training.history import History, installed
from chainrule.training.record import Temporary
from chainrule.training.trainer import Trainer
from chainrule.training.trials import Config, Outcome, Trials

SMALLEST = {"loss", "mse", "mae", "rmse", "seconds"}  # measures of which less is better, with or without "val_"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Sweep(Sequence[Any]):
    """The trainings of a `sweep`, in the order of their configurations.

    ``len(sweep)``, ``sweep[i]``: the `Trainer` of configuration i, trained.

    Attributes:
        configs: the configurations.
        histories: what each epoch of each measured; None where a training was not begun.
        finalists: the numbers of those that were to be trained to the end; all, unless it was halved.
        errors: by number, the exceptions that ended trainings.
        interrupted: Ctrl-C ended it before its last training.
    """

    def __init__(self, configs: Sequence[Config], folder: Path | Temporary | None) -> None:
        self.configs = list(configs)
        self._temporary = folder if isinstance(folder, Temporary) else None
        self.folder = Path(folder.name) if isinstance(folder, Temporary) else folder
        self.finalists = list(range(len(configs)))
        self.histories: list[History | None] = [None] * len(configs)
        self.errors: dict[int, Exception] = {}
        self.interrupted = False
        self._trainers: list[Trainer | None] = [None] * len(configs)
        self._away: dict[int, Callable[[], Trainer | None]] = {}  # how to come by those that another process trained

    def __len__(self) -> int:
        return len(self.configs)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        try:
            at = range(len(self))[number]
        except IndexError:
            raise IndexRangeError(
                f"sweep: there are {len(self)} trainings, numbers 0 to {len(self) - 1}, got {number}."
            ) from None
        if at in self._away:
            self._trainers[at] = self._away.pop(at)()
        trainer = self._trainers[at]
        if trainer is None:
            error = self.errors.get(at)
            raise DataError(f"sweep: training {number} {f'ended with: {error}' if error else 'was not run'}.")
        return trainer

    def put(self, outcome: Outcome, trials: Trials) -> None:
        """This came of one of them."""
        at, packed = outcome.number, outcome.packed
        self._trainers[at], self.histories[at] = outcome.trainer, outcome.history
        if outcome.error is not None:
            self.errors[at] = outcome.error
        elif outcome.trainer is None:
            self._away[at] = partial(trials.kept, at) if packed is None else partial(trials.unpacked, packed)

    def alive(self) -> dict[int, History]:
        """The histories of those that have come through the latest round."""
        histories = ((number, self.histories[number]) for number in self.finalists if number not in self.errors)
        return {number: history for number, history in histories if history is not None}

    def table(self) -> list[dict[str, Any]]:
        """A row for each training: its number, its configuration, its epochs, and what the last of them measured."""
        rows = []
        for number, (config, history) in enumerate(zip(self.configs, self.histories, strict=True)):
            last = history.row(history.epochs - 1) if history is not None and history.epochs else {}
            known = {"training": number, **config, **({} if history is None else {"epochs": history.epochs})}
            rows.append({**known, **{name: value for name, value in last.items() if name not in known}})
        return rows

    def to_pandas(self) -> Any:
        """The same as a ``pandas.DataFrame``, by training.

        Raises:
            SettingError: pandas is not installed.
        """
        return installed("pandas", "sweep.to_pandas", "pandas").DataFrame(self.table()).set_index("training")

    def show(self, measure: str = "val_loss", count: int = 10, mode: str = "auto") -> str:
        """A table of the best trainings by a measure, as text.

        Args:
            measure, mode: as for `best`.
            count: so many rows.

        Raises:
            UnknownNameError, SettingError: as `best`.
        """
        rows = {row["training"]: row for row in self.table()}
        listed = [rows[number] for number in self.ranked(measure, mode)[:count]]
        names = list(dict.fromkeys(name for row in listed for name in row))
        return _table(names, [[_shown(row.get(name, "")) for name in names] for row in listed])

    def plot(self, measure: str = "val_loss", path: str | os.PathLike[str] | None = None, mode: str = "auto") -> Any:
        """A picture of a measure of every training over its epochs, the best in front; the ``Figure`` of matplotlib.

        Args:
            measure, mode: as for `best`.
            path: also saved there.

        Raises:
            UnknownNameError, SettingError: as `best`; matplotlib is not installed.
        """
        best = self.best(measure, mode)
        figure = installed("matplotlib.figure", "sweep.plot", "'chainrule[plots]'").Figure(
            (6, 3.6), layout="constrained"
        )
        axes = figure.subplots()
        for number, history in enumerate(self.histories):
            if history is not None and measure in history:
                own = {"color": "C0", "zorder": 3, "label": f"best: {number}"} if number == best else {"color": "0.8"}
                axes.plot(range(1, history.epochs + 1), history[measure], **own)
        axes.set(title=measure, xlabel="epoch")
        axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure

    def best(self, measure: str = "val_loss", mode: str = "auto") -> int:
        """The number of the training whose last epoch is best by a measure.

        Args:
            measure: a name in the histories.
            mode: "min", "max", or "auto": losses and errors the least, others the most.

        Raises:
            UnknownNameError: no training has such a measure.
            SettingError: another mode.
        """
        return self.ranked(measure, mode)[0]

    def ranked(self, measure: str = "val_loss", mode: str = "auto") -> list[int]:
        """The numbers of the trainings that came to the end, from the best to the worst by the measure of the last epoch.

        Args:
            measure, mode: as for `best`.

        Raises:
            UnknownNameError, SettingError: as `best`.
        """
        if mode not in ("auto", "min", "max"):
            raise SettingError(f"Sweep.best: mode must be 'auto', 'min' or 'max', got {mode!r}.")
        ended = {i: h[measure][-1] for i, h in self.alive().items() if measure in h}
        ended = {i: value for i, value in ended.items() if value == value}
        if not ended:
            known = sorted({name for h in self.histories if h is not None for name in h})
            raise unknown_name("measure", measure, known)
        least = mode == "min" or (mode == "auto" and measure.removeprefix("val_").split("_")[-1] in SMALLEST)
        return sorted(ended, key=lambda i: ended[i] if least else -ended[i])

    def __repr__(self) -> str:
        done = sum(history is not None for history in self.histories)
        return f"<Sweep: {done} of {len(self)} trainings{f', {len(self.errors)} failed' if self.errors else ''}>"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    from rich import box  # at its import it costs more than all of this
    from rich.console import Console
    from rich.table import Table

    table = Table(*names, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    text = StringIO()
    Console(file=text, width=160, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
