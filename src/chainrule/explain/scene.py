"""A loss and everything it depends on, with values and gradients: what a derivation walks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from chainrule import graph
from chainrule.autodiff import gradients
from chainrule.compiler.plan.summation import Summation
from chainrule.dtypes import numbers_of
from chainrule.errors import GradientError
from chainrule.explain.columns import Column
from chainrule.graph import Array, Node
from chainrule.ops import elementwise as ew
from chainrule.several import Several
from chainrule.tensor import Tensor
from chainrule.tensor.core import numbers
from chainrule.tensor.creation import ones_like

Reader = tuple[Node, int]  # an op and which of its arguments
Reading = tuple[Node, int, Column]  # and which of the op's elements read one element, with which derivative


@dataclass(eq=False, repr=False)
class Scene:
    """The nodes between some leaves and a loss.

    Attributes:
        loss: the node everything leads to.
        value, gradient: the arrays of a node; no gradient where the loss does not depend on it.
        orders: in which order the program adds each element of a node's gradient, where that is known: one, or none.
        part_orders: the same for what one reader (op and argument) passes back, where there are several.
        names: what to call a node, beside its layer and op.
        title: where and when this is, for headings.
    """

    loss: Node
    value: Callable[[Node], Array]
    gradient: Callable[[Node], Array | None]
    orders: Callable[[Node], list[Summation]]
    part_orders: Callable[[Node, Reader], list[Summation]]
    names: dict[Node, str] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        self.readers = readers_of(self.loss)
        self.readings: dict[tuple[Node, int], list[Reading]] = {}  # of elements that were asked for
        self.formulas: dict[Reader, str] = {}  # of local derivatives that were

    def __repr__(self) -> str:
        return f"<Scene: {self.title or 'an eager graph'}, {len(self.names)} names>"

    def after(self, node: Node) -> Iterator[Node]:
        """Every op on the way from a node to the loss, each once."""
        met, waiting = {node}, [node]
        while waiting:
            for reader, _ in self.readers.get(waiting.pop(), ()):
                if reader not in met:
                    met.add(reader)
                    waiting.append(reader)
                    yield reader

    def name(self, node: Node) -> str:
        """A parameter's name; else the layer and the op, counted from the second of one name on."""
        return self._names.get(node) or _described(node)

    @cached_property
    def _names(self) -> dict[Node, str]:
        found = {**self.names, self.loss: self.names.get(self.loss, "loss")}
        count: Counter[str] = Counter()
        for node in graph.toposort([self.loss]):
            if node not in found and node.inputs:
                plain = _described(node)
                count[plain] += 1
                found[node] = plain if count[plain] == 1 else f"{plain} #{count[plain]}"
        return found


def _described(node: Node) -> str:
    return f"{node.layer}: {node.op.name}" if node.layer else node.op.name


def readers_of(loss: Node) -> dict[Node, list[Reader]]:
    """By node, who of the way to the loss reads it, in the order of computation."""
    readers: dict[Node, list[Reader]] = {}
    for node in graph.toposort([loss]):
        if node.requires_grad:
            for argument, source in enumerate(node.inputs):
                if source.requires_grad:
                    readers.setdefault(source, []).append((node, argument))
    return readers


def contributions(gradient: Node, readers: list[Reader]) -> dict[Reader, Node]:
    """What each reader passes back, of which the gradient is the sum; nothing where that is not how it was made.

    The backward pass meets the last reader first, and adds what every other one passes back to what it has.
    """
    told = [(reader, argument) for reader, argument in readers if reader.op.joint or reader.op.rule(argument)]
    found = {}
    for reader in told[:-1]:
        if gradient.op is not ew.add:
            return {}
        gradient, found[reader] = gradient.inputs
    return {**found, told[-1]: gradient} if told else {}


def of_graph(loss: Tensor) -> Scene:
    """An eager graph."""
    if not loss.requires_grad or loss.numel() != 1:
        raise GradientError(
            f"explain: the loss must be one number that depends on a tensor with requires_grad=True, got shape "
            f"{loss.shape}{'' if loss.requires_grad else ' without a history'}. Reduce it (.sum(), .mean()), before "
            f"backward() frees its history."
        )
    order = graph.toposort([loss._node])
    nodes = [node for node in order if node.requires_grad and not isinstance(node, Several)]
    found = gradients([loss], [ones_like(loss)], nodes)

    def gradient(node: Node) -> Array | None:
        return numbers(found[node]) if node in found else None

    return Scene(loss._node, lambda node: numbers_of(node.value), gradient, lambda *_: [], lambda *_: [])
