"""nn.RNN, nn.LSTM and nn.GRU against PyTorch's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn, optim
from chainrule.errors import SettingError, ShapeError
from tests.optional import torch

KINDS = ["RNN", "LSTM", "GRU"]
SETTINGS: list[dict[str, Any]] = [
    {}, {"num_layers": 2, "batch_first": True}, {"bidirectional": True, "bias": False}, {"num_layers": 2, "bidirectional": True},
]  # fmt: skip


def twins(kind: str, dtype: str = "float64", **settings: Any) -> tuple[Any, Any]:
    """A layer of ours and one of PyTorch's with the same weights."""
    theirs = getattr(torch.nn, kind)(3, 4, dtype=getattr(torch, dtype), **settings)
    ours = getattr(nn, kind)(3, 4, dtype=dtype, **settings)
    assert [(name, tuple(p.shape)) for name, p in theirs.named_parameters()] == [
        (n, p.shape) for n, p in ours.named_parameters()
    ]
    ours.load_state_dict({name: cr.tensor(p.detach().numpy()) for name, p in theirs.named_parameters()})
    return ours, theirs


def flat(found: Any) -> list[Any]:
    return [leaf for x in found for leaf in flat(x)] if isinstance(found, (tuple, list)) else [found]


def compared(
    ours: Any, theirs: Any, state: bool, way: Callable[..., Any], tolerance: float, shape: tuple[int, ...]
) -> None:
    """Outputs, states, and the gradients of all weights, of the input and of the first state."""
    dtype = next(theirs.parameters()).dtype
    xs = torch.randn(*shape, dtype=dtype, requires_grad=True)
    axis = theirs.num_layers * (2 if theirs.bidirectional else 1)
    batch = () if len(shape) == 2 else (shape[0] if theirs.batch_first else shape[1],)
    pair = [torch.randn(axis, *batch, 4, dtype=dtype, requires_grad=True) for _ in range(2)]
    given = tuple(pair) if theirs.mode == "LSTM" else pair[0]
    expected = flat(theirs(xs, given) if state else theirs(xs))
    sum((x * x).sum() * (i + 1) for i, x in enumerate(expected)).backward()

    def loss(weights: list[Tensor], xs: Tensor, first: Any) -> Any:
        found = flat(ours(xs, first) if state else ours(xs))
        return sum(((x * x).sum() * (i + 1) for i, x in enumerate(found)), cr.tensor(0.0, dtype=xs.dtype)), found

    own = [cr.tensor(x.detach().numpy(), requires_grad=True) for x in (xs, *pair)]
    first = tuple(own[1:]) if theirs.mode == "LSTM" else own[1]
    ours.zero_grad()
    total, found = way(loss)(list(ours.parameters()), own[0], first)
    total.backward()
    used = flat(first) if state else []
    gradients = [p.grad for p in ours.parameters()] + [own[0].grad] + [x.grad for x in used]
    theirs_grads = [p.grad for p in theirs.parameters()] + [xs.grad] + [x.grad for x in flat(given) if state]
    for one, other in zip([*found, *gradients], [*expected, *theirs_grads], strict=True):
        assert one.shape == tuple(other.shape)
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_values_and_gradients_are_pytorchs(kind: str, settings: dict[str, Any]) -> None:
    ours, theirs = twins(kind, **settings)
    for way in (lambda f: f, cr.compile):
        compared(ours, theirs, bool(settings), way, 1e-9, (5, 2, 3))
        theirs.zero_grad()


def test_single_precision_relu_and_one_sequence_alone() -> None:
    compared(*twins("LSTM", "float32"), True, cr.compile, 1e-4, (6, 2, 3))
    compared(*twins("RNN", nonlinearity="relu"), True, lambda f: f, 1e-9, (6, 2, 3))
    compared(*twins("LSTM"), True, lambda f: f, 1e-9, (6, 3))


def test_it_begins_as_pytorchs_does_and_drops_between_layers() -> None:
    layer = nn.LSTM(3, 100, num_layers=2, dropout=0.5)
    weights = np.concatenate([p.detach().numpy().ravel() for p in layer.parameters()])
    assert abs(weights).max() <= 0.1
    assert weights.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)
    x = cr.randn(4, 2, 3)
    assert not np.array_equal(layer(x)[0].detach(), layer(x)[0].detach())
    assert repr(layer) == "LSTM(3, 100, num_layers=2, dropout=0.5)"
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].detach(), layer(x)[0].detach())
    layer.flatten_parameters()


def test_it_learns_in_a_trainer_that_records() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x.unsqueeze(-1))[0][:, -1])

    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)  # what it must remember
    model = Last()
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.03), metrics=["accuracy"])
    history = trainer.fit(x, y, epochs=40, batch_size=16, seed=0, progress=False, record=True)
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert trainer.run.at(7).explain("head.weight", 0).adds_up
    assert set(trainer.run.at(7).gradients) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: nn.LSTM(3, 4, proj_size=2), SettingError, "LSTM: proj_size must be 0 (projections are not there yet), got 2."),
    (lambda: nn.GRU(3, 0), SettingError, "GRU: hidden_size must be at least 1, got 0."),
    (lambda: nn.RNN(3, 4, num_layers=0), SettingError, "RNN: num_layers must be at least 1, got 0."),
    (lambda: nn.RNN(3, 4, nonlinearity="gelu"), SettingError, "RNN: nonlinearity must be 'tanh' or 'relu', got 'gelu'."),
    (lambda: nn.LSTM(3, 4)(cr.zeros(5, 2, 4)), ShapeError, "the input must be (steps, batch, input_size) or (steps, input_size), with "
     "input_size=3, got shape (5, 2, 4). Reshape it, or change input_size."),
    (lambda: nn.LSTM(3, 4)(cr.zeros(5, 2, 3), cr.zeros(1, 2, 4)), SettingError, "LSTM: the state must be a pair (h, c), got "),
    (lambda: nn.GRU(3, 4)(cr.zeros(5, 2, 3), cr.zeros(1, 3, 4)), ShapeError, "each state must have the shape (layers * directions, "
     "batch, hidden_size), (1, 2, 4), got shape (1, 3, 4). Leave it out to begin with zeros."),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()
