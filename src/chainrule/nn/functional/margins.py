"""Losses that ask for a margin: between scores, between distances, between classes."""

from __future__ import annotations

from chainrule.errors import SettingError
from chainrule.graph import shape_error
from chainrule.names import takes_keywords
from chainrule.nn.functional.activations import logsigmoid, softplus1
from chainrule.nn.functional.distances import pairwise_distance
from chainrule.nn.functional.layers import check_labels
from chainrule.nn.functional.reduction import one_loss, pair, reduced
from chainrule.nn.meaning import BINARY_LOGITS, SCORES, VALUES, reads
from chainrule.tensor import Tensor
from chainrule.tensor.core import number
from chainrule.tensor.creation import arange, given
from chainrule.tensor.rounding import rounded_once


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """``max(0, -y (x1 - x2) + margin)``: the first shall be larger where y is 1, the second where it is -1.

    Args:
        input1: any shape.
        input2: the same shape.
        target: y, 1 or -1, the same shape.
        margin: by how much.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.
    """
    input1, input2 = pair("margin_ranking_loss", input1, input2)
    input1, target = pair("margin_ranking_loss", input1, target)
    gap = (input1 - input2) * -target + number(margin, "margin_ranking_loss", "margin")
    return reduced(gap.clamp(min=0.0), reduction)


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """``x`` where y is 1, ``max(0, margin - x)`` where it is -1: x is a distance of what is alike, or not.

    Args:
        input: distances, any shape.
        target: y, 1 or -1, the same shape.
        margin: how far apart the unlike shall be.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.
    """
    input, target = pair("hinge_embedding_loss", input, target)
    apart = (-input + number(margin, "hinge_embedding_loss", "margin")).clamp(min=0.0)
    return reduced(apart.where(target != 1, 0.0) + input.where(target != -1, 0.0), reduction)


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """``1 - cos(x1, x2)`` where y is 1, ``max(0, cos(x1, x2) - margin)`` where it is -1.

    Args:
        input1: shape (N, D) or (D,), floating.
        input2: the same shape.
        target: y, 1 or -1, shape (N,) or ().
        margin: up to which cosine the unlike cost nothing; -1 to 1.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes do not fit.
    """
    input1, input2 = pair("cosine_embedding_loss", input1, input2)
    target = given(target, "cosine_embedding_loss", "target")
    if target.shape != input1.shape[:-1] or not 1 <= input1.ndim <= 2:
        raise shape_error(
            "cosine_embedding_loss", "the inputs must have shape (N, D) and the target (N,), or (D,) and ()",
            f"{input1.shape} and {target.shape}", "Give one target for each row.",
        )  # fmt: skip
    cosine = _cosine(input1, input2)
    apart = (cosine - number(margin, "cosine_embedding_loss", "margin")).clamp(min=0.0)
    return reduced((1 - cosine).where(target == 1, 0.0) + apart.where(target == -1, 0.0), reduction)


LEAST = 1e-12  # added to squared lengths, as PyTorch does here


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1) * ((a * a).sum(-1) + LEAST).rsqrt() * ((b * b).sum(-1) + LEAST).rsqrt()


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)``, d being ``pairwise_distance``.

    Args:
        anchor: shape (..., D), floating.
        positive: what shall be near it.
        negative: what shall be farther away.
        margin: by how much; positive.
        p: of the distance's p-norm.
        eps: of ``pairwise_distance``.
        swap: take the distance from negative to positive where that is less.
        reduction: "mean", "sum" or "none".

    Raises:
        SettingError: the margin is not positive.

    Source: Balntas et al., "Learning local feature descriptors with triplets", BMVC 2016.
    """
    if not margin > 0:
        raise SettingError(f"triplet_margin_loss: margin must be positive, got {margin!r}.")
    near = pairwise_distance(anchor, positive, p, eps)
    far = pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = far.minimum(pairwise_distance(positive, negative, p, eps))
    return reduced((near - far + number(margin, "triplet_margin_loss", "margin")).clamp(min=0.0), reduction)


@reads(BINARY_LOGITS)
@takes_keywords("functional")
@rounded_once
@one_loss
def soft_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``log(1 + exp(-y x))``: binary cross-entropy of logits for targets 1 and -1.

    Args:
        input: logits, any shape.
        target: y, 1 or -1, the same shape.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.
    """
    input, target = pair("soft_margin_loss", input, target)
    return reduced(softplus1(-target * input), reduction)


@reads(BINARY_LOGITS, reads_shares=True)
@takes_keywords("functional")
@rounded_once
@one_loss
def multilabel_soft_margin_loss(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """``-(y log s + (1 - y) log(1 - s))`` with ``s = sigmoid(x)``, averaged over the last axis: several yes or no a row.

    Args:
        input: logits, shape (..., C).
        target: y, 0 or 1, the same shape.
        weight: a factor for each class, shape (C,).
        reduction: "mean", "sum" or "none", of the rows.

    Raises:
        ShapeError: the shapes differ.
    """
    input, target = pair("multilabel_soft_margin_loss", input, target)
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    return reduced((losses if weight is None else losses * weight).mean(-1), reduction)


@reads(SCORES, reads_numbers=True)
@takes_keywords("functional")
@rounded_once
def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """``sum over c != y of max(0, margin - x[y] + x[c])^p / C``: the score of the class shall exceed all others.

    Args:
        input: scores, shape (N, C) or (C,), floating.
        target: class numbers in [0, C), shape (N,) or ().
        p: 1 or 2.
        margin: by how much.
        weight: a factor for each class, shape (C,), for the rows of that class.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: target or weight do not fit the input.
        DataError: a class number outside [0, C).
        SettingError: another p.
    """
    if p not in (1, 2):
        raise SettingError(f"multi_margin_loss: p must be 1 or 2, got {p!r}.")
    input, target = given(input, "multi_margin_loss"), given(target, "multi_margin_loss", "target")
    classes = _classes("multi_margin_loss", input, target)
    check_labels("multi_margin_loss", target, classes)
    label = target._counted(classes)
    own = input.gather(-1, label.unsqueeze(-1))
    gaps = (input - own + number(margin, "multi_margin_loss", "margin")).relu()
    gaps = gaps if p == 1 else gaps * gaps
    if weight is not None:
        gaps = gaps * given(weight, "multi_margin_loss", "weight")[label].unsqueeze(-1)
    others = arange(classes) != target.unsqueeze(-1)
    return reduced(gaps.where(others, 0.0).sum(-1) / classes, reduction)


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
def multilabel_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``sum over y, c of max(0, 1 - (x[y] - x[c])) / C``, y running over the row's classes and c over all others.

    Args:
        input: scores, shape (N, C) or (C,), floating.
        target: the numbers of each row's classes and then -1, integers of the same shape.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.
        DataError: a class number of C or more (checked where values are known: not inside a trace).
    """
    input, target = pair("multilabel_margin_loss", input, target)
    classes = input.shape[-1]
    counts = (target < 0).long().cumsum(-1) == 0  # up to the first negative one
    check_labels("multilabel_margin_loss", target.where(counts, 0), classes)
    label = target.where(counts, 0)
    chosen = ((arange(classes) == label.unsqueeze(-1)) & counts.unsqueeze(-1)).any(-2)
    gaps = (1 - input.gather(-1, label).unsqueeze(-1) + input.unsqueeze(-2)).relu()
    compared = counts.unsqueeze(-1) & ~chosen.unsqueeze(-2)
    return reduced(gaps.where(compared, 0.0).sum((-2, -1)) / classes, reduction)


def _classes(name: str, input: Tensor, target: Tensor) -> int:
    if not 1 <= input.ndim <= 2 or target.shape != input.shape[:-1]:
        raise shape_error(
            name, "the input must have shape (N, C) and the target (N,), or (C,) and ()",
            f"{input.shape} and {target.shape}", "Give a score for each class, and one class for each row.",
        )  # fmt: skip
    return input.shape[-1]
