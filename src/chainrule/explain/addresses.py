"""Names of single numbers: ``0.weight[3, 7]``."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from chainrule.errors import IndexRangeError, SettingError, kind_of, unknown_name
from chainrule.graph import Array, Shape

_ADDRESS = re.compile(r"\s*([^\[\]]+?)\s*(?:\[([^\[\]]*)\])?\s*")


def parse(address: str, known: Mapping[str, Shape], who: str = "explain") -> tuple[str, int | None]:
    """The name and the position (row-major; None where no index stands) that an address means.

    Args:
        address: a name from `known`, and in brackets one integer for each axis; negative ones count from the end.
        known: the shape of each name.
        who: asks.

    Raises:
        SettingError: not an address.
        UnknownNameError: no such name; the nearest are named.
        IndexRangeError: an index outside its axis, or too few or many of them.

    Example:
        >>> parse("0.weight[3, -1]", {"0.weight": (4, 8)})
        ('0.weight', 31)
    """
    found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if found is None:
        came = repr(address) if isinstance(address, str) else kind_of(address)
        raise SettingError(f"{who}: an address is a name and an index such as '0.weight[3, 7]', got {came}.")
    name, inside = found.groups()
    if name not in known:
        raise unknown_name("weight", name, list(known))
    if inside is None:
        return name, None if known[name] else 0
    try:
        index = [int(part) for part in inside.split(",") if part.strip()]
    except ValueError:
        raise SettingError(f"{who}: an index is made of whole numbers, got [{inside}] in {address!r}.") from None
    return name, position(name, index, known[name], who)


def position(name: str, index: list[int] | tuple[int, ...], shape: Shape, who: str = "explain") -> int:
    """An index as a row-major position, checked."""
    inside = len(index) == len(shape) and all(-size <= i < size for i, size in zip(index, shape, strict=True))
    if not inside:
        ranges = ", ".join(f"0 to {size - 1}" for size in shape) or "none"
        raise IndexRangeError(
            f"{who}: {name} has the shape {tuple(shape)}, so its indices are {ranges}; got {list(index)}. "
            f"Negative ones count from the end."
        )
    if not shape:
        return 0
    return int(np.ravel_multi_index([i % size for i, size in zip(index, shape, strict=True)], shape))


def largest(array: Array) -> int:
    """The position of the element farthest from zero."""
    return int(np.argmax(np.abs(np.nan_to_num(array, nan=np.inf))))
