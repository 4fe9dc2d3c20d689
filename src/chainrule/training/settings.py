"""What shapes a training's steps and is no tensor: all of it taken down, and put back.

Rates and whatever else stands in the optimizer's groups, the schedules' places, which tensors are frozen, and of
every module (the loss's among them) whether it is in training mode and its plain attributes, such as a dropout's p.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chainrule.nn import Module
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.training import state

Plain = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """The settings of one moment.

    Attributes:
        groups: of each parameter group, its tensors left out.
        schedules: the state of each schedule.
        modules: by name, the plain attributes of each module, and of a loss that is no module.
        trained: by name, which tensors require grad.
        max_norm: what gradients are clipped to.
    """

    groups: list[Plain]
    schedules: list[Plain]
    modules: dict[str, Plain]
    trained: dict[str, bool]
    max_norm: float | None

    def as_dict(self) -> Plain:
        """Plain dicts and lists."""
        return asdict(self)


def groups_of(optimizer: Optimizer) -> list[Plain]:
    """The settings of each parameter group."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def put_groups(optimizer: Optimizer, groups: Sequence[Mapping[str, Any]]) -> None:
    """Give the groups these settings. What came from JSON is a list where it was a tuple."""
    for group, saved in zip(optimizer.param_groups, groups, strict=False):
        for key, value in saved.items():
            group[key] = _like(group.get(key), value)


def objects(model: Module, loss: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Everything whose plain attributes shape a step, by name: every module, and a loss that is none."""
    for name, module in state.modules(model, loss).items():
        for path, below in module.named_modules():
            yield f"{name}.{path}".rstrip("."), below
    yield from ((name, part) for name, part in state.parts(loss) if not isinstance(part, (Module, Tensor)))


def attributes(thing: Any) -> Plain:
    """The attributes that are numbers, texts, booleans or None, or sequences of them."""
    return {key: value for key, value in getattr(thing, "__dict__", {}).items() if _settles(key, value)}


def _settles(key: str, value: Any) -> bool:
    return not key.startswith("__") and key != "_layer_name" and _is_plain(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def put_attributes(thing: Any, saved: Mapping[str, Any]) -> None:
    """Give back attributes that are others now; those that are not there stay away."""
    own = getattr(thing, "__dict__", {})
    for key, value in saved.items():
        if key in own and _settles(key, own[key]):
            wanted = _like(own[key], value)
            if type(own[key]) is not type(wanted) or own[key] != wanted:
                setattr(thing, key, wanted)


def _like(known: Any, value: Any) -> Any:
    """A value that JSON may have turned from a tuple into a list."""
    return tuple(value) if isinstance(value, list) and isinstance(known, tuple) else value
