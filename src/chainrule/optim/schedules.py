"""Learning-rate schedules: each writes ``group["lr"]``, which a compiled step reads anew at every call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from chainrule import graph
from chainrule.errors import SettingError, TraceError, unknown_name
from chainrule.files.document import is_whole
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.saved import plain, unrounded

COUNTS = {"last_epoch", "num_bad_epochs", "cooldown_counter", "patience", "cooldown"}


class LRScheduler:
    """The base: ``step()`` goes to the next epoch (or whatever is counted) and writes each group's rate.

    Args:
        optimizer: whose groups to write to.
        last_epoch: -1 starts anew; to go on, use ``load_state_dict``.

    As in PyTorch, most schedules make the next rate from the one in force. So several on one optimizer act one
    after the other, and a rate set by hand stays. Groups added later are scheduled from the rate they came with. Unlike
    PyTorch's, a rate that comes out below 0 by rounding alone (-1.5e-18 at the end of a line to 0) is 0.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> opt = optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
        >>> halving = optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.5)
        >>> decay = optim.lr_scheduler.ExponentialLR(opt, gamma=0.5)
        >>> halving.step(); decay.step(); opt.param_groups[0]["lr"]
        0.25
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise SettingError(f"{type(self).__name__}: needs an optimizer, got {type(optimizer).__name__}.")
        for name, value in vars(self).items():  # a factor of NumPy's would round the rates to its own dtype
            if not isinstance(value, (list, tuple)):
                setattr(self, name, plain(value))
        self.check()
        self.optimizer = optimizer
        self.last_epoch: int = plain(last_epoch)
        self.base_lrs: list[float] = []
        self.begin()

    def begin(self) -> None:
        """Take its place in the count: the step from the epoch before the first, with the rates in force."""
        self._initial = True
        try:
            self.step()
        finally:
            self._initial = False

    def restart(self) -> None:
        """Go back to epoch 0 and write the rates of it, whatever is in force: its turn in a sequence has come."""
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=False):
            group["lr"] = base
        self.last_epoch = -1
        self.begin()

    def check(self) -> None:
        """Raise `SettingError` for settings that cannot be."""

    def writes_momentum(self) -> bool:
        """Does it write more into the groups than rates?"""
        return False

    def get_lr(self) -> list[float]:
        """The rate of each group at ``self.last_epoch``, from those in force."""
        groups = self.optimizer.param_groups
        return [self._rate(float(group["lr"]), base) for group, base in zip(groups, self.base_lrs, strict=True)]

    def _rate(self, rate: float, base: float) -> float:
        """The next rate of a group whose rate is `rate` now, and was `base` at first."""
        raise NotImplementedError(f"{type(self).__name__}.get_lr() must return one rate for each group.")

    def get_last_lr(self) -> list[float]:
        """The rates in force."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self, epoch: None = None) -> None:
        """Go to the next epoch and write its rates.

        Args:
            epoch: PyTorch's, which deprecates it: not to be given.

        Raises:
            SettingError: it was.
        """
        check_step(self, epoch)
        self.last_epoch += 1
        self._write()

    def _write(self) -> None:
        """The rates of the epoch that it stands at."""
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            group.setdefault("initial_lr", group["lr"])
            self.base_lrs.append(float(group["initial_lr"]))
        groups = self.optimizer.param_groups
        for group, rate, base in zip(groups, self.get_lr(), self.base_lrs[: len(groups)], strict=True):
            group["lr"] = unrounded(float(rate), base)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer (and functions)."""
        return {k: copy(v) for k, v in self.__dict__.items() if k not in ("optimizer", "_initial") and not _is_code(v)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a ``state_dict``; the optimizer's own holds the rate in force."""
        self.__dict__.update({key: copy(value) for key, value in state_dict.items()})


def check_state(schedule: LRScheduler | ReduceLROnPlateau, state: Mapping[str, Any]) -> None:
    """Raise `SettingError` for a ``state_dict`` from which this schedule could not go on.

    Example:
        >>> import chainrule as cr
        >>> step = StepLR(cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0), 3)
        >>> check_state(step, {**step.state_dict(), "last_epoch": 0.5})
        Traceback (most recent call last):
        chainrule.errors.SettingError: StepLR: last_epoch must be a whole number, 0 or more, got 0.5.
    """
    for one, place in zip(getattr(schedule, "schedules", ()), state.get("_schedulers", ()), strict=True):
        check_state(one, place)
    state = {key: value for key, value in state.items() if key != "_schedulers"}
    name, wanted = type(schedule).__name__, copy(schedule)
    vars(wanted).update(state)
    for key, value in state.items():
        if key in COUNTS and not (is_whole(value) and value >= 0):
            raise SettingError(f"{name}: {key} must be a whole number, 0 or more, got {value!r}.")
        if any(
            isinstance(v, float) and math.isnan(v) for v in (value if isinstance(value, (list, tuple)) else [value])
        ):
            raise SettingError(f"{name}: {key} must be without NaN, got {value!r}.")
    wanted.check()


def check_outside(schedule: object) -> None:
    """Refuse to go on inside a compiled function, which would do it only when it is traced."""
    if graph.tracing():
        raise TraceError(
            f"{type(schedule).__name__}.step(): inside a compiled function Python runs only when it is traced. Call it after "
            f"the compiled step, which reads the rate anew at every call."
        )


def check_step(schedule: object, epoch: object) -> None:
    """Refuse what `check_outside` does, and to go anywhere but to the next epoch."""
    check_outside(schedule)
    if epoch is not None:
        raise SettingError(
            f"{type(schedule).__name__}: step() goes on by one epoch and takes none, got {epoch!r}. Call step() after each epoch, and "
            f"go on with a training by load_state_dict(). A measure goes to ReduceLROnPlateau, a part of an epoch to "
            f"CosineAnnealingWarmRestarts."
        )


def _is_code(value: Any) -> bool:
    return callable(value) or (isinstance(value, list) and any(map(callable, value)))


Factor = Callable[[int], float]


class LambdaLR(LRScheduler):
    """``base lr * lr_lambda(epoch)``: the one schedule here that does not go by the rate in force.

    Args:
        optimizer: whose rates to set.
        lr_lambda: from epoch to factor; one function, or one for each group.
        last_epoch: see ``LRScheduler``.
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1) -> None:
        self.lr_lambdas = _one_each(type(self).__name__, optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * fn(self.last_epoch) for base, fn in zip(self.base_lrs, self._functions(), strict=True)]

    def _functions(self) -> list[Factor]:
        """One for each group; groups that came later take the last."""
        return self.lr_lambdas + self.lr_lambdas[-1:] * (len(self.base_lrs) - len(self.lr_lambdas))


class MultiplicativeLR(LambdaLR):
    """The rate times ``lr_lambda(epoch)`` at every epoch; arguments as for ``LambdaLR``."""

    def get_lr(self) -> list[float]:
        rates = self.get_last_lr()
        if self._initial:
            return rates
        return [rate * fn(self.last_epoch) for rate, fn in zip(rates, self._functions(), strict=True)]

    def restart(self) -> None:
        """As in PyTorch: the rate in force times ``lr_lambda(0)``, there being no formula that starts from the first one."""
        self.last_epoch = -1
        self.step()


def _one_each(name: str, optimizer: Optimizer, given: Factor | Sequence[Factor]) -> list[Factor]:
    groups = len(getattr(optimizer, "param_groups", ()))
    functions = [given] * groups if callable(given) else list(given)
    if len(functions) != groups:
        raise SettingError(f"{name}: needs one function for each of the {groups} groups, got {len(functions)}.")
    return functions


class MultiStepLR(LRScheduler):
    """The rate times ``gamma`` at each of the ``milestones``."""

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _rate(self, rate: float, base: float) -> float:
        return rate * float(self.gamma ** self.milestones.count(self.last_epoch))


class StepLR(LRScheduler):
    """The rate times ``gamma`` every ``step_size`` epochs."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def check(self) -> None:
        if self.step_size < 1:
            raise SettingError(f"StepLR: step_size must be 1 or more, got {self.step_size!r}.")

    def _rate(self, rate: float, base: float) -> float:
        return rate * self.gamma if self.last_epoch and self.last_epoch % self.step_size == 0 else rate


class ExponentialLR(LRScheduler):
    """The rate times ``gamma`` every epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _rate(self, rate: float, base: float) -> float:
        return rate if self._initial else rate * self.gamma


class ConstantLR(LRScheduler):
    """The rate times ``factor`` until epoch ``total_iters``, from there on as it was."""

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def check(self) -> None:
        if not 0 < self.factor <= 1:
            raise SettingError(f"ConstantLR: factor must be above 0 and at most 1, got {self.factor!r}.")

    def _rate(self, rate: float, base: float) -> float:
        if self.last_epoch == 0:
            return rate * self.factor
        return rate * (1 / self.factor) if self.last_epoch == self.total_iters else rate


class LinearLR(LRScheduler):
    """The rate times a factor that goes in a straight line from ``start_factor`` to ``end_factor``: a warm-up.

    Args:
        optimizer: whose rates to set.
        start_factor: at epoch 0; above 0, at most 1.
        end_factor: from epoch ``total_iters`` on; 0 to 1. Of 0 the rate comes to 0 but for rounding, and never below.
        total_iters: how many epochs the way takes.
        last_epoch: see ``LRScheduler``.
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def check(self) -> None:
        if not 0 < self.start_factor <= 1 or not 0 <= self.end_factor <= 1:
            raise SettingError(
                f"LinearLR: start_factor must be above 0 and end_factor 0 or more, both at most 1, got "
                f"{self.start_factor!r} and {self.end_factor!r}."
            )

    def _rate(self, rate: float, base: float) -> float:
        if self.last_epoch == 0:
            return rate * self.start_factor
        if self._initial or self.last_epoch > self.total_iters:
            return rate
        rise = self.end_factor - self.start_factor
        return rate * (1 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise))


class PolynomialLR(LRScheduler):
    """The rate falls to 0 at epoch ``total_iters``, as ``(1 - epoch / total_iters) ** power``."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def _rate(self, rate: float, base: float) -> float:
        if self._initial or self.last_epoch > self.total_iters:
            return rate
        now, before = (1 - epoch / self.total_iters for epoch in (self.last_epoch, self.last_epoch - 1))
        return rate * float((now / before) ** self.power)


class CosineAnnealingLR(LRScheduler):
    """From the first rate down to ``eta_min`` at epoch ``T_max`` along half a cosine, and up again.

    ``eta_min + (base lr - eta_min) (1 + cos(pi epoch / T_max)) / 2``, made from the rate in force as PyTorch makes it.

    Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def check(self) -> None:
        if self.T_max < 1:
            raise SettingError(
                f"CosineAnnealingLR: T_max, the epochs to the lowest rate, must be 1 or more, got {self.T_max!r}."
            )

    def _rate(self, rate: float, base: float) -> float:
        if self._initial:
            return rate
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # out of the lowest point, where no ratio leads
            return rate + (base - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
        now, before = (1 + math.cos(math.pi * epoch / self.T_max) for epoch in (self.last_epoch, self.last_epoch - 1))
        return now / before * (rate - self.eta_min) + self.eta_min


class CosLogLR(LRScheduler):
    """Waves that grow longer: the rate rises from 0 to the first rate and falls back to 0, ``cycles`` times.

    ``base lr (1 - cos(2 pi log2(1 + (2^cycles - 1) epoch / total_iters))) / 2``: each wave is about twice as long as the
    one before, so a few short ones look around and the last one settles. Made for steps rather than epochs:
    ``Trainer(scheduler={"step": CosLogLR(optimizer, epochs * steps_an_epoch)})``. From ``total_iters`` on the rate is 0.

    Args:
        optimizer: whose rates to set.
        total_iters: steps (or epochs) in all, 1 or more.
        cycles: how many waves, 1 or more.
        last_epoch: see ``LRScheduler``.

    Source: Holzmueller, Grinsztajn, Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
    data", NeurIPS 2024, arXiv 2407.04491 (``coslog4``).

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> opt = optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
        >>> waves = optim.lr_scheduler.CosLogLR(opt, total_iters=30, cycles=4)
        >>> waves.ends()
        [2.0, 6.0, 14.0, 30.0]
        >>> rates = []
        >>> for _ in range(7):
        ...     rates.append(round(waves.get_last_lr()[0], 2)); waves.step()
        >>> rates
        [0.0, 0.93, 0.0, 0.72, 0.93, 0.32, 0.0]
    """

    def __init__(self, optimizer: Optimizer, total_iters: int, cycles: int = 4, last_epoch: int = -1) -> None:
        self.total_iters, self.cycles = total_iters, cycles
        super().__init__(optimizer, last_epoch)

    def check(self) -> None:
        for name, value in (("total_iters", self.total_iters), ("cycles", self.cycles)):
            if not is_whole(value) or value < 1:
                raise SettingError(f"CosLogLR: {name} must be a whole number, 1 or more, got {value!r}.")

    def get_lr(self) -> list[float]:
        done = min(self.last_epoch / self.total_iters, 1.0)
        factor = 0.5 - 0.5 * math.cos(2 * math.pi * math.log2(1 + (2**self.cycles - 1) * done))
        return [base * factor for base in self.base_lrs]

    def ends(self) -> list[float]:
        """Where each wave ends, in what ``total_iters`` counts; not always at a whole number."""
        return [self.total_iters * (2**wave - 1) / (2**self.cycles - 1) for wave in range(1, self.cycles + 1)]


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
        self.optimizer, self.mode, self.threshold_mode = optimizer, mode, threshold_mode
        self.factor, self.threshold, self.min_lr, self.eps = (
            float(plain(value)) for value in (factor, threshold, min_lr, eps)
        )
        self.patience, self.cooldown = int(plain(patience)), int(plain(cooldown))
        self.check()
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    def check(self) -> None:
        """Raise `SettingError` for settings that cannot be."""
        if self.factor >= 1:
            raise SettingError(f"ReduceLROnPlateau: factor must be below 1, got {self.factor:g}.")
        if self.mode not in ("min", "max"):
            raise unknown_name("mode", self.mode, ["min", "max"])
        if self.threshold_mode not in ("rel", "abs"):
            raise unknown_name("threshold_mode", self.threshold_mode, ["rel", "abs"])

    def is_better(self, metric: float) -> bool:
        """Is this an improvement on the best so far?"""
        sign = -1.0 if self.mode == "min" else 1.0
        if math.isinf(self.best):
            return sign * metric > sign * self.best
        margin = self.threshold * (abs(self.best) if self.threshold_mode == "rel" else 1.0)
        return sign * metric > sign * self.best + margin

    def step(self, metrics: float) -> None:
        """Take the epoch's metric into account."""
        check_outside(self)
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
