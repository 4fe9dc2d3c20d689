"""The state and groups of an optimizer, which count what changes them: a step compiled for others must look again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from chainrule.compiler.frontend import guards
from chainrule.tensor import Tensor

Group = dict[str, Any]  # the settings of some parameters, and under "params" they themselves


class Slots(dict[str, Tensor]):
    """The state of one parameter, by PyTorch's names."""

    __slots__ = ()


class State(defaultdict[Tensor, Slots]):
    """The state of each parameter; that of a parameter that has none yet is made when it is asked for."""

    __slots__ = ()

    def __init__(self, given: Mapping[Tensor, Mapping[str, Tensor]] | None = None) -> None:
        super().__init__(Slots, {parameter: Slots(own) for parameter, own in (given or {}).items()})

    def __reduce__(self) -> Any:
        return State, (dict(self),)


class Listed(list[Any]):
    """The groups of an optimizer, or the parameters of a group."""

    __slots__ = ()


def _counting(kind: type[Any], name: str) -> Callable[..., Any]:
    method = getattr(kind, name)

    def change(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        guards.changed()
        return result

    change.__name__ = name
    return change


for _kind in (Slots, State):
    for _name in ("__setitem__", "__delitem__", "__ior__", "clear", "pop", "popitem", "setdefault", "update"):
        setattr(_kind, _name, _counting(_kind, _name))
for _name in (
    "__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend", "insert", "pop", "remove", "reverse",
    "sort",
):  # fmt: skip
    setattr(Listed, _name, _counting(Listed, _name))
