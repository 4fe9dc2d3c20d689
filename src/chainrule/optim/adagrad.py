"""Adagrad and Adadelta: rates for each element, from the squares of all its gradients so far."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.dtypes import limits
from chainrule.errors import SettingError
from chainrule.optim import rules
from chainrule.optim.optimizer import Optimizer, check_number, setting
from chainrule.optim.state import Group
from chainrule.tensor import Tensor
from chainrule.tensor.creation import full_like


class Adagrad(Optimizer):
    """``p <- p - lr_t g / (sqrt(s) + eps)`` with ``s <- s + g^2`` and ``lr_t = lr / (1 + (step - 1) lr_decay)``.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the learning rate, 0 or more.
        lr_decay: how fast it falls, 0 or more.
        weight_decay: adds ``weight_decay * p`` to the gradient.
        initial_accumulator_value: what s starts with, 0 or more.
        eps: keeps the division finite, 0 or more.
        maximize: climb instead.

    Raises:
        SettingError: a setting that cannot be.

    Source: Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning", JMLR 12, 2011.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            check_number("Adagrad", name, group[name])
        most = min((limits(p.dtype).max for p in group["params"]), default=np.inf)
        if group["initial_accumulator_value"] > most:
            raise SettingError(
                f"Adagrad: initial_accumulator_value must be a number that the parameters' dtype holds, at most {most:.3g}, got "
                f"{group['initial_accumulator_value']!r}."
            )

    def start(self, slot: str, group: Group, parameter: Tensor) -> Tensor:
        return full_like(parameter, group["initial_accumulator_value"])

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return rules.chain(
            rules.ASCENT if group["maximize"] else None,
            rules.DECAY if group["weight_decay"] else None,
            rules.ADAGRAD,
        )

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        on = [name for name in ("weight_decay",) if group[name]]
        decayed = setting(group, "lr") / ((step.double() - 1) * setting(group, "lr_decay") + 1)
        return {**{name: setting(group, name) for name in ("eps", *on)}, "lr": decayed}


class Adadelta(Optimizer):
    """``p <- p - lr d`` with ``d = sqrt(a + eps) / sqrt(v + eps) g``, v and a being averages of g^2 and d^2.

    ``v <- rho v + (1 - rho) g^2`` before d is computed, ``a <- rho a + (1 - rho) d^2`` after.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the learning rate, 0 or more.
        rho: how slowly the averages move, in [0, 1).
        eps: keeps the division finite, 0 or more.
        weight_decay: adds ``weight_decay * p`` to the gradient.
        maximize: climb instead.

    Raises:
        SettingError: a setting that cannot be.

    Source: Zeiler, "ADADELTA: an adaptive learning rate method", 2012.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_number("Adadelta", name, group[name])
        check_number("Adadelta", "rho", group["rho"], below=1.0)

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return rules.chain(
            rules.ASCENT if group["maximize"] else None,
            rules.DECAY if group["weight_decay"] else None,
            rules.ADADELTA,
        )

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        on = [name for name in ("weight_decay",) if group[name]]
        return {name: setting(group, name) for name in ("lr", "rho", "eps", *on)}
