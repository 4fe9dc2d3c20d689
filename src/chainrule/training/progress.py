"""What `fit` shows: a live bar on a terminal or in a notebook, a line an epoch elsewhere, or nothing."""

from __future__ import annotations

import html
import importlib
import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import IO, Any

from chainrule.errors import SettingError

LONG = 10.0  # seconds that are worth a word on how much is left
OFTEN = 0.1  # seconds between two writings: a notebook keeps up with that


class Silent:
    """Shows nothing; the base of the others."""

    going_on = "fit(..., resume=True) goes on from there"  # how, where Ctrl-C stopped the training

    def start(self, epochs: int, done: int, steps: int) -> None:
        """`epochs` in all, of which `done` are done, of `steps` steps each."""

    def advance(self, epoch: int, step: int, loss: float) -> None:
        """`step` steps of epoch number `epoch` (from 0) are done."""

    def epoch(self, done: int, measured: Mapping[str, float]) -> None:
        """Epoch number `done` (from 0) is over."""

    def failed(self, done: int, text: str) -> None:
        """The training of a sweep that is over as number `done` (from 0) ended with an error: which, and with what."""
        self.epoch(done, {})

    def say(self, text: str) -> None:
        """A line that matters."""

    def close(self) -> None:
        """Nothing more comes."""


class Pace:
    """How far a training is, and how fast: epochs in all and done, the one that runs by its steps."""

    def __init__(self, epochs: int, done: float, steps: int) -> None:
        self.epochs, self.done = epochs, done
        self._steps, self._first, self._began = max(1, steps), done, time.perf_counter()

    def advance(self, epoch: int, step: int) -> None:
        """`step` steps of epoch number `epoch` (from 0) are done."""
        self.done = epoch + step / self._steps

    def rate(self) -> str:
        """Steps in a second."""
        rate = (self.done - self._first) * self._steps / max(time.perf_counter() - self._began, 1e-9)
        return f"{rate:,.0f} steps/s" if rate >= 10 else f"{rate:.2g} steps/s"

    def left(self) -> float:
        """Seconds, if the others take as long."""
        done = self.done - self._first
        return (time.perf_counter() - self._began) * (self.epochs - self.done) / done if done > 0 else 0.0


class Lines(Silent):
    """One line an epoch, or whatever else `what` names, for logs and pipes."""

    def __init__(self, stream: IO[str], what: str = "epoch") -> None:
        self.stream, self.what, self.epochs, self.done, self.began = stream, what, 0, 0, 0.0

    def start(self, epochs: int, done: int, steps: int) -> None:
        self.epochs, self.done, self.began = epochs, done, time.perf_counter()

    def epoch(self, done: int, measured: Mapping[str, float]) -> None:
        each = (time.perf_counter() - self.began) / (done + 1 - self.done)
        left = each * (self.epochs - done - 1)
        rest = f"  {span(left)} left" if left >= LONG else ""
        self.say(f"{self._place(done)}  {shown(measured)}{rest}")

    def failed(self, done: int, text: str) -> None:
        self.say(f"{self._place(done)}  {text}")

    def _place(self, done: int) -> str:
        return f"{self.what} {done + 1:>{len(str(self.epochs))}}/{self.epochs}"

    def say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class Bar(Silent):
    """A bar that moves, the epoch, and as much of what the last epoch measured as there is room for."""

    def __init__(self, stream: IO[str], what: str = "epoch") -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        whole, rest = partial(Column, no_wrap=True), Column(no_wrap=True, ratio=1, overflow="ellipsis")
        self._progress = Progress(
            BarColumn(12, table_column=whole()), MofNCompleteColumn(table_column=whole()),
            TextColumn(f"{what}s", table_column=whole()), TextColumn("{task.fields[rate]}", table_column=whole()),
            TimeRemainingColumn(table_column=whole()),
            TextColumn("{task.fields[measured]}", table_column=rest), console=Console(file=stream), expand=True,
        )  # fmt: skip
        self._task: Any = None

    def start(self, epochs: int, done: int, steps: int) -> None:
        self._pace = Pace(epochs, done, steps)
        self._task = self._progress.add_task("training", total=epochs, completed=done, measured="", rate="")
        self._progress.start()

    def advance(self, epoch: int, step: int, loss: float) -> None:
        self._pace.advance(epoch, step)
        self._progress.update(self._task, completed=self._pace.done, rate=self._pace.rate())

    def epoch(self, done: int, measured: Mapping[str, float]) -> None:
        self._progress.update(self._task, completed=done + 1, measured=shown(measured))

    def failed(self, done: int, text: str) -> None:
        super().failed(done, text)
        self.say(text)

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False)

    def close(self) -> None:
        self._progress.stop()


class Cell(Silent):
    """One output of a notebook's cell, written anew as the training goes on: a bar, the epoch, steps in a second, the time that is left, and what the last epoch measured."""

    def __init__(self, stream: IO[str], what: str = "epoch") -> None:
        self._stream, self._what = stream, what
        self._handle: Any = None
        self._measured, self._written = "", 0.0

    def start(self, epochs: int, done: int, steps: int) -> None:
        self._pace = Pace(epochs, done, steps)
        display = importlib.import_module("IPython.display").display
        self._handle = display(self._content(), raw=True, display_id=True)

    def advance(self, epoch: int, step: int, loss: float) -> None:
        self._pace.advance(epoch, step)
        self._write()

    def epoch(self, done: int, measured: Mapping[str, float]) -> None:
        self._pace.done, self._measured = done + 1, shown(measured)
        self._write()

    def failed(self, done: int, text: str) -> None:
        super().failed(done, text)
        self.say(text)

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        if self._handle is not None:
            self._written = 0.0
            self._write()

    def _write(self) -> None:
        now = time.perf_counter()
        if now - self._written >= OFTEN:
            self._written = now
            self._handle.update(self._content(), raw=True)

    def _content(self) -> dict[str, str]:
        pace = self._pace
        place = f"{int(pace.done)}/{pace.epochs} {self._what}s"
        words = "  ".join(filter(None, (place, pace.rate(), f"{span(pace.left())} left", self._measured)))
        bar = f'<progress max="{pace.epochs}" value="{pace.done:.3f}"></progress>'
        return {"text/plain": words, "text/html": f"<div>{bar} <code>{html.escape(words)}</code></div>"}


def report(progress: bool | IO[str] | Silent, who: str = "fit", what: str = "epoch", others: str = "") -> Silent:
    """The reporter for the `progress` argument of `fit`; one that is made already is taken as it is.

    Args:
        who: whose argument it is.
        what: the thing that is reported each time.
        others: what else could be given, for the error.

    Raises:
        SettingError: neither a bool nor something to write to.
    """
    if isinstance(progress, Silent):
        return progress
    if progress is False:
        return Silent()
    stream = sys.stdout if progress is True else progress
    if not hasattr(stream, "write"):
        raise SettingError(f"{who}: progress must be True, False or a stream to write to{others}, got {progress!r}.")
    if type(stream).__module__.startswith("ipykernel."):  # the standard output of a notebook
        return Cell(stream, what)
    return (Bar if getattr(stream, "isatty", lambda: False)() else Lines)(stream, what)


def span(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` below an hour."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def as_text(value: float) -> str:
    """Four digits behind the point; a number with too many before it has an exponent."""
    return f"{value:.4e}" if abs(value) >= 1e6 else f"{value:.4f}"


def shown(measured: Mapping[str, float]) -> str:
    """What an epoch measured, in words."""
    parts = [f"{name} {as_text(value)}" for name, value in measured.items() if name not in ("lr", "seconds")]
    return "  ".join([*parts, *(f"{seconds:.2f} s" for name, seconds in measured.items() if name == "seconds")])
