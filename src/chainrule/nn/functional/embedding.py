"""Rows of a table by number: embedding."""

from __future__ import annotations

from typing import Any

from chainrule.errors import DataError, DtypeError, SettingError
from chainrule.graph import shape_error, unchecked, who
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer, settled
from chainrule.tensor.creation import given


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


def checked_rows(name: str, input: Tensor, rows: int) -> Tensor:
    """The row numbers; one outside the table is an error, and so is one that counts from the end."""
    if not input.dtype.is_integer:
        raise DtypeError(
            f"{who(name)}: row numbers must be integers, got {input.dtype.name}. Convert them with .long()."
        )
    if unchecked(input, rows):
        return input.where(input >= 0, rows)  # past the end, which the compiled function refuses
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
