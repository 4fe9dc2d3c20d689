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

PRODUCTS = 1.7  # multiply-adds a nanosecond and byte of a vector, in float32 products with tiles in registers
LANES = 0.8  # elementwise operations a nanosecond and byte of a vector
NEAR, NEAR_BYTES = 30.0, 1 << 20  # bytes a nanosecond from the caches of a core, and how much they hold
FAR = 10.0  # bytes a nanosecond beyond
CALL = 15.0  # entering a kernel
BARRIER = 400.0  # all threads meet: 180 by itself, the rest is that none arrives quite in time
# Lines that another core wrote come at 5 bytes a nanosecond in a row, at half that as products read them; of a long stretch only the last lie in that core's
# own cache, the rest where both cores reach them.
FOREIGN, FOREIGN_BYTES = 2.5, 1 << 16
AHEAD = 1024.0  # bytes that the hardware reads ahead in a stream
SMALL = 30_000.0  # a step of less is over before a second thread could have helped
WAKE = 60_000.0  # a sleeping worker starts so much later
PATIENCE = 6000  # looks of a worker for the next run before it sleeps, in CPU pauses: about as long as waking it takes
GAIN = 0.9  # threads are used at first where the step should take at most this share of its time on one


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
