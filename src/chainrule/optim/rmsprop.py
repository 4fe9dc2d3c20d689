"""RMSprop."""

from __future__ import annotations

from typing import Any

from chainrule.optim import rules
from chainrule.optim.optimizer import Optimizer, check_number, setting
from chainrule.optim.state import Group


class RMSprop(Optimizer):
    """``p <- p - lr g / (sqrt(v) + eps)`` with ``v <- alpha v + (1 - alpha) g^2``.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the learning rate, 0 or more.
        alpha: how slowly the average moves, 0 or more.
        eps: keeps the division finite, 0 or more.
        weight_decay: adds ``weight_decay * p`` to the gradient.
        momentum: gathers the scaled gradients, ``b <- momentum b + g / (sqrt(v) + eps)``.
        centered: subtract the squared average of g from v, which makes it a variance; one that is less than the
            rounding of v counts as that (PyTorch's may turn negative, and the step NaN).
        maximize: climb instead.

    Raises:
        SettingError: a setting that cannot be.

    Source: Tieleman, Hinton, "Lecture 6.5: rmsprop", Coursera, 2012; centered: Graves, "Generating sequences
    with recurrent neural networks", 2013.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "alpha", "eps", "weight_decay", "momentum"):
            check_number("RMSprop", name, group[name])

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return rules.chain(
            rules.ASCENT if group["maximize"] else None,
            rules.DECAY if group["weight_decay"] else None,
            rules.CENTERED_RMS if group["centered"] else rules.RMS,
            rules.MOMENTUM if group["momentum"] else None,
        )

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        on = [name for name in ("weight_decay", "momentum") if group[name]]
        return {name: setting(group, name) for name in ("lr", "alpha", "eps", *on)}
