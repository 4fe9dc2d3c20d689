"""How a tensor prints: as PyTorch does, four decimals, or an exponent where those would not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.dtypes import numbers_of
from chainrule.graph import Array, Node

_USUAL = (dtypes.float32, dtypes.int64, dtypes.bool_)  # those that need no naming


def text_of(node: Node) -> str:
    """``tensor([1., 2.], requires_grad=True)``."""
    value = node._value
    if value is None:
        return f"<traced tensor: {node.type}{', requires_grad' if node.requires_grad else ''}>"
    value = numbers_of(value)
    notes = []
    if not value.size and value.ndim > 1:
        notes.append(f"size={node.shape}")
    if node.dtype not in _USUAL or (not value.size and node.dtype is not dtypes.float32):
        notes.append(f"dtype={node.dtype!r}")
    if node.requires_grad:
        notes.append("requires_grad=True" if node.is_leaf else f"grad_fn=<{node.op.name}>")
    return f"tensor({', '.join([_numbers(value) if value.size else '[]', *notes])})"


def _numbers(value: Array) -> str:
    formatter: Any = {"float_kind": _float_format(value)} if value.dtype.kind == "f" else None
    return np.array2string(
        value, separator=", ", prefix="tensor(", threshold=1000, edgeitems=3, max_line_width=80, formatter=formatter
    )


def _float_format(value: Array) -> Callable[[float], str]:
    """One format for all: whole numbers, four decimals, or an exponent, padded to one width."""
    finite = np.abs(value[np.isfinite(value)].astype(np.float64))
    nonzero = finite[finite > 0]
    largest, smallest = (nonzero.max(), nonzero.min()) if nonzero.size else (1.0, 1.0)
    whole = bool((finite == np.floor(finite)).all())
    wide = largest > 1e8 or largest / smallest > 1000
    if whole:
        form = "{:.4e}" if wide else "{:.0f}."
    else:
        form = "{:.4e}" if wide or smallest < 1e-4 else "{:.4f}"

    def plain(x: float) -> str:
        return form.format(x) if np.isfinite(x) else str(float(x))

    numbers = value[~np.isnan(value)]
    ends = [numbers.min(), numbers.max()] if numbers.size else []
    if numbers.size < value.size:
        ends.append(value.dtype.type("nan"))
    width = max(len(plain(x)) for x in ends) if value.ndim else 0
    return lambda x: plain(x).rjust(width)
