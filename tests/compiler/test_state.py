"""State: handles rebound in a compiled function, and values of it that the user holds."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.errors import InPlaceError
from tests.compiler.plans import check_program
from tests.compiler.support import values

# -- handles rebound ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64, cr.int32, cr.int64, cr.uint8, cr.bool])
def test_state_of_every_dtype_is_written_back(dtype: Any) -> None:
    state = cr.tensor([0, 1, 1, 0, 1], dtype=dtype)
    step = cr.compile(lambda x: state.copy_(state | x if dtype == cr.bool else state + x) * 1)
    x = cr.tensor([1, 0, 1, 1, 0], dtype=dtype)
    for call in range(1, 4):
        step(x)
        expected = np.array([0, 1, 1, 0, 1]) + call * np.array([1, 0, 1, 1, 0])
        np.testing.assert_array_equal(state.numpy(), expected.astype(bool) if dtype == cr.bool else expected)


def test_two_states_are_swapped() -> None:
    a, b = cr.tensor([1.0, 2.0]), cr.tensor([3.0, 4.0])

    @cr.compile
    def swap() -> None:
        old = a.clone()
        a.copy_(b)
        b.copy_(old)

    swap()
    assert values(a, b) == [[3, 4], [1, 2]]
    swap()
    assert values(a, b) == [[1, 2], [3, 4]]


def test_three_states_move_round_with_arithmetic() -> None:
    a, b, c = (cr.tensor([float(i), i + 0.5]) for i in range(3))

    def turn() -> Tensor:
        x, y, z = a * 1, b * 1, c * 1
        a.copy_(y + z)
        b.copy_(z + x)
        c.copy_(x + y)
        return (a + b + c) * (x + y)

    eager = [t.clone() for t in (a, b, c)]
    x, y, z = (t.numpy() for t in eager)
    result = cr.compile(turn)()
    assert values(a, b, c) == [(y + z).tolist(), (z + x).tolist(), (x + y).tolist()]
    np.testing.assert_allclose(result.numpy(), 2 * (x + y + z) * (x + y))


def test_a_transposed_state_replaces_itself() -> None:
    a = cr.tensor(np.arange(9.0).reshape(3, 3))
    turn = cr.compile(lambda: a.copy_(a.T) * 1)
    turn()
    assert a.tolist() == np.arange(9.0).reshape(3, 3).T.tolist()
    turn()
    assert a.tolist() == np.arange(9.0).reshape(3, 3).tolist()


def test_a_state_shifted_along_itself() -> None:
    queue = cr.tensor([1.0, 2.0, 3.0, 4.0])
    push = cr.compile(lambda x: queue.copy_(cr.cat([queue[1:], x])) * 1)
    push(cr.tensor([5.0]))
    push(cr.tensor([6.0]))
    assert queue.tolist() == [3, 4, 5, 6]


def test_a_state_is_returned_as_it_was_and_as_it_is() -> None:
    w = cr.tensor([1.0, 2.0])

    @cr.compile
    def step() -> Any:
        before = w.clone()
        w.mul_(2.0)
        middle = w.clone()
        w.mul_(2.0)
        return before, middle, w, w * 1

    first = step()
    second = step()
    assert values(*first) == [[1, 2], [2, 4], [4, 8], [4, 8]]
    assert values(*second) == [[4, 8], [8, 16], [16, 32], [16, 32]]
    assert values(w) == [[16, 32]]


def test_one_value_is_written_to_two_states() -> None:
    a, b = cr.tensor([0.0]), cr.tensor([0.0])

    @cr.compile
    def step(x: Tensor) -> Tensor:
        y = x + 1
        a.copy_(y)
        b.copy_(y)
        return y

    y = step(cr.tensor([1.0]))
    assert values(a, b, y) == [[2], [2], [2]]
    step(cr.tensor([5.0]))
    assert values(a, b, y) == [[6], [6], [2]]


def test_a_state_takes_an_argument_and_a_constant() -> None:
    a, b = cr.tensor([0.0, 0.0]), cr.tensor([0.0, 0.0])

    @cr.compile
    def step(x: Tensor) -> None:
        a.copy_(x)
        b.fill_(7)

    x = cr.tensor([1.0, 2.0])
    step(x)
    a.add_(1)
    assert values(a, b, x) == [[2, 3], [7, 7], [1, 2]]


def test_siblings_that_read_each_others_old_values() -> None:
    """Both are computed in one loop: no store may come before the other's load."""
    a, b = cr.tensor(np.arange(5.0)), cr.tensor(np.arange(5.0) + 10)

    @cr.compile
    def step() -> Tensor:
        new_a = (a + b).exp().log1p() * 0 + a + b
        new_b = (a - b).exp().log1p() * 0 + a * b
        a.copy_(new_a)
        b.copy_(new_b)
        return new_a * new_b

    x, y = a.numpy().copy(), b.numpy().copy()
    product = step()
    np.testing.assert_allclose(a.numpy(), x + y)
    np.testing.assert_allclose(b.numpy(), x * y)
    np.testing.assert_allclose(product.numpy(), (x + y) * (x * y))


def test_state_whose_reader_comes_late_is_not_overwritten_early() -> None:
    w = cr.tensor(np.arange(6.0).reshape(2, 3))

    @cr.compile
    def step(x: Tensor) -> Tensor:
        old = w.clone()
        w.copy_(w + x)
        return old.sum(1) @ w + old.amax(0)

    x = cr.tensor(np.ones((2, 3)))
    old = w.numpy().copy()
    result = step(x)
    np.testing.assert_allclose(result.numpy(), old.sum(1) @ (old + 1) + old.max(0))
    np.testing.assert_allclose(w.numpy(), old + 1)


def test_slice_assignment_and_scatter_into_state() -> None:
    table = cr.zeros(4, 2)

    @cr.compile
    def step(rows: Tensor, x: Tensor) -> None:
        table.copy_(table.index_add(0, rows, x))
        table[0] = 9.0

    step(cr.tensor([1, 3, 1]), cr.ones(3, 2))
    step(cr.tensor([2, 2, -1]), cr.ones(3, 2))
    assert table.tolist() == [[9, 9], [2, 2], [2, 2], [2, 2]]


def test_the_generator_is_state() -> None:
    generator = cr.Generator(3)
    draw = cr.compile(lambda: (cr.rand(4, generator=generator), cr.randn(2, generator=generator)))
    compiled = [draw() for _ in range(3)]
    generator.manual_seed(3)
    eager = [(cr.rand(4, generator=generator), cr.randn(2, generator=generator)) for _ in range(3)]
    for (a, b), (x, y) in zip(compiled, eager, strict=True):
        assert a.tolist() == x.tolist()
        np.testing.assert_allclose(b.numpy(), y.numpy(), rtol=1e-5, atol=1e-6)
    assert generator.state.tolist() == [3, 6]
    generator.manual_seed(3)
    assert draw()[0].tolist() == compiled[0][0].tolist()


# -- what the user holds never changes ----------------------------------------------------------------


@pytest.mark.parametrize(
    "hold",
    [
        lambda w: w.numpy(),
        lambda w: w.detach().numpy(),
        lambda w: np.asarray(w),
        lambda w: w.clone(),
        lambda w: cr.zeros(3).copy_(w),
        lambda w: cr.cat([w.detach()]),
    ],
    ids=["numpy", "detach.numpy", "asarray", "clone", "copy_", "cat"],
)
def test_what_was_copied_of_a_state_stays(hold: Callable[[Tensor], Any]) -> None:
    w = cr.tensor([1.0, 2.0, 3.0])
    step = cr.compile(lambda: w.mul_(2.0) * 1)
    step()  # from here on the state lies in a buffer of the program's own
    held = hold(w)
    step()
    step()
    np.testing.assert_array_equal(np.asarray(held), [2.0, 4.0, 6.0])
    assert w.tolist() == [8, 16, 24]


@pytest.mark.parametrize(
    "hold",
    [
        lambda w: w.detach(),
        lambda w: w.data,
        lambda w: w.reshape(3, 1),
        lambda w: w.expand(2, 3),
        lambda w: w[1:],
        lambda w: w.detach()[1:].view(2, 1),
        lambda w: cr.as_tensor(w.detach()),
    ],
    ids=["detach", "data", "reshape", "expand", "slice", "slice of detach", "as_tensor"],
)
def test_a_view_of_a_state_sees_every_step(hold: Callable[[Tensor], Any]) -> None:
    w = cr.tensor([1.0, 2.0, 3.0])
    step = cr.compile(lambda: w.mul_(2.0) * 1)
    held = hold(w)
    for factor in (2, 4, 8):
        step()
        expected = hold(cr.tensor([1.0, 2.0, 3.0]) * factor)
        np.testing.assert_array_equal(np.asarray(held), np.asarray(expected))
        np.testing.assert_array_equal(np.asarray(held), np.asarray(expected))  # read twice, the second time not derived
    assert w.tolist() == [8, 16, 24]


def test_results_stay() -> None:
    w = cr.tensor([1.0])
    step = cr.compile(lambda x: (w.add_(x), x * 2, x))
    results = [step(cr.tensor([float(i)])) for i in range(3)]
    assert [values(*r) for r in results] == [[[1], [0], [0]], [[2], [2], [1]], [[4], [4], [2]]]


def test_a_view_of_a_state_given_as_an_argument_is_refused() -> None:
    w = cr.tensor([1.0, 2.0])
    step = cr.compile(lambda x: w.add_(x) * x)
    step(cr.tensor([1.0, 1.0]))
    with pytest.raises(InPlaceError, match="an argument of shape .2,. is a view of a tensor that the function changes"):
        step(w.detach())  # its elements would change while the program runs
    assert w.tolist() == [2, 3]
    assert values(w, step(w.detach().clone())) == [[4, 6], [8, 18]]


def test_two_states_that_were_one_value() -> None:
    a = cr.tensor([1.0, 2.0])
    step = cr.compile(lambda: a.mul_(2.0) * 1)
    step()
    b = cr.zeros(2).copy_(a)
    both = cr.compile(lambda: (a.add_(1.0) * 1, b.mul_(10.0) * 1))
    both()
    step()
    assert values(a, b) == [[6, 10], [20, 40]]


def test_a_state_rebound_outside_between_calls() -> None:
    w = cr.tensor([1.0])
    step = cr.compile(lambda: w.add_(1.0) * 1)
    step()
    w.mul_(10.0)
    assert step().tolist() == [21]
    w.copy_(cr.tensor([0.0]))
    assert step().tolist() == [1]


# -- several programs ---------------------------------------------------------------------------------


def test_two_programs_share_their_state() -> None:
    total = cr.tensor(0.0)
    step = cr.compile(lambda x: total.add_(x.sum()) * 1)
    other = cr.compile(lambda: total.mul_(2.0) * 1)
    for size, expected in [(3, 3), (5, 8), (3, 11), (5, 16)]:
        assert step(cr.ones(size)).item() == expected
    other()
    step(cr.ones(3))
    other()
    assert total.item() == 70


def test_tied_weights() -> None:
    w = cr.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    x = cr.tensor([[1.0, -1.0]])

    def step() -> Tensor:
        w.grad = None
        loss = (x @ w @ w.T).sum()
        loss.backward()
        with cr.no_grad():
            w.sub_(0.1 * w.grad)
        return loss

    v = w.detach().clone().requires_grad_()
    (x @ v @ v.T).sum().backward()
    compiled = cr.compile(step)
    compiled()
    np.testing.assert_allclose(w.grad.numpy(), v.grad.numpy())
    np.testing.assert_allclose(w.detach().numpy(), (v - 0.1 * v.grad).detach().numpy())


# -- random updates -----------------------------------------------------------------------------------


UPDATES: list[Callable[[Tensor, Tensor, Tensor], Tensor]] = [
    lambda a, b, x: a + b,
    lambda a, b, x: b,
    lambda a, b, x: a * 0.5 + x,
    lambda a, b, x: a.T,
    lambda a, b, x: b.flip(0) - a,
    lambda a, b, x: cr.cat([a[1:], b[:1]]),
    lambda a, b, x: a.softmax(1) + b,
    lambda a, b, x: (a @ b) * 0.125,
    lambda a, b, x: a.index_add(0, cr.tensor([2, 0, 2]), b * 0.5),
    lambda a, b, x: a - a.mean(0),
    lambda a, b, x: (a + b).tanh(),
    lambda a, b, x: cr.where(a > b, a, x),
    lambda a, b, x: x,
]


@pytest.mark.parametrize("seed", range(40))
def test_random_updates_of_several_states(seed: int) -> None:
    rng = np.random.default_rng(seed)
    start = [rng.normal(size=(3, 3)) for _ in range(4)]
    plan = [rng.integers(0, [4, 4, 4, len(UPDATES), 3]) for _ in range(rng.integers(2, 9))]

    def make() -> tuple[list[Tensor], Callable[[Tensor], Any]]:
        states = [cr.tensor(s) for s in start]

        def step(x: Tensor) -> list[Tensor]:
            seen = [s * 1 if i % 2 else s.clone() for i, s in enumerate(states)]
            for target, a, b, update, late in plan:
                value = UPDATES[update](states[a] if late else seen[a], states[b] if late > 1 else seen[b], x)
                states[target].copy_(value)
                seen.append(value)
            return [*seen[::3], states[plan[0][0]] * 2]

        return states, step

    ours, step = make()
    theirs, eager = make()
    compiled = cr.compile(step)
    for call in range(3):
        x = cr.tensor(rng.normal(size=(3, 3)))
        for a, b in zip([*compiled(x), *ours], [*eager(x), *theirs], strict=True):
            np.testing.assert_allclose(a.numpy() if call else np.array(a.tolist()), b.numpy(), rtol=1e-9, atol=1e-12)
    assert compiled._latest is not None
    check_program(compiled._latest.program)


def test_state_that_a_program_changes_lies_on_cache_lines() -> None:
    """A vector that crosses into the next line is read and written at half the speed."""
    raw = np.zeros(4 * 37 + 1, np.float32)[1:]  # 4 bytes beyond a boundary of any size
    total = cr.from_numpy(raw[: 4 * 37].reshape(4, 37))
    step = cr.compile(lambda x: total.add_(x))
    with cr.no_grad():
        step(cr.ones(4, 37))
    assert total._node._value.ctypes.data % 64 == 0
    assert total.tolist() == np.ones((4, 37)).tolist()


READINGS: list[Callable[[Tensor], Any]] = [
    lambda w: w.numpy().tolist(), lambda w: w.tolist(), lambda w: w.detach().tolist(),
    lambda w: (w + 0).tolist(), lambda w: [part.item() for part in w],
]  # fmt: skip


@pytest.mark.parametrize("read", READINGS)
def test_another_thread_reads_state_while_it_is_traced(read: Callable[[Tensor], Any]) -> None:
    """It finds the value from before or after the step, not what stands for it in the trace."""
    w, tracing, seen = cr.tensor([1.0, 2.0]), threading.Event(), []

    def look() -> None:
        tracing.wait()
        try:
            seen.append(read(w))
        except Exception as error:
            seen.append(error)

    @cr.compile
    def double() -> None:
        w.mul_(2)
        tracing.set()
        time.sleep(0.05)  # the other thread looks meanwhile

    thread = threading.Thread(target=look)
    thread.start()
    double()
    thread.join()
    assert seen[0] in ([1.0, 2.0], [2.0, 4.0])
    assert w.tolist() == [2.0, 4.0]


def test_the_first_value_of_a_state_is_not_kept_beside_its_buffer() -> None:
    state = cr.ones(1000)
    state.numpy()  # somebody may hold it: the program works on a copy
    first = weakref.ref(state._node.value)

    @cr.compile
    def step() -> None:
        state.mul_(2.0)

    step()
    gc.collect()
    assert first() is None
