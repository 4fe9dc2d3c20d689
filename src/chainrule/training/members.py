"""What model, loss and optimizer of a training consist of, walked again only where that may have changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any

from chainrule import graph
from chainrule.compiler.frontend import guards
from chainrule.nn import Module
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.training import attributes, settings, state
from chainrule.training.attributes import Attributes
from chainrule.training.settings import Plain

WALKS = ("named_modules", "named_parameters", "named_buffers", "modules", "_named_members")


class Members:
    """One walk.

    Attributes:
        objects: everything whose plain attributes shape a step, by name.
        modules: those of them that are modules.
        named: the tensors that the training is about, by name.
        parameters: those of them that must stay finite: the model's, and what is optimized.
    """

    def __init__(self, model: Module, loss: Callable[..., Any], optimizer: Optimizer) -> None:
        self._counted = guards.membership  # before the walk: what changes meanwhile is walked again
        self._seen = _seen(model, loss, optimizer)
        self.objects = list(settings.objects(model, loss))
        self.modules = [(name, thing) for name, thing in self.objects if isinstance(thing, Module)]
        self.named: dict[str, Tensor] = state.named(model, loss, optimizer)
        self.parameters = state.once(model.parameters(), state.optimized(optimizer))
        self._attributes: Attributes | None = None
        self._known: dict[str, Plain] = {}  # plain attributes, as they are while all names stand for the same
        self._known_in: Attributes | None = None
        # One that walks in a way of its own may go by anything.
        self._lasts = all(getattr(type(m), walk) is getattr(Module, walk) for _, m in self.modules for walk in WALKS)

    def of(self, model: Module, loss: Callable[..., Any], optimizer: Optimizer) -> Members:
        """This walk where another would be the same, else another; always where a trace has to see what it reads."""
        if self._lasts and self._counted == guards.membership and not graph.tracing():
            seen = _seen(model, loss, optimizer)
            if len(seen) == len(self._seen) and all(map(is_, seen, self._seen)):
                return self
        return Members(model, loss, optimizer)

    def plain(self, held: Attributes) -> dict[str, Plain]:
        """The plain attributes of all objects now, by name; `held`: what their names stand for now."""
        if self._known_in is not held:
            self._known, self._known_in = {}, held
        return {name: dict(self._known.get(name) or self._plain(name, thing)) for name, thing in self.objects}

    def _plain(self, name: str, thing: Any) -> Plain:
        found = settings.attributes(thing)
        if attributes.tables(thing) and settings.last(found):
            self._known[name] = found
        return found

    def attributes(self) -> Attributes:
        """What the names of all objects stand for now."""
        known = self._attributes
        self._attributes = now = known.now() if known is not None else attributes.of_each(o for _, o in self.objects)
        return now


def _seen(model: Module, loss: Callable[..., Any], optimizer: Optimizer) -> Sequence[Any]:
    """What no count tells of: which objects there are, and the tensors of the optimizer."""
    parts = (loss,) if state.alone(loss) else [part for _, part in state.parts(loss)]
    return [model, *parts, *state.optimized(optimizer)]
