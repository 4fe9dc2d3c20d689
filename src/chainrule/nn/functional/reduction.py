"""What all losses share: the three reductions, and how input and target come in as a pair."""

from __future__ import annotations

import math

from chainrule.errors import unknown_name
from chainrule.graph import shape_error, tracing
from chainrule.tensor import Tensor
from chainrule.tensor.core import settled
from chainrule.tensor.creation import given

REDUCTIONS = ["mean", "none", "sum"]


def check_reduction(reduction: str) -> None:
    """Raise unless it is "mean", "sum" or "none"."""
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """The mean or sum of the losses, or the losses themselves."""
    check_reduction(reduction)
    if reduction == "mean":
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses


def share(part: Tensor, loss: Tensor) -> Tensor:
    """A part of a loss; no part of an infinite one is nothing, not NaN."""
    if not tracing() and (settled(loss).value < math.inf).all():
        return part * loss
    return part * loss.where((part != 0) | (loss < math.inf), 0.0)


def pair(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape: broadcasting (N, 1) with (N,) to (N, N) is never what is meant."""
    input, target = given(input, name), given(target, name, "target")
    if input.shape == target.shape:
        return input, target
    if input.numel() == target.numel():
        remedy = f"Reshape one of them, for example target.reshape({', '.join(map(str, input.shape))})."
    else:
        remedy = "Check that both come from the same batch."
    raise shape_error(
        name,
        f"the target must have the shape of the input, {input.shape}",
        f"a target of shape {target.shape}",
        remedy,
    )
