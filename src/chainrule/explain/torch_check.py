"""``torch.autograd.gradcheck`` and ``gradgradcheck``, by `check_gradients`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.autodiff.trees import leaves
from chainrule.autograd import grad
from chainrule.errors import GradientError
from chainrule.explain.check import check_gradients
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.creation import as_tensor
from chainrule.tensor.functions import cat

Given = Tensor | Sequence[Any]


@takes_keywords("autograd")
def gradcheck(
    func: Callable[..., Any], inputs: Given, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
    nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False, check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False, check_forward_ad: bool = False, check_backward_ad: bool = True, fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:  # fmt: skip
    """Are the derivatives of a function those that differences of its values show? `cr.check_gradients` says more.

    Args:
        func: from tensors to a tensor, or a tuple of them.
        inputs: a tensor, or a tuple of arguments; checked are the tensors that require a gradient, in float64.
        eps: accepted; the differences are at steps that `cr.check_gradients` chooses, and more exact than PyTorch's.
        atol: what the two may differ by, and
        rtol: relative to the difference quotient.
        raise_exception: raise where they differ, in place of False.
        nondet_tol, check_undefined_grad, check_grad_dtypes, check_batched_grad, check_batched_forward_grad, check_forward_ad,
            check_backward_ad, fast_mode, masked: accepted; there is one way of derivatives here, which is the one checked.

    Raises:
        GradientError: the derivatives differ, or no input requires a gradient.

    Example:
        >>> import chainrule as cr
        >>> x = cr.tensor([0.5, 2.0], dtype=cr.float64, requires_grad=True)
        >>> cr.autograd.gradcheck(lambda x: (x.sin(), x * x), x)
        True
    """
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    chosen = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
    if not chosen:
        raise GradientError("gradcheck: no input requires a gradient. Make one with requires_grad=True.")

    def of_chosen(*some: Tensor) -> Tensor:
        whole = list(args)
        for i, x in zip(chosen, some, strict=True):
            whole[i] = x
        return _joined(func(*whole))

    report = check_gradients(of_chosen, *(args[i] for i in chosen), raise_exception=False)
    wrong = [f for f in report.findings if not abs(f.analytic - f.numeric) <= atol + rtol * abs(f.numeric)]
    if wrong and raise_exception:
        first = wrong[0]
        raise GradientError(
            f"gradcheck: the derivative of the outputs, weighted at random, by input {chosen[first.argument]}, {first.where}, is "
            f"{first.analytic:.6g}, and by differences {first.numeric:.6g}. Correct the backward of the function, or choose a point that is no kink."
        )
    return not wrong


@takes_keywords("autograd")
def gradgradcheck(
    func: Callable[..., Any], inputs: Given, grad_outputs: Given | None = None, *, eps: float = 1e-6, atol: float = 1e-5,
    rtol: float = 1e-3, gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True, nondet_tol: float = 0.0,
    check_undefined_grad: bool = True, check_grad_dtypes: bool = False, check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False, check_rev_over_rev: bool = True, fast_mode: bool = False, masked: bool = False,
) -> bool:  # fmt: skip
    """The same of the second derivatives: `gradcheck` of the gradient by the inputs, along `grad_outputs`.

    Args:
        func, inputs, eps, atol, rtol, raise_exception, and what is accepted: as for `gradcheck`.
        grad_outputs: a gradient for each output; drawn anew, the same at each call, where None.

    Example:
        >>> import chainrule as cr
        >>> cr.autograd.gradgradcheck(lambda x: x.sin(), cr.tensor([0.5], dtype=cr.float64, requires_grad=True))
        True
    """
    args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    chosen = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
    along = None if grad_outputs is None else _joined(grad_outputs)

    def gradient(*given: Any) -> Tensor:
        whole = list(given)
        for i in chosen:  # at the points beside the one in question they are plain numbers
            whole[i] = given[i] if given[i].requires_grad else given[i].detach().requires_grad_()
        y = _joined(func(*whole))
        way = as_tensor(np.random.default_rng(0).normal(size=y.shape)) if along is None else along
        wanted = [whole[i] for i in chosen]
        found = grad((y * way.to(y.dtype)).sum(), wanted, create_graph=True, allow_unused=True, materialize_grads=True)
        return _joined(found)

    return gradcheck(gradient, inputs, atol=atol, rtol=rtol, raise_exception=raise_exception)


def _joined(outputs: Any) -> Tensor:
    """All floating outputs as one vector."""
    found = [y.reshape((-1,)) for y in leaves(outputs) if y.dtype.is_floating_point]
    if not found:
        raise GradientError("gradcheck: the function must give a floating-point tensor, got none.")
    return cat(found)
