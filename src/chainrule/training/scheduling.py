"""The schedules of a training: which there are, when each takes its step, and the rates of the steps to come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from chainrule.errors import SettingError
from chainrule.optim import Optimizer
from chainrule.optim.ahead import is_ahead
from chainrule.optim.schedules import LRScheduler, ReduceLROnPlateau

Array = np.ndarray[Any, Any]
Scheduler = LRScheduler | ReduceLROnPlateau
Given = Scheduler | Sequence[Scheduler] | Mapping[str, "Scheduler | Sequence[Scheduler]"] | None
WHEN = ("step", "epoch")


class Schedules:
    """What `Trainer(scheduler=)` was given, in order: those of every step, then those of every epoch.

    Args:
        given: a scheduler or a list of them, which take a step after every epoch; or a dict that says when:
            ``{"step": warmup, "epoch": plateau}``.
        optimizer: whose rates they set.

    Raises:
        SettingError: something else, a scheduler of another optimizer, or one that cannot take a step after every step.
    """

    def __init__(self, given: Given, optimizer: Optimizer) -> None:
        chosen = given if isinstance(given, Mapping) else {"epoch": given}
        unknown = [key for key in chosen if key not in WHEN]
        if unknown:
            raise SettingError(
                f"Trainer: scheduler says when a schedule takes its step by 'epoch' or 'step', got {unknown[0]!r}. "
                f"Write scheduler={{'step': ...}}, for example."
            )
        self.by_step, self.by_epoch = (_checked(chosen.get(when), optimizer) for when in WHEN)
        late = [s for s in self.by_step if isinstance(s, ReduceLROnPlateau)]
        if late:
            raise SettingError(
                "Trainer: ReduceLROnPlateau goes by what an epoch measured, so it cannot take a step after every step. "
                "Give it as scheduler={'epoch': ...}."
            )
        more = [s for s in self.by_step if isinstance(s, LRScheduler) and s.writes_momentum()]
        if more:
            raise SettingError(
                f"Trainer: {type(more[0]).__name__} moves the momentum, too, but of a schedule of every step only the rates are "
                f"worked out ahead. Make it with cycle_momentum=False, or write the loop around a compiled step."
            )

    @property
    def all(self) -> list[Scheduler]:
        """Every one, in order."""
        return [*self.by_step, *self.by_epoch]

    def state(self) -> list[dict[str, Any]]:
        """Where each stands."""
        return [scheduler.state_dict() for scheduler in self.all]

    def put(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from there."""
        for scheduler, state in zip(self.all, states, strict=True):
            scheduler.load_state_dict(state)

    @property
    def ahead(self) -> bool:
        """Do those of every epoch, if there are any, need nothing that an epoch measures?"""
        return all(map(is_ahead, self.by_epoch))

    @property
    def given(self) -> bool:
        """Are the rates of the next steps worked out before them?"""
        return bool(self.by_step or (self.by_epoch and self.ahead))

    def rates(self, optimizer: Optimizer, laps: Iterable[tuple[int, bool]]) -> Array:
        """The rates of the next steps, float64 (steps, groups); the schedules take those steps.

        Args:
            laps: so many steps of one epoch each; and do they close it?
        """
        found: list[list[float]] = []
        lasting: list[int] = []  # so many steps, each of these
        for steps, closes in laps:
            if self.by_step:
                for _ in range(steps):
                    found.append([group["lr"] for group in optimizer.param_groups])
                    for scheduler in self.by_step:
                        scheduler.step()  # type: ignore[call-arg]  # the one that wants a metric is refused above
                lasting += [1] * steps
            else:
                found.append([group["lr"] for group in optimizer.param_groups])
                lasting.append(steps)
            if closes:
                self.epoch_ended({})
        return np.array(found, np.float64).repeat(lasting, axis=0)

    def epoch_ended(self, measured: Mapping[str, float]) -> None:
        """Those of every epoch take their step."""
        for scheduler in self.by_epoch:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(measured.get("val_loss", measured["loss"]))
            else:
                scheduler.step()


def _checked(given: Scheduler | Sequence[Scheduler] | None, optimizer: Optimizer) -> list[Scheduler]:
    several = isinstance(given, (list, tuple))
    listed: list[Any] = [] if given is None else list(given) if several else [given]  # type: ignore[arg-type]
    for scheduler in listed:
        if not isinstance(scheduler, (LRScheduler, ReduceLROnPlateau)):
            raise SettingError(
                f"Trainer: scheduler must be a schedule of optim.lr_scheduler, a list of them, or a dict "
                f"{{'step': ..., 'epoch': ...}}, got {type(scheduler).__name__}. "
                f"Pass optim.lr_scheduler.StepLR(optimizer, 10), for example."
            )
        if scheduler.optimizer is not optimizer:
            raise SettingError(
                "Trainer: a scheduler sets the rates of another optimizer than the one given. Make both with the same."
            )
    return listed
