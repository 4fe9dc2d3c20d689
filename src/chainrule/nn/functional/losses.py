"""Losses between an input and a target of the same shape.

PyTorch warns and broadcasts when the shapes differ; here that is a ShapeError, since (N, 1) against (N,)
would silently become an (N, N) comparison of everything with everything.
"""

from __future__ import annotations

from chainrule import graph
from chainrule.autodiff import custom_vjp
from chainrule.dtypes import limits
from chainrule.errors import DataError, DtypeError, SettingError
from chainrule.names import takes_keywords
from chainrule.nn.functional.activations import minus_abs
from chainrule.nn.functional.reduction import one_loss, pair, reduced, share
from chainrule.nn.meaning import BINARY_LOGITS, BINARY_PROBABILITIES, VALUES, reads
from chainrule.ops.elementwise import sigmoid
from chainrule.tensor import Tensor
from chainrule.tensor.core import number, numbers
from chainrule.tensor.rounding import rounded_once


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``(x - y)^2``, averaged over all elements.

    Args:
        input: any shape.
        target: the same shape.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.mse_loss(cr.tensor([1.0, 3.0]), cr.tensor([1.0, 1.0]))
        tensor(2.)
    """
    input, target = pair("mse_loss", input, target)
    difference = input - target
    return reduced(difference * difference, reduction)


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """``|x - y|``, averaged over all elements; the gradient at 0 is 0. Arguments as for ``mse_loss``."""
    input, target = pair("l1_loss", input, target)
    return reduced((input - target).abs(), reduction)


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """``d^2 / (2 beta)`` where ``d = |x - y| < beta``, else ``d - beta/2``. Arguments as for ``mse_loss``.

    Args:
        beta: where the parabola becomes a line; 0 is ``l1_loss``.

    Source: Girshick, "Fast R-CNN", ICCV 2015.
    """
    beta = number(beta, "smooth_l1_loss", "beta")
    if beta < 0:
        raise SettingError(f"smooth_l1_loss: beta must be 0 or more, got {beta!r}.")
    if beta == 0:
        return l1_loss(input, target, reduction)
    input, target = pair("smooth_l1_loss", input, target)
    distance = (input - target).abs()
    return reduced(_bowl(distance, beta) / beta, reduction)


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """``d^2 / 2`` where ``d = |x - y| <= delta``, else ``delta (d - delta/2)``; as ``mse_loss``.

    Args:
        delta: where the parabola becomes a line; positive.

    Source: Huber, "Robust estimation of a location parameter", 1964.
    """
    delta = number(delta, "huber_loss", "delta")
    if delta <= 0:
        raise SettingError(f"huber_loss: delta must be positive, got {delta!r}.")
    input, target = pair("huber_loss", input, target)
    distance = (input - target).abs()
    return reduced(_bowl(distance, delta), reduction)


def _bowl(distance: Tensor, rim: float) -> Tensor:
    """``d^2 / 2`` up to the rim, and its tangent there from then on; of an infinite distance too."""
    near = distance.clamp(max=rim)
    return near * (distance - near * 0.5)


@reads(BINARY_PROBABILITIES, reads_shares=True)
@takes_keywords("functional")
@rounded_once
def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """``-(y log p + (1 - y) log(1 - p))``, the logarithms held at -100 or above, as PyTorch does.

    ``binary_cross_entropy_with_logits`` is exact where p is near 0 or 1; prefer it.

    Where we deviate: the gradient of a right answer that is nearly certain (y = 0, p below 1e-12) is 1 / (1 - p), not
    nearly 0. Of a wrong answer whose p was rounded to 1 in float32 it is 2^25, as of a 1 - p of half a last place, not
    1e12: behind a sigmoid that is at most 2 (it is 1), and would be up to 6e4.

    Args:
        input: the probability p of class 1, in [0, 1]; any shape.
        target: y in [0, 1], the same shape, floating.
        weight: multiplies each loss; any shape that broadcasts.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.
        DataError: an input or target outside [0, 1] (checked where values are known: not inside a trace).
    """
    input, target = pair("binary_cross_entropy", input, target)
    _check_floating("binary_cross_entropy", target)
    _check_unit_interval(input, "input", "Apply a sigmoid first, or use binary_cross_entropy_with_logits.")
    _check_unit_interval(target, "target", "Targets are probabilities: 0 and 1 for the two classes.")
    return _bce_reduced(input, target, weight, reduction)


@one_loss
def _bce_reduced(input: Tensor, target: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    losses = _bce(input, target)
    return reduced(losses if weight is None else losses * weight, reduction)


def _bce_value(p: Tensor, y: Tensor) -> Tensor:
    return -(y * p.log().clamp(min=-100.0) + (1 - y) * (-p).log1p().clamp(min=-100.0))


def _bce_gradient(dY: Tensor, Y: Tensor, p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    # (p - y) / (p (1 - p)), p and 1 - p held at 1e-12 or above wherever they stand; 0 for p = y, at 0 and 1 as in PyTorch.
    # A p of 1 may be any that was rounded up to it.
    rounded = limits(p.dtype).eps / 4
    yes, no = p.clamp(min=1e-12), (1 - p).clamp(min=max(1e-12, rounded))
    dp = dY * ((yes - y).where(p < 0.5, (1 - y) - no) / (yes * no)).masked_fill(p == y, 0)
    return dp, dY * ((-p).log1p().clamp(min=-100.0) - p.log().clamp(min=-100.0))


_bce = custom_vjp(_bce_value, _bce_gradient)


def _check_floating(name: str, target: Tensor) -> None:
    if not target.dtype.is_floating_point:
        raise DtypeError(
            f"{graph.who(name)}: the target must be floating (a probability each), got {target.dtype.name}. "
            f"Convert it with .float()."
        )


def _check_unit_interval(values: Tensor, which: str, remedy: str) -> None:
    if graph.unchecked(values) or not values.numel():
        return
    tape = graph.waiting()
    if tape is not None and tape.op_of(values._node) is sigmoid:
        return  # it lies in there, or is NaN, which is let through: no reason to compute what waits
    array = numbers(values)
    if array.min() < 0 or array.max() > 1:
        raise DataError(
            f"{graph.who('binary_cross_entropy')}: every {which} must be in [0, 1], "
            f"got values from {array.min():.4g} to {array.max():.4g}. {remedy}"
        )


@reads(BINARY_LOGITS, reads_shares=True)
@takes_keywords("functional")
@rounded_once
@one_loss
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """``-(y log s + (1 - y) log(1 - s))`` with ``s = sigmoid(x)``, exact for logits of any size.

    Computed as ``(1 - y) max(x, 0) + y max(-x, 0) + log(1 + exp(-|x|))``: a sum of what is not negative, so that a
    loss and a gradient that are nearly 0 have their digits too.

    Args:
        input: logits x, any shape.
        target: y in [0, 1], the same shape, floating.
        weight: multiplies each loss; any shape that broadcasts.
        reduction: "mean", "sum" or "none".
        pos_weight: multiplies the loss of class 1; any shape that broadcasts, usually (classes,).

    Raises:
        ShapeError: the shapes differ.
        DtypeError: the target is not floating.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.binary_cross_entropy_with_logits(cr.tensor([1e4, -1e4]), cr.tensor([1.0, 0.0]))
        tensor(0.)
    """
    input, target = pair("binary_cross_entropy_with_logits", input, target)
    _check_floating("binary_cross_entropy_with_logits", target)
    yes, no = target if pos_weight is None else target * pos_weight, 1 - target
    decay = minus_abs(input).exp().log1p()
    wrong = share(no, input.relu()) + share(yes, (-input).where(input <= 0, 0.0))
    losses = wrong + (decay if pos_weight is None else (yes + no) * decay)
    return reduced(losses if weight is None else losses * weight, reduction)
