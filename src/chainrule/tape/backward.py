"""A backward pass as one thing that a tape records."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import repeat
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, cast

from chainrule.graph import LEAF, Node, Type, toposort
from chainrule.lines import ours
from chainrule.ops import elementwise as ew
from chainrule.tape.doors import Door, reference
from chainrule.tape.history import Past
from chainrule.tape.path import Ref
from chainrule.tensor.core import Engine

if TYPE_CHECKING:
    from chainrule.tensor import Tensor

_gradient, _inputs = attrgetter("_grad"), attrgetter("inputs")
Held = tuple[int, Ref]  # by which of the segments that a history lies in, and what it is to that


def _ours(rule: Any) -> bool:
    """Is a derivative rule of chainrule's own? Another may do anything, and is asked each time."""
    functions = [rule, *[cell.cell_contents for cell in rule.__closure__ or ()]]
    return all(ours(code) for function in functions if (code := getattr(function, "__code__", None)) is not None)


class _Known:
    """A value that a loss was computed with, in the segment whose backward pass comes next."""

    __slots__ = ("ref", "type")

    def __init__(self, ref: int, type: Type) -> None:
        self.ref, self.type = ref, type

    def now(self, tape: Any) -> Node:
        past: Past = tape.differentiated
        inside = past.values.get(self.ref)
        if inside is not None:  # of what a door recorded as one, whose history nobody has asked for
            made = Node(LEAF, (), {}, self.type, inside[0])
            made.where = inside[1]
            return made
        node: Any = past.node(self.ref)
        node.seen = True
        return cast(Node, node)


class Backward(Door):
    """The backward pass of a loss whose history waits, or was computed together, or waits and goes on in one computed segment.

    It depends on which leaves have a gradient already, and what those are to the segment.

    Attributes:
        within: what the history lies in: the tape, a segment that was computed, or both in this order.
    """

    def __init__(self, output: Any, walk: Callable[[], None]) -> None:
        self.output, self.walk = output, walk

    def key(self, tape: Any) -> Hashable | None:
        self.tape, node = tape, self.output._node
        if not node.inputs:
            return None
        start: tuple[Any, ...] | None
        if node.segment is tape.segment:
            start = self._waits(tape, node)
        else:
            start = self._was_computed(tape, node)
        if start is None:
            return None
        self.past: Past | None = self.within[-1] if self.within[-1] is not tape else None
        tape.differentiated = self.past
        known = tape.step.jumps
        of_leaves = ("leaves", *start)
        leaves = known.get(of_leaves)
        if leaves is None:
            leaves = self._leaves()
            if leaves is None:
                return None
            known[of_leaves] = leaves
        gradients = self._gradients(tape, *leaves)
        return None if gradients is None else (*start, *gradients)

    def _waits(self, tape: Any, node: Node) -> tuple[Any, ...] | None:
        """What the history of a loss that waits begins with, and how it is tied to the segment in which it goes on.

        A value that both know may be met by either's name; which ones these are is part of the answer.
        """
        self.within = [tape]
        nodes: list[Node] = tape.segment.nodes
        if not any(map(_inputs, nodes)):
            return "backward", node.place
        going_on = [each for each in nodes if each.inputs]
        past = next((each for each in tape.pasts if each.holds(going_on[0])), None)
        if past is None or not all(map(past.holds, going_on)) or any(each.inputs for each in past.nodes):
            return None  # or it goes on in another one still
        self.within = [tape, past]
        return "backward", node.place, past.step, *past.refs(nodes)

    def _was_computed(self, tape: Any, node: Node) -> tuple[Any, ...] | None:
        """Likewise, of a loss that was computed, where nothing else waits.

        A value that waits, too, might be met under another name.
        """
        if node._array is None or tape.step is not tape.root:
            return None
        for past in tape.pasts:
            if past.holds(node):
                self.within = [past]
                return "backward", past.step, node.place
        return None

    def _gradients(self, tape: Any, leaves: list[Held], inputs: list[int] | None) -> list[Ref | None] | None:
        """By leaf, what its gradient is to this segment, and then to the computed one; None where it has none yet, or is nothing
        to that. None: that cannot be told.

        Args:
            inputs: where they stand among what the first segment reads from outside, if all of them do.
        """
        if inputs is None:
            nodes = [self.within[k].node(ref) for k, ref in leaves]
        else:
            nodes = list(map(self.within[0].nodes.__getitem__, inputs))
        owners = [None if node is None or node.owner is None else node.owner() for node in nodes]
        try:
            gradients = list(map(_gradient, owners))
        except AttributeError:  # one is gone
            return None
        if len(set(map(id, owners))) < len(owners):
            return None  # the gradients of one are to be added
        self.owners: list[Any] = owners
        if all(map(is_, gradients, repeat(None))):
            return gradients
        found: list[Ref | None] = []
        for gradient in gradients:
            if gradient is None:
                found.append(None)
                continue
            node = gradient._node
            if node.trace is not None or gradient._views is not None or node.requires_grad:
                return None
            found.append(tape.ref(node))
        if self.past is not None:
            found += self.past.refs([gradient._node for gradient in gradients if gradient is not None])
        return found

    def _held(self, node: Node) -> int | None:
        """Which of the segments a node is a result of."""
        for k, within in enumerate(self.within):
            if node.segment is within.segment if within is self.tape else within.holds(node):
                return k
        return None

    def _leaves(self) -> tuple[list[Held], list[int] | None] | None:
        """What the leaves are to the segments, as `_gradients` takes it; None where some of the history lies elsewhere."""
        order = toposort([self.output._node])
        for node in order:
            recorded = not node.inputs or not node.requires_grad or self._held(node) is not None
            if not recorded or (node.op is ew.custom and not _ours(node.params["rule"])):
                return None
        leaves = [node for node in order if node.owner is not None and node.requires_grad]
        owners = {id(node.owner()) for node in leaves if node.owner is not None}
        known, found = self._inputs(), []
        for node in leaves:
            k = self._held(node)
            held = known.get(node) if k is None else (k, node.place)
            if held is None:
                return None
            found.append(held)
        if len(owners) < len(leaves):
            return None
        inputs = [-1 - ref for k, ref in found if not k and type(ref) is int and ref < 0]
        return found, inputs if len(inputs) == len(found) else None

    def _inputs(self) -> dict[Node, Held]:
        """By input, what it is to the first of the segments that reads it."""
        found: dict[Node, Held] = {}
        for k, within in reversed(list(enumerate(self.within))):
            if within is self.tape:
                found |= {node: (k, ref) for node, ref in within.segment.known.items()}
            else:
                found |= {node: (k, -1 - i) for i, node in enumerate(within.nodes)}
        return found

    def outer(self, node: Node) -> _Known | None:
        ref = self.refs.get(node)
        if ref is None:
            return None
        if ref >= 0:
            self.read.add(ref)
        return _Known(ref, node.type)

    def body(self) -> None:
        order = toposort([self.output._node])
        read = [node for node in order if node.inputs]
        self.released = [
            frozenset([node.place for node in read if self._held(node) == k]) for k in range(len(self.within))
        ]
        self.read: set[int] = set()  # of the results of the segment that was computed
        self.refs: dict[Node, int] = {}  # what it may read of that
        if self.past is not None:
            self.refs = {node: -1 - i for i, node in enumerate(self.past.nodes)}
            self.refs |= {node: node.place for node in order if self.past.holds(node)}
        self.before = [owner._grad for owner in self.owners]
        self.walk()

    def made(self, tape: Any) -> Any:
        found = []
        for owner, before in zip(self.owners, self.before, strict=True):
            gradient = owner._grad
            if gradient is None or (before is not None and gradient is not before) or not tape.waits(gradient._node):
                return None
            found.append((gradient._node.place, gradient._node.type))
        if self.past is not None:
            self.past.step.reads = tuple(sorted({*(self.past.step.reads or ()), *self.read}))
        return found, self.released, self.read

    def fits(self, tape: Any, results: Any) -> bool:
        if self.past is None:
            return True
        # Nobody was there before, and all that it reads was kept. (Where a node is gone, what reads it stands for it.)
        there = self.past.results
        nodes = [there[place]() for place in there.keys() & results[1][-1]]
        return all(node is None or node.inputs for node in nodes) and self.past.has(results[2])

    def again(self, tape: Any, made: Any) -> None:
        leaves, released, _ = made
        renamed, tensor = tape.renamed, Engine.tensor
        segment, results = tape.segment, tape.results
        for owner, (place, type) in zip(self.owners, leaves, strict=True):
            node = Node(LEAF, (), {}, type)
            node.segment, node.place = segment, place
            results[place] = reference(node)
            if owner._grad is None:
                gradient: Tensor = tensor(node)
                renamed.append((reference(owner), "_grad", None))
                owner._grad = gradient
            else:
                owner._grad._name(node)
        for within, places in zip(self.within, released, strict=True):
            there = within.results
            for place in there.keys() & places:
                read = there[place]()
                if read is not None:
                    read.release()
