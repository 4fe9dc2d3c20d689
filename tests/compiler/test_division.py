"""Threads meet wherever they must: every byte that each thread touches is written out and compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.compiler import cost, parts
from chainrule.compiler.cut import Cut
from chainrule.compiler.division import Division
from chainrule.compiler.index import Expr, Loaded, Quotient, Var
from chainrule.compiler.kernels import Check, Dot, Kernel, Reduce, Rows
from chainrule.compiler.program import Program
from chainrule.compiler.target import Target
from chainrule.graph import Node


def training(sizes: tuple[int, ...], batch: int, dropout: bool = False, dtype: cr.DType = cr.float32) -> Program:
    cr.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU(), *([nn.Dropout(0.5)] * dropout)]
    model = nn.Sequential(*layers[: -1 - dropout]).to(dtype)
    optimizer = optim.Adam(model.parameters())

    @cr.compile
    def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    step(cr.randn(batch, sizes[0], dtype=dtype), cr.zeros(batch, dtype=cr.int64))
    assert step._latest is not None
    return step._latest.program


def values(expr: Expr, at: dict[Var, int]) -> list[int]:
    """Every value the expression can have there; data may be anything inside its axis."""
    results = [expr.constant]
    for atom, factor in expr.terms.items():
        if isinstance(atom, Var):
            found = [at[atom]]
        elif isinstance(atom, Loaded):
            found = list(range(atom.size))
        else:
            inner = values(atom.expr, at)
            found = [v // atom.by if isinstance(atom, Quotient) else v % atom.by for v in inner]
        results = [r + factor * v for r in results for v in found]
    return results


def elements(kernel: Kernel, indices: list[tuple[Node, Expr]], own: dict[Var, range]) -> Iterator[tuple[Node, int]]:
    loops = list(kernel.loops)
    if isinstance(kernel.core, (Reduce, Rows)):
        loops += kernel.core.dims
    if isinstance(kernel.core, Dot):
        loops.append(kernel.core.k)
    for node, index in indices:
        used = [var for var in loops if var in index.vars()]
        for point in itertools.product(*(own.get(var, range(var.size)) for var in used)):
            for value in values(index, dict(zip(used, point, strict=True))):
                yield node, value


def touched(program: Program, number: int, thread: int, threads: int) -> tuple[set[tuple[int, int]], ...]:
    """The bytes (slot, address) that a thread reads and writes in one kernel, one by one."""
    kernel, share = program.plan.kernels[number], program.division.shares()[number]
    if share is None and thread:
        return set(), set()
    own = {}
    if share is not None:
        edges = share.cut.edges(threads)
        own[share.var] = range(edges[thread], edges[thread + 1])

    def spots(indices: list[tuple[Node, Expr]]) -> set[tuple[int, int]]:
        found = set()
        for node, element in elements(kernel, indices, own):
            place, size = program.plan.places[node], node.dtype.itemsize
            slot = -1 if place.slot is None else place.slot
            found |= {(slot, place.offset + element * size + i) for i in range(size)}
        return found

    reads = [(load.node, load.index) for load in kernel.loads()]
    return spots(reads), spots([(store.node, store.index) for store in kernel.stores])


def races(program: Program, threads: int) -> list[int]:
    """The kernels in which a thread touches what another touched since they last met, one of them writing."""
    barriers, found = program.division.barriers(), []
    past: list[list[set[tuple[int, int]]]] = [[set(), set()] for _ in range(threads)]
    for number, kernel in enumerate(program.plan.kernels):
        if barriers[number]:
            past = [[set(), set()] for _ in range(threads)]
        now = [touched(program, number, thread, threads) for thread in range(threads)]
        for a, b in itertools.permutations(range(threads), 2):
            (reads, writes), (read, written) = now[a], past[b]
            if (reads | writes) & written or writes & read:
                found.append(number)
        for thread in range(threads):
            for kind in (0, 1):
                past[thread][kind] |= now[thread][kind]
        if isinstance(kernel.core, Check):
            past = [[set(), set()] for _ in range(threads)]
    return found


SHAPES = [((6, 16, 8, 3), 16), ((5, 7, 13, 3), 11), ((3, 33, 2), 2), ((4, 40, 3), 1), ((16, 64, 4), 24)]


@pytest.mark.parametrize(("sizes", "batch"), SHAPES)
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_no_thread_touches_what_another_wrote_since_they_met(
    free: None, sizes: tuple[int, ...], batch: int, threads: int
) -> None:
    program = training(sizes, batch, dropout=threads == 3, dtype=cr.float64 if threads == 5 else cr.float32)
    assert any(program.division.shares())
    assert races(program, threads) == []


def test_without_the_barriers_there_would_be_races(free: None, monkeypatch: pytest.MonkeyPatch) -> None:
    program = training(*SHAPES[0])
    monkeypatch.setattr(program.division, "barriers", lambda: [False] * len(program.plan.kernels))
    assert races(program, 2)


def test_layers_that_share_the_rows_of_a_batch_need_no_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward products follow each other without one; a weight's gradient, which reads all rows, must wait.

    The last layer's tiles, of ten columns, begin at other rows than those before: one barrier more.
    """
    monkeypatch.setattr(cost, "SMALL", 0.0)
    program = training((64, 128, 128, 128, 10), 512)
    shares, barriers = program.division.shares(), program.division.barriers()
    products = [n for n, kernel in enumerate(program.plan.kernels) if isinstance(kernel.core, Dot)]
    by_batch = [n for n in products if program.plan.kernels[n].loops[0].size == 512]
    assert [shares[n].by for n in by_batch if shares[n]] == ["rows"] * 7
    assert not any(barriers[n] for n in by_batch[:3])
    assert sum(barriers) < len(barriers) / 2


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 30), st.integers(1, 9)), max_size=20))
def test_every_range_knows_those_that_share_a_byte_with_it(drawn: list[tuple[int, int, int]]) -> None:
    spans = {(slot, start, start + size) for slot, start, size in drawn}
    found = parts.overlapping(spans)
    for a in spans:
        assert sorted(found[a]) == sorted(b for b in spans if a[0] == b[0] and a[1] < b[2] and b[1] < a[2])


@pytest.mark.parametrize("size", [1, 2, 7, 64, 65])
@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_a_cut_leaves_nothing_out_and_nothing_twice(size: int, rows: int, threads: int) -> None:
    edges = Cut.even(size, rows).edges(threads)
    assert edges[0] == 0
    assert edges[-1] == size
    assert list(edges) == sorted(edges)
    assert all(edge % rows == 0 for edge in edges[:-1] if edge < size)


def test_a_small_program_is_not_shared() -> None:
    program = training((4, 32, 32, 2), 32)
    assert not program.division.threaded
    assert program.division.best(8) == 1


def test_a_large_one_is() -> None:
    program = training((784, 256, 128, 10), 128)
    division = Division(program.plan, Target(64, 32))
    assert division.best(2) == 2
    assert division.estimate(2) < 0.65 * division.total
