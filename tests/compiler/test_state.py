"""State: handles rebound in a compiled function, gradients written back, and values the user holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.trace import guard, live
from tests.compiler.plans import check_program


def values(*tensors: Tensor | None) -> list[Any]:
    return [None if t is None else t.detach().tolist() for t in tensors]


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
        lambda w: w.detach(),
        lambda w: w.detach().numpy(),
        lambda w: w.data,
        lambda w: np.asarray(w),
        lambda w: w.clone(),
        lambda w: cr.zeros(3).copy_(w),
        lambda w: w.reshape(3, 1),
        lambda w: w.expand(2, 3),
        lambda w: w[1:],
        lambda w: cr.as_tensor(w.detach()),
        lambda w: cr.cat([w.detach()]),
    ],
    ids=["numpy", "detach", "detach.numpy", "data", "asarray", "clone", "copy_", "reshape", "expand", "slice", "as_tensor", "cat"],
)  # fmt: skip
def test_what_was_read_of_a_state_stays(hold: Callable[[Tensor], Any]) -> None:
    w = cr.tensor([1.0, 2.0, 3.0])
    step = cr.compile(lambda: w.mul_(2.0) * 1)
    step()  # from here on the state lies in a buffer of the program's own
    held = hold(w)
    step()
    step()
    expected = hold(cr.tensor([2.0, 4.0, 6.0]))
    np.testing.assert_array_equal(np.asarray(held), np.asarray(expected))
    assert w.tolist() == [8, 16, 24]


def test_results_stay() -> None:
    w = cr.tensor([1.0])
    step = cr.compile(lambda x: (w.add_(x), x * 2, x))
    results = [step(cr.tensor([float(i)])) for i in range(3)]
    assert [values(*r) for r in results] == [[[1], [0], [0]], [[2], [2], [1]], [[4], [4], [2]]]


def test_a_state_given_as_an_argument_under_another_name() -> None:
    w = cr.tensor([1.0, 2.0])
    step = cr.compile(lambda x: w.add_(x) * x)
    step(cr.tensor([1.0, 1.0]))
    y = step(w.detach())  # x is the old value throughout
    assert values(w, y) == [[4, 6], [8, 18]]


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


# -- gradients ----------------------------------------------------------------------------------------


def parameter() -> Tensor:
    return cr.tensor([1.0, 2.0], requires_grad=True)


def test_the_gradient_is_written_back() -> None:
    p = parameter()

    @cr.compile
    def step(x: Tensor) -> Tensor:
        p.grad = None
        loss = (p * p * x).sum()
        loss.backward()
        return loss

    for scale in (1.0, 3.0, 2.0):
        step(cr.tensor([scale, scale]))
        assert p.grad.tolist() == [2 * scale, 4 * scale]


def test_gradients_accumulate_over_calls_where_nothing_clears_them() -> None:
    p, q = parameter(), parameter()

    def step(w: Tensor, x: Tensor) -> Tensor:
        loss = (w * w * x).sum()
        loss.backward()
        return loss

    compiled = cr.compile(lambda x: step(p, x))
    for call in range(6):
        x = cr.tensor([call + 1.0, 1.0])
        compiled(x)
        step(q, x)
        assert p.grad.tolist() == q.grad.tolist()
    p.grad = q.grad = None
    for _ in range(2):
        compiled(x)
        step(q, x)
        assert p.grad.tolist() == q.grad.tolist()
    p.grad = cr.tensor([100.0, 200.0])
    compiled(x)
    assert p.grad.tolist() == [112, 204]


def test_gradients_zeroed_in_place_accumulate_within_a_step() -> None:
    p = parameter()
    p.grad = cr.tensor([5.0, 5.0])

    @cr.compile
    def step(x: Tensor) -> None:
        p.grad.zero_()
        (p * x).sum().backward()
        (p * x).sum().backward()

    for scale in (1.0, 2.0, 3.0):
        step(cr.tensor([scale, scale]))
        assert p.grad.tolist() == [2 * scale, 2 * scale]


def test_a_gradient_is_cleared() -> None:
    p = parameter()
    p.grad = cr.tensor([5.0, 5.0])

    @cr.compile
    def step() -> Tensor:
        loss = (p * p).sum()
        p.grad = None
        return loss.detach()

    step()
    assert p.grad is None
    p.grad = cr.tensor([5.0, 5.0])
    step()
    assert p.grad is None


def test_a_gradient_used_and_cleared_in_one_step() -> None:
    p = parameter()

    @cr.compile
    def step() -> None:
        (p * p).sum().backward()
        with cr.no_grad():
            p.sub_(p.grad * 0.25)
        p.grad = None

    step()
    step()
    assert p.grad is None
    assert p.detach().tolist() == [0.25, 0.5]


def test_held_gradients_stay() -> None:
    p = parameter()

    @cr.compile
    def step(x: Tensor) -> None:
        p.grad = None
        (p * x).sum().backward()

    held = []
    for i in range(4):
        step(cr.tensor([float(i), 1.0]))
        held.append(p.grad)
    assert [g.tolist() for g in held] == [[i, 1] for i in range(4)]
    array = p.grad.numpy()
    detached = p.grad.detach()
    step(cr.tensor([9.0, 9.0]))
    step(cr.tensor([8.0, 8.0]))
    assert array.tolist() == detached.tolist() == [3, 1]


def test_a_held_gradient_stays_when_the_attribute_was_cleared_outside() -> None:
    p, q = parameter(), parameter()

    @cr.compile
    def step(x: Tensor) -> None:
        p.grad = None
        (p * x).sum().backward()

    step(cr.tensor([1.0, 1.0]))
    g = p.grad
    p.grad = None
    step(cr.tensor([2.0, 2.0]))
    assert g.tolist() == [1, 1]
    q.grad = p.grad
    p.grad = None
    step(cr.tensor([3.0, 3.0]))
    assert q.grad.tolist() == [2, 2]
    assert p.grad.tolist() == [3, 3]


def test_the_gradient_of_an_argument_goes_to_the_argument_of_the_call() -> None:
    @cr.compile
    def step(x: Tensor) -> Tensor:
        loss = (x * x).sum()
        loss.backward()
        return loss.detach()

    first, second = parameter(), cr.tensor([5.0, 6.0], requires_grad=True)
    step(first)
    step(second)
    assert first.grad.tolist() == [2, 4]
    assert second.grad.tolist() == [10, 12]


def test_an_argument_changed_in_place_is_the_one_of_the_call() -> None:
    double = cr.compile(lambda x: x.mul_(2.0) * 1)
    first, second = cr.tensor([1.0]), cr.tensor([10.0])
    view = first.detach()
    double(first)
    double(second)
    double(first)
    assert values(first, second, view) == [[4], [20], [1]]


def test_a_tensor_that_is_argument_and_captured() -> None:
    w = cr.tensor([2.0])
    product = cr.compile(lambda x: w * x)
    assert product(w).tolist() == [4]
    assert product(cr.tensor([5.0])).tolist() == [10]
    assert product(w).tolist() == [4]


# -- loops --------------------------------------------------------------------------------------------


def network() -> tuple[list[Tensor], Callable[..., Any]]:
    rng = np.random.default_rng(0)
    w = cr.tensor(rng.normal(size=(5, 7)).astype("f") * 0.5, requires_grad=True)
    v = cr.tensor(rng.normal(size=(7, 3)).astype("f") * 0.5, requires_grad=True)
    moments = [cr.zeros(5, 7), cr.zeros(7, 3)]
    generator = cr.Generator(1)

    def step(x: Tensor, y: Tensor) -> Any:
        w.grad = v.grad = None
        hidden = (x @ w).relu() * (cr.rand(x.shape[0], 7, generator=generator) < 0.8)
        scores = (hidden @ v).log_softmax(1)
        loss = -scores.gather(1, y.unsqueeze(1)).mean()
        loss.backward()
        with cr.no_grad():
            for p, m in zip((w, v), moments, strict=True):
                m.mul_(0.9).add_(p.grad)
                p.sub_(m * 0.05)
        return loss.detach(), {"hits": (scores.argmax(1) == y).sum(), "scores": scores.detach()}

    return [w, v, *moments, generator.state], step


def batches(steps: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(4)
    return cr.tensor(rng.normal(size=(steps, 4, 5)).astype("f")), cr.tensor(rng.integers(0, 3, (steps, 4)))


def test_a_loop_gives_the_bits_of_single_calls() -> None:
    x, y = batches(9)
    state, step = network()
    single = cr.compile(step)
    results = [single(x[i], y[i]) for i in range(9)]
    other_state, other = network()
    looped = cr.compile(other)
    loss, extra = looped.loop(x, y)
    assert loss.tolist() == [r[0].item() for r in results]
    assert extra["hits"].tolist() == [r[1]["hits"].item() for r in results]
    assert extra["scores"].tolist() == [r[1]["scores"].tolist() for r in results]
    for a, b in zip(state, other_state, strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    assert state[0].grad.tolist() == other_state[0].grad.tolist()
    again, _ = looped.loop(x[:2], y[:2])  # and a call after a loop goes on from there
    assert again.tolist() == [single(x[i], y[i])[0].item() for i in range(2)]
    assert looped(x[2], y[2])[0].item() == single(x[2], y[2])[0].item()


def test_compiled_and_eager_training_agree() -> None:
    x, y = batches(12)
    state, step = network()
    compiled = cr.compile(step)
    other_state, eager = network()
    for i in range(12):
        a, b = compiled(x[i], y[i]), eager(x[i], y[i])
        np.testing.assert_allclose(a[0].numpy(), b[0].numpy(), rtol=2e-5)
    for s, t in zip(state, other_state, strict=True):
        np.testing.assert_allclose(s.detach().numpy(), t.detach().numpy(), rtol=2e-4, atol=2e-6)


def test_a_loop_of_no_steps_changes_nothing() -> None:
    x, y = batches(1)
    state, step = network()
    compiled = cr.compile(step)
    before = values(*state)
    loss, extra = compiled.loop(x[:0], y[:0])
    assert loss.shape == (0,)
    assert extra["scores"].shape == (0, 4, 3)
    assert values(*state) == before
    assert state[0].grad is None


def test_a_held_state_stays_through_a_loop() -> None:
    w = cr.tensor([0.0])
    add = cr.compile(lambda x: w.add_(x) * 1)
    add(cr.tensor([1.0]))
    held = w.numpy()
    add.loop(cr.ones(5, 1))
    assert held.tolist() == [1]
    assert w.tolist() == [6]


# -- Python values ------------------------------------------------------------------------------------


def test_live_numbers_are_read_at_each_call() -> None:
    rate = [0.5]
    traces = []

    @cr.compile
    def step(x: Tensor) -> Tensor:
        traces.append(1)
        return x * live(lambda: rate[0])

    assert step(cr.tensor([2.0])).tolist() == [1]
    rate[0] = 3.0
    y = step(cr.tensor([2.0]))
    assert y.tolist() == [6]
    assert y.dtype == cr.float32
    assert len(traces) == 1


def test_a_guard_traces_anew_and_remembers() -> None:
    mode = ["train"]
    traces = []

    @cr.compile
    def step(x: Tensor) -> Tensor:
        traces.append(guard(lambda: mode[0]))
        return x * (2 if guard(lambda: mode[0]) == "train" else 3)

    results = []
    for name in ("train", "eval", "train", "eval"):
        mode[0] = name
        results.append(step(cr.tensor([1.0])).tolist())
    assert results == [[2], [3], [2], [3]]
    assert traces == ["train", "eval"]


def test_a_new_signature_traces_anew() -> None:
    traces = []

    @cr.compile
    def f(x: Tensor, factor: Any = 1, *, flag: bool = False) -> Tensor:
        traces.append((x.shape, x.dtype, factor, flag, cr.is_grad_enabled()))
        return x * factor + (1 if flag else 0)

    x = cr.tensor([1.0, 2.0])
    for _ in range(2):
        assert f(x).tolist() == [1, 2]
        assert f(x, 2).tolist() == [2, 4]
        assert f(x, 2.0).tolist() == [2, 4]
        assert f(x, True).tolist() == [1, 2]
        assert f(x, factor=3, flag=True).tolist() == [4, 7]
        assert f(x[:1]).tolist() == [1]
        assert f(x.double()).dtype == cr.float64
        with cr.no_grad():
            f(x)
    assert len(traces) == 8


def test_the_sign_of_a_zero_argument_counts() -> None:
    f = cr.compile(lambda x, a: x * a)
    x = cr.tensor([1.0])
    assert np.signbit(f(x, 0.0).numpy()).tolist() == [False]
    assert np.signbit(f(x, -0.0).numpy()).tolist() == [True]


# -- arguments and results ----------------------------------------------------------------------------


def test_nested_arguments_and_results() -> None:
    @cr.compile
    def f(pair: Any, named: Any, *, more: Any) -> Any:
        (a, b), c = pair, named["c"]
        return {"sum": a + b, "list": [c * more[0], (b, None, "text", 3)], "same": a}

    a, b, c, d = (cr.tensor([float(i)]) for i in range(4))
    out = f((a, b), {"c": c}, more=[d])
    assert list(out) == ["sum", "list", "same"]
    assert out["sum"].tolist() == [1]
    assert isinstance(out["list"], list)
    assert out["list"][0].tolist() == [6]
    assert out["list"][1][1:] == (None, "text", 3)
    assert out["same"].tolist() == [0]


def test_results_that_are_arguments_or_constants() -> None:
    f = cr.compile(lambda x: (x, x, cr.ones(2), 7, None, cr.tensor([1, 2])))
    x = cr.tensor([3.0])
    first, second, ones, seven, nothing, constant = f(x)
    assert values(first, second, ones, constant) == [[3], [3], [1, 1], [1, 2]]
    assert (seven, nothing) == (7, None)
    x.add_(1)
    assert first.tolist() == [3]


def test_nothing_is_returned() -> None:
    w = cr.tensor([1.0])

    @cr.compile
    def f() -> None:
        w.add_(1)

    assert f() is None
    assert w.tolist() == [2]


def test_named_tuples_come_back_as_such() -> None:
    out = cr.compile(lambda x: x.max(1))(cr.tensor([[1.0, 5.0, 2.0]]))
    assert out.values.tolist() == [5]
    assert out.indices.tolist() == [1]


def test_numpy_arrays_are_arguments() -> None:
    traces = []

    @cr.compile
    def f(x: Any) -> Tensor:
        traces.append(1)
        return x * 2

    array = np.array([1.0, 2.0], np.float32)
    assert f(array).tolist() == [2, 4]
    array[0] = 5
    assert f(array).tolist() == [10, 4]
    assert f(array[::-1]).tolist() == [4, 10]
    assert len(traces) == 1


def test_the_same_tensor_twice() -> None:
    @cr.compile
    def f(a: Tensor, b: Tensor) -> Tensor:
        a.add_(1)
        return a * b

    x = cr.tensor([1.0])
    assert f(x, x).tolist() == [4]
    assert x.tolist() == [2]
    assert f(x, cr.tensor([10.0])).tolist() == [30]


def test_a_compiled_function_inside_another() -> None:
    w = cr.tensor([1.0])
    inner = cr.compile(lambda x: w.add_(x) * 2)
    outer = cr.compile(lambda x: inner(x) + inner(x))
    assert outer(cr.tensor([1.0])).tolist() == [10]
    assert w.tolist() == [3]
    assert inner(cr.tensor([1.0])).tolist() == [8]


def test_threads_call_one_program() -> None:
    count = cr.tensor([0.0])
    step = cr.compile(lambda x: (count.add_(1.0), (x @ x.T).sum(1)))
    x = np.random.default_rng(0).normal(size=(20, 20)).astype("f")
    expected = (x @ x.T).sum(1)
    failures: list[object] = []

    def work(k: int) -> None:
        for _ in range(20):
            y = step(cr.tensor(x * k))[1].numpy()
            if not np.allclose(y, expected * k * k, rtol=1e-3, atol=1e-2):
                failures.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert count.tolist() == [80]


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
