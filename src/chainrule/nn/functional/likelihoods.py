"""Losses of distributions: the divergence from one to another, and the negative log-likelihood of counts and of values."""

from __future__ import annotations

import math

from chainrule.errors import DataError, SettingError, unknown_name
from chainrule.graph import shape_error, unchecked, who
from chainrule.names import takes_keywords
from chainrule.nn.functional.reduction import REDUCTIONS, one_loss, pair, reduced, share
from chainrule.nn.meaning import LOG_PROBABILITIES, VALUES, reads
from chainrule.tensor import Tensor
from chainrule.tensor.core import number, numbers
from chainrule.tensor.creation import full_like, given
from chainrule.tensor.rounding import rounded_once


@reads(LOG_PROBABILITIES)
@takes_keywords("functional")
@rounded_once
@one_loss
def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """``y (log y - x)``: the Kullback-Leibler divergence of ``exp(x)`` from y, element by element.

    Args:
        input: log-probabilities x, any shape.
        target: probabilities y of the same shape, or their logarithms.
        reduction: "batchmean" (the sum divided by the rows: the divergence itself), "mean" (over all elements), "sum" or
            "none".
        log_target: the target holds logarithms.

    Raises:
        ShapeError: the shapes differ.
        UnknownNameError: another reduction.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.kl_div(cr.tensor([[0.5, 0.5]]).log(), cr.tensor([[1.0, 0.0]]), reduction="batchmean")
        tensor(0.6931)
    """
    check_batch_reduction(reduction)
    input, target = pair("kl_div", input, target)
    if log_target:
        terms = target.exp() * (target - input)
    else:
        nothing = target == 0
        terms = share(target, target.masked_fill(nothing, 1.0).log() - input)
    if reduction != "batchmean":
        return reduced(terms, reduction)
    return terms.sum() / (len(input) if input.ndim else 1)


def check_batch_reduction(reduction: str) -> None:
    """Raise unless it is one of the three, or "batchmean"."""
    if reduction not in (*REDUCTIONS, "batchmean"):
        raise unknown_name("reduction", reduction, [*REDUCTIONS, "batchmean"])


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
@one_loss
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """``exp(x) - y x``: the negative log-likelihood of counts y under a Poisson distribution of rate ``exp(x)``.

    Args:
        input: logarithms x of the rates, any shape; with ``log_input=False`` the rates: ``x - y log(x + eps)``.
        target: counts y, the same shape.
        log_input: the input holds logarithms.
        full: add ``log y!`` by Stirling's formula, ``y log y - y + log(2 pi y) / 2``, where y exceeds 1.
        eps: keeps the logarithm of a rate finite.
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes differ.
    """
    input, target = pair("poisson_nll_loss", input, target)
    if log_input:
        losses = input.exp() - target * input
    else:
        losses = input - target * (input + number(eps, "poisson_nll_loss", "eps")).log()
    if full:
        y = target.where(target > 1, 1.0)
        stirling = y * y.log() - y + (y * (2 * math.pi)).log() * 0.5
        losses = losses + stirling.masked_fill(target <= 1, 0.0)
    return reduced(losses, reduction)


@reads(VALUES)
@takes_keywords("functional")
@rounded_once
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """``(log v + (x - y)^2 / v) / 2``: the negative log-likelihood of y under a normal distribution.

    Args:
        input: means x, any shape.
        target: y, the same shape.
        var: variances v, 0 or more: of the same shape, or one for each row of the last axis, or one number.
        full: add ``log(2 pi) / 2``.
        eps: what v counts as where it is less; positive. (The gradient reaches v nevertheless, as in PyTorch.)
        reduction: "mean", "sum" or "none".

    Raises:
        ShapeError: the shapes do not fit.
        DataError: a negative variance (checked where values are known: not inside a trace).
        SettingError: eps is not positive.

    Source: Nix, Weigend, "Estimating the mean and variance of the target probability distribution", ICNN 1994.
    """
    input, target = pair("gaussian_nll_loss", input, target)
    eps = number(eps, "gaussian_nll_loss", "eps")
    if not eps > 0:
        raise SettingError(f"gaussian_nll_loss: eps must be positive, got {eps!r}.")
    known = _variance(
        input, full_like(input, var) if isinstance(var, (int, float)) else given(var, "gaussian_nll_loss", "var")
    )
    held = known.where(known >= eps, known - known.detach() + eps)
    distance = input - target
    losses = (held.log() + distance * distance / held) * 0.5
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def _variance(input: Tensor, var: Tensor) -> Tensor:
    if not unchecked(var) and var.numel() and numbers(var).min() < 0:
        raise DataError(
            f"{who('gaussian_nll_loss')}: every variance must be 0 or more, got {numbers(var).min():.4g}. Let the model "
            f"give its exp or softplus."
        )
    if var.shape == input.shape[:-1] and var.shape != input.shape:
        return var.unsqueeze(-1)
    if var.shape in (input.shape, (*input.shape[:-1], 1)):
        return var
    raise shape_error(
        "gaussian_nll_loss", f"var must have the shape {input.shape} of the input, or one number for each row",
        f"shape {var.shape}", "Check that both come from the same batch.",
    )  # fmt: skip
