"""One call of `fit`: stretch after stretch of native steps, and what Python does in between."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.compiler.runtime.threads import get_num_threads
from chainrule.errors import NonFiniteError
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.tensor.random import drawing_from
from chainrule.training import nonfinite, state
from chainrule.training.attributes import Attributes
from chainrule.training.callbacks import Callback, Checkpoint, Watching, asks_for_the_end
from chainrule.training.history import History
from chainrule.training.interrupt import Interrupt
from chainrule.training.judging import Judge, Judging
from chainrule.training.measures import Averaged, Measures
from chainrule.training.orders import EpochOrders
from chainrule.training.position import Position
from chainrule.training.progress import Silent
from chainrule.training.record import Recorder
from chainrule.training.session import Session
from chainrule.training.standing import Standing
from chainrule.training.steps import SECONDS, Measured, Passes, StepProgram
from chainrule.training.stretch import Lap, Pauses, Stretch, first

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer
    from chainrule.training.windowed import Windowed

Array = np.ndarray[Any, Any]
NUMBERS = 4 << 20  # bytes of row numbers in one stretch, at most: they should not push the training out of the cache
AHEAD = (
    1 << 14
)  # row numbers, at least, that another thread draws ahead: they take as long as to start one (0.1 ms on a Xeon)


@dataclass
class Epochs:
    """Epochs that are over, and what they measured.

    Attributes:
        first: the number of the first.
        columns: by measure, a number for each.
    """

    first: int
    columns: dict[str, list[float]]

    @property
    def count(self) -> int:
        """So many."""
        return len(self.columns["seconds"])

    def row(self, number: int) -> dict[str, float]:
        """What one measured, counted from the first."""
        return {name: column[number] for name, column in self.columns.items()}


class Fitting:
    """One call of `fit`, from its position to its last epoch.

    Args:
        trainer: what callbacks are given.
        session: the training.
        training, validation: its compiled steps.
        windows: of a training that reads its rows window by window.
        held_out: measures the rows to validate on, where those are a source.
    """

    def __init__(
        self,
        trainer: Trainer,
        session: Session,
        training: StepProgram,
        validation: StepProgram | None,
        callbacks: list[Callback],
        shown: Silent,
        recorder: Recorder | None,
        windows: Windowed | None = None,
        held_out: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self.trainer, self.session, self.callbacks, self.shown = trainer, session, callbacks, shown
        self.training, self.validation, self.recorder = training, validation, recorder
        self.windows, self.held_out = windows, held_out
        self.passes = partial(self._passes, validation) if validation is not None else None
        self.interrupt = Interrupt(saves=any(isinstance(c, Checkpoint) for c in callbacks))
        self.handles: list[Tensor] = []  # what steps change; only callbacks can add to them
        self.orders = EpochOrders(self.position.rows, self.position.seed, self.position.shuffle)
        self.hearing = self._listening("on_epoch_end")
        # After the last step of each epoch Python has the floor, and again when it has been validated.
        self.every_epoch = bool(self._listening("on_steps") or not session.schedules.ahead or held_out)
        self.ahead = 0  # so many epochs a stretch may go on after the first that a callback hears of
        self.watching = [c for c in callbacks if isinstance(c, Watching) and c.monitor is not None]
        self.judging = Judging(self.watching, session, self.position.epoch)
        self.stopped = False  # a callback asked for the end
        self.began = 0.0  # when the epoch under way did
        self.loss = np.nan  # of the latest step
        self.seconds_a_pass: float | None = None  # of validation

    @property
    def position(self) -> Position:
        """Where the training stands."""
        position = self.session.position
        if position is None:
            raise RuntimeError("fit: a training without a position; this is a bug in chainrule")
        return position

    def to(self, epochs: int) -> History:
        session = self.session
        with self.interrupt, session.training() as same, drawing_from(session.random):
            error: BaseException | None = None
            try:
                if session.standing is None or not same or session.listeners:
                    session.commit(session.now())
                self._hold()
                self.shown.start(epochs, self.position.epoch, self.position.steps)
                self._check_watching()
                for callback in reversed(self._listening("take_back")):
                    self._give_floor(callback, "take_back")
                self._tell("on_fit_start")
                self._run(epochs)
            except KeyboardInterrupt:
                session.roll_back()
                self._say_interrupted()
            except BaseException as raised:
                error = raised
                session.roll_back()
                raise
            finally:
                self.orders.close()
                if self.windows is not None:
                    self.windows.close()
                self._end(error)
                error = None  # which would hold this call, that holds it, and all that is open in it
            self._tell("on_fit_end")
        return session.history

    def _say_interrupted(self) -> None:
        self.session.history.interrupted, position = True, self.position
        self.shown.say(
            f"interrupted in epoch {position.epoch + 1} after step {position.step} of {position.steps}: the model "
            f"keeps the weights of that step, and {self.shown.going_on}"
        )

    def _end(self, error: BaseException | None) -> None:
        """Close what is open; where an error is on its way already, that one arrives."""
        if error is None:
            self.shown.close()
            self._record(lambda recorder: recorder.write_checkpoint(self.position.done))
            return
        with suppress(Exception):
            self.shown.close()
        if self.recorder is not None:
            with suppress(Exception):
                self.recorder.write_checkpoint(self.position.done)

    def _run(self, epochs: int) -> None:
        self.began = time.perf_counter()
        self.tell_epoch()  # if that was cut short
        self.stopped = self.stopped or self.judging.stopped
        while self.position.epoch < self._last(epochs):
            if self.position.step < self.position.steps:
                self._stretch(self._last(epochs))
            if self.position.step == self.position.steps:  # not closed yet
                self._close(*self._validated())
                self.began = time.perf_counter()
            self.interrupt.check()

    def _last(self, epochs: int) -> int:
        """How many epochs there are to be: where a callback asked for the end, no more than those that have begun."""
        return min(epochs, self.position.epoch + bool(self.position.step)) if self.stopped else epochs

    # ---------------------------------------------------------------- callbacks

    def heard(self, epoch: int) -> bool:
        """Does a callback have the floor when this epoch (counted from 0) is over?"""
        return any(callback.wants(epoch + 1) for callback in self.hearing)

    def _measures(self, ranked: bool = False) -> Measures:
        return Measures(self.session.metrics, ranked)

    def _check_watching(self) -> None:
        measured = self.passes is not None or self.held_out is not None
        validated = self._measures(ranked=True).names if measured else []
        for callback in self.watching:
            if callback.monitor is not None:
                callback.monitor.check([*self._measures().names, *(f"val_{name}" for name in validated)])

    def _tell(self, event: str, *facts: Any) -> None:
        """Give the floor to the callbacks that have something to do now."""
        for callback in self._listening(event):
            self._give_floor(callback, event, *facts)

    def tell_epoch(self) -> None:
        """That an epoch is over, to each callback once: to those that have not heard it, where it was cut short."""
        while self.position.told is not None:
            told, epoch = self.position.told, self.position.epoch
            if told >= len(self.hearing):
                self.session.position = replace(self.position, told=None)
                self.session.commit(replace(self._standing, position=self.position))
                return
            # Whoever saves the training while it has the floor saves that it had it.
            self.session.position = replace(self.position, told=told + 1)
            if self.hearing[told].wants(epoch):
                self._give_floor(self.hearing[told], "on_epoch_end", epoch, self.session.history.row(epoch - 1))

    def _give_floor(self, callback: Callback, event: str, *facts: Any) -> None:
        before, asked, lent = self._standing, self._asked(), state.Lent(self.handles)
        with self.session.beside():
            getattr(callback, event)(self.trainer, *facts)
        if self._asked() and not asked:
            self.session.model.stop_training, self.stopped = False, True  # heard
        if lent.untouched() and self.session.stands_as(before):
            self.session.commit(replace(before, position=self.position, callbacks=self.session.callbacks_now()))
            return
        self._look()  # a callback may have changed weights and settings, and meant it
        if self.recorder is not None and self._changed(before, self._standing):
            self._record(lambda recorder: recorder.write_checkpoint(self.position.done))

    def _asked(self) -> bool:
        """Does the model have Keras's ``stop_training``, and is it true?"""
        return asks_for_the_end(vars(self.session.model).get("stop_training"))

    def _changed(self, before: Any, now: Any) -> bool:
        """Did anything change that a replay of the steps does not bring about?"""
        settings = replace(before.settings, groups=now.settings.groups, schedules=now.settings.schedules)
        tensors = state.same(before.values, now.values) and state.same_gradients(before.gradients, now.gradients)
        return not tensors or settings != now.settings

    def _listening(self, event: str) -> list[Callback]:
        nothing = getattr(Callback, event)
        return [c for c in self.callbacks if getattr(getattr(c, event), "__func__", None) is not nothing]

    def _look(self) -> None:
        """Everything as it is now stands."""
        self.session.commit(self.session.now())
        self._hold()

    def _hold(self) -> None:
        """What steps change is what stands."""
        self.measures = self._measures()
        self.handles = [handle for handle, _ in self._standing.values]

    @property
    def _standing(self) -> Standing:
        standing = self.session.standing
        if standing is None:
            raise RuntimeError("fit: a training that stands nowhere; this is a bug in chainrule")
        return standing

    # ---------------------------------------------------------------- a stretch

    def _stretch(self, epochs: int) -> None:
        """Many steps without Python; afterwards everything is at a step boundary again."""
        if self.windows is not None:
            with self.session.beside():  # a window is read once more where a training goes on in the middle of it
                self.training = self.windows.reach(self.position, epochs, self.training)
        began = time.perf_counter()
        laps = self._plan(epochs)
        rates = self._rates(laps)
        stretch = self._bound(laps, self.passes, rates, judged=bool(self.judging))
        if self.hearing and rates is None and not laps[-1].floor:
            stretch.pauses = Pause(self, stretch, began + SECONDS)
        self._draw_ahead(laps, epochs, stretch)
        ended = stretch.run()
        self._note_time(stretch, time.perf_counter() - began - stretch.paused)
        self.stopped = self.stopped or self.judging.stopped
        if rates is not None and len(stretch.laps) < len(laps):  # the schedules took steps that were not
            self.session.put_settings(self._standing.settings)
            self._rates(stretch.laps)
        if stretch.laps:
            self._finish(stretch, ended)
        position = self.position
        self.shown.advance(position.epoch, position.step, self.loss)
        self._tell("on_steps", position.step, self.loss)
        self._tell("on_pause")
        self._record(lambda recorder: recorder.maybe_checkpoint(self.position.done))
        self.interrupt.check()

    def _finish(self, stretch: Stretch, ended: Sequence[float]) -> None:
        """Take the laps of a stretch that are left as done.

        Raises:
            NonFiniteError: something is no longer finite.
        """
        found = stretch.measured()
        if not self.sound(found):
            raise self._stopped(stretch, found, ended)
        self.count(stretch, stretch.laps, found, ended, self.stepped())

    def sound(self, found: Measured) -> bool:
        """Are the losses of these steps and the weights after them finite?"""
        return state.finite(found.values[:, 0]) and state.all_finite(self._standing.parameters)

    def stepped(self, copies: bool = False) -> Standing:
        """What stands after more steps, but for the position: values where they lie, or copies of them.

        A step may have put another tensor under a name of a module, and a trace split a counter that several parameters shared.
        """
        standing, held = self._standing, self._standing.attributes
        same = held.same()
        if not same or not self.session.laid_out_as(standing):
            self.handles = self.session.handles()
        values = state.copies(self.handles) if copies else state.values(self.handles)
        return replace(self._now(held if same and not held.values else held.now()), values=values)

    def _now(self, held: Attributes) -> Standing:
        """What stands, with the gradients and the optimizer's tensors of now."""
        gradients = state.gradients(handle for handle, _, _ in self._standing.gradients)
        return replace(self._standing, gradients=gradients, attributes=held, layout=self.session.layout())

    def _plan(self, epochs: int) -> list[Lap]:
        """The laps of the next stretch: steps for about `SECONDS`; to the end of the epoch at most where Python must have
        the floor before it is validated, or callbacks change something whenever they have it; and on a source to the end
        of the window.
        """
        position, given = self.position, self.session.schedules.given
        laps: list[Lap] = []
        further = None  # so many epochs after the first that a callback hears of
        left = float(min(self.training.chunk, max(1, NUMBERS // (8 * position.batch_size))))
        epoch, start, weight = position.epoch, position.step, self._steps_a_pass()
        end = position.steps if self.windows is None else self.windows.stop
        while epoch < epochs and left >= 1 and (not laps or left > weight):
            heard = further is None and self.heard(epoch)
            stop, floor = min(end, start + int(left)), self.every_epoch or (heard and given)
            laps.append(Lap(epoch, start, stop, floor))
            left -= laps[-1].length + weight
            epoch, start = epoch + 1, 0
            further = self.ahead if heard else None if further is None else further - 1
            if floor or self.windows is not None or further == 0:
                break
        # The beginning of an epoch behind whole ones is left to the next stretch: orders and measures of whole epochs lie as
        # they are needed, and parts of them are copied.
        return laps[:-1] if len(laps) > 1 and laps[-1].stop < position.steps else laps

    def _rates(self, laps: Sequence[Lap]) -> Array | None:
        """The rates of the next steps, where schedules say them ahead; those take the steps."""
        schedules, batching = self.session.schedules, self.position.batching
        if not schedules.given:
            return None
        with self.session.beside():  # what a schedule draws would move the steps' own stream by where stretches end
            return schedules.rates(self.session.optimizer, [(lap.length, batching.closes(lap)) for lap in laps])

    def _steps_a_pass(self) -> float:
        """What a pass of validation weighs in steps: by its time, or its row numbers if that is more."""
        if self.validation is None:
            return 0.0
        if self.seconds_a_pass is None:  # none was made yet: one, to know
            return float("inf")
        rows = self.validation.feed.rows
        return max(self.seconds_a_pass * self.training.chunk / SECONDS, rows / self.position.batch_size)

    def _bound(
        self, laps: Sequence[Lap], passes: Callable[[int], Passes] | None = None, rates: Array | None = None,
        judged: bool = False,
    ) -> Stretch:  # fmt: skip
        if self.windows is None:
            self.orders.of(laps[0].epoch, laps[-1].epoch + 1 - laps[0].epoch)
        stretch = Stretch(self.training, laps, self.position.batching, self._rows, passes, rates)
        stretch.judge = Judge(self.judging, stretch, self.measures, self.position.sums) if judged else None
        stretch.pass_weight = self._steps_a_pass()
        return stretch

    def _draw_ahead(self, laps: Sequence[Lap], epochs: int, stretch: Stretch) -> None:
        """While these laps run on one thread, another draws the orders of as many epochs after them, where there is one."""
        count = min(len(laps), epochs - laps[-1].epoch - 1)
        if (
            self.windows is None
            and count * self.position.rows >= AHEAD
            and get_num_threads() > 1
            and not stretch.shared
        ):
            self.orders.draw_ahead(count)

    def _rows(self, epoch: int, count: int, start: int, stop: int) -> Array:
        """As `stretch.Orders` says; on a source, of the window that is held."""
        if self.windows is not None:
            return self.windows[start:stop][None]
        return self.orders.of(epoch, count)[:, start:stop]

    def _note_time(self, stretch: Stretch, seconds: float) -> None:
        self.training.took(stretch.counted + int(stretch.lengths.sum()), seconds - stretch.validating)
        if stretch.passes is not None:
            self.seconds_a_pass = stretch.validating / stretch.passes.passes

    # ---------------------------------------------------------------- what was done

    def count(
        self, stretch: Stretch, laps: Sequence[Lap], found: Measured, ended: Sequence[float], now: Standing,
        told: int | None = None,
    ) -> None:  # fmt: skip
        """Take the steps of these first laps of a stretch as done: on disk first, then all at once.

        Args:
            told: as in `Position`, after the last of them.
        """
        position, over, done = self.position, None, self.session.history.steps
        self._note(stretch, found)
        if laps:
            lengths = np.array([lap.length for lap in laps])
            done += int(lengths.sum())
            sums, rates = stretch.totals(laps, found.values, position.sums), found.rates[np.cumsum(lengths) - 1]
            last, closed = laps[-1], position.batching.closes(laps[-1])
            ends = len(laps) - (not closed)
            if ends:
                validated = stretch.validated(ends)
                over = self._over(laps[0].epoch, sums[:ends], rates[:ends], ended[:ends], validated)
            epoch, step, kept = (last.epoch + 1, 0, ()) if closed else (last.epoch, last.stop, tuple(sums[-1].tolist()))
            position = replace(position, epoch=epoch, step=step, sums=kept, rates=tuple(rates[-1].tolist()), told=told)
            self.loss = float(found.values[-1, 0])
        self._commit(replace(now, position=position, steps=done), over)

    def _commit(self, standing: Standing, over: Epochs | None = None) -> None:
        """The one moment at which steps count as done; the ends of epochs among them are shown afterwards."""
        session = self.session
        if session.schedules.all:
            standing = replace(standing, settings=session.settings())
        if over is not None:
            session.history.extend(over.columns, over.count)
        standing = replace(standing, epochs=session.history.epochs, callbacks=session.callbacks_now())
        session.commit(standing)
        session.position, session.history.steps = standing.position, standing.steps
        if over is not None and type(self.shown) is not Silent:
            for number in range(over.count):
                self.shown.epoch(over.first + number, over.row(number))

    def _note(self, stretch: Stretch, found: Measured) -> None:
        """The steps that follow the position, into the record."""
        if found.prints is not None and len(found.values):
            settings, given = self._standing.settings, stretch.rates
            given = None if given is None else given[stretch.counted :]
            self._record(lambda recorder: recorder.note(self.position.done, settings, found, given))

    def _record(self, action: Callable[[Recorder], None]) -> None:
        """Write to the record; one that cannot be written any more ends, and training goes on."""
        if self.recorder is None:
            return
        try:
            action(self.recorder)
        except OSError as error:
            folder, self.recorder = self.recorder.folder, None
            warnings.warn(
                f"fit: the record in {folder} ends at step {self.position.done}, because it can no longer be written "
                f"({error}). The training goes on without it.",
                stacklevel=2,
            )

    def _over(
        self, first: int, sums: Array, rates: Array, ended: Sequence[float], validated: Mapping[str, list[float]]
    ) -> Epochs:
        """What the epochs measured that are over, of which this is the first."""
        columns = self.measures.of(Averaged.of(sums / self.position.batching.visited, self._widths()))
        columns |= {f"val_{name}": column for name, column in validated.items()}
        columns |= {"lr" if i == 0 else f"lr_{i}": rates[:, i].tolist() for i in range(rates.shape[1])}
        columns["seconds"] = np.diff([self.began, *ended]).tolist()
        self.began = ended[-1]
        return Epochs(first, columns)

    def _widths(self) -> list[int]:
        """Of how many numbers each measure of a step is."""
        if not self.training.widths:  # the training goes on at the very end of an epoch: only a step tells
            self.training.begin(np.zeros((1, self.position.batch_size), np.int64))
        return self.training.widths

    def _close(self, ended: float, validated: Mapping[str, float]) -> None:
        """The epoch is over: schedules take their step, then callbacks have the floor."""
        position = self.position
        columns = {name: [value] for name, value in validated.items()}
        epoch = self._over(position.epoch, np.array([position.sums]), np.array([position.rates]), [ended], columns)
        measured = epoch.row(0)
        with self.session.beside():
            self.session.schedules.epoch_ended(measured)
        self.stopped = self.judging.one(position.epoch, measured.__getitem__) or self.stopped
        told = 0 if self.heard(position.epoch) else None
        following = replace(position, epoch=position.epoch + 1, step=0, sums=(), told=told)
        self._commit(replace(self._now(self._standing.attributes.now()), position=following), epoch)
        self.tell_epoch()

    def _passes(self, validation: StepProgram, count: int) -> Passes:
        """So many passes of validation, bound."""
        rows = validation.feed.rows
        with self.session.mode(False):
            return Passes(validation, rows, min(256, rows), count)

    def _validated(self) -> tuple[float, Mapping[str, float]]:
        """The moment, and the measures on the validation rows now."""
        if self.held_out is not None:
            measured = self.held_out()
            return time.perf_counter(), measured
        passes = self.passes(1) if self.passes is not None else None
        if passes is not None:
            passes.once()
        found = passes.measures() if passes is not None else {}
        return time.perf_counter(), {name: value for name, (value,) in found.items()}

    # ---------------------------------------------------------------- when it stops being finite

    def _stopped(self, stretch: Stretch, found: Measured, ended: Sequence[float]) -> NonFiniteError:
        """Go back to the last good step, and find what made the next one fail."""
        losses = found.values[:, 0]
        bad = ~np.isfinite(losses)
        done = self._last_good(stretch, int(bad.argmax()) if bad.any() else len(losses))
        last = losses[done] if done < len(losses) else np.nan
        self.count(stretch, first(stretch.laps, done), found.first(done), ended, self.stepped())
        position, session = self.position, self.session
        start = position.step * position.batch_size
        rows = self._rows(position.epoch, 1, start, start + position.batch_size)[0]
        x, y, weight = self.training.feed.batch(tensor(rows))
        model, norm = session.model, session.max_norm
        batch = nonfinite.Batch(x, y, weight)
        why = nonfinite.explain(model, session.loss, session.optimizer, batch, norm, position.done > 0)
        session.optimizer.zero_grad()
        session.roll_back()
        what = f"the loss became {last}" if not np.isfinite(last) else "a weight stopped being finite"
        return NonFiniteError(
            f"training stopped in epoch {position.epoch + 1} at step {position.step + 1}: {what}. {why} "
            f"The model keeps the weights from before this step."
        )

    def _last_good(self, stretch: Stretch, most: int) -> int:
        """The number of steps of the stretch, at most `most`, after which the weights are still finite; takes them."""
        self._replay(stretch, most)
        if state.all_finite(self._standing.parameters):
            return most
        low, high = 0, most  # finite after `low` steps, no longer after `high`
        while high - low > 1:
            middle = high - 1 if high == most else (low + high) // 2  # most often it is the last step
            self._replay(stretch, middle)
            low, high = (middle, high) if state.all_finite(self._standing.parameters) else (low, middle)
        self._replay(stretch, low)
        return low

    def _replay(self, stretch: Stretch, count: int) -> None:
        self.session.roll_back()
        if count:
            laps = first(stretch.laps, count)
            again = self._bound(laps, self.passes, self._rates(laps), judged=bool(self.judging))
            again.run()
            again.measured()


class Pause(Pauses):
    """The pauses of one stretch: an epoch is over, callbacks hear of it, and the native loop goes on where it stands.

    To bind a loop again costs as much as hundreds of small steps. So it goes on as long as one that is bound anew would be
    the same: nobody wrote to a tensor that the steps change, or holds what it has, and whatever they read of Python is as
    it was.

    Args:
        fitting: whose callbacks have the floor.
        stretch: the laps.
        until: the moment at which it has lasted long enough.
    """

    def __init__(self, fitting: Fitting, stretch: Stretch, until: float) -> None:
        self.fitting, self.stretch, self.until = fitting, stretch, until

    def due(self, number: int) -> int:
        """Laps up to the next after which somebody has the floor; more than there are where nobody has."""
        laps, batching = self.stretch.laps, self.stretch.batching
        for count, lap in enumerate(laps[number:], 1):
            if batching.closes(lap) and self.fitting.heard(lap.epoch):
                return count
        return len(laps) - number + 1

    def take(self, count: int, ended: Sequence[float]) -> bool:
        """So many first laps are done, and callbacks have the floor; is it the end of the stretch?"""
        fitting, stretch = self.fitting, self.stretch
        found = stretch.measured()
        if not fitting.sound(found):
            return True  # the end of the stretch says why
        fitting.stopped = fitting.stopped or fitting.judging.stopped
        # A record tells by what lies where whether a callback changed something.
        now = fitting.stepped(copies=fitting.recorder is None)
        fitting.count(stretch, stretch.laps[:count], found, ended, now, told=0)
        stretch.count(count)
        fitting.interrupt.check()
        fitting.tell_epoch()
        fitting.interrupt.check()
        fitting.began = time.perf_counter()
        if not stretch.stands():
            fitting.ahead = 0
            return True
        if not stretch.laps:
            fitting.ahead = max(1, 2 * fitting.ahead)
        return fitting.stopped or fitting.began >= self.until
