"""NumPy by hand: no graph, no intermediate arrays made anew, Adam over all parameters at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from chainrule.cli.bench.workloads import BATCHES, BETA1, BETA2, EPSILON, LEARNING_RATE, Array, Workload


class ByHand:
    """A step as one would write it who knows NumPy well."""

    def __init__(self, workload: Workload, weights: list[Array], X: Array, y: Array) -> None:
        self.X, self.y, self.rows, self.t = X, y, np.arange(workload.batch), 0
        self.flat = np.concatenate([w.ravel() for w in weights])
        self.gradient, self.m, self.v, self.scratch = (np.zeros_like(self.flat) for _ in range(4))
        shapes = list(pairwise(workload.sizes))
        self.W, self.b = _views(self.flat, shapes)
        self.dW, self.db = _views(self.gradient, shapes)
        self.activations = [np.empty((workload.batch, size), np.float32) for size in workload.sizes[1:]]
        self.deltas = [np.empty_like(a) for a in self.activations]

    def _forward(self, x: Array) -> None:
        for i, (W, b, out) in enumerate(zip(self.W, self.b, self.activations, strict=True)):
            np.matmul(x, W, out=out)
            out += b
            if i + 1 < len(self.W):
                np.maximum(out, 0, out=out)
            x = out

    def _loss(self, y: Array) -> float:
        """The loss; its gradient by the logits goes into the last delta."""
        logits, delta = self.activations[-1], self.deltas[-1]
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=delta)
        total = delta.sum(axis=1, keepdims=True)
        loss = float((np.log(total[:, 0]) - logits[self.rows, y]).mean())
        delta /= total
        delta[self.rows, y] -= 1
        delta /= len(y)
        return loss

    def _backward(self, x: Array) -> None:
        for i in reversed(range(len(self.W))):
            below, delta = (self.activations[i - 1] if i else x), self.deltas[i]
            np.matmul(below.T, delta, out=self.dW[i])
            np.sum(delta, axis=0, out=self.db[i])
            if i:
                np.matmul(delta, self.W[i].T, out=self.deltas[i - 1])
                self.deltas[i - 1] *= below > 0

    def _update(self) -> None:
        self.t += 1
        g, m, v, scratch = self.gradient, self.m, self.v, self.scratch
        m *= np.float32(BETA1)
        np.multiply(g, np.float32(1 - BETA1), out=scratch)
        m += scratch
        v *= np.float32(BETA2)
        np.square(g, out=scratch)
        scratch *= np.float32(1 - BETA2)
        v += scratch
        np.sqrt(v, out=scratch)
        scratch *= np.float32((1 - BETA2**self.t) ** -0.5)
        scratch += np.float32(EPSILON)
        np.divide(m, scratch, out=scratch)
        scratch *= np.float32(LEARNING_RATE / (1 - BETA1**self.t))
        self.flat -= scratch

    def run(self, steps: int) -> list[float]:
        losses = []
        for i in range(steps):
            x, y = self.X[i % BATCHES], self.y[i % BATCHES]
            self._forward(x)
            losses.append(self._loss(y))
            self._backward(x)
            self._update()
        return losses

    def weights(self) -> list[Array]:
        return [array for pair in zip(self.W, self.b, strict=True) for array in pair]


def _views(flat: Array, shapes: list[tuple[int, int]]) -> tuple[list[Array], list[Array]]:
    """Each layer's weight and bias inside one array of all parameters."""
    W, b, start = [], [], 0
    for inputs, outputs in shapes:
        W.append(flat[start : start + inputs * outputs].reshape(inputs, outputs))
        start += inputs * outputs
        b.append(flat[start : start + outputs])
        start += outputs
    return W, b
