"""One test over the whole op table: derivatives against numbers, native against NumPy, all against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.op_table import CASES, ELSEWHERE, Case
from tests.optional import torch

import chainrule as cr
from chainrule import ops

SMOOTH = [case for case in CASES if case.smooth]


def test_every_op_is_in_the_table():
    assert set(ops.ALL) <= {case.op for case in CASES} | set(ELSEWHERE)


def floats(case: Case) -> list[int]:
    """The positions of the inputs that can be differentiated by."""
    return [i for i, x in enumerate(case.inputs) if np.asarray(x).dtype.kind == "f"]


def scalar(case: Case, arrays: list[Any]) -> Any:
    """A weighted sum of the case's output, so that every element of the gradient counts."""
    y = case.ours(*arrays)
    weights = np.random.default_rng(5).uniform(0.5, 1.5, y.shape)
    return (y * cr.tensor(weights, dtype=y.dtype)).sum()


def ours(case: Case, dtype: Any = None) -> list[cr.Tensor]:
    return [
        cr.tensor(x, dtype=dtype if dtype is not None and np.asarray(x).dtype.kind == "f" else None)
        for x in case.inputs
    ]


def directions(case: Case, seed: int) -> dict[int, Any]:
    rng = np.random.default_rng(seed)
    return {i: rng.standard_normal(np.shape(case.inputs[i])) for i in floats(case)}


def moved(case: Case, along: dict[int, Any], by: float) -> list[cr.Tensor]:
    return [cr.tensor(np.asarray(x) + by * along[i] if i in along else x) for i, x in enumerate(case.inputs)]


def slope(function: Any, h: float = 1e-4) -> float:
    """Central differences with one Richardson step: an error of order h^4."""
    wide, narrow = (((function(s) - function(-s)) / (2 * s)) for s in (2 * h, h))
    return float((4 * narrow - wide) / 3)


def gradients(case: Case, tensors: list[Any]) -> tuple[Any, ...]:
    chosen = floats(case)

    def of(*parts: Any) -> Any:
        filled = list(tensors)
        for i, part in zip(chosen, parts, strict=True):
            filled[i] = part
        return scalar(case, filled)

    found: tuple[Any, ...] = cr.grad(of, tuple(range(len(chosen))))(*(tensors[i] for i in chosen))
    return found


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_gradients_against_finite_differences(case):
    for seed in (1, 2):
        along = directions(case, seed)
        analytic = sum(
            float((g.numpy() * along[i]).sum()) for i, g in zip(floats(case), gradients(case, ours(case)), strict=True)
        )
        numeric = slope(lambda s, along=along: scalar(case, moved(case, along, s)).item())
        assert analytic == pytest.approx(numeric, rel=2e-8, abs=2e-8)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_second_derivatives_against_finite_differences(case):
    along, second = directions(case, 1), directions(case, 2)

    def first(tensors: list[Any]) -> Any:
        parts = gradients(case, tensors)
        total: Any = 0.0
        for i, g in zip(floats(case), parts, strict=True):
            total = total + (g * cr.tensor(along[i])).sum()
        return total

    chosen = floats(case)

    def of(*parts: Any) -> Any:
        filled = list(ours(case))
        for i, part in zip(chosen, parts, strict=True):
            filled[i] = part
        return first(filled)

    found = cr.grad(of, tuple(range(len(chosen))))(*(ours(case)[i] for i in chosen))
    analytic = sum(float((g.numpy() * second[i]).sum()) for i, g in zip(chosen, found, strict=True))
    numeric = slope(lambda s: first(moved(case, second, s)).item())
    assert analytic == pytest.approx(numeric, rel=2e-6, abs=2e-6)


# -- native against NumPy ----------------------------------------------------------------------------------

TOLERANCE = {"float32": {"rtol": 3e-5, "atol": 3e-6}, "float64": {"rtol": 1e-12, "atol": 1e-13}}


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_native_against_numpy(case, dtype):
    """The value, and in the same program its gradients."""
    tensors = ours(case, dtype)
    both = lambda *t: (case.ours(*t), *(gradients(case, list(t)) if case.smooth else ()))  # noqa: E731
    for native, eager in zip(cr.compile(both)(*tensors), both(*tensors), strict=True):
        assert (native.shape, native.dtype) == (eager.shape, eager.dtype)
        if not eager.dtype.is_floating_point:
            np.testing.assert_array_equal(native.numpy(), eager.numpy())
            continue
        tiny = np.abs(eager.numpy()) < np.finfo(eager.dtype.numpy).tiny  # denormals are flushed inside programs
        expected = np.where(tiny, 0, eager.numpy())
        np.testing.assert_allclose(native.numpy(), expected, **TOLERANCE[dtype.name])


# -- against PyTorch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [case for case in CASES if case.compare], ids=str)
def test_values_and_gradients_against_pytorch(case):
    chosen = floats(case) if case.ours(*ours(case)).dtype.is_floating_point else []
    mine = [t.requires_grad_() if i in chosen else t for i, t in enumerate(ours(case))]
    theirs = [torch.tensor(x, requires_grad=i in chosen) for i, x in enumerate(case.inputs)]
    call = case.ours  # the same names and meanings there
    y, z = case.ours(*mine), call(*theirs)
    assert y.dtype.name == str(z.dtype).removeprefix("torch.")
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12, atol=1e-12)
    if not z.requires_grad:
        return
    weights = np.random.default_rng(5).uniform(0.5, 1.5, y.shape)
    (y * cr.tensor(weights)).sum().backward()
    (z * torch.tensor(weights)).sum().backward()
    for i in chosen:
        if theirs[i].grad is not None:
            np.testing.assert_allclose(mine[i].grad.numpy(), theirs[i].grad.numpy(), rtol=1e-11, atol=1e-12)


# -- bfloat16, against PyTorch -----------------------------------------------------------------------------


def halves(case: Case, library: Any) -> list[Any]:
    """The inputs, those that float in bfloat16."""
    return [
        library.tensor(x, dtype=library.bfloat16) if np.asarray(x).dtype.kind == "f" else library.tensor(x)
        for x in case.inputs
    ]


@pytest.mark.parametrize("case", [case for case in CASES if case.compare], ids=str)
def test_bfloat16_is_rounded_once(case):
    """The very values of PyTorch, which computes in float32, too (but rounds on the way in rsqrt and in convolutions), and
    gradients near its own, in which it rounds on the way."""
    mine, theirs = halves(case, cr), halves(case, torch)
    y, z = case.ours(*mine), case.ours(*theirs)
    assert y.dtype.name == str(z.dtype).removeprefix("torch.")
    if z.dtype != torch.bfloat16:
        np.testing.assert_array_equal(y.numpy(), z.numpy())
        return
    ours, peers = y.float().numpy(), z.float().numpy()
    near = 2**-7 if case.op in ("rsqrt", "conv") else 0
    np.testing.assert_allclose(ours, peers, rtol=near, atol=near * 4 if case.op == "conv" else 0)
    if not case.smooth:
        return
    chosen = floats(case)
    for i in chosen:
        mine[i].requires_grad_(), theirs[i].requires_grad_()
    weights = np.random.default_rng(5).uniform(0.5, 1.5, y.shape)
    for library, given in ((cr, mine), (torch, theirs)):
        (case.ours(*given) * library.tensor(weights, dtype=library.bfloat16)).sum().backward()
    for i in chosen:
        ours, peers = (t[i].grad.float().numpy() for t in (mine, theirs))
        np.testing.assert_allclose(ours, peers, rtol=2**-5, atol=2**-5 * np.abs(peers).max(initial=0))


@pytest.mark.parametrize("case", [case for case in CASES if ops.ALL[case.op].moves and case.smooth], ids=str)
def test_native_bfloat16(case):
    tensors = halves(case, cr)
    both = lambda *t: (case.ours(*t), *gradients(case, list(t)))  # noqa: E731
    for native, eager in zip(cr.compile(both)(*tensors), both(*tensors), strict=True):
        assert native.dtype is cr.bfloat16
        np.testing.assert_array_equal(native.float().numpy(), eager.float().numpy())


# -- kinks and ties, by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "at", "expected"),
    [
        (lambda x: x.relu(), 0.0, 0.0),
        (lambda x: x.abs(), 0.0, 0.0),
        (lambda x: x.maximum(cr.tensor(1.0)), 1.0, 0.5),
        (lambda x: x.minimum(cr.tensor(1.0)), 1.0, 0.5),
        (lambda x: x.clamp(-1, 1), 1.0, 1.0),
        (lambda x: x.clamp(-1, 1), -1.0, 1.0),
        (lambda x: x.sign(), 0.0, 0.0),
        (lambda x: x.floor(), 1.0, 0.0),
        (lambda x: x**0, 0.0, 0.0),
        (lambda x: x**2, 0.0, 0.0),
        (lambda x: cr.stack([x, x]).amax(), 2.0, 1.0),
    ],
)
def test_the_derivative_at_a_kink(call, at, expected):
    x = cr.tensor(at, requires_grad=True)
    call(x).backward()
    assert x.grad.item() == expected


# -- what has no row ---------------------------------------------------------------------------------------


def test_random_bits_are_the_published_cipher():
    """Threefry-2x32, 20 rounds: the known answers of Random123's kat_vectors."""
    from chainrule.ops.random import NumpyWords, threefry

    known = [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ]
    for key, counter, expected in known:
        words = [tuple(np.array([w], np.uint32) for w in pair) for pair in (key, counter)]
        assert tuple(int(word[0]) for word in threefry(NumpyWords, *words)) == expected


@pytest.mark.parametrize("draw", [cr.rand, cr.randn], ids=["rand", "randn"])
def test_random_numbers_are_the_same_natively(draw):
    cr.manual_seed(2**40 + 3)
    eager = [draw(5, 7).numpy() for _ in range(2)]
    cr.manual_seed(2**40 + 3)
    native = cr.compile(lambda: draw(5, 7))
    for expected in eager:
        np.testing.assert_allclose(native().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_uniform_and_normal_have_their_moments():
    cr.manual_seed(0)
    u, n = cr.rand(200_000).numpy(), cr.randn(200_000).numpy()
    assert abs(u.mean() - 0.5) < 0.005
    assert abs(u.var() - 1 / 12) < 0.002
    assert abs(n.mean()) < 0.01
    assert abs(n.var() - 1) < 0.02
    assert 0 <= u.min() <= u.max() < 1


def test_counting():
    np.testing.assert_array_equal(cr.compile(lambda: cr.arange(3, 20, 4))().numpy(), np.arange(3, 20, 4))


@pytest.mark.parametrize(("source", "target"), [("float32", "int64"), ("float64", "float32"), ("bool", "uint8")])
def test_bits_are_read_only_as_numbers_of_as_many_bits(source, target):
    from chainrule.errors import DtypeError
    from chainrule.ops import elementwise as ew
    from chainrule.tensor.core import apply

    expected = rf"^bitcast \(.*\): both must be numbers of as many bits, got {source} and {target}. Convert with .to\(dtype\) first.$"
    with pytest.raises(DtypeError, match=expected):
        apply(ew.bitcast, cr.zeros(2, dtype=source), dtype=cr.as_dtype(target))
