"""Where a NaN or an infinity came from: the batch runs once more, eagerly, and every value is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chainrule.graph import Node, toposort
from chainrule.nn import Module
from chainrule.nn.utils import clip_grad_norm_
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.training.state import finite, optimized

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Origin:
    """The first operation of a pass whose output is not finite although its inputs are."""

    stage: str  # "forward pass", "backward pass", "optimizer"
    text: str


def find_origin(
    model: Module, loss: Loss, optimizer: Optimizer, x: Tensor, y: Tensor, max_norm: float | None = None
) -> Origin | None:
    """Run one training step eagerly and name where it stops being finite; None if it does not.

    It changes the model, as a step does: the caller restores it.
    """
    optimizer.zero_grad()
    value = loss(model(x), y)
    node = first_not_finite([value])
    if node is not None:
        return Origin("forward pass", f"op {node.op.name!r}{node.whereabouts()}")
    value.backward(create_graph=True)  # with its graph, so that the gradients' own operations can be named
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is not None and not finite(gradient._node.value):
            node = first_not_finite([gradient])
            source = f"op {node.op.name!r}{node.whereabouts()}, " if node is not None else ""
            return Origin("backward pass", f"{source}in the gradient of {name!r}")
    _drop_history(model)
    if max_norm is not None:
        clip_grad_norm_(optimized(optimizer), max_norm)
    optimizer.step()
    for name, parameter in model.named_parameters():
        if not finite(parameter._node.value):
            return Origin("optimizer", f"the update of {name!r} by {type(optimizer).__name__}")
    return None


def first_not_finite(outputs: list[Tensor]) -> Node | None:
    """The first node, in the order of computation, that makes NaN or infinity out of finite inputs."""
    for node in toposort(output._node for output in outputs):
        if finite(node.value) or all(finite(source.value) for source in node.inputs) is False:
            continue
        if node.inputs:  # a constant may be infinite on purpose (a mask)
            return node
    return None


def _drop_history(model: Module) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad = parameter.grad.detach()
