"""From a table to the arrays that a network trains on, and from its outputs back: learned once, kept as plain JSON."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import polars as pl

from chainrule.available import SURE, available_bytes
from chainrule.data.named import some
from chainrule.data.table import encoding, kinds
from chainrule.data.table.kinds import Column
from chainrule.data.table.table import Table
from chainrule.data.table.target import Target
from chainrule.data.table.values import MOSTLY, Reading, as_written, moments, numbers
from chainrule.data.table.values import known as present
from chainrule.errors import DataError, NotEnoughMemoryError, SettingError
from chainrule.files.document import Fields, parse, short
from chainrule.files.reading import read_whole
from chainrule.files.writing import write_whole

Array = np.ndarray[Any, Any]
FORMAT = "chainrule.table/1"
MOST = 1 << 26  # bytes of a saved pipeline
NAMED = 5  # columns in a message
MAX_CATEGORIES, MIN_FREQUENCY = 32, 2


class TablePipeline:
    """Learns on training rows what each column is and how it is scaled and encoded; applies that to any rows.

    Args:
        target: the column to predict, or several that are numbers.
        task: ``"classification"`` or ``"regression"``; guessed from the target where it is left out.
        kinds: what columns are, where the guess is not to be asked: ``{"zip": "categorical"}``; one of `KINDS`.
        drop: columns that the network does not see.
        scaling: of numbers: ``"robust"`` (centre and spread that outliers do not move, smoothly clipped),
            ``"robust_all"`` (the columns that levels become, too), ``"robust_few"`` (those of eight levels at most), ``"standard"``
            or ``"none"``.
        max_categories: columns at most that a categorical column becomes; the rarest levels share the last
            (as in scikit-learn's OneHotEncoder).
        min_frequency: levels in fewer training rows than this share that column.
        date_format: of dates, as ``strptime`` has it, where it cannot be guessed.

    Attributes:
        columns_: what each column is, and why (`Column`).
        targets_: what is predicted (`Target`).
        task_: ``"classification"`` or ``"regression"``.
        classes_: the labels, in the type they came in; None for regression.

    Raises:
        UnknownNameError: a column, kind or scaling that there is not.
        DataError: the target is missing somewhere or has nothing to tell apart, or no column is left to learn from.

    Example:
        >>> table = Table({"size": [1.0, 2.0, None, 4.0], "kind": ["a", "b", "a", "b"], "price": [10.0, 20.0, 30.0, 40.0]})
        >>> pipeline = TablePipeline(target="price").fit(table)
        >>> X, y = pipeline.transform(table), pipeline.target(table)
        >>> X.shape, X.dtype.name, pipeline.get_feature_names_out()
        ((4, 4), 'float32', ['size', 'size (missing)', 'kind=a', 'kind=b'])
        >>> pipeline.inverse(y).round(3).tolist()
        [10.0, 20.0, 30.0, 40.0]
    """

    def __init__(
        self, target: str | Sequence[str], task: str | None = None, kinds: Mapping[str, str] | None = None,
        drop: Iterable[str] = (), scaling: str = "robust", max_categories: int = MAX_CATEGORIES,
        min_frequency: int = MIN_FREQUENCY, date_format: str | None = None,
    ) -> None:  # fmt: skip
        self.target_names = [target] if isinstance(target, str) or not isinstance(target, Iterable) else list(target)
        self.task, self.kinds, self.drop = task, dict(kinds or {}), list(drop)
        self.scaling, self.max_categories, self.min_frequency = scaling, max_categories, min_frequency
        self.date_format = date_format
        self.columns_: list[Column] = []
        self.targets_: list[Target] = []
        self._encoders: dict[str, encoding.Any_] = {}
        self._check()

    def _check(self) -> None:
        if not self.target_names or not all(isinstance(name, str) for name in self.target_names):
            got = repr(self.target_names[0]) if self.target_names else "none"
            raise SettingError(
                f"TablePipeline: target must name a column, got {got}. Names of columns are texts, also those of numbers: '0'."
            )
        for name, least in (("max_categories", 2), ("min_frequency", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SettingError(f"TablePipeline: {name} must be a whole number from {least} on, got {value!r}.")
        if self.scaling not in encoding.SCALINGS:
            raise SettingError(
                f"TablePipeline: scaling must be one of {', '.join(encoding.SCALINGS)}, got {self.scaling!r}."
            )
        twice = set(self.drop) & set(self.target_names)
        if twice:
            raise SettingError(f"TablePipeline: {sorted(twice)[0]!r} is the target and cannot be dropped as well.")

    # ---------------------------------------------------------------- learning

    def fit(self, table: object) -> TablePipeline:
        """Learn from the rows to train on; returns itself."""
        data = Table.of(table)
        data.check_names([*self.drop, *self.kinds])
        targets = self.guessed(data)
        if len(targets) > 1 and any(target.task != "regression" for target in targets):
            raise DataError(
                "several targets must all be numbers (task='regression'); classes are learned one target at a time. Name one."
            )
        columns = self._columns(data)
        if not any(column.used for column in columns):
            raise DataError(_nothing_left(columns))
        if self.date_format is not None and not any(one.reading.format == self.date_format for one in columns):
            raise DataError(
                f"date_format={self.date_format!r} (--date-format) is the form of no column. Correct it, name the column "
                f"(kinds={{'day': 'datetime'}}, --datetime day), or leave it out: usual forms are found."
            )
        self.columns_, self.targets_ = columns, targets
        self._encoders = {
            column.name: encoding.fit(column, data[column.name], self.scaling, self.max_categories, self.min_frequency)
            for column in columns if column.used
        }  # fmt: skip
        return self

    def guessed(self, table: object) -> list[Target]:
        """What the targets of these rows would be; nothing is kept."""
        data = Table.of(table)
        return [Target.fit(data[name], self.task, data.written) for name in self.target_names]

    def _columns(self, data: Table) -> list[Column]:
        left = [name for name in data.columns if name not in {*self.target_names, *self.drop}]
        found = [self._column(data, name) for name in left]
        return _without_duplicates(found, data, set(self.kinds))

    def _column(self, data: Table, name: str) -> Column:
        if name in self.kinds:
            return kinds.as_told(data[name], self.kinds[name], data.written, self.date_format)
        return kinds.guess(data[name], data.written, self.date_format)

    # ---------------------------------------------------------------- applying

    def transform(self, table: object) -> Array:
        """The rows as float32 (N, F). What is missing, unseen or unreadable is encoded as such; see `differences`.

        A table with another decimal mark than that of training is read with its own. A column that is not there, or of which
        less than nine in ten values can be read or are levels that training had, is warned about.

        Raises:
            DataError: not one of the columns is there.
        """
        data = Table.of(table)
        found, absent = self.encoded(data), self._absent(data)
        if absent:
            warnings.warn(
                f"TablePipeline.transform: {_listed(absent)} not there, so all values are taken as missing.",
                stacklevel=2,
            )
        for note in self._unreadable(data):
            warnings.warn(f"TablePipeline.transform: {note}.", stacklevel=2)
        return found

    def _unreadable(self, data: Table) -> list[str]:
        """What is to be said of columns that would not count as what they are, if this were what to learn from."""
        found = []
        for column in self.columns_:
            if column.used and column.name in data:
                there, lost = self._lost(column, data)
                if lost > (1 - MOSTLY) * there:
                    other = {",": ".", ".": ","}[data.decimal]
                    mark = (
                        f". If their decimal mark is {other!r}, say so: decimal={other!r}"
                        if column.kind == "numeric"
                        else ""
                    )
                    found += [note + mark for note in self._unlike(column, data)]
        return found

    def encoded(self, data: Table) -> Array:
        """`transform` without a warning."""
        self._check_fitted()
        used = [column for column in self.columns_ if column.used]
        if len(self._absent(data)) == len(used):
            raise DataError(
                f"{data.name} has none of the columns that the network was trained on: {some([c.name for c in used], NAMED)}. It "
                f"has {some(data.columns, NAMED)}. Check header and delimiter.{_of_comment(data.columns)}"
            )
        X, at = self._room(len(data)), 0
        for column in used:
            part = self._encoders[column.name].transform(self._series(data, column.name), _reading_in(data, column))
            X[:, at : at + part.shape[1]] = part
            at += part.shape[1]
        return X

    def _room(self, rows: int) -> Array:
        """Memory for so many rows, encoded.

        Raises:
            NotEnoughMemoryError: there is not as much.
        """
        shape = rows, len(self.get_feature_names_out())
        needed, room = 4 * shape[0] * shape[1], available_bytes()
        if needed > SURE and room is not None and needed > room:
            raise NotEnoughMemoryError(
                f"{shape[0]:,} rows with {shape[1]:,} inputs need {needed:,} bytes, and {room:,} are available. Take fewer rows, "
                f"leave columns out, or fewer levels of each (max_categories={self.max_categories})."
            )
        return np.empty(shape, np.float32)

    def fit_transform(self, table: object) -> Array:
        """`fit`, then `transform` of the same rows."""
        data = Table.of(table)
        return self.fit(data).transform(data)

    def target(self, table: object) -> Array:
        """What the network is to give: class numbers, int64 (N,), or scaled values, float32 (N, number of targets).

        Raises:
            DataError: a value is missing, or a class that was not there when it was fitted.
        """
        self._check_fitted()
        data = Table.of(table)
        found = [_as_written(target, data).encode(data[target.name]) for target in self.targets_]
        return found[0] if self.task_ == "classification" else np.stack(found, 1)

    def inverse(self, values: object) -> Array:
        """Labels for class numbers (N,); values in the target's own unit for what the network gives."""
        self._check_fitted()
        array = np.asarray(values)
        if self.task_ == "classification":
            return self.targets_[0].inverse(array)
        if len(self.targets_) == 1:
            return self.targets_[0].inverse(array.reshape(len(array)))
        return np.stack([target.inverse(array[:, i]) for i, target in enumerate(self.targets_)], 1)

    def known(self, table: object) -> Array:
        """A mask of the rows whose targets are all there; before `fit`, as the targets would be read."""
        data = Table.of(table)
        targets = [_as_written(target, data) for target in self.targets_] or [
            Target.unfitted(data[name], self.task, data.written) for name in self.target_names
        ]
        return np.asarray(np.logical_and.reduce([target.known(data[target.name]) for target in targets]))

    def differences(self, table: object) -> list[str]:
        """How other rows differ from those it was fitted on: columns that are missing or not used, levels never seen,
        values that are not what their column holds, numbers that are written in another way."""
        self._check_fitted()
        data = Table.of(table)
        absent = self._absent(data)
        notes = [f"{_listed(absent)} not there: all values are taken as missing"] if absent else []
        known = {column.name for column in self.columns_} | {*self.target_names, *self.drop}
        new = [name for name in data.columns if name not in known]
        if new:
            notes.append(f"not used, as training had none of that name: {some(new, NAMED)}")
        for column in self.columns_:
            if column.used and column.name in data:
                notes += self._unlike(column, data)
        return notes + self._written_otherwise(data)

    def _written_otherwise(self, data: Table) -> list[str]:
        """What is to be said of numbers that are read in another way than in training, and come out as others."""
        learned = {c.name: c.reading for c in self.columns_ if c.used and c.kind == "numeric"}
        learned |= {target.name: target.reading for target in self.targets_ if target.task == "regression"}
        found: dict[str, list[str]] = {}
        for name, before in learned.items():
            if name not in data:
                continue
            now = as_written(data[name], before, data.written)
            if now.in_words() != before.in_words() and not np.array_equal(
                numbers(data[name], now), numbers(data[name], before), equal_nan=True
            ):
                found.setdefault(f"{now.in_words()}, those of training with {before.in_words()}", []).append(name)
        return [f"numbers are read with {how}: {some(names, NAMED)}" for how, names in found.items()]

    def _unlike(self, column: Column, data: Table) -> list[str]:
        encoder, series = self._encoders[column.name], data[column.name]
        if isinstance(encoder, encoding.Categorical):
            unseen = encoder.unseen(series, column.reading)
            rows = sum(unseen.values())
            return (
                [f"{column.name}: {rows:,} rows have levels that training had not: {some(list(unseen), NAMED)}"]
                if rows
                else []
            )
        _, lost = self._lost(column, data)
        what = "numbers" if column.kind == "numeric" else "dates in the form they had in training"
        return [f"{column.name}: {lost:,} values are no {what}: taken as missing"] if lost else []

    def _lost(self, column: Column, data: Table) -> tuple[int, int]:
        """How many values are there of a column, and how many of those cannot be read, or are levels never seen."""
        series, reading, encoder = data[column.name], _reading_in(data, column), self._encoders[column.name]
        there = present(series, reading.weak).is_not_null().to_numpy()
        if isinstance(encoder, encoding.Categorical):
            return int(there.sum()), sum(encoder.unseen(series, reading).values())
        read = ~np.isnan(numbers(series, reading)) if column.kind == "numeric" else ~np.isnat(moments(series, reading))
        return int(there.sum()), int((there & ~read).sum())

    def grouped(self) -> list[str]:
        """The columns some of whose levels share one input, a sentence each."""
        found = {c.name: self._encoders[c.name] for c in self.columns_ if c.used}
        return [
            f"{name}: {len(e.levels)} levels have an input each, all rarer ones share one"
            for name, e in found.items() if isinstance(e, encoding.Categorical) and e.other
        ]  # fmt: skip

    def get_feature_names_out(self) -> list[str]:
        """The names of the columns of `transform`'s result."""
        self._check_fitted()
        used = (column.name for column in self.columns_ if column.used)
        return [name for column in used for name in self._encoders[column].names(column)]

    def spans(self) -> list[tuple[encoding.Any_, range]]:
        """What each used column is encoded by, and which columns of `transform`'s result are its own."""
        self._check_fitted()
        found, at = [], 0
        for column in self.columns_:
            if column.used:
                encoder = self._encoders[column.name]
                found.append((encoder, range(at, at + len(encoder.names(column.name)))))
                at = found[-1][1].stop
        return found

    @property
    def task_(self) -> str:
        """``"classification"`` or ``"regression"``."""
        self._check_fitted()
        return self.targets_[0].task

    @property
    def decimal_(self) -> str:
        """The decimal mark of numbers in texts, ``","`` where a column that it was fitted on has it."""
        self._check_fitted()
        readings = [column.reading for column in self.columns_] + [target.reading for target in self.targets_]
        return "," if any(reading.decimal == "," for reading in readings) else "."

    @property
    def classes_(self) -> Array | None:
        """The labels, in order; None for regression."""
        self._check_fitted()
        return self.targets_[0].labelled() if self.task_ == "classification" else None

    @property
    def n_outputs_(self) -> int:
        """How many outputs the network needs."""
        self._check_fitted()
        return len(self.targets_[0].classes) or len(self.targets_)

    def _series(self, data: Table, name: str) -> pl.Series:
        return data[name] if name in data else pl.Series(name, [None] * len(data), dtype=pl.String)

    def _absent(self, data: Table) -> list[str]:
        self._check_fitted()
        there = set(data.columns)
        return [column.name for column in self.columns_ if column.used and column.name not in there]

    def _check_fitted(self) -> None:
        if not self.targets_:
            raise SettingError("TablePipeline: it has not been fitted. Call fit with the rows to train on first.")

    def __repr__(self) -> str:
        state = f"{len(self.get_feature_names_out())} inputs, {self.task_}" if self.targets_ else "not fitted"
        return f"<TablePipeline for {', '.join(self.target_names)}: {state}>"

    # ---------------------------------------------------------------- out and in

    def as_dict(self) -> dict[str, Any]:
        """Everything it has learned, as plain values."""
        self._check_fitted()
        columns = [
            {**asdict(column), "encoder": encoding.as_dict(self._encoders[column.name]) if column.used else None}
            for column in self.columns_
        ]
        settings = {name: getattr(self, name) for name in ("scaling", "max_categories", "min_frequency", "drop")}
        return {"format": FORMAT, **settings, "columns": columns, "targets": [t.as_dict() for t in self.targets_]}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one JSON document, whole or not at all."""
        write_whole(path, json.dumps(self.as_dict(), indent=1).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TablePipeline:
        """What `save` wrote; no code of the file is run.

        Raises:
            DamagedFileError: it cannot be read, or is no pipeline.
        """
        name = os.fspath(path)
        return cls.read(Fields(parse(read_whole(path, "a pipeline", MOST), name), name))

    @classmethod
    def read(cls, saved: Fields) -> TablePipeline:
        """What `as_dict` described.

        Raises:
            DamagedFileError: it is none.
        """
        if saved.text("format") != FORMAT:
            saved.refuse("format", repr(FORMAT), saved.text("format"))
        targets = [Target.read(found, _reading(found)) for found in _each(saved, "targets")]
        if not targets or (len(targets) > 1 and any(target.task != "regression" for target in targets)):
            saved.refuse("targets", "one, or several that are numbers", len(targets))
        scaling = saved.text("scaling")
        if scaling not in encoding.SCALINGS:
            saved.refuse("scaling", " or ".join(encoding.SCALINGS), scaling)
        drop = saved.items("drop", lambda v: isinstance(v, str), "a list of names")
        found = cls(
            [target.name for target in targets], targets[0].task, drop=drop, scaling=scaling,
            max_categories=saved.whole("max_categories", 2), min_frequency=saved.whole("min_frequency", 1),
        )  # fmt: skip
        for one in _each(saved, "columns"):
            column = Column(one.text("name"), one.text("kind"), one.text("reason"), _reading(one))
            if column.kind not in kinds.KINDS:
                one.refuse("kind", f"one of {', '.join(kinds.KINDS)}", column.kind)
            if column.used:
                found._encoders[column.name] = encoding.read(column.kind, one.fields("encoder"))
            found.columns_.append(column)
        names = [column.name for column in found.columns_]
        if len(set(names)) < len(names) or not found._encoders:
            saved.refuse("columns", "a list of columns, each once, one of which is used", names)
        found.targets_ = targets
        return found


def _each(saved: Fields, name: str) -> list[Fields]:
    return [Fields(one, f"{saved.source}: {name}[{i}]", saved.remedy) for i, one in enumerate(saved.items(name))]


def _reading(saved: Fields) -> Reading:
    found = saved.fields("reading")
    if found.text("decimal") not in (".", ","):
        found.refuse("decimal", "'.' or ','", found.text("decimal"))
    form = found.text("format") if found.has("format") else None
    told = found.has("told") and found.flag("told")  # files of before it was kept have none
    return Reading(found.text("decimal"), found.flag("grouped"), form, found.flag("weak"), told)


def _without_duplicates(columns: list[Column], data: Table, told: set[str]) -> list[Column]:
    """The columns, those that repeat an earlier one marked as that."""
    seen: dict[Any, list[str]] = {}
    found = []
    for column in columns:
        series = data[column.name]
        if column.used and column.name not in told:
            alike = seen.setdefault((series.dtype, *series.hash().head(64).to_list(), int(series.hash().sum())), [])
            twin = next((name for name in alike if data[name].equals(series, check_names=False)), None)
            if twin is not None:
                column = Column(column.name, "duplicate", f"it is {twin!r} again", column.reading)
            alike.append(column.name)
        found.append(column)
    return found


def _nothing_left(columns: list[Column]) -> str:
    why = "; ".join(f"{column.name}: {column.kind}, {column.reason}" for column in columns[:8])
    if not columns:
        return "no column is left to learn from: there is none beside the target. Give rows that have others, or drop fewer."
    return f"no column is left to learn from ({why}). Say what a column is with kinds= (--numeric, --categorical ...)."


def _reading_in(data: Table, column: Column) -> Reading:
    """How a column is read in this table."""
    if column.kind != "numeric" or column.name not in data:
        return column.reading
    return as_written(data[column.name], column.reading, data.written)


def _as_written(target: Target, data: Table) -> Target:
    """The target as this table writes it."""
    if target.task != "regression":
        return target
    return replace(target, reading=as_written(data[target.name], target.reading, data.written))


def _of_comment(names: list[str]) -> str:
    """What to do where a comment was taken as the names of columns."""
    found = next((name for name in names if name.startswith("#")), None)
    if found is None:
        return ""
    return f" If {short(found)} is a comment, skip the lines before the header (read_table: skip_rows; --skip-rows)."


def _listed(names: list[str]) -> str:
    return f"the column{'s' * (len(names) > 1)} {some(names, NAMED)} {'are' if len(names) > 1 else 'is'}"
