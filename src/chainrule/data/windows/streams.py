"""A source whose batches come one after the other: a loader, a generator, whatever can be iterated over."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from chainrule.autodiff.trees import aligned, leaves, mapped, outline
from chainrule.data.checks import counter
from chainrule.data.windows.fingerprint import digest
from chainrule.data.windows.pieces import joined, plain, same_rows
from chainrule.data.windows.plan import START, STRIDE, Cursor
from chainrule.data.windows.source import BUFFER
from chainrule.data.windows.window import Window
from chainrule.errors import DataError
from chainrule.tensor.random import Generator, drawing_from

MOST = 256  # batches of a window, so that a slow stream is used soon


class StreamSource:
    """The windows of a stream: its batches, in its order, as many as fit into the buffer.

    Whatever the stream draws from this library's random generator while it is asked for batches comes from a generator of its
    own, seeded by seed and epoch: a loader that shuffles gives the same order again. It is asked in the thread of whoever
    wants the window. To resume in the middle of an epoch, the batches before are drawn again and thrown away.

    Args:
        stream: an iterable; or a function of nothing, or of the number of the epoch, that gives one for each epoch.
    """

    def __init__(
        self, stream: Any, buffer: int = BUFFER, transform: Callable[[Any], Any] | None = None, who: str = "source"
    ) -> None:
        self.stream, self.buffer, self.transform, self.who = stream, buffer, transform, who
        self.once = isinstance(stream, Iterator)
        self.peeked: list[Any] = []  # batches of an iterator that `head` took and no window has given yet
        self.used = False
        self.rows: int | None = None
        size = getattr(stream, "batch_size", None)
        self.batch_size: int | None = size if isinstance(size, int) else None

    def windows(
        self, start: Cursor = START, seed: int = 0, *, batch_size: int | None = None, shuffle: bool | None = None
    ) -> Iterator[Window]:
        """See `Source`."""
        if batch_size is not None or shuffle:
            raise DataError(
                f"{self.who}: batches and their order are those of the {type(self.stream).__name__} that was given: leave "
                f"out batch_size and shuffle, and choose them there."
            )
        start = Cursor(*start)
        key = (counter("seed", seed) + counter("epoch", start.epoch) * STRIDE) % 2**64
        return self._windows(start, self._batches(start.epoch, Generator(key - 2**64 if key >= 2**63 else key)))

    def _windows(self, start: Cursor, batches: Iterator[Any]) -> Iterator[Window]:
        groups = self._groups(batches)
        ahead = next(groups, None)
        for number in itertools.count():
            if ahead is None:
                break
            group, ahead = ahead, next(groups, None)
            if number >= start.window:
                yield self._window(
                    group, Cursor(start.epoch, number, start.row * (number == start.window)), ahead is None
                )
                group = []

    def _window(self, group: list[Any], cursor: Cursor, last: bool) -> Window:
        size, arrays = same_rows(group[0], self.who), joined(group)
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

    def _batches(self, epoch: int, generator: Generator) -> Iterator[Any]:
        """The batches of an epoch as trees of arrays."""
        with drawing_from(generator):
            batches = iter(self._stream(epoch))
        while True:
            with drawing_from(generator):
                batch = next(batches, self)
            if batch is self:
                return
            yield mapped(np.array, plain(batch, self.who))  # a copy: the stream may fill the same arrays again

    def _stream(self, epoch: int) -> Iterable[Any]:
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

    def head(self, rows: int) -> Any:
        """The first batch, at most so many rows of it."""
        if self.once:
            if not self.peeked and not self.used:
                self.peeked = list(itertools.islice(self.stream, 1))
            found = [plain(batch, self.who) for batch in self.peeked]
        else:
            found = list(itertools.islice(self._batches(0, Generator(0)), 1))
        if not found:
            raise DataError(f"{self.who}: there must be at least one batch, got none. Check what makes them.")
        same_rows(found[0], self.who)
        first = mapped(lambda array: array[:rows], found[0])
        return self.transform(first) if self.transform else first

    def fingerprint(self) -> str:
        """Of what is known without asking for batches: what kind of stream it is, and its length."""
        length = len(self.stream) if hasattr(self.stream, "__len__") else None
        return digest(type(self.stream).__name__, length, self.batch_size, self.buffer)


def _takes_epoch(function: Callable[..., Any]) -> bool:
    """Must it be given an argument?"""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
