"""Convolutions inside programs: one loop nest that reads windows where they lie, and adds in one order."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn
from chainrule.compiler.passes import convolution, simplify
from chainrule.compiler.plan import tiling
from chainrule.compiler.schedule.kernels import Dot
from tests.compiler.harness import as_other_machines

rng = np.random.default_rng(0)
# input, weight, and the rest: many channels, few, one; strides, dilation, groups; one column, which is summed in lanes
CASES = [
    ((3, 17, 9, 8), (21, 17, 3, 3), {"padding": 1}),
    ((2, 1, 12, 13), (5, 1, 5, 5), {}),
    ((2, 4, 9, 9), (6, 2, 3, 2), {"groups": 2, "stride": (2, 1), "dilation": (1, 2)}),
    ((2, 6, 9, 9), (6, 1, 5, 5), {"groups": 6, "padding": 2}),
    ((3, 6, 9, 9), (1, 6, 3, 3), {"stride": 2}),
    ((4, 8, 6, 5), (12, 8, 1, 1), {}),
    ((1, 3, 9, 8), (4, 3, 5, 4), {}),
]


def given(case: int, dtype: str = "f4") -> tuple[Tensor, Tensor]:
    x, w, _ = CASES[case]
    return cr.tensor(rng.standard_normal(x).astype(dtype)), cr.tensor(rng.standard_normal(w).astype(dtype))


def step(case: int):
    """A convolution and what it gives back to its input and weight, as one program."""

    @cr.compile
    def both(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        y, back = cr.vjp(lambda x, w: F.conv2d(x, w, **CASES[case][2]), x, w)
        return y, *back(y.sin())

    return both


def bits(case: int, *tensors: Tensor) -> list[bytes]:
    return [part.numpy().tobytes() for part in step(case)(*tensors)]


def columns(x: Tensor, kernel: tuple[int, int], padding: int = 0) -> Tensor:
    """The windows copied side by side: (N * places, C * kernel)."""
    seen = F.pad(x, (padding,) * 4).unfold(2, kernel[0], 1).unfold(3, kernel[1], 1).permute(0, 2, 3, 1, 4, 5)
    return cr.tensor(seen.numpy().reshape(-1, x.shape[1] * kernel[0] * kernel[1]))


@pytest.mark.parametrize("case", [0, 1, 5, 6])
def test_its_sums_are_those_of_a_product_with_the_windows_copied(case: int) -> None:
    x, w = given(case)
    y = cr.compile(lambda x, w: F.conv2d(x, w, **CASES[case][2]))(x, w)
    copied = columns(x, w.shape[2:], CASES[case][2].get("padding", 0))
    product = cr.compile(lambda a, b: a @ b)(copied, cr.tensor(w.numpy().reshape(w.shape[0], -1).T.copy()))
    assert y.permute(0, 2, 3, 1).numpy().tobytes() == product.numpy().tobytes()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_whatever_the_registers_and_threads(
    everything_divided: None, case: int, dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tensors = given(case, dtype)
    first, *others = (bits(case, *tensors) for _ in as_other_machines(monkeypatch, tmp_path))
    assert others == [first] * 3


def test_no_windows_are_stored() -> None:
    """Of a step with its gradients, all memory is less than one copy of the windows."""
    x, w = cr.randn(4, 16, 20, 20), cr.randn(16, 16, 5, 5)

    @cr.compile
    def both(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        y, back = cr.vjp(F.conv2d, x, w)
        return y, *back(y)

    both(x, w)
    assert both._latest is not None
    program = both._latest.program
    assert program.made.working(1) < x.numel() * 25 * 4 * 0.5
    products = [kernel.core for kernel in program.plan.kernels if isinstance(kernel.core, Dot)]
    assert len(products) == 3 and all(len(core.summed) == 3 for core in products)
    assert "acc = sum over " in both.show("loops") and "acc = sum over " in both.show("kernels")


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_padded_images_are_computed_for_the_images_alone(stride: int) -> None:
    """And not for the zeros around them, nor for batches that are left out."""
    x, w = cr.randn(3, 4, 9, 9), cr.randn(5, 4, 3, 3)

    def back(x: Tensor, w: Tensor) -> Tensor:
        (dx,) = cr.vjp(lambda x: F.conv2d(x, w, stride=stride, padding=1), x)[1](
            cr.ones(3, 5, 9 // stride + stride // 2, 9 // stride + stride // 2)
        )
        return dx

    compiled = cr.compile(back)
    np.testing.assert_allclose(compiled(x, w).numpy(), back(x, w).numpy(), rtol=1e-4, atol=1e-5)
    assert compiled._latest is not None
    (product,) = (k for k in compiled._latest.program.plan.kernels if isinstance(k.core, Dot))
    elements = np.prod([var.size for var in product.loops])
    two_phases = 3 * 10 * 10 * 4  # along each axis, from one before the image on
    assert elements == (x.numel() if stride == 1 else two_phases)
    assert np.prod([var.size for var in product.core.summed]) == (5 * 9 if stride == 1 else 5 * 4)
    for rows, columns in [(slice(1, 3), slice(2, None)), (slice(0, 4, 2), slice(1, None, 3))]:
        part = cr.compile(
            lambda x, w, rows=rows, columns=columns: F.conv2d(x, w, padding=1, stride=stride)[1:, :, rows, columns]
        )
        whole = F.conv2d(x, w, padding=1, stride=stride).numpy()
        np.testing.assert_allclose(part(x, w).numpy(), whole[1:, :, rows, columns], rtol=1e-4, atol=1e-5)


def products(compiled: Any, *arguments: Tensor) -> tuple[bytes, int]:
    """What a program gives, and how many multiplications its products are."""
    found = compiled(*arguments)
    cores = [(k.loops, k.core) for k in compiled._latest.program.plan.kernels if isinstance(k.core, Dot)]
    work = sum(math.prod(var.size for var in (*loops, *core.summed)) for loops, core in cores)
    return found.numpy().tobytes(), work


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [
    (4, 2, 1), (3, 2, 1), (2, 2, 0), (5, 3, 2), (1, 2, 0), ((3, 4), (2, 3), (0, 1)), (3, (1, 2), 3), ((2, 1), 3, 0),
])  # fmt: skip
def test_zeros_between_elements_are_not_multiplied(
    kernel: Any, stride: Any, padding: Any, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same bits; only a window that the stride does not divide is made up with zeros."""
    w = rng.standard_normal((6, 4 // groups, *np.broadcast_to(kernel, 2))).astype("f4")
    x = rng.standard_normal((2, 6, 7, 9)).astype("f4")

    def both(monkeypatched: bool) -> tuple[bytes, int]:
        with monkeypatch.context() as patch:
            if monkeypatched:
                patch.setattr(simplify, "by_phases", lambda *_: None)
            f = cr.compile(lambda x, w: F.conv_transpose2d(x, w, stride=stride, padding=padding, groups=groups))
            return products(f, cr.tensor(x), cr.tensor(w))

    (found, work), (expected, before) = both(False), both(True)
    assert found == expected
    windows, steps = np.broadcast_to(kernel, 2), np.broadcast_to(stride, 2)
    if ((windows % steps == 0) | (windows < steps)).all():
        assert work < before / (0.7 * np.prod(steps))  # all but what lies beside the image


def test_an_infinite_weight_meets_no_zero_between_elements() -> None:
    """As in PyTorch; nor does an infinite gradient, where the stride divides the windows."""
    torch = pytest.importorskip("torch")
    x, w = np.ones((1, 2, 3, 3), "f4"), np.ones((2, 3, 4, 4), "f4")
    w[0, 1, 2, 3], x[0, 1, 1, 1] = np.inf, -np.inf
    found = cr.compile(lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=3))(cr.tensor(x), cr.tensor(w))
    theirs = torch.nn.functional.conv_transpose2d(torch.tensor(x), torch.tensor(w), stride=2, padding=3)
    np.testing.assert_array_equal(found.numpy(), theirs.numpy())


def test_the_gradients_of_a_transposed_convolution_have_no_zeros_either() -> None:
    """Of its input: the convolution of a stride; of its weight: again by phases."""
    torch = pytest.importorskip("torch")
    x, w, g = (rng.standard_normal(shape).astype("f4") for shape in [(4, 6, 8, 8), (6, 5, 4, 4), (4, 5, 16, 16)])

    @cr.compile
    def back(x: Tensor, w: Tensor, g: Tensor) -> tuple[Tensor, ...]:
        return cr.vjp(lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1), x, w)[1](g)

    found = back(*map(cr.tensor, (x, w, g)))
    theirs = [torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)]
    torch.nn.functional.conv_transpose2d(*theirs, stride=2, padding=1).backward(torch.tensor(g))
    for ours, their in zip(found, theirs, strict=True):
        np.testing.assert_allclose(ours.numpy(), their.grad.numpy(), rtol=1e-4, atol=1e-4)
    assert back._latest is not None
    cores = [(k.loops, k.core) for k in back._latest.program.plan.kernels if isinstance(k.core, Dot)]
    work = sorted(math.prod(var.size for var in (*loops, *core.summed)) for loops, core in cores)
    terms = 4 * 8 * 8 * 6 * 5 * 16
    assert work[0] == terms and work[1] < 2.5 * terms  # that of the weight: windows of 3 x 3 phases for those of 4 x 4


@pytest.mark.parametrize("padding", [0, 1])
def test_a_single_output_is_computed_by_vectors_along_lines(padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bits that its sums have where channels lie side by side; also of what another convolution gave."""
    x, w, v = cr.randn(3, 5, 12, 12), cr.randn(7, 5, 3, 3), cr.randn(1, 7, 3, 3)

    def run() -> tuple[bytes, Dot]:
        f = cr.compile(lambda x, w, v: F.conv2d(F.conv2d(x, w, padding=1).relu(), v, padding=padding))
        found = f(x, w, v).numpy().tobytes()
        assert f._latest is not None
        return found, [k.core for k in f._latest.program.plan.kernels if isinstance(k.core, Dot)][-1]

    found, core = run()
    assert core.m is None and core.n is not None and core.n.size == 10 + 2 * padding
    assert core.b.index.coefficient(core.n) == 1
    monkeypatch.setattr(convolution, "LINE", 1000)
    expected, core = run()
    assert found == expected
    if padding:  # without, ReLU is kept in PyTorch's order, which has lines
        assert core.n is None


def test_a_weights_gradient_goes_over_a_few_images_at_a_time(
    everything_divided: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whose terms stay near while every tile passes; the sums wait from block to block, as they are."""
    x, g = cr.randn(5, 20, 9, 9), cr.randn(5, 40, 7, 7)

    def run(near: int) -> tuple[bytes, tiling.Tiling]:
        monkeypatch.setattr(tiling, "NEAR", near)
        tiling.plan.cache_clear()
        f = cr.compile(lambda x, g: cr.vjp(lambda w: F.conv2d(x, w), cr.zeros(40, 20, 3, 3))[1](g)[0])
        found = f(x, g).numpy().tobytes()
        assert f._latest is not None
        (chosen,) = (
            plan for n in range(len(f._latest.program.plan.kernels)) for plan in f._latest.program.nests.cuts(n)
        )
        return found, chosen

    expected, whole = run(1 << 20)
    assert not whole.blocked
    for _ in as_other_machines(monkeypatch, tmp_path):
        found, few = run(1 << 14)
        assert found == expected and (few.blocked, few.kc) == (True, 1)
    tiling.plan.cache_clear()


def test_what_follows_is_done_where_the_sums_are_and_the_next_reads_it_as_it_lies() -> None:
    """Channels stay last from one convolution to the next, whatever is done element by element between them."""
    x, w, b, v = cr.randn(2, 3, 8, 8), cr.randn(5, 3, 3, 3), cr.randn(5), cr.randn(6, 5, 3, 3)

    def f(x: Tensor, w: Tensor, b: Tensor, v: Tensor) -> Tensor:
        inner = F.conv2d(x, w, b).relu() * 2.0 + b.reshape(5, 1, 1)
        return F.conv2d(inner, v)

    compiled = cr.compile(f)
    np.testing.assert_allclose(compiled(x, w, b, v).numpy(), f(x, w, b, v).numpy(), rtol=1e-4, atol=1e-4)
    assert compiled._latest is not None
    first, second = (k for k in compiled._latest.program.plan.kernels if isinstance(k.core, Dot))
    (store,) = first.stores
    assert store.index.coefficient(first.loops[-1]) == 1 and isinstance(second.core, Dot)
    assert store.node is second.core.a.node and "relu" in compiled.show("kernels").split("acc = sum")[1]


def test_no_kernel_turns_what_one_convolution_gives_the_next() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    compiled = cr.compile(lambda x: model(x))
    compiled(cr.randn(4, 3, 9, 9))
    assert compiled._latest is not None
    assert len(compiled._latest.program.plan.kernels) == 7  # one more where ReLU waits for PyTorch's order


def test_a_single_element() -> None:
    x, w = cr.full((1, 1, 2, 2), 1.5), cr.full((1, 1, 2, 2), 0.5)
    assert cr.compile(lambda x, w: F.conv2d(x, w).relu() * 2.0)(x, w).tolist() == [[[[6.0]]]]


def test_it_is_differentiated_again_and_along_directions() -> None:
    """Forward derivatives and second ones, in a program."""
    x, w = (t.double() for t in given(2))

    def f(x: Tensor, w: Tensor) -> Tensor:
        return (F.conv2d(x, w, **CASES[2][2]) ** 3).sum()

    def twice(x: Tensor, w: Tensor) -> Tensor:
        return cr.grad(lambda w: (cr.grad(f)(x, w) ** 2).sum())(w)

    np.testing.assert_allclose(cr.compile(twice)(x, w).numpy(), twice(x, w).numpy(), rtol=1e-9)
    value, along = cr.jvp(lambda x: F.conv2d(x, w, **CASES[2][2]), [x], [x])
    np.testing.assert_allclose(along.numpy(), value.numpy(), rtol=1e-9, atol=1e-9)


def _of_two(x: Any, y: Any) -> Any:
    """What two convolutions gave, one of them transposed: neither permutation cancels the other's."""
    return (x.mT * y).exp(), x.permute(0, 2, 3, 1) + y.permute(0, 3, 2, 1), x * y.permute(0, 1, 3, 2) * y


def test_work_on_differently_permuted_convolutions_ends():
    x, w = cr.randn(2, 2, 1, 8, 8).double(), cr.randn(4, 1, 3, 3).double()

    def f(a: Any, b: Any) -> Any:
        return _of_two(F.conv2d(a, w), F.conv2d(b, w))

    for eager, compiled in zip(f(x[0], x[1]), cr.compile(f)(x[0], x[1]), strict=True):
        np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=1e-12, atol=1e-12)


def test_a_step_through_a_step_is_differentiated():
    x, w, v = (cr.randn(*shape).double() for shape in ((2, 1, 8, 8), (4, 1, 3, 3), (2, 4, 3, 3)))

    def loss(w: Any, v: Any) -> Any:
        return (F.conv2d(F.conv2d(x, w).tanh(), v) ** 2).mean()

    def after_a_step(w: Any, v: Any) -> Any:
        dw, dv = cr.grad(loss, argnums=(0, 1))(w, v)
        return loss(w - 0.1 * dw, v - 0.1 * dv)

    gradient = cr.grad(after_a_step, argnums=(0, 1))
    for eager, compiled in zip(gradient(w, v), cr.compile(gradient)(w, v), strict=True):
        np.testing.assert_allclose(compiled.numpy(), eager.numpy(), rtol=1e-10, atol=1e-12)
