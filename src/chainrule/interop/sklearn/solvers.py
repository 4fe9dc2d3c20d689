"""The update rules of scikit-learn's solvers, where they differ from PyTorch's."""

from __future__ import annotations

from typing import Any

from chainrule import optim
from chainrule.optim.optimizer import Optimizer, check_number, setting
from chainrule.optim.rules import Change, Rule, Settings, State
from chainrule.optim.state import Group
from chainrule.tensor import Tensor


class Adam(optim.Adam):
    """Adam with its epsilon beside ``sqrt(v)`` before the correction of v: ``lr sqrt(c2) / c1 * m / (sqrt(v) + eps)``."""

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        return {**super().settings(group, step), "scaled_eps": setting(group, "eps")}


def _velocity(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    moved = direction * settings["rate"]
    velocity = state["velocity"] * settings["momentum"] - moved
    return -velocity, {"velocity": velocity}


def _nesterov(direction: Tensor, param: Tensor, state: State, settings: Settings) -> Change:
    moved = direction * settings["rate"]
    velocity = state["velocity"] * settings["momentum"] - moved
    return moved - velocity * settings["momentum"], {"velocity": velocity}


VELOCITY = Rule("velocity", ("velocity",), _velocity, elementwise=True)
NESTEROV = Rule("nesterov velocity", ("velocity",), _nesterov, elementwise=True)


class SGD(Optimizer):
    """``v <- m v - lr g; p <- p + v`` (Nesterov: ``p <- p + m v - lr g``): the rate is in the velocity.

    At a constant rate this is `optim.SGD`; where the rate changes, what was gathered before keeps the old one.
    """

    counts = False

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9, nesterov: bool = True) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "nesterov": nesterov})

    def check(self, group: Group) -> None:
        for name in ("lr", "momentum"):
            check_number("SGD", name, group[name])

    def rules(self, group: Group) -> tuple[Rule, ...]:
        return (NESTEROV if group["nesterov"] else VELOCITY,)

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        return {"lr": 1.0, "rate": setting(group, "lr"), "momentum": setting(group, "momentum")}
