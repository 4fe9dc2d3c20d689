"""A whole program: the graph of a step, carried through every stage to one native function.

    run(frame of table, strides, arena, moving, steps, ...) -> status

runs `steps` steps. Entry i of `table` points to a buffer; after each step the first `moving` entries
advance by their strides, so that arguments and results may be stacked. A status that is not 0 holds the
code of the check that failed (low 16 bits) and the step (the rest).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import indent
from typing import NamedTuple

from chainrule.compiler.codegen import entry
from chainrule.compiler.codegen.exported import ExportWriter, Global
from chainrule.compiler.codegen.module import ModuleWriter
from chainrule.compiler.passes.simplify import simplified
from chainrule.compiler.plan import cost
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.nests import Nests
from chainrule.compiler.plan.work_sharing import WorkSharing
from chainrule.compiler.runtime import native, tuning
from chainrule.compiler.runtime.units import Unit
from chainrule.compiler.schedule import memory
from chainrule.compiler.schedule.kernels import Check, print_kernel
from chainrule.compiler.schedule.likeness import likeness
from chainrule.compiler.schedule.loops_text import print_nest
from chainrule.compiler.schedule.memory import MemoryPlan
from chainrule.compiler.schedule.schedule import copy_of, schedule
from chainrule.compiler.schedule.serial import Schedule
from chainrule.equations import print_graph
from chainrule.errors import unknown_name
from chainrule.graph import INPUT, LEAF, Graph, Node

LOOP = "loop"  # the name that the loop of steps has among kernels, whose names are digits after a k
# So many calls of kernels, one after the other, are compiled without effort, which takes a fifth of the time and costs a step of
# 775 calls no time that could be measured (255 us, Zen 4). Fewer of them take LLVM a quarter less time at -O1 than at -O2.
LONG = 256
# A step that should run for so many nanoseconds is compiled without effort too: in 6 ms instead of 15 (four layers and Adam). One of
# 60 us runs 0.5 us longer for that, one of 2.6 us 0.05 us; of one of 630 us nothing could be measured (AVX-512, Intel).
LENGTHY = 100_000.0


class Made(NamedTuple):
    """What running a program takes; nothing in it is of one program alone.

    Attributes:
        code: the native function.
        sharing: how threads share its kernels.
        arena, scratch: bytes of memory for what it computes, and for each thread.
    """

    code: native.Code
    sharing: WorkSharing
    arena: int
    scratch: int

    def working(self, threads: int) -> int:
        """Bytes of working memory a run needs."""
        return self.arena + self.scratch * threads


@dataclass
class Program:
    """Every stage of one compiled graph.

    `graph` is as traced; `slots` gives the table entry of each input, `written` that of each output, in
    the order of ``graph.outputs``.
    """

    graph: Graph
    slots: dict[Node, int]
    written: list[int]
    names: dict[int, str] = field(default_factory=dict)
    machine: native.Machine = field(default_factory=tuning.machine)
    watched: bool = False  # keep every value that has a buffer: the same kernels, in memory that nothing shares

    @cached_property
    def _simplified(self) -> tuple[Graph, dict[Node, Node]]:
        return simplified(self.graph)

    @property
    def images(self) -> dict[Node, Node]:
        """What simplification made of each node of `graph`."""
        return self._simplified[1]

    @cached_property
    def simplified(self) -> Graph:
        graph = self._simplified[0]
        # An input that is also an output is copied by a kernel, before anything overwrites it.
        outputs = [copy_of(n) if n.op in (INPUT, LEAF) else n for n in graph.outputs]
        return Graph(graph.inputs, outputs, graph.names)

    @cached_property
    def schedule(self) -> Schedule:
        return schedule(self.simplified, self.watched)

    @cached_property
    def constants(self) -> list[Node]:
        """Arrays made while tracing: inputs whose value never changes."""
        return [node for node in self.simplified.nodes() if node.op is LEAF]

    @cached_property
    def table(self) -> int:
        """The number of table entries."""
        return max([*self.slots.values(), *self.written, -1]) + 1 + len(self.constants)

    @cached_property
    def plan(self) -> MemoryPlan:
        first = self.table - len(self.constants)
        slots = {**self.slots, **{node: first + i for i, node in enumerate(self.constants)}}
        return memory.plan(
            self.schedule, slots, list(zip(self.simplified.outputs, self.written, strict=True)), self.watched
        )

    @cached_property
    def identity(self) -> str:
        """The text that determines the machine code."""
        lines = [f"arena {self.plan.arena}", f"divide {cost.constants()}"]
        for number, (kernel, (text, arguments)) in enumerate(zip(self.plan.kernels, self._texts, strict=True)):
            code = kernel.core.code if isinstance(kernel.core, Check) else ""
            places = ", ".join(map(str, arguments.places))
            lines.append(f"{text}\n  @ {places} {code} {self.nests.cuts(number)}")
        lines += [f"steps {loop.first} {loop.last} {loop.count} {self._copied(loop)}" for loop in self.plan.loops]
        lines += [f"copy {self.plan.places[node]} -> {slot}: {memory.size_of(node)}" for node, slot in self.plan.copies]
        return "\n".join(lines)

    @staticmethod
    def _copied(loop: memory.Steps) -> str:
        return ", ".join(f"{source} -> {target}: {size}" for source, target, size in loop.copies)

    @cached_property
    def _texts(self) -> list[tuple[str, Arguments]]:
        """Each kernel's text over parameters p0, p1, ..., and what those stand for."""
        result = []
        for kernel in self.plan.kernels:
            arguments = Arguments.of(kernel, self.plan.places)
            result.append((f"({arguments}) {print_kernel(kernel, arguments.at)}", arguments))
        return result

    # -- native code ----------------------------------------------------------------------------
    @cached_property
    def made(self) -> Made:
        """The code, made once for equal programs: the next training of a network takes it, unscheduled, as it stands.

        Only what a run reads is taken over. Kernels, buffers and checks name nodes, so each program has its own, once asked;
        one that is watched is read by them.
        """
        graph = likeness(self.simplified) if not self.watched else None
        if graph is None:
            return self._make()
        slots = tuple(self.slots.get(node) for node in self.simplified.nodes())
        machine = self.machine.identity, self.machine.target, cost.constants()
        return native.made_once((graph, slots, tuple(self.written), self.table, machine), self._make)

    def _make(self) -> Made:
        code = native.cached(self.identity, self._units)
        return Made(code, self.work_sharing, self.plan.arena, self.scratch)

    @property
    def code(self) -> native.Code:
        return self.made.code

    def _units(self) -> list[Unit]:
        """The loop of steps, the step and its kernels; what other programs have too is compiled once."""
        loop = native.alone(LOOP, entry.module(self.machine.triple, self.machine.target.clears))
        kernels = native.shared(self.module.kernels, self.module.text_of_kernels)
        return [*loop, native.compiled(self.module.text_of_step(), effort=self.effort), *kernels]

    @property
    def effort(self) -> int:
        """LLVM's, for the step, which computes nothing by itself."""
        return 0 if len(self.plan.kernels) > LONG or self.work_sharing.total > LENGTHY else 1

    @cached_property
    def module(self) -> ModuleWriter:
        """The functions of all kernels, and the step that calls them."""
        return ModuleWriter(self.plan, self.work_sharing, self._texts, self.machine.target, self.machine.triple)

    @cached_property
    def llvm(self) -> str:
        """The module as text."""
        return self.module.text()

    @cached_property
    def nests(self) -> Nests:
        """The kernels with all that is decided about their loops."""
        return Nests(self.plan.kernels, self.machine.target)

    @cached_property
    def work_sharing(self) -> WorkSharing:
        """How threads share the kernels."""
        return WorkSharing(self.plan, self.nests)

    @cached_property
    def scratch(self) -> int:
        """Bytes that the kernel that needs most of them packs factors into and has for itself, for each thread, behind the arena."""
        return max((self.nests[number].scratch for number in range(len(self.plan.kernels))), default=0)

    # -- elsewhere ----------------------------------------------------------------------------------
    def elsewhere(self, cpu: str) -> Program:
        """The program for another CPU."""
        machine = native.Machine(cpu)
        return Program(self.graph, self.slots, self.written, self.names, machine, self.watched)

    def exported(self, name: str, pointers: int, kept: Sequence[Global]) -> bytes:
        """An object file with the step as a function that needs nothing of this process.

        Args:
            pointers: how many entries of the table are its parameters.
            kept: what stands in place of the others, but for constants.
        """
        data = [node.value.tobytes() for node in self.constants]
        constants = [Global(f"{name}.constant{i}", bytes, fixed=True, own=True) for i, bytes in enumerate(data)]
        alone = WorkSharing(self.plan, self.nests, divided=False)
        machine, globals = self.machine, [*kept, *constants]
        writer = ExportWriter(self.plan, alone, self._texts, machine.target, machine.triple, name, pointers, globals)
        return native.linkable(writer.text(), machine)

    # -- showing ----------------------------------------------------------------------------------
    def show(self, stage: str, cpu: str | None = None) -> str:
        """The program as text at one stage of the compiler; for another CPU, if one is named."""
        if cpu is not None:
            return self.elsewhere(cpu).show(stage)
        stages: dict[str, Callable[[], str]] = {
            "trace": lambda: print_graph(self.graph),
            "graph": lambda: print_graph(self.simplified),
            "kernels": self._show_kernels,
            "loops": self._show_loops,
            "memory": self._show_memory,
            "llvm": lambda: self.llvm,
            "asm": lambda: native.assembly(self.llvm, self.machine),
        }
        if stage not in stages:
            raise unknown_name("stage", stage, list(stages))
        return stages[stage]()

    def _buffer_names(self) -> dict[Node, str]:
        names = dict(self.graph.names)
        for node in self.plan.places:
            if node not in names:
                slot = self.plan.places[node].slot
                names[node] = self.names.get(slot, f"t{len(names)}") if slot is not None else f"t{len(names)}"
        return names

    def _show_kernels(self) -> str:
        names = self._buffer_names()
        texts = [print_kernel(kernel, lambda node, index: (names[node], index)) for kernel in self.plan.kernels]
        return self._listed(texts)

    def _show_loops(self) -> str:
        """The kernels with all that was decided about them, as their code is written."""
        names, shares = self._buffer_names(), self.work_sharing.shares()
        texts = []
        for number, (kernel, share) in enumerate(zip(self.plan.kernels, shares, strict=True)):
            nest = self.nests.written(number, share, self._texts[number][1])
            texts.append(print_nest(nest, kernel, lambda node, index: (names[node], index)))
        return self._listed(texts)

    def _listed(self, texts: list[str]) -> str:
        """The texts of all kernels, in the loops around them."""
        parts = []
        for number, (kernel, text) in enumerate(zip(self.plan.kernels, texts, strict=True)):
            around = [(i, loop) for i, loop in enumerate(self.plan.loops) if loop.first <= number < loop.last]
            for depth, (i, loop) in enumerate(around):
                if number == loop.first:
                    head = f"for each step t{i} < {loop.count}, kernels {number} to {loop.last - 1}:"
                    parts.append(indent(head, "  " * depth))
            where = f"  # {kernel.layer}" if kernel.layer else ""
            parts.append(indent(f"kernel {number}{where}\n{text}", "  " * len(around)))
        return "\n\n".join(parts) + "\n"

    def _show_memory(self) -> str:
        names = self._buffer_names()
        rows = [
            f"{names[node]:24} {node.type!s:20} {memory.bytes_of(node):>12,}  {place}"
            for node, place in self.plan.places.items()
        ]
        first = self.table - len(self.constants)
        read = {*self.slots.values(), *range(first, self.table)}
        rows.append(memory.summary(self.plan, read, set(self.written), self.scratch))
        return "\n".join(rows) + "\n"
