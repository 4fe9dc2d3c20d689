"""What a module saves and how it is loaded: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from chainrule.dtypes import DType
from chainrule.errors import DtypeError, StateDictError
from chainrule.files.document import short
from chainrule.tensor import Tensor
from chainrule.tensor.core import as_leaf, lifted
from chainrule.tensor.creation import saved_value
from chainrule.tensor.functions import no_grad
from chainrule.tensor.views import leave

MOST = 30  # keys that an error lists


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def load(owner: str, own: Mapping[str, Tensor], given: Mapping[str, Any], strict: bool) -> IncompatibleKeys:
    """Check every key and shape first, then copy: a failed load leaves these tensors as they were."""
    values, keys = fitting(owner, own, given, strict)
    with no_grad():
        for name, value in values.items():
            own[name].copy_(value)
    return keys


def fitting(
    owner: str, own: Mapping[str, Tensor], given: Mapping[str, Any], strict: bool = True
) -> tuple[dict[str, Tensor], IncompatibleKeys]:
    """The given values for these tensors, every key and shape checked, and the keys that have no counterpart."""
    if not isinstance(given, Mapping):
        raise StateDictError(f"{owner}: a state_dict must be a mapping from names to tensors, got {short(given)}.")
    values = {key: _as_value(owner, key, given[key]) for key in own if key in given}
    keys = IncompatibleKeys([k for k in own if k not in given], [k for k in given if k not in own])
    faults = [
        f"shape of {name!r}: the module has {tuple(own[name].shape)}, the state_dict {tuple(value.shape)}"
        for name, value in values.items()
        if tuple(value.shape) != tuple(own[name].shape)
    ]
    if strict and keys.unexpected_keys:
        faults.insert(0, f"unexpected in the state_dict: {_listed(keys.unexpected_keys)}")
    if strict and keys.missing_keys:
        faults.insert(0, f"missing from the state_dict: {_listed(keys.missing_keys)}")
    if faults:
        raise StateDictError(_message(owner, faults, keys))
    return values, keys


def _message(owner: str, faults: list[str], keys: IncompatibleKeys) -> str:
    hint = "Build the model as it was when it was saved"
    if keys.missing_keys or keys.unexpected_keys:
        hint += ", or pass strict=False to load only the keys that match"
    lines = "\n  ".join(faults)
    return f"the state_dict does not fit {owner}; nothing was loaded.\n  {lines}\n{hint}."


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - MOST} more" if len(keys) > MOST else ""
    return ", ".join(map(short, keys[:MOST])) + more


def _as_value(owner: str, name: str, value: Any) -> Tensor:
    tensor = saved_value(value)
    if tensor is None:
        raise StateDictError(
            f"the state_dict does not fit {owner}; nothing was loaded.\n  {name!r} must be a tensor or an array of "
            f"numbers, got {short(value)}.\nGive what state_dict() or load_file gave."
        )
    return tensor


def move(tensors: Iterable[Tensor], target: DType | None) -> None:
    """Floating tensors of a module in another dtype, by the same handles; gradients follow."""
    if target is None:
        return
    if not target.is_floating_point:
        raise DtypeError(f"to(): a module's parameters must be float32, float64 or bfloat16, got {target.name}.")
    for tensor in tensors:
        if tensor.dtype.is_floating_point and tensor.dtype != target:
            with no_grad():
                gradient = None if tensor.grad is None else tensor.grad.to(target)
                owner = tensor if tensor.requires_grad else None
                node = lifted(tensor.to(target))
                leave(tensor)
                tensor._node = as_leaf(node, owner)
                tensor.grad = gradient
