"""Resilient backpropagation."""

from __future__ import annotations

from typing import Any

from chainrule.errors import SettingError
from chainrule.optim import rules
from chainrule.optim.optimizer import Optimizer, check_number, live_pair, setting
from chainrule.optim.state import Group
from chainrule.tensor import Tensor
from chainrule.tensor.creation import full_like


class Rprop(Optimizer):
    """``p <- p - sign(g) s``: each element has a step size s of its own, and nothing else of the gradient counts than its sign.

    s grows by ``etas[1]`` where the sign stays, and shrinks by ``etas[0]`` where it changes, which that time is no step at all.
    For gradients of all the data: the noise of small batches changes signs.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the first step size, 0 or more.
        etas: (below 1, above 1).
        step_sizes: the smallest and the largest.
        maximize: climb instead.

    Raises:
        SettingError: a setting that cannot be.

    Source: Riedmiller, Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993.
    """

    def __init__(
        self, params: Any, lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2), step_sizes: tuple[float, float] = (1e-6, 50.0),
        *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes, "maximize": maximize})

    def check(self, group: Group) -> None:
        check_number("Rprop", "lr", group["lr"])
        low, high = group["etas"]
        if not 0 < low < 1 < high:
            raise SettingError(f"Rprop: etas must be a number from 0 to 1 and one above 1, got {group['etas']!r}.")
        least, most = group["step_sizes"]
        if not 0 <= least <= most:
            raise SettingError(
                f"Rprop: step_sizes must be a smallest and a largest, 0 or more, got {group['step_sizes']!r}."
            )

    def start(self, slot: str, group: Group, parameter: Tensor) -> Tensor:
        return (
            full_like(parameter, float(group["lr"])) if slot == "step_size" else super().start(slot, group, parameter)
        )

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return rules.chain(rules.ASCENT if group["maximize"] else None, rules.RPROP)

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        (low, high), (least, most) = live_pair(group, "etas"), live_pair(group, "step_sizes")
        return {
            "lr": setting(group, "lr"), "step": step, "step_size": 1.0, "etaminus": low, "etaplus": high, "smallest": least, "largest": most,
        }  # fmt: skip
