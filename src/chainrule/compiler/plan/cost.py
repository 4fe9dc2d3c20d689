"""What a kernel and the traffic between threads cost, in nanoseconds: rough, and measured once.

The figures choose how programs are shared among threads and nothing else; no bit depends on them. They were
taken on a server core with 64-byte vectors (README of benchmarks names it): what a vector unit does in a
nanosecond scales with its width and with how many begin in a cycle, the rest is taken as it is. How fast a
program really runs on its threads is measured while it runs (see `thread_tuner`).
"""

from __future__ import annotations

import math

from chainrule.compiler.plan.target import Target
from chainrule.compiler.schedule import memory
from chainrule.compiler.schedule.kernels import Chain, Compute, Dot, Kernel, Reduce, RowFolds, walk

# Multiply-adds of a nanosecond, for each byte of a vector: float32 products with their tiles in registers.
PRODUCTS = 1.7
# Elementwise operations of a nanosecond, for each byte of a vector.
LANES = 0.8
# Bytes of a nanosecond that come from a core's own caches, and how many bytes those hold.
NEAR, NEAR_BYTES = 30.0, 1 << 20
# Bytes of a nanosecond that come from farther than a core's own caches.
FAR = 10.0
# Nanoseconds to enter a kernel.
CALL = 15.0
# Nanoseconds until all threads have met: 180 by itself, the others since none arrives quite in time.
BARRIER = 400.0
# Bytes of a nanosecond that another core wrote, as products read them (in a row they come twice as fast), and of how many bytes
# that is so: of a long stretch only the last lie in that core's own cache, those before where both cores reach them.
FOREIGN, FOREIGN_BYTES = 2.5, 1 << 16
# Bytes that the hardware reads ahead in a stream.
AHEAD = 1024.0
# Nanoseconds of a step that is over before a second thread could have helped: a shorter one is not shared.
SMALL = 30_000.0
# Nanoseconds until a worker that sleeps has started.
WAKE = 60_000.0
# How often a worker looks for the next run before it sleeps, one pause of the CPU apart: that takes about as long as waking it.
PATIENCE = 6000
# The share of its time on one thread that a step on several should take, for several to be tried first.
GAIN = 0.9


def constants() -> tuple[float, ...]:
    """What decides how kernels are divided."""
    return (PRODUCTS, LANES, NEAR, NEAR_BYTES, FAR, CALL, BARRIER, FOREIGN, FOREIGN_BYTES, AHEAD, SMALL)


def of_kernel(kernel: Kernel, target: Target) -> float:
    """One kernel on one thread."""
    return CALL + max(_work(kernel, target), _streaming(kernel))


def _work(kernel: Kernel, target: Target) -> float:
    """Its arithmetic."""
    width = target.vector_bytes * target.fmas / 2
    core, elements = kernel.core, math.prod(var.size for var in kernel.loops)
    if isinstance(core, Chain):
        return elements * sum(_work(part, target) for part in core.parts)
    operations = [v for v in kernel.values() if isinstance(v, Compute)]
    folded: set[int] = set()
    if isinstance(core, Reduce):
        folded = {id(value) for value in walk([core.value])}
    elif isinstance(core, RowFolds):
        folded = {id(value) for value in operations if value.vars() & set(core.dims)}
    work = elements * (1 + sum(v.op.cost for v in operations if id(v) not in folded)) / (LANES * width)
    if isinstance(core, Dot):
        work += elements * core.terms * core.a.dtype.itemsize / 4 / (PRODUCTS * width)
    elif isinstance(core, (Reduce, RowFolds)):
        each = 1 + sum(v.op.cost for v in operations if id(v) in folded)
        work += elements * math.prod(var.size for var in core.dims) * each / (LANES * width)
    return work


def _streaming(kernel: Kernel) -> float:
    nodes = {*kernel.reads(), *(store.node for store in kernel.stores)}
    moved = sum(memory.bytes_of(node) for node in nodes)
    return moved / (NEAR if moved <= NEAR_BYTES else FAR)


def foreign(moved: float) -> float:
    """Reading so many bytes that another thread wrote."""
    near = min(moved, FOREIGN_BYTES)
    return near / FOREIGN + (moved - near) / NEAR
