"""Where a NaN or an infinity came from and why: the batch runs once more, eagerly, and every value is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chainrule.autodiff import trees
from chainrule.dtypes import numbers_of
from chainrule.graph import Node, toposort
from chainrule.nn import Module
from chainrule.nn.meaning import meaning_of, option_of
from chainrule.nn.utils import clip_grad_norm_
from chainrule.optim import Optimizer
from chainrule.several import name_of
from chainrule.tensor import Tensor
from chainrule.tensor.core import numbers
from chainrule.training.objective import objective
from chainrule.training.origin import Origin, origin
from chainrule.training.several import called, labelled
from chainrule.training.state import finite, optimized

Loss = Callable[[Tensor, Tensor], Tensor]
LARGE = 1e4  # inputs and weights of trainings that go well are smaller


@dataclass(frozen=True)
class Failure:
    """What a step says of itself that is not finite: where that began, why, and what to do.

    Attributes:
        stage: "batch", "weights", "forward pass", "backward pass" or "optimizer".
        text: the operation and where it stands.
        cause: what happened there, as a sentence.
        remedy: what to do, as a sentence.
    """

    stage: str
    text: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        if self.stage in ("batch", "weights"):
            return f"{self.cause} {self.remedy}"
        return f"The first value that is not finite came in the {self.stage}: {self.text}. {self.cause} {self.remedy}"


class Batch(NamedTuple):
    """A batch: features, targets, and weights of its rows where there are any."""

    x: Any  # a tensor, or a tree of several
    y: Any
    weight: Tensor | None = None


def explain(model: Module, loss: Loss, optimizer: Optimizer, batch: Batch, max_norm: float | None, begun: bool) -> str:
    """Run one training step eagerly and say where and why it stops being finite, and what to do.

    It changes the model, as a step does: the caller restores it.

    Args:
        begun: steps were taken before this one, so that the weights have moved.
    """
    slower = f"Lower the learning rate (now {optimizer.param_groups[0]['lr']:g}) or clip the gradients (max_norm=1.0)."
    weight = max((_largest(p) for p in model.parameters()), default=0.0)
    x, y = (max(map(_largest, trees.leaves(part)), default=0.0) for part in (batch.x, batch.y))
    why = _Why(x, y, weight, begun, slower)
    found = _of_batch(loss, batch.x, batch.y) or _of_weights(model, loss)
    found = found or _of_step(model, loss, optimizer, batch, max_norm, why)
    if found is not None:
        return str(found)
    return (
        f"An eager run of the same batch stays finite, so the values are at the edge of the dtype's range. "
        f"{why.too_large()}"
    )


def _of_batch(loss: Loss, x: Any, y: Any) -> Failure | None:
    """What is wrong with the rows themselves."""
    for name, part in (*labelled(x, "X"), *(labelled(y, "y") if y is not None else ())):
        if not finite(part._node.value):
            return Failure(
                "batch", "", f"The rows of {name} in this batch hold NaN or infinity, and did not when the training began.",
                "Leave the arrays as they are while it runs.",
            )  # fmt: skip
    if not isinstance(y, Tensor):
        return None
    meaning, labels = meaning_of(loss), y._node.value
    if meaning is None or not meaning.over_classes or labels.dtype.kind == "f":
        return None
    ignored, weight = option_of(loss, "ignore_index"), option_of(loss, "weight")
    nothing = "so that the mean of the loss is over nothing."
    if ignored is not None and (labels == ignored).all():
        return Failure(
            "batch", "", f"Every label of this batch is {ignored}, which the loss ignores (ignore_index), {nothing}",
            f"Leave such rows out (keep = y != {ignored}), or use larger batches.",
        )  # fmt: skip
    if isinstance(weight, Tensor) and weight.ndim == 1 and not numbers(weight)[labels[labels != ignored]].any():
        return Failure(
            "batch", "", f"The weight of the class of every label in this batch is 0, {nothing}",
            "Leave the rows of such classes out, or use larger batches.",
        )  # fmt: skip
    return None


def _of_weights(model: Module, loss: Loss) -> Failure | None:
    """What the step found at its beginning: a callback may have put it there, or a file that was loaded."""
    for module in [model, *([loss] if isinstance(loss, Module) else ())]:
        for name, parameter in module.named_parameters():  # a buffer may be a mask of infinities
            if not finite(parameter._node.value):
                whose = "" if module is model else " of the loss"
                return Failure(
                    "weights", "", f"{name!r}{whose} held NaN or infinity before the step began.",
                    "Look at where it comes from (a file, a callback, an initialisation), or draw it anew (nn.init).",
                )  # fmt: skip
    return None


def _of_step(
    model: Module, loss: Loss, optimizer: Optimizer, batch: Batch, max_norm: float | None, why: _Why
) -> Failure | None:
    optimizer.zero_grad()
    value = objective(loss, called(model, batch.x), batch.y, batch.weight)
    found = _origin(value)
    if found is not None:
        return Failure("forward pass", _named(found.node), *why.of(found))
    value.backward(create_graph=True)  # with its graph, so that the gradients' own operations can be named
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is not None and not finite(gradient._node.value):
            found = _origin(gradient)
            source = f"{_named(found.node)}, " if found is not None else ""
            return Failure("backward pass", f"{source}in the gradient of {name!r}", *why.of_gradient(found))
    _drop_history(model)
    if max_norm is not None:
        clip_grad_norm_(optimized(optimizer), max_norm)
    optimizer.step()
    for name, parameter in model.named_parameters():
        if not finite(parameter._node.value):
            text = f"the update of {name!r} by {type(optimizer).__name__}"
            return Failure("optimizer", text, f"The new weight is beyond {parameter.dtype.name}.", why.slower)
    return None


@dataclass(frozen=True)
class _Why:
    """Causes and remedies, by what the step was given: the largest numbers, and whether any step came before."""

    input: float
    target: float
    weight: float
    begun: bool
    slower: str

    def of(self, found: Origin) -> tuple[str, str]:
        """Cause and remedy of what an operation of the forward pass made of finite numbers."""
        said = _outside(found)
        if said is not None:
            return said
        return f"The result is beyond {found.node.dtype.name}.", self.too_large()

    def of_gradient(self, found: Origin | None) -> tuple[str, str]:
        """The same of the backward pass."""
        if found is not None and _outside(found) is not None:
            return (
                "A derivative is infinite there, as those of sqrt, norm, log and powers below 1 are at 0.",
                "Keep the argument away from 0: (x + 1e-12).sqrt(), for example.",
            )
        return "The gradient is beyond what the dtype holds.", self.slower

    def too_large(self) -> str:
        """What to do about numbers that became too large."""
        given, most = ("inputs", self.input) if self.input >= self.target else ("targets", self.target)
        if self.begun and self.weight > max(most, LARGE):
            return f"The weights have grown to {self.weight:.3g}. {self.slower}"
        if most > max(self.weight, LARGE):
            return f"The {given} of this batch reach {most:.3g}. Scale them to mean 0 and deviation 1."
        if self.weight > LARGE:
            return f"The training began with weights of up to {self.weight:.3g}. Draw them anew (nn.init)."
        if self.begun:
            return self.slower
        return "This was the first step, so no learning rate did it. Scale what goes into this operation."


def _outside(found: Origin) -> tuple[str, str] | None:
    """Cause and remedy where an operation was given numbers that it has no finite result for, whatever the dtype."""
    name = name_of(found.node)
    said = _DOMAINS[name](*found.read) if name in _DOMAINS else ""
    return None if not said else (f"It was the {said}.", _REMEDIES[name])


def _log(x: float) -> str:
    return "logarithm of 0" if x == 0 else f"logarithm of a negative number, {x:.4g}" if x < 0 else ""


def _root(x: float) -> str:
    return f"square root of a negative number, {x:.4g}" if x < 0 else ""


def _inverse_root(x: float) -> str:
    return "inverse of the square root of 0" if x == 0 else _root(x)


def _quotient(x: float, y: float) -> str:
    return f"division of {x:.4g} by 0" if y == 0 else ""


def _power(x: float, y: float) -> str:
    if x == 0 and y < 0:
        return f"power {y:.4g} of 0"
    return f"power {y:.4g} of a negative number, {x:.4g}" if x < 0 and y != int(y) else ""


def _exponential(x: float) -> str:
    return f"exponential of {x:.4g}"


_DOMAINS: dict[str, Callable[..., str]] = {
    "log": _log, "sqrt": _root, "rsqrt": _inverse_root, "div": _quotient, "pow": _power, "exp": _exponential,
}  # fmt: skip
_POSITIVE = "Keep the argument above 0, with .clamp(min=1e-12) for example"
_REMEDIES = {
    "log": f"{_POSITIVE}, or take a loss of logits (F.cross_entropy, F.binary_cross_entropy_with_logits).",
    "sqrt": f"{_POSITIVE}.",
    "rsqrt": f"{_POSITIVE}.",
    "div": "Keep the divisor away from 0, by adding a small number for example.",
    "pow": f"{_POSITIVE}.",
    "exp": "Scale or clamp the argument; softmax, logsumexp, sigmoid and softplus take arguments of any size.",
}


def _largest(tensor: Tensor) -> float:
    """The largest magnitude of floating-point numbers; class numbers and the like have none."""
    values = numbers_of(tensor._node.value)
    if values.dtype.kind != "f":
        return 0.0
    with np.errstate(all="ignore"):
        return float(np.abs(values.astype(np.float64)).max(initial=0.0))


def _origin(output: Tensor) -> Origin | None:
    """Where a value that is not finite was born, on the way to an output of an eager graph."""
    return origin(toposort([output._node]), lambda node: numbers_of(node.value))


def _named(node: Node) -> str:
    return f"op {name_of(node)!r}{node.whereabouts()}"


def _drop_history(model: Module) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad = parameter.grad.detach()
