"""What the machine can do at most: multiply-adds in registers, bytes streamed from memory, lines passed between cores.

All are measured, in the run that uses them. The peak is what one (or each of several) cores reach on
multiply-adds whose operands never leave the registers; no matrix product can be faster.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.compiler.runtime import native
from chainrule.compiler.runtime.buffers import aligned

_ACCUMULATORS = 12  # more than any core's latency times ports; with two operands they fit 16 registers
_PEAK_STEPS = 4_000_000
_STREAM_BYTES = 512 << 20  # read and written in a measurement of bandwidth, in many passes over a small array
_HANDOVERS = 20_000
_RUN = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)
_RUN_OVER = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


def native_function(text: str, name: str, signature: Any) -> Any:
    """A function of an LLVM module as Python's ctypes calls it (without the interpreter's lock)."""
    machine = native.machine()
    module, _ = native.optimise(text, machine)
    engine = machine.llvm.create_mcjit_compiler(module, machine.target_machine())  # which it owns from here on
    engine.finalize_object()
    function = signature(engine.get_function_address(name))
    function.engine = engine  # the code lives as long as its function
    return function


def peak_gflops(threads: int = 1, rounds: int = 5) -> float:
    """float32 GFLOP/s of multiply-adds in registers, on all `threads` at once: the best of several rounds."""
    lanes = native.machine().target.lanes("float")
    run = native_function(
        _multiply_adds(lanes), "multiply_adds", ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)
    )
    flops = 2 * lanes * _ACCUMULATORS * _PEAK_STEPS * threads
    values = [np.full(_ACCUMULATORS * lanes, 0.5, np.float32) for _ in range(threads)]

    def work(thread: int) -> None:
        run(_PEAK_STEPS, values[thread].ctypes.data)

    return flops / _best_seconds(work, threads, rounds) / 1e9


def stream_gbytes(size: int, threads: int = 1, rounds: int = 5) -> float:
    """GB/s of ``a[i] = a[i] * s + b[i]`` over `size` bytes in all (STREAM's triad, in place; McCalpin 1995).

    Every byte that is read or written counts once. The size says which memory is meant: a small network's
    state stays in a cache, and a bandwidth of main memory would be no bound for it.
    """
    lanes = native.machine().target.lanes("float")
    run = native_function(_triad(lanes), "triad", _RUN_OVER)
    block = 4 * lanes  # elements a turn of the loop
    elements = max(1, size // 8 // threads // block) * block
    passes = max(1, _STREAM_BYTES // (12 * elements * threads))
    parts = [np.zeros((2, elements), np.float32) for _ in range(threads)]

    def work(thread: int) -> None:
        a, b = parts[thread]
        run(passes, elements, a.ctypes.data, b.ctypes.data)

    return 12 * elements * threads * passes / _best_seconds(work, threads, rounds) / 1e9


def handover_ns(rounds: int = 5) -> float:
    """Nanoseconds until one core sees what another wrote: two write the same line of memory in turn.

    On a virtual machine it may be several times as long a minute later, when its cores have moved to where they
    share no cache.
    """
    run = native_function(_turns(), "turns", ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p))
    line = aligned(64)

    def work(thread: int) -> None:
        run(_HANDOVERS, thread, line.ctypes.data)

    line[:] = 0
    return _best_seconds(work, 2, rounds) / _HANDOVERS / 2 * 1e9


def _best_seconds(work: Callable[[int], None], threads: int, rounds: int) -> float:
    """The shortest time from the start of all threads to the end of the last."""
    best = float("inf")
    for _ in range(rounds + 1):  # one to warm up
        workers = [threading.Thread(target=work, args=(i,)) for i in range(1, threads)]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        work(0)
        for worker in workers:
            worker.join()
        best = min(best, time.perf_counter() - start)
    return best


def _multiply_adds(lanes: int) -> str:
    """IR: v[i] = v[i] * v[0] + v[1] with the first values of v[0] and v[1], `steps` times, all in registers."""
    vector, number = f"<{lanes} x float>", range(_ACCUMULATORS)
    at = [f"%p{i} = getelementptr {vector}, ptr %values, i64 {i}" for i in number]
    load = [f"%a{i} = load {vector}, ptr %p{i}, align 4" for i in number]
    phi = [f"%v{i} = phi {vector} [ %a{i}, %entry ], [ %w{i}, %loop ]" for i in number]
    fma = [f"%w{i} = call {vector} @llvm.fma.v{lanes}f32({vector} %v{i}, {vector} %a0, {vector} %a1)" for i in number]
    store = [f"store {vector} %w{i}, ptr %p{i}, align 4" for i in number]
    return "\n".join([
        f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})",
        "define void @multiply_adds(i64 %steps, ptr %values) {", "entry:", *at, *load, "br label %loop",
        "loop:", "%step = phi i64 [ 0, %entry ], [ %next, %loop ]", *phi, *fma,
        "%next = add i64 %step, 1", "%more = icmp slt i64 %next, %steps", "br i1 %more, label %loop, label %end",
        "end:", *store, "ret void", "}",
    ])  # fmt: skip


def _turns() -> str:
    """IR: `turns` times, wait until the counter's last bit is `mine`, then count on."""
    return "\n".join([
        "define void @turns(i64 %turns, i64 %mine, ptr %counter) {", "entry:", "br label %wait",
        "wait:", "%turn = phi i64 [ 0, %entry ], [ %turn, %wait ], [ %next, %count ]",
        "%now = load atomic i64, ptr %counter acquire, align 8", "%bit = and i64 %now, 1",
        "%is_mine = icmp eq i64 %bit, %mine", "br i1 %is_mine, label %count, label %wait",
        "count:", "%on = add i64 %now, 1", "store atomic i64 %on, ptr %counter release, align 8",
        "%next = add i64 %turn, 1", "%more = icmp slt i64 %next, %turns", "br i1 %more, label %wait, label %end",
        "end:", "ret void", "}",
    ])  # fmt: skip


def _triad(lanes: int) -> str:
    """IR: a[i] = a[i] / 2 + b[i] over all elements, `passes` times, four vectors a turn."""
    vector, number = f"<{lanes} x float>", range(4)
    half = ", ".join(["float 0.5"] * lanes)
    turn: list[str] = []
    for n in number:
        turn += [
            f"%i{n} = add i64 %i, {n * lanes}",
            f"%pa{n} = getelementptr float, ptr %a, i64 %i{n}", f"%pb{n} = getelementptr float, ptr %b, i64 %i{n}",
            f"%a{n} = load {vector}, ptr %pa{n}, align 4", f"%b{n} = load {vector}, ptr %pb{n}, align 4",
            f"%h{n} = fmul {vector} %a{n}, <{half}>", f"%s{n} = fadd {vector} %h{n}, %b{n}",
            f"store {vector} %s{n}, ptr %pa{n}, align 4",
        ]  # fmt: skip
    return "\n".join([
        "define void @triad(i64 %passes, i64 %elements, ptr %a, ptr %b) {", "entry:", "br label %pass",
        "pass:", "%p = phi i64 [ 0, %entry ], [ %p_next, %passed ]", "br label %loop",
        "loop:", "%i = phi i64 [ 0, %pass ], [ %next, %loop ]", *turn, f"%next = add i64 %i, {4 * lanes}",
        "%more = icmp slt i64 %next, %elements", "br i1 %more, label %loop, label %passed",
        "passed:", "%p_next = add i64 %p, 1", "%again = icmp slt i64 %p_next, %passes",
        "br i1 %again, label %pass, label %end", "end:", "ret void", "}",
    ])  # fmt: skip
