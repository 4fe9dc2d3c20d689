"""A simulation of a memory plan: whoever reads a buffer must find there what was written last."""

from __future__ import annotations

import math

from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.nests import decided, divided
from chainrule.compiler.plan.summation import Summation, summation_of
from chainrule.compiler.plan.target import Target
from chainrule.compiler.program import Program
from chainrule.compiler.schedule.kernels import Chain, Check, Kernel, Reduce
from chainrule.compiler.schedule.loops import Accumulate, Contract, Nest, inside
from chainrule.compiler.schedule.memory import Place
from chainrule.compiler.schedule.verify import verify as verify_nest
from chainrule.compiler.schedule.verify import verify_products
from chainrule.equations import verify
from chainrule.graph import Node


def check_program(program: Program) -> None:
    """The graph is well formed at every stage, and the memory plan never loses a value."""
    verify(program.graph, "trace")
    verify(program.simplified, "simplified")
    check_plan(program)
    check_nests(program)


def check_nests(program: Program) -> None:
    """Every kernel's nest is whole after each pass over it."""
    nests, shares = program.nests, program.work_sharing.shares()
    verify_products(program.plan.kernels)
    for number, (kernel, share) in enumerate(zip(program.plan.kernels, shares, strict=True)):
        verify_nest(nests[number], kernel, "decided")
        check_order(nests[number], kernel)
        check_parts(kernel, nests.target)
        verify_nest(divided(nests[number], share), kernel, "divided")
        verify_nest(nests.written(number, share, Arguments.of(kernel, program.plan.places)), kernel, "as it is written")


def bytes_of(node: Node) -> int:
    return math.prod(node.shape) * node.dtype.itemsize


class Memory:
    """Which node's value each range of memory holds."""

    def __init__(self, places: dict[Node, Place]) -> None:
        self.places = places
        self.holds: dict[Node, bool] = {}
        self.complete = False

    def overlap(self, a: Node, b: Node) -> bool:
        x, y = self.places[a], self.places[b]
        if x.slot is not None or y.slot is not None:
            return x.slot == y.slot
        return x.offset < y.offset + bytes_of(b) and y.offset < x.offset + bytes_of(a)

    def write(self, node: Node) -> None:
        for other in self.holds:
            if other is not node and self.holds[other] and self.overlap(node, other):
                self.holds[other] = False
        self.holds[node] = True

    def read(self, node: Node, by: str) -> None:
        assert self.holds.get(node, False), f"{by} reads {node!r} at {self.places[node]}, which holds another value"


def check_order(nest: Nest, kernel: Kernel) -> None:
    """The order of each sum, as its loops run, is the one that is told outside."""
    if isinstance(kernel.core, Chain):
        return  # of each part by itself: see `check_parts`
    for statement in inside(nest.body):
        if isinstance(statement, Accumulate) and isinstance(statement.core, Reduce):
            told = summation_of(kernel, statement.core.result.stage)
            several = statement.sums * statement.across
            assert told is None or not statement.core.ordered or told.lanes == several
        if isinstance(statement, Contract):
            assert summation_of(kernel) == Summation(
                statement.core.terms,
                statement.tiles.spec.lanes,
                True,
                statement.core.k.size if statement.tiles.spec.halved else None,
            )


def check_parts(kernel: Kernel, target: Target) -> None:
    """The parts of a chain add as they would alone."""
    for part in kernel.core.parts if isinstance(kernel.core, Chain) else ():
        check_order(decided(part, target), part)


def check_plan(program: Program) -> None:
    plan = program.plan
    memory = Memory(plan.places)
    for node in [*program.graph.inputs, *program.constants]:
        if node in plan.places:
            memory.write(node)
    checks = [isinstance(kernel.core, Check) for kernel in plan.kernels]
    last_check = max((i for i, is_check in enumerate(checks) if is_check), default=-1)
    for number, kernel in enumerate(plan.kernels):
        for node in kernel.reads():
            memory.read(node, f"kernel {number}")
        for store in kernel.stores:
            place = plan.places[store.node]
            assert place.slot is None or number > last_check, f"kernel {number} writes {place} before a check"
            assert place.slot is not None or place.offset + bytes_of(store.node) <= plan.arena
            memory.write(store.node)
    for node, slot in plan.copies:
        memory.read(node, "a copy")
        assert plan.places[node].slot != slot
    for node, slot in zip(program.simplified.outputs, program.written, strict=True):
        if (node, slot) not in plan.copies:
            assert plan.places[node].slot == slot
            memory.read(node, "the caller")
