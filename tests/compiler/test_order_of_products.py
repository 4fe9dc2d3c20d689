"""The bits of a product are a function of its factors' values and shapes: not of where they lie, of registers, threads or rows beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, nn
from chainrule.compiler.plan.vectorize import lanes_of_product
from chainrule.compiler.runtime import native
from chainrule.compiler.runtime.units import Pool
from chainrule.compiler.schedule.kernels import Dot, print_kernel
from chainrule.ops.contraction import in_lanes
from tests.compiler.harness import as_other_machines

Array = np.ndarray
Stored = tuple[Array, Callable[[Tensor], Tensor]]  # an array, and how a traced function makes the factor from it
# rows, columns, terms: one column, one row, few of either, more terms or fewer than lanes, remainders of everything
SHAPES = [(33, 1, 40), (1, 1, 300), (20, 1, 15), (1, 70, 40), (50, 2, 33), (3, 18, 16), (18, 33, 65), (7, 5, 1)]
SHAPES += [(300, 33, 20), (257, 1, 18), (511, 5, 1)]  # rows that the gradient of the right factor adds up in halves


def sliced(x: Array) -> Stored:
    whole = np.zeros((2 * x.shape[0], 3 * x.shape[1]), x.dtype)
    whole[1::2, ::3] = x
    return whole, lambda t: t[1::2, ::3]


LAYOUTS: dict[str, Callable[[Array], Stored]] = {
    "by row": lambda x: (x, lambda t: t),
    "by column": lambda x: (x.T.copy(), lambda t: t.T),
    "flipped": lambda x: (x[:, ::-1].copy(), lambda t: t.flip(1)),
    "turned and flipped": lambda x: (x.T[::-1].copy(), lambda t: t.flip(0).T),
    "sliced": sliced,
    "computed": lambda x: (-x, lambda t: -t),
}


def factors(m: int, n: int, k: int, dtype: str) -> tuple[Array, Array, Array]:
    """Of the product, and the gradient that comes back to it."""
    rng = np.random.default_rng(m * 10_000 + n * 100 + k)
    x, w, back = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n), (m, n)))
    return x, w, back


def bits(x: Stored, w: Stored, back: Stored) -> list[bytes]:
    """The product, and what it gives back to either factor: in one program."""
    stored, made = zip(x, w, back, strict=True)

    @cr.compile
    def products(*given: Tensor) -> tuple[Tensor, ...]:
        x, w, back = (make(t) for make, t in zip(made, given, strict=True))
        return x @ w, *cr.vjp(lambda x, w: x @ w, x, w)[1](back)

    return [part.numpy().tobytes() for part in products(*map(cr.tensor, stored))]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_wherever_the_factors_lie(shape: tuple[int, int, int], dtype: str) -> None:
    given = factors(*shape, dtype)
    expected = bits(*map(LAYOUTS["by row"], given))
    names = list(LAYOUTS)[1:]
    for first in range(len(names)):
        laid = [LAYOUTS[names[(first + i) % len(names)]](array) for i, array in enumerate(given)]
        assert bits(*laid) == expected


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_whatever_the_registers_and_threads(
    everything_divided: None, shape: tuple[int, int, int], dtype: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = [LAYOUTS[name](x) for name, x in zip(LAYOUTS, factors(*shape, dtype), strict=False)]
    first, *others = (bits(*given) for _ in as_other_machines(monkeypatch, tmp_path))
    assert others == [first] * 3


def test_factors_that_repeat_themselves() -> None:
    """Expanded in memory, and as a stride of zero; in a batch too."""
    x, w, _ = factors(12, 6, 40, "f4")
    for row, columns in ((x[:1], w), (x[:1], w[:, :1]), (x, w[:, :1])):
        wide = cr.compile(lambda r, c: r.expand(12, 40) @ c)(cr.tensor(row), cr.tensor(columns)).numpy()
        assert wide.tobytes() == cr.compile(lambda r, c: r @ c)(
            cr.tensor(np.broadcast_to(row, (12, 40)).copy()), cr.tensor(columns)
        ).numpy().tobytes()  # fmt: skip
        batch = cr.compile(lambda r, c: r.expand(3, *r.shape) @ c.unsqueeze(0))(cr.tensor(row), cr.tensor(columns))
        assert batch[2].numpy().tobytes() == wide[: len(row)].tobytes()


def test_a_product_that_is_read_transposed_adds_as_it_does_by_itself() -> None:
    """Of one column, and of one row: where (A B)^T is written as B^T A^T, the sums stay those of A B."""
    for m, n in ((12, 1), (1, 12), (12, 5)):
        x, w, _ = (cr.tensor(a) for a in factors(m, n, 50, "f4"))
        alone = cr.compile(lambda x, w: x @ w)(x, w)
        assert cr.compile(lambda x, w: (x @ w).T)(x, w).tolist() == alone.T.tolist()


@pytest.mark.parametrize("outputs", [1, 2, 10, 40])
def test_what_is_predicted_of_a_row_does_not_depend_on_the_rows_beside_it(outputs: int) -> None:
    model = nn.Sequential(nn.Linear(30, 70), nn.Tanh(), nn.Linear(70, outputs), nn.Softmax(-1))
    rows = cr.tensor(np.random.default_rng(0).standard_normal((64, 30)).astype("f4"))
    predict = cr.compile(model)
    with cr.no_grad():
        together = predict(rows)
        for first, count in ((0, 1), (63, 1), (5, 2), (20, 7), (1, 33)):
            apart = predict(rows[first : first + count])
            assert apart.numpy().tobytes() == together[first : first + count].numpy().tobytes()


@pytest.mark.parametrize("shape", [(20, 33), (1, 40), (18, 1), (1, 1)], ids=str)
def test_the_halves_of_a_batch_add_up_as_they_do_within_it(shape: tuple[int, int]) -> None:
    """Gradients of weights and biases, sums of losses: of micro-batches of 64 rows and more, added in halves."""
    k, n = shape
    rng = np.random.default_rng(k + n)
    w, bias = cr.tensor(rng.standard_normal(shape).astype("f4")), cr.tensor(rng.standard_normal(n).astype("f4"))

    def of_rows(x: Array, back: Array) -> list[Array]:
        @cr.compile
        def step(x: Tensor, back: Tensor) -> list[Tensor]:
            losses = (x @ w + bias).tanh() * back
            found, pull = cr.vjp(lambda w, bias: ((x @ w + bias).tanh() * back).sum(), w, bias)
            return [found, losses.sum(1).sum(), *pull(cr.ones(()))]

        return [t.numpy() for t in step(cr.tensor(x), cr.tensor(back))]

    def added(x: Array, back: Array, least: int) -> list[Array]:
        if len(x) < 2 * least:
            return of_rows(x, back)
        middle = len(x) - len(x) // 2
        first, second = added(x[:middle], back[:middle], least), added(x[middle:], back[middle:], least)
        return [a + b for a, b in zip(first, second, strict=True)]

    for rows in (128, 256, 511, 600, 1280):
        x, back = (rng.standard_normal((rows, size)).astype("f4") for size in shape)
        whole = [a.tobytes() for a in of_rows(x, back)]
        for least in {64, rows // 4} - set(range(64)):
            assert [a.tobytes() for a in added(x, back, least)] == whole


def test_leaves_stand_in_the_kernels_and_in_their_texts() -> None:
    x, back = cr.randn(300, 6), cr.randn(300, 4)
    compiled = cr.compile(lambda w: cr.vjp(lambda w: x @ w, w)[1](back)[0] + back.sum(0))
    compiled(cr.randn(6, 4))
    text = compiled.show("loops")
    assert "acc = sum over halves of " in text
    assert "by leaf" in text


def test_the_order_stands_in_the_kernel_and_in_its_text() -> None:
    """It follows from columns and terms: a column of 16 terms and more is summed in lanes."""
    for n, k, along in ((1, 16, True), (1, 15, False), (2, 300, False), (40, 40, False)):
        compiled = cr.compile(lambda x, w: x @ w)
        compiled(cr.randn(8, k), cr.randn(k, n))
        assert compiled._latest is not None
        (kernel,) = compiled._latest.program.plan.kernels
        assert isinstance(kernel.core, Dot)
        assert kernel.core.along == in_lanes(n, k) == along
        assert lanes_of_product(kernel.core) == (16 if along else 1)
        text = print_kernel(kernel, lambda node, index: ("x", index))
        assert f"acc = sum {'along' if along else 'over'} " in text


def test_an_order_that_followed_the_registers_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: as many lanes as a register has."""
    from chainrule.compiler.plan import product

    x, w, back = map(LAYOUTS["by row"], factors(33, 1, 40, "f4"))
    expected = bits(x, w, back)
    monkeypatch.setattr(product, "lanes_of_product", lambda core: 8 if core.along else 1)
    monkeypatch.setattr(native, "_pool", Pool())
    assert bits(x, w, back) != expected
