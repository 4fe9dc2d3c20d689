"""Adam's kin: Adamax, RAdam and NAdam."""

from __future__ import annotations

from typing import Any

from chainrule.optim import rules
from chainrule.optim.optimizer import Optimizer, betas, check_betas, check_number, setting
from chainrule.optim.state import Group
from chainrule.tensor import Tensor
from chainrule.tensor.creation import ones


class Adamax(Optimizer):
    """``p <- p - lr m / (c1 u)``: Adam with the largest recent gradient in place of the mean square.

    ``m <- beta1 m + (1 - beta1) g``, ``u <- max(beta2 u, |g| + eps)``, ``c1 = 1 - beta1^step``.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the learning rate, 0 or more.
        betas: how slowly m and u move, each in [0, 1).
        eps: keeps the division finite, 0 or more.
        weight_decay: adds ``weight_decay * p`` to the gradient.
        maximize: climb instead.

    Raises:
        SettingError: a setting that cannot be.

    Source: Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015, section 7.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_number("Adamax", name, group[name])
        check_betas("Adamax", group["betas"])

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return rules.chain(
            rules.ASCENT if group["maximize"] else None,
            rules.DECAY if group["weight_decay"] else None,
            rules.ADAMAX,
        )

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        beta1, beta2 = betas(group)
        on = [name for name in ("weight_decay",) if group[name]]
        return {
            **{name: setting(group, name) for name in ("lr", "eps", *on)},
            "beta1": beta1, "beta2": beta2, "correction1": rules.correction(beta1, step),
        }  # fmt: skip


class RAdam(Optimizer):
    """Adam without its second moment until enough gradients were seen for it to mean something, and rectified then.

    ``p <- p - lr r (m / c1) / (sqrt(v / c2) + eps)`` where ``rho > 5``, else ``p <- p - lr m / c1``, with
    ``rho_inf = 2 / (1 - beta2) - 1``, ``rho = rho_inf - 2 step beta2^step / c2`` and
    ``r^2 = (rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho)``.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the learning rate, 0 or more.
        betas: how slowly m and v move, each in [0, 1).
        eps: keeps the division finite, 0 or more.
        weight_decay: adds ``weight_decay * p`` to the gradient, or shrinks the parameter itself;
        decoupled_weight_decay: the latter.
        maximize: climb instead.

    Raises:
        SettingError: a setting that cannot be.

    Source: Liu et al., "On the variance of the adaptive learning rate and beyond", ICLR 2020.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_number("RAdam", name, group[name])
        check_betas("RAdam", group["betas"])

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return rules.decayed(group, rules.RADAM)

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        beta1, beta2 = betas(group)
        on = [name for name in ("weight_decay",) if group[name]]
        correction2 = rules.correction(beta2, step)
        limit = 2 / (1 - beta2) - 1
        length = limit - step.double() * 2 * (1 - correction2) / correction2
        known = length.maximum(5.0)
        rectified = ((known - 4) * (known - 2) * limit / ((limit - 4) * (limit - 2) * known)).sqrt()
        return {
            **{name: setting(group, name) for name in ("lr", "eps", *on)},
            "beta1": beta1, "beta2": beta2, "correction1": rules.correction(beta1, step), "length": length,
            "rectified": rectified * correction2.sqrt(),
        }  # fmt: skip


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead: ``p <- p - lr d / (sqrt(v / c2) + eps)``.

    ``d = (1 - mu) / (1 - M) g + mu' / (1 - M mu') m``, ``mu = beta1 (1 - 0.96^(step momentum_decay) / 2)``, mu' that of
    the next step, and M the product of all mu so far.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the learning rate, 0 or more.
        betas: how slowly m and v move, each in [0, 1).
        eps: keeps the division finite, 0 or more.
        weight_decay: adds ``weight_decay * p`` to the gradient, or shrinks the parameter itself;
        momentum_decay: how fast mu comes up to beta1, 0 or more.
        decoupled_weight_decay: shrink the parameter itself.
        maximize: climb instead.

    Raises:
        SettingError: a setting that cannot be.

    Source: Dozat, "Incorporating Nesterov momentum into Adam", ICLR workshop 2016.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "eps", "weight_decay", "momentum_decay"):
            check_number("NAdam", name, group[name])
        check_betas("NAdam", group["betas"])

    def start(self, slot: str, group: Group, parameter: Tensor) -> Tensor:
        return ones() if slot == "mu_product" else super().start(slot, group, parameter)

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return rules.decayed(group, rules.NADAM)

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        beta1, beta2 = betas(group)
        on = [name for name in ("weight_decay",) if group[name]]
        decay = setting(group, "momentum_decay")
        return {
            **{name: setting(group, name) for name in ("lr", "eps", *on)},
            "beta1": beta1, "beta2": beta2, "mu": _momentum(beta1, step, decay),
            "next_mu": _momentum(beta1, step + 1, decay), "root2": rules.correction(beta2, step).sqrt(),
        }  # fmt: skip


def _momentum(beta: Any, step: Tensor, decay: Any) -> Tensor:
    found: Tensor = (1 - 0.96 ** (step.double() * decay) * 0.5) * beta
    return found
