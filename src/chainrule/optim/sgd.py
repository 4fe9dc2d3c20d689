"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from chainrule.errors import SettingError
from chainrule.optim import rules
from chainrule.optim.optimizer import Optimizer, check_number, setting
from chainrule.optim.state import Group


class SGD(Optimizer):
    """``p <- p - lr g``, with momentum ``b <- m b + (1 - dampening) g; p <- p - lr b``.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the learning rate, 0 or more.
        momentum: m, 0 or more; 0 keeps no state.
        dampening: how much of each gradient but the first is held back.
        weight_decay: adds ``weight_decay * p`` to the gradient.
        nesterov: step along ``g + m b``; needs momentum and no dampening.
        maximize: climb instead.

    Raises:
        SettingError: a setting that cannot be.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor([1.0], requires_grad=True)
        >>> opt = optim.SGD([w], lr=0.1)
        >>> (w * w).sum().backward(); opt.step(); w
        tensor([0.8000], requires_grad=True)

    Source: Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum", 2013.
    Where we deviate from PyTorch: ``momentum_buffer`` stands (as zeros) before the first step.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            check_number("SGD", name, group[name])
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise SettingError(
                f"SGD: nesterov needs momentum above 0 and dampening 0, got momentum={group['momentum']!r}, "
                f"dampening={group['dampening']!r}."
            )

    def _counted(self, group: Group) -> bool:
        return bool(group["momentum"] != 0 and group["dampening"] != 0)  # to know the first step

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        damped = rules.DAMPENED if group["dampening"] else rules.MOMENTUM
        momentum = rules.NESTEROV if group["nesterov"] else damped
        return rules.chain(
            rules.ASCENT if group["maximize"] else None,
            rules.DECAY if group["weight_decay"] else None,
            momentum if group["momentum"] else None,
        )

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        on = [name for name in ("momentum", "dampening", "weight_decay") if group[name]]
        return {"step": step, **{name: setting(group, name) for name in ("lr", *on)}}
