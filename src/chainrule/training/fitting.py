"""One call of `fit`: stretch after stretch of native steps, and what Python does in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.data.batches import shuffled_indices
from chainrule.errors import NonFiniteError
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.training import inputs, nonfinite, state
from chainrule.training.callbacks import Callback
from chainrule.training.history import History
from chainrule.training.interrupt import Interrupt
from chainrule.training.progress import Silent
from chainrule.training.record import settings_of
from chainrule.training.steps import SECONDS, Measured, Passes, Program
from chainrule.training.stretch import Cut, Lap, Stretch, first

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer

Array = np.ndarray[Any, Any]
NUMBERS = 4 << 20  # bytes of row numbers in one stretch, at most: they should not push the training out of the cache


@dataclass
class Position:
    """Where a training stands: `epoch` epochs and `step` steps of the next are done."""

    rows: int
    batch_size: int
    seed: int
    shuffle: bool
    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=list)  # of the measures over the rows of the unfinished epoch

    @property
    def cut(self) -> Cut:
        """How its epochs are cut into batches."""
        return Cut(self.rows, self.batch_size)

    @property
    def steps(self) -> int:
        """The steps of an epoch; the last may be on a short batch."""
        return self.cut.steps

    @property
    def done(self) -> int:
        """The steps done since the very first."""
        return self.epoch * self.steps + self.step


class Fitting:
    """One call of `fit`, from its position to its last epoch."""

    def __init__(
        self,
        trainer: Trainer,
        position: Position,
        training: Program,
        validation: Program | None,
        callbacks: list[Callback],
        shown: Silent,
    ) -> None:
        self.trainer, self.position, self.callbacks, self.shown = trainer, position, callbacks, shown
        self.training, self.validation = training, validation
        self.passes = partial(self._passes, validation) if validation is not None else None
        self.model, self.optimizer, self.recorder = trainer.model, trainer.optimizer, trainer.recorder
        self.interrupt = Interrupt()
        self.good: state.Snapshot = []  # the values at the last step boundary
        self.handles: list[Tensor] = []  # whose values those are; only callbacks can add to them
        self.parameters: list[Tensor] = []
        self.orders: dict[int, Array] = {}
        # Callbacks have the floor after the last step of an epoch, and again when it has been validated.
        self.one_by_one = bool(self._listening("on_steps") or self._listening("on_epoch_end"))
        self.began = 0.0  # when the epoch under way did
        self.seconds_a_pass: float | None = None  # of validation

    def to(self, epochs: int) -> History:
        history, position = self.trainer.history, self.position
        self.trainer._stop = False
        with self.interrupt, inputs.mode(self.model, True):
            self.shown.start(epochs, position.epoch, position.steps)
            try:
                self._look()
                self._tell("on_fit_start")
                self._run(epochs)
            except KeyboardInterrupt:
                state.restore(self.good)
                history.interrupted = True
                self.shown.say(
                    f"interrupted in epoch {position.epoch + 1} after step {position.step} of {position.steps}: the model "
                    f"keeps the weights of that step, and fit(..., resume=True) goes on from there"
                )
            finally:
                self.shown.close()
                if self.recorder is not None:
                    self.recorder.write_checkpoint(position.done)
            self._tell("on_fit_end")
        return history

    def _run(self, epochs: int) -> None:
        position = self.position
        self.began = time.perf_counter()
        while position.epoch < epochs and not self.trainer._stop:
            if position.step < position.steps:
                self._stretch(epochs)
            if position.step == position.steps:  # not closed yet
                self._close(*self._validated())
                self.began = time.perf_counter()
            self.interrupt.check()

    def _tell(self, event: str, *facts: Any) -> None:
        """Give the floor to the callbacks that have something to do now."""
        listening = self._listening(event)
        for callback in listening:
            getattr(callback, event)(self.trainer, *facts)
        if listening:
            before = self.good
            self._look()  # a callback may have changed weights, and meant it
            if self.recorder is not None and not state.same(before, self.good):
                self.recorder.write_checkpoint(self.position.done)

    def _listening(self, event: str) -> list[Callback]:
        nothing = getattr(Callback, event)
        return [c for c in self.callbacks if getattr(getattr(c, event), "__func__", None) is not nothing]

    def _look(self) -> None:
        """The model and the optimizer as they are now are good."""
        self.handles = list(state.handles(self.model, self.optimizer))
        self.parameters = list(self.model.parameters())
        self.good = self._snapshot()

    def _snapshot(self) -> state.Snapshot:
        return state.values(self.handles)

    # ---------------------------------------------------------------- a stretch

    def _stretch(self, epochs: int) -> None:
        """Many steps without Python; afterwards everything is at a step boundary again."""
        began = time.perf_counter()
        stretch = self._bound(self._plan(epochs), self.passes if not self.one_by_one else None)
        ended = stretch.run()
        found, now = stretch.measured(), self._snapshot()
        if not np.isfinite(found.values[:, 0]).all() or not state.all_finite(self.parameters):
            raise self._stopped(stretch, found, ended)
        self._note_time(stretch, ended[-1] - began)
        with self.interrupt.held():
            self.good = now
            self._count(stretch, stretch.laps, found, ended)
        position, loss = self.position, float(found.values[-1, 0])
        self.shown.advance(position.epoch, position.step, loss)
        self._tell("on_steps", position.step, loss)
        if self.recorder is not None:
            self.recorder.maybe_checkpoint(position.done)
        self.interrupt.check()

    def _plan(self, epochs: int) -> list[Lap]:
        """The laps of the next stretch: steps for about `SECONDS`; with callbacks, to the end of the epoch at most."""
        position, laps = self.position, []
        left = float(min(self.training.chunk, max(1, NUMBERS // (8 * position.batch_size))))
        epoch, start = position.epoch, position.step
        while epoch < epochs and left >= 1:
            laps.append(Lap(epoch, start, min(position.steps, start + int(left))))
            left -= laps[-1].length + self._steps_a_pass()
            epoch, start = epoch + 1, 0
            if self.one_by_one:
                break
        return laps

    def _steps_a_pass(self) -> float:
        """What a pass of validation weighs in steps: by its time, or its row numbers if that is more."""
        if self.validation is None:
            return 0.0
        if self.seconds_a_pass is None:  # none was made yet: one, to know
            return float("inf")
        rows = self.validation.feed.x.shape[0]
        return max(self.seconds_a_pass * self.training.chunk / SECONDS, rows / self.position.batch_size)

    def _bound(self, laps: Sequence[Lap], passes: Callable[[int], Passes] | None = None) -> Stretch:
        self.orders = {epoch: order for epoch, order in self.orders.items() if epoch >= self.position.epoch}
        return Stretch(self.training, laps, self.position.cut, self._order, passes)

    def _order(self, epoch: int) -> Array:
        position = self.position
        if epoch not in self.orders:
            shuffled = position.shuffle
            rows = position.rows
            self.orders[epoch] = shuffled_indices(rows, position.seed, epoch) if shuffled else np.arange(rows)
        return self.orders[epoch]

    def _note_time(self, stretch: Stretch, seconds: float) -> None:
        self.training.took(sum(lap.length for lap in stretch.laps), seconds - stretch.validating)
        if stretch.passes is not None:
            self.seconds_a_pass = stretch.validating / stretch.passes.passes

    # ---------------------------------------------------------------- what was done

    def _count(self, stretch: Stretch, laps: Sequence[Lap], found: Measured, ended: Sequence[float]) -> None:
        """Take the steps of these first laps of a stretch as done."""
        position, history, at = self.position, self.trainer.history, 0
        self._note(found)
        validated = iter(stretch.passes.measures() if stretch.passes is not None else ())
        sums = stretch.sums(found.values)
        for lap, end in zip(laps, ended, strict=False):
            part = sums[at : at + lap.length]
            at += lap.length
            part[0] += position.sums or 0.0
            # One after the other, so that no bit depends on where a stretch ends.
            position.sums, position.step = np.add.accumulate(part)[-1].tolist(), lap.stop
            history.steps += lap.length
            if lap.stop == position.steps and not self.one_by_one:
                self._close(end, next(validated, None))

    def _note(self, found: Measured) -> None:
        """The steps that follow the position, into the record."""
        if self.recorder is not None and found.prints is not None and len(found.values):
            self.recorder.note_settings(self.position.done, settings_of(self.optimizer))
            self.recorder.note_steps(found.values[:, 0], found.prints)

    def _close(self, ended: float, validated: Array | None) -> None:
        """The epoch is over."""
        position, names = self.position, ("loss", *self.trainer.metrics)
        measured = {name: total / position.rows for name, total in zip(names, position.sums, strict=True)}
        if validated is not None:
            measured.update({f"val_{name}": value for name, value in zip(names, validated.tolist(), strict=True)})
        measured["lr"] = float(self.optimizer.param_groups[0]["lr"])
        measured["seconds"], self.began = ended - self.began, ended
        done, position.epoch, position.step, position.sums = position.epoch, position.epoch + 1, 0, []
        self.trainer.history.add(measured)
        self.shown.epoch(done, measured)
        self._tell("on_epoch_end", done + 1, measured)

    def _passes(self, validation: Program, count: int) -> Passes:
        """So many passes of validation, bound."""
        rows = validation.feed.x.shape[0]
        with inputs.mode(self.model, False):
            return Passes(validation, rows, min(256, rows), count)

    def _validated(self) -> tuple[float, Array | None]:
        """The moment, and the measures on the validation rows now."""
        passes = self.passes(1) if self.passes is not None else None
        if passes is not None:
            passes.once()
        return time.perf_counter(), passes.measures()[0] if passes is not None else None

    # ---------------------------------------------------------------- when it stops being finite

    def _stopped(self, stretch: Stretch, found: Measured, ended: Sequence[float]) -> NonFiniteError:
        """Go back to the last good step, and find what made the next one fail."""
        losses = found.values[:, 0]
        bad = ~np.isfinite(losses)
        done = self._last_good(stretch.laps, int(bad.argmax()) if bad.any() else len(losses))
        loss = losses[done] if done < len(losses) else np.nan
        good = self._snapshot()
        self._count(stretch, first(stretch.laps, done), found.first(done), ended)
        position = self.position
        rows = self._order(position.epoch)[position.step * position.batch_size :][: position.batch_size]
        batch = self.training.feed.x.detach().numpy()[rows], self.training.feed.y.detach().numpy()[rows]
        x, y = (tensor(part) for part in batch)
        trainer = self.trainer
        why = nonfinite.explain(self.model, trainer.loss, self.optimizer, x, y, trainer.max_norm, position.done > 0)
        self.optimizer.zero_grad()
        state.restore(good)
        self.good = good
        what = f"the loss became {loss}" if not np.isfinite(loss) else "a weight stopped being finite"
        return NonFiniteError(
            f"training stopped in epoch {position.epoch + 1} at step {position.step + 1}: {what}. {why} "
            f"The model keeps the weights from before this step."
        )

    def _last_good(self, laps: Sequence[Lap], most: int) -> int:
        """The number of steps of the laps, at most `most`, after which the weights are still finite; takes them."""
        self._replay(laps, most)
        if state.all_finite(self.parameters):
            return most
        low, high = 0, most  # finite after `low` steps, no longer after `high`
        while high - low > 1:
            middle = high - 1 if high == most else (low + high) // 2  # most often it is the last step
            self._replay(laps, middle)
            low, high = (middle, high) if state.all_finite(self.parameters) else (low, middle)
        self._replay(laps, low)
        return low

    def _replay(self, laps: Sequence[Lap], count: int) -> None:
        state.restore(self.good)
        if count:
            stretch = self._bound(first(laps, count))
            stretch.run()
            stretch.measured()
