"""An optimizer's step as one thing that a tape records."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import cache
from itertools import repeat
from operator import attrgetter, is_
from typing import Any
from weakref import WeakKeyDictionary

from chainrule.compiler.frontend import guards
from chainrule.optim.state import Listed
from chainrule.tape.doors import Door, ElsewhereError, Inputs, Jump, enter
from chainrule.tape.kept import Kept
from chainrule.tape.path import Step
from chainrule.tape.updates import NONE, Updates
from chainrule.tensor import Tensor

_named, _gradient, _views, _trace = map(attrgetter, ("_node", "_grad", "_views", "trace"))
_of_gradient, _segment, _place = map(attrgetter, ("_grad._node", "segment", "place"))
_OURS = __name__.rpartition(".")[0] + "."


@cache
def _is_ours(kind: type) -> bool:
    """Is it one of chainrule's optimizers?"""
    return kind.__module__.startswith(_OURS)


class Layout:
    """What an optimizer's step reads: it stays until somebody changes the members of a group, the state, or a setting's kind.

    Attributes:
        kinds: by group, its parameters, and which of its settings are on.
        parameters: those of all groups.
        others: the tensors among the settings and in the state.
        kept: those, to enter a segment.
        whole: does each parameter have all of its state?
        numbers: by jump, the numbers among the settings, where they are as they were.
        updates: likewise what it changes.
    """

    def __init__(self, optimizer: Any) -> None:
        self.seen = guards.latest
        self.parameters: list[Tensor] = []
        self.others: list[Tensor] = []
        self.lists: list[Any] = []  # of parameters
        self.groups = list(optimizer.param_groups)
        self.kinds = [kinds(group) for group in self.groups]
        self.values = [value for group in self.groups for value in group.values()]
        self.steady = all(map(_is_steady, self.values))
        self.numbers: dict[Jump, Inputs] = {}
        self.updates: dict[Jump, Updates] = {}
        self.whole = True
        settings: list[Hashable] = []
        places: dict[int, int] = {}  # by identity, where a tensor stands among the others
        for group, kind in zip(self.groups, self.kinds, strict=True):
            settings += [id(group), len(group["params"]), *[rule.name for rule in optimizer.rules(group)]]
            settings += [(name, on if type(on) is bool else None) for name, on in kind]
            needed = optimizer.needed(group)
            self.parameters += group["params"]
            self.lists.append(group["params"])
            for value in group.values():
                if isinstance(value, Tensor):
                    settings.append(places.setdefault(id(value), len(places)))
                    self.others += [value] if places[id(value)] == len(self.others) else []
            for parameter in group["params"]:
                state = optimizer.state.get(parameter, {})
                self.whole = self.whole and needed <= state.keys()
                for name, value in state.items():  # several parameters may share a counter
                    settings += name, places.setdefault(id(value), len(places))
                    self.others += [value] if places[id(value)] == len(self.others) else []
        self.kept = Kept(self.others)
        self.settings = tuple(settings)

    def stands(self) -> bool:
        """Is it as it was?"""
        if self.seen != guards.latest:
            return False
        values = [value for group in self.groups for value in group.values()]
        if len(values) == len(self.values) and all(map(is_, values, self.values)):
            return True
        if self.kinds != [kinds(group) for group in self.groups]:
            return False
        self.values, self.numbers = values, {}
        self.steady = all(map(_is_steady, values))
        return True


_PLAIN = frozenset({bool, int, float, str, type(None)})


def _is_steady(value: Any) -> bool:
    """Is a setting the same as long as it is the same object? (Members of lists of parameters are counted.)"""
    kind = type(value)
    return kind in _PLAIN or kind is Listed or (kind is tuple and _PLAIN.issuperset(map(type, value)))


def kinds(group: dict[str, Any]) -> list[tuple[str, int | bool]]:
    """Which settings there are, and which are on; of a tensor and of the list of parameters, which one it is."""
    return [
        (name, id(value) if isinstance(value, Tensor) or name == "params" else bool(value))
        for name, value in group.items()
    ]


class _Known:
    """What is known of an optimizer: its layout, and what its steps led to, in one tree."""

    def __init__(self, root: Step) -> None:
        self.root = root
        self.jumps: dict[Step, Any] = {}
        self.tokens: dict[Hashable, object] = {}  # what stands for settings

    def put(self, layout: Layout) -> None:
        """It is another layout now."""
        self.layout, self.token = layout, self.tokens.setdefault(layout.settings, object())


# With the optimizer: a tape must not keep it alive, nor it a tree that was grown anew.
_KNOWN: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()


def taken(tape: Any, optimizer: Any) -> bool:
    """The step, where its like was recorded from here before; False: it must be looked at properly (`Stepped`)."""
    with tape.lock:
        if tape.busy or tape.rest:  # a signal's handler, in the middle of it; or nothing is recorded for a while
            return False
        tape.busy = True
        try:
            known = _KNOWN.get(optimizer)
            if known is None or known.root is not tape.root or not known.layout.stands():
                return False
            jump = _jump(tape, optimizer, known)
            if jump is None:
                return False
            layout = known.layout
            inputs = layout.numbers.get(jump)
            if inputs is None:
                inputs = jump.now(tape)
                if layout.steady:
                    layout.numbers[jump] = inputs
            enter(tape, jump, inputs)
            tape.updates = layout.updates[jump]
            tape.compute()
        except ElsewhereError:
            return False
        finally:
            tape.updates = NONE  # of a step that was interrupted: it is not taken
            tape.busy = False
    return True


def _jump(tape: Any, optimizer: Any, known: _Known) -> Jump | None:
    """Where a step of an optimizer with this layout leads to from here, as `Stepped.key` says it."""
    layout, segment = known.layout, tape.segment
    if optimizer._used is not None or optimizer._given is not None or not layout.whole:
        return None
    parameters = layout.parameters
    try:
        gradients = list(map(_of_gradient, parameters))
    except AttributeError:  # one has none
        return None
    if any(map(_views, parameters)) or list(map(_segment, gradients)) != [segment] * len(gradients):
        return None
    named = list(map(_named, parameters))
    if any(map(_trace, named)):
        return None  # one that must be derived from another first
    key = known.token, *tape.refs(named), *map(_place, gradients)
    if layout.kept.enter(tape) is None:  # at last: who asks again finds it there
        return None
    jumps = known.jumps.get(tape.step)
    jump: Jump | None = None if jumps is None else jumps.get(key)
    if jump is not None and jump not in layout.updates:
        order, places, types, _ = jump.results
        handles = [*parameters, *map(_gradient, parameters), *layout.others]
        layout.updates[jump] = Updates(places, [handles[i] for i in order], types)
    return jump


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
        if optimizer._used is not None or optimizer._given is not None or not _is_ours(optimizer.__class__):
            return None  # somebody looks on, or it is the user's own, which may do anything
        known = _KNOWN.get(optimizer)
        if known is None or known.root is not tape.root or not known.layout.stands():
            known = self._look(tape, known)
        self.known, layout = known, known.layout
        if not layout.whole:
            return None
        parameters = layout.parameters
        gradients = list(map(_gradient, parameters))
        if any(map(is_, gradients, repeat(None))) or any(map(_views, parameters)):
            return None
        named, nodes = list(map(_named, parameters)), list(map(_named, gradients))
        if any(map(_trace, named)) or any(map(_trace, nodes)):
            return None  # one that must be derived from another first
        refs = tape.refs(named)
        others: Sequence[Hashable] = ()
        if layout.kept.enter(tape) is None:
            more = list(map(_named, layout.others))
            if any(map(_trace, more)):
                return None
            others = tape.refs(more)
        self.handles = parameters + gradients + layout.others
        return known.token, *refs, *others, *tape.places(nodes)

    def _look(self, tape: Any, known: _Known | None) -> _Known:
        """What is known, with the layout as it is now."""
        layout = Layout(self.optimizer)
        if known is None or known.root is not tape.root:
            known = _KNOWN[self.optimizer] = _Known(tape.root)
        known.put(layout)
        return known

    def jumps(self, tape: Any, start: Step) -> dict[Hashable, Any]:
        """With the optimizer, whose settings they read."""
        found: dict[Hashable, Any] | None = self.known.jumps.get(start)
        if found is None:
            found = self.known.jumps[start] = {}
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
        order = sorted(found, key=lambda i: found[i].place)
        places, types = [found[i].place for i in order], [(found[i].dtype, found[i].requires_grad) for i in order]
        return order, places, types, self.known.layout.groups  # whose identity is part of the key

    def again(self, tape: Any, results: Any) -> None:
        order, places, types, _ = results
        tape.updates = Updates(places, list(map(self.handles.__getitem__, order)), types)
