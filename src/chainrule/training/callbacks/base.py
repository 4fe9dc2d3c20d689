"""Callbacks: your own code while `fit` has the floor, between two native calls."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.errors import SettingError
from chainrule.nn.meaning import name_of
from chainrule.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from chainrule.training.callbacks.signatures import check_call, check_methods
from chainrule.training.listener import Listener
from chainrule.training.monitor import Monitor
from chainrule.training.snapshot import Weights

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer


NEVER = 1 << 62  # epochs: more than any training has


class Callback(Listener):
    """The base of callbacks; override what you need. Every method comes at a step boundary.

    A plain function ``f(trainer, epoch, measured)`` is a callback too: it runs after every epoch, and one that returns
    True ends the training. ``trainer.stop()`` in any of them ends it after the current epoch.

    Many epochs of a small network run in one native call, unless somebody has to have the floor between them. Who
    overrides `on_epoch_end` has it after the epochs that it `wants` (every one, unless it says otherwise), and who
    overrides `on_steps` after each; `on_pause` makes no pause, it only uses those that there are. After `on_epoch_end` the
    loop goes on where it stands, unless somebody changed, or keeps, a tensor or a setting of the training. To judge a measure
    after every epoch without any pause, build on `Watching`.

    What a callback must know to go on where it was, it tells in `state_dict`: it is saved with the training, and given
    back by ``fit(resume=True)`` and ``fit(checkpoint=...)``.

    Example:
        >>> class StopWhenGood(Callback):
        ...     def on_epoch_end(self, trainer, epoch, measured):
        ...         if measured["val_loss"] < 0.1:
        ...             trainer.stop()
    """

    #: A file that it writes and nobody else may, as two would mix what they write.
    file: str | None = None

    def take_back(self, trainer: Trainer) -> None:
        """Before `on_fit_start`, the last of several first: what `on_fit_end` did to the model, where a training goes on."""

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first step."""

    def on_steps(self, trainer: Trainer, step: int, loss: float) -> None:
        """After each native call of many steps: `step` of the epoch are done, `loss` was their last."""

    def on_pause(self, trainer: Trainer) -> None:
        """After some native calls, which may have been of many epochs: about every tenth of a second."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> None:
        """After each epoch (counted from 1) that it `wants`, with what it measured, validation included."""

    def wants(self, epoch: int) -> bool:
        """Is `on_epoch_end` for it, after this epoch (counted from 1)? Asked ahead of time, and once for each."""
        return True

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last step, also when Ctrl-C ended it."""

    def prepare(self, trainer: Trainer) -> None:
        """Before the steps are compiled; what an earlier fit left is there."""


class Watching(Callback):
    """The base of callbacks that judge one measure after every epoch; the native call goes on meanwhile.

    Attributes:
        monitor: the measure; None: it watches nothing.
        stopped: set in `judge`, it ends the training after that epoch.

    Example:
        >>> class StopAbove(Watching):
        ...     def judge(self, epoch, value, weights):
        ...         self.stopped = value > 0.9
        >>> callback = StopAbove(Monitor("val_accuracy"))
    """

    def __init__(self, monitor: Monitor | None) -> None:
        self.monitor, self.stopped = monitor, False

    def judge(self, epoch: int, value: float, weights: Callable[[], Weights]) -> None:
        """The measure has this value after this epoch (counted from 1); ``weights()`` copies the weights of now."""

    def judge_all(self, epoch: int, values: Sequence[float], weights: Callable[[int], Weights]) -> int:
        """The same of several epochs in a row, of which this is the first, when all are over; gives how many it judged.

        Where one ends the training, those after it are not judged, and what they did is undone. Who overrides `judge`
        alone judges each epoch at its end; small epochs take less time where this is overridden, too.

        Args:
            weights: copies those after this of the values, counted from 0.
        """
        for i, value in enumerate(values, 1):
            self.judge(epoch + i - 1, value, partial(weights, i - 1))
            if self.stopped:
                return i
        return len(values)

    def certain(self, epoch: int) -> int:
        """So many epochs, of which this is the first, it judges before it can end the training, the one that ends it included."""
        return 1

    @property
    def keeps_weights(self) -> bool:
        """May it ask for the weights?"""
        return True

    @property
    def judges_later(self) -> bool:
        """May it judge epochs when later ones are over? Not where a class, or the object, has a `judge` of its own alone."""
        for part in (self, *type(self).__mro__):
            if "judge" in vars(part) or "judge_all" in vars(part):
                return part is not Watching and "judge_all" in vars(part)
        return False


EpochFunction = Callable[["Trainer", int, Mapping[str, float]], object]


class _EveryEpoch(Callback):
    def __init__(self, function: EpochFunction) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> None:
        if asks_for_the_end(self.function(trainer, epoch, measured)):
            trainer.stop()


def asks_for_the_end(returned: object) -> bool:
    """Did a function that is a callback return True, Python's or NumPy's? That ends the training; anything else is nothing."""
    return isinstance(returned, (bool, np.bool_)) and bool(returned)


def begin(callbacks: Iterable[Callback], carried: Sequence[Mapping[str, Any]]) -> None:
    """Each forgets what it knew, and takes over what one of its kind saved, in their order."""
    left = list(carried)
    for callback in callbacks:
        callback.reset()
        kinds = [one["kind"] for one in left]
        if callback.kind in kinds:
            callback.load_state_dict(left.pop(kinds.index(callback.kind))["state"])
    if left:
        warnings.warn(
            f"fit: the training that goes on had callbacks that this call has not: "
            f"{', '.join(one['kind'] for one in left)}. Pass the same callbacks to go on exactly.",
            stacklevel=6,
        )


def riders(callbacks: Iterable[Callback]) -> list[Callback]:
    """Those that have something to do in the compiled step."""
    return [callback for callback in callbacks if type(callback).after_step is not Callback.after_step]


def as_callbacks(given: Any) -> list[Callback]:
    """One callback, or several."""
    if isinstance(given, Callback) or callable(given):
        return [as_callback(given)]
    if not isinstance(given, Iterable):
        raise SettingError(
            f"fit: callbacks must be a Callback, a function (trainer, epoch, measured), or a list of them, got {given!r}."
        )
    found = [as_callback(one) for one in given]
    files = [os.path.realpath(one.file) for one in found if one.file is not None]
    twice = next((file for i, file in enumerate(files) if file in files[:i]), None)
    if twice is not None:
        raise SettingError(
            f"fit: two callbacks must not write to one file, got two for {twice}. Give each a file of its own."
        )
    return found


def as_callback(callback: Callback | EpochFunction) -> Callback:
    """A function becomes a callback of every epoch. Refused is what nobody would call, or not as it is."""
    if isinstance(callback, Callback):
        check_methods(callback, (Listener, Callback, Watching))
        return callback
    if callable(callback) and not isinstance(callback, type):
        check_call(f"the callback {name_of(callback)}", callback, ["trainer", "epoch", "measured"])
        return _EveryEpoch(callback)
    remedy = "Derive its class from chainrule.callbacks.Callback."
    if isinstance(callback, type):
        remedy = "Pass an object, not its class."
    elif isinstance(callback, (LRScheduler, ReduceLROnPlateau)):
        remedy = "A schedule goes to Trainer(scheduler=...)."
    raise SettingError(
        f"fit: a callback must be a Callback or a function (trainer, epoch, measured), got {callback!r}. {remedy}"
    )
