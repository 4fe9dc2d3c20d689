"""The losses of distributions as modules, and the distances."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.errors import SettingError
from chainrule.nn import functional as F
from chainrule.nn.functional.likelihoods import check_batch_reduction
from chainrule.nn.losses import Loss, Reduced
from chainrule.nn.meaning import LOG_PROBABILITIES, VALUES, reads
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


@reads(LOG_PROBABILITIES)
class KLDivLoss(Module):
    """``y (log y - x)`` for log-probabilities x; see ``F.kl_div``."""

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__()
        check_batch_reduction(reduction)
        self.reduction, self.log_target = reduction, log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(input, target, self.reduction, self.log_target)


@reads(VALUES)
class PoissonNLLLoss(Loss):
    """``exp(x) - y x`` for counts y; see ``F.poisson_nll_loss``."""

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.poisson_nll_loss(input, target, self.log_input, self.full, self.eps, self.reduction)


@reads(VALUES)
class GaussianNLLLoss(Reduced):
    """``(log v + (x - y)^2 / v) / 2`` for means x and variances v; see ``F.gaussian_nll_loss``."""

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if not eps > 0:
            raise SettingError(f"GaussianNLLLoss: eps must be positive, got {eps!r}.")
        self.full, self.eps = full, eps

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        return F.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


@reads(VALUES)
class CTCLoss(Reduced):
    """``-log P(labels)`` over all their places in a longer sequence; arguments and shapes: ``F.ctc_loss``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> x = cr.zeros(2, 1, 3).log_softmax(-1)  # (T, N, C)
        >>> nn.CTCLoss(reduction="sum")(x, cr.tensor([[1]]), cr.tensor([2]), cr.tensor([1])).exp()
        tensor(3.)
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(
        self,
        log_probs: Tensor,
        targets: Tensor,
        input_lengths: Tensor | Sequence[int],
        target_lengths: Tensor | Sequence[int],
    ) -> Tensor:
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )


class CosineSimilarity(Module):
    """The cosine of the angle between two tensors' vectors along ``dim``; see ``F.cosine_similarity``."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The distance between two tensors' rows; see ``F.pairwise_distance``."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
