"""Scaled dot-product attention: PyTorch's values and gradients, eager and compiled, small and in nests of several cores."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn
from chainrule.compiler.schedule import regions
from chainrule.compiler.schedule.kernels import Chain
from chainrule.errors import DtypeError, SettingError, ShapeError
from tests.optional import torch

sdpa = F.scaled_dot_product_attention
TOLERANCE = {np.float32: 1e-4, np.float64: 1e-9}


@pytest.fixture(params=["eager", "compiled", "in nests"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a function eagerly or compiled; where it is in nests, makes sure that it is."""
    if request.param == "eager":
        return lambda function, *inputs: function(*inputs)
    for name in ("ONCE", "AGAIN"):
        monkeypatch.setattr(regions, name, 0 if request.param == "in nests" else 1 << 60)

    def run(function: Any, *inputs: Any) -> Any:
        compiled = cr.compile(function)
        found = compiled(*inputs)
        kernels = compiled._latest.program.plan.kernels  # type: ignore[union-attr]
        assert any(isinstance(k.core, Chain) for k in kernels) == (request.param == "in nests")
        return found

    return run


def masks(rows: int, columns: int, dtype: Any) -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(rows, columns)).astype(dtype)
    numbers[0, :3], numbers[2] = -np.inf, -np.inf  # query 2 may look at nothing
    flags = rng.random((rows, columns)) < 0.7
    flags[4] = False
    by_head = rng.random((1, 2, 1, columns)) < 0.7
    return {
        "none": {}, "causal": {"is_causal": True}, "scale": {"scale": 0.3}, "bool": {"attn_mask": flags},
        "float": {"attn_mask": numbers}, "by head": {"attn_mask": by_head},
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["none", "causal", "scale", "bool", "float", "by head"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients_are_pytorch_s(way: Any, kind: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 2, *rows)).astype(dtype) for rows in ((40, 6), (35, 6), (35, 5))]
    weights = rng.normal(size=(2, 2, 40, 5)).astype(dtype)
    options = masks(40, 35, dtype)[kind]

    def ours(*given: Tensor) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in given]
        y = sdpa(*leaves, **options)
        (y * cr.tensor(weights)).sum().backward()
        return (y.detach(), *(x.grad for x in leaves))  # type: ignore[arg-type]

    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    if "attn_mask" in options:
        options = {"attn_mask": cr.tensor(options["attn_mask"])}
    mask = {"attn_mask": torch.tensor(options["attn_mask"].numpy())} if "attn_mask" in options else options
    y = torch.nn.functional.scaled_dot_product_attention(*theirs, **mask)
    (y * torch.tensor(weights)).sum().backward()
    expected = [y.detach(), *(x.grad for x in theirs)]
    for a, b in zip(way(ours, *map(cr.tensor, arrays)), expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_query_that_may_look_at_nothing_gets_zeros_and_passes_none_on(way: Any) -> None:
    def both(q: Tensor, k: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        q, k = (x.detach().requires_grad_() for x in (q, k))
        y = sdpa(q, k, k, attn_mask=mask)
        y.sum().backward()
        return y.detach(), q.grad, k.grad  # type: ignore[return-value]

    y, q, k = way(both, cr.randn(20, 4), cr.randn(30, 4), cr.zeros(20, 30, dtype=cr.bool))
    assert not y.any()
    assert not q.any()
    assert not k.any()


def test_what_is_dropped_leaves_the_expectation(way: Any) -> None:
    """Of values that are all 1 the average of many averages is 1, and where all is dropped 0."""
    q, k, v = cr.randn(4, 64, 3), cr.randn(4, 128, 3), cr.ones(4, 128, 3)
    found = way(lambda q, k, v: sdpa(q, k, v, dropout_p=0.5), q, k, v)
    assert abs(found.mean().item() - 1) < 0.1
    assert 0.02 < found.std().item() < 0.5
    assert not sdpa(q, k, v, dropout_p=1.0).any()


def test_gradients_of_gradients_are_pytorch_s(way: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((30, 4), (24, 4), (24, 3))]

    def penalty(lib: Any, attention: Any, q: Any, k: Any, v: Any, grad: Any) -> Any:
        y = attention(q, k, v)
        return sum((g**2).sum() for g in grad((y**2).sum(), (q, k, v)))

    def ours(*given: Tensor) -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in given]

        def inner(*xs: Tensor) -> Tensor:
            return (sdpa(*xs) ** 2).sum()

        def outer(*xs: Tensor) -> Tensor:
            return sum((g**2).sum() for g in cr.grad(inner, (0, 1, 2))(*xs))  # type: ignore[return-value]

        return cr.grad(outer, (0, 1, 2))(*leaves)  # type: ignore[return-value]

    def apart(function: Any, *inputs: Any) -> Any:
        return cr.compile(function)(*inputs) if way.__name__ == "run" else function(*inputs)

    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = (theirs[0] @ theirs[1].mT / 2).softmax(-1) @ theirs[2]  # whose kernels have no second derivative there
    first = torch.autograd.grad((y**2).sum(), theirs, create_graph=True)
    expected = torch.autograd.grad(sum((g**2).sum() for g in first), theirs)
    for a, b in zip(apart(ours, *map(cr.tensor, arrays)), expected, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.numpy(), rtol=1e-9, atol=1e-9)


def test_forward_derivatives_and_batches() -> None:
    rng = np.random.default_rng(0)
    q, k, v, dq = (cr.tensor(rng.normal(size=(3, 10, 4))) for _ in range(4))
    _, slope = cr.jvp(lambda q: sdpa(q, k, v), (q,), (dq,))
    near = (sdpa(q + dq * 1e-6, k, v) - sdpa(q - dq * 1e-6, k, v)) / 2e-6
    np.testing.assert_allclose(slope.numpy(), near.numpy(), atol=1e-8)


def test_of_no_keys_and_of_no_queries() -> None:
    assert sdpa(cr.randn(2, 3, 4), cr.randn(2, 0, 4), cr.randn(2, 0, 5)).tolist() == cr.zeros(2, 3, 5).tolist()
    assert sdpa(cr.randn(2, 0, 4), cr.randn(2, 3, 4), cr.randn(2, 3, 5)).shape == (2, 0, 5)


HEADS: list[dict[str, Any]] = [
    {},
    {"batch_first": True, "need_weights": False},
    {"kdim": 5, "vdim": 6, "average_attn_weights": False, "padding": True},
    {"alone": True, "padding": True, "mask": "bool"},
    {"mask": "by head", "padding": True, "need_weights": False},
    {"mask": "bool", "bias": False},
]


@pytest.mark.parametrize("case", HEADS, ids=str)
def test_several_heads_are_pytorch_s(case: dict[str, Any]) -> None:
    rng, alone = np.random.default_rng(0), case.get("alone", False)
    made = {name: case[name] for name in ("batch_first", "kdim", "vdim", "bias") if name in case}
    theirs: Any = torch.nn.MultiheadAttention(8, 2, dtype=torch.float64, **made)
    ours = nn.MultiheadAttention(8, 2, dtype=cr.float64, **made)
    ours.load_state_dict({name: cr.tensor(value.numpy()) for name, value in theirs.state_dict().items()})

    def rows(count: int, features: int) -> Any:
        shape = (count,) if alone else (3, count) if case.get("batch_first") else (count, 3)
        return rng.normal(size=(*shape, features))

    given = [rows(5, 8), rows(7, case.get("kdim", 8)), rows(7, case.get("vdim", 8))]
    masks: dict[str, Any] = {"bool": rng.random((5, 7)) < 0.3, "by head": rng.normal(size=(6, 5, 7))}
    options = {"attn_mask": masks[case["mask"]]} if "mask" in case else {}
    if "padding" in case:
        padding = rng.random((7,) if alone else (3, 7)) < 0.2
        options["key_padding_mask"] = np.where(padding, -np.inf, 0.0) if case.get("mask") == "by head" else padding
    flags = {name: case[name] for name in ("need_weights", "average_attn_weights") if name in case}
    expected, weights = theirs(*map(torch.tensor, given), **{k: torch.tensor(v) for k, v in options.items()}, **flags)
    found, shown = ours(*map(cr.tensor, given), **{k: cr.tensor(v) for k, v in options.items()}, **flags)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    assert (shown is None) == (weights is None)
    if shown is not None:
        np.testing.assert_allclose(shown.detach().numpy(), weights.detach().numpy(), rtol=1e-9, atol=1e-12)
    (expected**2).sum().backward()
    (found**2).sum().backward()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert a.grad is not None
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_training_with_attention_in_nests_is_recorded_and_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is explained is computed without nests, to the bit."""

    class Sequence(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.out = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))

    for name in ("ONCE", "AGAIN"):
        monkeypatch.setattr(regions, name, 0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 20, 8)).astype("f"), rng.integers(0, 3, 8)
    trainer = cr.Trainer(Sequence(), "cross_entropy", "adam", lr=1e-2)
    trainer.fit(x, y, epochs=3, batch_size=4, seed=0, progress=False, record=True)
    derivation = trainer.explain("out.weight[0, 0]", step=4)
    assert "attention" in str(trainer.explain("attention.in_proj_weight[0, 0]", step=4))
    assert derivation is not None


Q, K, V = cr.zeros(2, 3, 4), cr.zeros(2, 5, 4), cr.zeros(2, 5, 6)
X = cr.zeros(5, 2, 8)
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: sdpa(Q, K.double(), V), DtypeError,
        "query, key and value must be floats of one dtype, got float32, float64 and float32. Convert them with .to(dtype).",
    ),
    (
        lambda: sdpa(Q[0, 0], K, V), ShapeError,
        "query, key and value must be (..., L, E), (..., S, E) and (..., S, V), got shapes (4,), (2, 5, 4) and (2, 5, 6). "
        "Add an axis with .unsqueeze(0).",
    ),
    (
        lambda: sdpa(Q, K, V[:, :4]), ShapeError,
        "query and key must have as many features, key and value as many rows, got shapes (2, 3, 4), (2, 5, 4) and "
        "(2, 4, 6). Project them to the same width, and take a value for each key.",
    ),
    (
        lambda: sdpa(Q, K, V, attn_mask=cr.zeros(3, 5, dtype=cr.int64)), DtypeError,
        "attn_mask must be bool, or of the query's dtype float32, got int64. Convert it with .bool() or .to(query.dtype).",
    ),
    *(
        (
            lambda shape=shape: sdpa(Q, K, V, attn_mask=cr.zeros(*shape)), ShapeError,
            f"attn_mask must broadcast to the scores (..., L, S), (2, 3, 5), got shape {shape}. Give it a row for each "
            "query and a column for each key.",
        )
        for shape in ((3, 4), (2, 5, 3), (2, 2, 3, 5))
    ),
    (
        lambda: sdpa(Q, K, V, attn_mask=cr.zeros(3, 5), is_causal=True), SettingError,
        "attn_mask and is_causal must not both be given. Put the causal part into the mask.",
    ),
    (
        lambda: sdpa(Q, K, V, dropout_p=1.5), SettingError,
        "dropout_p, the share of elements to drop, must be a number in [0, 1], got 1.5.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), REFUSED)
def test_what_is_refused(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=rf"^scaled_dot_product_attention.*: {re.escape(text)}$"):
        call()


REFUSED_HEADS: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: nn.MultiheadAttention(8, 3), SettingError,
        "embed_dim must be a multiple of num_heads, and both at least 1, got embed_dim=8 and num_heads=3. Change one of them.",
    ),
    (
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), SettingError,
        "add_bias_kv=True is not there yet. Leave it out.",
    ),
    (
        lambda: nn.MultiheadAttention(8, 2)(X, X[:4], X), ShapeError,
        "query, key and value must be (steps, batch, features) or (steps, features), with embed_dim=8, kdim=8 and vdim=8 "
        "features, and a value for each key, got shapes (5, 2, 8), (4, 2, 8) and (5, 2, 8). Reshape them, or change the "
        "sizes of the layer.",
    ),
    (
        lambda: nn.MultiheadAttention(8, 2)(X, X, X, is_causal=True), SettingError,
        "is_causal is a hint about attn_mask, which was left out. Pass the mask.",
    ),
    (
        lambda: nn.MultiheadAttention(8, 2)(X, X, X, attn_mask=cr.zeros(5, 4)), ShapeError,
        "attn_mask must have the shape (5, 5) or (4, 5, 5), got (5, 4). Reshape or expand it.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "text"), REFUSED_HEADS)
def test_what_several_heads_refuse(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=rf"^MultiheadAttention.*: {re.escape(text)}$"):
        call()
