"""A loop whose steps run one after the other, in the schedule: one kernel that holds the schedule of its region."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chainrule.compiler.schedule.index import Expr
from chainrule.compiler.schedule.kernels import Kernel, Result, Store
from chainrule.graph import Node

if TYPE_CHECKING:
    from chainrule.compiler.schedule.schedule import Schedule


@dataclass(eq=False)
class Serial(Kernel):
    """The kernels of `body`, `steps` times.

    Each of these says which node of the region stands for which buffer outside: `whole` as it is, `slices` for one entry at
    each step, `stacks` likewise for what a step writes; `carries` for the buffer that a step reads, and what it leaves there.
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
