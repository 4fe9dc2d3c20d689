"""The module of a program: one function a distinct kernel, the step that calls them, the loop of steps.

    run(table, strides, arena, moving, steps, thread, threads, sync) -> status

Every thread of a run enters with a table of its own and its number; thread 0 is the caller. A divided kernel
gives each thread a range of its units of work, any other runs on thread 0. A barrier stands only where a
kernel touches what another thread wrote, or overwrites what another may still read. Each output element is
computed by one thread in one order, so its bits do not depend on how many there are.

`sync` points to four cache lines: arrivals at the barrier, its generation, the status, and the address of
the operating system's function that yields the processor (or 0).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from chainrule.compiler import memory
from chainrule.compiler.kernels import Check, Compute, Dot, Kernel, Reduce, Rows, walk
from chainrule.compiler.lower import Lowered, lower
from chainrule.compiler.memory import Place, Plan
from chainrule.compiler.native import Machine
from chainrule.graph import Node

# In units of one addition of a float, about 0.02 ns each on one core with vectors.
DIVIDE_KERNEL = 30_000  # below, handing out the parts costs more than it saves
DIVIDE_PROGRAM = 1_000_000  # a step of less work has no use for threads, however often it runs
WAKE = 20_000_000  # a run of less work is over before the workers are awake
SYNC_BYTES = 256


def work_of(kernel: Kernel) -> int:
    """What a kernel costs, in additions of one element."""
    elements = 1
    for var in kernel.loops:
        elements *= var.size
    if isinstance(kernel.core, Dot):
        return elements * kernel.core.k.size + 4 * elements
    if isinstance(kernel.core, (Reduce, Rows)):
        for var in kernel.core.dims:
            elements *= var.size
    each = sum(value.op.cost for value in walk(kernel.roots()) if isinstance(value, Compute))
    return elements * (each + 2)


def work_of_step(plan: Plan) -> int:
    """What a step costs."""
    return sum(map(work_of, plan.kernels))


def threads_for(work: int, steps: int, limit: int) -> int:
    """How many of at most `limit` threads so many steps of so much work are worth."""
    return limit if work >= DIVIDE_PROGRAM and work * steps >= WAKE else 1


def thresholds() -> tuple[int, int]:
    """What decides which kernels are divided."""
    return DIVIDE_KERNEL, DIVIDE_PROGRAM


@dataclass
class Call:
    """A kernel's place in the step."""

    name: str
    function: Lowered
    places: list[Place]
    kernel: Kernel
    reads: list[Range]
    writes: list[Range]

    @property
    def divided(self) -> bool:
        return self.function.units > 1


@dataclass(frozen=True)
class Range:
    """Bytes of one buffer: entry `slot` of the table, or the arena (slot -1)."""

    slot: int
    start: int
    end: int

    def meets(self, other: Range) -> bool:
        return self.slot == other.slot and self.start < other.end and other.start < self.end


class ModuleWriter:
    """Writes the text of a module for one machine."""

    def __init__(self, plan: Plan, texts: list[tuple[str, list[Place], dict[Node, str]]], machine: Machine) -> None:
        self.plan, self.machine = plan, machine
        self.threaded = work_of_step(plan) >= DIVIDE_PROGRAM
        self.functions: dict[str, Lowered] = {}
        self.calls = [self._call(k, *text) for k, text in zip(plan.kernels, texts, strict=True)]
        self.scratch = max((f.scratch for f in self.functions.values()), default=0)
        self.lines: list[str] = []
        self.count = 0

    def _call(self, kernel: Kernel, text: str, places: list[Place], names: dict[Node, str]) -> Call:
        code = str(kernel.core.code) if isinstance(kernel.core, Check) else ""
        name = "k" + hashlib.sha256((text + code).encode()).hexdigest()[:12]
        if name not in self.functions:
            divide = self.threaded and work_of(kernel) >= DIVIDE_KERNEL
            self.functions[name] = lower(kernel, name, names, self.machine.target, divide)
        reads, writes = map(self._ranges, (kernel.reads(), [store.node for store in kernel.stores]))
        return Call(name, self.functions[name], places, kernel, reads, writes)

    def _ranges(self, nodes: list[Node]) -> list[Range]:
        result = []
        for node in nodes:
            place = self.plan.places[node]
            slot = -1 if place.slot is None else place.slot
            result.append(Range(slot, place.offset, place.offset + memory.size_of(node)))
        return result

    def text(self) -> str:
        """The whole module."""
        step = self._step()
        declarations: set[str] = set()
        for function in self.functions.values():
            declarations |= function.declarations
        if self.plan.copies:
            declarations.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        enter, leave, asked = flush_denormals(self.machine.triple)
        pause, pause_declaration = _pause(self.machine.triple)
        parts = [
            *sorted(declarations | set(asked) | set(pause_declaration)),
            *(f.text.replace("define ", "define internal ", 1) for f in self.functions.values()),
            _BARRIER % {"pause": pause},
            step,
            _RUN % {"enter": enter, "leave": leave},
            # Without the last, LLVM halves 64-byte vectors on some CPUs that have them.
            'attributes #0 = { nounwind noinline "prefer-vector-width"="512" }',
        ]
        return "\n".join(parts)

    # -- the step ---------------------------------------------------------------------------------
    def _fresh(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def _step(self) -> str:
        head = "define internal i64 @step(ptr %table, ptr %arena, i64 %thread, i64 %threads, ptr %sync) #0 {"
        self.lines = [head, "entry:"]
        pointers = self._pointers()
        self.lines += [
            f"  %own = mul i64 %thread, {self.scratch}",
            f"  %after = add i64 %own, {self.plan.arena}",
            "  %scratch = getelementptr i8, ptr %arena, i64 %after",
            "  %status = getelementptr i8, ptr %sync, i64 128",
            "  %first = icmp eq i64 %thread, 0",
        ]
        hazards = _Hazards()
        for call in self.calls:
            self._guard(hazards, call)
            arguments = [f"ptr {pointers[place]}" for place in call.places]
            arguments += ["ptr %scratch"] * bool(call.function.scratch)
            if call.divided:
                self._divided(call, arguments)
            else:
                self._alone(call, arguments)
            if isinstance(call.kernel.core, Check):
                self._stop_on_failure()
                hazards = _Hazards()
        self._copies(pointers)
        if self.threaded:
            self._barrier()
        return "\n".join([*self.lines, "  ret i64 0", "}"])

    def _pointers(self) -> dict[Place, str]:
        pointers: dict[Place, str] = {}
        used = [place for call in self.calls for place in call.places]
        used += [self.plan.places[node] for node, _ in self.plan.copies]
        used += [Place(slot) for _, slot in self.plan.copies]
        for place in used:
            if place not in pointers:
                pointers[place] = f"%b{len(pointers)}"
                self.lines += _pointer(pointers[place], place)
        return pointers

    def _guard(self, hazards: _Hazards, call: Call) -> None:
        """A barrier, if the kernel would meet another thread's writes or reads."""
        if self.threaded and hazards.meets(call):
            self._barrier()
            hazards.clear()
        hazards.add(call)

    def _barrier(self) -> None:
        self.lines.append("  call void @barrier(ptr %sync, i64 %threads)")

    def _divided(self, call: Call, arguments: list[str]) -> None:
        """This thread's share: units * thread / threads up to units * (thread + 1) / threads."""
        start, low, high, following = (self._fresh("%d") for _ in range(4))
        units = call.function.units
        self.lines += [
            f"  {start} = mul i64 %thread, {units}",
            f"  {low} = udiv i64 {start}, %threads",
            f"  {following} = add i64 {start}, {units}",
            f"  {high} = udiv i64 {following}, %threads",
        ]
        self.lines.append(f"  call void @{call.name}({', '.join([*arguments, f'i64 {low}', f'i64 {high}'])})")

    def _alone(self, call: Call, arguments: list[str]) -> None:
        """On thread 0; where the program is never divided, there is no other."""
        then, other = self._fresh("then"), self._fresh("other")
        if self.threaded:
            self.lines += [f"  br i1 %first, label %{then}, label %{other}", f"{then}:"]
        listed = ", ".join(arguments)
        if isinstance(call.kernel.core, Check):
            found = self._fresh("%s")
            self.lines += [f"  {found} = call i64 @{call.name}({listed})", f"  store i64 {found}, ptr %status, align 8"]
        else:
            self.lines.append(f"  call void @{call.name}({listed})")
        if self.threaded:
            self.lines += [f"  br label %{other}", f"{other}:"]

    def _stop_on_failure(self) -> None:
        """All threads learn what the check found, and leave together if it failed."""
        if self.threaded:
            self._barrier()
        found, failed, stop, go_on = (self._fresh(h) for h in ("%s", "%f", "stop", "go"))
        self.lines += [
            f"  {found} = load i64, ptr %status, align 8",
            f"  {failed} = icmp ne i64 {found}, 0",
            f"  br i1 {failed}, label %{stop}, label %{go_on}",
            f"{stop}:", f"  ret i64 {found}", f"{go_on}:",
        ]  # fmt: skip

    def _copies(self, pointers: dict[Place, str]) -> None:
        if not self.plan.copies:
            return
        then, other = self._fresh("then"), self._fresh("other")
        if self.threaded:
            self._barrier()
            self.lines += [f"  br i1 %first, label %{then}, label %{other}", f"{then}:"]
        for node, slot in self.plan.copies:
            source, target = pointers[self.plan.places[node]], pointers[Place(slot)]
            size = memory.bytes_of(node)
            self.lines.append(f"  call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")
        if self.threaded:
            self.lines += [f"  br label %{other}", f"{other}:"]


class _Hazards:
    """What was touched since the last barrier, by thread 0 alone and by all."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.read: dict[bool, list[Range]] = {True: [], False: []}
        self.written: dict[bool, list[Range]] = {True: [], False: []}

    def add(self, call: Call) -> None:
        self.read[call.divided] += call.reads
        self.written[call.divided] += call.writes

    def meets(self, call: Call) -> bool:
        """Might another thread have written what the kernel touches, or still read what it writes?"""
        others = (True, False) if call.divided else (True,)
        return any(
            _meet(call.reads + call.writes, self.written[kind]) or _meet(call.writes, self.read[kind])
            for kind in others
        )


def _meet(a: list[Range], b: list[Range]) -> bool:
    return any(x.meets(y) for x in a for y in b)


def _pointer(name: str, place: Place) -> list[str]:
    if place.slot is None:
        return [f"  {name} = getelementptr i8, ptr %arena, i64 {place.offset}"]
    return [
        f"  {name}s = getelementptr ptr, ptr %table, i64 {place.slot}",
        f"  {name} = load ptr, ptr {name}s, align 8",
    ]


def _pause(triple: str) -> tuple[str, list[str]]:
    """IR that tells the CPU it is waiting, and its declaration."""
    if triple.startswith(("x86_64", "i686", "amd64")):
        return "call void @llvm.x86.sse2.pause()", ["declare void @llvm.x86.sse2.pause()"]
    if triple.startswith(("aarch64", "arm64")):
        return "call void @llvm.aarch64.hint(i32 1)", ["declare void @llvm.aarch64.hint(i32)"]
    return "", []


def flush_denormals(triple: str) -> tuple[str, str, list[str]]:
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


# Arrivals are counted; the last to arrive starts the next generation, which the others wait for: first
# spinning, since the wait is short, then yielding, since an oversubscribed machine must not crawl.
_BARRIER = """define internal void @barrier(ptr %%sync, i64 %%threads) #0 {
entry:
  %%alone = icmp eq i64 %%threads, 1
  br i1 %%alone, label %%done, label %%arrive
arrive:
  %%generation.address = getelementptr i8, ptr %%sync, i64 64
  %%generation = load atomic i64, ptr %%generation.address acquire, align 8
  %%before = atomicrmw add ptr %%sync, i64 1 acq_rel
  %%arrived = add i64 %%before, 1
  %%last = icmp eq i64 %%arrived, %%threads
  br i1 %%last, label %%open, label %%wait
open:
  store atomic i64 0, ptr %%sync release, align 8
  %%next = add i64 %%generation, 1
  store atomic i64 %%next, ptr %%generation.address release, align 8
  br label %%done
wait:
  %%turns = phi i64 [ 0, %%arrive ], [ %%more, %%spin ], [ 0, %%yielded ]
  %%now = load atomic i64, ptr %%generation.address acquire, align 8
  %%opened = icmp ne i64 %%now, %%generation
  br i1 %%opened, label %%done, label %%turn
turn:
  %%long = icmp sgt i64 %%turns, 200
  br i1 %%long, label %%give, label %%spin
spin:
  %(pause)s
  %%more = add i64 %%turns, 1
  br label %%wait
give:
  %%yield.address = getelementptr i8, ptr %%sync, i64 192
  %%yield = load ptr, ptr %%yield.address, align 8
  %%has = icmp ne ptr %%yield, null
  br i1 %%has, label %%call, label %%yielded
call:
  %%ignored = call i32 %%yield()
  br label %%yielded
yielded:
  br label %%wait
done:
  ret void
}
"""

_RUN = """define i64 @run(ptr %%table, ptr %%strides, ptr %%arena, i64 %%moving, i64 %%steps, i64 %%thread, i64 %%threads, ptr %%sync) #0 {
entry:
%(enter)s
  br label %%head
head:
  %%i = phi i64 [ 0, %%entry ], [ %%following, %%moved ]
  %%more = icmp slt i64 %%i, %%steps
  br i1 %%more, label %%body, label %%done
body:
  %%status = call i64 @step(ptr %%table, ptr %%arena, i64 %%thread, i64 %%threads, ptr %%sync)
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
  ; nobody leaves before all have let go of their tables: the caller fills them anew
  call void @barrier(ptr %%sync, i64 %%threads)
%(leave)s
  ret i64 %%result
}
"""
