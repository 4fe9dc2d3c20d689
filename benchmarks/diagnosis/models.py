"""Four families of networks from dense layers: an MLP, a CNN, a recurrent net and attention.

The convolution gathers its 3x3 windows and applies one `Linear` to each; the recurrent net runs a tanh cell
over eight steps; attention is one head over eight positions.
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


def build(family: str, inputs: int, outputs: int, width: int, depth: int, act: str, dropout: float) -> nn.Module:
    """The network of a family, new, from the default generator."""
    if family == "mlp":
        return MLP(inputs, outputs, width, depth, act, dropout)
    kind = {"cnn": CNN, "recurrent": Recurrent, "attention": Attention}[family]
    return kind(outputs, width, act, dropout)
