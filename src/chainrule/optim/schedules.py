"""Learning-rate schedules: each writes ``group["lr"]``, which a compiled step reads anew at every call."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.errors import SettingError, unknown_name
from chainrule.optim.optimizer import Optimizer


class LRScheduler:
    """The base: ``lr = base lr * factor(epoch)``; a subclass gives ``get_lr``.

    Args:
        optimizer: whose groups to write to.
        last_epoch: -1 starts anew; to go on, use ``load_state_dict``.

    ``step()`` goes to the next epoch (or whatever is counted). Rates are computed from the epoch's number
    rather than from the rate before, so that they do not drift.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise SettingError(f"{type(self).__name__}: needs an optimizer, got {type(optimizer).__name__}.")
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def get_lr(self) -> list[float]:
        """The rate of each group at ``self.last_epoch``."""
        raise NotImplementedError(f"{type(self).__name__}.get_lr() must return one rate for each group.")

    def get_last_lr(self) -> list[float]:
        """The rates in force."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Go to the next epoch and write its rates."""
        self.last_epoch += 1
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer (and functions)."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer" and not _is_code(v)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a ``state_dict``; the optimizer's own holds the rate in force."""
        self.__dict__.update(state_dict)


def _is_code(value: Any) -> bool:
    return callable(value) or (isinstance(value, list) and any(map(callable, value)))


class LambdaLR(LRScheduler):
    """``base lr * lr_lambda(epoch)``.

    Args:
        optimizer: whose rates to set.
        lr_lambda: from epoch to factor; one function, or one for each group.
        last_epoch: see ``LRScheduler``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(optimizer.param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else list(lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise SettingError(
                f"LambdaLR: needs one function for each of the {groups} groups, got {len(self.lr_lambdas)}."
            )
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * fn(self.last_epoch) for base, fn in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class MultiStepLR(LRScheduler):
    """The rate times ``gamma`` at each of the ``milestones``."""

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = self.gamma ** bisect_right(self.milestones, self.last_epoch)
        return [base * factor for base in self.base_lrs]


class StepLR(LRScheduler):
    """The rate times ``gamma`` every ``step_size`` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        if step_size < 1:
            raise SettingError(f"StepLR: step_size must be 1 or more, got {step_size!r}.")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class ExponentialLR(StepLR):
    """The rate times ``gamma`` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, 1, gamma, last_epoch)


class CosineAnnealingLR(LRScheduler):
    """``eta_min + (base lr - eta_min) (1 + cos(pi epoch / T_max)) / 2``.

    Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        if T_max < 1:
            raise SettingError(
                f"CosineAnnealingLR: T_max, the epochs to the lowest rate, must be 1 or more, got {T_max!r}."
            )
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class ReduceLROnPlateau:
    """The rate times ``factor`` once a metric has not improved for more than ``patience`` epochs.

    Args:
        optimizer: whose rates to lower.
        mode: "min" where lower is better, "max" where higher is.
        factor: below 1.
        patience: how many epochs without improvement to wait.
        threshold: what counts as an improvement, relative ("rel") or absolute ("abs") by ``threshold_mode``.
        cooldown: epochs after a reduction during which nothing is counted.
        min_lr: the lowest rate.
        eps: smaller changes of the rate are not made.

    Raises:
        SettingError: factor is not below 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1:
            raise SettingError(f"ReduceLROnPlateau: factor must be below 1, got {factor!r}.")
        if mode not in ("min", "max"):
            raise unknown_name("mode", mode, ["min", "max"])
        if threshold_mode not in ("rel", "abs"):
            raise unknown_name("threshold_mode", threshold_mode, ["rel", "abs"])
        self.optimizer = optimizer
        self.mode, self.factor, self.patience, self.cooldown = mode, factor, patience, cooldown
        self.threshold, self.threshold_mode, self.min_lr, self.eps = threshold, threshold_mode, min_lr, eps
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def is_better(self, metric: float) -> bool:
        """Is this an improvement on the best so far?"""
        sign = -1.0 if self.mode == "min" else 1.0
        if math.isinf(self.best):
            return sign * metric > sign * self.best
        margin = self.threshold * (abs(self.best) if self.threshold_mode == "rel" else 1.0)
        return sign * metric > sign * self.best + margin

    def step(self, metrics: float) -> None:
        """Take the epoch's metric into account."""
        metric = float(metrics)
        self.last_epoch += 1
        self.num_bad_epochs = 0 if self.is_better(metric) else self.num_bad_epochs + 1
        if self.num_bad_epochs == 0:
            self.best = metric
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()

    def _reduce(self) -> None:
        for group in self.optimizer.param_groups:
            lower = max(group["lr"] * self.factor, self.min_lr)
            if group["lr"] - lower > self.eps:
                group["lr"] = lower
        self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def get_last_lr(self) -> list[float]:
        """The rates in force."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        self.__dict__.update(state_dict)
