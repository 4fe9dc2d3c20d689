"""The losses of a margin as modules."""

from __future__ import annotations

from typing import Any

from chainrule.errors import SettingError
from chainrule.nn import functional as F
from chainrule.nn.losses import Loss, Reduced, WeightedLoss
from chainrule.nn.meaning import BINARY_LOGITS, SCORES, VALUES, reads
from chainrule.tensor import Tensor


class _Margin(Reduced):
    """A loss with a margin, 0 unless it is given."""

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin


@reads(VALUES)
class MarginRankingLoss(_Margin):
    """``max(0, -y (x1 - x2) + margin)``; see ``F.margin_ranking_loss``."""

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return F.margin_ranking_loss(input1, input2, target, self.margin, self.reduction)


@reads(VALUES)
class CosineEmbeddingLoss(_Margin):
    """``1 - cos(x1, x2)`` of what is alike, ``max(0, cos(x1, x2) - margin)`` else; see ``F.cosine_embedding_loss``."""

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return F.cosine_embedding_loss(input1, input2, target, self.margin, self.reduction)


@reads(VALUES)
class HingeEmbeddingLoss(_Margin):
    """``x`` of what is alike, ``max(0, margin - x)`` else; see ``F.hinge_embedding_loss``."""

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(margin, reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.hinge_embedding_loss(input, target, self.margin, self.reduction)


@reads(VALUES)
class TripletMarginLoss(_Margin):
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)``; see ``F.triplet_margin_loss``."""

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(margin, reduction)
        if not margin > 0:
            raise SettingError(f"TripletMarginLoss: margin must be positive, got {margin!r}.")
        self.p, self.eps, self.swap = p, eps, swap

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        options: Any = (self.margin, self.p, self.eps, self.swap, self.reduction)
        return F.triplet_margin_loss(anchor, positive, negative, *options)


@reads(BINARY_LOGITS)
class SoftMarginLoss(Loss):
    """``log(1 + exp(-y x))`` for targets 1 and -1; see ``F.soft_margin_loss``."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.soft_margin_loss(input, target, self.reduction)


@reads(BINARY_LOGITS, reads_shares=True)
class MultiLabelSoftMarginLoss(WeightedLoss):
    """Binary cross-entropy of several logits a row, averaged over them; see ``F.multilabel_soft_margin_loss``."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multilabel_soft_margin_loss(input, target, self.weight, self.reduction)


@reads(VALUES)
class MultiLabelMarginLoss(Loss):
    """The scores of a row's classes shall exceed those of all others by 1; see ``F.multilabel_margin_loss``."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multilabel_margin_loss(input, target, self.reduction)


@reads(SCORES, reads_numbers=True)
class MultiMarginLoss(WeightedLoss):
    """The score of a row's class shall exceed all others by the margin; see ``F.multi_margin_loss``."""

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        if p not in (1, 2):
            raise SettingError(f"MultiMarginLoss: p must be 1 or 2, got {p!r}.")
        self.p, self.margin = p, margin

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multi_margin_loss(input, target, self.p, self.margin, self.weight, self.reduction)
