"""What all losses share: the three reductions, weights of rows, and how input and target come in as a pair."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

from chainrule.errors import unknown_name
from chainrule.graph import deferred, shape_error
from chainrule.tape.doors import as_one
from chainrule.tensor import Tensor
from chainrule.tensor.core import settled
from chainrule.tensor.creation import given, ones_like

F = TypeVar("F", bound=Callable[..., Any])
REDUCTIONS = ["mean", "none", "sum"]
RESHAPE = "Reshape one of them, for example "  # what a remedy begins with that is for arrays


def check_reduction(reduction: str) -> None:
    """Raise unless it is "mean", "sum" or "none"."""
    if reduction not in REDUCTIONS:
        raise unknown_name("reduction", reduction, REDUCTIONS)


class RowWeights:
    """The weights of the rows that losses are of, and whether any loss has used them."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.used = values, False


class Masses:
    """What the means of losses divide by, for each row on average."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Tensor | None, Tensor | None]] = {}

    def note(self, shares: Tensor | None, mass: Tensor | None) -> None:
        """A mean by these shares (None: all alike) was taken."""
        self._found[id(shares)] = shares, mass

    @property
    def only(self) -> Tensor | None:
        """That of all means, where they are by the same shares; None where rows count alike, or not in one way."""
        return next(iter(self._found.values()))[1] if len(self._found) == 1 else None


class _Weighing(threading.local):
    """What this thread's losses weigh their rows by, and who wants to know what their means divide by."""

    rows: RowWeights | None = None
    masses: Masses | None = None


_weighing = _Weighing()


@contextmanager
def weighing_rows(weights: Tensor) -> Iterator[RowWeights]:
    """Inside the block the losses of this library weigh their rows: the mean of losses l with shares s is
    ``sum(w s l) / sum(w s)``, 0 where no row has a weight; the sum is ``sum(w l)``.

    Args:
        weights: one for each row, shape (N,), none negative.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> with weighing_rows(cr.tensor([3.0, 1.0])):
        ...     F.mse_loss(cr.tensor([[2.0], [0.0]]), cr.zeros(2, 1))
        tensor(3.)
    """
    outer, _weighing.rows = _weighing.rows, RowWeights(weights)
    try:
        yield _weighing.rows
    finally:
        _weighing.rows = outer


@contextmanager
def noting_masses() -> Iterator[Masses]:
    """Inside the block it is noted what means divide by: the mean of many batches is theirs, weighted by that.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> with noting_masses() as masses:
        ...     loss = F.cross_entropy(cr.zeros(4, 2), cr.tensor([0, 1, 1, -100]), weight=cr.tensor([1.0, 0.5]))
        >>> masses.only
        tensor(0.5000)
    """
    outer, _weighing.masses = _weighing.masses, Masses()
    try:
        yield _weighing.masses
    finally:
        _weighing.masses = outer


def weighing() -> bool:
    """Do rows weigh differently here, or does somebody note what means divide by?"""
    return _weighing.rows is not None or _weighing.masses is not None


def one_loss(function: F) -> F:
    """Decorates a loss that depends on nothing but its arguments, which it does not look into: a tape records it as a whole."""
    names = list(signature(function).parameters)
    whole = as_one(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not deferred() or weighing():
            return function(*args, **kwargs)
        if kwargs:
            taken = names[len(args) :][: len(kwargs)]
            if taken != list(kwargs):  # some are left out in between, or unknown
                return function(*args, **kwargs)
        return whole(*args, *kwargs.values())

    return cast(F, call)


def _note(shares: Tensor | None, mass: Tensor | None) -> None:
    """Tell who wants to know that a mean by these shares divides by the sum of `mass`; None: by the number of losses."""
    if _weighing.masses is not None:
        _weighing.masses.note(shares, None if mass is None else mass.mean())


def reduced(losses: Tensor, reduction: str, shares: Tensor | None = None) -> Tensor:
    """The mean or sum of the losses, or the losses themselves.

    Args:
        shares: with which each enters the mean, where they differ; the losses are multiplied by them already.
    """
    check_reduction(reduction)
    if reduction == "none":
        return losses
    if _weighing.rows is not None:
        return _weighted(losses, reduction, shares, _weighing.rows)
    if reduction == "sum":
        return losses.sum()
    _note(shares, shares)
    return losses.mean() if shares is None else losses.sum() / shares.sum()


def _weighted(losses: Tensor, reduction: str, shares: Tensor | None, rows: RowWeights) -> Tensor:
    weights, rows.used = rows.values, True
    if losses.ndim == 0 or losses.shape[:1] != weights.shape:
        raise shape_error(
            "loss", f"there must be a loss for each of {weights.shape[0]} weights of rows", f"losses of shape {losses.shape}",
            "Keep the first axis for the rows.",
        )  # fmt: skip
    weights = weights.to(losses.dtype).reshape(-1, *[1] * (losses.ndim - 1))
    total = share(weights, losses).sum()
    if reduction == "sum":
        return total
    mass = (ones_like(losses) if shares is None else shares) * weights
    _note(shares, mass)
    return total / _whole(mass.sum())


def weighted(losses: Tensor, weights: Tensor) -> Tensor:
    """The mean of a loss for each row by the weights of the rows."""
    weights = weights.to(losses.dtype)
    _note(None, weights)
    return (losses * weights).sum() / _whole(weights.sum())


def _whole(mass: Tensor) -> Tensor:
    """What to divide by: a batch without any weight has a mean of 0, and teaches nothing."""
    return mass.where(mass > 0, 1.0)


def share(part: Tensor, loss: Tensor) -> Tensor:
    """A part of a loss; no part of an infinite one is nothing, not NaN."""
    if not deferred() and (settled(loss).value < math.inf).all():
        return part * loss
    return part * loss.where((part != 0) | (loss < math.inf), 0.0)


def pair(name: str, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape: broadcasting (N, 1) with (N,) to (N, N) is never what is meant."""
    input, target = given(input, name), given(target, name, "target")
    if input.shape == target.shape:
        return input, target
    if input.numel() == target.numel():
        remedy = f"{RESHAPE}target.reshape({', '.join(map(str, input.shape))})."
    else:
        remedy = "Check that both come from the same batch."
    raise shape_error(
        name,
        f"the target must have the shape of the input, {input.shape}",
        f"a target of shape {target.shape}",
        remedy,
    )
