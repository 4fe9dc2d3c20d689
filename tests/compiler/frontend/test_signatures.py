"""What makes a program, and what goes in and out of one: live numbers, guards, arguments, results."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.frontend.trace import guard, live
from chainrule.errors import TraceError
from tests.compiler.support import values

# -- Python values ------------------------------------------------------------------------------------


def test_live_numbers_are_read_at_each_call() -> None:
    rate = np.full(5000, 0.5)  # what is in a large array nobody compares: for a small one it would be traced anew
    traces = []

    @cr.compile
    def step(x: Tensor) -> Tensor:
        traces.append(1)
        return x * live(lambda: float(rate[0]))

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


def test_a_leaf_both_captured_and_passed_is_two_things_to_the_program() -> None:
    w, other = (cr.tensor([value], requires_grad=True) for value in (2.0, 5.0))
    work = cr.compile(lambda x: w * x)
    assert work(w).tolist() == [4]
    result = work(other)
    assert result.tolist() == [10]
    result.sum().backward()
    assert w.grad is not None
    assert other.grad is not None
    assert (w.grad.tolist(), other.grad.tolist()) == ([5], [2])


def test_slices_are_arguments_and_results() -> None:
    traced: list[Any] = []

    @cr.compile
    def part(x: Any, where: Any) -> Any:
        traced.append(where)
        return {"part": x[where] * 2, "where": where}

    x = cr.arange(10.0)
    for where in (slice(1, 3), slice(2, None, 3), slice(None), slice(1, 3), (slice(1, 2),), slice(1, 4), slice(1, 3)):
        found = part(x, where)
        assert found["part"].tolist() == (x[where] * 2).tolist() and found["where"] == where
    assert traced == [slice(1, 3), slice(2, None, 3), slice(None), (slice(1, 2),), slice(1, 4)]
    ends = np.array([2])
    assert part(x, where=slice(0, int(ends[0])))["part"].tolist() == [0.0, 2.0]
    with pytest.raises(TraceError, match="a traced tensor has no value yet"):
        part(x, slice(cr.tensor(1), 3))
