"""Callbacks: your own code while `fit` has the floor, between two native calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from chainrule.errors import SettingError

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer


class Callback:
    """The base of callbacks; override what you need. Every method comes at a step boundary.

    A plain function ``f(trainer, epoch, measured)`` is a callback too: it runs after every epoch.
    ``trainer.stop()`` in any of them ends the training after the current epoch.

    Example:
        >>> class StopWhenGood(Callback):
        ...     def on_epoch_end(self, trainer, epoch, measured):
        ...         if measured["val_loss"] < 0.1:
        ...             trainer.stop()
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first step."""

    def on_steps(self, trainer: Trainer, step: int, loss: float) -> None:
        """After each native call of many steps: `step` of the epoch are done, `loss` was their last."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> None:
        """After each epoch (counted from 1) with what it measured, validation included."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last step, also when Ctrl-C ended it."""


EpochFunction = Callable[["Trainer", int, Mapping[str, float]], object]


class _EveryEpoch(Callback):
    def __init__(self, function: EpochFunction) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> None:
        self.function(trainer, epoch, measured)


def as_callbacks(given: Any) -> list[Callback]:
    """One callback, or several."""
    if isinstance(given, Callback) or callable(given):
        return [as_callback(given)]
    if not isinstance(given, Iterable):
        raise SettingError(
            f"fit: callbacks must be a Callback, a function (trainer, epoch, measured), or a list of them, got {given!r}."
        )
    return [as_callback(one) for one in given]


def as_callback(callback: Callback | EpochFunction) -> Callback:
    """A function becomes a callback of every epoch."""
    if isinstance(callback, Callback):
        return callback
    if callable(callback) and not isinstance(callback, type):
        return _EveryEpoch(callback)
    raise SettingError(
        f"fit: a callback must be a Callback or a function (trainer, epoch, measured), got {callback!r}. "
        f"Pass an object, not its class."
    )
