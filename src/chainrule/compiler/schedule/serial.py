"""A schedule: kernels in order. A loop whose steps come one after the other is one that holds the schedule of its region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from chainrule.compiler.schedule.index import Expr
from chainrule.compiler.schedule.kernels import Kernel, Result, Store
from chainrule.graph import Graph, Node


@dataclass(eq=False)
class Serial(Kernel):
    """The kernels of `body`, `steps` times.

    Each of these says which node of the region stands for which buffer outside: `whole` as it is, `slices` for one entry at
    each step, `stacks` for what a step writes as one entry of it; `carries` for the buffer that a step reads, and what it leaves there.
    """

    body: Schedule = field(kw_only=True)
    steps: int = field(kw_only=True)
    reverse: bool = field(kw_only=True)
    whole: list[tuple[Node, Node]] = field(kw_only=True)
    carries: list[tuple[Node, Node, Node]] = field(kw_only=True)
    slices: list[tuple[Node, Node]] = field(kw_only=True)
    stacks: list[tuple[Node, Node]] = field(kw_only=True)

    def writes(self, node: Node) -> None:
        """Note a buffer that its steps write."""
        self.stores.append(Store(node, Expr(), Result(node.dtype)))


@dataclass
class Schedule:
    """Kernels in order, and the nodes that own a buffer."""

    graph: Graph
    kernels: list[Kernel]
    checks: list[Node] = field(default_factory=list)  # by code: the check_index nodes
    copies: list[tuple[Node, Node]] = field(default_factory=list)

    def buffers(self) -> list[Node]:
        """Every node with a buffer of its own, in order of first use."""
        seen: dict[Node, None] = dict.fromkeys(self.graph.inputs)
        for kernel in self.kernels:
            seen.update(dict.fromkeys([*kernel.reads(), *(store.node for store in kernel.stores)]))
        return list(seen)

    def all_kernels(self) -> Iterator[Kernel]:
        """The kernels, and those of the loops among them."""
        for kernel in self.kernels:
            yield from kernel.body.all_kernels() if isinstance(kernel, Serial) else (kernel,)
