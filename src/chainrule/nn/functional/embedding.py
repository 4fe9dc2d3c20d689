"""Rows of a table by number: one each, or those of a bag together."""

from __future__ import annotations

import math
from typing import Any

from chainrule.errors import DataError, DtypeError, SettingError, unknown_name
from chainrule.graph import shape_error, unchecked, who
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer, settled
from chainrule.tensor.creation import given
from chainrule.tensor.rounding import rounded_once


@takes_keywords("functional")
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """``y[...] = weight[x[...]]``: the row of the table that each number names.

    Args:
        input: row numbers in [0, num_embeddings), integers of any shape.
        weight: the table, shape (num_embeddings, embedding_dim).
        padding_idx: the row that receives no gradient; negative counts from the end.
        max_norm, norm_type, scale_grad_by_freq, sparse: PyTorch's; only their defaults are there.

    Returns:
        A tensor of the input's shape with one axis of length embedding_dim more.

    Raises:
        DtypeError: the input is not integer.
        DataError: a number outside [0, num_embeddings); inside a compiled function IndexRangeError.
        SettingError: padding_idx outside the table, or a setting that is not there.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.embedding(cr.tensor([1, 0, 1]), cr.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[3., 4.],
                [1., 2.],
                [3., 4.]])
    """
    refuse_absent("embedding", max_norm, scale_grad_by_freq, sparse)
    input, weight = given(input, "embedding"), given(weight, "embedding", "weight")
    if weight.ndim != 2:
        raise shape_error(
            "embedding", "weight must have shape (num_embeddings, embedding_dim)", f"shape {weight.shape}",
            "Give a table with a row for each number.",
        )  # fmt: skip
    rows = len(weight)
    padding = padding_row("embedding", padding_idx, rows)
    index = checked_rows("embedding", input, rows)
    found = weight._take((index,))
    if padding is None:
        return found
    return found.where((index != padding).unsqueeze(-1), found.detach())


MODES = ["max", "mean", "sum"]


@takes_keywords("functional")
@rounded_once
def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The mean, sum or maximum of the table's rows that the numbers of each bag name; 0 for an empty bag.

    Args:
        input: row numbers: shape (B, N), a bag a row; or all bags one after another, shape (N,), with ``offsets``.
        weight: the table, shape (num_embeddings, embedding_dim).
        offsets: where each bag begins, shape (B,), ascending from 0.
        max_norm, norm_type, scale_grad_by_freq, sparse: PyTorch's; only their defaults are there.
        mode: "mean", "sum", or "max" (of bags that are rows).
        per_sample_weights: a factor for each number, of the input's shape; for "sum".
        include_last_offset: one offset more says where the last bag ends.
        padding_idx: a row that counts for nothing, as if its number stood in no bag.

    Returns:
        Shape (B, embedding_dim).

    Raises:
        DtypeError: input or offsets are not integer.
        DataError: a number outside [0, num_embeddings), or offsets that are not ascending from 0.
        ShapeError: bags and offsets do not fit.
        SettingError: a setting that is not there.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> table = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> F.embedding_bag(cr.tensor([0, 1, 1]), table, cr.tensor([0, 2]))
        tensor([[2., 3.],
                [3., 4.]])
    """
    refuse_absent("embedding_bag", max_norm, scale_grad_by_freq, sparse)
    if mode not in MODES:
        raise unknown_name("mode of embedding_bag", mode, MODES)
    input, weight = given(input, "embedding_bag"), given(weight, "embedding_bag", "weight")
    if per_sample_weights is not None and (mode != "sum" or per_sample_weights.shape != input.shape):
        raise SettingError(
            f"embedding_bag: per_sample_weights are for mode='sum' and have the shape {input.shape} of the input, got "
            f"mode={mode!r} and shape {per_sample_weights.shape}."
        )
    rows = embedding(input, weight, padding_idx)
    padding = padding_row("embedding_bag", padding_idx, len(weight))
    counts = input == input if padding is None else input != padding
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if input.ndim == 2 and offsets is None:
        return _of_rows(rows, counts, mode)
    return _one_after_another(rows, counts, _bag_of_each(input, offsets, include_last_offset), mode)


def _of_rows(rows: Tensor, counts: Tensor, mode: str) -> Tensor:
    if mode == "max":
        if not rows.shape[1]:
            return rows.sum(1)
        highest: Tensor = rows.masked_fill(~counts.unsqueeze(-1), -math.inf).max(1).values
        return highest.where(counts.any(1, keepdim=True), 0.0)
    return _averaged(rows.where(counts.unsqueeze(-1), 0.0).sum(1), counts.to(rows.dtype).sum(1), mode)


def _one_after_another(rows: Tensor, counts: Tensor, bags: tuple[Tensor, int], mode: str) -> Tensor:
    bag, number = bags
    if mode == "max":
        raise SettingError("embedding_bag: mode='max' takes each bag as a row of the input, without offsets.")
    known = rows.where(counts.unsqueeze(-1), 0.0)
    total = rows.new_zeros((number, rows.shape[-1]))._put_add((bag,), known)
    return _averaged(total, rows.new_zeros((number,))._put_add((bag,), counts.to(rows.dtype)), mode)


def _averaged(total: Tensor, count: Tensor, mode: str) -> Tensor:
    return total / count.clamp(min=1.0).unsqueeze(-1) if mode == "mean" else total


def _bag_of_each(input: Tensor, offsets: Tensor | None, with_end: bool) -> tuple[Tensor, int]:
    """The bag that each number lies in, and how many bags there are."""
    if input.ndim != 1 or offsets is None or offsets.ndim != 1:
        came = "no offsets" if offsets is None else f"offsets of shape {offsets.shape}"
        raise shape_error(
            "embedding_bag", "the input must have shape (B, N), or (N,) with offsets (B,)",
            f"{input.shape} and {came}", "Give the bags as rows, or say where each begins.",
        )  # fmt: skip
    if not unchecked(offsets):
        begins = settled(offsets).value
        if len(begins) and (begins[0] != 0 or (begins[1:] < begins[:-1]).any() or begins[-1] > len(input)):
            raise DataError(
                f"{who('embedding_bag')}: offsets must ascend from 0 to {len(input)} at most, got "
                f"{', '.join(map(str, begins[:8]))}{' ...' if len(begins) > 8 else ''}."
            )
    number = len(offsets) - with_end
    begun = offsets.new_zeros((len(input) + 1,))._put_add((offsets[:number],), offsets.new_ones((number,))).cumsum(0)
    return begun[: len(input)] - 1, number


def checked_rows(name: str, input: Tensor, rows: int) -> Tensor:
    """The row numbers; one outside the table is an error, and so is one that counts from the end."""
    if not input.dtype.is_integer:
        raise DtypeError(
            f"{who(name)}: row numbers must be integers, got {input.dtype.name}. Convert them with .long()."
        )
    if unchecked(input, rows):
        return input._counted(rows)
    values = settled(input).value
    if values.size and (values.min() < 0 or values.max() >= rows):
        wrong = values[(values < 0) | (values >= rows)].flat[0]
        raise DataError(
            f"{who(name)}: number {int(wrong)} is not in [0, {rows - 1}]: the table has {rows} rows. "
            f"Number the categories from 0, or make num_embeddings larger."
        )
    return input


def padding_row(name: str, padding_idx: Any, rows: int) -> int | None:
    """Which row is the padding, counted from 0."""
    if padding_idx is None:
        return None
    row = integer(padding_idx, name, "padding_idx")
    if not -rows <= row < rows:
        raise SettingError(f"{name}: padding_idx must be in [{-rows}, {rows - 1}], the table's rows, got {row}.")
    return row % rows


def refuse_absent(name: str, max_norm: object, scale_grad_by_freq: object, sparse: object) -> None:
    """Raise for the settings of PyTorch's that are not here."""
    if max_norm is not None:
        raise SettingError(
            f"{name}: max_norm, which changes the table while it is read, is not in chainrule. Leave it out, and after the "
            f"optimizer's step scale the rows that are too long."
        )
    if scale_grad_by_freq:
        raise SettingError(f"{name}: scale_grad_by_freq is not in chainrule. Leave it out.")
    if sparse:
        raise SettingError(f"{name}: sparse=True is not in chainrule, where every gradient is dense. Leave it out.")
