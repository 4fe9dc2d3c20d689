"""What a callback's saved state must be, field by field: it may come from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chainrule.files.document import Fields, is_number
from chainrule.tensor import Tensor
from chainrule.training.snapshot import Weights


def fields(state: object, who: str) -> Fields:
    """The state, to be asked for its fields.

    Raises:
        DamagedFileError: here and in every function below: it is not what this callback saves.
    """
    return Fields(state, f"the saved state of {who}")


def whole(state: Mapping[str, Any], name: str, who: str) -> int:
    """A whole number from 0 on."""
    return fields(state, who).whole(name)


def number_or_none(state: Mapping[str, Any], name: str, who: str) -> float | None:
    """A number, infinity included, or none."""
    value = fields(state, who).required(name)
    if value is None or is_number(value) or isinstance(value, float):
        return None if value is None else float(value)
    fields(state, who).refuse(name, "a number, or none", value)


def weights_or_none(state: Mapping[str, Any], name: str, who: str) -> Weights | None:
    """Kept weights, or none."""
    value = fields(state, who).required(name)
    if value is None:
        return None
    if isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items()):
        return Weights.read(value)
    fields(state, who).refuse(name, "tensors by name, or none", value)


def texts(state: Mapping[str, Any], name: str, who: str) -> list[str]:
    """A list of texts."""
    return fields(state, who).items(name, lambda value: isinstance(value, str), "a list of names")
