"""Kernels over rows: a chain of folds and what follows them is one pass over each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor
from chainrule.compiler.plan import rows
from chainrule.compiler.program import Program
from chainrule.compiler.runtime import native
from chainrule.compiler.runtime.units import Pool
from chainrule.compiler.schedule.kernels import Check, Dot, Kernel, Reduce, RowFolds
from tests.compiler.plans import check_program

# side by side | held in one vector, in several, with a ragged end | streamed, with a ragged end
WIDTHS = [2, 3, 10, 16, 17, 40, 64, 65, 129, 300]


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * ((centred * centred).mean(-1, keepdim=True) + 1e-5).rsqrt()


def cross_entropy(x: Tensor) -> Tensor:
    labels = cr.arange(x.shape[0]) % x.shape[1]
    return F.cross_entropy(x, labels, reduction="none")


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x.logsumexp(-1),
    "layer_norm": layer_norm,
    "var": lambda x: x.var(-1),
    "cross_entropy": cross_entropy,
    "range": lambda x: (x - x.amin(-1, keepdim=True)) / (x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)),
    "twice": lambda x: layer_norm((x * 3).softmax(-1)),
}


def backward(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The function's value, and its gradient along a fixed direction."""

    def both(x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        (found,) = cr.grad(lambda x: (function(x) * direction).sum(), argnums=(0,))(x)
        return function(x), found

    return both


def program_of(function: Callable[..., object], *inputs: Tensor) -> Program:
    compiled = cr.compile(function)
    compiled(*inputs)
    assert compiled._latest is not None
    check_program(compiled._latest.program)
    program: Program = compiled._latest.program
    return program


def kernels_of(function: Callable[..., object], *inputs: Tensor) -> list[Kernel]:
    return [k for k in program_of(function, *inputs).plan.kernels if not isinstance(k.core, Check)]


def matrix(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Tensor:
    return cr.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("count", "dtype", "width"),
    # Wider numbers are looked at once for each way in which a row is read: the ways depend on bytes alone.
    [*((37, "float32", width) for width in WIDTHS), *((5, "float64", width) for width in (3, 10, 17, 300))],
)
def test_values_and_gradients_are_those_of_numpy(name: str, width: int, count: int, dtype: str) -> None:
    function = FUNCTIONS[name]
    x = matrix((count, width), dtype)
    direction = matrix(tuple(function(x).shape), dtype, seed=1)
    both = backward(function)
    tolerance = 3e-5 if dtype == "float32" else 1e-12
    for actual, expected in zip(cr.compile(both)(x, direction), both(x, direction), strict=True):
        scale = max(1.0, float(np.abs(expected.numpy()).max()))
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("width", [2, 10, 40, 300])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "layer_norm", "range"])
def test_forward_and_backward_are_one_kernel(name: str, width: int) -> None:
    (kernel,) = kernels_of(backward(FUNCTIONS[name]), matrix((64, width)), matrix((64, width)))
    assert isinstance(kernel.core, RowFolds)
    assert {store.node.shape for store in kernel.stores} == {(64, width)}


def test_cross_entropy_reads_the_scores_in_one_pass() -> None:
    def step(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return cr.value_and_grad(lambda x: F.cross_entropy(x, labels))(x)  # type: ignore[no-any-return]

    kernels = kernels_of(step, matrix((64, 10)), cr.tensor(np.arange(64) % 10))
    assert [type(k.core).__name__ for k in kernels].count("RowFolds") == 1
    assert len(kernels) == 3  # how many labels count, the rows, and the sum of their losses


@pytest.mark.parametrize("shape", [(6, 5, 33), (2, 3, 4, 7), (4, 1, 9), (1, 8, 20)])
def test_rows_of_any_number_of_axes(shape: tuple[int, ...]) -> None:
    def norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
        centred = x - x.mean(dims, keepdim=True)
        return centred / (centred * centred).sum(dims, keepdim=True).sqrt()

    for count in range(1, len(shape)):
        dims = tuple(range(-count, 0))
        x = matrix(shape)
        actual, expected = cr.compile(norm)(x, dims), norm(x, dims)
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=2e-5, atol=2e-6)
        if np.prod(shape[:-count]) > 1:  # one row is not worth a kernel that threads cannot share
            (kernel,) = kernels_of(lambda x, dims=dims: norm(x, dims), x)
            assert isinstance(kernel.core, RowFolds)


def test_a_column_is_not_a_row() -> None:
    kernels = kernels_of(lambda x: (x - x.mean(0)) / (x * x).sum(0), matrix((64, 40)))
    assert not any(isinstance(k.core, RowFolds) for k in kernels)
    assert any(isinstance(k.core, Reduce) for k in kernels)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.softmax(-1).flip(0),
        lambda x: x.softmax(-1) * x.softmax(-1).flip(1),
        lambda x: x.softmax(-1).flip(1).sum(-1),
        lambda x: x.softmax(-1) - x.softmax(-1).amax(-1).flip(0).unsqueeze(1),
        lambda x: x.softmax(-1) + x.softmax(-1)[0],
        lambda x: x.softmax(-1).T.softmax(-1),
        lambda x: x.softmax(-1).reshape(-1, 24).softmax(-1),
        lambda x: x.softmax(-1).cumsum(-1) if hasattr(x, "cumsum") else x,
        lambda x: x.softmax(-1).reshape(-1)[: x.shape[0]] + x.amax(-1),
        lambda x: x.exp() / x.exp().sum(),
        lambda x: x / (x * x).sum(-1, keepdim=True).sum(0, keepdim=True).sqrt(),
        lambda x: x.softmax(-1).gather(1, cr.arange(12).unsqueeze(1)) + x.sum(-1, keepdim=True),
    ],
)
def test_what_reads_another_row_waits_for_it(function: Callable[[Tensor], Tensor]) -> None:
    x = matrix((12, 12))
    np.testing.assert_allclose(cr.compile(function)(x).numpy(), function(x).numpy(), rtol=2e-5, atol=1e-6)
    program_of(function, x)


def test_what_another_kernel_must_finish_first_is_not_folded_along() -> None:
    """The second fold reads a product that reads the first: one kernel would wait for itself."""

    def f(x: Tensor, w: Tensor) -> Tensor:
        y = x.softmax(-1)
        z = y @ w
        return y * (z * y).sum(-1, keepdim=True)

    x, w = matrix((24, 24)), matrix((24, 24), seed=1)
    np.testing.assert_allclose(cr.compile(f)(x, w).numpy(), f(x, w).numpy(), rtol=2e-5, atol=1e-6)
    kinds = [type(k.core) for k in kernels_of(f, x, w)]
    assert kinds == [RowFolds, Dot, RowFolds]


def test_state_is_replaced_by_its_own_softmax() -> None:
    for width in (3, 20, 300):
        start = matrix((9, width))
        state = start.clone()

        @cr.compile
        def step(state: Tensor = state) -> Tensor:
            state.copy_((state * 2).softmax(-1))
            return state.sum(-1)

        total = step()
        expected = (start * 2).softmax(-1)
        np.testing.assert_allclose(state.numpy(), expected.numpy(), rtol=2e-5)
        np.testing.assert_allclose(total.numpy(), expected.sum(-1).numpy(), rtol=2e-5)


@pytest.mark.parametrize("width", [3, 20, 300])
def test_a_row_that_replaces_another_state_is_written_after_all_that_is_read(width: int) -> None:
    """The other state is no part of the fold: it is read when the row is stored, and overwritten there."""
    s, t = matrix((9, width)), matrix((9, width), seed=1)
    folded, expected = (s * 2).softmax(-1).numpy(), ((s * 2).softmax(-1) + t).numpy()

    @cr.compile
    def step() -> None:
        row = (s * 2).softmax(-1)
        mixed = row + t
        t.copy_(row)
        s.copy_(mixed)

    step()
    np.testing.assert_allclose(t.numpy(), folded, rtol=2e-5)
    np.testing.assert_allclose(s.numpy(), expected, rtol=2e-5)


def test_what_is_left_of_a_shared_loop_is_done_once(everything_divided: None) -> None:
    """Three threads share 37 elements: two vectors of 16, and what is left."""
    cr.set_num_threads(3)
    state = cr.zeros(37)

    @cr.compile
    def step(amount: Tensor) -> Tensor:
        state.add_(amount)
        return state.sum()

    step.loop(cr.ones(3000))
    assert state.tolist() == [3000.0] * 37


def test_nan_and_infinity_stay_in_their_row() -> None:
    for width in (3, 20, 300):
        x = matrix((40, width)).numpy().copy()
        x[3, 1], x[5, 0], x[7, 2] = np.nan, np.inf, -np.inf
        actual, expected = cr.compile(lambda t: t.softmax(-1))(cr.tensor(x)), cr.tensor(x).softmax(-1)
        np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=2e-5)
        assert np.isnan(actual.numpy()).any(1).nonzero()[0].tolist() == [3, 5]


@pytest.mark.parametrize("width", [3, 20, 300])
def test_threads_share_rows_and_give_the_same_bits(width: int, everything_divided: None) -> None:
    found = []
    for count in (1, 2, 3, 4, 8):
        cr.set_num_threads(count)
        step = cr.compile(backward(layer_norm))
        results = step(matrix((101, width)), matrix((101, width), seed=1))
        found.append(b"".join(r.numpy().tobytes() for r in results))
    assert step._latest is not None
    assert any(step._latest.program.work_sharing.shares())
    assert len(set(found)) == 1


def test_what_is_costly_is_computed_once_a_row() -> None:
    """A long row's exponentials are kept between its folds, as long as they fit in the cache."""
    program = program_of(lambda x: x.softmax(-1), matrix((4, 500)))
    (kernel,) = program.plan.kernels
    assert isinstance(kernel.core, RowFolds)
    row = rows.Row(kernel.core.dims, kernel.core.stages, kernel.stores)
    assert [[v.op.name for v in stage] for stage in rows.to_save(row)] == [[], ["exp"]]  # type: ignore[attr-defined]
    assert program.llvm.count("alloca float, i64 500") == 1


def test_kernels_over_rows_read_well() -> None:
    program = program_of(lambda x: x.softmax(-1), matrix((4, 500)))
    text = program.show("kernels")
    assert text == (
        "kernel 0\n"
        "for i < 4, each row j < 500:\n"
        "  acc0 = amax.f32 of arg0[500*i + j]\n"
        "  x0 = exp.f32(sub.f32(arg0[500*i + j], acc0))\n"
        "  acc1 = sum.f32 of x0\n"
        "  out0[500*i + j] = div.f32(x0, acc1)\n"
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("width", [10, 17, 300])
def test_rows_have_the_same_bits_whatever_the_registers(
    width: int, rows: int, dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rng = np.random.default_rng(width)
    x, direction = (cr.tensor(rng.standard_normal((rows, width)).astype(dtype)) for _ in range(2))
    sums = {"sum": lambda x: x.sum(-1, keepdim=True), "var": lambda x: x.var(-1, keepdim=True)}
    sums |= {name: FUNCTIONS[name] for name in ("softmax", "layer_norm")}
    functions = [backward(function) for function in sums.values()]

    def bits() -> list[bytes]:
        found = [part for function in functions for part in cr.compile(function)(x, direction)]
        return [part.numpy().tobytes() for part in found]

    found = []
    for number, vector_bytes in enumerate((64, 32, 16)):
        monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / str(number)))
        monkeypatch.setattr(native, "_pool", Pool())
        registers = replace(
            native.machine().target, vector_bytes=vector_bytes, registers=32 if vector_bytes == 64 else 16
        )
        monkeypatch.setattr(native.machine(), "target", registers)
        found.append(bits())
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((40, 300), "f4"),
        ((5, 7), "f4"),
        ((64, 17), "f8"),
        ((2, 33, 20), "f4"),
        ((33, 20, 2), "f4"),
        ((33, 20, 2), "f8"),
    ],
)
def test_a_sum_has_the_same_bits_however_its_terms_lie_in_memory(shape: tuple[int, ...], dtype: str) -> None:
    array = np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)
    axes = range(len(shape))
    for dims in (dims for count in axes for dims in combinations(axes, count + 1)):
        found = set()
        for order in permutations(axes):
            back = tuple(int(axis) for axis in np.argsort(order))
            lying = cr.tensor(np.ascontiguousarray(array.transpose(order)))
            total = cr.compile(lambda x, back=back, dims=dims: x.permute(*back).sum(dims))(lying)
            found.add(total.numpy().tobytes())
        assert len(found) == 1
        np.testing.assert_allclose(total.numpy(), array.sum(dims), 1e-4, 1e-4)


def test_two_sums_over_the_same_memory_in_different_orders_are_two_kernels() -> None:
    """Along rows, and down columns that lie like rows: the loops and loads are the same, the order is not."""
    array = np.random.default_rng(0).standard_normal((2, 33, 20)).astype("f4")
    rows, columns = cr.tensor(array), cr.tensor(np.ascontiguousarray(array.transpose(1, 2, 0)))
    along, down, expected = (
        cr.compile(function)(x).numpy().tobytes()
        for function, x in (
            (lambda x: x.sum((1, 2)), rows),
            (lambda x: x.permute(1, 2, 0).sum((0, 1)), rows),
            (lambda x: x.sum((0, 1)), columns),
        )
    )
    assert down == expected != along


@pytest.mark.parametrize("n", [16, 40])
def test_a_sum_down_columns_keeps_its_order_beside_one_along_rows(n: int) -> None:
    """Over the same loops, both of whose axes are as long: a kernel over rows may take one of them only."""
    p, q = (cr.tensor(np.random.default_rng(seed).standard_normal(n).astype("f4")) for seed in (0, 1))

    def down(p: Tensor, q: Tensor) -> Tensor:
        return (p.unsqueeze(1) * q.unsqueeze(0)).sum(0)

    def along(p: Tensor, q: Tensor) -> Tensor:
        return (p.unsqueeze(0) + q.unsqueeze(1)).sum(1)

    apart = cr.compile(down)(p, q) + cr.compile(along)(p, q)
    assert cr.compile(lambda p, q: down(p, q) + along(p, q))(p, q).tolist() == apart.tolist()
    assert cr.compile(lambda p, q: along(p, q) + down(p, q))(p, q).tolist() == apart.tolist()
