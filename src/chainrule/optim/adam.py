"""Adam and AdamW: the same links, the decay in another place."""

from __future__ import annotations

from typing import Any

from chainrule.optim import rules
from chainrule.optim.optimizer import Optimizer, betas, check_betas, check_number, setting
from chainrule.optim.state import Group


class Adam(Optimizer):
    """``p <- p - lr (m / c1) / (sqrt(v / c2) + eps)`` with averages m of g and v of g^2.

    ``m <- beta1 m + (1 - beta1) g``, ``v <- beta2 v + (1 - beta2) g^2``, and ``c_i = 1 - beta_i^step``
    undoes that both start at 0.

    Args:
        params: tensors, or groups of them; see ``Optimizer``.
        lr: the learning rate, 0 or more.
        betas: how slowly the averages move, each in [0, 1).
        eps: keeps the division finite, 0 or more.
        weight_decay: adds ``weight_decay * p`` to the gradient (``AdamW`` decays the parameter itself).
        amsgrad: divide by the largest v so far.
        maximize: climb instead.
        decoupled_weight_decay: decay the parameter itself, as ``AdamW`` does.

    Raises:
        SettingError: a setting that cannot be.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import optim
        >>> w = cr.tensor([1.0], requires_grad=True)
        >>> opt = optim.Adam([w], lr=0.1)
        >>> (w * w).sum().backward(); opt.step(); w
        tensor([0.9000], requires_grad=True)

    Source: Kingma, Ba, "Adam: a method for stochastic optimization", ICLR 2015; Reddi, Kale, Kumar, "On the
    convergence of Adam and beyond", ICLR 2018 (amsgrad).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: Group) -> None:
        for name in ("lr", "eps", "weight_decay"):
            check_number(type(self).__name__, name, group[name])
        check_betas(type(self).__name__, group["betas"])

    def rules(self, group: Group) -> tuple[rules.Rule, ...]:
        return rules.decayed(group, rules.AMSGRAD if group["amsgrad"] else rules.ADAM)

    def settings(self, group: Group, step: Any) -> dict[str, Any]:
        beta1, beta2 = betas(group)
        lr, correction1 = setting(group, "lr"), rules.correction(beta1, step)
        root = rules.correction(beta2, step).sqrt()
        scale = correction1 / root  # what the rules give is the direction times this
        found: dict[str, Any] = {"lr": lr, "beta1": beta1, "beta2": beta2, "correction1": correction1, "scale": scale}
        found.update(step_size=lr / scale, scaled_eps=root * setting(group, "eps"))
        if group["weight_decay"]:
            decay = setting(group, "weight_decay")
            found["weight_decay"] = decay * scale if group["decoupled_weight_decay"] else decay
        return found


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself: ``p <- p - lr (adam(g) + weight_decay p)``.

    Arguments as for ``Adam``, but ``weight_decay`` is 0.01 unless given.

    Source: Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)
