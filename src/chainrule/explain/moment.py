"""One moment of a recorded training: everything a step read, computed and changed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from chainrule.compiler.frontend.watch import Watched
from chainrule.compiler.plan.summation import Summation, summation_of
from chainrule.compiler.schedule.kernels import Compute, Kernel, Result
from chainrule.dtypes import numbers_of
from chainrule.errors import GradientError, ReplayError
from chainrule.explain.addresses import largest
from chainrule.explain.derivation import Derivation
from chainrule.explain.flow import Flow, gradient_flow
from chainrule.explain.replay import Replay
from chainrule.explain.scene import Reader, Scene, contributions
from chainrule.graph import CONST, LEAF, Array, Node
from chainrule.nn import Module
from chainrule.ops import elementwise as ew
from chainrule.ops import indexing
from chainrule.several import Several, evaluate_several
from chainrule.tensor import Tensor
from chainrule.tensor.core import numbers, wrap
from chainrule.training.record import Groups


def held(model: Module) -> dict[str, Array]:
    """Parameters and buffers as they are now, by name."""
    return {name: numbers(t) for name, t in (*model.named_parameters(), *model.named_buffers())}


class Moment:
    """One step of a training: everything it read, computed and changed.

    Attributes:
        step, epoch: which one, from 0.
        rows: the row numbers of its batch.
        proved: the replay gave the recorded loss and weights, to the bit (False at the end of the run, where
            nothing is recorded to compare with).
        groups: the optimizer's settings.
        watched: every value by node of the traced step, for those who walk its graph.
    """

    def __init__(self, replay: Replay, step: int, watched: Watched, before: Mapping[str, Array]) -> None:
        self.replay, self.step, self.watched = replay, step, watched
        self.epoch = step // replay.per_epoch
        self.rows = replay.rows(step)
        self.groups: Groups = replay.groups(step)
        self.proved = replay.recorded(step)
        model = replay.trainer.model
        self._handles: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._held = before
        self._slots: dict[str, dict[str, Tensor]] = {
            name: dict(replay.trainer.optimizer.state.get(p, {})) for name, p in model.named_parameters()
        }
        self._now = {id(t): numbers(t) for t in self._all()}  # what the step left, unless it read nothing
        if self.proved:
            replay.check(step, np.array([self.loss]), self._noted("print")[None])

    def _all(self) -> list[Tensor]:
        return [*self._handles.values(), *(t for slots in self._slots.values() for t in slots.values())]

    # ---------------------------------------------------------------- the numbers

    @property
    def loss(self) -> float:
        """The loss of the batch under the weights before the update."""
        return float(self._noted("loss"))

    @property
    def x(self) -> Array:
        """The batch's rows, shape (batch, ...)."""
        return self._noted("input")

    @property
    def y(self) -> Array:
        """The batch's targets."""
        return self._noted("target")

    @property
    def output(self) -> Array:
        """What the model made of them."""
        return self._noted("output")

    @property
    def weights(self) -> dict[str, Array]:
        """Parameters and buffers before the update, by name."""
        return {name: self._before(handle, self._held[name]) for name, handle in self._handles.items()}

    @property
    def after(self) -> dict[str, Array]:
        """Parameters and buffers after the update."""
        return {name: self._now[id(handle)] for name, handle in self._handles.items()}

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradient of each parameter as the optimizer received it (clipped, if it was)."""
        notes = self.watched.trace.notes
        return {
            name: self.watched.numbers(notes["gradient", name])
            for name, _ in self.replay.trainer.model.named_parameters()
            if ("gradient", name) in notes
        }

    @property
    def optimizer(self) -> dict[str, dict[str, Array]]:
        """The optimizer's state before the update: by parameter, then by PyTorch's name (``exp_avg``, ...)."""
        return {name: {k: self._before(t) for k, t in slots.items()} for name, slots in self._slots.items()}

    @property
    def optimizer_after(self) -> dict[str, dict[str, Array]]:
        """The optimizer's state after the update."""
        return {name: {k: self._now[id(t)] for k, t in slots.items()} for name, slots in self._slots.items()}

    def rate(self, name: str) -> float:
        """The learning rate by which the update moved a parameter; 0 where it did not."""
        noted = self.watched.trace.notes.get(("rate", id(self._handles[name])))
        return 0.0 if noted is None else float(self.watched.numbers(noted))

    @property
    def activations(self) -> dict[str, Array]:
        """The output of each layer that computes something, by its name."""
        return {name: self.watched.numbers(node) for name, node in self.layers.items()}

    @property
    def activation_gradients(self) -> dict[str, Array]:
        """The gradient of the loss with respect to the output of each layer."""
        found = self.watched.trace.gradients
        return {name: self.watched.numbers(found[node]) for name, node in self.layers.items() if node in found}

    @property
    def layers(self) -> dict[str, Node]:
        """The node that is each layer's output, in the order of computation."""
        forward = self.watched.forward()
        model = self.replay.trainer.model
        known = {f"{type(model).__name__}.{name}".rstrip("."): name for name, _ in model.named_modules()}
        return {known.get(n.layer, n.layer): n for n in forward if n.layer and n.inputs}

    @cached_property
    def scene(self) -> Scene:
        """The step's graph with its values and gradients, as derivations walk it."""
        return _scene(self)

    def explain(self, name: str, position: int | None = None) -> Derivation:
        """The derivation of one element (row-major) of a parameter's gradient; None: of the largest."""
        node = next((node for node, own in self.scene.names.items() if own == name), None)
        gradient = None if node is None else self.scene.gradient(node)
        if node is None or gradient is None:
            raise GradientError(
                f"explain: the loss does not depend on {name} at step {self.step}, or it does not require grad, so it has "
                f"no gradient to derive. Name another weight."
            )
        return Derivation(self.scene, node, largest(gradient) if position is None else position)

    def gradient_flow(self, name: str) -> Flow:
        """What every op between the loss and a parameter did to the gradient; see `chainrule.gradient_flow`."""
        node = next((node for node, own in self.scene.names.items() if own == name), None)
        if node is None or node not in self._graph:
            raise GradientError(
                f"gradient_flow: the loss does not depend on {name} at step {self.step}. Name another parameter."
            )
        return gradient_flow(wrap(self._graph[self.scene.loss]), wrap(self._graph[node]), name)

    @cached_property
    def _graph(self) -> dict[Node, Node]:
        """The step as an eager graph: the program's own values, with the history that led to them."""
        copies: dict[Node, Node] = {}
        for node in self.watched.forward():
            copies[node] = copy = self._copy(node, copies)
            copy.stand_for(node)
        return copies

    def _copy(self, node: Node, copies: dict[Node, Node]) -> Node:
        if isinstance(node, Several):
            inputs = tuple(copies[source] for source in node.inputs)
            values = evaluate_several(node.op, [source.value for source in inputs], node.params, node.types)
            return Several(node.op, inputs, node.params, node.types, values, node.requires_grad)
        value = self.watched.value(node)
        if node.requires_grad and node.inputs:
            inputs = tuple(copies[source] for source in node.inputs)
            return Node(node.op, inputs, node.params, node.type, value=value, requires_grad=True)
        if node.op is CONST:
            return Node(CONST, (), node.params, node.type, value=value)
        return Node(LEAF, (), {}, node.type, value=value, requires_grad=node.requires_grad)

    def _noted(self, key: str) -> Array:
        if key not in self.watched.trace.notes:
            raise ReplayError(
                f"Moment: this training has several arrays as its {key}, which are not shown one by one yet. Weights, "
                f"gradients and updates are there."
            )
        return self.watched.numbers(self.watched.trace.notes[key])

    def _before(self, handle: Tensor, held: Array | None = None) -> Array:
        """What a tensor held before the step; `held`: under its name, where the step may have put another one there."""
        node = self.watched.before(handle)
        stored = None if node is None else self.watched.stored.get(node)
        if stored is not None:
            return numbers_of(stored)
        return self._now[id(handle)] if held is None else held

    def __repr__(self) -> str:
        return f"<Moment: step {self.step} (epoch {self.epoch}), {len(self.rows)} rows, loss {self.loss:.6g}>"


def _scene(moment: Moment) -> Scene:
    """A recorded step, as its native program computed it."""
    watched = moment.watched
    kernels = _kernels(watched)

    def gradient(node: Node) -> Array | None:
        found = watched.trace.gradients.get(node)
        return None if found is None else watched.numbers(found)

    def added(gradient: Node | None) -> list[Summation]:
        image = watched.program.images.get(gradient) if gradient is not None else None
        kernel, stage = kernels.get(image, (None, None)) if image is not None else (None, None)
        order = None if kernel is None else summation_of(kernel, stage)
        return [] if order is None else [order]

    def orders(node: Node) -> list[Summation]:
        return added(watched.trace.gradients.get(node))

    def part_orders(node: Node, reader: Reader) -> list[Summation]:
        passed_back = contributions(watched.trace.gradients[node], scene.readers[node])
        return added(passed_back.get(reader))

    names = {}
    for name, handle in moment.replay.trainer.model.named_parameters():
        node = watched.before(handle)
        if node is not None:
            names[node] = name
    title = f"step {moment.step}"
    scene = Scene(watched.trace.notes["loss"], watched.numbers, gradient, orders, part_orders, names, title)
    return scene


def _kernels(watched: Watched) -> dict[Node, tuple[Kernel, int | None]]:
    """By node, the kernel whose core (or which stage of it) computes it: as it is stored, or before it is added to."""
    found: dict[Node, tuple[Kernel, int | None]] = {}
    for kernel in watched.program.plan.kernels:
        for store in kernel.stores:
            if store.combine is indexing.put_add:
                found[store.node] = kernel, None
            pairs = [(store.node, store.value)]
            while pairs:
                node, value = pairs.pop()
                if isinstance(value, Result):
                    found[node] = kernel, value.stage
                elif isinstance(value, Compute) and value.op is ew.add and node.op is ew.add:
                    pairs += zip(node.inputs, value.args, strict=True)
    return found
