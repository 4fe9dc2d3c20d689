"""The gradient of a batch from its micro-batches, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chainrule.autodiff import trees
from chainrule.autodiff.walk import add_gradient, into_leaves, renamed
from chainrule.errors import DataError, GradientError, SettingError, unknown_name
from chainrule.graph import grad_mode
from chainrule.names import takes_keywords
from chainrule.nn.functional.normalization import cutting_batches
from chainrule.nn.functional.reduction import noting_masses
from chainrule.ops.halves import parts, total
from chainrule.tensor import Tensor
from chainrule.tensor.creation import full_like

WHO = "backward_in_micro_batches"
Gradients = dict[int, tuple[Tensor, Tensor]]  # by the leaf's id: the leaf and its gradient
# Of some rows: their share of the loss, the masses that it is to be divided by (None: nothing), and of the gradients.
Found = tuple[Tensor, Tensor | None, Gradients]


@takes_keywords("torch")
def backward_in_micro_batches(loss: Callable[..., Tensor], *batch: Any, count: int, reduction: str = "mean") -> Tensor:
    """``loss(*batch).backward()``, from `count` parts of the batch one after the other.

    Only one part's intermediate values are kept at a time, and the gradients of at most ``log2(count) + 1`` parts.
    ``L = sum of m_i L_i / sum of m_i`` over the parts, m_i being the rows of part i (or what its mean divides by, where
    class weights, ignored targets or weights of rows are in it). The gradients are added as a compiled product adds up
    the rows of a batch: two halves, each from two halves of its own. So under `cr.compile` equal parts of 64 rows and more
    give the bits of the whole batch, if the loss is a mean or sum over rows and no row's output depends on other rows: for
    linear layers, normalizations and attention. What adds up places, steps or picked rows as well (the weights of
    convolutions, recurrences and embeddings) adds them in another order than the parts do, and agrees to rounding.
    Batch normalization in training, with which it does, is refused. Dropout draws for each part anew: of one
    distribution, but other numbers than for the whole. Of the loss itself the last bit may differ, if it is a mean of
    so many terms that they are no power of two.

    Args:
        loss: gives one number for the rows that it is called with, as ``loss(*part)``.
        batch: tensors whose first axis are the rows; or lists, tuples and dicts of them.
        count: how many parts, a power of two, at most one for each row.
        reduction: how the loss of a batch is made of its rows: "mean" or "sum".

    Returns:
        The loss of the whole batch, without a history; the gradients are in ``grad`` of every leaf.

    Raises:
        DataError: tensors of different numbers of rows, or none.
        SettingError: no such count or reduction.
        GradientError: a loss that is not one number; batch normalization in training, of several parts.

    >>> import chainrule as cr
    >>> w = cr.tensor([2.0], requires_grad=True)
    >>> x = cr.tensor([[1.0], [2.0], [3.0], [4.0]])
    >>> cr.backward_in_micro_batches(lambda rows: (rows @ w).mean(), x, count=2), w.grad
    (tensor(5.), tensor([2.5000]))
    """
    rows = _rows(batch)
    _check(count, reduction, rows)

    def part(start: int, end: int) -> tuple[Tensor, Tensor | None]:
        with noting_masses() as masses:
            value = loss(*trees.mapped(lambda t: t[start:end], batch))
        return value, masses.only if reduction == "mean" else None

    if count == 1:
        return backward_in_parts(part, rows, 1, reduction == "mean")[0]
    with cutting_batches(WHO, "count=1"):
        return backward_in_parts(part, rows, count, reduction == "mean")[0]


def backward_in_parts(
    objective: Callable[[int, int], tuple[Tensor, Tensor | None]], rows: int, count: int, mean: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Adds the gradients of the whole to what the leaves have; gives its loss, and what that counts for (None: its rows).

    Args:
        objective: of the rows from one number up to another, the loss with its history, and what that counts for.
        count: how many parts, a power of two.
        mean: the loss is a mean over the rows, or their sum.
    """

    def part(start: int, end: int) -> Found:
        value, mass = objective(start, end)
        return _of_part(value, (end - start) / rows if mean else 1.0, mass)

    value, mass, gradients = total(parts(rows, count), part, _joined)
    for leaf, gradient in gradients.values():
        with grad_mode(False):
            add_gradient(leaf, renamed(gradient if mass is None else gradient / mass.to(gradient.dtype)), False)
    return value if mass is None else value / mass, mass


def _of_part(value: Any, share: float, mass: Tensor | None) -> Found:
    """A part's loss and gradients, times its share in those of the batch; of a mean by masses times these, and they."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        came = f"shape {value.shape}" if isinstance(value, Tensor) else type(value).__name__
        raise GradientError(
            f"{WHO}: the loss must be one number with a history, got {came}. Reduce it (.mean(), .sum()), and compute it from "
            f"parameters that require grad."
        )
    with grad_mode(False):
        seed = full_like(value, share)
        if mass is not None:
            mass = mass.detach().to(value.dtype) * share
            seed = mass.reshape(value.shape)
        scaled = _counted(value.detach() * seed, mass)
    found: Gradients = {}

    def take(leaf: Tensor, gradient: Tensor) -> None:
        found[id(leaf)] = leaf, _counted(gradient, mass)

    into_leaves(value, seed, take)
    return scaled, mass, found


def _counted(part: Tensor, mass: Tensor | None) -> Tensor:
    """What a part gives; nothing, where its mean is one of nothing, all its targets being ignored."""
    return part if mass is None else part.where(mass > 0, 0.0)


def _joined(first: Found, second: Found) -> Found:
    """What two neighbouring parts give together."""
    with grad_mode(False):
        mass = None if first[1] is None or second[1] is None else first[1] + second[1]
        gradients = dict(first[2])
        for key, (leaf, found) in second[2].items():
            gradients[key] = (leaf, gradients[key][1] + found if key in gradients else found)
        return first[0] + second[0], mass, gradients


def _rows(batch: tuple[Any, ...]) -> int:
    """The number that all tensors of the batch have."""
    leaves = trees.leaves(batch)
    shapes = [leaf.shape for leaf in leaves if isinstance(leaf, Tensor)]
    if not leaves or len(shapes) < len(leaves) or () in shapes or len({shape[0] for shape in shapes}) > 1:
        came = ", ".join(str(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__ for leaf in leaves)
        raise DataError(
            f"{WHO}: the batch must be tensors with one number of rows, got {came or 'none'}. Convert arrays with "
            f"cr.tensor(...), and let the loss close over what has no rows."
        )
    rows: int = shapes[0][0]
    return rows


def _check(count: object, reduction: str, rows: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1 or count & count - 1 or count > rows:
        raise SettingError(
            f"{WHO}: count must be a power of two (1, 2, 4, ...), at most one part for each of {rows} rows, got {count!r}."
        )
    if reduction not in ("mean", "sum"):
        raise unknown_name("reduction", reduction, ["mean", "sum"])
