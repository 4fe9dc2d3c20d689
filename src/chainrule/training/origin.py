"""Where a NaN or an infinity was born: the one search, wherever the values of a graph are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.graph import Array, Node
from chainrule.several import RESULT, Several, sources
from chainrule.training.state import finite


@dataclass(frozen=True)
class Origin:
    """The first node of a graph whose value is not finite although everything it was computed from is.

    Attributes:
        node: the node.
        position: its first element that is not finite, in row-major order.
        value: that element.
        read: the elements of the inputs that it was computed from, where it is one of each (elementwise operations).
    """

    node: Node
    position: int
    value: float
    read: list[float]

    @property
    def index(self) -> tuple[int, ...]:
        """The index of the element."""
        return tuple(int(i) for i in np.unravel_index(self.position, self.node.shape)) if self.node.shape else ()


def origin(order: Iterable[Node], value: Callable[[Node], Array]) -> Origin | None:
    """The first of these nodes, in the order of computation, that makes NaN or infinity out of finite inputs.

    A node without inputs is none: a constant may be infinite on purpose (a mask), and a leaf was given so.

    Args:
        value: gives the value of a node.
    """
    for node in order:
        if not node.inputs or isinstance(node, Several):
            continue
        if not finite(value(node)) and all(finite(value(source)) for source in sources(node)):
            return _of(node, value)
    return None


def _of(node: Node, value: Callable[[Node], Array]) -> Origin:
    array: np.ndarray[Any, Any] = value(node)
    position = int(np.argmax(~np.isfinite(array)))
    read = []
    if all(maker.op.kind == "elementwise" for maker in (node.inputs if node.op is RESULT else (node,))):
        read = [float(np.broadcast_to(value(source), array.shape).flat[position]) for source in sources(node)]
    return Origin(node, position, float(array.flat[position]), read)
