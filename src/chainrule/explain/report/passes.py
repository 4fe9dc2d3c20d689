"""One forward and backward pass, kept whole: every node, its value, its gradient.

A recorded step is kept as the compiled program computed it, bit for bit (`of_moment`). Where nothing was
recorded, the pass runs eagerly on the graph that the model itself builds (`run`), and everything it changes
is put back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from chainrule import autodiff, graph, several
from chainrule.dtypes import numbers_of
from chainrule.explain.moment import Moment
from chainrule.graph import CONST, Array, Node
from chainrule.nn.utils import clip_grad_norm_
from chainrule.tensor.core import lifted, numbers, wrap
from chainrule.tensor.creation import ones_like, tensor
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import drawing_from
from chainrule.training.objective import objective
from chainrule.training.session import Session
from chainrule.training.state import optimized
from chainrule.training.trainer import Trainer


@dataclass
class Step:
    """What one step computed.

    Attributes:
        nodes: each after those it reads; what neither depends on the batch nor is learned (a dropout mask, the
            targets) is kept as a value, without the ops that made it.
        reads: for each node the positions of the nodes it reads; a Python number is no node.
        values, gradients: by node; a gradient where one was computed.
        names: of the nodes that stand for something: parameters, ``input``, ``mask``, ``target``.
        parameters, updates: by name, before the step and what the step adds.
    """

    nodes: list[Node]
    reads: list[list[int]]
    flows: list[bool]
    values: dict[Node, Array]
    gradients: dict[Node, Array]
    names: dict[Node, str]
    input: Node
    output: Node
    loss: Node
    loss_value: float
    batch: int
    parameters: dict[str, Array]
    parameter_gradients: dict[str, Array]
    updates: dict[str, Array]


def of_moment(moment: Moment) -> Step:
    """A recorded step, as the program computed it."""
    watched = moment.watched
    notes, found = watched.trace.notes, watched.trace.gradients
    nodes, reads, flows = _kept(watched.forward(), notes["input"])
    owners = dict(moment.replay.trainer.model.named_parameters())
    names = {node: name for name, p in owners.items() if (node := watched.before(p)) is not None}
    for node, sources in zip(nodes, reads, strict=True):
        if not sources and node not in names:
            names[node] = _origin(node, notes["target"])
    weights, after = moment.weights, moment.after
    return Step(
        nodes, reads, flows,
        values={node: watched.numbers(node) for node in nodes},
        gradients={node: watched.numbers(found[node]) for node in nodes if node in found},
        names={**names, notes["input"]: "input"}, input=notes["input"], output=notes["output"], loss=notes["loss"],
        loss_value=moment.loss,
        batch=len(moment.rows),
        parameters={name: weights[name] for name in owners},
        parameter_gradients=moment.gradients,
        updates={name: after[name] - weights[name] for name in owners},
    )  # fmt: skip


def run(trainer: Trainer, x: Array, y: Array, weight: Array | None = None) -> Step:
    """Forward, backward and update on one batch, in training mode, without leaving a trace in `trainer`.

    Args:
        trainer: its weights, optimizer state and random counter are those before the step.
        x, y: the rows of the batch, as `Trainer.fit` takes them.
        weight: of each row in the loss; None: they weigh alike.
    """
    with _free(trainer.session):
        given = tensor(x)
        if given.dtype.is_floating_point:
            given.requires_grad_()  # so that the input's own gradient is there to be seen
        output = trainer.model(given)
        loss = objective(trainer.loss, output, tensor(y), None if weight is None else tensor(weight))
        nodes, reads, flows = _kept(graph.toposort([lifted(loss)]), lifted(given))
        wanted = [node for node in nodes if node.requires_grad]
        found = autodiff.gradients([loss], [ones_like(loss)], wanted)
        gradients = {node: np.array(numbers(found[node])) for node in wanted if node in found}
        names = _parameter_names(trainer, nodes)
        before, updates = _update(trainer, {names[n]: g for n, g in gradients.items() if n in names})
        return Step(
            nodes, reads, flows, {node: numbers_of(node.value) for node in nodes}, gradients, {**names, lifted(given): "input"},
            lifted(given), lifted(output), lifted(loss), float(numbers(loss)), len(x), before,
            {names[node]: gradient for node, gradient in gradients.items() if node in names}, updates,
        )  # fmt: skip


def _kept(order: list[Node], source: Node) -> tuple[list[Node], list[list[int]], list[bool]]:
    """The nodes that the batch flows through or that are learned, and the values they read."""
    order = [node for node in order if not isinstance(node, several.Several)]  # their results stand for them
    flowing: set[Node] = {source}
    for node in order:
        if any(read in flowing for read in several.sources(node)):
            flowing.add(node)
    inner = [node for node in order if node is not source and (node in flowing or node.requires_grad)]
    edge = {read for node in inner for read in several.sources(node) if read.op is not CONST}
    nodes = [node for node in order if node in edge or node in flowing or node.requires_grad]
    number = {node: i for i, node in enumerate(nodes)}
    inside = set(inner)
    reads = [
        [number[read] for read in several.sources(node) if read in number] if node in inside else [] for node in nodes
    ]
    return nodes, reads, [node in flowing for node in nodes]


def _origin(node: Node, target: Node) -> str:
    """What a value that neither flows nor is learned is: the targets, random numbers, or a constant."""
    before = graph.toposort([node])
    if target in before:
        return "target"
    return "mask" if any(source.op.name == "random_bits" for source in before) else "constant"


def _parameter_names(trainer: Trainer, nodes: list[Node]) -> dict[Node, str]:
    owners = {parameter: name for name, parameter in trainer.model.named_parameters()}
    found = {node: node.owner() for node in nodes if node.owner is not None}
    return {node: owners[owner] for node, owner in found.items() if owner in owners}


def _update(trainer: Trainer, gradients: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """The parameters before the optimizer's step, and what it adds to each."""
    named = dict(trainer.model.named_parameters())
    before = {name: np.array(numbers(p)) for name, p in named.items()}
    with no_grad():
        for name, gradient in gradients.items():
            named[name].grad = wrap(lifted(tensor(gradient, named[name].dtype)))
        if trainer.max_norm is not None:
            clip_grad_norm_(optimized(trainer.optimizer), trainer.max_norm)
        trainer.optimizer.step()
    return before, {name: np.asarray(numbers(p) - before[name]) for name, p in named.items()}


@contextmanager
def _free(session: Session) -> Iterator[None]:
    """In the modes of the training, drawing from its stream, without gradients; afterwards all is as it was."""
    with session.lent(), session.training(), drawing_from(session.random):
        for handle in session.handles():
            handle.grad = None
        yield
