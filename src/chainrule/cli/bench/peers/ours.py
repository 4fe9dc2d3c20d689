"""chainrule: the whole step as one native program."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.cli.bench.workloads import BATCHES, LEARNING_RATE, Array, Workload


class _Ours:
    def __init__(self, workload: Workload, weights: list[Array], X: Array, y: Array) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(workload.sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])
        with cr.no_grad():
            for parameter, value in zip(self.model.parameters(), weights, strict=True):
                parameter.copy_(cr.from_numpy(value).T if value.ndim == 2 else cr.from_numpy(value))
        self.optimizer = optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.X, self.y = cr.from_numpy(X), cr.from_numpy(y)

    def _train(self, x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def weights(self) -> list[Array]:
        return [p.detach().numpy().T for p in self.model.parameters()]


class Loop(_Ours):
    """Many steps in one native call; each picks its batch by number."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.step = cr.compile(lambda i: self._train(self.X[i], self.y[i]))

    def run(self, steps: int) -> Any:
        return self.step.loop(cr.arange(steps) % BATCHES).numpy()


class Call(_Ours):
    """One native call a step."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.step = cr.compile(self._train)
        self.pairs = list(zip(self.X.unbind(0), self.y.unbind(0), strict=True))

    def run(self, steps: int) -> list[Any]:
        return [self.step(*self.pairs[i % BATCHES]) for i in range(steps)]
