"""The losses as modules: the function's options given once, the pair (input, target) at every call."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.errors import SettingError, unknown_name
from chainrule.names import takes_keywords
from chainrule.nn import functional as F
from chainrule.nn.functional.reduction import check_reduction
from chainrule.nn.meaning import (
    BINARY_LOGITS,
    BINARY_PROBABILITIES,
    LOG_PROBABILITIES,
    LOGITS,
    VALUES,
    option_of,
    reads,
)
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class Reduced(Module):
    """A loss with a reduction."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction = reduction


class Loss(Reduced):
    """A loss between an input and a target."""

    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        result: Tensor = super().__call__(input, target)
        return result


class WeightedLoss(Loss):
    """A loss with a factor for each class."""

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)


@reads(VALUES)
class MSELoss(Loss):
    """``(x - y)^2``; see ``F.mse_loss``."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


@reads(VALUES)
class L1Loss(Loss):
    """``|x - y|``; see ``F.l1_loss``."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(input, target, self.reduction)


@reads(VALUES)
class SmoothL1Loss(Loss):
    """A parabola below ``beta``, a line above; see ``F.smooth_l1_loss``."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        if beta < 0:
            raise SettingError(f"SmoothL1Loss: beta must be 0 or more, got {beta!r}.")
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


@reads(VALUES)
class HuberLoss(Loss):
    """A parabola up to ``delta``, a line above; see ``F.huber_loss``."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        if delta <= 0:
            raise SettingError(f"HuberLoss: delta must be positive, got {delta!r}.")
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(input, target, self.reduction, self.delta)


@reads(LOGITS)
class CrossEntropyLoss(WeightedLoss):
    """``-log softmax(x)[y]``; see ``F.cross_entropy``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.CrossEntropyLoss()(cr.tensor([[0.0, 0.0]]), cr.tensor([1]))
        tensor(0.6931)
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        if not 0 <= label_smoothing <= 1:
            raise SettingError(f"CrossEntropyLoss: label_smoothing must be in [0, 1], got {label_smoothing!r}.")
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


@reads(LOG_PROBABILITIES, reads_numbers=True)
class NLLLoss(WeightedLoss):
    """``-x[y]`` for log-probabilities x; see ``F.nll_loss``."""

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


@reads(BINARY_PROBABILITIES, reads_shares=True)
class BCELoss(WeightedLoss):
    """Binary cross-entropy of probabilities; see ``F.binary_cross_entropy``."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


@reads(BINARY_LOGITS, reads_shares=True)
class BCEWithLogitsLoss(WeightedLoss):
    """Binary cross-entropy of logits; see ``F.binary_cross_entropy_with_logits``."""

    pos_weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None) -> None:
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


LOSSES: dict[str, Callable[..., Tensor]] = {
    name: function for name, function in sorted(vars(F).items()) if option_of(function, "weighs_rows", False)
}


_ELSEWHERE = {  # Keras's names
    "mean_squared_error": "Here it is 'mse_loss'.",
    "mean_absolute_error": "Here it is 'l1_loss'.",
    "mae": "Here it is 'l1_loss'.",
    "kl_divergence": "Here it is 'kl_div', of log-probabilities.",
    "poisson": "Here it is 'poisson_nll_loss', of the logarithm of the rate.",
    "sparse_categorical_crossentropy": "Here it is 'cross_entropy', of logits: a model without a softmax at its end.",
    "categorical_crossentropy": "Here it is 'cross_entropy', of logits: a model without a softmax at its end.",
    "binary_crossentropy": "Here it is 'binary_cross_entropy' of probabilities, 'binary_cross_entropy_with_logits' of logits.",
}


@takes_keywords("nn")
def loss_by_name(name: str) -> Callable[..., Tensor]:
    """A loss of ``nn.functional`` by its name, which may lack the ending ``_loss``.

    Raises:
        UnknownNameError: with the nearest names.

    Example:
        >>> from chainrule import nn
        >>> nn.loss_by_name("mse") is nn.functional.mse_loss
        True
    """
    found = LOSSES.get(name, LOSSES.get(f"{name}_loss"))
    if found is None:
        raise unknown_name("loss", name, list(LOSSES), _ELSEWHERE.get(name, ""))
    return found
