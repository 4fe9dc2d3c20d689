"""An optimizer's step as one thing that a tape records."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakKeyDictionary

from chainrule.graph import Node
from chainrule.tape.doors import Door
from chainrule.tape.path import Step
from chainrule.tensor import Tensor

_OURS = __name__.rpartition(".")[0] + "."
_NONE: dict[str, Tensor] = {}
_JUMPS: WeakKeyDictionary[Any, tuple[Step, dict[Step, Any]]] = WeakKeyDictionary()  # with the root of their tree


class Stepped(Door):
    """The step of an optimizer all of whose parameters have a gradient, and whose updates are rules.

    It depends on which settings are on, and on which values the parameters, gradients and slots have. The numbers among the
    settings are read anew each time, as by a compiled step (`live`). The new values are there once what waits has run, which
    `step` asks for: so nobody meets a parameter in between.
    """

    def __init__(self, optimizer: Any, update: Callable[[], None]) -> None:
        self.optimizer, self.update = optimizer, update
        self.handles: list[Tensor] = []

    def key(self, tape: Any) -> Hashable | None:
        optimizer, self.handles = self.optimizer, []
        if (
            optimizer._used is not None
            or optimizer._given is not None
            or not type(optimizer).__module__.startswith(_OURS)
        ):
            return None  # somebody looks on, or it is the user's own, which may do anything
        settings: list[Hashable] = []
        for group in optimizer.param_groups:
            settings += [id(group), *[rule.name for rule in optimizer.rules(group)]]
            needed = optimizer.needed(group)
            for name, value in group.items():
                if isinstance(value, Tensor):
                    self.handles.append(value)
                elif name != "params":
                    settings.append(bool(value))
            for parameter in group["params"]:
                gradient = parameter._grad
                state = optimizer.state.get(parameter, _NONE)
                if gradient is None or parameter._views is not None or not needed <= state.keys():
                    return None
                self.handles += [parameter, gradient, *state.values()]
                settings += state
        nodes = [handle._node for handle in self.handles]
        if not all(type(node) is Node and node.trace is None for node in nodes):
            return None  # one that must be derived from another first
        return *settings, *tape.refs(nodes)

    def jumps(self, tape: Any, start: Step) -> dict[Hashable, Any]:
        """With the optimizer, whose settings they read: a tape must not keep it alive, nor it a tree that was grown anew."""
        known = _JUMPS.get(self.optimizer)
        if known is None or known[0] is not tape.root:
            known = _JUMPS[self.optimizer] = tape.root, {}
        found: dict[Hashable, Any] = known[1].setdefault(start, {})
        return found

    def body(self) -> None:
        self.before = [handle._node for handle in self.handles]
        self.update()

    def made(self, tape: Any) -> Any:
        found: dict[int, Any] = {}
        for i, (handle, before) in enumerate(zip(self.handles, self.before, strict=True)):
            node = handle._node
            if node is not before and id(handle) not in {id(self.handles[j]) for j in found}:
                if not tape.waits(node) or (node.requires_grad and not node.is_leaf):
                    return None
                found[i] = node
        changed = sorted((node.place, i, node.dtype, node.requires_grad) for i, node in found.items())
        return changed, list(self.optimizer.param_groups)  # whose identity is part of the key

    def again(self, tape: Any, results: Any) -> None:
        changed, _ = results
        handles = self.handles
        tape.updates += [(place, handles[i], dtype, requires_grad) for place, i, dtype, requires_grad in changed]
