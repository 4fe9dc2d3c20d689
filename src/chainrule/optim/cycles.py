"""Schedules that rise and fall, and may move the momentum against the rate: OneCycleLR, CyclicLR, warm restarts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.errors import SettingError, unknown_name
from chainrule.files.document import is_whole
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.saved import plain
from chainrule.optim.schedules import LRScheduler, check_outside

Given = float | Sequence[float]  # one for all groups, or one for each


def one_each(owner: str, name: str, optimizer: Any, given: Given) -> list[float]:
    """A number for each group.

    Raises:
        SettingError: another number of them than there are groups.
    """
    groups = len(getattr(optimizer, "param_groups", ()))
    found = list(given) if isinstance(given, (list, tuple)) else [given] * groups
    if len(found) != groups:
        raise SettingError(f"{owner}: {name} needs one number for each of the {groups} groups, got {len(found)}.")
    return [float(plain(value)) for value in found]


class _MovesMomentum(LRScheduler):
    """A schedule that may write the groups' momentum, too: ``betas[0]``, or ``momentum``."""

    cycle_momentum: bool

    def writes_momentum(self) -> bool:
        return self.cycle_momentum

    def _prepare_momentum(self, optimizer: Optimizer, base: Given, highest: Given) -> None:
        owner = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            return  # the base class says so
        if not {"betas", "momentum"} & optimizer.defaults.keys():
            raise SettingError(
                f"{owner}: cycle_momentum=True needs an optimizer with betas or a momentum, got {type(optimizer).__name__}. "
                f"Set cycle_momentum=False."
            )
        lows, highs = (
            one_each(owner, n, optimizer, v) for n, v in (("base_momentum", base), ("max_momentum", highest))
        )
        for group, low, high in zip(optimizer.param_groups, lows, highs, strict=True):
            _put_momentum(group, high)
            group["max_momentum"], group["base_momentum"] = high, low


def _put_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


class OneCycleLR(_MovesMomentum):
    """From a low rate up to ``max_lr`` and down to nearly nothing, once; the momentum goes the other way.

    Made for steps: call ``step()`` after every step of the optimizer, ``total_steps`` times at most. From ``max_lr /
    div_factor`` to ``max_lr`` in the first ``pct_start`` of the steps, then down to ``max_lr / div_factor /
    final_div_factor``, each along half a cosine or a line.

    Args:
        optimizer: whose rates (and momenta) to set.
        max_lr: the highest rate; one, or one for each group.
        total_steps: how many steps, or instead of it
        epochs: how many epochs of
        steps_per_epoch: so many steps.
        pct_start: the part of the steps that go up, 0 to 1.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        cycle_momentum: move the momentum, too; the optimizer must have one.
        base_momentum: the momentum at the highest rate; one, or one for each group.
        max_momentum: the momentum at the ends, likewise.
        div_factor: how many times smaller than ``max_lr`` the first rate is.
        final_div_factor: how many times smaller than the first rate the last one is.
        three_phase: come down to the first rate as fast as it went up, and to the last one from there.
        last_epoch: see ``LRScheduler``.

    Raises:
        SettingError: settings that cannot be, no momentum to move, or (of ``step``) more steps than ``total_steps``.

    Source: Smith, Topin, "Super-convergence: very fast training of neural networks using large learning rates", 2018,
    arXiv 1708.07120, as PyTorch computes it; but along a line, rates and momenta stay where they came to after the last step,
    whose rate no update uses. (PyTorch's goes on to a rate below 0.)

    Example:
        >>> import chainrule as cr
        >>> opt = cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0, momentum=0.9)
        >>> cycle = OneCycleLR(opt, max_lr=1.0, total_steps=5, pct_start=0.4)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(round(cycle.get_last_lr()[0], 2)); cycle.step()
        >>> rates, opt.param_groups[0]["momentum"]
        ([0.04, 1.0, 0.75, 0.25], 0.95)
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: Given, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos", cycle_momentum: bool = True,
        base_momentum: Given = 0.85, max_momentum: Given = 0.95, div_factor: float = 25.0, final_div_factor: float = 1e4,
        three_phase: bool = False, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise SettingError("OneCycleLR: give total_steps, or epochs and steps_per_epoch.")
        counts = (
            {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
            if total_steps is None
            else {"total_steps": total_steps}
        )
        for name, value in counts.items():
            _check_count("OneCycleLR", name, value)
        self.total_steps = math.prod(value for value in counts.values() if value is not None)
        self.pct_start, self.anneal_strategy, self.three_phase = float(pct_start), anneal_strategy, three_phase
        self.cycle_momentum = cycle_momentum
        self.check()
        highest = one_each("OneCycleLR", "max_lr", optimizer, max_lr)
        for group, rate in zip(getattr(optimizer, "param_groups", ()), highest, strict=True):
            first = rate / div_factor
            group["initial_lr"], group["max_lr"], group["min_lr"] = first, rate, first / final_div_factor
        if cycle_momentum:
            self._prepare_momentum(optimizer, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch)

    def check(self) -> None:
        _check_count("OneCycleLR", "total_steps", self.total_steps)
        if not 0 <= self.pct_start <= 1:
            raise SettingError(f"OneCycleLR: pct_start must be from 0 to 1, got {self.pct_start!r}.")
        if self.anneal_strategy not in ("cos", "linear"):
            raise unknown_name("anneal_strategy", self.anneal_strategy, ["cos", "linear"])

    def _phases(self) -> list[tuple[float, str, str, str, str]]:
        """Where each phase ends, and between what rates and momenta it goes."""
        up = (self.pct_start * self.total_steps - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if not self.three_phase:
            return [up, (self.total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        return [
            up,
            (2 * self.pct_start * self.total_steps - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
            (self.total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
        ]

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise SettingError(
                f"OneCycleLR: step {self.last_epoch} is beyond its total_steps={self.total_steps}. Make it for as many steps "
                f"as the training takes."
            )
        phases = self._phases()
        number = next((i for i, phase in enumerate(phases) if self.last_epoch <= phase[0]), len(phases) - 1)
        start, (end, *ends) = phases[number - 1][0] if number else 0.0, phases[number]
        done = (self.last_epoch - start) / (end - start) if end > start else 1.0
        if self.anneal_strategy == "linear":
            done = min(done, 1.0)
        rates = []
        for group in self.optimizer.param_groups:
            if "max_lr" not in group:
                raise SettingError(
                    "OneCycleLR: a group that was added later has no rates of its own. Give all groups to the optimizer before "
                    "the schedule is made."
                )
            rates.append(self._between(group[ends[0]], group[ends[1]], done))
            if self.cycle_momentum:
                _put_momentum(group, self._between(group[ends[2]], group[ends[3]], done))
        return rates

    def _between(self, start: float, end: float, done: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * done + start
        return end + (start - end) / 2 * (math.cos(math.pi * done) + 1)


class CyclicLR(_MovesMomentum):
    """Up and down between two rates along lines, again and again; the momentum goes the other way.

    ``base + (max - base) height scale``, with `height` from 0 to 1 in ``step_size_up`` steps and back in
    ``step_size_down``; `scale` is 1 (``"triangular"``), halves from cycle to cycle (``"triangular2"``) or is ``gamma **
    step`` (``"exp_range"``).

    Args:
        optimizer: whose rates (and momenta) to set.
        base_lr: the lowest rate; one, or one for each group.
        max_lr: the highest rate at scale 1, likewise.
        step_size_up: steps from the lowest to the highest, above 0.
        step_size_down: steps back; as many where None.
        mode: how the height falls; not read where ``scale_fn`` is given.
        gamma: the base of ``"exp_range"``.
        scale_fn: a function for the scale, of
        scale_mode: the number of the cycle, from 1 (``"cycle"``), or of the step (``"iterations"``).
        cycle_momentum: move the momentum, too; the optimizer must have one.
        base_momentum: the momentum at the highest rate; one, or one for each group.
        max_momentum: the momentum at the lowest rate, likewise.
        last_epoch: see ``LRScheduler``.

    Raises:
        SettingError: settings that cannot be, or no momentum to move.

    Source: Smith, "Cyclical learning rates for training neural networks", WACV 2017, as PyTorch computes it.

    Example:
        >>> import chainrule as cr
        >>> opt = cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
        >>> cycle = CyclicLR(opt, base_lr=0.0, max_lr=1.0, step_size_up=2, mode="triangular2", cycle_momentum=False)
        >>> rates = []
        >>> for _ in range(8):
        ...     rates += cycle.get_last_lr(); cycle.step()
        >>> rates
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.25, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, base_lr: Given, max_lr: Given, step_size_up: int = 2000, step_size_down: int | None = None,
        mode: str = "triangular", gamma: float = 1.0, scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle", cycle_momentum: bool = True, base_momentum: Given = 0.8, max_momentum: Given = 0.9,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.step_size_up = float(step_size_up)
        self.step_size_down = self.step_size_up if step_size_down is None else float(step_size_down)
        self.mode, self.gamma, self.scale_fn = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        self.check()
        lowest = one_each("CyclicLR", "base_lr", optimizer, base_lr)
        self.max_lrs = one_each("CyclicLR", "max_lr", optimizer, max_lr)
        for group, rate in zip(getattr(optimizer, "param_groups", ()), lowest, strict=True):
            group["lr"] = rate
        if cycle_momentum:
            self._prepare_momentum(optimizer, base_momentum, max_momentum)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = lowest

    def check(self) -> None:
        if not (self.step_size_up > 0 and self.step_size_down > 0):
            raise SettingError(
                f"CyclicLR: step_size_up and step_size_down must be above 0, got {self.step_size_up:g} and {self.step_size_down:g}."
            )
        if self.scale_fn is None and self.mode not in ("triangular", "triangular2", "exp_range"):
            raise unknown_name("mode", self.mode, ["triangular", "triangular2", "exp_range"])
        if self.scale_mode not in ("cycle", "iterations"):
            raise unknown_name("scale_mode", self.scale_mode, ["cycle", "iterations"])

    def _scale(self, cycle: int) -> float:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.mode == "exp_range":
            return float(self.gamma**self.last_epoch)
        return 1.0 if self.mode == "triangular" else 2.0 ** (1 - cycle)

    def get_lr(self) -> list[float]:
        groups, total = self.optimizer.param_groups, self.step_size_up + self.step_size_down
        if len(groups) > len(self.max_lrs):
            raise SettingError(
                "CyclicLR: a group that was added later has no rates of its own. Give all groups to the optimizer before the "
                "schedule is made."
            )
        cycle, ratio = math.floor(1 + self.last_epoch / total), self.step_size_up / total
        place = 1 + self.last_epoch / total - cycle
        height = (place / ratio if place <= ratio else (place - 1) / (ratio - 1)) * self._scale(cycle)
        if self.cycle_momentum:
            for group in groups:
                _put_momentum(group, group["max_momentum"] - (group["max_momentum"] - group["base_momentum"]) * height)
        return [low + (high - low) * height for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]


class CosineAnnealingWarmRestarts(LRScheduler):
    """From the first rate down to ``eta_min`` along half a cosine, then from the first rate again, ``T_mult`` times as long.

    ``eta_min + (base lr - eta_min) (1 + cos(pi T_cur / T_i)) / 2``, with ``T_cur`` the epochs since the last restart.

    Args:
        optimizer: whose rates to set.
        T_0: the epochs to the first restart, a whole number above 0.
        T_mult: how many times longer each next one is, a whole number above 0.
        eta_min: the lowest rate.
        last_epoch: see ``LRScheduler``.

    Raises:
        SettingError: settings that cannot be, or (of ``step``) an epoch below 0.

    Source: Loshchilov, Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.

    Example:
        >>> import chainrule as cr
        >>> opt = cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
        >>> cosine = CosineAnnealingWarmRestarts(opt, T_0=2, T_mult=2)
        >>> rates = []
        >>> for _ in range(6):
        ...     rates.append(round(cosine.get_last_lr()[0], 2)); cosine.step()
        >>> rates
        [1.0, 0.5, 1.0, 0.85, 0.5, 0.15]
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def check(self) -> None:
        for name in ("T_0", "T_mult"):
            _check_count("CosineAnnealingWarmRestarts", name, getattr(self, name))

    def step(self, epoch: float | None = None) -> None:
        """Go to the next epoch, or to `epoch`, which may be a part of one: ``step(epoch + batch / batches)``."""
        check_outside(self)
        if epoch is None and self.last_epoch >= 0:
            self.last_epoch += 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            self._go_to(float(plain(epoch or 0)))
        self._write()

    def restart(self) -> None:
        self.step(0)

    def _go_to(self, epoch: float) -> None:
        if not 0 <= epoch < math.inf:
            raise SettingError(f"CosineAnnealingWarmRestarts: step(epoch) must be 0 or more, got {epoch!r}.")
        self.last_epoch, self.T_cur, self.T_i = math.floor(epoch), epoch, self.T_0
        if self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        while self.T_cur >= self.T_i:
            self.T_cur, self.T_i = self.T_cur - self.T_i, self.T_i * self.T_mult

    def get_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


def _check_count(owner: str, name: str, value: Any) -> None:
    if not is_whole(value) or value < 1:
        raise SettingError(f"{owner}: {name} must be a whole number, 1 or more, got {value!r}.")
