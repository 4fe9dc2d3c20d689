"""Running a program: its table of pointers, its working memory, its threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from chainrule.available import check_room
from chainrule.compiler.codegen.entry import AWAY, FRAME, FRAME_WORDS, STATE, SYNC_BYTES
from chainrule.compiler.plan import cost
from chainrule.compiler.plan.work_sharing import WorkSharing
from chainrule.compiler.runtime.buffers import address, addresses, aligned, contiguous
from chainrule.compiler.runtime.native import Code
from chainrule.compiler.runtime.thread_tuner import ThreadTuner
from chainrule.compiler.runtime.threads import generation, get_num_threads, new_sync, together
from chainrule.graph import Array, Graph, Node

_STEPS, _THREADS, _TURNS = (FRAME.index(word) for word in ("steps", "threads", "turns"))


# Seconds between two runs, within which the workers are asked to wait for a third one: not for a call now and then.
SOON = 200e-6


class Runnable(Protocol):
    """What running a program asks of it."""

    @property
    def graph(self) -> Graph: ...
    @property
    def table(self) -> int: ...
    @property
    def constants(self) -> list[Node]: ...
    @property
    def made(self) -> Made: ...


class Made(Protocol):
    """The code of a program, and what it needs."""

    @property
    def code(self) -> Code: ...
    @property
    def sharing(self) -> WorkSharing: ...

    def working(self, threads: int) -> int: ...


class Run:
    """The memory of one program and how to start it.

    Args:
        moving: the table's first entries, as many as advance from step to step.
    """

    def __init__(self, program: Runnable, moving: int) -> None:
        self.program, self.moving = program, moving
        self.table = np.zeros(program.table, np.uintp)
        self.strides = np.zeros(program.table, np.int64)
        self.sync = new_sync(SYNC_BYTES)
        self.threads = 0  # what the working memory below is for
        self.constants = [contiguous(node.value) for node in program.constants]
        for i, constant in enumerate(self.constants):
            self.table[program.table - len(self.constants) + i] = address(constant)
        self.made = program.made
        self.run, self.call = self.made.code.run, self.made.code.call
        self.tuner: ThreadTuner | None = None  # until there may be several threads
        self.ended = 0.0  # when the last run on several did
        self._reserve(1)

    def _reserve(self, threads: int) -> None:
        size, self.steps = self.made.working(threads), 0
        check_room(
            size, lambda: f"cr.compile: the working memory of a compiled step ({threads} thread{'s' * (threads > 1)})"
        )
        self.working = aligned(size)
        self.tables = np.empty((threads, len(self.table)), np.uintp)
        self.threads = threads
        # Addresses once, not at every call; `table` and the rest stay where they are.
        fixed = [address(self.strides), address(self.working), self.moving]
        barrier = address(self.sync)
        self.frame = np.array([address(self.table), *fixed, 0, 0, 1, barrier, 0], np.int64)  # on one thread
        self.alone = address(self.frame)
        # One for each thread, which moves along a table of its own.
        self.frames = aligned(8 * FRAME_WORDS * threads).view(np.int64).reshape(threads, FRAME_WORDS)
        self.frames[:] = AWAY
        for i, (frame, table) in enumerate(zip(self.frames, self.tables, strict=True)):
            frame[: len(FRAME)] = [address(table), *fixed, 0, i, 0, barrier, 0]
        self.each = [address(frame) for frame in self.frames]
        self.states = self.frames[:, STATE]
        self.told = 0, 0, 0
        self.generation = generation()

    def go(self, steps: int, ended: list[int] | None = None) -> int:
        """So many steps; the status (see `program`).

        Args:
            ended: each run's status is put there, in one call of C's together with the run: where a signal's handler raises,
                the run has ended and its status stands there, or neither.
        """
        limit = get_num_threads()
        if limit == 1 or not steps or not self._known_tuner().worthwhile:
            return self._alone(steps, ended)
        done, tuner = 0, self._known_tuner()
        while done < steps:
            threads, count = tuner.choose(steps - done, limit)
            began = time.perf_counter()
            self.soon = began - self.ended < SOON
            status = self._with(threads, count, ended)
            if status:
                return status + (done << 16)
            self.ended = time.perf_counter()
            tuner.note(threads, count, self.ended - began)
            done += count
        return 0

    def _known_tuner(self) -> ThreadTuner:
        if self.tuner is None:
            self.tuner = ThreadTuner(self.made.sharing)
        return self.tuner

    def shared(self) -> bool:
        """May several threads run it?"""
        return get_num_threads() > 1 and self._known_tuner().worthwhile

    def once(self) -> tuple[int]:
        """What `run` takes for one step on one thread."""
        if self.steps != 1:
            self.frame[_STEPS] = self.steps = 1
        return (self.alone,)

    def on_one(self, most: int) -> bool:
        """Would one thread take runs of at most so many steps now?"""
        return not self.shared() or self._known_tuner().alone(most, get_num_threads())

    def link(self) -> tuple[int, int]:
        """The addresses of the native function and of its frame, for a chain, which one thread takes."""
        self.steps = -1  # the chain writes another number into the frame
        return self.made.code.address, self.alone

    def linked(self, steps: int, seconds: float) -> None:
        """A chain took so many steps, about so long."""
        if steps and self.tuner is not None and self.shared():
            self.tuner.note(1, steps, seconds)

    @property
    def weight(self) -> float:
        """Of a step, beside those of other programs."""
        return self.made.sharing.total

    def _alone(self, steps: int, ended: list[int] | None) -> int:
        if steps != self.steps:
            self.frame[_STEPS] = self.steps = steps
        return self.run(self.alone) if ended is None else _noted(ended, self.run, self.alone)

    def _with(self, threads: int, steps: int, ended: list[int] | None) -> int:
        if threads > self.threads or (threads > 1 and self.generation != generation()):
            self._reserve(threads)  # a forked child waits for none of its parent's workers
        return self._alone(steps, ended) if threads == 1 else self._together(threads, steps, ended)

    def _together(self, threads: int, steps: int, ended: list[int] | None) -> int:
        tables, frames = self.tables[:threads], self.frames[:threads]
        tables[:] = self.table
        told = threads, steps, cost.PATIENCE if self.soon else 0
        if told != self.told:
            frames[:, _THREADS], frames[:, _STEPS], frames[1:, _TURNS] = self.told = told
        found: list[int] = [] if ended is None else ended

        def call() -> bool:
            if _noted(found, self.call, self.each[0]) != -1:
                return True
            found.pop()  # nobody was called
            return False

        def work(thread: int, _held: object = (self.frames, self.tables, self.working)) -> None:
            _noted(found if thread == 0 else [], self.run, self.each[thread])

        def alone() -> None:
            self._alone(steps, found)

        if together(threads, work, alone, self.states, call):
            self.table[:] = tables[0]  # moved on, as a run on one thread leaves it
        return found[-1]


def _noted(ended: list[int], native: Callable[[int], int], frame: int) -> int:
    """The status of a native run, which is put there in one call of C's with the run."""
    ended.extend(map(native, (frame,)))
    return ended[-1]


def run_with(run: Run, arrays: list[Array]) -> list[Array]:
    """A program without state, on arrays for its inputs in order."""
    inputs = [contiguous(array) for array in arrays]
    outputs = [np.empty(node.shape, node.dtype.numpy) for node in run.program.graph.outputs]
    run.table[: len(inputs) + len(outputs)] = addresses([*inputs, *outputs])
    run.go(1)
    return outputs
