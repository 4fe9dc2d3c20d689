"""History: what each epoch measured."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from chainrule.errors import SettingError
from chainrule.files.document import Fields, is_number
from chainrule.names import no_attribute


class History(Mapping[str, list[float]]):
    """One list for each measure, one number for each finished epoch: ``history["loss"][-1]``.

    Keys: ``loss``, the metrics, ``val_loss`` and ``val_<metric>`` where there are validation data, ``lr``
    (the first parameter group's, at the end of the epoch) and ``seconds`` (the epoch's, validation included; short epochs
    that one native call took share its time by their steps).

    Attributes:
        interrupted: Ctrl-C ended the training before its last epoch.
        steps: optimizer steps taken, those of an unfinished epoch included.

    Example:
        >>> history = History()
        >>> history.add({"loss": 0.5, "seconds": 0.1})
        >>> history["loss"], history.epochs
        ([0.5], 1)
        >>> history.to_json()
        '{"loss": [0.5], "seconds": [0.1], "epochs": 1, "steps": 0, "interrupted": false}'
    """

    def __init__(self) -> None:
        self._measures: dict[str, list[float]] = {}
        self.interrupted = False
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        raise no_attribute("History", self, name)

    @property
    def epochs(self) -> int:
        """How many epochs are in it."""
        return max(map(len, self._measures.values()), default=0)

    def add(self, measured: Mapping[str, float]) -> None:
        """Add one epoch; a measure that starts late is NaN in the epochs before."""
        self.extend({name: [value] for name, value in measured.items()}, 1)

    def extend(self, columns: Mapping[str, Sequence[float]], count: int) -> None:
        """Add so many epochs: what each measured, by measure."""
        done, nothing = self.epochs, [math.nan] * count
        for name in dict.fromkeys([*self._measures, *columns]):
            column = self._measures.setdefault(name, [math.nan] * done)
            column.extend(map(float, columns.get(name, nothing)))

    def cut(self, epochs: int, steps: int) -> None:
        """Forget what came after so many epochs and steps."""
        if self.epochs > epochs:
            kept = {name: column[:epochs] for name, column in self._measures.items()}
            self._measures = {name: column for name, column in kept.items() if column}
        self.steps = steps

    def row(self, epoch: int) -> dict[str, float]:
        """What one epoch measured."""
        return {name: column[epoch] for name, column in self._measures.items()}

    def rows(self) -> list[dict[str, float]]:
        """A row for each epoch: its number (from 1), then what it measured."""
        return [{"epoch": epoch + 1, **self.row(epoch)} for epoch in range(self.epochs)]

    def to_pandas(self) -> Any:
        """The same as a ``pandas.DataFrame``, by epoch.

        Raises:
            SettingError: pandas is not installed.
        """
        pandas = installed("pandas", "history.to_pandas", "pandas")
        return pandas.DataFrame(self.rows(), columns=["epoch", *self]).set_index("epoch")

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """A picture of the measures over the epochs, each beside its own of validation; the ``Figure`` of matplotlib.

        Args:
            path: also saved there.

        Raises:
            SettingError: there is no epoch to show, or matplotlib is not installed.
        """
        names = [name for name in self if not name.startswith(("val_", "lr", "seconds"))]
        names += [name[4:] for name in self if name.startswith("val_") and name[4:] not in names]
        if not names:
            raise SettingError("history.plot: there is no epoch yet. Train first.")
        figure = installed("matplotlib.figure", "history.plot", "'chainrule[plots]'").Figure(
            figsize=(4.5 * len(names), 3.4), layout="constrained"
        )
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for column, label in ((name, "training"), (f"val_{name}", "validation")):
                if column in self:
                    axes.plot(range(1, self.epochs + 1), self[column], label=label)
            axes.set(title=name, xlabel="epoch")
            axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure

    def __getitem__(self, name: str) -> list[float]:
        if name not in self._measures:
            raise KeyError(f"{name}; this history has {', '.join(self._measures) or 'no epoch yet'}")
        return self._measures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._measures)

    def __len__(self) -> int:
        return len(self._measures)

    def __repr__(self) -> str:
        last = ", ".join(f"{name}={values[-1]:.4g}" for name, values in self.items())
        return f"<History: {self.epochs} epochs{', interrupted' if self.interrupted else ''}; last: {last or 'none'}>"

    def as_dict(self, exact: bool = False) -> dict[str, Any]:
        """Everything, as plain lists and numbers; NaN and infinity as None, which JSON has, or (`exact`) as they are."""
        columns = {k: [x if exact or math.isfinite(x) else None for x in values] for k, values in self.items()}
        return {**columns, "epochs": self.epochs, "steps": self.steps, "interrupted": self.interrupted}

    def to_json(self) -> str:
        """The history as one JSON object (what ``history.json`` of a run folder holds)."""
        return json.dumps(self.as_dict())

    @classmethod
    def read(cls, saved: Fields) -> History:
        """The history that `as_dict` described.

        Raises:
            DamagedFileError: it is none.
        """
        history = cls()
        history.interrupted, history.steps = saved.flag("interrupted"), saved.whole("steps")
        epochs = saved.whole("epochs")
        for name in saved.names():
            if name not in ("epochs", "steps", "interrupted"):
                values = saved.items(
                    name, lambda x: x is None or is_number(x) or isinstance(x, float), "a list of numbers"
                )
                if len(values) != epochs:
                    saved.refuse(name, f"a list of {epochs} numbers, one for each epoch", values)
                history._measures[name] = [math.nan if x is None else float(x) for x in values]
        if epochs and "loss" not in history._measures:
            saved.refuse("loss", "there, as there are epochs", None)
        return history


def installed(module: str, who: str, package: str) -> Any:
    """An optional library, for whoever asks.

    Raises:
        SettingError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise SettingError(
            f"{who} needs {module.partition('.')[0]}, which is not installed. Run: pip install {package}"
        ) from None
