"""``torch.autograd``'s names: gradients asked for by name, functions with a derivative of your own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.autodiff.walk import gradients, release, renamed, seed_of
from chainrule.autograd import functional as functional
from chainrule.autograd.function import Function as Function
from chainrule.errors import GradientError
from chainrule.graph import is_grad_enabled as is_grad_enabled
from chainrule.graph import toposort, who
from chainrule.names import module_getattr, takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import lifted
from chainrule.tensor.creation import zeros_like
from chainrule.tensor.functions import enable_grad as enable_grad
from chainrule.tensor.functions import no_grad as no_grad
from chainrule.tensor.functions import set_grad_enabled as set_grad_enabled
from chainrule.tensor.grad_mode import inference_mode as inference_mode

Tensors = Tensor | Sequence[Tensor]


@takes_keywords("autograd")
def grad(
    outputs: Tensors, inputs: Tensors, grad_outputs: Any = None, retain_graph: bool | None = None,
    create_graph: bool = False, *, allow_unused: bool | None = None, materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    """The gradient of the outputs' sum with respect to each input; no ``.grad`` changes.

    Args:
        outputs: a tensor, or several.
        inputs: a tensor, or several, that the outputs were computed from: leaves, or results of operations.
        grad_outputs: what arrives at each output, of its shape; None: 1, for an output of one element.
        retain_graph: keep the history for another pass (default: `create_graph`).
        create_graph: record the pass, so that the gradients can be differentiated again.
        allow_unused: an input that the outputs do not depend on has the gradient None in place of an error.
        materialize_grads: it has zeros.

    Raises:
        GradientError: an output without history, an input that does not require grad, or one that no output depends on.

    >>> import chainrule as cr
    >>> x = cr.tensor(3.0, requires_grad=True)
    >>> (slope,) = cr.autograd.grad(x ** 3, x, create_graph=True)
    >>> slope.detach(), cr.autograd.grad(slope, x)
    (tensor(27.), (tensor(18.),))
    """
    ys, xs = _several(outputs), _several(inputs)
    for y in ys:
        if not y.requires_grad:
            raise GradientError(
                f"{who('autograd.grad')}: an output does not require grad and has no history. "
                f"Compute it from a tensor with requires_grad=True, outside no_grad."
            )
    for x in xs:
        if not x.requires_grad:
            raise GradientError(
                f"{who('autograd.grad')}: an input does not require grad. Call .requires_grad_() on it before "
                f"the outputs are computed from it."
            )
    given = [None] * len(ys) if grad_outputs is None else _several(grad_outputs)
    if len(given) != len(ys):
        raise GradientError(
            f"{who('autograd.grad')}: grad_outputs must have one for each of the {len(ys)} outputs, got {len(given)}."
        )
    seeds = [seed_of("autograd.grad", y, seed) for y, seed in zip(ys, given, strict=True)]
    order, nodes = toposort(map(lifted, ys)), [lifted(x) for x in xs]
    found = gradients(ys, seeds, nodes, create_graph, order)
    if not (create_graph if retain_graph is None else retain_graph):
        release(order)
    return tuple(_found(x, found.get(node), allow_unused, materialize_grads) for x, node in zip(xs, nodes, strict=True))


def _found(x: Tensor, gradient: Tensor | None, unused: bool | None, zeros: bool) -> Tensor | None:
    if gradient is not None:
        return renamed(gradient)
    if zeros:
        return zeros_like(x)
    if unused:
        return None
    raise GradientError(
        f"{who('autograd.grad')}: no output depends on one of the inputs, of shape {x.shape}. "
        f"Pass allow_unused=True, and None stands for its gradient."
    )


@takes_keywords("autograd")
def backward(
    tensors: Tensors, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False, *,
    inputs: Sequence[Tensor] | None = None,
) -> None:  # fmt: skip
    """``backward`` of each of the tensors, with its gradient (None: 1); they may share history."""
    ys = _several(tensors)
    given = [None] * len(ys) if grad_tensors is None else _several(grad_tensors)
    for number, (y, seed) in enumerate(zip(ys, given, strict=True)):
        y.backward(seed, True if number + 1 < len(ys) else retain_graph, create_graph, inputs)


def Variable(data: Tensor, requires_grad: bool = False) -> Tensor:  # PyTorch's name
    """The tensor itself, as PyTorch's has been since its tensors know their history; with `requires_grad` a leaf of its value.

    >>> import chainrule as cr
    >>> cr.autograd.Variable(cr.ones(2))
    tensor([1., 1.])
    """
    return data.detach().requires_grad_() if requires_grad else data


def _several(given: Any) -> list[Any]:
    return [given] if isinstance(given, Tensor) else list(given)


# They compare with differences, which is done further up.
_LATER = dict.fromkeys(("gradcheck", "gradgradcheck"), "chainrule.explain.torch_check")
__getattr__ = module_getattr("autograd", __name__, _LATER)
