"""Losses over classes: cross_entropy of logits, nll_loss of log-probabilities."""

from __future__ import annotations

from chainrule.errors import DtypeError, SettingError
from chainrule.graph import deferred, shape_error, waiting, who
from chainrule.names import takes_keywords
from chainrule.nn.functional.layers import all_below, check_labels
from chainrule.nn.functional.reduction import check_reduction, reduced, share, weighing
from chainrule.nn.meaning import LOG_PROBABILITIES, LOGITS, reads
from chainrule.tape.doors import again, as_one
from chainrule.tensor import Tensor
from chainrule.tensor.core import number, settled
from chainrule.tensor.creation import arange, given
from chainrule.tensor.rounding import rounded_once


@reads(LOGITS)
@takes_keywords("functional")
@rounded_once
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """``-log softmax(x)[y]``, averaged over the batch.

    Args:
        input: logits, shape (N, C), (N, C, d1, ...) or (C,), floating.
        target: class numbers in [0, C), integers of shape (N,), (N, d1, ...) or (); or probabilities of the
            classes, floating, of the input's shape.
        weight: a factor for each class, shape (C,); "mean" divides by the sum of the factors used.
        ignore_index: targets equal to it count for nothing (class numbers only).
        reduction: "mean", "sum" or "none".
        label_smoothing: this share of the target is spread evenly over all classes; in [0, 1].

    Raises:
        ShapeError: target or weight do not fit the input.
        DtypeError: the target is bool, or floating without being probabilities of the input's shape.
        DataError: a class number outside [0, C) (checked where values are known: not inside a trace).
        SettingError: label_smoothing outside [0, 1].

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.cross_entropy(cr.tensor([[0.0, 0.0]]), cr.tensor([1]))
        tensor(0.6931)

    Source of label smoothing: Szegedy et al., "Rethinking the inception architecture", 2015.
    Where we deviate: int32 and uint8 class numbers are taken too.
    """
    found = _recorded(input, target, weight, ignore_index, reduction, label_smoothing) if deferred() else None
    if found is not None:
        return found
    check_reduction(reduction)
    input, target = given(input, "cross_entropy"), given(target, "cross_entropy", "target")
    label_smoothing = number(label_smoothing, "cross_entropy", "label_smoothing")
    if not 0 <= label_smoothing <= 1:
        raise SettingError(f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing!r}.")
    weight = None if weight is None else given(weight, "cross_entropy", "weight")
    dim, classes = _class_axis("cross_entropy", input, weight)
    if target.dtype.is_floating_point:
        return _against_probabilities(input, target, weight, reduction, label_smoothing, dim)
    _check_target("cross_entropy", input, target, dim)
    inside = check_labels("cross_entropy", target, classes, ignore_index)
    whole = weight is None and inside and _none_ignored(target, classes, ignore_index)
    formula = _against_labels if weighing() else _at_once
    return formula(input, target, weight, ignore_index, reduction, label_smoothing, whole)


def _recorded(
    input: object, target: object, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float
) -> Tensor | None:
    """What a tape recorded of such arguments before, where all labels are known and count; None: look at them properly."""
    tape = waiting()
    if tape is None or weighing() or not isinstance(input, Tensor) or not isinstance(target, Tensor):
        return None
    labels, sizes = target._node, input._node.shape
    if labels._array is None or not labels.dtype.is_integer or not sizes or ignore_index.__class__ is not int:
        return None
    classes = sizes[1 if len(sizes) > 1 else 0]
    if 0 <= ignore_index < classes or not all_below(labels._array, classes):
        return None
    whole = weight is None
    return again(tape, _against_labels, (input, target, weight, ignore_index, reduction, label_smoothing, whole))


def _against_labels(
    input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, label_smoothing: float, whole: bool
) -> Tensor:  # fmt: skip
    dim = 0 if input.ndim == 1 else 1
    classes = input.shape[dim]
    log_p = input.log_softmax(dim)
    losses, shares = _picked(log_p, target, weight, ignore_index, dim, whole)
    loss = reduced(losses, reduction, shares)
    if label_smoothing == 0:
        return loss
    weighted = log_p if weight is None else log_p * _along(weight, dim, input.ndim)
    spread = (-weighted.sum(dim)).where(target != ignore_index, 0.0)
    even = reduced(spread, reduction, shares)
    return loss * (1 - label_smoothing) + even * (label_smoothing / classes)


_at_once = as_one(_against_labels)


@reads(LOG_PROBABILITIES, reads_numbers=True)
@takes_keywords("functional")
@rounded_once
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """``-x[y]`` for log-probabilities x, averaged over the batch. Arguments as for ``cross_entropy``.

    Args:
        input: log-probabilities, shape (N, C), (N, C, d1, ...) or (C,).
        target: class numbers in [0, C), shape (N,), (N, d1, ...) or ().
    """
    check_reduction(reduction)
    input, target = given(input, "nll_loss"), given(target, "nll_loss", "target")
    weight = None if weight is None else given(weight, "nll_loss", "weight")
    dim, classes = _class_axis("nll_loss", input, weight)
    _check_target("nll_loss", input, target, dim)
    inside = check_labels("nll_loss", target, classes, ignore_index)
    whole = weight is None and inside and _none_ignored(target, classes, ignore_index)
    formula = _picked_and_reduced if weighing() else _picked_at_once
    return formula(input, target, weight, ignore_index, reduction, dim, whole)


def _picked_and_reduced(
    log_p: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, dim: int, whole: bool
) -> Tensor:
    losses, shares = _picked(log_p, target, weight, ignore_index, dim, whole)
    return reduced(losses, reduction, shares)


_picked_at_once = as_one(_picked_and_reduced)


def _none_ignored(target: Tensor, classes: int, ignore_index: int) -> bool:
    """Of labels that are known and lie inside: does each of them count?"""
    return not 0 <= ignore_index < classes or not (settled(target).value == ignore_index).any()


def _picked(
    log_p: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, dim: int, whole: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss of each target, and the share with which it enters the mean (0 where ignored; None: all alike)."""
    if whole:
        if log_p.ndim == 2:
            return -log_p._take((arange(len(target)), target)), None
        return -log_p.gather(dim, target.unsqueeze(dim))._copied(target.shape), None
    counts = target != ignore_index
    label = target.where(counts, 0)  # an ignored label may be no valid position: read class 0, then drop it
    label = label._counted(log_p.shape[dim])
    losses = -log_p.gather(dim, label.unsqueeze(dim)).squeeze(dim)
    shares = counts.to(log_p.dtype)
    if weight is not None:
        shares = weight.to(log_p.dtype)[label].where(counts, 0.0)
    return (losses if weight is None else losses * shares).where(counts, 0.0), shares


def _against_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, dim: int
) -> Tensor:
    classes = input.shape[dim]
    if target.shape != input.shape:
        came = f"{target.dtype.name} of shape {target.shape}"
        raise DtypeError(
            f"{who('cross_entropy')}: the target must be class numbers (integers of shape "
            f"{_without(input, dim)}) or "
            f"class probabilities (floating, shape {input.shape}), got {came}. "
            f"For class numbers convert the target with .long(); for a single regression output use mse_loss."
        )
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / classes
    terms = share(target, -input.log_softmax(dim))
    losses = (terms if weight is None else terms * _along(weight, dim, input.ndim)).sum(dim)
    return reduced(losses, reduction)


def _class_axis(name: str, input: Tensor, weight: Tensor | None) -> tuple[int, int]:
    """Axis 1 holds the classes, or axis 0 of a single sample."""
    if input.ndim == 0 or not input.dtype.is_floating_point:
        raise shape_error(
            name, "the input must be floating of shape (N, C), (N, C, d1, ...) or (C,)",
            f"{input.dtype.name} of shape {input.shape}", "Give one number for each class.",
        )  # fmt: skip
    dim = 0 if input.ndim == 1 else 1
    classes = input.shape[dim]
    if weight is not None and weight.shape != (classes,):
        raise shape_error(
            name, f"weight must have shape ({classes},), a factor for each class", f"shape {weight.shape}",
            "Give as many factors as the input has classes.",
        )  # fmt: skip
    return dim, classes


def _check_target(name: str, input: Tensor, target: Tensor, dim: int) -> None:
    if not target.dtype.is_integer:
        raise DtypeError(f"{who(name)}: class numbers must be integers, got {target.dtype.name}. Convert with .long().")
    expected = _without(input, dim)
    if target.shape != expected:
        remedy = "Check that both come from the same batch."
        if target.shape == (*expected, 1) or (target.ndim == input.ndim and target.shape[dim] == 1):
            remedy = f"Drop the axis of length 1: target.squeeze({dim})."
        elif target.shape == input.shape:
            remedy = f"For one-hot targets use target.argmax({dim}), or target.float() as probabilities."
        raise shape_error(
            name, f"for an input of shape {input.shape} the target must have shape {expected}",
            f"shape {target.shape}", remedy,
        )  # fmt: skip


def _without(input: Tensor, dim: int) -> tuple[int, ...]:
    return (*input.shape[:dim], *input.shape[dim + 1 :])


def _along(weight: Tensor, dim: int, ndim: int) -> Tensor:
    """The class weights as a tensor that broadcasts along the class axis."""
    return weight.reshape(tuple(-1 if axis == dim else 1 for axis in range(ndim)))
