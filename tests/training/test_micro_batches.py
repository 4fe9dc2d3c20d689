"""A batch in micro-batches: the gradients of the whole, to the bit where it is compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DataError, GradientError, SettingError, UnknownNameError

Loss = Callable[..., cr.Tensor]


def network() -> nn.Module:
    cr.manual_seed(0)
    return nn.Sequential(nn.Linear(9, 33), nn.Tanh(), nn.Linear(33, 18), nn.ReLU(), nn.Linear(18, 5))


def batch(rows: int, loss: Loss) -> tuple[cr.Tensor, cr.Tensor]:
    rng = np.random.default_rng(rows)
    x = cr.tensor(rng.standard_normal((rows, 9)).astype("f4"))
    classes = rng.integers(0, 5, rows)
    return x, cr.tensor(classes if loss is F.cross_entropy else rng.standard_normal((rows, 5)).astype("f4"))


def gradients(rows: int, count: int, loss: Loss, compiled: bool = True, **how: Any) -> list[np.ndarray]:
    """The loss and the gradient of each parameter; of the whole batch at once where `count` is 0."""
    model, (x, y) = network(), batch(rows, loss)

    def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        model.zero_grad()
        if count:
            return cr.backward_in_micro_batches(lambda x, y: loss(model(x), y, **how), x, y, count=count, **how)
        whole = loss(model(x), y, **how)
        whole.backward()
        return whole.detach()

    value = (cr.compile(step) if compiled else step)(x, y)
    return [value.numpy(), *(p.grad.numpy() for p in model.parameters())]


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize(("rows", "count"), [(128, 2), (256, 4), (512, 8), (2000, 8)])
def test_equal_parts_give_the_bits_of_the_whole(rows: int, count: int, loss: Loss) -> None:
    whole = gradients(rows, 0, loss)
    found = gradients(rows, count, loss)
    assert [a.tobytes() for a in found[1:]] == [a.tobytes() for a in whole[1:]]
    np.testing.assert_allclose(found[0], whole[0], rtol=3e-7)


class Last(nn.Module):
    """What a layer that gives several results gives first, on average over its places."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        found = self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        return (found[0] if isinstance(found, tuple) else found).mean(1)


def of_pixels(rows: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 6, 8)).astype("f4")


@pytest.mark.parametrize(
    ("make", "exact"),
    [
        (lambda: nn.Sequential(nn.Linear(8, 8), nn.PReLU(6), nn.LayerNorm(8), nn.RMSNorm(8), nn.Flatten(), nn.Linear(48, 5)), True),
        (lambda: nn.Sequential(Last(nn.MultiheadAttention(8, 2, batch_first=True)), nn.Linear(8, 5)), True),
        (lambda: nn.Sequential(nn.Conv1d(6, 4, 3), nn.Flatten(), nn.Linear(24, 5)), False),
        (lambda: nn.Sequential(Last(nn.LSTM(8, 7, batch_first=True)), nn.Linear(7, 5)), False),
        (lambda: nn.Sequential(Last(nn.GRU(8, 7, batch_first=True)), nn.Linear(7, 5)), False),
    ],
    ids=["normalizations", "attention", "convolution", "LSTM", "GRU"],
)  # fmt: skip
def test_what_adds_up_rows_alone_has_the_bits_of_the_whole_and_what_adds_up_more_its_numbers(
    make: Callable[[], nn.Module], exact: bool
) -> None:
    cr.manual_seed(0)
    model, x, y = make(), cr.tensor(of_pixels(256)), cr.tensor(np.arange(256) % 5)

    def step(count: int) -> list[np.ndarray]:
        @cr.compile
        def compiled(x: cr.Tensor, y: cr.Tensor) -> None:
            model.zero_grad()
            cr.backward_in_micro_batches(lambda x, y: F.cross_entropy(model(x), y), x, y, count=count)

        compiled(x, y)
        return [p.grad.numpy().copy() for p in model.parameters()]

    whole, parts = step(1), step(4)
    for one, other in zip(whole, parts, strict=True):
        if exact:
            assert one.tobytes() == other.tobytes()
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)


def test_of_a_sum_the_loss_has_the_same_bits_too() -> None:
    whole, found = (gradients(1280, count, F.mse_loss, reduction="sum") for count in (0, 8))
    assert [a.tobytes() for a in found] == [a.tobytes() for a in whole]


def test_added_as_they_come_four_parts_give_other_bits() -> None:
    """What backward called four times does: the first two halves' halves are no half of their own there."""
    model, (x, y) = network(), batch(512, F.mse_loss)

    @cr.compile
    def step(x: cr.Tensor, y: cr.Tensor) -> None:
        model.zero_grad()
        for first in range(0, 512, 128):
            (F.mse_loss(model(x[first : first + 128]), y[first : first + 128]) / 4).backward()

    step(x, y)
    assert [p.grad.numpy().tobytes() for p in model.parameters()] != [
        a.tobytes() for a in gradients(512, 0, F.mse_loss)[1:]
    ]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("rows", "count"), [(11, 4), (7, 1), (130, 2)])
def test_parts_that_differ_in_size_weigh_as_many_rows_as_they_have(rows: int, count: int, compiled: bool) -> None:
    whole, found = (gradients(rows, parts, F.mse_loss, compiled) for parts in (0, count))
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_mean_by_classes_without_the_ignored_is_that_of_the_whole(compiled: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((12, 3)).astype("f4"), np.array([0, 1, 2, -100, -100, -100, 1, 1, 2, 0, -100, 2])
    start, factors = rng.standard_normal((3, 3)).astype("f4"), np.array([1.0, 0.25, 4.0], "f4")
    w = cr.tensor(start, requires_grad=True)

    def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        loss = lambda x, y: F.cross_entropy(x @ w, y, weight=cr.tensor(factors))  # noqa: E731
        return cr.backward_in_micro_batches(loss, x, y, count=4)

    value = (cr.compile(step) if compiled else step)(cr.tensor(x), cr.tensor(y))
    theirs = torch.tensor(start, requires_grad=True)
    whole = torch.nn.functional.cross_entropy(torch.tensor(x) @ theirs, torch.tensor(y), weight=torch.tensor(factors))
    whole.backward()
    np.testing.assert_allclose(value.numpy(), whole.item(), rtol=1e-6)
    np.testing.assert_allclose(w.grad.numpy(), theirs.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_gradients_that_are_there_already_are_added_to_and_trees_are_cut() -> None:
    w = cr.tensor([2.0], requires_grad=True)
    w.grad = cr.tensor([10.0])
    held = w.grad
    rows = {"x": cr.tensor([[1.0], [3.0]]), "y": [cr.tensor([0.0, 0.0])]}
    loss = cr.backward_in_micro_batches(lambda rows: (rows["x"] @ w - rows["y"][0]).mean(), rows, count=2)
    assert (loss.item(), held.tolist(), loss.requires_grad) == (4.0, [12.0], False)


def test_a_training_in_micro_batches_ends_with_the_same_bits() -> None:
    def trained(count: int) -> tuple[list[float], list[bytes]]:
        model, (x, y) = network(), batch(512, F.cross_entropy)
        optimizer = optim.Adam(model.parameters(), lr=1e-2)

        @cr.compile
        def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
            optimizer.zero_grad()
            loss = lambda x, y: F.cross_entropy(model(x), y)  # noqa: E731
            value = cr.backward_in_micro_batches(loss, x, y, count=count)
            optimizer.step()
            return value

        losses = [step(x, y).item() for _ in range(10)]
        assert losses[-1] < losses[0]
        return losses, [p.detach().numpy().tobytes() for p in model.parameters()]

    assert trained(4) == trained(1)


def test_what_cannot_be_cut_is_refused() -> None:
    w, x = cr.tensor([2.0], requires_grad=True), cr.ones(4, 1)
    loss = lambda *rows: (rows[0] @ w).mean()  # noqa: E731
    for count in (0, 3, 8, True, 2.0):
        with pytest.raises(SettingError, match=f"power of two .* 4 rows, got {count!r}"):
            cr.backward_in_micro_batches(loss, x, count=count)
    with pytest.raises(DataError, match=r"one number of rows, got \(4, 1\), \(3,\)"):
        cr.backward_in_micro_batches(loss, x, cr.ones(3), count=2)
    with pytest.raises(DataError, match="got none"):
        cr.backward_in_micro_batches(loss, count=2)
    with pytest.raises(DataError, match="got ndarray"):
        cr.backward_in_micro_batches(loss, np.ones((4, 1)), count=2)
    with pytest.raises(GradientError, match=r"got shape \(2,\)"):
        cr.backward_in_micro_batches(lambda x: x @ w, x, count=2)
    with pytest.raises(UnknownNameError, match="unknown reduction 'none'"):
        cr.backward_in_micro_batches(loss, x, count=2, reduction="none")
    assert w.grad is None


@pytest.mark.parametrize("compiled", [True, False])
def test_a_normalization_by_the_batch_is_refused_in_parts_of_it(compiled: bool) -> None:
    model = nn.Sequential(nn.Linear(9, 6), nn.BatchNorm1d(6), nn.Linear(6, 5))
    x, y = batch(64, F.mse_loss)

    def step(count: int) -> cr.Tensor:
        loss = lambda x, y: F.mse_loss(model(x), y)  # noqa: E731
        return cr.backward_in_micro_batches(loss, x, y, count=count)

    whole = F.mse_loss(model(x), y)  # known to a recording already
    step = cr.compile(step) if compiled else step
    before = [b.clone() for b in model.buffers()]
    with pytest.raises(GradientError) as raised:
        step(2)
    line = inspect.getsourcelines(test_a_normalization_by_the_batch_is_refused_in_parts_of_it)[1] + 6
    assert str(raised.value) == (
        "batch_norm in layer 'Sequential.1' (test_micro_batches.py:"
        f"{line} in <lambda>): in training it normalises by the mean and variance of the whole batch, and "
        "backward_in_micro_batches gives it one part of the batch after the other, whose gradients are others. Use "
        "count=1, a normalization of each row (nn.GroupNorm, nn.LayerNorm), or call eval() on this layer to go by its "
        "running mean and variance."
    )
    assert all(cr.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    np.testing.assert_allclose(step(1).item(), whole.item(), rtol=1e-6)
    model[1].eval()
    step(2)


def test_it_is_refused_no_more_after_an_error_inside() -> None:
    x = cr.tensor(np.arange(8.0, dtype="f4").reshape(4, 2))
    with pytest.raises(ZeroDivisionError):
        cr.backward_in_micro_batches(lambda x: 1 / 0, x, count=2)
    assert F.batch_norm(x, None, None, training=True).shape == (4, 2)
