"""Nests of several cores: the bits of the kernels they replace, in memory that grows with the rows alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor
from chainrule.compiler.plan.nests import Nests
from chainrule.compiler.plan.target import Target
from chainrule.compiler.runtime import native
from chainrule.compiler.runtime.units import Pool
from chainrule.compiler.schedule import regions
from chainrule.compiler.schedule.kernels import Chain
from chainrule.compiler.schedule.loops import Nest
from chainrule.compiler.schedule.verify import verify, verify_products
from tests.compiler.canaries import Canaries
from tests.compiler.plans import check_program
from tests.compiler.races import races

Function = Callable[..., Tensor]
sdpa = F.scaled_dot_product_attention


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether whatever can be in a nest is in one, or nothing; no nest runs that reads or writes what is not there."""
    decided = Nests.__getitem__

    def verified(nests: Nests, number: int) -> Nest:
        found = decided(nests, number)
        verify(found, nests.kernels[number], "decided")
        verify_products(nests.kernels)
        return found

    monkeypatch.setattr(Nests, "__getitem__", verified)

    def choose(yes: bool) -> None:
        for name in ("ONCE", "AGAIN"):
            monkeypatch.setattr(regions, name, 1 << 60 if yes else 0)
        monkeypatch.setattr(regions, "SHARED", 1)

    choose(False)
    return choose


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT * 0.25).softmax(-1) @ v


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = (cr.arange(q.shape[-2]).reshape(-1, 1) + cr.arange(k.shape[-2])) % 3 > 0
    return sdpa(q, k, v, attn_mask=mask & (cr.arange(q.shape[-2]).reshape(-1, 1) != 5))


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return sdpa(q, k, v, is_causal=True)


def dropped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    cr.manual_seed(3)
    return sdpa(q, k, v, dropout_p=0.3)


def one_key_for_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return softmax(q, k[..., :1, :, :], v[..., :1, :, :].expand(v.shape))


def of_as_many_keys_as_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One key for all of as many elements as there are rows is still a factor, and no value of a row."""
    return softmax(q, (k[:1, :12] * 2).tanh(), v[:, :12])


def standing_on_the_right(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v.mT @ (k @ q.mT).mT.exp().mT / (q @ k.mT).exp().sum(-1, keepdim=True).mT


def of_two_products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q @ k.mT).tanh() + (k.flip(-1) @ q.mT).mT * 0.5).softmax(-1) @ v


def gated(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A fold of the scores is read by another fold and outside."""
    scores = q @ k.mT
    total = scores.exp().sum(-1, keepdim=True)
    return (scores / total).softmax(-1) @ v * total.log()


def of_its_own_columns(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The sum of row j weighs column j: no nest has that while it computes row i."""
    scores = q @ k.mT
    return (scores * scores.exp().sum(-1).unsqueeze(-2)).softmax(-1) @ v


def weighed_by_columns(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As many columns as rows: what there is once for each column is no value of a row, and is not computed in each."""
    return ((q @ k.mT) * (v[..., 0] * 2).exp().unsqueeze(-2)).softmax(-1) @ v


CASES = [
    (softmax, (2, 3, 70, 9), 70, 5),
    (softmax, (131, 4), 33, 6),
    (causal, (2, 70, 4), 97, 5),
    (masked, (66, 8), 130, 8),
    (dropped, (3, 70, 4), 170, 20),
    (masked, (2, 1, 65, 4), 50, 8),
    (causal, (3, 100, 8), 100, 8),
    (dropped, (2, 2, 66, 4), 40, 3),
    (one_key_for_all, (2, 3, 40, 4), 40, 4),
    (standing_on_the_right, (2, 64, 8), 80, 8),
    (of_two_products, (2, 72, 6), 72, 7),
    (gated, (2, 64, 6), 48, 7),
]


def inputs(shape: tuple[int, ...], keys: int, width: int, dtype: str = "f") -> list[Tensor]:
    rng = np.random.default_rng(0)
    shapes = shape, (*shape[:-2], keys, shape[-1]), (*shape[:-2], keys, width)
    return [cr.tensor(rng.normal(size=s).astype(dtype)) for s in shapes]


def training(function: Function) -> Callable[..., Any]:
    """A value and its gradients; one op reads the result that comes after it, so that the backward pass has to wait."""

    def step(*given: Tensor) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in given]
        y = function(*leaves)
        (y * y).sum().backward()
        return (y.detach(), *(x.grad for x in leaves))  # type: ignore[arg-type]

    return cr.compile(step)


def bits(results: Any) -> list[bytes]:
    return [x.numpy().tobytes() for x in results]


def chains(compiled: Any) -> list[Chain]:
    return [k.core for k in compiled._latest.program.plan.kernels if isinstance(k.core, Chain)]


@pytest.mark.parametrize(("function", "shape", "keys", "width"), CASES)
def test_a_nest_has_the_bits_of_the_kernels_it_replaces(
    apart: Any, everything_divided: None, function: Function, shape: tuple[int, ...], keys: int, width: int
) -> None:
    given, step = inputs(shape, keys, width), training(function)
    found = set()
    for threads in (1, 2, 3):
        cr.set_num_threads(threads)
        found.add(tuple(bits(step(*given))))
    program = step._latest.program  # type: ignore[attr-defined]
    check_program(program)
    for threads in (2, 3):
        assert races(program, threads) == []
    assert chains(step)
    for store in (store for kernel in program.plan.kernels for store in kernel.stores):
        assert store.node.shape not in ((*shape[:-1], keys), (*shape[:-2], keys, shape[-2]))
    apart(True)
    other = training(function)
    found.add(tuple(bits(other(*given))))
    assert not chains(other)
    assert len(found) == 1


@pytest.mark.parametrize("target", [Target(32, 16), Target(16, 16), Target(16, 32)], ids=str)
def test_bits_do_not_depend_on_the_width_of_vectors(
    apart: Any, target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if target.vector_bytes > native.machine().target.vector_bytes:
        pytest.skip("this machine has no vectors of that width")
    given = inputs((1, 70, 9), 70, 5)
    expected = bits(training(masked)(*given))
    monkeypatch.setattr(native, "_pool", Pool())
    monkeypatch.setattr(native.machine(), "target", target)
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    assert bits(training(masked)(*given)) == expected


def test_bfloat16(apart: Any) -> None:
    """What is stored in bfloat16 is summed in float32, and sums that are carried from block to block wait in that."""
    given = [x.bfloat16() for x in inputs((3, 130, 8), 130, 8)]
    found = []
    for yes in (False, True):
        apart(yes)
        step = training(causal)
        found.append([x.float().numpy().tobytes() for x in step(*given)])
        assert bool(chains(step)) != yes
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("function", "nests"), [(of_its_own_columns, 2), (of_as_many_keys_as_rows, 1), (weighed_by_columns, 1)]
)
def test_forwards_alone(apart: Any, function: Function, nests: int) -> None:
    given, compiled = inputs((2, 24, 4), 24, 7), cr.compile(function)
    found = bits([compiled(*given)])
    assert len(chains(compiled)) == nests
    apart(True)
    assert bits([cr.compile(function)(*given)]) == found


def test_it_is_what_numpy_says(apart: Any) -> None:
    q, k, v = inputs((2, 3, 70, 9), 40, 5, "d")
    compiled = cr.compile(softmax)
    found = compiled(q, k, v).numpy()
    assert chains(compiled)
    scores = np.exp(q.numpy() @ k.numpy().swapaxes(-1, -2) * 0.25)
    np.testing.assert_allclose(found, scores / scores.sum(-1, keepdims=True) @ v.numpy(), rtol=1e-11)


KEPT: list[tuple[str, Function]] = [
    ("returned", lambda q, k, v: (q @ k.mT).softmax(-1)),
    ("taken from", lambda q, k, v: (s := (q @ k.mT).softmax(-1)) @ v + s[:, :1, :1]),
    ("of several axes", lambda q, k, v: (s := q @ k.mT).softmax(-1) @ v / s.exp().sum((1, 2), keepdim=True)),
    ("down columns", lambda q, k, v: (q @ k.mT).softmax(-2) @ v),
    ("and its mirror", lambda q, k, v: ((s := q @ k.mT) + s.mT).softmax(-1) @ v),
    ("of both", lambda q, k, v: (s := (q @ k.mT).softmax(-1)) @ s @ v),
    ("without a fold", lambda q, k, v: (q @ k.mT).tanh() @ v),
    ("not larger", lambda q, k, v: (q[:, :4] @ k[:, :4].mT).softmax(-1) @ v[:, :4]),
]


@pytest.mark.parametrize("function", [pytest.param(f, id=name) for name, f in KEPT])
def test_what_a_nest_cannot_do_stays_apart(apart: Any, function: Function) -> None:
    compiled, given = cr.compile(function), inputs((2, 30, 4), 30, 4)
    found = compiled(*given).numpy()
    assert not chains(compiled)
    np.testing.assert_allclose(found, function(*given).numpy(), rtol=2e-5, atol=2e-6)


def some_terms(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = (q @ k.mT).tanh()
    return s[..., :8] @ v[..., :8, :] + s.sum(-1, keepdim=True)


def some_rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = (q @ k.mT).tanh()
    return (s[..., :8, :] @ v).sum((-1, -2)) + s.sum(-1)[..., 0]


def half_of_the_rows_and_an_element(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    s = q @ k.mT
    return (s[..., : q.shape[-2] // 2, :] @ v).sum() + s.amin(-1).sum() + s[..., 0, 0].sum()


def taken_by(view: Function) -> Function:
    """A value whose rows are folded, and a product of a view of it; as many ones as the view has columns stand beside."""

    def function(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        s = (q @ k.mT).tanh()
        part = view(s)
        return (part @ (v[..., :1, :] + cr.ones(part.shape[-1], v.shape[-1]))).sum() * s.amax(-1)

    return function


LARGE, SQUARE = (
    (2, 70, 3),
    (1, 80, 3),
)  # of queries, for 80 keys: with one batch and as many rows, shapes do not tell axes apart
VIEWS: list[tuple[str, Function]] = [
    ("its first columns", lambda s: s[..., :8]),
    ("its first rows", lambda s: s[..., :8, :]),
    ("all but its last row", lambda s: s[..., :-1, :]),
    ("its last rows", lambda s: s[..., 8:, :]),
    ("its last columns", lambda s: s[..., 8:]),
    ("every second row", lambda s: s[..., ::2, :]),
    ("every second column", lambda s: s[..., ::2]),
    ("from behind", lambda s: s.flip(-1)),
    ("upside down", lambda s: s.flip(-2)),
    ("its mirror image", lambda s: s.mT),
    ("some of its mirror image", lambda s: s.mT[..., :8, :]),
    ("the mirror image of some", lambda s: s[..., :8].mT),
    ("one of the batch", lambda s: s[:1]),
    ("one of the batch for all", lambda s: s[:1].expand(s.shape)),
    ("the first of the batch", lambda s: s[0]),
    ("the batch from behind", lambda s: s.flip(0)),
    ("some of the batch as another axis", lambda s: s.transpose(0, 1)[:1]),
    ("windows", lambda s: s.unfold(-1, 5, 1)[..., 0, :, :]),
    ("a wider one", lambda s: F.pad(s, (0, 3))),
    ("a higher one", lambda s: F.pad(s, (0, 0, 0, 3))),
    ("some of a wider one", lambda s: F.pad(s, (0, 3))[..., : s.shape[-1]]),
    ("rows cut in two", lambda s: s.reshape(s.shape[0], -1, s.shape[-1] // 2)),
    ("two rows as one", lambda s: s.reshape(s.shape[0], -1, s.shape[-1] * 2)),
    ("there and back", lambda s: s.reshape(-1).reshape(s.shape)),
    ("the batch as rows", lambda s: s.reshape(-1, s.shape[-1])),
    ("with an axis in front", lambda s: s.unsqueeze(0).expand(2, *s.shape)),
    ("both of it", lambda s: cr.cat([s, s[..., :8, :]], -2)),
    ("some rows by number", lambda s: s[:, cr.arange(8)]),
]


def gradients(function: Function) -> Callable[..., Any]:
    """Without the value, so that what only that reads is nowhere."""
    return cr.compile(cr.grad(function, argnums=(0, 1, 2)))


@pytest.mark.parametrize("shape", [(70, 3), (2, 70, 3), (1, 66, 4)])
def test_a_part_of_a_value_is_not_the_whole(apart: Any, shape: tuple[int, ...]) -> None:
    given = inputs(shape, 80, 2, "d")
    same_as_apart(apart, cr.compile(lambda *given: [some_terms(*given), some_rows(*given)]), given)
    same_as_apart(apart, cr.compile(lambda *given: [some_terms(*given)]), given)
    same_as_apart(apart, training(some_terms), given)
    same_as_apart(apart, training(some_rows), given)
    same_as_apart(apart, gradients(half_of_the_rows_and_an_element), given)


# That keep the shape of a square, or of one batch: of the others it tells the same as of a large one.
ALIKE = (
    "its mirror image", "from behind", "upside down", "one of the batch", "one of the batch for all", "the first of the batch",
    "the batch from behind", "some of the batch as another axis", "there and back", "the batch as rows",
)  # fmt: skip


@pytest.mark.parametrize(
    ("view", "shape"),
    [pytest.param(f, LARGE, id=name) for name, f in VIEWS]
    + [pytest.param(f, SQUARE, id=f"{name}, square") for name, f in VIEWS if name in ALIKE],
)
def test_a_product_of_a_view_is_what_it_is_apart(apart: Any, view: Function, shape: tuple[int, ...]) -> None:
    same_as_apart(apart, training(taken_by(view)), inputs(shape, 80, 2, "d"))


def folded_for_its_own_product(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A second product of the same region has the folds of the first as a factor, which a nest has only after both."""
    s = (q @ k.mT).tanh()
    total = s.sum(-1, keepdim=True)
    t = s * (total.expand(q.shape) @ k.mT)
    return t @ v * t.sum(-1, keepdim=True)


def test_a_product_of_a_fold_waits_for_it(apart: Any) -> None:
    step = training(folded_for_its_own_product)
    same_as_apart(apart, step, inputs((2, 70, 3), 70, 2, "d"))
    assert chains(step)


def same_as_apart(apart: Any, step: Any, given: list[Tensor]) -> None:
    """Are its results those of kernels of their own, bit by bit, and what the library says without the compiler?"""
    found = step(*given)
    check_program(step._latest.program)
    apart(True)
    assert bits(cr.compile(step.__wrapped__)(*given)) == bits(found)
    apart(False)
    for x, y in zip(found, step.__wrapped__(*given), strict=True):
        np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-9, atol=1e-9)


def test_no_room_is_left(apart: Any, everything_divided: None, monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = Canaries(monkeypatch)
    for threads in (1, 2):
        cr.set_num_threads(threads)
        training(masked)(*inputs((2, 1, 67, 4), 51, 8))
    canaries.check()


def memory(compiled: Any) -> int:
    program = compiled._latest.program
    return int(program.plan.arena + program.scratch)


def test_memory_grows_with_the_rows_and_not_with_their_square() -> None:
    found = []
    for length in (256, 512, 1024):
        step = training(causal)
        step(*inputs((2, 8, length, 16), length, 16))
        found.append(memory(step))
    assert found[1] < 2.2 * found[0]
    assert found[2] < 2.2 * found[1]
    assert found[2] < 4 * 16 * 1024 * 1024  # bytes of all scores


def test_it_reads_as_it_runs(golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    step = training(causal)
    step(*inputs((2, 8, 256, 16), 256, 16))
    program = step._latest.program  # type: ignore[attr-defined]
    monkeypatch.setattr(native.machine(), "target", Target(64, 32))
    for name in ("scratch", "nests", "work_sharing"):
        program.__dict__.pop(name, None)
    golden("attention.loops.txt", step.show("loops"))  # type: ignore[attr-defined]
