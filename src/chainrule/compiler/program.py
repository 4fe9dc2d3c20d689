"""A whole program: the graph of a step, carried through every stage to one native function.

    run(table, strides, arena, moving, steps) -> status

runs `steps` steps. Entry i of `table` points to a buffer; after each step the first `moving` entries
advance by their strides, so that arguments and results may be stacked. A status that is not 0 holds the
code of the check that failed (low 16 bits) and the step (the rest).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from chainrule.compiler import memory, native
from chainrule.compiler.kernels import Check, Kernel, print_kernel
from chainrule.compiler.lower import Lowered, lower, scratch_of
from chainrule.compiler.memory import Place, Plan
from chainrule.compiler.schedule import Schedule, schedule
from chainrule.compiler.simplify import simplify
from chainrule.errors import unknown_name
from chainrule.graph import INPUT, LEAF, Graph, Node, print_graph
from chainrule.ops import elementwise as ew

FORMAT = 1  # raise it when the same kernels begin to mean other machine code


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
    machine: native.Machine = field(default_factory=native.machine)

    @cached_property
    def simplified(self) -> Graph:
        graph = simplify(self.graph)
        # An input that is also an output is copied by a kernel, before anything overwrites it.
        outputs = [Node(ew.alias, (n,), {}, n.type) if n.op in (INPUT, LEAF) else n for n in graph.outputs]
        return Graph(graph.inputs, outputs, graph.names)

    @cached_property
    def schedule(self) -> Schedule:
        return schedule(self.simplified)

    @cached_property
    def constants(self) -> list[Node]:
        """Arrays made while tracing: inputs whose value never changes."""
        return [node for node in self.simplified.nodes() if node.op is LEAF]

    @cached_property
    def table(self) -> int:
        """The number of table entries."""
        return max([*self.slots.values(), *self.written, -1]) + 1 + len(self.constants)

    @cached_property
    def plan(self) -> Plan:
        first = self.table - len(self.constants)
        slots = {**self.slots, **{node: first + i for i, node in enumerate(self.constants)}}
        return memory.plan(self.schedule, slots, list(zip(self.simplified.outputs, self.written, strict=True)))

    @cached_property
    def identity(self) -> str:
        """The text that determines the machine code."""
        lines = [f"format {FORMAT}", f"arena {self.plan.arena}"]
        for kernel, (text, places) in zip(self.plan.kernels, self._texts, strict=True):
            code = kernel.core.code if isinstance(kernel.core, Check) else ""
            lines.append(f"{text}\n  @ {', '.join(map(str, places))} {code}")
        lines += [f"copy {self.plan.places[node]} -> {slot}: {memory.size_of(node)}" for node, slot in self.plan.copies]
        return "\n".join(lines)

    @cached_property
    def _texts(self) -> list[tuple[str, list[Place]]]:
        """Each kernel's text over parameters p0, p1, ..., and the places those stand for."""
        result = []
        for kernel in self.plan.kernels:
            names, places = self._parameters(kernel)
            types = {name: f"{name}: {node.dtype.short}" for node, name in names.items()}
            result.append((f"({', '.join(types.values())}) {print_kernel(kernel, names)}", places))
        return result

    def _parameters(self, kernel: Kernel) -> tuple[dict[Node, str], list[Place]]:
        """One pointer a place: buffers that share memory share it, so no two pointers alias."""
        names: dict[Node, str] = {}
        places: dict[Place, str] = {}
        for node in [*kernel.reads(), *(store.node for store in kernel.stores)]:
            names[node] = places.setdefault(self.plan.places[node], f"p{len(places)}")
        return names, list(places)

    # -- native code ----------------------------------------------------------------------------
    @cached_property
    def code(self) -> native.Code:
        return native.cached(self.identity, lambda: self.llvm)

    @cached_property
    def scratch(self) -> int:
        """Bytes that the largest packing of a factor needs, behind the arena."""
        return max((scratch_of(kernel, self.machine.target) for kernel in self.plan.kernels), default=0)

    @property
    def arena(self) -> int:
        """Bytes of working memory a run needs."""
        return self.plan.arena + self.scratch

    @cached_property
    def llvm(self) -> str:
        """The module: one function a distinct kernel, then the step, then the loop of steps."""
        functions: dict[str, Lowered] = {}
        calls: list[tuple[str, Lowered, list[Place], Kernel]] = []
        for kernel, (text, places) in zip(self.plan.kernels, self._texts, strict=True):
            code = str(kernel.core.code) if isinstance(kernel.core, Check) else ""
            name = "k" + hashlib.sha256((text + code).encode()).hexdigest()[:12]
            if name not in functions:
                functions[name] = lower(kernel, name, self._parameters(kernel)[0], self.machine.target)
            calls.append((name, functions[name], places, kernel))
        declarations = set().union(*(f.declarations for f in functions.values())) if functions else set()
        if self.plan.copies:
            declarations.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        body = [f.text.replace("define ", "define internal ", 1) for f in functions.values()]
        enter, leave, asked = _flush_denormals(self.machine.triple)
        parts = [
            *sorted(declarations | set(asked)), *body, self._step(calls), _RUN % {"enter": enter, "leave": leave},
            # Without the last, LLVM halves 64-byte vectors on some CPUs that have them.
            'attributes #0 = { nounwind noinline "prefer-vector-width"="512" }',
        ]  # fmt: skip
        return "\n".join(parts)

    def _step(self, calls: list[tuple[str, Lowered, list[Place], Kernel]]) -> str:
        lines = ["define internal i64 @step(ptr %table, ptr %arena) #0 {", "entry:"]
        pointers: dict[Place, str] = {}
        used = [place for _, _, places, _ in calls for place in places]
        used += [self.plan.places[node] for node, _ in self.plan.copies]
        used += [Place(slot) for _, slot in self.plan.copies]
        for place in used:
            if place not in pointers:
                pointers[place] = f"%b{len(pointers)}"
                lines += _pointer(pointers[place], place)
        lines.append(f"  %scratch = getelementptr i8, ptr %arena, i64 {self.plan.arena}")
        for number, (name, lowered, places, kernel) in enumerate(calls):
            arguments = [f"ptr {pointers[place]}" for place in places] + ["ptr %scratch"] * bool(lowered.scratch)
            listed = ", ".join(arguments)
            if isinstance(kernel.core, Check):
                lines += [
                    f"  %s{number} = call i64 @{name}({listed})",
                    f"  %f{number} = icmp ne i64 %s{number}, 0",
                    f"  br i1 %f{number}, label %stop{number}, label %go{number}",
                    f"stop{number}:", f"  ret i64 %s{number}", f"go{number}:",
                ]  # fmt: skip
            else:
                lines.append(f"  call void @{name}({listed})")
        for node, slot in self.plan.copies:
            source, target = pointers[self.plan.places[node]], pointers[Place(slot)]
            size = _bytes(node)
            lines.append(f"  call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")
        return "\n".join([*lines, "  ret i64 0", "}"])

    # -- showing ----------------------------------------------------------------------------------
    def show(self, stage: str, cpu: str | None = None) -> str:
        """The program as text at one stage of the compiler; for another CPU, if one is named."""
        if cpu is not None:
            elsewhere = native.Machine(cpu)
            return Program(self.graph, self.slots, self.written, self.names, elsewhere).show(stage)
        stages: dict[str, Callable[[], str]] = {
            "trace": lambda: print_graph(self.graph),
            "graph": lambda: print_graph(self.simplified),
            "kernels": self._show_kernels,
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
        parts = []
        for number, kernel in enumerate(self.plan.kernels):
            where = f"  # {kernel.layer}" if kernel.layer else ""
            parts.append(f"kernel {number}{where}\n{print_kernel(kernel, names)}")
        return "\n\n".join(parts) + "\n"

    def _show_memory(self) -> str:
        names = self._buffer_names()
        rows = [
            f"{names[node]:24} {node.type!s:20} {_bytes(node):>12,}  {place}"
            for node, place in self.plan.places.items()
        ]
        rows.append(f"arena: {self.plan.arena:,} bytes ({self.plan.without_reuse:,} without reuse), scratch {self.scratch:,}")
        return "\n".join(rows) + "\n"


def _bytes(node: Node) -> int:
    return math.prod(node.shape) * node.dtype.itemsize


def _pointer(name: str, place: Place) -> list[str]:
    if place.slot is None:
        return [f"  {name} = getelementptr i8, ptr %arena, i64 {place.offset}"]
    return [f"  {name}s = getelementptr ptr, ptr %table, i64 {place.slot}", f"  {name} = load ptr, ptr {name}s, align 8"]


def _flush_denormals(triple: str) -> tuple[str, str, list[str]]:
    """IR that has denormals flushed to zero from here on, IR that restores the caller's state, declarations."""
    if triple.startswith(("x86_64", "i686", "amd64")):
        enter = """  %csr = alloca i32, align 4
  %flushed = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %csr)
  %old = load i32, ptr %csr, align 4
  %new = or i32 %old, 32832
  store i32 %new, ptr %flushed, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %flushed)"""
        return enter, "  call void @llvm.x86.sse.ldmxcsr(ptr %csr)", [
            "declare void @llvm.x86.sse.stmxcsr(ptr)", "declare void @llvm.x86.sse.ldmxcsr(ptr)",
        ]  # fmt: skip
    if triple.startswith(("aarch64", "arm64")):
        enter = """  %old = call i64 @llvm.aarch64.get.fpcr()
  %new = or i64 %old, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %new)"""
        return enter, "  call void @llvm.aarch64.set.fpcr(i64 %old)", [
            "declare i64 @llvm.aarch64.get.fpcr()", "declare void @llvm.aarch64.set.fpcr(i64)",
        ]  # fmt: skip
    return "", "", []


_RUN = """define i64 @run(ptr %%table, ptr %%strides, ptr %%arena, i64 %%moving, i64 %%steps) #0 {
entry:
%(enter)s
  br label %%head
head:
  %%i = phi i64 [ 0, %%entry ], [ %%following, %%moved ]
  %%more = icmp slt i64 %%i, %%steps
  br i1 %%more, label %%body, label %%done
body:
  %%status = call i64 @step(ptr %%table, ptr %%arena)
  %%failed = icmp ne i64 %%status, 0
  br i1 %%failed, label %%stop, label %%move
move:
  %%j = phi i64 [ 0, %%body ], [ %%next, %%advance ]
  %%left = icmp slt i64 %%j, %%moving
  br i1 %%left, label %%advance, label %%moved
advance:
  %%entry.address = getelementptr ptr, ptr %%table, i64 %%j
  %%pointer = load ptr, ptr %%entry.address, align 8
  %%stride.address = getelementptr i64, ptr %%strides, i64 %%j
  %%stride = load i64, ptr %%stride.address, align 8
  %%forward = getelementptr i8, ptr %%pointer, i64 %%stride
  store ptr %%forward, ptr %%entry.address, align 8
  %%next = add i64 %%j, 1
  br label %%move
moved:
  %%following = add i64 %%i, 1
  br label %%head
stop:
  %%high = shl i64 %%i, 16
  %%code = or i64 %%high, %%status
  br label %%done
done:
  %%result = phi i64 [ 0, %%head ], [ %%code, %%stop ]
%(leave)s
  ret i64 %%result
}
"""
