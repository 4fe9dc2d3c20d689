"""``cr.scan`` against the loop it stands for, JAX's and PyTorch's: eager, compiled, and cut into several programs."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.compiler.canaries import Canaries
from tests.compiler.races import races
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn
from chainrule.control import loop
from chainrule.equations import verify
from chainrule.errors import IndexRangeError, ShapeError

Function = Callable[..., Any]
RNG = np.random.default_rng(0)


def doubles(*shape: int) -> Tensor:
    return cr.tensor(RNG.normal(size=shape) / 2)


def unrolled(f: Function, init: Any, xs: Tensor, reverse: bool = False) -> tuple[Any, Tensor]:
    """The loop of Python that a scan stands for, of one tensor of entries and one of results."""
    carry, ys = init, []
    for x in reversed(list(xs)) if reverse else xs:
        carry, y = f(carry, x)
        ys.append(y)
    return carry, cr.stack(ys[::-1] if reverse else ys)


def both_ways(f: Function, *args: Any) -> list[Any]:
    return [f(*args), cr.compile(f)(*args)]


def close(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(np.asarray(found.detach()), np.asarray(expected), rtol=tolerance, atol=tolerance)


def step_of(w: Tensor, u: Tensor) -> Function:
    """Two carries, one of integers; weights from outside; an entry that is handed through."""

    def step(carry: Any, x: Tensor) -> Any:
        h, n = carry["h"], carry["n"]
        h = (h @ w + x @ u).tanh() + x.sum() * 0.01
        return {"h": h, "n": n + 1}, (h * h * n, x)

    return step


def recurrence(reverse: bool, scan: Function = cr.scan) -> Function:
    def loss(w: Tensor, u: Tensor, xs: Tensor, h: Tensor) -> Tensor:
        step = step_of(w, u)
        if scan is cr.scan:
            last, (ys, handed) = scan(step, {"h": h, "n": cr.tensor(0)}, xs, reverse=reverse)
        else:
            last, ys = scan(lambda c, x: ((r := step(c, x))[0], r[1][0]), {"h": h, "n": cr.tensor(0)}, xs, reverse)
            handed = xs
        return (last["h"] * last["n"]).sum() + (ys * ys).sum() + (handed * ys.mean()).sum()

    return loss


@pytest.mark.parametrize("reverse", [False, True])
def test_values_and_derivatives_of_any_order_are_those_of_the_loop(reverse: bool) -> None:
    args = doubles(3, 3), doubles(4, 3), doubles(5, 2, 4), doubles(2, 3)
    scanned, looped = recurrence(reverse), recurrence(reverse, unrolled)
    for found in both_ways(scanned, *args):
        close(found, looped(*args))
    for found in both_ways(cr.grad(scanned, argnums=(0, 1, 2, 3)), *args):
        for one, other in zip(found, cr.grad(looped, argnums=(0, 1, 2, 3))(*args), strict=True):
            close(one, other)
    rest = args[1:]
    for found in both_ways(cr.hessian(lambda w: scanned(w, *rest)), args[0]):
        close(found, cr.hessian(lambda w: looped(w, *rest))(args[0]))
    moved = cr.jvp(lambda w: scanned(w, *rest), (args[0],), (args[0] * 2,))[1]
    close(moved, cr.jvp(lambda w: looped(w, *rest), (args[0],), (args[0] * 2,))[1])
    third = cr.grad(lambda w: (cr.grad(lambda w: (cr.grad(lambda w: scanned(w, *rest))(w) ** 2).sum())(w) ** 2).sum())
    loops = cr.grad(lambda w: (cr.grad(lambda w: (cr.grad(lambda w: looped(w, *rest))(w) ** 2).sum())(w) ** 2).sum())
    close(third(args[0]), loops(args[0]), 1e-7)


@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_jaxs(reverse: bool) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    jax.config.update("jax_enable_x64", True)

    def loss(scan: Function, tanh: Function) -> Function:
        def step(w: Any) -> Function:
            def inner(c: Any, x: Any) -> Any:
                return tanh(c @ w + x), c.sum()

            def outer(c: Any, x: Any) -> Any:
                h, ys = scan(inner, c[0], x, reverse=not reverse)
                return (h * c[1], c[1] + ys.sum()), (ys, None)

            return outer

        def of(w: Any, h: Any, xs: Any) -> Any:
            (h, s), (ys, _) = scan(step(w), (h, xs.sum()), xs, reverse=reverse)
            return (h * h).sum() * s + (ys * ys).sum()

        return of

    args = [np.asarray(doubles(*shape)) for shape in ((3, 3), (2, 3), (3, 4, 2, 3))]
    theirs = jax.grad(loss(jax.lax.scan, jax.numpy.tanh), argnums=(0, 1, 2))(*args)
    for found in both_ways(cr.grad(loss(cr.scan, cr.tanh), argnums=(0, 1, 2)), *map(cr.tensor, args)):
        for one, other in zip(found, theirs, strict=True):
            close(one, other)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-4)])
def test_an_lstm_cell_on_scan_is_pytorchs(dtype: str, tolerance: float) -> None:
    wanted = getattr(torch, dtype)
    theirs = torch.nn.LSTM(3, 5, dtype=wanted)
    xs = torch.randn(7, 2, 3, dtype=wanted, requires_grad=True)
    out, (h, c) = theirs(xs)
    ((out * out).sum() + (h * c).sum()).backward()
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    weights = [cr.tensor(getattr(theirs, name).detach().numpy()) for name in names]

    def loss(wi: Tensor, wh: Tensor, bi: Tensor, bh: Tensor, xs: Tensor) -> Tensor:
        def cell(state: Any, x: Tensor) -> Any:
            h, c = state
            i, f, g, o = (x @ wi.T + bi + h @ wh.T + bh).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            return (h, c), h

        zero = cr.zeros(2, 5, dtype=xs.dtype)
        (h, c), out = cr.scan(cell, (zero, zero), xs)
        return (out * out).sum() + (h * c).sum()

    expected = [*(getattr(theirs, name).grad for name in names), xs.grad]
    for found in both_ways(cr.grad(loss, argnums=(0, 1, 2, 3, 4)), *weights, cr.tensor(xs.detach().numpy())):
        for one, other in zip(found, expected, strict=True):
            close(one, other, tolerance)


# -- random loops --------------------------------------------------------------------------------------------------------


FORMULAS: list[Function] = [
    lambda a, b: a + b, lambda a, b: a * b, lambda a, b: (a @ b.T).tanh() @ b, lambda a, b: a.sigmoid() - b,
    lambda a, b: cr.where(a > b, a, b * 0.5), lambda a, b: a.sum(0, keepdim=True) * b, lambda a, b: b,
    lambda a, b: a.softmax(1), lambda a, b: cr.cat([b[1:], a[:1]]), lambda a, b: a.detach() * b, lambda a, b: a * 0,
]  # fmt: skip


def random_step(draw: random.Random) -> Function:
    """Random formulas over three carries, entries and weights from outside."""
    lines = [(draw.choice(FORMULAS), draw.randrange(99), draw.randrange(99)) for _ in range(draw.randint(3, 7))]
    chosen = [draw.randrange(99) for _ in range(5)]

    def step_with(w: Tensor) -> Function:
        def step(carry: Any, x: Tensor) -> Any:
            known = [*carry, x, w]
            for formula, a, b in lines:
                known.append(formula(known[a % len(known)], known[b % len(known)]) * 0.7)
            a, b, c, y, z = (known[i % len(known)] for i in chosen)
            return (a, b, c), (y, z.sum())

        return step

    return step_with


@pytest.mark.parametrize("seed", range(15))
def test_random_loops_give_what_python_gives(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    step_with, length, reverse = random_step(draw), draw.randint(1, 4), draw.random() < 0.5
    rows, columns = draw.randint(1, 3), draw.randint(1, 4)
    args = doubles(rows, columns), doubles(length, rows, columns), doubles(3, rows, columns)

    def loss(scan: Function) -> Function:
        def of(w: Tensor, xs: Tensor, init: Tensor) -> Tensor:
            step = step_with(w)
            if scan is cr.scan:
                last, (ys, zs) = cr.scan(step, tuple(init), xs, reverse=reverse)
            else:
                last, ys = unrolled(lambda c, x: ((r := step(c, x))[0], r[1][0]), tuple(init), xs, reverse)
                zs = unrolled(lambda c, x: ((r := step(c, x))[0], r[1][1]), tuple(init), xs, reverse)[1]
            return (last[0] * last[1]).sum() + last[2].sum() + (ys.sum(0) * 0.3).sum() + (zs * zs).sum()

        return of

    derivative = cr.value_and_grad(loss(cr.scan), argnums=(0, 1, 2))
    value, expected = cr.value_and_grad(loss(unrolled), argnums=(0, 1, 2))(*args)
    canaries = Canaries(monkeypatch)
    compiled = cr.compile(derivative)
    for found, gradients in [derivative(*args), compiled(*args), compiled(*args)]:
        close(found, value)
        for one, other in zip(gradients, expected, strict=True):
            close(one, other)
    canaries.check()
    verify(compiled._latest.program.graph)
    verify(compiled._latest.program.simplified)


# -- forms ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_no_step_one_step_and_steps_without_entries(compiled: bool) -> None:
    way = cr.compile if compiled else lambda f: f
    count = way(lambda h: cr.scan(lambda h, x: (h * 2, (h, x)), h, length=3))
    last, (ys, nothing) = count(cr.tensor([1.0, 2.0]))
    assert (last.tolist(), ys.tolist(), nothing) == ([8.0, 16.0], [[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]], None)
    one = way(lambda h, xs: cr.scan(lambda h, x: (h + x["a"], h - x["a"]), h, xs))
    last, ys = one(cr.tensor(1.0), {"a": cr.tensor([5.0])})
    assert (last.item(), ys.tolist()) == (6.0, [-4.0])

    def none(w: Tensor, h: Tensor, xs: Tensor) -> Tensor:
        last, ys = cr.scan(lambda h, x: ((h * w + x).tanh(), x[:1] * w), h, xs)
        assert ys.shape == (0, 1)
        return last.sum() + ys.sum()

    found = way(cr.grad(none, argnums=(0, 1, 2)))(cr.tensor(3.0), cr.ones(2), cr.ones(0, 2))
    assert [x.tolist() for x in found] == [0.0, [1.0, 1.0], []]


def test_a_named_tuple_numbers_and_arrays() -> None:
    last, ys = cr.scan(
        lambda c, x: ([c[0] + x[0], c[1]], {"y": c[0]}), [0.0, 2], [np.arange(3, dtype=np.float32)], length=3
    )
    assert ([x.tolist() for x in last], ys["y"].tolist()) == ([3.0, 2], [0.0, 0.0, 1.0])


def test_in_place_operations_write_to_the_steps_own_tensors() -> None:
    h, xs = cr.zeros(2), cr.ones(3, 2)

    def step(h: Tensor, x: Tensor) -> Any:
        h += x
        x[0] = 7.0
        return h, x

    for last, ys in both_ways(lambda h, xs: cr.scan(step, h, xs), h, xs):
        assert (last.tolist(), ys.tolist()) == ([3.0, 3.0], [[7.0, 1.0]] * 3)
    assert (h.tolist(), xs.tolist()) == ([0.0, 0.0], [[1.0, 1.0]] * 3)


def test_a_view_of_a_tensor_from_outside_is_read_where_it_looks() -> None:
    w = cr.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    row = w[1]
    last, _ = cr.scan(lambda h, _: (h * row, None), cr.ones(2), length=2)
    assert last.tolist() == [9.0, 16.0]
    last.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[0.0, 0.0], [6.0, 8.0]]
    assert row.tolist() == [3.0, 4.0]


def test_a_derivative_inside_the_function_reaches_what_is_outside() -> None:
    def descent(rate: Tensor, w: Tensor, scan: Function) -> Tensor:
        inner = cr.grad(lambda h: ((h * w) ** 2).sum())
        return (
            scan(lambda h, x: (h - rate * inner(h) * x, h), cr.ones(3, dtype=cr.float64), cr.ones(4, dtype=cr.float64))[
                0
            ]
        ).sum()

    args = cr.tensor(0.1, dtype=cr.float64), doubles(3)
    expected = cr.grad(lambda *a: descent(*a, unrolled), argnums=(0, 1))(*args)
    for found in both_ways(cr.grad(lambda *a: descent(*a, cr.scan), argnums=(0, 1)), *args):
        for one, other in zip(found, expected, strict=True):
            close(one, other)


def test_what_needs_no_gradient_gets_none() -> None:
    w, frozen = cr.ones(2, requires_grad=True), cr.ones(2, requires_grad=True)

    def step(h: Tensor, x: Tensor) -> Any:
        with cr.no_grad():
            held = frozen * 3
        return h * held + x, (h * w).detach()

    last, ys = cr.scan(step, cr.ones(2), cr.ones(3, 2))
    assert (last.requires_grad, ys.requires_grad) == (False, False)
    last, ys = cr.scan(lambda h, x: (h, x * w), cr.ones(2), cr.ones(3, 2))
    assert (last.requires_grad, ys.requires_grad) == (False, True)
    with cr.no_grad():
        assert not cr.scan(lambda h, x: (h * w, h), cr.ones(2), cr.ones(3, 2))[0].requires_grad


@pytest.mark.parametrize("reverse", [False, True])
def test_what_the_function_writes_to_goes_from_step_to_step(reverse: bool) -> None:
    """Random numbers, running statistics and counters are those of the loop, in eager mode and compiled."""

    def run(scan: Function, way: Function) -> list[Any]:
        cr.manual_seed(3)
        norm, total = nn.BatchNorm1d(2, dtype=cr.float64), cr.zeros(2, dtype=cr.float64)
        view = total[:1]

        def step(h: Tensor, x: Tensor) -> Any:
            h = F.dropout(h, 0.4) + norm(x)
            with cr.no_grad():
                total.add_(x.sum(0))
                view.mul_(0.5)
            return h, h * cr.rand(2, dtype=cr.float64)

        def loss(w: Tensor, xs: Tensor) -> Any:
            last, ys = scan(step, w, xs, reverse=reverse)
            return (last * last).sum() + ys.sum()

        found = way(cr.value_and_grad(loss, argnums=(0, 1)))
        values = [x for _ in range(2) for x in listed(found(cr.ones(3, 2, dtype=cr.float64), xs))]
        return [*values, norm.running_mean, norm.running_var, norm.num_batches_tracked, total, view, cr.rand(2)]

    xs = doubles(4, 3, 2)
    expected = run(unrolled, lambda f: f)
    for way in (lambda f: f, cr.compile):
        for one, other in zip(run(cr.scan, way), expected, strict=True):
            close(one, other, 1e-7)


def listed(found: Any) -> list[Tensor]:
    value, gradients = found
    return [x.detach() for x in (value, *gradients)]


# -- the compiled loop ----------------------------------------------------------------------------------------------------------


def lstm(w: Tensor, u: Tensor, xs: Tensor) -> Tensor:
    def cell(state: Any, x: Tensor) -> Any:
        h, c = state
        i, f, g, o = (x @ u + h @ w).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return (o.sigmoid() * c.tanh(), c), h

    zero = cr.zeros(xs.shape[1], w.shape[0])
    (h, c), ys = cr.scan(cell, (zero, zero), xs)
    return (ys * ys).sum() + (h * c).sum()


def test_the_program_is_the_same_however_many_steps_there_are() -> None:
    def program(length: int) -> Any:
        compiled = cr.compile(cr.grad(lstm, argnums=(0, 1, 2)))
        compiled(cr.randn(8, 32), cr.randn(5, 32), cr.randn(length, 3, 5))
        return compiled._latest.program

    few, many = program(10), program(1000)
    assert [[loop.count for loop in p.plan.loops] for p in (few, many)] == [[10, 10], [1000, 1000]]
    inside = [[p._texts[i][0] for loop in p.plan.loops for i in range(loop.first, loop.last)] for p in (few, many)]
    assert inside[0] == inside[1]
    assert len(few.plan.kernels) == len(many.plan.kernels)


@pytest.fixture
def threads() -> Iterator[None]:
    before = cr.get_num_threads()
    yield
    cr.set_num_threads(before)


def test_every_number_of_threads_gives_the_same_bits(threads: None, everything_divided: None) -> None:
    args = cr.randn(16, 64), cr.randn(12, 64), cr.randn(6, 24, 12)
    found = []
    for count in (1, 2, 3, 4):
        cr.set_num_threads(count)
        compiled = cr.compile(cr.grad(lstm, argnums=(0, 1, 2)))
        found += [[x.numpy().tobytes() for x in compiled(*args)] for _ in range(5)]
        assert compiled._latest.run.threads == count
    assert all(bits == found[0] for bits in found)
    step = compiled.show("llvm").partition("define internal i64 @step(")[2]
    for i in range(2):  # between one step and the next, and behind the last
        assert re.search(rf"^steps{i}:\n  call void @barrier", step, re.MULTILINE)
        assert re.search(rf"^steps{i}.done:\n  call void @barrier", step, re.MULTILINE)


def test_threads_race_for_nothing_and_meet_at_every_step_only_where_they_share(free: None) -> None:
    compiled = cr.compile(cr.grad(lstm, argnums=(0, 1, 2)))
    compiled(cr.randn(16, 64), cr.randn(12, 64), cr.randn(3, 24, 12))
    program = compiled._latest.program
    assert any(
        share is not None
        for loop in program.plan.loops
        for share in program.work_sharing.shares()[loop.first : loop.last]
    )
    assert races(program, 2) == races(program, 3) == []

    def small_loop(x: Tensor) -> Tensor:
        return cr.scan(lambda h, _: (h * 0.5, h), (x @ x).sum(), length=9)[0]

    alone = cr.compile(small_loop)
    alone(cr.randn(64, 64))
    assert alone._latest.program.work_sharing.threaded
    step = alone.show("llvm").partition("define internal i64 @step(")[2]
    assert re.search(
        r"call void @barrier.*\n  store i64 0.*\n  br label %steps0\nsteps0:\n(?!  call void @barrier)", step
    )


def test_a_program_cut_around_the_loop_gives_the_same() -> None:
    w, xs = doubles(3, 3), doubles(4, 2, 3)
    scanned = cr.compile(lambda w, h, xs: cr.scan(lambda h, x: ((h @ w + x).tanh(), h * 2), h, xs))

    def cut(w: Tensor, xs: Tensor) -> Tensor:
        h, ys = scanned(w, xs[0] * 2, xs)
        return (h * ys).sum()

    def whole(w: Tensor, xs: Tensor) -> Tensor:
        h, ys = cr.scan(lambda h, x: ((h @ w + x).tanh(), h * 2), xs[0] * 2, xs)
        return (h * ys).sum()

    for one, other in zip(cr.grad(cut, (0, 1))(w, xs), cr.compile(cr.grad(whole, (0, 1)))(w, xs), strict=True):
        close(one, other)


def test_an_index_outside_its_axis_is_found_inside_a_loop_and_leaves_state_alone() -> None:
    table, total = cr.arange(7) * 1.0, cr.tensor(0.0)

    def look(ids: Tensor) -> Tensor:
        last, _ = cr.scan(lambda c, i: (c + table[i], None), cr.tensor(0.0), ids)
        total.add_(last)
        return last * 1

    compiled = cr.compile(look)
    assert compiled(cr.tensor([1, 6])).item() == 7.0
    for f in (look, compiled):
        with pytest.raises(IndexRangeError, match="out of range for a"):
            f(cr.tensor([1, 9]))
    assert total.item() == 7.0


def test_another_threads_write_stays_and_its_reads_wait_for_what_the_function_names() -> None:
    w = cr.zeros(2)
    seen: list[Any] = []

    def elsewhere(f: Function) -> None:
        thread = threading.Thread(target=lambda: seen.append(f()))
        thread.start()
        thread.join()

    def step(h: Tensor, x: Tensor) -> Any:
        y = h + w
        elsewhere(lambda: w.add_(1) is w)
        return y, None

    assert cr.scan(step, cr.zeros(2), length=2)[0].tolist() == [0.0, 0.0]
    assert w.tolist() == [1.0, 1.0]
    view, stop = cr.ones(2, 3).t(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(view[0].sum().item())

    thread = threading.Thread(target=read)
    thread.start()
    for _ in range(30):
        cr.scan(lambda h, _: (h + view.sum(), None), cr.tensor(0.0), length=2)
    stop.set()
    thread.join()
    assert set(seen) == {True, 2.0}


def test_what_is_carried_requires_grad_where_it_does_in_a_loop() -> None:
    w = cr.tensor(2.0, requires_grad=True)
    asked: list[tuple[bool, bool]] = []

    def step(h: Tensor, x: Tensor) -> Any:
        asked.append((h.requires_grad, x.requires_grad))
        return h * factors[-1], x

    factors = []
    for factor, expected in [(w.detach(), [(False, False)]), (w, [(False, False), (True, False)])]:
        asked.clear()
        factors.append(factor)
        cr.scan(step, cr.tensor(1.0), cr.ones(3))
        assert asked == expected
    asked.clear()
    cr.scan(step, w * 1, cr.ones(3, requires_grad=True))
    assert asked == [(True, True)]


def test_loops_in_loops_are_traced_in_a_time_that_does_not_double_with_each() -> None:
    traced = [0]

    def nested(depth: int, h: Tensor, w: Tensor) -> Tensor:
        def step(h: Tensor, _: None) -> Any:
            traced[0] += 1
            return (nested(depth - 1, h, w) if depth > 1 else h * w), None

        return cr.scan(step, h, length=1)[0]

    regions = []
    with pytest.MonkeyPatch.context() as patched:
        made = loop._Backward.__init__
        patched.setattr(loop._Backward, "__init__", lambda self, *args: (regions.append(1), made(self, *args))[1])
        found = cr.grad(lambda w: nested(8, cr.tensor(1.0), w))(cr.tensor(3.0))
    assert found.item() == 1.0
    assert traced[0] <= 80
    assert len(regions) <= 200


# -- faults that must not pass ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["order", "residual", "direction"])
def test_a_planted_fault_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "direction":
        form = loop.Form
        monkeypatch.setattr(
            loop, "Form", lambda carries, slices, length, reverse: form(carries, slices, length, not reverse)
        )
    elif fault == "residual":
        stacks = loop._stacks
        monkeypatch.setattr(loop, "_stacks", lambda *args: stacks(*args)[::-1])
    else:
        evaluator = loop._evaluator
        monkeypatch.setattr(loop, "_evaluator", lambda body: lambda arrays: evaluator(body)(arrays[::-1]))
    with pytest.raises((AssertionError, ValueError, ShapeError)):
        test_values_and_derivatives_of_any_order_are_those_of_the_loop(False)
