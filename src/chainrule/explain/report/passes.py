"""One forward and backward pass, kept whole: every node, its value, its gradient.

The pass runs eagerly on the graph that the model itself builds, so what is kept is what the engine
computed; the state of model, optimizer and random counter is put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import autodiff, graph
from chainrule.graph import CONST, Array, Node
from chainrule.nn import Module
from chainrule.tensor.core import lifted, wrap
from chainrule.tensor.creation import ones_like, tensor
from chainrule.training import state
from chainrule.training.trainer import Trainer


@dataclass
class Step:
    """What one step computed: the nodes in the order they ran, and what they held."""

    nodes: list[Node]
    gradients: dict[Node, Array]
    loss: Node
    batch: int
    parameters: dict[str, Array]
    updates: dict[str, Array]
    input: Node


def run(trainer: Trainer, x: Array, y: Array) -> Step:
    """Forward, backward and update on one batch, in training mode, without leaving a trace in `trainer`.

    Args:
        trainer: its weights, optimizer state and random counter are those before the step.
        x, y: the rows of the batch, as `Trainer.fit` takes them.
    """
    with _untouched(trainer):
        trainer.model.train()
        given = tensor(x)
        if given.dtype.is_floating_point:
            given.requires_grad_()  # so that the input's own gradient is there to be seen
        loss = trainer.loss(trainer.model(given), tensor(y))
        nodes = [node for node in graph.toposort([lifted(loss)]) if node.op is not CONST]
        differentiable = [node for node in nodes if node.requires_grad]
        found = autodiff.gradients([loss], [ones_like(loss)], differentiable)
        gradients = {node: np.array(found[node]._node.value) for node in differentiable if node in found}
        before, after = _update(trainer, nodes, gradients)
        return Step(nodes, gradients, lifted(loss), len(x), before, after, lifted(given))


def _update(
    trainer: Trainer, nodes: list[Node], gradients: dict[Node, Array]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The parameters before the optimizer's step, and what it adds to each."""
    named = dict(trainer.model.named_parameters())
    wanted = set(named.values())
    for node in nodes:
        owner = node.owner() if node.owner is not None else None
        if owner is not None and owner in wanted and node in gradients:
            owner.grad = wrap(lifted(tensor(gradients[node])))
    before = {name: np.array(p._node.value) for name, p in named.items()}
    trainer.optimizer.step()
    return before, {name: np.asarray(p._node.value - before[name]) for name, p in named.items()}


@contextmanager
def _untouched(trainer: Trainer) -> Iterator[None]:
    """Weights, optimizer, random counter, gradients and mode as they were, whatever happens inside."""
    saved = state.snapshot(trainer.model, trainer.optimizer)
    grads = [(p, p.grad) for p in trainer.model.parameters()]
    modes = [(module, module.training) for module in trainer.model.modules()]
    try:
        for parameter, _ in grads:
            parameter.grad = None
        yield
    finally:
        state.restore(saved)
        for parameter, grad in grads:
            parameter.grad = grad
        for module, mode in modes:
            module.training = mode


def names_of(model: Module) -> dict[Any, str]:
    """The dotted name of every parameter, by the tensor itself."""
    return {parameter: name for name, parameter in model.named_parameters()}
