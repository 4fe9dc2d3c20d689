"""Four families of networks from dense layers, each in two kinds: MLP, CNN, recurrent net, attention.

The first kind of each is that of the runs that rules are tuned on, the second (Residual, TimeCNN, Gated, Pooled)
that of the runs held out.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn


def activation(name: str) -> nn.Module:
    return nn.activation_by_name(name)()


class MLP(nn.Sequential):
    """Dense layers, each behind the first with an activation (and dropout) in front."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, act: str, dropout: float) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise([inputs, *[width] * depth]):
            layers += [nn.Linear(a, b), activation(act)]
            layers += [nn.Dropout(dropout)] if dropout else []
        super().__init__(*layers, nn.Linear(width if depth else inputs, outputs))


def _windows(side: int, stride: int) -> Any:
    starts = range(0, side - 2, stride)
    return np.array([[(r + i) * side + c + j for i in range(3) for j in range(3)] for r in starts for c in starts])


class CNN(nn.Module):
    """Two convolutions of 3x3 (the second over a stride of 2), then a dense layer."""

    def __init__(self, outputs: int, width: int, act: str, dropout: float) -> None:
        super().__init__()
        self.first, self.second = _windows(8, 1), _windows(6, 2)
        self.conv1, self.act1 = nn.Linear(9, width), activation(act)
        self.conv2, self.act2 = nn.Linear(9 * width, width), activation(act)
        self.drop = nn.Dropout(dropout)
        self.width = width
        self.head = nn.Linear(len(self.second) * width, outputs)

    def forward(self, x: Any) -> Any:
        h = self.act1(self.conv1(x[:, cr.tensor(self.first)]))
        h = self.act2(self.conv2(h[:, cr.tensor(self.second)].reshape(x.shape[0], len(self.second), 9 * self.width)))
        return self.head(self.drop(h.flatten(1)))


class Recurrent(nn.Module):
    """``h <- act(W x_t + U h)`` over the eight rows of the input."""

    def __init__(self, outputs: int, width: int, act: str, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.inward, self.around = nn.Linear(8, width), nn.Linear(width, width)
        self.act, self.drop = activation(act), nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Any) -> Any:
        rows = x.reshape(x.shape[0], 8, 8)
        h = self.act(self.inward(rows[:, 0]))
        for t in range(1, 8):
            h = self.act(self.inward(rows[:, t]) + self.around(h))
        return self.head(self.drop(h))


class Attention(nn.Module):
    """One block of self-attention over eight positions, a dense layer for each, the mean, the output."""

    def __init__(self, outputs: int, width: int, act: str, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(cr.randn(8, width) * 0.3)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.up, self.act, self.down = nn.Linear(width, 2 * width), activation(act), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(dropout)
        self.scale = width**-0.5
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Any) -> Any:
        h = self.embed(x.reshape(x.shape[0], 8, 8)) + self.place
        weights = (self.query(h) @ self.key(h).mT * self.scale).softmax(-1)
        h = h + weights @ self.value(h)
        h = h + self.down(self.act(self.up(h)))
        return self.head(self.drop(h.mean(1)))


class Residual(nn.Module):
    """A dense layer, then dense layers that each add to what they read, then the output."""

    def __init__(self, inputs: int, outputs: int, width: int, depth: int, act: str, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.acts = nn.ModuleList([activation(act) for _ in range(depth + 1)])
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Any) -> Any:
        h = self.acts[0](self.embed(x))
        for i, block in enumerate(self.blocks):
            h = h + self.drop(self.acts[i + 1](block(h)))
        return self.head(self.drop(h))


class TimeCNN(nn.Module):
    """Two convolutions over sixteen steps of four channels (windows of 5, then 3 with a stride of 2), the mean."""

    def __init__(self, outputs: int, width: int, act: str, dropout: float) -> None:
        super().__init__()
        self.first = np.array([[(t + i) * 4 + c for i in range(5) for c in range(4)] for t in range(12)])
        self.second = np.array([[t + i for i in range(3)] for t in range(0, 10, 2)])
        self.conv1, self.act1 = nn.Linear(20, width), activation(act)
        self.conv2, self.act2 = nn.Linear(3 * width, 2 * width), activation(act)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, outputs)
        self.width = width

    def forward(self, x: Any) -> Any:
        h = self.act1(self.conv1(x[:, cr.tensor(self.first)]))
        h = h[:, cr.tensor(self.second)].reshape(x.shape[0], len(self.second), 3 * self.width)
        return self.head(self.drop(self.act2(self.conv2(h)).mean(1)))


class Gated(nn.Module):
    """A recurrent net with an update gate (Cho et al. 2014, without the reset gate) over eight steps, read at the end."""

    def __init__(self, outputs: int, width: int, act: str, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.inward, self.around = nn.Linear(8, width), nn.Linear(width, width)
        self.gate_in, self.gate_around = nn.Linear(8, width), nn.Linear(width, width)
        self.act, self.drop = activation(act), nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Any) -> Any:
        rows = x.reshape(x.shape[0], 8, 8)
        h = self.act(self.inward(rows[:, 0]))
        for t in range(1, 8):
            gate = (self.gate_in(rows[:, t]) + self.gate_around(h)).sigmoid()
            h = gate * h + (1 - gate) * self.act(self.inward(rows[:, t]) + self.around(h))
        return self.head(self.drop(h))


class Pooled(nn.Module):
    """Eight places, a dense layer for each; two learned queries read them, each by its own attention."""

    def __init__(self, outputs: int, width: int, act: str, dropout: float) -> None:
        super().__init__()
        self.up, self.act = nn.Linear(8, 2 * width), activation(act)
        self.key, self.value = nn.Linear(2 * width, width), nn.Linear(2 * width, width)
        self.query = nn.Parameter(cr.randn(2, width) * 0.5)
        self.drop, self.scale = nn.Dropout(dropout), width**-0.5
        self.head = nn.Linear(2 * width, outputs)

    def forward(self, x: Any) -> Any:
        h = self.act(self.up(x.reshape(x.shape[0], 8, 8)))
        weights = (self.query @ self.key(h).mT * self.scale).softmax(-1)
        return self.head(self.drop((weights @ self.value(h)).flatten(1)))


FAMILIES = {
    "cnn": CNN, "recurrent": Recurrent, "attention": Attention, "time_cnn": TimeCNN, "gated": Gated, "pooled": Pooled,
}  # fmt: skip


def build(kind: str, inputs: int, outputs: int, width: int, depth: int, act: str, dropout: float) -> nn.Module:
    """The network of a kind, new, from the default generator."""
    if kind in ("mlp", "residual"):
        return {"mlp": MLP, "residual": Residual}[kind](inputs, outputs, width, depth, act, dropout)
    return FAMILIES[kind](outputs, width, act, dropout)
