"""Threads meet wherever they must: every byte that each thread touches is written out and compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.compiler.plan import access, cost
from chainrule.compiler.plan.cut import Cut
from chainrule.compiler.plan.nests import Nests
from chainrule.compiler.plan.partition import Share
from chainrule.compiler.plan.target import Target
from chainrule.compiler.plan.work_sharing import Hazards, Way, WorkSharing
from chainrule.compiler.program import Program
from chainrule.compiler.schedule.index import Expr, Var
from chainrule.compiler.schedule.kernels import Dot
from tests.compiler.plans import check_program
from tests.compiler.programs import Program as RandomProgram
from tests.compiler.programs import programs
from tests.compiler.races import races


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


SHAPES = [((6, 16, 8, 3), 16), ((5, 7, 13, 3), 11), ((3, 33, 2), 2), ((4, 40, 3), 1), ((16, 64, 4), 24)]


@pytest.mark.parametrize(("sizes", "batch"), SHAPES)
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_no_thread_touches_what_another_wrote_since_they_met(
    free: None, sizes: tuple[int, ...], batch: int, threads: int
) -> None:
    program = training(sizes, batch, dropout=threads == 3, dtype=cr.float64 if threads == 5 else cr.float32)
    assert any(program.work_sharing.shares())
    assert races(program, threads) == []


def test_without_the_barriers_there_would_be_races(free: None, monkeypatch: pytest.MonkeyPatch) -> None:
    program = training(*SHAPES[0])
    monkeypatch.setattr(program.work_sharing, "barriers", lambda: [False] * len(program.plan.kernels))
    assert races(program, 2)


def overlapping_reads(read: Callable[[cr.Tensor], cr.Tensor]) -> Program:
    """Products shared by their number, and a kernel whose threads read of them what lies beside their own."""
    compiled = cr.compile(lambda x, w: read(x @ w))
    compiled(cr.randn(24, 2, 5), cr.randn(24, 5, 8))
    assert compiled._latest is not None
    program = compiled._latest.program
    assert all(program.work_sharing.shares())
    assert len(program.plan.kernels) > 1
    return program


def moved(y: cr.Tensor) -> cr.Tensor:
    """Each row where the next one was, the first of zeros: as many rows, each of them the work of its neighbour."""
    gradient: cr.Tensor = cr.grad(lambda z: (z[1:] * y[:-1]).sum())(cr.zeros(*y.shape))
    return gradient


READS = [
    moved,
    lambda y: moved(y) * y,
    lambda y: y[1:] * y[:-1],
    lambda y: y[1:] + 1,  # only the rows of others, at the edges
    lambda y: y.flip(0) + y,
    lambda y: y[:, :, 1:].reshape(-1)[:-16].reshape(10, 32).exp() + 1,
    lambda y: y.reshape(12, 4, 8).sum(1),
    lambda y: y.permute(2, 1, 0).reshape(24, 16) * 2,
    lambda y: y[::2] * y[1::2],
]


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_meet_where_they_read_beside_their_own(
    free: None, read: Callable[[cr.Tensor], cr.Tensor], threads: int
) -> None:
    assert races(overlapping_reads(read), threads) == []


def test_without_a_look_at_how_far_reads_reach_there_would_be_races(
    free: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: whatever moves along the shared loop counts as a thread's own."""

    def careless(index: Expr, share: access.Share | None, itemsize: int) -> access.Lane | None:
        stride = index.terms.get(share.var, 0) if share is not None else 0
        return access.Lane(stride * itemsize, share.var.size, share.cut) if share is not None and stride > 0 else None

    monkeypatch.setattr(access, "_lane", careless)
    assert races(overlapping_reads(READS[0]), 2)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(drawn=programs())
def test_no_random_program_has_a_race(free: None, drawn: RandomProgram) -> None:
    note(repr(drawn))
    parameters = [cr.tensor(p, requires_grad=True) for p in drawn.parameters]
    compiled = cr.compile(lambda *args: drawn.run(list(args), parameters))
    compiled(*(cr.tensor(a) for a in drawn.arguments))
    if compiled._latest is not None:
        for threads in (2, 3):
            assert races(compiled._latest.program, threads) == []


BATCHED = [
    ((1000, 16, 16), (1000, 16, 16)),
    ((2, 12, 16, 8), (2, 12, 8, 16)),
    ((12, 16, 8), (1, 8, 16)),
    ((1, 16, 8), (10, 8, 4)),
    ((2, 4, 16, 8), (2, 4, 8, 16)),  # no axis of the batch has enough for all threads: two of them together have
    ((3, 4, 2, 16, 8), (3, 1, 2, 8, 16)),
]


@pytest.mark.parametrize(("a", "b"), BATCHED)
def test_a_batch_of_products_is_shared_by_its_own_axis(free: None, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    compiled = cr.compile(lambda a, b: a @ b)
    compiled(cr.randn(*a), cr.randn(*b))
    assert compiled._latest is not None
    program = compiled._latest.program
    (share,) = program.work_sharing.shares()
    assert share is not None
    assert share.by == "batch"
    assert share.cut.units >= 8
    check_program(program)
    for threads in (2, 3, 8):
        assert races(program, threads) == []


def test_the_steps_of_attention_share_their_heads_together_and_need_no_barrier(everything_divided: None) -> None:
    compiled = cr.compile(lambda q, k, v: (q @ k.mT).softmax(-1) @ v)
    inputs, found = [cr.randn(2, 4, 16, 8) for _ in range(3)], set()
    for threads in (1, 2, 3, 8):
        cr.set_num_threads(threads)
        found.add(compiled(*inputs).numpy().tobytes())
    assert len(found) == 1
    assert compiled._latest is not None
    program = compiled._latest.program
    check_program(program)
    shares = program.work_sharing.shares()
    assert [share.cut.units for share in shares if share is not None] == [8, 8, 8]
    assert not any(program.work_sharing.barriers())
    for threads in (2, 3, 8):
        assert races(program, threads) == []


def test_threads_wait_for_heads_that_another_has(free: None) -> None:
    """Each reads its own heads and, of the first sequence, those that others made."""
    compiled = cr.compile(lambda a, b: (a @ b)[:1] * (a @ b).softmax(-1))
    compiled(cr.randn(2, 4, 16, 8), cr.randn(2, 4, 8, 16))
    assert compiled._latest is not None
    assert len(compiled._latest.program.plan.kernels) > 1
    for threads in (2, 3):
        assert races(compiled._latest.program, threads) == []


def test_layers_that_share_the_rows_of_a_batch_need_no_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward products follow each other without one; a weight's gradient, which reads all rows, must wait.

    The last layer's tiles, of ten columns, begin at other rows than those before: one barrier more.
    """
    monkeypatch.setattr(cost, "SMALL", 0.0)
    program = training((64, 128, 128, 128, 10), 512)
    shares, barriers = program.work_sharing.shares(), program.work_sharing.barriers()
    products = [n for n, kernel in enumerate(program.plan.kernels) if isinstance(kernel.core, Dot)]
    by_batch = [n for n in products if program.plan.kernels[n].loops[0].size == 512]
    assert [share.var.size for n in by_batch if (share := shares[n])] == [512] * 7
    assert not any(barriers[n] for n in by_batch[:3])
    assert sum(barriers) < len(barriers) / 2


def test_no_two_threads_add_at_places_that_are_data(free: None) -> None:
    compiled = cr.compile(lambda x, i, y: x.index_add(0, i, y))
    compiled(cr.zeros(7, 64), cr.arange(4000) % 7, cr.ones(4000, 64))
    assert compiled._latest is not None
    program = compiled._latest.program
    adds = [any(store.combine for store in kernel.stores) for kernel in program.plan.kernels]
    assert [share is None for add, share in zip(adds, program.work_sharing.shares(), strict=True) if add] == [True]


def test_all_that_was_read_since_they_met_counts_and_not_only_the_last() -> None:
    row, cut = Var(0, 8), Cut.even(8)
    whole = access.Access(0, 0, 256)
    own = access.Access(0, 0, 256, access.Lane(32, 8, cut))
    share = Share.of(row, cut, "loop")
    hazards = Hazards(access.overlapping([whole.span]))
    for read in (whole, own):
        assert not hazards.met_by(Way(share, access.Footprint((read,), ())))
    assert hazards.meets(Way(share, access.Footprint((), (own,))))


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(0, 30), st.integers(1, 9)), max_size=20))
def test_every_range_knows_those_that_share_a_byte_with_it(drawn: list[tuple[int, int, int]]) -> None:
    spans = {(slot, start, start + size) for slot, start, size in drawn}
    found = access.overlapping(spans)
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
    assert not program.work_sharing.threaded
    assert program.work_sharing.best(8) == 1


def test_a_large_one_is() -> None:
    program = training((784, 256, 128, 10), 128)
    sharing = WorkSharing(program.plan, Nests(program.plan.kernels, Target(64, 32)))
    assert sharing.best(2) == 2
    assert sharing.estimate(2) < 0.65 * sharing.total
