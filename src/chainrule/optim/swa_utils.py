"""Averages of weights under PyTorch's address: ``from chainrule.optim.swa_utils import AveragedModel, SWALR, update_bn``.

The schedule stands here; what holds or walks a module is brought in from ``chainrule.nn`` when it is first asked for.
"""

from __future__ import annotations

import math

from chainrule.errors import SettingError, unknown_name
from chainrule.files.document import is_whole
from chainrule.names import module_getattr
from chainrule.optim.cycles import Given, one_each
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.schedules import LRScheduler


class SWALR(LRScheduler):
    """From the rate in force to ``swa_lr`` in ``anneal_epochs`` epochs, then constant: for the part whose weights are averaged.

    Args:
        optimizer: whose rates to set.
        swa_lr: the rate to go to; one, or one for each group.
        anneal_epochs: how many epochs the way takes, 0 or more.
        anneal_strategy: along half a cosine (``"cos"``) or a line (``"linear"``).
        last_epoch: see ``LRScheduler``.

    Raises:
        SettingError: settings that cannot be.

    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018, as PyTorch
    computes it.

    Example:
        >>> import chainrule as cr
        >>> opt = cr.optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0)
        >>> swa = SWALR(opt, swa_lr=0.5, anneal_epochs=2, anneal_strategy="linear")
        >>> rates = []
        >>> for _ in range(4):
        ...     rates += swa.get_last_lr(); swa.step()
        >>> rates
        [1.0, 0.75, 0.5, 0.5]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: Given,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        self.anneal_epochs, self.anneal_strategy = anneal_epochs, anneal_strategy
        rates = one_each("SWALR", "swa_lr", optimizer, swa_lr)
        for group, rate in zip(getattr(optimizer, "param_groups", ()), rates, strict=True):
            group["swa_lr"] = rate
        super().__init__(optimizer, last_epoch)

    def check(self) -> None:
        if not is_whole(self.anneal_epochs) or self.anneal_epochs < 0:
            raise SettingError(f"SWALR: anneal_epochs must be a whole number, 0 or more, got {self.anneal_epochs!r}.")
        if self.anneal_strategy not in ("cos", "linear"):
            raise unknown_name("anneal_strategy", self.anneal_strategy, ["cos", "linear"])

    def restart(self) -> None:
        """From the rate in force, as ever."""
        self.last_epoch = -1
        self.step()

    def get_lr(self) -> list[float]:
        step = self.last_epoch if self.anneal_epochs else max(1, self.last_epoch)
        before, now = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            if "swa_lr" not in group:
                raise SettingError(
                    "SWALR: a group that was added later has no rate of its own to go to. Give all groups to the optimizer before the "
                    "schedule is made."
                )
            goal = group["swa_lr"]
            start = goal if before == 1 else (group["lr"] - before * goal) / (1 - before)
            rates.append(goal * now + start * (1 - now))
        return rates

    def _share(self, step: int) -> float:
        done = max(0.0, min(1.0, step / max(1, self.anneal_epochs)))
        return done if self.anneal_strategy == "linear" else (1 - math.cos(math.pi * done)) / 2


_NAMES = (
    "AveragedModel",
    "update_bn",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
)
_LATER = dict.fromkeys(_NAMES, "chainrule.nn.averaged")
__getattr__ = module_getattr("swa_utils", __name__, _LATER)
