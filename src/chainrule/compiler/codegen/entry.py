"""The text that every program shares: the loop of steps, the barrier, the state of the floating-point unit.

A run is told everything in one `FRAME` of 64-bit numbers (see `module`), followed by the worker's `STATE`.
`sync` points to four cache lines: arrivals at the barrier, its generation, the status, and the address of
the operating system's function that yields the processor (or 0).
"""

from __future__ import annotations

from collections.abc import Container, Sequence

SYNC_BYTES = 256  # what threads meet at: the four cache lines that `sync` points to


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
        return _flushing("aarch64", "fpcr", "i64")
    if triple.startswith("thumb"):  # float32 alone: float64 is put together of whole numbers
        return _flushing("arm", "fpscr", "i32")
    return "", "", []


def _flushing(family: str, register: str, type: str) -> tuple[str, str, list[str]]:
    """What takes denormal numbers for zeros, by the bit that ARM's registers of floating-point control have for it, and back."""
    get, put = f"{type} @llvm.{family}.get.{register}()", f"@llvm.{family}.set.{register}({type}"
    enter = f"""  %old = call {get}
  %new = or {type} %old, 16777216
  call void {put} %new)"""
    return enter, f"  call void {put} %old)", [f"declare {get}", f"declare void {put})"]


# Arrivals are counted; the last to arrive starts the next generation, which the others wait for: first
# spinning, since the wait is short, then yielding, since an oversubscribed machine must not crawl.
BARRIER_DECLARATION = "declare void @barrier(ptr, i64)"
_BARRIER = """define void @barrier(ptr %%sync, i64 %%threads) #0 {
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
# `turns`: how often a worker looks for the next run before it leaves (0: at once).
FRAME = ("table", "strides", "arena", "moving", "steps", "thread", "threads", "sync", "turns")
FRAME_WORDS, STATE = 32, 16  # from one thread's frame to the next; where its state is, on a cache line of its own
AWAY = 0  # a worker's state: not in native code; 1: waiting there for the next run, 2: called to it, 3: reserved for it
_POINTERS = ("table", "strides", "arena", "sync")


def fields(base: str, names: Sequence[str], pointers: Container[str], row: tuple[str, int] | None = None) -> str:
    """The text that loads 64-bit fields, one behind the other from ``%base`` on, each to the register of its name.

    Args:
        pointers: which of them are addresses.
        row: of a table, the register with the number of the row, and how many fields rows have.
    """
    lines = []
    for i, name in enumerate(names):
        place = f"i64, ptr %{base}, i64 {i}"
        if row is not None:
            place = f"[{row[1]} x i64], ptr %{base}, i64 %{row[0]}, i64 {i}"
        lines.append(f"  %{name}.at = getelementptr {place}")
        lines.append(f"  %{name} = load {'ptr' if name in pointers else 'i64'}, ptr %{name}.at, align 8")
    return "\n".join(lines)


# Without it, LLVM halves 64-byte vectors on some CPUs that have them.
ATTRIBUTES = 'attributes #0 = { nounwind noinline "prefer-vector-width"="512" }'
MEMCPY = "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)"


def clear_vectors() -> tuple[str, list[str]]:
    """IR that clears the upper parts of x86's vector registers, and its declaration.

    While they hold something, code for SSE, such as Python's, runs slower. LLVM would clear them at the end of each kernel,
    which takes 1 % of the step of a small network; where a run does it, kernels need not.
    """
    return "  call void @llvm.x86.avx.vzeroupper()", ["declare void @llvm.x86.avx.vzeroupper()"]


def loop(triple: str, clears: bool = False) -> tuple[list[str], str]:
    """The barrier, the loop of steps, `call`, `chain` and `copy` around it: what they declare, and their text.

    Args:
        clears: whether a run clears the vector registers, since no kernel does.
    """
    enter, leave, asked = flush_denormals(triple)
    if clears:
        clear, more = clear_vectors()
        leave, asked = f"{clear}\n{leave}", [*asked, *more]
    wait, declared = pause(triple)
    known = {
        "frame": fields("frame", FRAME, _POINTERS), "enter": enter, "leave": leave, "pause": wait,
        "link": fields("links", ("function", "frame", "asked"), ("function", "frame"), ("i", LINK)),
        "piece": fields("frame", ("from", "to", "bytes", "stride"), ("from", "to"), ("piece", LINK)),
    }  # fmt: skip
    return [*asked, *declared, MEMCPY], (_BARRIER + _RUN + _CALL + _CHAIN + _COPY) % known


def module(triple: str, clears: bool = False) -> str:
    """The loop of steps as a module of its own, whose step is elsewhere: every program has the same."""
    declarations, text = loop(triple, clears)
    return "\n".join([*declarations, "declare i64 @step(ptr, ptr, i64, i64, ptr)", text, ATTRIBUTES])


# A worker that was asked to (`turns`) waits after a run for the next one where it is: from sleep it would come some
# hundred microseconds late. It says so before all threads let go of the run, so that the caller of the next finds it
# waiting. It leaves by an exchange that fails once it is reserved, so that whoever is counted on does come.
_RUN = """define i64 @run(ptr %%frame) #0 {
entry:
  %%state = getelementptr i64, ptr %%frame, i64 16
%(enter)s
  br label %%start
start:
%(frame)s
  br label %%head
head:
  %%i = phi i64 [ 0, %%start ], [ %%following, %%moved ]
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
  %%stays = icmp sgt i64 %%turns, 0
  br i1 %%stays, label %%announce, label %%let.go
announce:
  store atomic i64 1, ptr %%state release, align 8
  br label %%let.go
let.go:
  ; nobody leaves before all have let go of their tables: the caller fills them anew
  call void @barrier(ptr %%sync, i64 %%threads)
  br i1 %%stays, label %%wait, label %%leave
wait:
  %%turn = phi i64 [ 0, %%let.go ], [ %%next.turn, %%again ]
  %%now = load atomic i64, ptr %%state acquire, align 8
  %%waiting = icmp eq i64 %%now, 1
  br i1 %%waiting, label %%again, label %%answer
again:
  %(pause)s
  %%next.turn = add i64 %%turn, 1
  %%patient = icmp slt i64 %%next.turn, %%turns
  br i1 %%patient, label %%wait, label %%answer
answer:
  %%called = icmp eq i64 %%now, 2
  br i1 %%called, label %%begin, label %%give.up
give.up:
  %%pair = cmpxchg ptr %%state, i64 1, i64 0 acq_rel acquire, align 8
  %%was = extractvalue { i64, i1 } %%pair, 0
  %%gone = icmp ule i64 %%was, 1
  br i1 %%gone, label %%leave, label %%reserved
reserved:
  %%then = load atomic i64, ptr %%state acquire, align 8
  switch i64 %%then, label %%reserved [ i64 0, label %%leave
                                        i64 1, label %%give.up
                                        i64 2, label %%begin ]
begin:
  store atomic i64 0, ptr %%state release, align 8
  br label %%start
leave:
%(leave)s
  ret i64 %%result
}
"""

# A run whose workers all wait for it, from the first of their frames: its status; or -1, and nobody was called.
_CALL = """define i64 @call(ptr %%frame) #0 {
entry:
  %%threads.at = getelementptr i64, ptr %%frame, i64 6
  %%threads = load i64, ptr %%threads.at, align 8
  br label %%reserve
reserve:
  %%i = phi i64 [ 1, %%entry ], [ %%next, %%try ]
  %%more = icmp slt i64 %%i, %%threads
  br i1 %%more, label %%try, label %%all
try:
  %%state = getelementptr [32 x i64], ptr %%frame, i64 %%i, i64 16
  %%pair = cmpxchg ptr %%state, i64 1, i64 3 acq_rel monotonic, align 8
  %%waited = extractvalue { i64, i1 } %%pair, 1
  %%next = add i64 %%i, 1
  br i1 %%waited, label %%reserve, label %%undo
undo:
  %%j = phi i64 [ %%i, %%try ], [ %%before, %%free ]
  %%before = sub i64 %%j, 1
  %%left = icmp sgt i64 %%before, 0
  br i1 %%left, label %%free, label %%nobody
free:
  %%freed = getelementptr [32 x i64], ptr %%frame, i64 %%before, i64 16
  store atomic i64 1, ptr %%freed release, align 8
  br label %%undo
nobody:
  ret i64 -1
all:
  %%k = phi i64 [ 1, %%reserve ], [ %%following, %%one ]
  %%some = icmp slt i64 %%k, %%threads
  br i1 %%some, label %%one, label %%own
one:
  %%called = getelementptr [32 x i64], ptr %%frame, i64 %%k, i64 16
  store atomic i64 2, ptr %%called release, align 8
  %%following = add i64 %%k, 1
  br label %%all
own:
  %%status = call i64 @run(ptr %%frame)
  ret i64 %%status
}
"""

# Runs of several programs, one after the other, each on this thread: after a link with their number, and room for that
# of one that fails, come links of four numbers each (LINK): `run` of a program, its frame, and how many steps.
LINK = 4
_CHAIN = """define i64 @chain(ptr %%links) #0 {
entry:
  %%count = load i64, ptr %%links, align 8
  br label %%head
head:
  %%i = phi i64 [ 1, %%entry ], [ %%next, %%body ]
  %%more = icmp sle i64 %%i, %%count
  br i1 %%more, label %%body, label %%done
body:
%(link)s
  %%steps.at = getelementptr i64, ptr %%frame, i64 4
  store i64 %%asked, ptr %%steps.at, align 8
  %%status = call i64 %%function(ptr %%frame)
  %%failed = icmp ne i64 %%status, 0
  %%next = add i64 %%i, 1
  br i1 %%failed, label %%stop, label %%head
stop:
  %%which.at = getelementptr i64, ptr %%links, i64 1
  store i64 %%i, ptr %%which.at, align 8
  ret i64 %%status
done:
  ret i64 0
}
"""

# What a chain may take like a run: pieces of memory copied elsewhere. Their number comes first, two links on the pieces,
# each a link of its own: from where, where to, how many bytes, and how much further on the next copy goes.
_COPY = """define i64 @copy(ptr %%frame) #0 {
entry:
  %%count = load i64, ptr %%frame, align 8
  br label %%head
head:
  %%i = phi i64 [ 0, %%entry ], [ %%next, %%body ]
  %%more = icmp slt i64 %%i, %%count
  br i1 %%more, label %%body, label %%done
body:
  %%piece = add i64 %%i, 2
%(piece)s
  call void @llvm.memcpy.p0.p0.i64(ptr %%to, ptr %%from, i64 %%bytes, i1 false)
  %%forward = getelementptr i8, ptr %%to, i64 %%stride
  store ptr %%forward, ptr %%to.at, align 8
  %%next = add i64 %%i, 1
  br label %%head
done:
  ret i64 0
}
"""
