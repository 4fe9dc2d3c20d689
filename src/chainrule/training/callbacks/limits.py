"""Callbacks for a training within bounds: of time, and of what it may move."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from chainrule.errors import SettingError
from chainrule.training.callbacks.base import Callback
from chainrule.training.callbacks.kept import texts
from chainrule.training.monitor import as_count, as_number

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer


class TimeLimit(Callback):
    """Ends the training after the epoch in which so many seconds of this `fit` are over.

    Args:
        seconds: looked at after each native call, about every tenth of a second.

    Example:
        >>> limit = TimeLimit(3600)
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = as_number(seconds, "TimeLimit", "seconds")

    def on_fit_start(self, trainer: Trainer) -> None:
        self._began = time.monotonic()

    def on_pause(self, trainer: Trainer) -> None:
        if time.monotonic() - self._began >= self.seconds:
            trainer.stop()


class Freeze(Callback):
    """Leaves some parameters as they are for the first epochs; then they are trained with the others.

    Of several, each parameter waits for the last that names it. Whatever ends the training, the model is given back as it came.

    Args:
        names: parameters or modules of the model by name (``"0"``, ``"encoder.layers"``), one or several.
        until: after so many epochs they are trained.

    Raises:
        SettingError: an argument that cannot be; at `fit`: the model has nothing of that name.

    Example:
        >>> freeze = Freeze("encoder", until=5)
    """

    def __init__(self, names: str | list[str] | tuple[str, ...], until: int) -> None:
        self.names = [names] if isinstance(names, str) else list(names)
        if not self.names or not all(isinstance(name, str) and name for name in self.names):
            raise SettingError(f"Freeze: names must be names of parameters or modules, got {names!r}.")
        self.until = as_count(until, "Freeze", "until", 1)
        self._trainer: Trainer | None = None  # while some of its parameters are frozen
        self.reset()

    def reset(self) -> None:
        self._frozen: list[str] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        known = dict(trainer.model.named_parameters())
        for name in self.names:
            if not any(_within(parameter, name) for parameter in known):
                raise SettingError(
                    f"Freeze: the model has no parameter or module {name!r}. It has: {', '.join(known)}."
                )
        others = trainer.session.frozen
        if trainer.history.epochs < self.until:
            named = {key: p for key, p in known.items() if any(_within(key, name) for name in self.names)}
            self._frozen = [k for k, p in named.items() if p.requires_grad or others[k] or k in self._frozen]
        if self._frozen:  # perhaps of a training that was saved after the epoch, and before this heard of it
            self._trainer = trainer
            others.update(self._frozen)
            _set(trainer, self._frozen, False)

    def wants(self, epoch: int) -> bool:
        return epoch == self.until

    def on_epoch_end(self, trainer: Trainer, epoch: int, measured: Mapping[str, float]) -> None:
        self._thaw()

    def on_fit_end(self, trainer: Trainer) -> None:
        """Also where the epochs ran out before: the model is given back as it came."""
        frozen = self._frozen
        self._thaw()
        self._frozen = frozen if trainer.history.epochs < self.until else []

    def close(self) -> None:
        """Also where an error ended it."""
        self._thaw()

    def _thaw(self) -> None:
        trainer, self._trainer = self._trainer, None
        if trainer is not None:
            others = trainer.session.frozen
            others.subtract(self._frozen)
            _set(trainer, [name for name in self._frozen if not others[name]], True)
            self._frozen = []

    def state_dict(self) -> dict[str, Any]:
        return {"frozen": list(self._frozen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._frozen = texts(state, "frozen", "Freeze")


def _within(parameter: str, name: str) -> bool:
    return parameter == name or parameter.startswith(f"{name}.")


def _set(trainer: Trainer, names: Iterable[str], trained: bool) -> None:
    known = dict(trainer.model.named_parameters())
    for name in names:
        if name in known:
            known[name].requires_grad_(trained)
