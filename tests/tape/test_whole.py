"""Methods, clipping and rows that a tape records as a whole: found again by all that they depend on, with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import IndexRangeError
from chainrule.tape import own_tape, tape

X = cr.tensor([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
WHOLE: list[Callable[[Any], Any]] = [
    lambda x: x.mean(),
    lambda x: x.mean(1, keepdim=True),
    lambda x: x.mean(keepdim=True, dim=0),
    lambda x: x.mean(dim=(0, 1)),
    lambda x: x.var(0),
    lambda x: x.var(0, correction=0),
    lambda x: x.std(unbiased=False),
    lambda x: x.norm(),
    lambda x: x.norm(1, dim=1),
    lambda x: x.softmax(0),
    lambda x: x.softmax(dim=1),
    lambda x: x.log_softmax(-1),
    lambda x: x.clamp(min=0.0),
    lambda x: x.clamp(min=-0.0),
    lambda x: x.clamp(0.25, 1),
    lambda x: x.clamp(max=cr.tensor([1.0, 0.0, -1.0])),
    lambda x: x.gather(1, cr.tensor([[2], [0]])),
    lambda x: x[cr.tensor([1, 0, 1])],
    lambda x: x @ cr.tensor([1.0, -1.0, 0.5]),
    lambda x: cr.tensor([2.0, 0.5]) @ x,
    lambda x: x.logsumexp(1, keepdim=True),
    lambda x: x.cumsum(1),
    lambda x: cr.stack([x, x * 2], 1),
    lambda x: F.leaky_relu(x, 0.1),
    lambda x: F.elu(x, alpha=0.5),
    lambda x: F.celu(x, 2.0),
    F.selu,
    F.gelu,
    lambda x: F.gelu(x, approximate="tanh"),
    F.silu,
    lambda x: F.softplus(x, 2, threshold=3),
    F.logsigmoid,
    lambda x: F.glu(x[:, :2]),
    lambda x: F.softmin(x, dim=0),
    lambda x: F.hardtanh(x, -0.5, 2.0),
    F.relu6,
    F.hardsigmoid,
    F.hardswish,
    lambda x: F.hardshrink(x, 0.75),
    F.softshrink,
    F.softsign,
    F.tanhshrink,
    lambda x: F.prelu(x, cr.tensor([0.25, 0.5, 0.125])),
    lambda x: F.pairwise_distance(x, X * 0.5),
    lambda x: F.normalize(x, dim=0),
    lambda x: F.layer_norm(x, (3,), cr.tensor([1.0, 2.0, 3.0]), eps=1e-3),
    lambda x: F.rms_norm(x, (3,)),
    lambda x: F.group_norm(x, 3),
    lambda x: F.nll_loss(x, cr.tensor([2, 0])),
    lambda x: F.kl_div(x, F.softmax(X, 1), reduction="batchmean"),
    lambda x: F.poisson_nll_loss(x, X.abs()),
    lambda x: F.margin_ranking_loss(x, X * 0.5, X.sign(), margin=0.1),
    lambda x: F.soft_margin_loss(x, X.sign()),
    lambda x: F.triplet_margin_loss(x, X * 0.5, X * 2),
]


def bits(arrays: list[Any]) -> list[bytes]:
    return [np.asarray(array).tobytes() for array in arrays]


def test_methods_are_found_again_by_all_that_they_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "HOT", 10**9)

    def values() -> list[bytes]:
        found = []
        for i in range(3):
            for function in WHOLE:
                x = (X * (i + 1)).requires_grad_()
                result = function(x * 1.0)
                result.pow(2).sum().backward()
                assert x.grad is not None
                found += [result.detach().numpy(), x.grad.numpy()]
            with cr.no_grad():
                found += [function(X).numpy() for function in WHOLE]
        return bits(found)

    expected = values()
    with cr.eager(False):
        assert values() == expected


@pytest.mark.parametrize("function", WHOLE)
def test_each_is_one_look_up(function: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is recorded operation by operation but what its arguments are made by here."""
    monkeypatch.setattr(tape, "HOT", 10**9)
    recorded, record = [], tape.Tape._record

    def noted(self: Any, op: Any, *given: Any) -> Any:
        recorded.append(op.name)
        return record(self, op, *given)

    with cr.eager(False):
        for _ in range(3):
            function(X * 1.0).sum().item()
        monkeypatch.setattr(tape.Tape, "_record", noted)
        function(X * 1.0).sum().item()
    assert set(recorded) <= {"mul", "sum", "take", "slice", "sign", "abs", "expand", "reshape", "detach"}, recorded
    assert len(recorded) < 7, recorded


def test_a_value_that_is_looked_into_is_part_of_what_is_computed() -> None:
    """A number given as a tensor: another one must not meet what was recorded for the first."""
    x = cr.tensor([[1.0, 2.0], [3.0, 5.0]])

    def values() -> list[Any]:
        found = []
        for power, dim in ((1.0, 0), (2.0, 1), (3.0, 0), (2.0, 1)):
            p, axis, half = cr.tensor(power), cr.tensor(dim), cr.tensor(power / 2)
            found += [
                x.norm(p).item(),
                *x.mean(axis).tolist(),
                *cr.nn.functional.softplus(x, half).reshape(-1).tolist(),
            ]
            found += [x.norm(p).mean(cr.tensor(0)).item(), cr.nn.functional.huber_loss(x, x * 0, delta=half).item()]
        return found

    expected = values()
    with cr.eager(False):
        assert values() == pytest.approx(expected, rel=1e-6)
        assert values() == pytest.approx(expected, rel=1e-6)


def clipped(parameters: list[Any], max_norm: float, p: float, held: list[Any]) -> list[Any]:
    """Norms, gradients, and what was held of them before, over some rounds."""
    found: list[Any] = []
    for i in range(5):
        for q in parameters:
            q.grad = None
        sum((q * q).sum() * (i + 1) for q in parameters).backward()
        before = [q.grad * 1 for q in parameters]
        views = [q.grad[0] for q in parameters]
        found.append(nn.utils.clip_grad_norm_(parameters, max_norm, p))
        held.append((before, views))
        found += [q.grad for q in parameters]
    return [t.detach().numpy() for t in found + [t for pair in held for some in pair for t in some]]


@pytest.mark.parametrize(("max_norm", "p"), [(1.0, 2.0), (100.0, 2), (0.5, float("inf")), (0.0, 2.0)])
def test_clipping_gives_the_bits_of_one_that_computes_at_once(
    max_norm: float, p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape, "HOT", 10**9)

    def parameters() -> list[Any]:
        return [cr.ones(2, 2).requires_grad_(), (X * 1.0).requires_grad_()]

    expected = clipped(parameters(), max_norm, p, [])
    with cr.eager(False):
        found = clipped(parameters(), max_norm, p, [])
    assert bits(found) == bits(expected)


def test_clipping_is_found_again_and_by_its_bound() -> None:
    model = nn.Linear(3, 2)
    with cr.eager(False):
        for bound in [0.7, 0.7, 0.7, 0.6, 0.3]:
            model.zero_grad()
            model(X).sum().backward()
            grown = own_tape().grown
            nn.utils.clip_grad_norm_(model.parameters(), bound)
            norm = sum(p.grad.pow(2).sum() for p in model.parameters() if p.grad is not None).sqrt()  # type: ignore[union-attr]
            again = own_tape().grown - grown
            assert norm.item() == pytest.approx(bound, rel=1e-5)
        # the operations are those of another bound, which is an input
        assert again == 1


def episode(w: Any, actions: np.ndarray[Any, Any]) -> list[Any]:
    """A policy gradient: which row of the probabilities counts is known to Python alone."""
    chosen = []
    for t, action in enumerate(actions):
        log_p = (X[t % 2] @ w).log_softmax(-1)
        chosen.append(log_p[int(action)] * (0.0 if t else -1.0))
    loss = cr.stack(chosen).sum() + w[int(actions[0])].sum()
    w.grad = None
    loss.backward()
    with cr.no_grad():
        w -= 0.1 * w.grad
    return [loss.detach(), w.grad]


def episodes() -> list[bytes]:
    w, numbers, found = cr.ones(3, 4, requires_grad=True), np.random.default_rng(0), []
    for _ in range(12):
        found += [t.numpy().copy() for t in episode(w, numbers.integers(0, 3, 3))]
    return bits([*found, w.detach().numpy()])


def test_a_row_whose_number_changes_makes_no_new_program() -> None:
    with cr.eager(False):
        for _ in range(3):
            episodes()
        assert len(own_tape().compiled) <= 4
        assert not own_tape().rest


def test_rows_whose_numbers_change_have_the_bits_of_rows_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape, "HOT", 10**9)
    expected = episodes()
    with cr.eager(False):
        assert episodes() == expected


def test_a_row_whose_number_changes_is_a_view_and_is_refused_outside() -> None:
    with cr.eager(False):
        for i in range(6):
            x = X * 2
            row = x[i % 2]
            row += 1
            assert x[i % 2].tolist() == (X[i % 2] * 2 + 1).tolist()
            assert x[1 - i % 2].tolist() == (X[1 - i % 2] * 2).tolist()
            with pytest.raises(IndexRangeError, match=r"index 2 is out of range for axis 0 of size 2"):
                (X * 2)[2]


def test_the_gradient_of_a_row_keeps_the_sign_of_zero() -> None:
    x = cr.ones(3, requires_grad=True)
    (x[cr.tensor(1)] * -0.0).backward()
    assert x.grad is not None
    assert np.signbit(x.grad.numpy()).tolist() == [False, True, False]
