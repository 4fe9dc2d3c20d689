"""Running a program: its table of pointers, its working memory, its threads."""

from __future__ import annotations

import time

import numpy as np

from chainrule.compiler.available import check_room
from chainrule.compiler.buffers import address, aligned, contiguous
from chainrule.compiler.pace import Pace
from chainrule.compiler.program import Program
from chainrule.compiler.runtime import FRAME, SYNC_BYTES
from chainrule.compiler.threads import get_num_threads, new_sync, together
from chainrule.graph import Array

_STEPS, _THREADS = FRAME.index("steps"), FRAME.index("threads")


class Run:
    """The memory of one program and how to start it.

    Args:
        moving: the table's first entries, as many as advance from step to step.
    """

    def __init__(self, program: Program, moving: int) -> None:
        self.program, self.moving = program, moving
        self.table = np.zeros(program.table, np.uintp)
        self.strides = np.zeros(program.table, np.int64)
        self.sync = new_sync(SYNC_BYTES)
        self.threads = 0  # what the working memory below is for
        self.constants = [contiguous(node.value) for node in program.constants]
        for i, constant in enumerate(self.constants):
            self.table[program.table - len(self.constants) + i] = address(constant)
        self.run = program.code.run
        self.pace: Pace | None = None  # until there may be several threads
        self._reserve(1)

    def _reserve(self, threads: int) -> None:
        size, self.steps = self.program.working(threads), 0
        check_room(size, lambda: f"the working memory of a compiled step ({threads} thread{'s' * (threads > 1)})")
        self.working = aligned(size)
        self.tables = np.empty((threads, len(self.table)), np.uintp)
        self.threads = threads
        # Addresses once, not at every call; `table` and the rest stay where they are.
        fixed = [address(self.strides), address(self.working), self.moving]
        barrier = address(self.sync)
        self.frame = np.array([address(self.table), *fixed, 0, 0, 1, barrier], np.int64)  # on one thread
        self.alone = address(self.frame)
        # One for each thread, which moves along a table of its own.
        self.frames = np.array([[address(t), *fixed, 0, i, 0, barrier] for i, t in enumerate(self.tables)], np.int64)
        self.each = [address(frame) for frame in self.frames]

    def go(self, steps: int) -> int:
        """So many steps; the status (see `program`)."""
        limit = get_num_threads()
        if limit == 1 or not steps:
            return self._alone(steps)
        if self.pace is None:
            self.pace = Pace(self.program.division)
        if not self.pace.worthwhile:
            return self._alone(steps)
        done = 0
        while done < steps:
            threads, count = self.pace.choose(steps - done, limit)
            began = time.perf_counter()
            status = self._with(threads, count)
            if status:
                return status + (done << 16)
            self.pace.note(threads, count, time.perf_counter() - began)
            done += count
        return 0

    def _alone(self, steps: int) -> int:
        if steps != self.steps:
            self.frame[_STEPS] = self.steps = steps
        return self.run(self.alone)

    def _with(self, threads: int, steps: int) -> int:
        if threads > self.threads:
            self._reserve(threads)
        return self._alone(steps) if threads == 1 else self._together(threads, steps)

    def _together(self, threads: int, steps: int) -> int:
        tables = self.tables[:threads]
        tables[:] = self.table
        self.frames[:threads, _STEPS], self.frames[:threads, _THREADS] = steps, threads
        status = [0]

        def work(thread: int) -> None:
            code = self.run(self.each[thread])
            if thread == 0:
                status[0] = code
                self.table[:] = tables[0]  # moved on, as a run on one thread leaves it

        def alone() -> None:
            status[0] = self._alone(steps)

        together(threads, work, alone)
        return status[0]


def run_once(program: Program, arrays: list[Array]) -> list[Array]:
    """A program without state, on arrays for its inputs in order."""
    inputs = [contiguous(array) for array in arrays]
    outputs = [np.empty(node.shape, node.dtype.numpy) for node in program.graph.outputs]
    run = Run(program, 0)
    for i, array in enumerate([*inputs, *outputs]):
        run.table[i] = address(array)
    run.go(1)
    return outputs
