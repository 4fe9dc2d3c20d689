"""Derivatives of your own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import prod
from typing import Any

from chainrule import graph
from chainrule.errors import GradientError
from chainrule.names import takes_keywords
from chainrule.ops import elementwise as ew
from chainrule.tensor import Tensor
from chainrule.tensor.core import apply, lifted
from chainrule.tensor.creation import as_tensor
from chainrule.tensor.functions import cat

Function = Callable[..., Any]


@takes_keywords("torch")
def custom_vjp(forward: Function, backward: Function) -> Function:
    """A function with a derivative of your own: `backward(dY, Y, *inputs)` replaces the chain rule through `forward`.

    Args:
        forward: from tensors to one tensor.
        backward: from the output's gradient, the output and the inputs to one gradient for each input
            (a tensor for one input, else a tuple; None where there is none).

    >>> import chainrule as cr
    >>> clip_gradient = cr.custom_vjp(lambda x: x, lambda dY, Y, x: dY.clamp(-1, 1))
    >>> x = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> (clip_gradient(x) * 5).sum().backward()
    >>> x.grad
    tensor([1., 1.])
    """

    def rule(dY: Tensor, Y: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
        given = backward(dY, Y, *inputs)
        found = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        if len(found) != len(inputs):
            raise GradientError(
                f"{graph.who('custom_vjp')}: backward must return one gradient for each of the {len(inputs)} inputs, "
                f"got {len(found)}. Return None for inputs without one."
            )
        for position, (dX, x) in enumerate(zip(found, inputs, strict=True)):
            _check_custom(dX, x, position)
        return found

    @wraps(forward)
    def function(*inputs: Any) -> Tensor:
        tensors = tuple(map(as_tensor, inputs))
        with graph.grad_mode(False):
            output = forward(*tensors)
        if not isinstance(output, Tensor):
            raise GradientError(
                f"{graph.who('custom_vjp')}: forward must return one tensor, got {type(output).__name__}. "
                f"Make one function for each result."
            )
        return apply(ew.custom, output.detach(), *tensors, rule=rule)

    return function


def with_rule(
    name: str, outputs: Sequence[Tensor], inputs: Sequence[Tensor], rule: Callable[..., Any]
) -> tuple[Tensor, ...]:
    """The outputs with one derivative of your own: ``rule(gradients of the outputs, outputs, inputs)`` gives one for each input.

    The rule runs once, when the gradients of all outputs are there: they travel as one vector (those that nobody used as zeros).

    Args:
        name: who asks, for the error.
        outputs: floating tensors of one dtype.
        inputs: tensors.

    Raises:
        GradientError: the outputs are of several dtypes.
    """
    shapes, kinds = [y.shape for y in outputs], {y.dtype for y in outputs}
    if len(kinds) > 1:
        raise GradientError(
            f"{graph.who(name)}: all outputs with a gradient must be of one dtype, got "
            f"{' and '.join(sorted(kind.name for kind in kinds))}. Convert them with .to(dtype)."
        )

    def whole(dY: Tensor, Y: Tensor, *xs: Tensor) -> Any:
        return rule(_parts(dY, shapes), _parts(Y, shapes), xs)

    joined = outputs[0] if len(outputs) == 1 else cat([y.reshape(-1) for y in outputs])
    return _parts(apply(ew.custom, joined.detach(), *inputs, rule=whole), shapes)


def _parts(whole: Tensor, shapes: Sequence[graph.Shape]) -> tuple[Tensor, ...]:
    """What was laid end to end, apart again; one alone was left as it was."""
    if len(shapes) == 1:
        return (whole,)
    cut = whole.split([prod(shape) for shape in shapes])
    return tuple(part.reshape(shape) for part, shape in zip(cut, shapes, strict=True))


def _check_custom(dX: object, x: Tensor, position: int) -> None:
    if dX is None:
        return
    if not isinstance(dX, Tensor) or dX.shape != x.shape or dX.dtype != x.dtype:
        came = str(lifted(dX).type) if isinstance(dX, Tensor) else type(dX).__name__
        raise GradientError(
            f"{graph.who('custom_vjp')}: backward must return a tensor of the type of input {position}, "
            f"{lifted(x).type}, got {came}. Reshape or convert it, or return None."
        )
