"""Attention: each query takes an average of the values, weighed by how well their keys match it."""

from __future__ import annotations

import math

from chainrule import dtypes
from chainrule.dtypes import DType
from chainrule.errors import DtypeError, SettingError, ShapeError
from chainrule.graph import Shape, shape_error, who
from chainrule.names import takes_keywords
from chainrule.nn.functional.layers import dropout, probability
from chainrule.ops.elementwise import broadcast_shapes
from chainrule.tensor import Tensor
from chainrule.tensor.core import number
from chainrule.tensor.creation import arange, given
from chainrule.tensor.rounding import in_float32

NAME = "scaled_dot_product_attention"


@takes_keywords("functional")
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``softmax(query key^T scale + mask) value``: for each query an average of the values.

    It is made of products, folds and what stands between them, with the division by the sum of the weights at the end:
    ``(exp(s - max s) value) / sum(exp(s - max s))``, whose derivative sums over the features of the result and not over
    all keys once more. A compiled program makes loop nests of that which hold the scores of some queries at a time, forwards
    and backwards, where there are many: its memory grows with the number of queries and keys, not with their product.

    Args:
        query: shape (..., L, E).
        key: shape (..., S, E).
        value: shape (..., S, V).
        attn_mask: bool, True where a query may look at a key, or numbers that are added to the scores (-inf: it may not);
            any shape that broadcasts to (..., L, S).
        dropout_p: the share of weights to drop; as in PyTorch whether or not something is trained: pass 0.0 in evaluation.
        is_causal: query i looks at keys 0 to i; not together with `attn_mask`.
        scale: what the scores are multiplied by; 1 / sqrt(E) if left out.
        enable_gqa: queries have several times as many heads (axis -3) as keys and values, each of which serves so many
            heads side by side.

    Returns:
        Shape (..., L, V). A query that may look at no key gets zeros, and passes no gradient on, as in PyTorch.

    Raises:
        ShapeError: axes are missing, or the numbers of features or keys differ.
        DtypeError: no floats, different dtypes, or a mask that is neither bool nor of the query's dtype.
        SettingError: a mask and `is_causal`, or a share outside [0, 1].

    >>> import chainrule as cr
    >>> import chainrule.nn.functional as F
    >>> q, v = cr.tensor([[1.0, 0.0], [0.0, 1.0]]), cr.tensor([[1.0], [3.0]])
    >>> F.scaled_dot_product_attention(q, q, v, is_causal=True, scale=1.0)
    tensor([[1.0000],
            [2.4621]])

    Source: Vaswani et al., "Attention is all you need", NeurIPS 2017; the division at the end as in Dao et al.,
    "FlashAttention", NeurIPS 2022.
    """
    query, key, value = (given(x, NAME, what) for x, what in ((query, "query"), (key, "key"), (value, "value")))
    if enable_gqa:
        key, value = (_for_all_heads(x, query, what) for x, what in ((key, "key"), (value, "value")))
    _check(query, key, value)
    if query.dtype.only_stores:  # one nest of loops, with no rounding on the way
        return in_float32(scaled_dot_product_attention, query, key, value, attn_mask, dropout_p, is_causal, scale)
    if attn_mask is not None and is_causal:
        raise SettingError(
            f"{who(NAME)}: attn_mask and is_causal must not both be given. Put the causal part into the mask."
        )
    width = query.shape[-1]
    factor = number(scale, NAME, "scale") if scale is not None else 1 / math.sqrt(width) if width else math.inf
    share = probability(NAME, dropout_p, "dropout_p")
    scores = query @ key.mT * factor
    if is_causal:
        rows, columns = arange(scores.shape[-2]).reshape(-1, 1), arange(scores.shape[-1])
        scores = scores.masked_fill(columns > rows, -math.inf)
    elif attn_mask is not None:
        scores = _masked(scores, given(attn_mask, NAME, "attn_mask"))
    if not scores.numel():  # no largest of no scores
        return dropout(scores, share) @ value
    largest = scores.detach().amax(-1, keepdim=True)
    weights = (scores - largest.masked_fill(largest == -math.inf, 0.0)).exp()
    total = weights.sum(-1, keepdim=True)
    return dropout(weights, share) @ value / total.masked_fill(total == 0, 1.0)


def _for_all_heads(x: Tensor, query: Tensor, what: str) -> Tensor:
    """Each head as often as there are queries' heads for it."""
    if x.ndim < 3 or query.ndim < 3 or not x.shape[-3] or query.shape[-3] % x.shape[-3]:
        raise shape_error(
            NAME, f"with enable_gqa the heads of the {what} must divide those of the query", f"{x.shape} for {query.shape}",
            "Lay heads along axis -3.",
        )  # fmt: skip
    times = query.shape[-3] // x.shape[-3]
    return x if times == 1 else x.repeat_interleave(times, -3)


def _check(query: Tensor, key: Tensor, value: Tensor) -> None:
    if not query.dtype.is_floating_point or not query.dtype == key.dtype == value.dtype:
        found = f"{query.dtype.name}, {key.dtype.name} and {value.dtype.name}"
        raise DtypeError(
            f"{who(NAME)}: query, key and value must be floats of one dtype, got {found}. Convert them with .to(dtype)."
        )
    shapes = f"shapes {query.shape}, {key.shape} and {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise shape_error(
            NAME, "query, key and value must be (..., L, E), (..., S, E) and (..., S, V)", shapes,
            "Add an axis with .unsqueeze(0).",
        )  # fmt: skip
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise shape_error(
            NAME, "query and key must have as many features, key and value as many rows", shapes,
            "Project them to the same width, and take a value for each key.",
        )  # fmt: skip


def _masked(scores: Tensor, mask: Tensor) -> Tensor:
    if not _fits(mask.shape, scores.shape):
        raise shape_error(
            NAME, f"attn_mask must broadcast to the scores (..., L, S), {scores.shape}", f"shape {mask.shape}",
            "Give it a row for each query and a column for each key.",
        )  # fmt: skip
    if mask.dtype is dtypes.bool_:
        return scores.masked_fill(~mask, -math.inf)
    check_mask(NAME, "attn_mask", mask, scores.dtype)
    return scores + mask


def check_mask(name: str, what: str, mask: Tensor, dtype: DType) -> None:
    """Can a mask that is not bool be added to scores of this dtype?

    Raises:
        DtypeError: it is of another.
    """
    if mask.dtype != dtype:
        raise DtypeError(
            f"{who(name)}: {what} must be bool, or of the query's dtype {dtype.name}, got {mask.dtype.name}. "
            f"Convert it with .bool() or .to(query.dtype)."
        )


def _fits(shape: Shape, room: Shape) -> bool:
    """Does the one broadcast to the other?"""
    try:
        return broadcast_shapes(NAME, shape, room) == room
    except ShapeError:
        return False
