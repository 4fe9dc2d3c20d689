"""PyTorch: eager, eager with its fused Adam, and compiled."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from chainrule.cli.bench.workloads import BATCHES, LEARNING_RATE, Array, Workload

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))


class Eager:
    """As the tutorials write it."""

    fused = False

    def __init__(self, workload: Workload, weights: list[Array], X: Array, y: Array) -> None:
        layers: list[Any] = []
        for inputs, outputs in pairwise(workload.sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(torch.from_numpy(value).T if value.ndim == 2 else torch.from_numpy(value))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, fused=self.fused)
        self.pairs = list(zip(torch.from_numpy(X).unbind(0), torch.from_numpy(y).unbind(0), strict=True))
        self.loss: Callable[..., Any] = self._loss
        self.update: Callable[[], Any] = self.optimizer.step

    def _loss(self, x: Any, y: Any) -> Any:
        return F.cross_entropy(self.model(x), y)

    def _train(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.update()
        return loss.detach()

    def run(self, steps: int) -> list[Any]:
        return [self._train(*self.pairs[i % BATCHES]) for i in range(steps)]

    def weights(self) -> list[Array]:
        return [p.detach().numpy().T for p in self.model.parameters()]


class Fused(Eager):
    """The optimizer as one kernel a parameter, the fastest that eager mode has."""

    fused = True


class Compiled(Eager):
    """``torch.compile`` of the loss, with its backward pass, and of the optimizer's step."""

    def __init__(self, *arguments: Any) -> None:
        # What this process compiled before would count: other sizes would be made dynamic, and after eight nothing compiled.
        torch.compiler.reset()
        super().__init__(*arguments)
        self.loss = torch.compile(self._loss)
        self.update = torch.compile(self.optimizer.step)
