"""What is to be predicted: classes with labels of any type, or numbers, scaled while the network learns."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from chainrule.data.table.kinds import has_no_meaning
from chainrule.data.table.values import PLAIN, Reading, in_words, number_reading, numbers, other_words, texts
from chainrule.errors import DataError, SettingError
from chainrule.files.document import Fields

Array = np.ndarray[Any, Any]
TASKS = ("classification", "regression")
FEW = 10  # different whole numbers at most are classes
MOST_CLASSES = 1000
LABELS = ("text", "whole", "number", "boolean")


@dataclass(frozen=True)
class Target:
    """A column that is predicted.

    Attributes:
        name: of the column.
        task: ``"classification"`` or ``"regression"``.
        reason: why, in words.
        reading: how its fields are read.
        classes: the labels as texts, in order; none for values.
        labels: what labels are: ``"text"``, ``"whole"``, ``"number"`` or ``"boolean"``.
        center, scale: of the values.
    """

    name: str
    task: str
    reason: str
    reading: Reading = PLAIN
    classes: tuple[str, ...] = ()
    labels: str = "text"
    center: float = 0.0
    scale: float = 1.0

    @classmethod
    def fit(cls, series: pl.Series, task: str | None, written: Reading) -> Target:
        """Learn from a column; the task is guessed where it is not named.

        Raises:
            SettingError: there is no such task.
            DataError: a value is missing, there is only one class, or no number.
        """
        found = cls.unfitted(series, task, written)
        if not len(series):
            raise DataError(f"the target {series.name!r} cannot be learned of no rows. Fit on rows that have it.")
        return found._classes(series) if found.task == "classification" else found._values(series)

    @classmethod
    def unfitted(cls, series: pl.Series, task: str | None, written: Reading) -> Target:
        """How a column would be read; values may be missing."""
        if task not in (None, *TASKS):
            raise SettingError(f"task must be 'classification' or 'regression', got {task!r}.")
        if has_no_meaning(series):
            raise DataError(
                f"the target {series.name!r} has values that are {str(series.dtype).lower()}: no classes and no numbers. Name another column."
            )
        reading, _ = number_reading(series, written)
        guessed, reason = _guess(series, reading)
        if task == "regression" and reading is None:
            raise DataError(
                f"the target {series.name!r} was to be a number, but its values are none, such as {_example(series)}. "
                f"Use task='classification' (--task), or name another column."
            )
        if task is not None and task != guessed:
            reason = "as you said"
        return cls(series.name, task or guessed, reason, reading or written)

    def _classes(self, series: pl.Series) -> Target:
        self._check(self.known(series))
        found = texts(series, self.reading.weak)
        classes = found.unique().to_list()
        kind = _kind_of(classes)
        if len(classes) < 2:
            raise DataError(
                f"the target {self.name!r} has one class only, {classes[0]!r}: there is nothing to tell apart. Name another "
                f"column, or rows that have others."
            )
        if len(classes) > MOST_CLASSES or len(classes) > max(FEW, 0.5 * len(found)):
            raise DataError(
                f"the target {self.name!r} has {len(classes):,} different values in {len(found):,} rows, too many to be "
                f"classes. Name another column, or use task='regression' (--task) if they are numbers."
            )
        key = (lambda text: float(text)) if kind in ("whole", "number") else (lambda text: text)
        return Target(self.name, self.task, self.reason, self.reading, tuple(sorted(classes, key=key)), kind)

    def _values(self, series: pl.Series) -> Target:
        values = numbers(series, self.reading)
        self._check(~np.isnan(values))
        center, scale = float(values.mean()), float(values.std())
        if not (math.isfinite(center) and math.isfinite(scale)):
            raise DataError(f"the target {self.name!r} has values too large for a mean. Scale them down.")
        if len(values) and np.ptp(values) == 0:
            raise DataError(f"the target {self.name!r} is {values[0]:g} in all rows: there is nothing to learn.")
        return Target(self.name, self.task, self.reason, self.reading, center=center, scale=scale or 1.0)

    def _check(self, known: Array) -> None:
        if not known.all():
            raise DataError(
                f"the target {self.name!r} is missing in {int((~known).sum()):,} of {len(known):,} rows, the first is row "
                f"{int((~known).argmax())}. Leave them out: table.rows(pipeline.known(table))."
            )

    def known(self, series: pl.Series) -> Array:
        """Which rows have it."""
        if self.task == "regression":
            return ~np.isnan(numbers(series, self.reading))
        return np.asarray(texts(series, self.reading.weak).is_not_null().to_numpy())

    def encode(self, series: pl.Series) -> Array:
        """Class numbers, int64 (N,), or scaled values, float32 (N,).

        Raises:
            DataError: a value is missing, or a label was not there when it was fitted.
        """
        if self.task == "regression":
            values = numbers(series, self.reading)
            self._check(~np.isnan(values))
            return ((values - self.center) / self.scale).astype(np.float32)
        self._check(self.known(series))
        codes = self.codes(series)
        if (codes < 0).any():
            first = int((codes < 0).argmax())
            raise DataError(
                f"the target {self.name!r} must be one of the {len(self.classes)} classes that were there when the pipeline "
                f"was fitted, got {texts(series, self.reading.weak)[first]!r} in row {first}. Fit it on rows that have every class."
            )
        return codes

    def codes(self, series: pl.Series) -> Array:
        """Class numbers; -1 where the class is not known."""
        place = {label: i for i, label in enumerate(self.classes)}
        found = in_words(texts(series, self.reading.weak), other_words(self.classes))
        codes = found.replace_strict(place, default=-1, return_dtype=pl.Int64).fill_null(-1)
        return np.asarray(codes.to_numpy(), np.int64)

    def inverse(self, values: Array) -> Array:
        """Labels of class numbers, or unscaled values, float64."""
        if self.task == "regression":
            return np.asarray(values, np.float64) * self.scale + self.center
        return self.labelled()[np.asarray(values, np.int64)]

    def labelled(self) -> Array:
        """The labels in the type they came in."""
        kinds: dict[str, Any] = {"whole": int, "number": float, "boolean": lambda text: text in ("true", "True")}
        if self.labels in kinds:
            return np.array([kinds[self.labels](text) for text in self.classes])
        return np.array(self.classes, dtype=object)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, which `read` makes a target of."""
        return asdict(self)

    @classmethod
    def read(cls, saved: Fields, reading: Reading) -> Target:
        """The target that `as_dict` described.

        Raises:
            DamagedFileError: it is none.
        """
        task, kind, scale = saved.text("task"), saved.text("labels"), saved.number("scale")
        classes = saved.items("classes", lambda v: isinstance(v, str), "a list of texts")
        if task not in TASKS:
            saved.refuse("task", " or ".join(TASKS), task)
        if len(set(classes)) < len(classes) or (len(classes) < 2) != (task == "regression"):
            saved.refuse("classes", "two labels or more, each once, for classification; none for regression", classes)
        if kind != "text" and kind != _kind_of(classes):
            saved.refuse("labels", "what the classes are", kind)
        if scale <= 0:
            saved.refuse("scale", "above 0", scale)
        return cls(
            saved.text("name"), task, saved.text("reason"), reading, tuple(classes), kind, saved.number("center"), scale
        )


def _guess(series: pl.Series, reading: Reading | None) -> tuple[str, str]:
    """The task, and why."""
    if series.dtype == pl.Boolean or reading is None:
        return "classification", f"{texts(series).drop_nulls().n_unique():,} different labels"
    values = numbers(series, reading)
    distinct = np.unique(values[~np.isnan(values)])
    if len(distinct) <= 2:
        return "classification", f"{len(distinct)} different values"
    if len(distinct) <= FEW and (distinct == np.floor(distinct)).all() and 5 * len(distinct) <= len(values):
        return "classification", f"{len(distinct)} different whole numbers"
    return "regression", f"{len(distinct):,} different numbers"


def _kind_of(classes: list[str]) -> str:
    """What labels are: texts, unless each is how a number or a boolean is written."""
    if set(classes) in ({"true", "false"}, {"True", "False"}):  # as a program writes them
        return "boolean"
    for kind, number in (("whole", int), ("number", float)):
        try:
            if classes and all(str(number(text)) == text for text in classes):
                return kind
        except ValueError:
            pass
    return "text"


def _example(series: pl.Series) -> str:
    found = texts(series).drop_nulls()
    return repr(found[0][:30]) if len(found) else "nothing"
