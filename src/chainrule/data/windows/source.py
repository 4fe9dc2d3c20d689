"""The protocol of sources: what a training reads data from that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from chainrule.data.windows.plan import START, Cursor
from chainrule.data.windows.window import Window
from chainrule.errors import DataError
from chainrule.names import takes_keywords

BUFFER = 1 << 26  # bytes of a window (64 MB): two or three are in memory at a time


@runtime_checkable
class Source(Protocol):
    """Rows of data, window by window. `as_source` makes one of whatever holds data.

    Attributes:
        rows: how many there are; None where nobody knows before an epoch is over.
        batch_size: the rows of a batch where the source itself says so (a loader; another stream once `head` was asked for), else
            None.
    """

    rows: int | None
    batch_size: int | None

    def windows(
        self, start: Cursor = START, seed: int = 0, *, batch_size: int | None = None, shuffle: bool | None = None
    ) -> Iterator[Window]:
        """The windows of epoch `start.epoch`, from `start` on.

        The order of all rows is a function of `seed`, `start.epoch`, `batch_size` and the sizes of the source. So the same
        `start` gives the same rows in another process, and nothing before it is read.

        Args:
            start: where to begin; `Window.after` gives it for any row.
            seed: integer in ``[0, 2**64)``.
            batch_size: rows of a batch (default: 64). A window is whole batches, but for the end of the epoch.
                A stream (a loader, a generator) has batches of its own; with a batch size, its rows are cut anew.
            shuffle: visit pieces and rows in a random order (default: yes). A stream has an order of its own, and cannot be
                asked for another.

        Raises:
            DataError: the data cannot be read, or changed meanwhile.
        """

    def cursor_at(self, epoch: int, row: int, batch_size: int) -> Cursor:
        """Where the reading of `windows` with this batch size stands once so many rows of an epoch are done."""

    def head(self, rows: int) -> Any:
        """The first rows (at most so many, at least one), for a look at what they are."""

    def fingerprint(self) -> str:
        """A text that is another where the data (large data: samples of it) or its order is."""


@takes_keywords("")
def check_fingerprint(source: Source, saved: str, who: str = "resume") -> None:
    """Raise `DataError` unless the source is the one that a saved fingerprint stands for."""
    if source.fingerprint() != saved:
        raise DataError(
            f"{who}: the data is not what it was when the training was saved: its rows, sizes or values, or how they are "
            f"cut into windows, have changed. Give the same data, or start a new training."
        )
