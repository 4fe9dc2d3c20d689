"""A source whose batches come one after the other: a loader, a generator, whatever can be iterated over."""

from __future__ import annotations

import copy
import inspect
import itertools
import operator
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from chainrule.autodiff.trees import aligned, leaves, mapped, outline
from chainrule.data.checks import check_batch_size, counter
from chainrule.data.windows.columns import Columns
from chainrule.data.windows.draws import Draws
from chainrule.data.windows.fingerprint import digest, sampled
from chainrule.data.windows.pieces import joined, plain, same_rows
from chainrule.data.windows.plan import START, STRIDE, Cursor
from chainrule.data.windows.source import BUFFER
from chainrule.data.windows.window import Window
from chainrule.errors import DataError

MOST = 256  # batches of a window, so that a slow stream is used soon
LONG = 10.0  # seconds after which it is said that a stream whose length nobody knows has not ended


class StreamSource:
    """The windows of a stream: its batches, in its order, as many as fit into the buffer.

    Whatever the stream draws from this library's random generator (a loader of PyTorch's: from PyTorch's) while it is asked for
    batches comes from a generator of its own, seeded by seed and epoch: a loader that shuffles gives the same order again. It is asked in the thread of whoever
    wants the window. To resume in the middle of an epoch, the batches before are drawn again and thrown away.

    Args:
        stream: an iterable; or a function of nothing, or of the number of the epoch, that gives one for each epoch.
        columns: which columns make the arrays, where they have names.

    Attributes:
        rows: of an epoch: as a loader says it, or as `epochs_of` did.
        once: it is an iterator, whose batches come once.
    """

    def __init__(
        self, stream: Any, buffer: int = BUFFER, transform: Callable[[Any], Any] | None = None, who: str = "source",
        columns: Columns | None = None,
    ) -> None:  # fmt: skip
        self.stream, self.buffer, self.transform, self.who, self.columns = stream, buffer, transform, who, columns
        self.once = isinstance(stream, Iterator)
        self.peeked: list[Any] = []  # batches of an iterator that `head` took and no window has given yet
        self.used = False
        size = getattr(stream, "batch_size", None)
        self.batch_size: int | None = size if isinstance(size, int) else None
        self.rows: int | None = _rows_of(stream, self.batch_size)
        self._limit: int | None = None  # rows of an epoch, where the stream does not end there
        self._given = 0  # rows that an iterator has given, where it has no epochs of its own
        self._row_bytes: float | None = None

    def windows(
        self, start: Cursor = START, seed: int = 0, *, batch_size: int | None = None, shuffle: bool | None = None
    ) -> Iterator[Window]:
        """See `Source`."""
        if shuffle:
            raise DataError(
                f"{self.who}: the order is that of the {type(self.stream).__name__} that was given: leave out shuffle, and "
                f"choose it there."
            )
        start = Cursor(*start)
        key = (counter("seed", seed) + counter("epoch", start.epoch) * STRIDE) % 2**64
        batches = self._batches(start.epoch, key - 2**64 if key >= 2**63 else key)
        if batch_size is None:
            return self._windows(start, batches)
        return self._even_windows(start, check_batch_size(batch_size, self.who), batches)

    @property
    def sampled_by(self) -> str | None:
        """What draws the order of the rows at random: the name of a loader's sampler; None where none is known to."""
        batches = getattr(self.stream, "batch_sampler", None)
        samplers = getattr(self.stream, "sampler", None), batches, getattr(batches, "sampler", None)
        kinds = [kind.__name__ for sampler in samplers for kind in type(sampler).__mro__]
        return next((name for name in kinds if name.endswith("RandomSampler")), None)

    def epochs_of(self, rows: int) -> StreamSource:
        """The same stream in epochs of so many rows: a function's or loader's first, an iterator's next ones."""
        found = copy.copy(self)
        found.rows = found._limit = rows
        return found

    def cursor_at(self, epoch: int, row: int, batch_size: int) -> Cursor:
        """See `Source`."""
        if self.rows is not None and row >= self.rows:
            return Cursor(epoch + 1)
        if self._row_bytes is None:
            self.head(1)
        return Cursor(epoch, *divmod(row, self._window_rows(check_batch_size(batch_size, self.who))))

    def _window_rows(self, batch: int) -> int:
        return max(1, min(MOST, int(self.buffer / max(self._row_bytes or 1.0, 1.0)) // batch)) * batch

    def _even_windows(self, start: Cursor, batch: int, batches: Iterator[Any]) -> Iterator[Window]:
        """Windows of one number of rows, however many a batch of the stream has; the last has what is left."""
        for number, (parts, last) in enumerate(self._even(batch, batches)):
            if number >= start.window:
                cursor = Cursor(start.epoch, number, start.row * (number == start.window))
                yield self._window(parts, cursor, last, batch)

    def _even(self, batch: int, batches: Iterator[Any]) -> Iterator[tuple[list[Any], bool]]:
        held: list[Any] = []
        rows = 0
        for given in batches:
            self._check_alike(held, given)
            held, rows = [*held, given], rows + same_rows(given, self.who)
            while rows > (size := self._window_rows(batch)):  # one row more, so that this is not the last window
                found, held = _divided(held, size)
                rows -= size
                yield found, False
        if held:
            yield held, True

    def _windows(self, start: Cursor, batches: Iterator[Any]) -> Iterator[Window]:
        groups = self._groups(batches)
        ahead = next(groups, None)
        for number in itertools.count():
            if ahead is None:
                break
            group, ahead = ahead, next(groups, None)
            if number >= start.window:
                cursor = Cursor(start.epoch, number, start.row * (number == start.window))
                yield self._window(group, cursor, ahead is None, same_rows(group[0], self.who))
                group = []

    def _window(self, group: list[Any], cursor: Cursor, last: bool, size: int) -> Window:
        arrays = joined(group)
        rows = same_rows(arrays, self.who)
        if not 0 <= cursor.row < rows:
            raise DataError(
                f"{self.who}: there is no row {cursor.row} in window {cursor.window}, which has {rows}. "
                f"The stream does not give the batches it gave when this place was noted."
            )
        return Window(self.transform(arrays) if self.transform else arrays, np.arange(rows), size, cursor, last)

    def _groups(self, batches: Iterator[Any]) -> Iterator[list[Any]]:
        """Batches of one size and kind, the last of which may be shorter, as many as the buffer holds."""
        group: list[Any] = []
        held, size, open_ = 0, 0, False
        for batch in batches:
            rows, large = same_rows(batch, self.who), sum(array.nbytes for array in leaves(batch))
            if group and (not open_ or rows > size or held + large > self.buffer or len(group) == MOST):
                yield group
                group, held = [], 0
            self._check_alike(group, batch)
            size = rows if not group else size
            group.append(batch)
            held, open_ = held + large, rows == size
        if group:
            yield group

    def _check_alike(self, group: list[Any], batch: Any) -> None:
        parts = aligned(group[0], batch) if group else leaves(batch)
        alike = parts is not None and (not group or all(
            one.shape[1:] == other.shape[1:] and one.dtype == other.dtype for one, other in zip(leaves(group[0]), parts, strict=True)
        ))  # fmt: skip
        if not alike:
            first, other = ([f"{a.dtype}{a.shape[1:]}" for a in leaves(tree)] for tree in (group[0], batch))
            raise DataError(
                f"{self.who}: all batches must have the same parts, got {outline(group[0])} with rows of {', '.join(first)}, then "
                f"{outline(batch)} with rows of {', '.join(other)}. Give them one form."
            )

    def _batches(self, epoch: int, seed: int) -> Iterator[Any]:
        """The batches of an epoch as trees of arrays."""
        draws = Draws(self.stream, seed)
        with draws.drawing():
            batches = iter(self._stream(epoch))
        left = self._limit
        begun, silent = time.monotonic(), self.rows is not None or left is not None
        while left is None or left > 0:
            if not silent and time.monotonic() - begun > LONG:
                silent = True
                self._warn_of_no_end()
            with draws.drawing():
                batch = next(batches, self)
            if batch is self:
                if left is not None:
                    raise DataError(
                        f"{self.who}: the {type(self.stream).__name__} ended {left} rows before the end of epoch {epoch + 1}, "
                        f"which was to have {self._limit}. Ask for fewer steps_per_epoch; or give a function that makes the batches, and "
                        f"leave steps_per_epoch out: an epoch then is all of them, however short the last."
                    )
                return
            found = mapped(np.array, plain(batch, self.who))  # a copy: the stream may fill the same arrays again
            if left is not None:
                found = self._of_epoch(found, left)
                left -= same_rows(found, self.who)
            self._measure(found)
            yield found

    def _warn_of_no_end(self) -> None:
        warnings.warn(
            f"{self.who}: all batches of the {type(self.stream).__name__} are asked for, and have not ended in {LONG:g} seconds. If "
            f"there is no end, stop this: fit takes steps_per_epoch=; to validate on, or to predict, give "
            f"lambda: itertools.islice(batches(), 100).",
            stacklevel=2,
        )

    def _of_epoch(self, batch: Any, left: int) -> Any:
        """What of a batch is of this epoch; the rest of one from an iterator is of the next."""
        rows = same_rows(batch, self.who)
        if rows > left:
            (batch,), rest = _divided([batch], left)
            self.peeked = rest if self.once else []
        self._given += min(rows, left)
        return batch

    def _measure(self, batch: Any) -> None:
        rows = same_rows(batch, self.who)
        if self._row_bytes is None and rows:
            self._row_bytes = sum(array.nbytes for array in leaves(batch)) / rows

    def _stream(self, epoch: int) -> Iterable[Any]:
        if self.once and self._limit is not None:
            return self._going_on(epoch * self._limit)
        if self.once:
            if self.used:
                raise DataError(
                    f"{self.who}: a {type(self.stream).__name__} gives its batches once, and a second epoch (or a second look) "
                    f"asks for them again. Give a function that makes one: as_source(lambda: batches())."
                )
            self.used = True
            taken, self.peeked = self.peeked, []
            return itertools.chain(taken, self.stream)
        if callable(self.stream):
            return self.stream(epoch) if _takes_epoch(self.stream) else self.stream()  # type: ignore[no-any-return]
        return self.stream  # type: ignore[no-any-return]

    def _going_on(self, row: int) -> Iterator[Any]:
        """An iterator's batches from a row on, counted from its first; those before are thrown away."""
        if row < self._given:
            raise DataError(
                f"{self.who}: a {type(self.stream).__name__} gives its batches once, and has given {self._given} rows; those "
                f"from row {row} on are asked for. Give a function that makes one: as_source(lambda: batches())."
            )
        while True:
            batch = self.peeked.pop(0) if self.peeked else next(self.stream, self)
            if batch is self:
                return
            missing = row - self._given
            if missing <= 0:
                yield batch
                continue
            batch = mapped(np.array, plain(batch, self.who))
            if same_rows(batch, self.who) > missing:
                self.peeked = _divided([batch], missing)[1]
            self._given += min(missing, same_rows(batch, self.who))

    def head(self, rows: int) -> Any:
        """The first batch, at most so many rows of it."""
        if self.once:
            if not self.peeked and not self.used:
                self.peeked = list(itertools.islice(self.stream, 1))
            found = [plain(batch, self.who) for batch in self.peeked]
        else:
            found = list(itertools.islice(self._batches(0, 0), 1))
        if not found:
            raise DataError(f"{self.who}: there must be at least one batch, got none. Check what makes them.")
        self._measure(found[0])
        self.batch_size = self.batch_size or same_rows(found[0], self.who)
        first = mapped(lambda array: array[:rows], found[0])
        return self.transform(first) if self.transform else first

    def fingerprint(self) -> str:
        """Of what is known without asking for batches: what kind of stream it is, its length, and the tensors that a loader reads."""
        length = len(self.stream) if hasattr(self.stream, "__len__") else None
        return digest(type(self.stream).__name__, length, self.batch_size, self.buffer, *_read_by(self.stream))


def _read_by(stream: Any) -> list[Any]:
    """How a loader (ours or PyTorch's) draws rows, and what it draws them from where that is tensors in memory."""
    dataset = getattr(stream, "dataset", None)
    tensors = getattr(dataset, "tensors", None)
    if type(dataset).__name__ != "TensorDataset" or not isinstance(tensors, tuple):
        return []
    arrays = [tensor.detach().numpy() for tensor in tensors]
    return [type(getattr(stream, "sampler", None)).__name__, *(part for array in arrays for part in sampled(array))]


def _divided(batches: list[Any], rows: int) -> tuple[list[Any], list[Any]]:
    """The first so many rows of some batches, and what is left of them."""
    for number, batch in enumerate(batches):
        count = len(leaves(batch)[0])
        if rows < count:
            first, rest = (mapped(operator.itemgetter(part), batch) for part in (slice(rows), slice(rows, None)))
            return [*batches[:number], *([first] if rows else [])], [rest, *batches[number + 1 :]]
        rows -= count
    return batches, []


def _rows_of(stream: Any, batch_size: int | None) -> int | None:
    """How many rows a loader gives, where its sampler tells."""
    if batch_size is None or not hasattr(stream, "collate_fn"):
        return None
    try:
        rows = len(stream.sampler)
    except (AttributeError, TypeError):  # a dataset that is iterated over
        return None
    return rows // batch_size * batch_size if getattr(stream, "drop_last", False) else rows


def _takes_epoch(function: Callable[..., Any]) -> bool:
    """Must it be given an argument?"""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
