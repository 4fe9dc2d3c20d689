"""A simulation of the threads of a program: every byte that each of them touches is written out and compared."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from chainrule.compiler.program import Program
from chainrule.compiler.schedule import memory
from chainrule.compiler.schedule.index import Atom, Expr, Loaded, Quotient, Var
from chainrule.compiler.schedule.kernels import Chain, Check, Dot, Kernel, Reduce, RowFolds
from chainrule.graph import Node

Array = np.ndarray[Any, Any]
Masks = dict[int, Array]  # for each entry of the table (-1: the arena), which of its bytes


def values(expr: Expr, at: dict[Var, Array]) -> Array:
    """The expression at every point, one a row; in a row all that data inside its axis can make of it."""
    points = len(next(iter(at.values()), np.zeros(1)))
    total = np.full((points, 1), expr.constant)
    for atom, factor in expr.terms.items():
        found = _atom(atom, at)
        total = (total[:, :, None] + factor * found[:, None, :]).reshape(points, -1)
    return total


def _atom(atom: Atom, at: dict[Var, Array]) -> Array:
    if isinstance(atom, Var):
        return at[atom][:, None]
    if isinstance(atom, Loaded):
        return np.broadcast_to(np.arange(atom.size), (len(next(iter(at.values()), np.zeros(1))), atom.size))
    inner = values(atom.expr, at)
    return inner // atom.by if isinstance(atom, Quotient) else inner % atom.by


Own = tuple[tuple[Var, ...], range]  # loops that are run through as one, and a thread's part of their iterations


def _points(loops: list[Var], own: Own) -> dict[Var, Array]:
    """Every iteration of some loops, as far as it is a thread's own."""
    together, part = own
    others = [var for var in loops if var not in together]
    grid = np.meshgrid(np.array(part, int), *(np.arange(var.size) for var in others), indexing="ij")
    at = {var: axis.ravel() for var, axis in zip(others, grid[1:], strict=True)}
    shared = np.unravel_index(grid[0].ravel(), [var.size for var in together]) if together else ()
    return at | {var: np.asarray(index) for var, index in zip(together, shared, strict=True)}


def _all_loops(kernel: Kernel) -> list[Var]:
    loops = list(kernel.loops)
    if isinstance(kernel.core, (Reduce, RowFolds)):
        loops += kernel.core.dims
    if isinstance(kernel.core, Dot):
        loops += kernel.core.summed
    if isinstance(kernel.core, Chain):
        loops += [var for part in kernel.core.parts for var in _all_loops(part)]
    return list(dict.fromkeys(loops))


def _elements(kernel: Kernel, node: Node, index: Expr, own: Own) -> Array:
    """The elements of a buffer that one of the kernel's indices comes to; where guards do not hold, it may leave it."""
    loops = _all_loops(kernel)
    if not own[1] or any(not var.size for var in loops):
        return np.empty(0, int)
    used = index.vars()
    own = own if used & set(own[0]) else ((), range(1))
    found = np.unique(values(index, _points([var for var in loops if var in used], own)))
    return found[(found >= 0) & (found < int(np.prod(node.shape)))]


class Threads:
    """What each thread of a program touches, kernel by kernel."""

    def __init__(self, program: Program, threads: int) -> None:
        self.program, self.threads = program, threads
        self.places = program.plan.places
        self.sizes: dict[int, int] = {}
        for node, place in self.places.items():
            slot = -1 if place.slot is None else place.slot
            self.sizes[slot] = max(self.sizes.get(slot, 0), place.offset + memory.size_of(node))

    def nothing(self) -> Masks:
        return {slot: np.zeros(size, bool) for slot, size in self.sizes.items()}

    def touched(self, number: int, thread: int) -> tuple[Masks, Masks]:
        """What a thread reads and writes in one kernel."""
        kernel, share = self.program.plan.kernels[number], self.program.work_sharing.shares()[number]
        if share is None and thread:
            return {}, {}
        own: Own = (), range(1)
        if share is not None:
            edges = share.cut.edges(self.threads)
            own = share.loops, range(edges[thread], edges[thread + 1])
        reads = [(load.node, load.index) for load in kernel.loads()]
        writes = [(store.node, store.index) for store in kernel.stores]
        return self._masks(kernel, reads, own), self._masks(kernel, writes, own)

    def _masks(self, kernel: Kernel, indices: list[tuple[Node, Expr]], own: Own) -> Masks:
        found: Masks = {}
        for node, index in indices:
            place, size = self.places[node], node.dtype.itemsize
            slot = -1 if place.slot is None else place.slot
            mask = found.setdefault(slot, np.zeros(self.sizes[slot], bool))
            mask[np.add.outer(place.offset + size * _elements(kernel, node, index, own), np.arange(size))] = True
        return found


def _meet(a: Masks, b: Masks) -> bool:
    return any(slot in b and (mask & b[slot]).any() for slot, mask in a.items())


def races(program: Program, threads: int) -> list[int]:
    """The kernels in which a thread touches what another touches or touched since they last met, one of them writing."""
    barriers, found, team = program.work_sharing.barriers(), [], Threads(program, threads)
    past = [(team.nothing(), team.nothing()) for _ in range(threads)]
    for number, kernel in enumerate(program.plan.kernels):
        if barriers[number] or any(number in (loop.first, loop.last) for loop in program.plan.loops):
            past = [(team.nothing(), team.nothing()) for _ in range(threads)]
        now = [team.touched(number, thread) for thread in range(threads)]
        for a, b in itertools.permutations(range(threads), 2):
            reads, writes = now[a]
            for read, written in (past[b], now[b]):
                if _meet(reads, written) or _meet(writes, written) or _meet(writes, read):
                    found.append(number)
        for before, touched in zip(past, now, strict=True):
            for kind, masks in zip(before, touched, strict=True):
                for slot, mask in masks.items():
                    kind[slot] |= mask
        if isinstance(kernel.core, Check):
            past = [(team.nothing(), team.nothing()) for _ in range(threads)]
    return found
