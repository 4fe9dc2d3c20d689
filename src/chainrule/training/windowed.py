"""Trainings on sources: the rows are read window by window, and each window takes the place of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.autodiff import trees
from chainrule.data.checks import check_batch_size
from chainrule.data.windows import Cursor, Source, Window
from chainrule.errors import DataError, DtypeError, SettingError, ShapeError
from chainrule.nn.meaning import BINARY_PROBABILITIES
from chainrule.training import inputs, several
from chainrule.training.measures import Averaged, Measures
from chainrule.training.session import Rows, Session
from chainrule.training.source_rows import BATCH, Epochs, SourceRows, parts
from chainrule.training.steps import Passes, StepProgram, together

if TYPE_CHECKING:
    from chainrule.training.checked import Checked
    from chainrule.training.position import Position

Array = np.ndarray[Any, Any]
NO_STEPS = (
    "fit: steps_per_epoch is for streams (a generator, a function, a loader), which may have no end. An epoch of these rows "
    "is each of them once: leave it out, and use batch_size, or fewer rows."
)


def whole(source: Source) -> Any | None:
    """All rows of a source that is no larger than a window and has the same in every epoch; else None."""
    found = getattr(source, "whole", None)
    return None if found is None else found()


def described(checked: Checked, source: Source, names: tuple[str, str], epochs: Epochs | None = None) -> SourceRows:
    """The rows of a source: how many, and the first of them, which model and loss are tried with.

    Args:
        names: what errors call features and targets.
        epochs: of the training; None for rows to validate on, which need not be counted.

    Raises:
        DataError, ShapeError, SettingError: they cannot be trained on.
    """
    few = inputs.MANY_PROBED if checked.session.meaning == BINARY_PROBABILITIES else inputs.PROBED
    if epochs is None and getattr(source, "once", False):
        raise SettingError(
            f"fit: {names[0]} is an iterator, which gives its batches once, and they are measured after every epoch. Give a function "
            f"that makes it: validation_data=lambda: batches()."
        )
    x, y, weight = parts(source.head(few))
    asked = None if epochs is None else epochs.batch_size
    size = check_batch_size((source.batch_size or BATCH) if asked is None else asked, "fit")
    if epochs is not None and epochs.steps is not None:
        source = _epochs_of(source, _steps(epochs.steps) * size)
    found = checked.rows(x, y, "fit", weight, names=names, some=False)
    total = 0 if epochs is None else source.rows or _count(source, size, epochs.seed)
    return SourceRows(found.x, found.y, weight=found.weight, source=source, total=total, batch_size=size)


def _epochs_of(source: Any, rows: int) -> Source:
    """The source in epochs of so many rows."""
    if not hasattr(source, "epochs_of"):
        raise SettingError(NO_STEPS)
    found: Source = source.epochs_of(rows)
    return found


def _steps(steps: object) -> int:
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise SettingError(f"fit: steps_per_epoch must be a whole number, 1 or more, or None, got {steps!r}.")
    return int(steps)


def _count(source: Source, size: int, seed: int) -> int:
    """How many rows a stream has in an epoch, which it has to be gone through for."""
    if getattr(source, "once", False):
        raise SettingError(
            "fit: an iterator gives its batches once, and nobody knows how many there are. Say how many an epoch has with "
            "steps_per_epoch=, or give a function that makes it: fit(lambda: batches())."
        )
    with _closed(source.windows(Cursor(), seed, batch_size=size)) as windows:
        return sum(window.rows for window in windows)


@contextmanager
def _closed(windows: Iterator[Window]) -> Iterator[Iterator[Window]]:
    """Nothing is read any more after the block."""
    try:
        yield windows
    finally:
        close(windows)


def close(windows: Iterator[Window] | None) -> None:
    """Nothing is read any more."""
    ending = getattr(windows, "close", None)
    if ending is not None:
        ending()


class Windowed:
    """The windows of a source as the compiled steps of a training take them, one after the other.

    Attributes:
        stop: the step of the epoch at which the window that is held ends.
    """

    def __init__(self, session: Session, checked: Checked, rows: SourceRows, position: Position) -> None:
        self.session, self.checked, self.rows = session, checked, rows
        self.seed, self.shuffle, self.batch = position.seed, position.shuffle, position.batch_size
        self.micro_batches = position.micro_batches
        self.window: Window | None = None
        self.first = self.stop = 0
        self._windows: Iterator[Window] | None = None

    def reach(self, position: Position, epochs: int, program: StepProgram) -> StepProgram:
        """Hold the window that the next step is of; the program that gathers from it.

        Args:
            epochs: how many there are to be: the first window of the next is read while the last of this one is used.
            program: the one so far.
        """
        row = position.step * self.batch
        cursor = self._source.cursor_at(position.epoch, row, self.batch)
        held = self.window
        if held is not None and held.cursor[:2] == cursor[:2]:
            return program
        self.window = None  # before the next is read: two need not fit
        window = self._next(cursor)
        self._check_end(window, row - cursor.row + window.rows)
        found = checked_rows(self.checked, self._source, window, "fit")
        self.window, self.first = window, row - cursor.row
        self.stop = min(position.steps, -(-(self.first + window.rows) // self.batch))
        if window.last and position.epoch + 1 < epochs:
            self._windows = self._from(Cursor(position.epoch + 1))
        return self._program(found, window.rows, program)

    @property
    def _source(self) -> Source:
        if self.rows.source is None:
            raise RuntimeError("fit: a training on a source without the source; this is a bug in chainrule")
        return self.rows.source

    def _next(self, cursor: Cursor) -> Window:
        window = next(self._windows, None) if self._windows is not None else None
        if window is None or window.cursor[:2] != cursor[:2]:
            self.close()
            self._windows = self._from(cursor)
            window = next(self._windows, None)
        if window is None or window.cursor[:2] != cursor[:2]:
            raise DataError(
                f"fit: the source ended before window {cursor.window + 1} of epoch {cursor.epoch + 1}: it has fewer rows than "
                f"the {self.rows.total} that an epoch was to have. Give a source with the same rows in every epoch."
            )
        return window

    def _check_end(self, window: Window, end: int) -> None:
        """Raise where an epoch has other rows than were counted; `end`: so many with this window."""
        total = self.rows.total
        if (end != total) if window.last else (end >= total):
            came = f"{end}" if window.last else f"more than {total}"
            raise DataError(
                f"fit: every epoch of the source must have the {total} rows that were counted, got {came} in epoch "
                f"{window.cursor.epoch + 1}. Give the same number of rows each time, or say how many steps an epoch has with "
                f"steps_per_epoch=."
            )

    def _from(self, cursor: Cursor) -> Iterator[Window]:
        # A stream has an order of its own, which None leaves to it.
        shuffle = None if self.shuffle else False
        return self._source.windows(cursor, self.seed, batch_size=self.batch, shuffle=shuffle)

    def _program(self, rows: Rows, count: int, before: StepProgram) -> StepProgram:
        program = self.session.program("training", rows.x, rows.y, rows.weight, count, self.micro_batches)
        program.chunk = max(program.chunk, before.chunk)  # how long a step takes does not go by the window
        return program

    def __getitem__(self, rows: slice) -> Array:
        """The row numbers, in the window, of these places in the order of the epoch."""
        if self.window is None:
            raise RuntimeError("fit: rows of no window were asked for; this is a bug in chainrule")
        start, stop = rows.start - self.first, rows.stop
        return self.window.order[start : None if stop is None else stop - self.first]

    def close(self) -> None:
        """Nothing is read any more."""
        close(self._windows)
        self._windows = None


def checked_rows(checked: Checked, source: Source, window: Window, who: str) -> Rows:
    """The rows of a window as a step takes them.

    Raises:
        DataError, ShapeError, DtypeError, SettingError: they cannot be trained on.
    """
    x, y, weight = parts(window.arrays)
    if y is None:  # that is of no row
        several.check_without_targets({"the loss": checked.session.loss, **checked.session.metrics}, who)
    try:
        return checked.rows(x, y, who, weight, some=False)
    except (DataError, ShapeError, DtypeError) as error:
        raise type(error)(f"{error}{_place(source, window)}") from error


def _place(source: Source, window: Window) -> str:
    """Where the rows of an error are: that of the first number that is not finite, or the window; nothing where that is all."""
    where = getattr(source, "where", None)
    floats = [array for array in trees.leaves(window.arrays) if array.dtype.kind == "f"]
    bad = [row for array in floats for row in np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))[:1]]
    if where is not None and bad:
        return f" Row {bad[0]} of this window is {where(window, int(bad[0]))}."
    if window.rows == source.rows:
        return ""
    return f" Rows are counted from the first of window {window.cursor.window + 1}, of {window.rows} rows."


def evaluate(session: Session, checked: Checked, source: Source, kind: str, batch_size: int) -> dict[str, float]:
    """The measures over all rows of a source, window by window."""
    total: Any = 0.0
    count, kept, widths = 0, list[list[Array]](), list[int]()
    with _closed(source.windows(batch_size=batch_size, shuffle=False)) as windows, session.mode(False):
        for window in windows:
            rows = checked_rows(checked, source, window, "evaluate" if kind == "evaluation" else "fit")
            program = session.program(kind, rows.x, rows.y, rows.weight, window.rows)
            passes = Passes(program, window.rows, min(batch_size, window.rows))
            passes.once()
            sums, found = passes.totals()
            total, count = total + sums[0], count + window.rows
            kept += [[part[0] for part in of] for of in found]
            widths = program.widths
    measures = Measures(session.metrics, ranked=True)
    averaged = Averaged.of(np.asarray(total)[None] / count, widths, lambda _: together(kept))
    return {name: value for name, (value,) in measures.of(averaged).items()}


def predicted(source: Source, predict: Callable[[Any], Any], batch_size: int) -> Any:
    """What `predict` makes of the rows of each window, one below the other.

    Raises:
        SettingError: the source draws their order, so that nobody could tell of which row a prediction is.
    """
    sampler = getattr(source, "sampled_by", None)
    if sampler is not None:
        raise SettingError(
            f"predict: row i of what it gives is of row i of the data, and this loader draws another order each time (its sampler "
            f"is a {sampler}). Give one with shuffle=False, or the dataset itself."
        )
    with _closed(source.windows(batch_size=batch_size, shuffle=False)) as windows:
        found = [predict(parts(window.arrays)[0]) for window in windows]
    leaves = [np.concatenate(pieces) for pieces in zip(*map(trees.leaves, found), strict=True)]
    return trees.filled(found[0], leaves)
