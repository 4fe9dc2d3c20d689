"""The modules of a program: one function a distinct kernel, the step that calls them, the loop of steps.

    run(frame of table, strides, arena, moving, steps, thread, threads, sync) -> status

Every thread of a run enters with a table of its own and its number; thread 0 is the caller. A divided kernel
gives each thread a range of its units of work, any other runs on thread 0. A barrier stands only where a
kernel touches what another thread wrote, or overwrites what another may still read. Each output element is
computed by one thread in one order, so its bits do not depend on how many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chainrule.compiler.codegen import entry
from chainrule.compiler.codegen.lower import Lowered, lower
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.cut import Cut
from chainrule.compiler.plan.partition import Share
from chainrule.compiler.plan.target import Target
from chainrule.compiler.plan.work_sharing import WorkSharing
from chainrule.compiler.schedule import memory
from chainrule.compiler.schedule.kernels import Check, Kernel
from chainrule.compiler.schedule.memory import MemoryPlan, Place, Steps


@dataclass
class Call:
    """A kernel's place in the step."""

    name: str
    number: int  # among the kernels
    scratch: int  # bytes that its function needs
    places: list[Place]
    kernel: Kernel
    arguments: Arguments
    share: Share | None
    barrier: bool  # all threads meet before it

    @property
    def declaration(self) -> str:
        """The call's function, for a module that does not hold it."""
        types = ["ptr"] * len(self.places) + ["ptr"] * bool(self.scratch) + ["i64", "i64"] * (self.share is not None)
        return f"declare {'i64' if isinstance(self.kernel.core, Check) else 'void'} @{self.name}({', '.join(types)})"


# How many kernels one function of the step calls: LLVM takes longer for each the more there are, 1.7 s instead of 0.6 s for
# 9,000 of them in one.
PIECE = 512
PARAMETERS = "ptr %table, ptr %arena, i64 %thread, i64 %threads, ptr %sync"


def _piece(name: str, parameters: str) -> str:
    """The call of a piece of the step; what a check in it found ends the step."""
    return "\n".join([
        f"  %{name} = call i64 @{name}({parameters})", f"  %{name}.failed = icmp ne i64 %{name}, 0",
        f"  br i1 %{name}.failed, label %{name}.stop, label %{name}.go", f"{name}.stop:", f"  ret i64 %{name}", f"{name}.go:",
    ])  # fmt: skip


def _common(functions: Iterable[Lowered]) -> dict[str, Lowered]:
    """The functions that kernels share, of some kernels."""
    return {name: Lowered(f.function, set(f.declarations), {}) for each in functions for name, f in each.common.items()}


def _texts(functions: Iterable[Lowered]) -> list[str]:
    return [function.text for function in functions]


def _module(functions: Sequence[Lowered]) -> str:
    """A module of these functions alone."""
    declarations = set().union(*(function.declarations for function in functions))
    return "\n".join([*sorted(declarations), *_texts(functions), entry.ATTRIBUTES])


class ModuleWriter:
    """Writes the text of a program for one machine: as one module, or the kernels and the step each for themselves."""

    step = "step"  # its name, and with a number that of each piece it is made of
    parameters = PARAMETERS  # of the step and its pieces

    def __init__(
        self, plan: MemoryPlan, sharing: WorkSharing, texts: list[tuple[str, Arguments]], target: Target, triple: str
    ) -> None:
        self.plan, self.nests, self.target, self.triple = plan, sharing.nests, target, triple
        self.threaded = sharing.threaded
        ways = enumerate(zip(plan.kernels, sharing.shares(), sharing.barriers(), texts, strict=True))
        self.calls = [
            self._call(number, kernel, share, barrier, *text) for number, (kernel, share, barrier, text) in ways
        ]
        self.kernels: dict[
            str, Call
        ] = {}  # the first call of each; in the order in which they run they are fetched fastest
        for call in self.calls:
            self.kernels.setdefault(call.name, call)
        self.scratch = max((call.scratch for call in self.calls), default=0)
        self.lines: list[str] = []
        self.divisions: list[str] = []  # lines that work out the parts of this thread
        self.parts: dict[tuple[Cut, Cut], tuple[str, str]] = {}
        self.entries: dict[int, str] = {}  # of the table, as far as they were read
        self.declarations: set[str] = set()
        self.count = 0

    def _call(
        self, number: int, kernel: Kernel, share: Share | None, barrier: bool, text: str, arguments: Arguments
    ) -> Call:
        shared = f"{share.by} {', '.join(map(str, share.loops))}" if share is not None else ""
        cut, scratch = self.nests.cuts(number), self.nests[number].scratch
        # All that its code depends on: kernels of this name may come from another program.
        name = "k" + hashlib.sha256(f"{text} {shared} {cut}".encode()).hexdigest()[:24]
        return Call(name, number, scratch, arguments.places, kernel, arguments, share, barrier and self.threaded)

    def _lowered(self, name: str) -> Lowered:
        call = self.kernels[name]
        nest = self.nests.written(call.number, call.share, call.arguments)
        return lower(nest, name, call.arguments, self.target)

    def text(self) -> str:
        """The whole program as one module, to be read."""
        declarations, loop = entry.loop(self.triple, self.target.clears)
        return self._whole(loop, declarations)

    def _whole(self, around: str, declarations: Iterable[str]) -> str:
        """One module of the kernels, the step, and what stands around it."""
        functions = [self._lowered(name) for name in self.kernels]
        common = _common(functions)
        step = self._step()
        declared = {*declarations, *self._declared()}.union(*(f.declarations for f in [*functions, *common.values()]))
        elsewhere = {line for line in declared if any(f" @{name}(" in line for name in common)}
        hidden = [text.replace("define ", "define internal ", 1) for text in _texts([*common.values(), *functions])]
        return "\n".join([*sorted(declared - elsewhere), *hidden, step, around, entry.ATTRIBUTES])

    def text_of_kernels(self, names: Iterable[str]) -> tuple[str, dict[str, str]]:
        """A module of some of the kernels, and those of the functions that kernels share."""
        functions = [self._lowered(name) for name in names]
        return _module(functions), {name: _module([function]) for name, function in _common(functions).items()}

    def text_of_step(self) -> str:
        """A module of the step, whose kernels are elsewhere."""
        step = self._step().replace("define internal i64 @step(", "define i64 @step(")
        elsewhere = [call.declaration for call in self.kernels.values()]
        return "\n".join([*sorted(self._declared()), entry.BARRIER_DECLARATION, *elsewhere, step, entry.ATTRIBUTES])

    def _declared(self) -> set[str]:
        """What the step calls of LLVM's own, once it is written."""
        return self.declarations | ({entry.MEMCPY} if self._has_copies() else set())

    def _has_copies(self) -> bool:
        return bool(self.plan.copies) or any(loop.copies for loop in self.plan.loops)

    # -- the step ---------------------------------------------------------------------------------
    def _fresh(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def _step(self) -> str:
        pieces = self._pieces()
        if len(pieces) == 1:
            return self._function(self.step, pieces[0], last=True)
        names = [f"{self.step}{i}" for i in range(len(pieces))]
        texts = [self._function(name, calls, calls is pieces[-1]) for name, calls in zip(names, pieces, strict=True)]
        calls = [_piece(name, self.parameters) for name in names]
        return "\n".join(
            [*texts, f"define internal i64 @{self.step}({self.parameters}) #0 {{", *calls, "  ret i64 0", "}"]
        )

    def _pieces(self) -> list[range]:
        """The calls in pieces of about `PIECE`, none of which ends in the middle of a loop."""
        loops, edges = self.plan.loops, [0]
        for number in range(PIECE, len(self.calls), PIECE):
            end = max([number, *(loop.last for loop in loops if loop.first < number < loop.last)])
            if edges[-1] < end < len(self.calls):
                edges.append(end)
        return [range(a, b) for a, b in pairwise([*edges, len(self.calls)])]

    def _function(self, name: str, calls: range, last: bool) -> str:
        """Some kernels of the step in order, up to the `last` of all."""
        head = [f"define internal i64 @{name}({self.parameters}) #0 {{", "entry:", *self._head()]
        self.lines, self.divisions, self.parts, self.entries = [], [], {}, {}
        for number in calls:
            for i, loop in enumerate(self.plan.loops):
                if loop.first == number < loop.last:
                    self._begin_steps(i)
            self._call_kernel(self.calls[number])
            for i, loop in reversed(list(enumerate(self.plan.loops))):
                if loop.first < loop.last == number + 1:
                    self._end_steps(i, loop)
        if last:
            self._copies()
            if self.threaded:
                self._barrier()
        return "\n".join([*head, *self.divisions, *self.lines, "  ret i64 0", "}"])

    def _head(self) -> list[str]:
        """Where this thread's scratch is, where a check says what it found, and whether this is the first thread."""
        return [
            f"  %own = mul i64 %thread, {self.scratch}",
            f"  %after = add i64 %own, {self.plan.arena}",
            "  %scratch = getelementptr i8, ptr %arena, i64 %after",
            "  %status = getelementptr i8, ptr %sync, i64 128",
            "  %first = icmp eq i64 %thread, 0",
        ]

    def _begin_steps(self, i: int) -> None:
        """Threads that share kernels go through the steps together: at the beginning of each, the one before is complete."""
        loop = self.plan.loops[i]
        shared = any(call.share is not None for call in self.calls[loop.first : loop.last])
        if self.threaded and not shared:
            self._barrier()
        self.divisions.append(f"  %t{i}.at = alloca i64, align 8")
        self.lines += [f"  store i64 0, ptr %t{i}.at, align 8", f"  br label %steps{i}", f"steps{i}:"]
        if self.threaded and shared:
            self._barrier()

    def _end_steps(self, i: int, loop: Steps) -> None:
        self._copy(loop.copies)
        now, following, more = (self._fresh("%t") for _ in range(3))
        self.lines += [
            f"  {now} = load i64, ptr %t{i}.at, align 8",
            f"  {following} = add i64 {now}, 1",
            f"  store i64 {following}, ptr %t{i}.at, align 8",
            f"  {more} = icmp slt i64 {following}, {loop.count}",
            f"  br i1 {more}, label %steps{i}, label %steps{i}.done",
            f"steps{i}.done:",
        ]
        if self.threaded:
            self._barrier()

    def _call_kernel(self, call: Call) -> None:
        if call.barrier:
            self._barrier()
        arguments = [f"ptr {self._pointer(place)}" for place in call.places]
        arguments += ["ptr %scratch"] * bool(call.scratch)
        if call.share is not None:
            self._divided(call, call.share, arguments)
        else:
            self._alone(call, arguments)
        if isinstance(call.kernel.core, Check):
            self._stop_on_failure()

    def _pointer(self, place: Place) -> str:
        """A pointer, right where it is needed: kept through a step of a thousand kernels, it would wait in memory."""
        base = "%arena" if place.slot is None else self._entry(place.slot)
        if place.offset or (place.slot is None and not place.moves):
            base = self._behind(base, str(place.offset))
        for loop, stride in place.moves:
            step, far = self._fresh("%t"), self._fresh("%t")
            self.lines += [f"  {step} = load i64, ptr %t{loop}.at, align 8", f"  {far} = mul i64 {step}, {stride}"]
            base = self._behind(base, far)
        return base

    def _behind(self, base: str, offset: str) -> str:
        name = self._fresh("%b")
        self.lines.append(f"  {name} = getelementptr i8, ptr {base}, i64 {offset}")
        return name

    def _entry(self, slot: int) -> str:
        """An entry of the table, read once."""
        if slot not in self.entries:
            name = self.entries[slot] = self._fresh("%e")
            self.lines += [
                f"  {name}.at = getelementptr ptr, ptr %table, i64 {slot}",
                f"  {name} = load ptr, ptr {name}.at, align 8",
            ]
        return self.entries[slot]

    def _barrier(self) -> None:
        self.lines.append("  call void @barrier(ptr %sync, i64 %threads)")

    def _divided(self, call: Call, share: Share, arguments: list[str]) -> None:
        first, last = self._part(share)
        self.lines.append(f"  call void @{call.name}({', '.join([*arguments, f'i64 {first}', f'i64 {last}'])})")

    def _part(self, share: Share) -> tuple[str, str]:
        """This thread's share: units * thread / threads up to units * (thread + 1) / threads.

        Worked out once for all kernels that are divided alike, before the first: divisions are slow, also to compile.
        """
        key = share.cut, share.own
        if key not in self.parts:
            body, self.lines = self.lines, self.divisions
            start, low, high, following = (self._fresh("%d") for _ in range(4))
            units = share.cut.units
            self.lines += [
                f"  {start} = mul i64 %thread, {units}",
                f"  {low} = udiv i64 {start}, %threads",
                f"  {following} = add i64 {start}, {units}",
                f"  {high} = udiv i64 {following}, %threads",
            ]
            self.parts[key] = self._in_own_units(share, low), self._in_own_units(share, high)
            self.lines = body
        return self.parts[key]

    def _in_own_units(self, share: Share, edge: str) -> str:
        """An edge of the cut, counted as the kernel counts: see `Cut.start`."""
        cut, unit = share.cut, share.own.rows
        if cut == share.own:
            return edge
        whole, over, beyond, less, start, within, up, own = (self._fresh("%d") for _ in range(8))
        self.declarations |= {"declare i64 @llvm.smax.i64(i64, i64)", "declare i64 @llvm.smin.i64(i64, i64)"}
        self.lines += [
            f"  {whole} = mul i64 {edge}, {cut.rows}",
            f"  {over} = sub i64 {edge}, {cut.large}",
            f"  {beyond} = call i64 @llvm.smax.i64(i64 {over}, i64 0)",
            f"  {less} = mul i64 {beyond}, {cut.less}",
            f"  {start} = sub i64 {whole}, {less}",
            f"  {within} = call i64 @llvm.smin.i64(i64 {start}, i64 {cut.size})",
            f"  {up} = add i64 {within}, {unit - 1}",
            f"  {own} = udiv i64 {up}, {unit}",
        ]
        return own

    def _alone(self, call: Call, arguments: list[str]) -> None:
        """On thread 0; where the program is never divided, there is no other."""
        then, other = self._fresh("then"), self._fresh("other")
        if self.threaded:
            self.lines += [f"  br i1 %first, label %{then}, label %{other}", f"{then}:"]
        listed = ", ".join(arguments)
        if isinstance(call.kernel.core, Check):
            failed, found = self._fresh("%s"), self._fresh("%s")
            self.lines += [
                f"  {failed} = call i64 @{call.name}({listed})",
                f"  {found} = mul i64 {failed}, {call.kernel.core.code}",
                f"  store i64 {found}, ptr %status, align 8",
            ]
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

    def _copies(self) -> None:
        places = [(self.plan.places[node], Place(slot), memory.bytes_of(node)) for node, slot in self.plan.copies]
        self._copy(places)

    def _copy(self, copies: Sequence[tuple[Place, Place, int]]) -> None:
        """Pieces of memory copied elsewhere, by the first thread."""
        if not copies:
            return
        pointers = [(self._pointer(target), self._pointer(source), size) for source, target, size in copies]
        then, other = self._fresh("then"), self._fresh("other")
        if self.threaded:
            self._barrier()
            self.lines += [f"  br i1 %first, label %{then}, label %{other}", f"{then}:"]
        for target, source, size in pointers:
            self.lines.append(self._moved(target, source, size))
        if self.threaded:
            self.lines += [f"  br label %{other}", f"{other}:"]

    def _moved(self, target: str, source: str, size: int) -> str:
        """One piece of memory copied."""
        return f"  call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)"
