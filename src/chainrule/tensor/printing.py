"""How a tensor prints: as PyTorch does, four decimals, or an exponent where those would not do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chainrule import dtypes
from chainrule.dtypes import numbers_of
from chainrule.errors import SettingError
from chainrule.graph import Array, Node
from chainrule.names import takes_keywords

_USUAL = (dtypes.float32, dtypes.int64, dtypes.bool_)  # those that need no naming


@dataclass(frozen=True)
class Options:
    """How tensors print, with PyTorch's names."""

    precision: int = 4
    threshold: int = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES = {
    "default": Options(), "short": Options(precision=2, edgeitems=2), "full": Options(threshold=sys.maxsize),
}  # fmt: skip
_options = Options()


@takes_keywords("torch")
def set_printoptions(
    precision: int | None = None, threshold: float | None = None, edgeitems: int | None = None, linewidth: int | None = None,
    profile: str | None = None, sci_mode: bool | None = None,
) -> None:  # fmt: skip
    """How tensors print from now on, in all of the process.

    Args:
        precision: digits behind the point; 4 at first.
        threshold: tensors of more elements (1000) are shown by their ends; ``math.inf`` for never.
        edgeitems: so many (3) at each end of an axis.
        linewidth: where lines are broken (80).
        profile: begin with ``"default"``, ``"short"`` or ``"full"``; else what is not given stays.
        sci_mode: exponents always or never; None, also where it is left out: where the numbers need them.

    Raises:
        SettingError: a number below 0, or another profile.

    Example:
        >>> import chainrule as cr
        >>> cr.set_printoptions(precision=2, sci_mode=False)
        >>> cr.tensor([1e-6, 2.5])
        tensor([0.00, 2.50])
        >>> cr.set_printoptions(profile="default")
    """
    global _options
    if profile is not None and profile not in PROFILES:
        raise SettingError(f"set_printoptions: profile must be 'default', 'short' or 'full', got {profile!r}.")
    counts = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    given = {name: _count(name, value) for name, value in counts.items() if value is not None}
    _options = replace(_options if profile is None else PROFILES[profile], **given, sci_mode=sci_mode)


def _count(name: str, value: float) -> int:
    if isinstance(value, (int, float)) and value >= 0:
        return int(min(value, sys.maxsize))
    raise SettingError(f"set_printoptions: {name} must be a number of 0 or more, got {value!r}.")


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
    formatter: Any = None
    if value.dtype.kind == "f":
        formatter = {"float_kind": _float_format(value)}
    elif value.dtype.kind == "b":
        width = len("True" if value.all() else "False")
        formatter = {"bool": lambda x: str(x).rjust(width)}
    return np.array2string(
        value, separator=", ", prefix="tensor(", threshold=_options.threshold, edgeitems=_options.edgeitems,
        max_line_width=_options.linewidth, formatter=formatter,
    )  # fmt: skip


def _float_format(value: Array) -> Callable[[float], str]:
    """One format for all: whole numbers, four decimals, or an exponent, padded to one width."""
    finite = np.abs(value[np.isfinite(value)].astype(np.float64))
    nonzero = finite[finite > 0]
    largest, smallest = (nonzero.max(), nonzero.min()) if nonzero.size else (1.0, 1.0)
    whole = bool((finite == np.floor(finite)).all())
    wide = largest > 1e8 or largest / smallest > 1000
    powers = wide or (smallest < 1e-4 and not whole) if _options.sci_mode is None else _options.sci_mode
    digits = _options.precision
    form = f"{{:.{digits}e}}" if powers else "{:.0f}." if whole else f"{{:.{digits}f}}"

    def plain(x: float) -> str:
        return form.format(x) if np.isfinite(x) else str(float(x))

    numbers = value[~np.isnan(value)]
    ends = [numbers.min(), numbers.max()] if numbers.size else []
    if numbers.size < value.size:
        ends.append(value.dtype.type("nan"))
    width = max(len(plain(x)) for x in ends) if value.ndim else 0
    return lambda x: plain(x).rjust(width)
