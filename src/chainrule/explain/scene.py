"""A loss and everything it depends on, with values and gradients: what a derivation walks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chainrule import graph
from chainrule.autodiff import gradients
from chainrule.compiler.kernels import Kernel, Result
from chainrule.compiler.summation import Summation, summation_of
from chainrule.compiler.watch import Watched
from chainrule.errors import GradientError
from chainrule.graph import Array, Node
from chainrule.tensor import Tensor
from chainrule.tensor.creation import ones_like

if TYPE_CHECKING:
    from chainrule.explain.moment import Moment


@dataclass(eq=False)
class Scene:
    """The nodes between some leaves and a loss.

    Attributes:
        loss: the node everything leads to.
        value, gradient: the arrays of a node; no gradient where the loss does not depend on it.
        order: in which order the program adds an element of a node's gradient, where that is known.
        names: what to call a node, beside its layer and op.
        title: where and when this is, for headings.
    """

    loss: Node
    value: Callable[[Node], Array]
    gradient: Callable[[Node], Array | None]
    order: Callable[[Node, int], Summation | None]
    names: dict[Node, str] = field(default_factory=dict)
    title: str = ""

    def __post_init__(self) -> None:
        self.readers: dict[Node, list[tuple[Node, int]]] = {}
        for node in graph.toposort([self.loss]):
            if node.requires_grad:
                for argument, source in enumerate(node.inputs):
                    if source.requires_grad:
                        self.readers.setdefault(source, []).append((node, argument))

    def name(self, node: Node) -> str:
        """A parameter's name; else the layer and the op."""
        if node in self.names:
            return self.names[node]
        if node is self.loss:
            return "loss"
        return f"{node.layer}: {node.op.name}" if node.layer else node.op.name


def of_moment(moment: Moment) -> Scene:
    """A recorded step, as its native program computed it."""
    watched = moment.watched
    kernels = _kernels(watched)

    def gradient(node: Node) -> Array | None:
        found = watched.trace.gradients.get(node)
        return None if found is None else watched.value(found)

    def order(node: Node, position: int) -> Summation | None:
        found = watched.trace.gradients.get(node)
        image = watched.program.images.get(found) if found is not None else None
        kernel = kernels.get(image) if image is not None else None
        return None if kernel is None else summation_of(kernel, watched.program.machine.target, position)

    names = {}
    for name, handle in moment.run.trainer.model.named_parameters():
        node = watched.before(handle)
        if node is not None:
            names[node] = name
    title = f"step {moment.step}"
    return Scene(watched.trace.notes["loss"], watched.value, gradient, order, names, title)


def _kernels(watched: Watched) -> dict[Node, Kernel]:
    """By node, the kernel whose core computes it as it is stored."""
    return {
        store.node: kernel
        for kernel in watched.program.plan.kernels
        for store in kernel.stores
        if isinstance(store.value, Result)
    }


def of_graph(loss: Tensor) -> Scene:
    """An eager graph."""
    if not loss.requires_grad or loss.numel() != 1:
        raise GradientError(
            f"explain: the loss must be one number that depends on a tensor with requires_grad=True, got shape "
            f"{loss.shape}{'' if loss.requires_grad else ' without a history'}. Reduce it (.sum(), .mean()), before "
            f"backward() frees its history."
        )
    nodes = [node for node in graph.toposort([loss._node]) if node.requires_grad]
    found = gradients([loss], [ones_like(loss)], nodes)

    def gradient(node: Node) -> Array | None:
        return found[node]._node.value if node in found else None

    return Scene(loss._node, lambda node: node.value, gradient, lambda node, position: None)
