"""Schedules made of schedules: one after the other, or all of them at every step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from chainrule.errors import SettingError
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.schedules import LRScheduler, check_step


class _Composed(LRScheduler):
    """What both share: schedules of one optimizer, whose states are kept under PyTorch's key ``_schedulers``."""

    schedules: list[LRScheduler]

    def _take(self, optimizer: Any, schedules: Sequence[LRScheduler]) -> None:
        name = type(self).__name__
        if not schedules:
            raise SettingError(f"{name}: needs one schedule at least, got none.")
        for index, schedule in enumerate(schedules):
            if not isinstance(schedule, LRScheduler):
                raise SettingError(
                    f"{name}: takes schedules that go by the number of steps, got {type(schedule).__name__} at index {index}."
                )
            if schedule.optimizer is not optimizer:
                raise SettingError(f"{name}: the schedule at index {index} sets the rates of another optimizer.")
        self.schedules, self.optimizer = list(schedules), optimizer

    def writes_momentum(self) -> bool:
        return any(schedule.writes_momentum() for schedule in self.schedules)

    def state_dict(self) -> dict[str, Any]:
        own = {key: value for key, value in super().state_dict().items() if key != "schedules"}
        return {**own, "_schedulers": [schedule.state_dict() for schedule in self.schedules]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "_schedulers"})
        for schedule, state in zip(self.schedules, state_dict["_schedulers"], strict=True):
            schedule.load_state_dict(state)


class SequentialLR(_Composed):
    """One schedule after the other: each begins anew, from the first rate, at its milestone.

    Args:
        optimizer: whose rates to set.
        schedulers: the schedules, all of this optimizer.
        milestones: the epochs at which the second, third... begins: one fewer than schedules, ascending.
        last_epoch: see ``LRScheduler``.

    Raises:
        SettingError: no schedule, one of another optimizer, one that goes by a metric or is a sequence itself, or another
            number of milestones.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.optim.lr_scheduler import ConstantLR, ExponentialLR
        >>> opt = cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
        >>> both = SequentialLR(opt, [ConstantLR(opt, 0.1), ExponentialLR(opt, 0.5)], milestones=[2])
        >>> rates = []
        >>> for _ in range(5):
        ...     rates += both.get_last_lr(); both.step()
        >>> rates
        [0.1, 0.1, 1.0, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._take(optimizer, schedulers)
        self.milestones, self.last_epoch = list(milestones), last_epoch + 1
        self.check()
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for schedule in self.schedules:
            schedule.last_epoch -= 1  # their first steps, which they took when they were made
        first = self.schedules[bisect_right(self.milestones, 0)]
        first.begin()

    def check(self) -> None:
        if any(isinstance(schedule, _Composed) for schedule in self.schedules):
            raise SettingError(
                "SequentialLR: a schedule in it is made of schedules itself, and could not begin anew at its milestone. Give "
                "those that it is made of."
            )
        if len(self.milestones) != len(self.schedules) - 1:
            raise SettingError(
                f"SequentialLR: needs one milestone fewer than schedules, got {len(self.schedules)} schedules and "
                f"{len(self.milestones)} milestones."
            )
        if self.milestones != sorted(self.milestones):
            raise SettingError(f"SequentialLR: milestones must ascend, got {self.milestones}.")

    def step(self, epoch: None = None) -> None:
        """Go to the next epoch: a step of the schedule whose turn it is, or its beginning."""
        check_step(self, epoch)
        self.last_epoch += 1
        index = bisect_right(self.milestones, self.last_epoch)
        if index and self.milestones[index - 1] == self.last_epoch:
            self.schedules[index].restart()
        else:
            self.schedules[index].step()


class ChainedScheduler(_Composed):
    """All schedules at every step, one after the other: each goes on from the rate that the one before it left.

    Args:
        schedulers: the schedules, all of one optimizer.
        optimizer: that one; of the first schedule where None.

    Raises:
        SettingError: no schedule, one of another optimizer, or one that goes by a metric.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.optim.lr_scheduler import ConstantLR, ExponentialLR
        >>> opt = cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
        >>> both = ChainedScheduler([ConstantLR(opt, 0.5, total_iters=2), ExponentialLR(opt, 0.5)])
        >>> rates = []
        >>> for _ in range(4):
        ...     rates += both.get_last_lr(); both.step()
        >>> rates
        [0.5, 0.25, 0.25, 0.125]
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._take(optimizer or getattr(schedulers[0] if schedulers else None, "optimizer", None), schedulers)
        self.last_epoch = max(schedule.last_epoch for schedule in self.schedules)

    def step(self, epoch: None = None) -> None:
        """A step of each."""
        check_step(self, epoch)
        self.last_epoch += 1
        for schedule in self.schedules:
            schedule.step()
