"""JAX: a jitted step called from Python, and many of them under one ``lax.scan``; Adam written out."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from chainrule.cli.bench.workloads import BATCHES, BETA1, BETA2, EPSILON, LEARNING_RATE, Array, Workload


def loss_of(weights: list[Any], x: Any, y: Any) -> Any:
    last = len(weights) - 2
    for i in range(0, len(weights), 2):
        x = x @ weights[i] + weights[i + 1]
        x = jax.nn.relu(x) if i < last else x
    return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()


def train(state: Any, x: Any, y: Any) -> tuple[Any, Any]:
    weights, m, v, t = state
    loss, grads = jax.value_and_grad(loss_of)(weights, x, y)
    t = t + 1
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, grads)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, grads)
    rate, root = LEARNING_RATE / (1 - BETA1**t), jnp.sqrt(1 - BETA2**t)
    weights = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) / root + EPSILON), weights, m, v)
    return (weights, m, v, t), loss


class _Jax:
    def __init__(self, workload: Workload, weights: list[Array], X: Array, y: Array) -> None:
        zeros = [np.zeros_like(w) for w in weights]
        self.state = jax.tree.map(jnp.array, (weights, zeros, zeros, np.float32(0)))
        self.X, self.y = jnp.asarray(X), jnp.asarray(y.astype(np.int32))

    def weights(self) -> list[Array]:
        return [np.asarray(w) for w in self.state[0]]


class Jit(_Jax):
    """One call a step; the state's memory is given to the call, to be used again."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.step = jax.jit(train, donate_argnums=0)
        self.pairs = list(zip(self.X, self.y, strict=True))

    def run(self, steps: int) -> list[Any]:
        losses = []
        for i in range(steps):
            self.state, loss = self.step(self.state, *self.pairs[i % BATCHES])
            losses.append(loss)
        jax.block_until_ready(self.state)
        return losses


class Scan(_Jax):
    """Many steps in one call."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.steps = jax.jit(
            lambda state, order, X, y: jax.lax.scan(lambda s, i: train(s, X[i], y[i]), state, order), donate_argnums=0
        )

    def run(self, steps: int) -> Any:
        self.state, losses = self.steps(self.state, jnp.arange(steps) % BATCHES, self.X, self.y)
        jax.block_until_ready(self.state)
        return losses
