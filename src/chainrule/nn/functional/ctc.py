"""Connectionist temporal classification: a loss of sequences whose labels have no known places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chainrule.control import scan
from chainrule.dtypes import int64
from chainrule.errors import SettingError
from chainrule.graph import shape_error, tracing
from chainrule.names import takes_keywords
from chainrule.nn.functional.reduction import check_reduction
from chainrule.nn.meaning import VALUES, reads
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer
from chainrule.tensor.creation import arange, as_tensor, full, given
from chainrule.tensor.functions import cat, stack, where

Lengths = Tensor | Sequence[int]
NEVER = -1e30  # the logarithm of no chance at all: beside any other it vanishes, and unlike -inf it has a derivative


@reads(VALUES)  # the classes lie along the last axis, and places are not predictions
@takes_keywords("functional")
def ctc_loss(
    log_probs: Tensor, targets: Tensor, input_lengths: Lengths, target_lengths: Lengths, blank: int = 0,
    reduction: str = "mean", zero_infinity: bool = False,
) -> Tensor:  # fmt: skip
    """``-log P(targets | log_probs)``, summed over all ways to place the labels, with blanks between and labels repeated.

    Args:
        log_probs: (T, N, C), or (T, C): the logarithms of probabilities, as of ``log_softmax(-1)``.
        targets: whole numbers without the blank: (N, S), or all labels one behind the other, (sum of target_lengths,).
        input_lengths: how many of the T steps each sequence has, (N,).
        target_lengths: how many labels each has, (N,).
        blank: the class that stands for no label.
        reduction: ``"mean"`` (each loss divided by its number of labels, then the mean), ``"sum"``, or ``"none"``, (N,).
        zero_infinity: 0 in place of infinity, where there are too few steps for the labels.

    Raises:
        ShapeError: shapes that do not fit each other.
        SettingError: a blank that is no class, or a length that cannot be (in a compiled function its loss is NaN).

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.ctc_loss(cr.full((2, 3), 1 / 3).log(), cr.tensor([1]), [2], [1], reduction="sum").exp()  # 3 of 9 ways
        tensor(3.)

    Source: Graves et al., "Connectionist temporal classification", ICML 2006.
    Where we deviate from PyTorch: the gradient is that by ``log_probs`` as they are; PyTorch's has the one by the logits before
    ``log_softmax`` in it, which after it is the same. Where the loss is infinite it is 0.
    """
    check_reduction(reduction)
    x = given(log_probs, "ctc_loss")
    if x.ndim not in (2, 3):
        raise shape_error("ctc_loss", "log_probs must be (T, N, C) or (T, C)", f"shape {x.shape}", "Reshape it.")
    alone, x = x.ndim == 2, x.unsqueeze(1) if x.ndim == 2 else x
    steps, rows, classes = x.shape
    blank = integer(blank, "ctc_loss", "blank")
    if not 0 <= blank < classes:
        raise SettingError(f"ctc_loss: blank must be a class, 0 to {classes - 1}, got {blank}.")
    lasts = _lengths("input_lengths", input_lengths, rows, steps)
    counts = _lengths("target_lengths", target_lengths, rows, None)
    labels = _labels(given(targets, "ctc_loss"), counts, rows)
    counts = _lengths("target_lengths", counts, rows, labels.shape[1])
    losses = _losses(x, labels, lasts, counts, blank)
    impossible = (lasts < 0) | (lasts > steps) | (counts < 0) | (counts > labels.shape[1])
    losses = losses.masked_fill(losses > -NEVER / 2, 0.0 if zero_infinity else float("inf"))
    losses = losses.masked_fill(impossible, float("nan"))
    if reduction == "mean":
        return (losses / counts.clamp(min=1).to(losses.dtype)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses.squeeze(0) if alone else losses


def _lengths(name: str, value: Lengths, rows: int, most: int | None) -> Tensor:
    found = (value if isinstance(value, Tensor) else as_tensor(np.asarray(value, np.int64))).to(int64).reshape((-1,))
    if found.shape != (rows,):
        raise shape_error(
            "ctc_loss", f"{name} must have one for each of {rows} sequences", f"{found.shape}", "Give as many."
        )
    if most is not None and not tracing():
        known = found.tolist()
        if rows and (min(known) < 0 or max(known) > most):
            raise SettingError(f"ctc_loss: {name} must be from 0 to {most}, got {known}.")
    return found


def _labels(targets: Tensor, counts: Tensor, rows: int) -> Tensor:
    """The labels of each sequence, (N, S)."""
    if targets.ndim == 2 and targets.shape[0] == rows:
        return targets.to(int64)
    known = counts.tolist() if targets.ndim == 1 else []
    if targets.ndim != 1 or sum(known) != len(targets) or min(known, default=0) < 0:
        raise shape_error(
            "ctc_loss", f"targets must be (N, S) with N = {rows}, or all labels one behind the other, as many as target_lengths say",
            f"shape {targets.shape}", "Give one of them.",
        )  # fmt: skip
    ends = np.cumsum(known)
    longest = max(known, default=0)
    places = np.minimum((ends - known)[:, None] + np.arange(longest), max(len(targets) - 1, 0))
    return targets.to(int64)[as_tensor(places)] if len(targets) else full((rows, longest), 0, dtype=int64)


def _losses(x: Tensor, labels: Tensor, lasts: Tensor, counts: Tensor, blank: int) -> Tensor:
    """The forward variables of Graves et al., by logarithms: one loss for each sequence."""
    _, rows, _ = x.shape
    labels = where(arange(labels.shape[1]) < counts.unsqueeze(1), labels, blank)
    spaces = full(labels.shape, blank, dtype=int64)
    ways = cat([stack([spaces, labels], 2).reshape((rows, -1)), full((rows, 1), blank, dtype=int64)], 1)
    before = (
        cat([full((rows, 2), blank, dtype=int64), ways[:, :-2]], 1)
        if ways.shape[1] > 2
        else full(ways.shape, blank, dtype=int64)
    )
    skips = (ways != blank) & (ways != before)
    chances = x.gather(2, ways.unsqueeze(0).expand((x.shape[0], *ways.shape))).clamp(min=NEVER)
    never = full((rows, 2), NEVER, dtype=x.dtype)
    first = where(arange(ways.shape[1]) < 1, 0.0, full((), NEVER, dtype=x.dtype)).expand(ways.shape)
    # Before the first step all is at the first blank, from which the first label may come, too.
    going = (arange(x.shape[0]).unsqueeze(1) < lasts).unsqueeze(2)
    begun = arange(x.shape[0]).reshape((-1, 1, 1)) > 0

    def step(state: Tensor, read: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, None]:
        chance, goes_on, later = read
        by_one = cat([never[:, :1], state[:, :-1]], 1)
        by_two = cat([never, state[:, :-2]], 1) if ways.shape[1] > 2 else full(ways.shape, NEVER, dtype=x.dtype)
        came = stack([state, by_one, where(skips & later, by_two, never[:, :1])]).logsumexp(0)
        return where(goes_on, (came + chance).clamp(min=NEVER), state), None

    last, _ = scan(step, first, (chances, going, begun))
    ends = (2 * counts).clamp(0, ways.shape[1] - 1).unsqueeze(1)
    at_blank, at_label = last.gather(1, ends), last.gather(1, (ends - 1).clamp(min=0))
    at_label = where(counts.unsqueeze(1) > 0, at_label, never[:, :1])
    return -stack([at_blank, at_label]).logsumexp(0).squeeze(1)
