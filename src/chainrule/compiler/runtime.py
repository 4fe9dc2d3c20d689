"""The text that every module shares: the loop of steps, the barrier, the state of the floating-point unit.

A run is told everything in one `FRAME` of eight 64-bit numbers (see `module`).
`sync` points to four cache lines: arrivals at the barrier, its generation, the status, and the address of
the operating system's function that yields the processor (or 0).
"""

from __future__ import annotations

SYNC_BYTES = 256


def pause(triple: str) -> tuple[str, list[str]]:
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
BARRIER = """define internal void @barrier(ptr %%sync, i64 %%threads) #0 {
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

# What a run needs, in memory: from Python, one pointer is passed five times faster than eight arguments.
FRAME = ("table", "strides", "arena", "moving", "steps", "thread", "threads", "sync")
_POINTERS = ("table", "strides", "arena", "sync")


def _load_frame() -> str:
    lines = []
    for i, name in enumerate(FRAME):
        type = "ptr" if name in _POINTERS else "i64"
        lines.append(f"  %{name}.at = getelementptr i64, ptr %frame, i64 {i}")
        lines.append(f"  %{name} = load {type}, ptr %{name}.at, align 8")
    return "\n".join(lines)


def run(enter: str, leave: str) -> str:
    """The loop of steps, between what the floating-point unit is told before and after."""
    return _RUN % {"frame": _load_frame(), "enter": enter, "leave": leave}


_RUN = """define i64 @run(ptr %%frame) #0 {
entry:
%(frame)s
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
