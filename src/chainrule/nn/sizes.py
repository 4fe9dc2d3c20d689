"""The sizes that layers are made with."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from chainrule.errors import DtypeError, SettingError
from chainrule.tensor.core import integer


def size(layer: str, name: str, value: Any) -> int:
    """A whole number of 0 or more.

    Raises:
        SettingError: something else was given.
    """
    with suppress(DtypeError):
        found = integer(value, layer, name)
        if found >= 0:
            return found
    raise SettingError(f"{layer}: {name} must be a whole number of 0 or more, got {value!r}.")
